"""What a user's URL holds besides a place reaches nobody who only looks."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import traceback
import warnings

import pytest
import rasterio
from click.testing import CliRunner
from faultkinds import SPOILERS

import s2l3a_xr
from s2l3a_xr._archive import FolderArchive
from s2l3a_xr._cli import main
from s2l3a_xr._errors import S2L3AError
from s2l3a_xr._sample import Fault

AOI = (11.68, 51.94, 11.70, 51.96)
SECRET = "hush-hush"  # noqa: S105 - a password for nothing


@pytest.fixture
def private(fresh_server):
    """Address of the sample archive with a user's name and password, which it ignores."""
    return fresh_server.url.replace("//", f"//me:{SECRET}@")


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "fsspec")  # what it opens by itself, it logs by itself
    return caplog


def chain(error):
    return "".join(traceback.format_exception(error))


def test_nothing_that_is_shown_or_written_has_the_password(private, logged, tmp_path):
    found = s2l3a_xr.search_l3a(AOI, time="2021-05", bands="B4", archive=private)
    transport = s2l3a_xr.Transport(allowed_hosts=("example.org",), cache_dir=tmp_path / "cache")
    da = s2l3a_xr.open_l3a(inventory=found, transport=transport)
    shown = [repr(found), found.summary(), repr(da), str(da.attrs), repr(transport)]
    shown += [str(found.to_dataframe().to_dict()), str(found.to_geodataframe().to_dict())]
    plan = da.l3a.plan()
    shown += [str(plan.to_dict()), str(plan.attrs), repr(da.variable._data)]
    shown += [repr(FolderArchive(url=private)), repr(s2l3a_xr.StacArchive(private))]
    mirror = s2l3a_xr.save_archive(found, tmp_path / "mirror", progress=False)
    shown += [repr(mirror)]
    (path,) = s2l3a_xr.to_geotiff(da, tmp_path / "out", progress=False)
    with rasterio.open(path) as file:
        shown += [str(file.tags()), str(file.tags(1)), str(file.descriptions)]
    found.save(tmp_path / "inventory.json")
    shown += [logged.text]
    assert [text for text in shown if SECRET in text] == []
    written = [p for p in tmp_path.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert written == []


@pytest.mark.parametrize("kind", ["status", "reset", "html", "redirect", "truncate", "zeros"])
def test_no_error_has_it_nor_what_it_comes_from(private, fresh_server, logged, kind):
    quick = s2l3a_xr.Transport(max_attempts=2)
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", bands="B4", archive=private, transport=quick)
    location = f"http://me:{SECRET}@other.invalid/?token={SECRET}"
    fresh_server.faults = [Fault(match=r"\.tif$", kind=kind, location=location)]
    with pytest.raises(s2l3a_xr.ReadError) as caught:
        da.compute(scheduler="sync")
    error = caught.value
    assert SECRET not in chain(error) + repr(error) + str(vars(error)) + logged.text
    assert SECRET.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("scope", ["listing", "header", "tile"])
@pytest.mark.parametrize("kind", sorted(SPOILERS.keys() - {"none", "slow"}))
@pytest.mark.usefixtures("short_pauses")
def test_no_error_of_a_garbled_answer_has_it(fault_server, logged, kind, scope):
    url = fault_server.url(kind, count=float("inf"), scope=scope, path="S2_L3A_WASP/files/")
    place = url.replace("//", f"//me:{SECRET}@")
    quick = s2l3a_xr.Transport(max_attempts=2, idle_timeout_s=0.3, give_up_s=1)
    asked = {"time": "2021-05", "bands": "B4", "archive": place, "transport": quick}
    told = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for goes_on in (True, False):
            try:
                da = s2l3a_xr.open_l3a(AOI, fail_on_error=not goes_on, **asked)
                da.compute(scheduler="sync")
                told.append(da.l3a.failures().to_csv())
            except S2L3AError as exc:
                told += [chain(exc), repr(exc), str(vars(exc)), str(pickle.dumps(exc))]
    told += [str(w.message) for w in warned]
    assert SECRET not in " ".join(told) + logged.text


@pytest.mark.parametrize(
    "place",
    [
        "http://me:{}@127.0.0.1:1/files/",
        "http://127.0.0.1:1/files/?token={}",
        "http://me:{}@127.0.0.1:99999/files/",
        "http://me:{}@a..b/",
        "http://me:{}@[::1/",
        "ftp://me:{}@127.0.0.1:1/x",
        "zip://x::http://me:{}@127.0.0.1:1/x.zip",
        "nope://me:{}@host/x",
    ],
)
def test_no_error_of_searching_has_it(place, logged):
    with pytest.raises(S2L3AError) as caught:
        s2l3a_xr.search_l3a(AOI, time="2021-05", archive=place.format(SECRET))
    assert SECRET not in chain(caught.value) + logged.text


def test_failures_have_it_not(private, fresh_server, tmp_path):
    fresh_server.faults = [Fault(match=r"\.tif$", kind="status", status=403)]
    arguments = ["download", "11.68,51.94,11.70,51.96", str(tmp_path), "--time", "2021-05"]
    arguments += ["--bands", "B4", "--archive", private, "--keep-going"]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 3, ended.output
    report = (tmp_path / "s2_l3a_failures.json").read_text("utf-8")
    assert json.loads(report)[0]["http_status"] == 403
    assert SECRET not in report + ended.output


def test_the_command_line_shows_it_not(private):
    for command in (["search", "11.68,51.94,11.70,51.96", "--time", "2021-05", "--json"],):
        ended = CliRunner().invoke(main, [*command, "--archive", private])
        assert ended.exit_code == 0, ended.output
        assert SECRET not in ended.output
    assert SECRET not in CliRunner().invoke(main, ["doctor", private]).output


def test_a_traceback_of_the_command_line_has_it_not():
    place = f"http://me:{SECRET}@127.0.0.1:1/"
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "s2l3a_xr._cli", "--debug", "search", "11.68,51.94,11.7,51.96",
         "--time", "2021-05", "--archive", place],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout


def test_what_servers_write_commands_no_terminal(fresh_server):
    evil = "\x1b]0;gotcha\x07\x1b[2J\x9b1A\u202e"
    quick = s2l3a_xr.Transport(max_attempts=1)
    fresh_server.faults = [Fault(match="/", kind="redirect", location=f"/x{evil}")]
    with pytest.raises(S2L3AError) as caught:
        s2l3a_xr.search_l3a(AOI, time="2021-05", archive=fresh_server.url, transport=quick)
    assert not set(str(caught.value)) & set("\x1b\x07\x9b\u202e")
    item = {"type": "Feature", "stac_version": "1.0.0", "id": evil, "assets": {}, "links": []}
    item["properties"] = {"license": evil}
    item["assets"] = {"FRC_B4": {"href": f"x{evil}"}}
    with pytest.warns(s2l3a_xr.S2L3AWarning) as told, pytest.raises(S2L3AError) as caught:
        s2l3a_xr.search_l3a(AOI, time="2021-05", archive=[item])
    said = " ".join(map(str, [caught.value, *[w.message for w in told]]))
    assert not set(said) & set("\x1b\x07\x9b\u202e")
