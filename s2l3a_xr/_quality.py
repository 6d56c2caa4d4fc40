"""What the mask layers say of an area: shares of classes, weights, dates, months that are clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dask
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from dask.utils import parse_bytes
from xarray.core import indexing

from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import GoneError, MaskedWarning, SelectionError, warn_user
from s2l3a_xr._flags import (
    CLASSES,
    UNKNOWN,
    WEIGHT_SCALE,
    Mask,
    check_share,
    class_table,
    decode_days,
    hiding_table,
    read_classes,
)
from s2l3a_xr._grid import ground_m
from s2l3a_xr._labels import dates_of
from s2l3a_xr._masks import Part, find_part
from s2l3a_xr._product import NODATA
from s2l3a_xr._reading import area_mask
from s2l3a_xr._request import Request
from s2l3a_xr._selection import month_text

_LAYERS = ("FLG", "WGT", "DTS")
_USUAL = (1, 2)
"""Cloud and snow: what is masked where nobody says otherwise."""

_COARSE_M = 20
"""Pixel size of the coarser masks, R2."""

_ROUNDING = 1e-12
"""What sums of shares are off by; far less than a pixel."""

_NEVER = np.iinfo(np.int64).max

_NO_MASK = (
    "without it nothing can be said of these pixels; a mirror has the masks that were asked for "
    "by name: bands=[…, 'FLG', 'WGT', 'DTS']"
)


def quality(da: xr.DataArray, *, approximate: bool = False) -> pd.DataFrame:
    """Say what the masks hold of an array's area, see ``da.l3a.quality``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, or made from it.
    approximate : bool
        Whether the masks of 20 m will do.

    Returns
    -------
    pandas.DataFrame
        A row for each time.

    Raises
    ------
    SelectionError
        The array does not know where its masks are.
    ReadError
        A mask can't be read.
    """
    part = find_part(da)
    sums, _ = (_tally_coarser if approximate else _tally)(part, _LAYERS)
    table = _shares(sums)
    weighed = sums["weighed"].where(sums["weighed"] > 0)
    table["pixels"] = sums["pixels"]
    table["mean_weight"] = (sums["weight"] / weighed / WEIGHT_SCALE).astype("float64")
    for name in ("first_date", "last_date"):
        known = sums[name].abs() != _NEVER
        days = sums[name].where(known, 0).to_numpy().astype("datetime64[D]")
        table[name] = pd.Series(days.astype("datetime64[ns]")).where(known)
    return table.set_index(pd.Index(np.atleast_1d(da["time"].to_numpy()), name="time"))


def _coarser(part: Part) -> Part:
    """Take the masks of 20 m, and one of four pixels where that is coarser than the array's."""
    request = part.request
    if request.is_named:  # else only the masks that were asked for are known
        request = replace(request, native_m=_COARSE_M)
    if ground_m(request.grid) >= _COARSE_M:
        return replace(part, request=request)
    return replace(part, request=request, rows=part.rows[::2], columns=part.columns[::2])


def _tally_coarser(
    part: Part, layers: Sequence[str], shown: Part | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Count as `_tally` does, with the coarser masks where they are there."""
    coarser = _coarser(part)
    try:
        return _tally(coarser, layers, shown)
    except GoneError:
        if coarser.request.native_m == part.request.native_m:
            raise
    # A mirror has the masks in the size of its bands.
    return _tally(replace(coarser, request=part.request), layers, shown)


def _shares(sums: pd.DataFrame) -> pd.DataFrame:
    counts = sums[list(CLASSES)]
    return counts.div(sums["pixels"].where(sums["pixels"] > 0), axis=0).astype("float64")


def _tally(
    part: Part, layers: Sequence[str], shown: Part | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Count classes and add up weights; each task reads, and hands a few numbers on.

    And give FLG at the rows and columns of ``shown``, or next to them, of shape (time, y, x).
    """
    # A mask that is gone says nothing of the area: it is no nodata here.
    request = replace(part.request.of_layers(*layers), missing="raise", fail_on_error=True)
    array = L3AArray(request)
    shared = delayed(array, name=f"masks-{array.token}", pure=True, traverse=False)
    rows, columns = np.unique(part.rows), np.unique(part.columns)
    times, at = np.unique(part.times, return_inverse=True)
    if not (rows.size and columns.size and times.size):
        msg = "the selection is empty: there are no pixels to count; select fewer away."
        raise SelectionError(msg)
    limit = parse_bytes(dask.config.get("array.chunk-size"))
    pixel_bytes = len(layers) * request.dtype.itemsize
    most_rows = max(512, limit // (len(columns) * pixel_bytes))
    most_times = max(1, limit // (min(len(rows), most_rows) * len(columns) * pixel_bytes))
    count = delayed(_count, pure=True)
    down, order_down = _nearest(rows, shown.rows if shown else rows[:0])
    across, order_across = _nearest(columns, shown.columns if shown else columns[:0])
    tops = range(0, len(rows), most_rows)
    looks = [(down[(down >= j) & (down < j + most_rows)] - j, across) for j in tops]
    tasks = [
        count(shared, times[i : i + most_times], rows[j : j + most_rows], columns, look)
        for i in range(0, len(times), most_times)
        for j, look in zip(tops, looks, strict=True)
    ]
    try:
        tables, flags = zip(*compute(*tasks), strict=True)
    except GoneError as exc:
        exc.hint = _NO_MASK
        raise
    found = pd.concat(tables).groupby(level=0)
    sums = found.sum().assign(
        first_date=found["first_date"].min(), last_date=found["last_date"].max()
    )
    months = [
        np.concatenate(flags[i : i + len(tops)], axis=1) for i in range(0, len(flags), len(tops))
    ]
    seen = np.concatenate(months)[np.ix_(at, order_down, order_across)]
    return sums.loc[times[at]].reset_index(drop=True), seen


def _nearest(there: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where in a sorted axis something stands: each place once, and which is whose."""
    places = np.searchsorted(there, wanted).clip(max=len(there) - 1)
    distinct, order = np.unique(places, return_inverse=True)
    return distinct, order


def _count(
    array: L3AArray,
    times: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    look: tuple[np.ndarray, np.ndarray],
) -> tuple[pd.DataFrame, np.ndarray]:
    """Count in one part of the masks, and give FLG at some of its places."""
    request = array.request
    inside = area_mask(request, rows, columns)
    total = len(rows) * len(columns) if inside is None else int(inside.sum())
    axes = (times, np.arange(len(request.bands)), rows, columns)
    values = array[indexing.OuterIndexer(axes)]
    table, dates = class_table(request.flag_encoding), dates_of(request)
    found = []
    for time, planes in zip(times.tolist(), values, strict=True):
        flags = np.where(planes[0] < 0, UNKNOWN, planes[0]).astype(np.uint8)
        counts = np.bincount(table[flags].ravel(), minlength=len(CLASSES))[: len(CLASSES)]
        row = {**dict(zip(CLASSES, counts.tolist(), strict=True)), "pixels": total}
        row["nodata"] = total - int(counts[1:].sum())
        row |= {"weight": 0, "weighed": 0, "first_date": _NEVER, "last_date": -_NEVER}
        if len(planes) > 1:
            weights = planes[1][planes[1] != NODATA]
            row["weight"], row["weighed"] = int(weights.sum(dtype=np.int64)), weights.size
            days = np.unique(planes[2][planes[2] != NODATA])
            if days.size:
                seen = decode_days(days, dates[time]).astype("datetime64[D]").astype(np.int64)
                row["first_date"], row["last_date"] = int(seen.min()), int(seen.max())
        found.append(row)
    seen = values[:, 0][:, look[0]][:, :, look[1]]
    return pd.DataFrame(found, index=times), np.where(seen < 0, UNKNOWN, seen).astype(np.uint8)


def masked_share(table: pd.DataFrame, classes: Sequence[int] = _USUAL) -> pd.Series:
    """Add up what is masked.

    Parameters
    ----------
    table : pandas.DataFrame
        With a column for each class.
    classes : sequence of int
        Numbers of the masked classes; nodata always counts.

    Returns
    -------
    pandas.Series
        Shares, with the table's index.
    """
    share: pd.Series = table[[CLASSES[number] for number in sorted({0, *classes})]].sum(axis=1)
    return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """What of an area is nodata, cloud or snow.

    Parameters
    ----------
    shares : ndarray of float64, shape (time,)
        0 to 1, of all pixels.
    hidden : ndarray of bool, shape (time, y, x)
        Which of the pixels that are shown.
    """

    shares: np.ndarray
    hidden: np.ndarray


def find_unclear(part: Part, shown: Part) -> Unclear:
    """Find what of an area is nodata, cloud or snow, in one reading of the masks of 20 m.

    Parameters
    ----------
    part : Part
        All pixels.
    shown : Part
        Those of them that a picture has room for.

    Returns
    -------
    Unclear
        Shares of all, and which of those that are shown (to a pixel of 20 m).
    """
    sums, flags = _tally_coarser(part, ("FLG",), shown)
    table = hiding_table((0, *_USUAL), part.request.flag_encoding)
    return Unclear(shares=np.asarray(masked_share(_shares(sums))), hidden=table[flags])


def clear_request(request: Request, classes: Sequence[int], max_masked: float) -> Request:
    """Leave out months of which too much is masked; the masks are read for it.

    Parameters
    ----------
    request : Request
        What is asked for.
    classes : sequence of int
        Numbers of the masked classes; cloud and snow where it is empty. Nodata always counts.
    max_masked : float
        Largest share of the area.

    Returns
    -------
    Request
        The same of fewer months.

    Raises
    ------
    SelectionError
        None is left.

    Warns
    -----
    MaskedWarning
        Months were left out.
    """
    height, width = request.grid.shape
    part = Part(
        request=request,
        times=np.arange(len(request.months)),
        rows=np.arange(height),
        columns=np.arange(width),
    )
    kept = _clear_times(part, classes or _USUAL, max_masked)
    return replace(
        request,
        months=tuple(request.months[i] for i in kept),
        products=tuple(request.products[i] for i in kept),
    )


def select_clear(da: xr.DataArray, max_masked: float, mask: Mask) -> xr.DataArray:
    """Leave out months of which too much is masked, see ``da.l3a.select_clear``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, or made from it.
    max_masked : float
        Largest share of the area, 0 to 1.
    mask : str, int or iterable of those
        The masked classes.

    Returns
    -------
    xarray.DataArray
        The same of fewer months.

    Raises
    ------
    SelectionError
        None is left, or the array does not know where its masks are.

    Warns
    -----
    MaskedWarning
        Months were left out.
    """
    check_share(max_masked)
    kept = _clear_times(find_part(da), read_classes(mask), max_masked)
    return da.isel(time=kept) if "time" in da.dims else da


def _clear_times(part: Part, classes: Sequence[int], max_masked: float) -> list[int]:
    """Choose the months that are clear enough, and tell of the others."""
    sums, _ = _tally(part, ("FLG",))
    shares = masked_share(_shares(sums), classes).to_numpy()
    months = [month_text(part.request.months[i]) for i in part.times]
    masked = ", ".join(CLASSES[number] for number in sorted({0, *classes}))
    told = [f"{name} ({share:.1%})" for name, share in zip(months, shares, strict=True)]
    kept = [i for i, share in enumerate(shares) if share <= max_masked + _ROUNDING]
    if not kept:
        msg = (
            f"no month has max_masked={max_masked:g} or less of the area masked ({masked}): "
            f"{', '.join(told)}; ask for more months or allow a larger share."
        )
        raise SelectionError(msg)
    if len(kept) < len(shares):
        dropped = ", ".join(text for i, text in enumerate(told) if i not in kept)
        warn_user(
            f"{len(shares) - len(kept)} of {len(shares)} months are left out, as more than "
            f"max_masked={max_masked:g} of the area is masked ({masked}): {dropped}.",
            MaskedWarning,
        )
    return kept
