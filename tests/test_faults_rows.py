"""Which test holds which row of the list of faults (1 to 103): each row has one at least.

Tests with a row's number in their name (`test_76_…`) are found by it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent

TWICE = "test_a_passing_fault_costs_its_attempts_and_nothing_else"
EVER = "test_a_lasting_fault_is_an_error_that_is_not_remembered"
ONCE = "test_what_passes_at_the_second_attempt"
AT_ONCE = "test_what_will_not_pass_is_an_error_at_once"
CHANGED = "test_a_file_that_was_replaced_is_never_mixed"
LABEL = "test_a_range_without_a_label_and_of_another_length_is_not"
TABLE = "test_each_entry_of_the_block_table_is_checked"
TILE = "test_a_file_that_contradicts_its_tile_is_refused_with_both_values"
BOMB = "test_images_and_tables_of_absurd_size_are_refused_before_a_table_is_built"

ROWS = {
    1: ("test_a_closed_port_is_given_up_after_three_attempts",),
    2: ("test_an_unknown_host_is_named",),
    3: ("test_a_host_that_takes_no_connection_is_given_up_after_three_attempts",),
    **dict.fromkeys((6, 7, 8, 9, 10, 11, 12, *range(19, 26), 38), (TWICE, EVER)),
    13: ("test_a_range_that_comes_in_pieces_is_put_together",),
    14: ("test_no_more_is_read_than_asked", "test_bytes_behind_an_answer_spoil_no_other"),
    **dict.fromkeys((15, 16), (ONCE, EVER)),
    17: ("test_what_drips_while_others_advance_is_cut", "test_what_never_ends_is_cut"),
    18: ("test_a_link_that_is_slow_is_not_dead", "test_a_slow_link_is_borne_however_many_share_it",
         "test_a_slow_link_is_no_drip"),
    26: ("test_an_announced_wait_holds_for_the_whole_host",
         "test_a_wait_that_is_none_is_no_reason_to_wait"),
    27: ("test_gone_is_never_asked_for_again", "test_policies_for_what_is_gone"),
    28: ("test_a_refusal_hints_at_what_to_do", AT_ONCE),
    29: ("test_gone_is_never_asked_for_again",),
    30: ("test_a_file_that_shrank", ONCE),
    31: ("test_gone_for_a_moment_is_not_remembered",),
    32: (AT_ONCE,),
    33: ("test_no_other_host_is_asked_unless_it_is_allowed", AT_ONCE),
    34: ("test_no_other_scheme_is_followed",),
    35: ("test_a_page_in_a_files_place_is_named_and_quoted", AT_ONCE),
    36: ("test_no_body_is_taken_after_an_answer_that_ignores_the_range", AT_ONCE),
    37: ("test_a_range_without_a_label_is_taken_if_its_length_is_right", LABEL),
    39: (CHANGED, "test_an_outdated_header_that_gave_no_pixel_is_read_once_more"),
    40: (AT_ONCE, "test_where_parts_are_unusable_ranges_are_asked_for_one_by_one"),
    41: ("test_wrong_bytes_under_right_labels_become_no_pixels",
         "test_a_cogs_own_marks_tell_wrong_bytes_without_a_checksum"),
    42: ("test_wrong_bytes_under_right_labels_become_no_pixels",
         "test_no_flipped_bit_passes_a_checksum"),
    43: (AT_ONCE, "test_identity_is_asked_for"),
    44: (ONCE, "test_a_page_in_a_files_place_is_named_and_quoted"),
    45: (CHANGED, "test_a_mirror_with_another_etag_is_the_same_file",
         "test_a_mirror_with_other_tables_is_not",
         "test_a_replaced_file_is_told_and_read_when_opened_anew"),
    46: ("test_one_connection_is_enough", "test_servers_that_keep_no_connection"),
    47: ("test_servers_that_keep_no_connection",),
    48: ("test_a_dead_proxy_is_named_without_its_password",
         "test_a_proxy_of_the_environment_is_used"),
    50: ("test_what_is_no_tiff_is_shown_and_never_interpreted",
         "test_what_is_no_tiff_is_refused_by_url"),
    51: ("test_a_header_cut_short_is_refused_without_reading_on",
         "test_reading_on_never_asks_for_what_is_at_hand",
         "test_limits_of_transport_reach_the_parser"),
    52: ("test_directories_in_a_circle_or_without_end_are_refused",),
    53: ("test_a_tag_of_absurd_length_is_refused_without_allocating",
         "test_tags_are_held_to_their_types",
         "test_a_tag_that_is_there_twice_is_refused", "test_a_tag_that_is_missing_is_named"),
    **dict.fromkeys((54, 55, 57), (TABLE,)),
    56: (TABLE, "test_masks_that_were_never_written_are_class_0"),
    59: ("test_a_broken_block_is_refused_by_its_place",),
    60: ("test_a_block_of_another_length_is_refused",
         "test_a_block_that_unpacks_to_more_than_it_may_is_refused"),
    61: ("test_an_image_of_another_make_is_refused_by_tag_and_value",
         "test_an_unknown_codec_is_named"),
    62: ("test_a_bomb_fills_no_more_than_a_block", BOMB),
    63: ("test_metadata_is_not_parsed_as_xml",),
    64: ("test_codecs_and_predictors", "test_end_to_end_at_the_edge_of_a_tile",
         "test_nodata_in_every_form",
         "test_nodata_that_is_no_number_is_refused", "test_planes_of_one_sample_are_the_image"),
    65: (TILE, "test_a_file_that_is_not_what_it_must_be_is_refused"),
    66: ("test_scale_and_offset_are_found", TILE),
    67: ("test_mutants_of_files_are_refused_or_read_alike", "test_mutants_need_little_memory"),
    88: ("test_a_full_disk_is_an_error_and_leaves_nothing",
         "test_a_disk_that_fills_up_keeps_the_files_that_are_whole"),
    89: ("test_a_folder_that_is_only_read_is_told_before_anything_is_read",
         "test_folders_in_any_script",
         "test_names_that_are_too_long_are_told_before_anything_is_read"),
    90: ("test_kills_leave_nothing_partial_and_the_next_run_cleans_up",
         "test_bytes_reach_the_disk_before_the_name"),
    91: ("test_what_holds_something_else_is_an_error_unless_overwritten",
         "test_whoever_reads_while_a_file_is_replaced_sees_a_whole_one"),
    92: ("test_damaged_files_are_found_and_made_anew",
         "test_damaged_files_of_a_mirror_are_made_anew"),
    93: ("test_two_processes_may_write_to_one_folder",),
    94: ("test_a_worker_killed_in_the_middle_changes_no_pixel_and_no_report",),
    95: ("test_a_lost_client_leaves_whole_files_and_the_next_run_cleans_up",),
    96: ("test_children_of_a_process_that_reads", "test_a_forked_child_runs_a_loop_of_its_own"),
    97: ("test_ctrl_c_ends_the_process_within_a_second",
         "test_ctrl_c_in_an_export_leaves_a_notebook_nothing_that_reads_on"),
    98: ("test_inside_a_running_loop", "test_with_uvloop"),
    99: ("test_32_threads_share_one_session", "test_a_loop_that_dies_is_restarted"),
    100: ("test_a_pickle_after_use_holds_no_connection_and_reads_the_same",
          "test_not_even_the_objects_in_the_graph_show_them"),
    101: ("test_what_is_cancelled_gives_back_its_connections_and_slots",),
    102: ("test_many_chunks_leave_nothing_behind", "test_10000_chunks_leave_nothing_behind"),
    103: ("test_a_clock_that_leaps_changes_nothing",
          "test_only_ages_of_files_and_reports_ask_the_wall_clock"),
}  # fmt: skip
NOBODY_CAN = {58}
"""Offsets that are swapped among blocks of one size: nothing in the file tells."""


def test_each_row_is_held_by_a_test():
    there = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
    }
    held = defaultdict(set, {row: set(names) for row, names in ROWS.items()})
    for name in there:
        if found := re.match(r"test_(\d+)_", name):
            held[int(found[1])].add(name)
    assert {name for names in held.values() for name in names} - there == set()
    assert {row for row in range(1, 104) if not held[row]} == NOBODY_CAN
