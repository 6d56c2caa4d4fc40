"""The mask layers of an array's pixels, decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from dask.base import tokenize
from xarray.core import indexing

from s2l3a_xr._chunks import DIMS, resolve_chunks
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._flags import UNKNOWN, decode_days, decode_weight, flag_attrs
from s2l3a_xr._rehearsal import find_array
from s2l3a_xr._request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which pixels of a request an array has.

    Parameters
    ----------
    request : Request
        The request.
    times : ndarray of int
        Positions along time, in the array's order.
    rows, columns : ndarray of int
        The same along y and x.
    """

    request: Request
    times: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def find_part(da: xr.DataArray) -> Part:
    """Find out which pixels of a request an array has, by its coordinates.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from it by lazy steps that keep pixels where they are.

    Returns
    -------
    Part
        Where its masks are.

    Raises
    ------
    SelectionError
        The pixels have been computed, or come from elsewhere, or lie between those of the request.
    """
    array = find_array(da if da.chunks else da.chunk())
    if array is None:
        msg = (
            "the array does not know where its masks are: its pixels have been computed, or do not "
            "come from one open_l3a; ask the array that was opened."
        )
        raise SelectionError(msg)
    request, grid = array.request, array.request.grid
    return Part(
        request=request,
        times=_months_of(da, request),
        rows=_positions(da, "y", grid.y, grid.resolution),
        columns=_positions(da, "x", grid.x, grid.resolution),
    )


def _months_of(da: xr.DataArray, request: Request) -> np.ndarray:
    if "time" not in da.coords:
        msg = "the array has no time, which says whose masks to take; ask it before it loses it."
        raise SelectionError(msg)
    labels = pd.DatetimeIndex(np.atleast_1d(da["time"].to_numpy()))
    try:
        return np.array([request.months.index((t.year, t.month)) for t in labels], dtype=np.int64)
    except ValueError as exc:
        msg = "the array has months that were not opened; ask the array that was opened."
        raise SelectionError(msg) from exc


def _positions(da: xr.DataArray, dim: str, known: np.ndarray, step: float) -> np.ndarray:
    labels = np.atleast_1d(da[dim].to_numpy()) if dim in da.coords else np.array([np.inf])
    places = (labels - known[0]) / step * (1 if dim == "x" else -1)
    near = np.rint(places)
    is_there = (np.abs(places - near) < 0.01) & (near >= 0) & (near < known.size)  # noqa: PLR2004
    if not is_there.all():
        msg = (
            f"the array's {dim} is none of the pixels that were opened; ask the array before it "
            "was coarsened or put on another grid."
        )
        raise SelectionError(msg)
    return np.asarray(near, dtype=np.int64)


def flags(da: xr.DataArray) -> xr.DataArray:
    """Give FLG of an array's pixels, see ``da.l3a.flags``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, or made from it.

    Returns
    -------
    xarray.DataArray
        uint8, dims (time, y, x).

    Raises
    ------
    SelectionError
        It has no such band, and does not know where its masks are.
    """
    layer, encoding = _layer(da, "FLG")
    found = _decoded(layer, _as_flags, np.uint8, "flg", "class of the pixel")
    return found.assign_attrs(_FillValue=np.uint8(UNKNOWN), **flag_attrs(encoding))


def weights(da: xr.DataArray) -> xr.DataArray:
    """Give WGT of an array's pixels, see ``da.l3a.weights``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, or made from it.

    Returns
    -------
    xarray.DataArray
        float32, dims (time, y, x).

    Raises
    ------
    SelectionError
        It has no such band, and does not know where its masks are.
    """
    layer, _ = _layer(da, "WGT")
    found = _decoded(layer, decode_weight, np.float32, "wgt", "weight of the clear observations")
    return found.assign_attrs(units="1")


def dates(da: xr.DataArray) -> xr.DataArray:
    """Give DTS of an array's pixels, see ``da.l3a.dates``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, or made from it; with a ``time`` coordinate.

    Returns
    -------
    xarray.DataArray
        datetime64[ns], dims (time, y, x).

    Raises
    ------
    SelectionError
        It has no such band, and does not know where its masks are.
    """
    layer, _ = _layer(da, "DTS")
    if "time" not in layer.coords or layer["time"].dtype.kind != "M":
        msg = (
            "DTS holds days of a year, and the array has no time that says which year; ask it "
            "before it loses it."
        )
        raise SelectionError(msg)
    if "time" not in layer.dims:
        layer = layer.expand_dims("time")
    months = [
        _decoded(
            layer.isel(time=[i]), _Days(when), "datetime64[ns]", "dts", "mean acquisition date"
        )
        for i, when in enumerate(layer["time"].to_numpy())
    ]
    return xr.concat(months, "time", coords="minimal", compat="override", join="override")


@dataclass(frozen=True, slots=True)
class _Days:
    when: np.datetime64

    def __call__(self, days: np.ndarray) -> np.ndarray:
        return decode_days(days, self.when)


def _as_flags(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, UNKNOWN, values).astype(np.uint8)


def _decoded(
    layer: xr.DataArray,
    decode: Callable[[np.ndarray], np.ndarray],
    dtype: Any,  # noqa: ANN401 - whatever numpy takes
    name: str,
    title: str,
) -> xr.DataArray:
    if layer.chunks:
        data = layer.data.map_blocks(decode, dtype=dtype, meta=np.empty((0, 0, 0), dtype))
    else:
        data = decode(layer.to_numpy())
    coords = {key: value for key, value in layer.coords.items() if "band" not in value.dims}
    made = xr.DataArray(data, dims=layer.dims, coords=coords, name=name)
    drop = {"band", "common_name", "native_name"} & set(made.coords)
    made = made.drop_vars(drop).assign_attrs(long_name=f"Sentinel-2 L3A WASP {title}")
    made.encoding["grid_mapping"] = "spatial_ref"
    return made


def _layer(da: xr.DataArray, native: str) -> tuple[xr.DataArray, str]:
    """Choose a mask layer of an array, or open it beside; and say what its flags mean."""
    encoding = "bits" if "flag_masks" in da.attrs else "classes"
    if "native_name" in da.coords:
        names = np.atleast_1d(da["native_name"].to_numpy()).tolist()
        if native in names:
            return (da.isel(band=names.index(native)) if "band" in da.dims else da), encoding
    part = find_part(da)
    request = part.request.of_layers(native)
    array = L3AArray(request)
    sizes = resolve_chunks(request, "auto")
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(array)).chunk(
        dict(zip(DIMS, sizes, strict=True)), name=f"open_l3a-{tokenize(array.token, sizes)}"
    )
    chosen = variable.isel(band=0, time=part.times, y=part.rows, x=part.columns)
    coords = {dim: np.atleast_1d(da[dim].to_numpy()) for dim in ("time", "y", "x")}
    layer = xr.DataArray(chosen, coords=coords)
    return layer.rio.write_crs(request.grid.crs), request.flag_encoding
