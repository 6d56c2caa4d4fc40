"""Case L: statistics of a thousand fields, beside the reading of their blocks alone."""

from __future__ import annotations

from _cases import Network, Request, bound_of, fields_bounds, scattered_fields, touched_blocks
from _harness import Bench, CaseResult, Goal

EXTRACT, ALONE = "s2l3a_xr extract_l3a", "s2l3a_xr, blocks alone"


def field_statistics(bench: Bench) -> CaseResult:
    """Case L: 1000 fields in one tile."""
    fields = scattered_fields(1000)
    months = (6, 7) if bench.quick else (3, 4, 5, 6, 7, 8, 9)
    case = CaseResult(
        key="L",
        title=f"Statistics of 1000 fields, {len(months)} months x 2 bands, 30 ms a request",
        reference=ALONE,
    )
    request = Request(
        months=months, bands=("B4", "B8"), fields=fields, bounds=fields_bounds(fields)
    )
    bound = bound_of(request, bench.root)
    case.bound_s = bound.wall_s(Network())
    touched = touched_blocks(request, request.tiles[0])
    extra = {"touched": [[int(i) for i in block] for block in zip(*touched.nonzero(), strict=True)]}
    names = (EXTRACT, ALONE, "s2l3a_xr extract_l3a, exact")
    bench.run_case(case, names, request, Network(), extra=extra, expected={"": set()})
    case.notes.append(
        "The one byte twice is the last of a file: with the first header it tells whether the host "
        "answers several ranges at once."
    )
    sent = case.value(EXTRACT, "sent_bytes")
    case.goals = [
        Goal.at_most("bytes of files fetched twice", case.value(EXTRACT, "repeated_bytes"), 1),
        Goal.at_most(
            "bytes over headers + blocks that a field touches",
            None if sent is None else sent / bound.total_bytes,
            1.05,
        ),
        Goal.at_most(
            "wall over that of reading the blocks alone", case.ratio(EXTRACT, ALONE, "wall_s"), 1.2
        ),
    ]
    return case
