"""The fault benchmark judges rightly: a wrong pixel is a wrong pixel, and silence is silence."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).resolve().parent.parent / "benchmarks")


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:  # plain names, which could be anybody's
        if getattr(sys.modules[name], "__file__", None) and BENCHMARKS in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def right():
    return np.arange(1, 65, dtype="int16").reshape(1, 1, 8, 8)


def judged(kind="pixels", pixels=None, accepted=(), **told):
    return import_module("faults.judge").judge({"kind": kind, **told}, pixels, list(accepted))


def test_right_pixels_are_right(right):
    assert judged(pixels=right, accepted=[right]).survived
    assert judged(pixels=right.astype("float64"), accepted=[right]).survived


def test_one_wrong_pixel_is_wrong_and_silent(right):
    wrong = right.copy()
    wrong[0, 0, 3, 4] += 1
    outcome = judged(pixels=wrong, accepted=[right])
    assert (outcome.verdict, outcome.wrong_pixels, outcome.holes) == ("wrong", 1, 0)
    assert outcome.silent
    assert not outcome.survived


@pytest.mark.parametrize("hole", [-10000, np.nan])
def test_a_hole_is_wrong_too(right, hole):
    pixels = right.astype("float64")
    pixels[..., :2] = hole
    outcome = judged(pixels=pixels, accepted=[right])
    assert (outcome.verdict, outcome.wrong_pixels, outcome.holes) == ("wrong", 16, 16)


def test_a_warning_breaks_the_silence_but_a_log_line_does_not(right):
    assert not judged(pixels=right + 1, accepted=[right], warnings=["UserWarning: x"]).silent
    assert judged(pixels=right + 1, accepted=[right], log=["read failed"]).silent


def test_old_or_new_is_right_but_a_mixture_is_wrong(right):
    new = right + 100
    mixed = np.concatenate([right[..., :4], new[..., 4:]], axis=-1)
    assert judged(pixels=new, accepted=[right, new]).survived
    assert judged(pixels=mixed, accepted=[right, new]).silent


@pytest.mark.parametrize("pixels", [None, np.zeros((1, 1, 8, 7), "int16")])
def test_another_shape_or_nothing_is_wrong_in_every_pixel(right, pixels):
    assert judged(pixels=pixels, accepted=[right]).wrong_pixels == right.size


@pytest.mark.parametrize("kind", ["error", "hung", "died"])
def test_what_gave_no_pixels_is_never_silent(right, kind):
    outcome = judged(kind, accepted=[right])
    assert outcome.verdict == kind
    assert not outcome.silent
    assert not outcome.survived


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Read failed. See previous exception for details.", set()),
        ("HTTP 503 at http://h/ITEM_FRC_B2.tif", {"URL", "item", "band"}),
        ("broken [http://h/ITEM_FRC_B2.tif, band B2, bytes 5-9]", {"URL", "item", "band", "range"}),
        ("reading B21 of ITEM", {"item"}),
        ("block (3, 4) of B2", {"band", "range"}),
    ],
)
def test_what_an_error_names(text, named):
    names = import_module("faults.judge").names
    found = names(judged("error", error=text), item="ITEM", band="B2")
    assert {part for part, there in found.items() if there} == named


def entry(at, kind=None, ranges=((10, 20),)):
    return {
        "received": at, "finished": at + 0.5, "kind": kind, "path": "a.tif", "ranges": ranges
    }  # fmt: skip


def test_a_wait_ends_with_the_next_request_for_the_same_range():
    pauses = import_module("faults.retry_after").pauses
    log = [entry(0, "s503ra:2"), entry(1, ranges=((99, 120),)), entry(3), entry(9)]
    assert pauses(log) == [2.5]
    assert pauses([entry(0, "s503ra:2")]) == []


def test_the_command_line(capsys):
    run = import_module("faults.run")
    parse = run.parse
    assert parse([]).cases == list(run.CASES)
    options = parse(["--cases", "cube, singles", "--only", "s2l3a_xr;lazycogs", "--quick"])
    assert options.cases == ["cube", "singles"]
    assert options.only == ["s2l3a_xr", "lazycogs"]
    assert options.quick
    for wrong in (["--cases", "cubes"], ["--only", "lazycog"]):
        with pytest.raises(SystemExit, match="2"):
            parse(wrong)
    assert "there are" in capsys.readouterr().err
