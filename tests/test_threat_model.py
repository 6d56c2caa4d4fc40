"""The threat model says what is so: its tests exist, and some of its sentences are held here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import _errors
from s2l3a_xr._cli import main

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "threat-model.md"
PACKAGE = Path(s2l3a_xr.__file__).parent
UNPICKLERS = {"pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}
EVIL = "\x1b]0;title\x07\x1b[2J\r\x9b1A\u202etxt.exe\u2066\x00"


def test_each_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text("utf-8")))
    there = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 30
    assert named - there == set()


def test_no_module_unpickles():
    for path in PACKAGE.rglob("*.py"):
        # a part of a pickle that is being unpacked anyway, so that versions are compared first
        refused = UNPICKLERS - {"pickle" if path.name == "_cube.py" else ""}
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & refused, path
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle", path


@pytest.mark.parametrize("name", ["verify=False", "verify_ssl", "CERT_NONE", "ssl=False"])
def test_no_switch_turns_certificates_off(name):
    assert [path for path in PACKAGE.rglob("*.py") if name in path.read_text("utf-8")] == []


def _every_error():
    kinds = [kind for kind in vars(_errors).values() if isinstance(kind, type)]
    return [k for k in kinds if issubclass(k, (_errors.S2L3AError, _errors.S2L3AWarning))]


@pytest.mark.parametrize("kind", _every_error())
def test_nothing_commands_a_terminal(kind):
    error = kind(f"the server said {EVIL}\nForged: line")
    assert str(error).isprintable()
    assert "title" in str(error)
    if issubclass(kind, _errors.ReadError):
        placed = kind("no", url=f"http://h/{EVIL}", band=EVIL).at(item=EVIL)
        assert str(placed).isprintable()


def test_nor_does_what_the_command_line_prints(tmp_path):
    evil = EVIL.replace("\0", "")  # no argument can hold it
    for arguments in (
        ["search", f"{evil}.geojson"],
        ["search", "1,2,3,4", "--archive", f"/no{evil}"],
        ["doctor", f"no{evil}"],
        ["download", "--inventory", f"{tmp_path}/{evil}.json", "out"],
    ):
        ended = CliRunner().invoke(main, arguments)
        assert ended.exit_code == 2, ended.output
        assert ended.output.replace("\n", "").isprintable(), arguments
