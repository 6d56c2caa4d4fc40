"""What can be told of Windows without one: rules for paths, its console, no fork, open files."""

from __future__ import annotations

import errno
import json
import ntpath
import os
import re
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import xarray as xr
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import ExportError, open_l3a, search_l3a, to_geotiff
from s2l3a_xr._archive import end_folder
from s2l3a_xr._cli import main
from s2l3a_xr._cli_options import take_aoi
from s2l3a_xr._disk import set_aside, what_helps, whole_file
from s2l3a_xr._places import is_below, locate
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._stac import _links
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import _session

AOI = (11.68, 51.94, 11.70, 51.96)
BOUNDS = "11.68,51.94,11.70,51.96"
DOCS = Path(__file__).resolve().parent.parent / "docs"
LONGEST = 259
"""Characters of a path on Windows, as it comes."""


def file_names():
    """Every kind of file name that this package writes or lays out."""
    product = Product(tile="32UPC", year=2021, month=3)
    for layer in BANDS.values():
        for resolution_m in (10, 20):
            yield from PurePosixPath(product.file(layer, resolution_m)).parts
        yield f"s2_l3a_20210315_{layer.common or layer.native}.tif"
    yield from ("s2_l3a_failures.json", "aoi_ecognition.geojson", "quicklook.png", "aoi.geojson")


def test_names_are_fit_for_windows(tmp_path):
    with set_aside(tmp_path) as part:
        names = {*file_names(), part.name}
    for name in names:
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name), name
        assert not name.endswith((".", " ")), name
        # PureWindowsPath.is_reserved() knows CON, NUL, COM1 and others
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE), name


@pytest.mark.parametrize("name", ["CON", "nul", "COM1"])
def test_reserved_names_as_bands_make_no_reserved_file(tmp_path, name):
    assert (
        to_geotiff(field([name]), tmp_path, progress=False)[0].name == f"s2_l3a_20210515_{name}.tif"
    )


@pytest.mark.parametrize("name", ["a:b", "a\\b", "a.", "a ", "..", "C:x", "a?"])
def test_no_band_names_another_place(tmp_path, name):
    with pytest.raises(ExportError, match="can't be part of a file name"):
        to_geotiff(field([name]), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_names_that_differ_in_case_alone_are_one_file(tmp_path):
    with pytest.raises(ExportError, match=r"several bands of one name \(NDVI, ndvi\).*rename"):
        to_geotiff(field(["ndvi", "NDVI"]), tmp_path, progress=False)


def field(names):
    da = xr.DataArray(
        np.ones((1, len(names), 2, 2), "int16"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": [np.datetime64("2021-05-15", "ns")],
            "band": names,
            "y": [5.0, -5],
            "x": [5.0, 15],
        },
    )
    return da.rio.write_crs(32632)


@pytest.mark.parametrize(
    "folder", ["C:\\mirror", "D:\\", "\\\\server\\share\\mirror", "C:\\a b\\ö"]
)
def test_folders_with_drives_are_archives(folder):
    """A path of Windows comes as `as_posix()` gives it, and stays a local one."""
    url = end_folder(PureWindowsPath(folder).as_posix())
    file = locate(url, "32/U/PC/a.tif")
    assert PureWindowsPath(file) == PureWindowsPath(folder) / "32/U/PC/a.tif"
    assert _session.is_local(file)
    assert not _session.is_http(file)
    assert is_below(url, file)
    assert not is_below(url, locate(url, "../a.tif"))
    assert not is_below(url, locate(url, "..\\a.tif"))
    assert redact(file) == file
    packed = locate(f"zip://files/::{url}m.zip", "a.tif")
    assert packed == f"zip://files/a.tif::{url}m.zip"


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("item.json", "C:/cat/item.json"),
        ("sub\\item.json", "C:/cat/sub/item.json"),
        ("C:item.json", "C:/cat/item.json"),
        ("C:\\cat\\item.json", "C:/cat/item.json"),
        ("c:/CAT/item.json", "c:/CAT/item.json"),
        ("..\\item.json", None),
        ("sub\\..\\..\\item.json", None),
        ("C:\\other\\item.json", None),
        ("D:item.json", None),
        ("\\other\\item.json", None),
        ("\\\\server\\share\\item.json", None),
        ("//server/share/item.json", None),
        ("\\\\?\\C:\\other\\item.json", None),
        ("file:///C:/other/item.json", None),
    ],
)
def test_links_of_a_local_catalogue_stay_below_it(monkeypatch, link, leads):
    monkeypatch.setattr(_links, "Path", PureWindowsPath)
    monkeypatch.setattr(_links, "os", SimpleNamespace(path=ntpath))
    links = _links.Links(named="C:\\cat\\catalog.json")
    if leads is None:
        with pytest.raises(_links.LinkRefusedError):
            links.to_document("C:\\cat\\catalog.json", link)
    else:
        assert links.to_document("C:\\cat\\catalog.json", link) == leads


def test_areas_with_drives_are_paths():
    assert take_aoi("C:\\data\\aoi.geojson") == "C:\\data\\aoi.geojson"
    with pytest.raises(s2l3a_xr.AoiError, match="no such AOI file: 'C:"):
        search_l3a("C:\\data\\aoi.geojson", archive="http://127.0.0.1:1/")


def test_the_page_says_how_long_paths_may_be(tmp_path):
    with set_aside(tmp_path) as part:
        hidden = len(part.name) - len(str(os.getpid())) + len("4194304") + 1
    product = Product(tile="32UPC", year=2021, month=3)
    exported = 1 + hidden + len("s2_l3a_20210315_rededge1.tif")
    below = max(len(product.file(layer, r)) for layer in BANDS.values() for r in (10, 20))
    text = (DOCS / "windows.md").read_text("utf-8")
    assert f"which takes {hidden} of them" in text
    assert f"GeoTIFFs: {LONGEST - exported} characters" in text
    assert f"a mirror: {LONGEST - 1 - hidden - below} characters" in text


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (PermissionError(errno.EACCES, "used by another process"), "close it in other programs"),
        (OSError(errno.ENOSPC, "no space"), "make room"),
        (OSError(errno.ENAMETOOLONG, "too long"), "a shorter path"),
        (FileNotFoundError(errno.ENOENT, "no folder"), "see who may write there, or choose"),
    ],
)
def test_an_open_file_is_told_and_nothing_is_lost(tmp_path, monkeypatch, error, step):
    """Windows refuses to replace what another program holds open, as `os.replace` does here."""
    target = tmp_path / "a.tif"
    target.write_bytes(b"old")

    def refuse(*_):
        raise error

    monkeypatch.setattr(Path, "replace", refuse)
    with (
        pytest.raises(ExportError, match=rf"a\.tif can't be written: .*{step}"),
        whole_file(target) as place,
    ):
        place.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_windows_own_error_of_long_paths(tmp_path):
    error = FileNotFoundError(errno.ENOENT, "The filename or extension is too long")
    error.winerror = 206  # set by the system there
    assert "shorter path" in what_helps(error, tmp_path / "a.tif")


def test_an_export_over_an_open_file_tells_its_name(server, tmp_path, monkeypatch):
    da = open_l3a(AOI, time="2021-05", bands="B4", archive=server.url)
    [path] = to_geotiff(da, tmp_path, progress=False)
    before = path.read_bytes()

    def refuse(*_):
        raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ExportError, match=r"blue|red\.tif can't be written: .*close it") as caught:
        to_geotiff(da, tmp_path, progress=False, overwrite=True, profile="plain")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


NO_FORK = """
import multiprocessing, os, sys
for name in ("fork", "forkpty", "register_at_fork", "fchmod", "getuid", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)  # as on Windows
import s2l3a_xr

def read(url):
    da = s2l3a_xr.open_l3a((11.68, 51.94, 11.70, 51.96), time="2021-05", bands="B4", archive=url)
    return int(da.astype("int64").sum())

if __name__ == "__main__":
    url = sys.argv[1]
    here = read(url)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(read, [url]) == [here]
    print("read", here)
"""


def test_no_fork_is_needed(server, tmp_path):
    script = tmp_path / "no_fork.py"
    script.write_text(NO_FORK, "utf-8")
    ended = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, str(script), server.url],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("read ")


def run_in_pipe(*words, folder):
    """Run the command line as Windows does in a pipe: its text is of the code page."""
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    ended = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "s2l3a_xr._cli", *map(str, words)],
        capture_output=True, timeout=200, check=False, env=environment, cwd=folder,
    )  # fmt: skip
    assert b"UnicodeEncodeError" not in ended.stderr
    return ended.returncode, ended.stdout.decode("cp1252"), ended.stderr.decode("cp1252")


def commands():
    return sorted(main.commands)


@pytest.mark.parametrize("command", commands())
def test_help_in_cp1252(tmp_path, command):
    code, out, _ = run_in_pipe(command, "--help", folder=tmp_path)
    assert code == 0
    assert "Usage:" in out
    assert "\\u" not in out  # nothing had to be escaped


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Make a folder whose name cp1252 has not got, with an area in it."""
    folder = tmp_path_factory.mktemp("łódź")
    (folder / "aoi.geojson").write_text(
        json.dumps(shapely.geometry.mapping(shapely.box(*AOI))), "utf-8"
    )
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["search", "AOI", "--time", "2021-05", "--archive", "URL"], 0),
        (["search", "AOI", "--time", "2021-05", "--archive", "URL", "--json"], 0),
        (["search", "AOI", "--time", "2021-05", "--archive", "URL", "--bands", "B99ł"], 2),
        (["download", "AOI", "OUT", "--time", "2021-05", "--bands", "B4", "--archive", "URL"], 0),
        (["download", "AOI", "--mirror", "OUT", "--time", "2021-05", "--archive", "URL"], 0),
        (["quicklook", "AOI", "PNG", "--time", "2021-05", "--archive", "URL"], 0),
        (["doctor", "URL"], 0),
        (["versions"], 0),
    ],
)
def test_commands_in_cp1252(server, named, words, code):
    places = {"AOI": named / "aoi.geojson", "OUT": named / "out", "PNG": named / "a.png"}
    places["URL"] = server.url
    ended, out, err = run_in_pipe(*(places.get(word, word) for word in words), folder=named)
    assert ended == code, err
    if code == 0:
        assert out
        assert "\\u" not in out.replace("\\u0142\\xf3d\\u017a", "").replace("\\u0142", "").replace(
            "\\u017a", ""
        )


def test_paths_that_a_pipe_lacks_are_escaped(server, named):
    words = (
        "download",
        named / "aoi.geojson",
        named / "out2",
        "--time",
        "2021-05",
        "--bands",
        "B4",
    )
    code, out, _ = run_in_pipe(*words, "--archive", server.url, folder=named)
    assert code == 0
    assert out.rstrip().endswith("red.tif")
    assert "\\u0142ód\\u017a" in out


def test_demo_in_cp1252(tmp_path):
    code, out, err = run_in_pipe("demo", "out", folder=tmp_path)
    assert code == 0, err
    assert "GeoTIFFs in out" in out


def test_serve_sample_in_cp1252(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "s2l3a_xr._cli", "serve-sample", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
    ) as process:  # fmt: skip
        began = time.monotonic()
        line = process.stdout.readline().decode("cp1252")
        process.terminate()
        process.communicate()
    assert line.startswith("Serving http://127.0.0.1:")
    assert time.monotonic() - began < 120


def test_what_is_printed_in_python_fits_cp1252(server):
    found = search_l3a(AOI, time="2021-03/2021-06", archive=server.url)
    da = open_l3a(inventory=found)
    for shown in (
        found,
        found.summary(),
        da,
        da.l3a.plan(),
        da.l3a.failures(),
        s2l3a_xr.Transport(),
    ):
        repr(shown).encode("cp1252")
        str(shown).encode("cp1252")


def test_messages_fit_cp1252():
    for path in Path(s2l3a_xr.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        code = re.sub(r'"""(?s:.*?)"""|#.*', "", text)  # docstrings are for help()
        assert code.encode("cp1252", "replace").decode("cp1252") == code, path.name


def test_help_is_printed_by_pydoc_in_cp1252(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "import s2l3a_xr; help(s2l3a_xr); help(s2l3a_xr.open_l3a)"],
        capture_output=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PAGER": "cat"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert b"UnicodeEncodeError" not in ended.stderr


def test_the_runner_shows_errors_in_one_line():
    shown = CliRunner().invoke(main, ["search", BOUNDS, "--archive", "C:\\nowhere"])
    assert shown.exit_code == 2
    assert "no such archive folder: 'C:\\\\nowhere'" in shown.stderr
