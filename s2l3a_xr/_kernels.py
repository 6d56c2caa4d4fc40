"""Ways of making a pixel of others around it; GDAL's, to the bit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KERNELS = ("nearest", "bilinear", "cubic", "average")
"""How pixels may be made where they don't coincide with a file's; GDAL's names and numbers."""

_EDGE_PX = 1e-10
"""GDAL's margin for places on the edge of two pixels."""

_LEAST_WEIGHT = 1e-6
"""GDAL's bound: a mean of less is nodata."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taps:
    """Which pixels of a lattice make up each wanted pixel.

    Parameters
    ----------
    rows, columns : ndarray of int64, shape (n,)
        First row and column of each.
    down, across : ndarray of float64, shape (taps, n)
        Weights of the rows and columns from there on.
    """

    rows: np.ndarray
    columns: np.ndarray
    down: np.ndarray
    across: np.ndarray


def under(places: np.ndarray) -> np.ndarray:
    """Find the rows or columns in which places lie.

    Parameters
    ----------
    places : ndarray of float64
        Pixel edges are whole.

    Returns
    -------
    ndarray of int64
        Of the same shape.
    """
    return np.floor(places + _EDGE_PX).astype(np.int64)


def weigh(kernel: str, at: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weigh the pixels around places, along one axis.

    Parameters
    ----------
    kernel : str
        ``bilinear`` or ``cubic``.
    at : ndarray of float64, shape (n,)
        Places; pixel edges are whole.
    scale : float
        At most 1; less widens the filter, where pixels are reduced.

    Returns
    -------
    first : ndarray of int64, shape (n,)
        First tap.
    weights : ndarray of float64, shape (taps, n)
        Of the taps from there on.
    """
    shape, radius = (_triangle, 1) if kernel == "bilinear" else (_catmull_rom, 2)
    reach = math.ceil(radius / scale)
    first = np.floor(at - 0.5).astype(np.int64) - reach + 1
    taps = np.arange(2 * reach)[:, None]
    return first, shape(np.abs(first + taps + 0.5 - at) * scale)


def _triangle(distance: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1 - distance, 0.0)
    return weights


def _catmull_rom(distance: np.ndarray) -> np.ndarray:
    near = 1 + distance**2 * (1.5 * distance - 2.5)
    far = 2 + distance * (-4 + distance * (2.5 - 0.5 * distance))
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))  # noqa: PLR2004


def overlaps(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weigh pixels by how much of them lies between two places, along one axis.

    Parameters
    ----------
    start, stop : ndarray of float64, shape (n,)
        Places; pixel edges are whole.

    Returns
    -------
    first : ndarray of int64, shape (n,)
        First tap.
    weights : ndarray of float64, shape (taps, n)
        Of the taps from there on.
    """
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    first = np.floor(low + _EDGE_PX).astype(np.int64)
    last = np.maximum(np.ceil(high - _EDGE_PX).astype(np.int64), first + 1)
    taps = first + np.arange(int((last - first).max(initial=1)))[:, None]
    weights = np.minimum(taps + 1, high) - np.maximum(taps, low)
    return first, np.where(taps < last, np.maximum(weights, 0.0), 0.0)


def sum_up(
    pixels: np.ndarray, corner: tuple[int, int], taps: Taps, fill: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take weighted means, nodata left out.

    Parameters
    ----------
    pixels : ndarray, shape (height, width)
        Part of a lattice that has all taps.
    corner : tuple of int
        Its first row and column.
    taps : Taps
        Of each pixel to be made.
    fill : int
        Value of nodata.

    Returns
    -------
    means : ndarray, shape (n,)
        Rounded, halves up; of the same type.
    whole : ndarray of bool, shape (n,)
        Whether all taps had data.
    """
    width = pixels.shape[1]
    flat = pixels.reshape(-1)
    first = (taps.rows - corner[0]) * width + (taps.columns - corner[1])
    total, weight = np.zeros(first.size), np.zeros(first.size)
    whole = np.ones(first.size, dtype=bool)
    for i, down in enumerate(taps.down):
        for j, across in enumerate(taps.across):
            values = flat.take(first + (i * width + j))
            share = down * across
            empty = values == fill
            if empty.any():
                share = np.where(empty, 0.0, share)
                whole &= ~empty
            total += share * values
            weight += share
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weight > _LEAST_WEIGHT, np.floor(total / weight + 0.5), fill)
    limits = np.iinfo(pixels.dtype)
    return np.clip(mean, limits.min, limits.max).astype(pixels.dtype), whole
