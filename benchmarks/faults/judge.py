"""What a run came to: right pixels, wrong ones, an error, or nothing in time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from _data import NODATA
from numpy.typing import NDArray

_PLACES = ("url", "item", "band")
_RANGE = re.compile(r"\bbytes[ =:]+\d+ ?- ?\d+|\bblock \(|\b\d+\.\.=?\d+\b")

Verdict = Literal["right", "wrong", "error", "hung", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run, judged."""

    verdict: Verdict
    wall_s: float = 0.0
    wrong_pixels: int = 0
    """Pixels that differ from what was written, holes among them."""
    holes: int = 0
    """Those of them that are nodata."""
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the error carries as attributes."""
    traceback: str = ""
    warnings: Sequence[str] = ()
    log: Sequence[str] = ()
    panic: bool = False
    """Whether the error is no proper exception of the language."""
    url: str = ""
    """The file or folder that was asked for."""

    @property
    def survived(self) -> bool:
        """Whether all pixels came and are right."""
        return self.verdict == "right"

    @property
    def silent(self) -> bool:
        """Whether pixels are wrong, and neither an error nor a warning says so."""
        return self.verdict == "wrong" and not self.warnings


def compare(
    pixels: NDArray[Any] | None, accepted: Sequence[NDArray[Any]]
) -> tuple[Verdict, int, int]:
    """Hold pixels against the arrays that wrote them.

    Parameters
    ----------
    pixels : ndarray or None
        What a reader gave, floats with NaN for nodata among them.
    accepted : sequence of ndarray
        Every answer that is right: one, unless a file was replaced.

    Returns
    -------
    tuple
        ``right`` or ``wrong``, the number of pixels that differ from the nearest right answer,
        and how many of those are nodata. Another shape is wrong in every pixel.
    """
    if pixels is None or pixels.dtype.kind not in "iuf":
        return "wrong", accepted[0].size, 0
    if pixels.dtype.kind == "f":
        pixels = np.where(np.isnan(pixels), NODATA, pixels)
    best = ("wrong", accepted[0].size, 0)
    for right in accepted:
        if pixels.shape != right.shape:
            continue
        differs = pixels != right
        count = int(differs.sum())
        if not count:
            return "right", 0, 0
        if count <= best[1]:
            best = ("wrong", count, int((pixels[differs] == NODATA).sum()))
    return "wrong", *best[1:]


def judge(
    answer: Mapping[str, Any],
    pixels: NDArray[Any] | None,
    accepted: Sequence[NDArray[Any]],
    url: str = "",
) -> Outcome:
    """Judge what a child process left.

    Parameters
    ----------
    answer : mapping
        As ``child.py`` writes it.
    pixels : ndarray or None
        What the reader gave, where it gave something.
    accepted : sequence of ndarray
        See `compare`.
    url : str
        What was asked for.
    """
    told = {
        name: answer[name]
        for name in ("wall_s", "error", "facts", "traceback", "warnings", "log", "panic")
        if name in answer
    }
    if answer["kind"] != "pixels":
        return Outcome(verdict=answer["kind"], url=url, **told)
    verdict, wrong, holes = compare(pixels, accepted)
    return Outcome(verdict=verdict, wrong_pixels=wrong, holes=holes, url=url, **told)


def names(outcome: Outcome, *, item: str, band: str) -> dict[str, bool]:
    """Say what an error's text names.

    Parameters
    ----------
    outcome : Outcome
        Of a run that ended in an error.
    item, band : str
        The product and the band that were asked for.

    Returns
    -------
    dict of str to bool
        ``URL``, ``item``, ``band`` and ``range``: bytes, or the block of a file's table. All
        that stands in the text or in the error's attributes counts.
    """
    facts = outcome.facts
    text = " ".join([outcome.error, *(str(facts[name]) for name in _PLACES if name in facts)])
    return {
        "URL": "://" in text and ".tif" in text,
        "item": item in text,
        "band": bool(re.search(rf"(?:\b|_){re.escape(band)}\b", text)),
        "range": bool(facts.get("byte_range") or facts.get("block")) or bool(_RANGE.search(text)),
    }
