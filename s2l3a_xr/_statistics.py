"""Statistics of the pixels that each of many features holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from s2l3a_xr._errors import SelectionError

STATISTICS = {
    "count": "pixels with data",
    "sum": "sum",
    "mean": "mean",
    "std": "standard deviation (population)",
    "min": "minimum",
    "max": "maximum",
    "median": "median",
}
"""What can be asked for, in words."""


def check_statistics(stats: str | Iterable[str], *, weighted: bool) -> tuple[str, ...]:
    """Take names of statistics.

    Parameters
    ----------
    stats : str or iterable of str
        As the user wrote them.
    weighted : bool
        Whether pixels count by the share that is covered.

    Returns
    -------
    tuple of str
        The names, each once.

    Raises
    ------
    SelectionError
        A name is unknown, none is given, or it has no meaning with weights.
    """
    is_one = isinstance(stats, str) or not isinstance(stats, Iterable)
    asked: list[Any] = [stats] if is_one else list(stats)
    names = tuple(dict.fromkeys(asked))
    known = [name for name in STATISTICS if not (weighted and name == "median")]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        told = f"stats has {unknown[0]!r}" if unknown else "stats is empty"
        msg = f"{told}; choose from {', '.join(known)}."
        if weighted and "median" in unknown:
            msg += " method='centre' has the median too."
        raise SelectionError(msg)
    return names


def summarise(
    pixels: np.ndarray,
    features: np.ndarray,
    weights: np.ndarray | None,
    number: int,
    stats: Iterable[str],
) -> np.ndarray:
    """Compute statistics of each feature's pixels.

    Parameters
    ----------
    pixels : ndarray of float64, shape (pixels,)
        Valid pixels alone.
    features : ndarray of int, shape (pixels,), ascending
        Whose they are.
    weights : ndarray of float64, shape (pixels,), or None
        How much each counts.
    number : int
        Number of features.
    stats : iterable of str
        Names from `STATISTICS`.

    Returns
    -------
    ndarray of float64, shape (statistics, features)
        NaN where a feature has no valid pixel; its count and sum are 0.

    Examples
    --------
    >>> summarise(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), None, 3, ["mean", "count"])
    array([[ 2., nan,  5.],
           [ 2.,  0.,  1.]])
    """
    count = np.bincount(features, weights, number).astype(np.float64)
    total = np.bincount(features, pixels if weights is None else pixels * weights, number)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, total / count, np.nan)

    def std() -> np.ndarray:
        squares = np.square(pixels - mean[features])
        squares = np.bincount(features, squares if weights is None else squares * weights, number)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.where(count > 0, squares / count, np.nan))

    def extreme(ufunc: np.ufunc) -> np.ndarray:
        found = np.full(number, np.nan)
        starts = np.flatnonzero(np.diff(features, prepend=-1))
        if starts.size:
            found[features[starts]] = ufunc.reduceat(pixels, starts)
        return found

    def median() -> np.ndarray:
        ordered = pixels[np.lexsort((pixels, features))]
        sizes = np.bincount(features, minlength=number)
        has = np.flatnonzero(sizes)
        firsts = np.cumsum(sizes)[has] - sizes[has]
        found = np.full(number, np.nan)
        middle = (ordered[firsts + (sizes[has] - 1) // 2] + ordered[firsts + sizes[has] // 2]) / 2
        found[has] = middle
        return found

    ways = {
        "count": lambda: count,
        "sum": lambda: total,
        "mean": lambda: mean,
        "std": std,
        "min": lambda: extreme(np.minimum),
        "max": lambda: extreme(np.maximum),
        "median": median,
    }
    return np.stack([ways[name]() for name in stats])
