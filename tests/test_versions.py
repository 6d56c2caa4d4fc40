"""What a bug report tells of the installation."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import rasterio
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import _versions
from s2l3a_xr._cli import main


def told(text: str) -> dict[str, str]:
    """Read lines of a name and a version."""
    rows = (re.split(r"  +", line, maxsplit=1) for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def test_versions_are_those_at_work():
    file = io.StringIO()
    s2l3a_xr.show_versions(file)
    shown = told(file.getvalue())
    assert shown["s2l3a_xr"] == s2l3a_xr.__version__
    assert shown["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert shown["GDAL (rasterio)"] == rasterio.__gdal_version__
    assert shown["aiohttp"] == aiohttp.__version__
    assert shown["matplotlib"] == importlib.metadata.version("matplotlib")


def test_every_requirement_is_told():
    shown = told(_versions.versions_text())
    for requirement in importlib.metadata.requires("s2l3a_xr"):
        name = re.match(r"[\w.-]+", requirement)[0]
        assert name in shown or name == "s2l3a_xr"


def test_what_lacks_is_told(monkeypatch):
    known = ["numpy>=2", "no-such-a; extra == 'io'", 'no-such-b[x]>=1 ; extra == "io"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: known)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    lines = _versions.versions_text().splitlines()
    assert "GDAL (rasterio)  can't be loaded: ModuleNotFoundError: import of" in "\n".join(lines)
    assert [line.split() for line in lines[-2:]] == [["no-such-a", "-"], ["no-such-b", "-"]]
    assert lines[-3] == "Optional (- is not installed)"


def test_what_needs_a_newer_python_says_so(monkeypatch):
    known = [
        "no-such-a>=1; (python_version >= '3.99') and extra == 'io'",
        "no-such-b; (python_version >= '3.8') and extra == 'io'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: known)
    lines = _versions.versions_text().splitlines()
    assert lines[-2].endswith("  - (needs Python 3.99)")
    assert lines[-1].split() == ["no-such-b", "-"]


def test_nothing_secret_is_told(monkeypatch):
    monkeypatch.setenv("S2L3A_SECRET", "hunter2")
    text = _versions.versions_text()
    for secret in ("hunter2", str(Path.home()), platform.node(), sys.prefix):
        assert secret not in text


def test_command():
    shown = CliRunner().invoke(main, ["versions"])
    assert shown.exit_code == 0
    assert "GEOS (shapely)" in shown.stdout
    assert "versions" in CliRunner().invoke(main, ["--help"]).output
    version = CliRunner().invoke(main, ["--version"]).output
    assert version == f"s2l3a, version {s2l3a_xr.__version__}\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_any_console(encoding):
    ended = subprocess.run(
        [sys.executable, "-c", "import s2l3a_xr; s2l3a_xr.show_versions()"],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert f"console {encoding}".encode() in ended.stdout
