"""The command line as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr._cli import main
from s2l3a_xr._cli_sample import _EXTENT

BOUNDS = "11.68,51.94,11.74,51.98"


@pytest.fixture
def run():
    def call(*words):
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


def test_help_names_all_commands(run):
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("demo", "search", "download", "serve-sample"):
        assert command in shown.output
        assert run(command, "--help").exit_code == 0


def test_version(run):
    assert s2l3a_xr.__version__ in run("--version").output


def test_search_prints_a_table(run, server):
    shown = run("search", BOUNDS, "--years", 2021, "--months", "3-5", "--archive", server.url)
    assert shown.exit_code == 0
    assert "12 of 12 files are available (100%)" in shown.stdout
    assert "2021-04 32UPC" in shown.stdout
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]


def test_the_environment_names_the_archive(run, server, monkeypatch):
    words = ("search", BOUNDS, "--years", 2021, "--months", "3-5", "--json")
    monkeypatch.setenv("S2L3A_ARCHIVE", server.url)
    assert json.loads(run(*words).stdout)["archive"] == server.url
    monkeypatch.setenv("S2L3A_ARCHIVE", server.stac_url)
    shown = run(*words, "--collection", "S2_L3A_WASP")
    assert json.loads(shown.stdout)["available"] == 12
    monkeypatch.setenv("S2L3A_ARCHIVE", "/no/such/folder")
    assert json.loads(run(*words, "--archive", server.url).stdout)["archive"] == server.url
    shown = run(*words)
    assert shown.exit_code == 2
    assert "no such archive folder: '/no/such/folder'" in shown.stderr
    assert "environment variable S2L3A_ARCHIVE" in shown.stderr
    for wrong in (server.url.replace("/files/", "/none/"), "http://127.0.0.1:9/files/"):
        monkeypatch.setenv("S2L3A_ARCHIVE", wrong)
        shown = run(*words)
        assert shown.exit_code == 1
        assert shown.stderr.count("environment variable S2L3A_ARCHIVE") == 1
        assert "S2L3A_ARCHIVE" not in run(*words, "--archive", wrong).stderr


def test_search_gives_json(run, server):
    shown = run("search", BOUNDS, "--time", "2021-06/2021-08", "--archive", server.url, "--json")
    found = json.loads(shown.stdout)
    assert found["tiles"] == ["32UPC"]
    assert (found["available"], found["asked_for"], len(found["files"])) == (8, 12, 12)
    assert {row["status"] for row in found["files"]} == {"available", "missing"}


def test_download_writes_files_and_prints_their_paths(run, server, tmp_path):
    words = ("download", BOUNDS, tmp_path, "--time", "2021-05", "--bands", "B4,nir,",
             "--archive", server.url)  # fmt: skip
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    names = ["s2_l3a_20210515_red.tif", "s2_l3a_20210515_nir.tif"]
    assert shown.stdout.split() == [str(tmp_path / name) for name in names]
    assert "2/2" in shown.stderr
    again = run(*words, "--quiet")
    assert again.exit_code == 0
    assert not again.stderr


def test_the_sample_is_where_it_says(server):
    west, east, south, north = map(float, re.findall(r"\b\d\d\.\d\d\b", _EXTENT))
    may = {"time": "2021-05", "bands": "B4", "archive": server.url}
    inside = s2l3a_xr.open_l3a((west, south, east, north), **may)
    assert inside.l3a.quality(approximate=True)["nodata"].item() < 0.0001
    for beyond in (
        (west - 0.06, south, west - 0.03, north), (east + 0.03, south, east + 0.06, north),
        (west, south - 0.06, east, south - 0.03), (west, north + 0.03, east, north + 0.06),
    ):  # fmt: skip
        beside = s2l3a_xr.open_l3a(beyond, **may)
        assert beside.l3a.quality(approximate=True)["nodata"].item() > 0.99
    quick_start = (Path(__file__).parent.parent / "docs" / "quick-start.md").read_text("utf-8")
    assert _EXTENT in quick_start
    found = s2l3a_xr.search_l3a((west, south, east, north), years=2021, archive=server.url)
    assert all(tile in _EXTENT for tile in found.tiles)
    has = {cell.month[1] for cell in found.cells if any(cell.has)}
    assert has == set(range(3, 11))


def test_download_says_what_was_there(run, server, tmp_path):
    words = ("download", BOUNDS, tmp_path, "--time", "2021-05", "--archive", server.url)
    assert "complete already" not in run(*words, "--bands", "B4,B8").stderr
    shown = run(*words, "--bands", "B2,B4,B8")
    assert "2 of 3 files were complete already and were left." in shown.stderr
    assert len(shown.stdout.split()) == 3
    assert "complete already" not in run(*words, "--bands", "B4", "--quiet").stderr


def test_a_picture_of_another_kind_is_refused_before_anything_is_asked(run, server, tmp_path):
    server.clear_log()
    shown = run("quicklook", BOUNDS, tmp_path / "a.jpg", "--time", "2021-05",
                "--archive", server.url)  # fmt: skip
    assert shown.exit_code == 2
    assert "must end in .png" in shown.output
    assert not server.log


@pytest.mark.parametrize("name", ["found.json", "found.parquet"])
def test_download_of_what_search_has_kept(run, server, tmp_path, name):
    saved = tmp_path / name
    words = ("--time", "2021-05", "--bands", "B4", "--archive", server.url)
    assert run("search", BOUNDS, *words, "--save", saved).exit_code == 0
    shown = run("download", "--inventory", saved, tmp_path / "out", "--quiet")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.split() == [str(tmp_path / "out" / "s2_l3a_20210515_red.tif")]
    again = run("download", BOUNDS, tmp_path / "out", *words, "--quiet")
    assert again.exit_code == 0, again.output  # the same content
    refused = run("download", "--inventory", saved, tmp_path / "out", "--years", 2021)
    assert refused.exit_code == 2
    assert "--inventory settles years already" in refused.stderr


def test_download_to_a_mirror(run, server, tmp_path):
    words = ("--time", "2021-05", "--bands", "B4")
    shown = run("download", BOUNDS, "--mirror", tmp_path / "m", *words, "--archive", server.url)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.split() == [f"{(tmp_path / 'm').as_posix()}/"]
    assert (tmp_path / "m" / "inventory.json").exists()
    server.clear_log()
    both = run("download", BOUNDS, tmp_path / "out", "--mirror", tmp_path / "m", *words,
               "--archive", server.url)  # fmt: skip
    assert both.exit_code == 0, both.output
    assert (tmp_path / "out" / "s2_l3a_20210515_red.tif").exists()
    assert [entry for entry in server.log if entry.path.endswith(".tif")] == []
    alone = run("download", BOUNDS, tmp_path / "out 2", *words, "--archive", tmp_path / "m")
    assert alone.exit_code == 0, alone.output


def test_missing_months_are_told_on_stderr(run, server, tmp_path):
    shown = run("download", BOUNDS, tmp_path, "--time", "2021-06/2021-07", "--archive", server.url)
    assert shown.exit_code == 0
    assert "MissingWarning" in shown.stderr
    assert "2021-07" in shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("search", "nowhere.geojson"), 2, "no such AOI file: 'nowhere.geojson'"),
        (("search", "a,b,c,d"), 2, "minx,miny,maxx,maxy"),
        (("search", BOUNDS, "--bands", "B99"), 2, "no such band: 'B99'"),
        (("search", BOUNDS, "--months", "13"), 2, "13 is not in 1 to 12"),
        (("search", BOUNDS, "--time", "soon"), 2, "'soon' is no month"),
        (("search", BOUNDS, "--archive", "/no/such/folder"), 2, "no such archive folder"),
        (("search", BOUNDS, "--years", "1999"), 2, "1999 is not in"),
        (("download", BOUNDS), 2, "Missing argument 'OUT'"),
        (("download", "--mirror", "m"), 2, "Missing argument 'AOI'"),
        (("download", "--inventory", "i.json"), 2, "Missing argument 'OUT'"),
        (("download", "--inventory", "i.json", "out", "more"), 2, "unexpected extra argument"),
        (("download", "--inventory", "i.json", "out"), 2, "there is no inventory"),
        (("download", "--inventory", "i.csv", "--mirror", "m"), 2, "there is no inventory"),
        (("search", "51.94,11.68,51.98,11.74"), 2, "swap"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, words, code, message):
    shown = run(*words)
    assert shown.exit_code == code
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_what_the_archive_lacks_is_exit_code_1(run, server):
    shown = run("search", BOUNDS, "--years", 2016, "--archive", server.url)
    assert shown.exit_code == 1
    assert "32UPC has 2021" in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(run):
    shown = run("--debug", "search", "nowhere.geojson")
    assert isinstance(shown.exception, s2l3a_xr.AoiError)


def test_an_archive_that_is_not_there_is_exit_code_1(run):
    shown = run("search", BOUNDS, "--years", 2021, "--archive", "http://127.0.0.1:9/files/")
    assert shown.exit_code == 1
    assert "127.0.0.1:9" in shown.stderr


@pytest.fixture(scope="module")
def demo(sample_root, tmp_path_factory):
    """Run the demo as a command, once the archive has been built."""
    assert sample_root.is_dir()
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "s2l3a_xr._cli", "demo", str(folder)]
    return folder, subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, check=False
    )


def test_demo_leaves_files_and_a_picture(demo):
    folder, shown = demo
    assert shown.returncode == 0, shown.stderr
    assert "28 of 32 files are available" in shown.stdout
    assert "nothing in 2021-07" in shown.stdout
    assert len(list(folder.glob("s2_l3a_2021*.tif"))) == 28
    assert (folder / "quicklook.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "aoi.geojson").exists()
    assert "28/28" in shown.stderr


def test_demo_runs_again_over_its_own_files(demo, run):
    folder, _ = demo
    assert run("demo", folder).exit_code == 0
