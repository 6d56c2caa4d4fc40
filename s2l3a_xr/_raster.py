"""What an export needs to know of an array: its order, place and type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from affine import Affine
from rioxarray.exceptions import RioXarrayError

from s2l3a_xr._errors import ExportError
from s2l3a_xr._product import BANDS, NODATA

COMMON = {name: band.common for band in BANDS.values() for name in (band.native, band.common)}
"""Common names by any name of a band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """What all files of an export share.

    Parameters
    ----------
    width, height : int
        Pixels.
    transform : Affine
        From pixel corners to coordinates.
    crs : str
        WKT.
    dtype : str
        Of the pixels.
    nodata : float or None
        Value of pixels without data.
    """

    width: int
    height: int
    transform: Affine
    crs: str
    dtype: str
    nodata: float | None


def as_cube(da: object) -> xr.DataArray:
    """Bring an array to (time, band, y, x), north up and west first.

    Parameters
    ----------
    da : object
        What the user handed over.

    Returns
    -------
    xarray.DataArray
        The same pixels.

    Raises
    ------
    ExportError
        It is no array, or does not say where and when.
    """
    if not isinstance(da, xr.DataArray):
        msg = (
            f"what is exported must be a DataArray, not a {type(da).__name__}; a Dataset becomes "
            "one with ds.to_dataarray('band')."
        )
        raise ExportError(msg)
    da = _with_time_and_band(da)
    try:
        x, y = da.rio.x_dim, da.rio.y_dim
    except RioXarrayError as exc:
        msg = f"the array has no spatial dimensions: {exc}; see da.rio.set_spatial_dims."
        raise ExportError(msg) from exc
    extra = [str(dim) for dim in da.dims if dim not in {"time", "band", x, y}]
    if extra:
        msg = f"the array has more dimensions than time, band, y and x: {', '.join(extra)}."
        raise ExportError(msg, hint="select one of each with da.isel(…=0).")
    cube = da.transpose("time", "band", y, x)
    if not all(cube.shape):
        msg = f"the array is empty: its shape is {cube.shape}; select less away."
        raise ExportError(msg)
    descending = {dim: _runs_down(cube, dim) for dim in (x, y)}
    turned = [
        dim for dim, wanted in ((x, False), (y, True)) if descending[dim] not in {None, wanted}
    ]
    return cube.isel({dim: slice(None, None, -1) for dim in turned})


def _with_time_and_band(da: xr.DataArray) -> xr.DataArray:
    if "band" not in da.coords and da.name in COMMON:
        da = da.assign_coords(band=da.name)
    for name in ("time", "band"):
        if name not in da.coords:
            msg = (
                f"the array has no {name!r} coordinate, so its files can't be named; add it with "
                f"da.assign_coords({name}=…)."
            )
            raise ExportError(msg)
        if name not in da.dims:
            da = da.expand_dims(name)
    if not np.issubdtype(da["time"].dtype, np.datetime64):
        msg = (
            f"the time coordinate must be datetime64, it is {da['time'].dtype}; use pd.to_datetime."
        )
        raise ExportError(msg)
    return da


def _runs_down(cube: xr.DataArray, dim: str) -> bool | None:
    """Whether a coordinate descends; None for a single value."""
    values = cube[dim].to_numpy()
    return bool(values[0] > values[-1]) if values.size > 1 else None


def raster_of(cube: xr.DataArray) -> Raster:
    """Tell place and type of an array's planes.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.

    Returns
    -------
    Raster
        What all of its files share.

    Raises
    ------
    ExportError
        It has no CRS, is not evenly spaced, or of a type that GeoTIFF has not got.
    """
    if cube.rio.crs is None:
        msg = "the array has no CRS; set it with da.rio.write_crs(…)."
        raise ExportError(msg)
    step_x, step_y = (_step(cube, dim) for dim in (cube.rio.x_dim, cube.rio.y_dim))
    left = float(cube[cube.rio.x_dim].to_numpy()[0]) - step_x / 2
    top = float(cube[cube.rio.y_dim].to_numpy()[0]) - step_y / 2
    dtype = np.dtype("uint8") if cube.dtype == bool else cube.dtype
    if dtype.kind not in "iuf" or (dtype.kind == "f" and dtype.itemsize < 4):  # noqa: PLR2004
        msg = f"pixels of type {cube.dtype} can't be written; use da.astype('float32')."
        raise ExportError(msg)
    nodata = nodata_of(cube)
    if nodata is None or np.isnan(nodata):
        nodata = NODATA if dtype.kind == "f" else None
    return Raster(
        width=cube.sizes[cube.rio.x_dim],
        height=cube.sizes[cube.rio.y_dim],
        transform=Affine(step_x, 0.0, left, 0.0, step_y, top),
        crs=cube.rio.crs.to_wkt(),
        dtype=dtype.name,
        nodata=None if nodata is None else float(nodata),
    )


def nodata_of(cube: xr.DataArray) -> float | None:
    """Tell which value means that there is no data.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.

    Returns
    -------
    float or None
        As its encoding or its attributes say.
    """
    try:
        encoded = cube.rio.encoded_nodata
        nodata: float | None = cube.rio.nodata if encoded is None else encoded
    except OverflowError:  # xarray hands -10000 on to what is True or False, or a small number
        return None
    return nodata


def _step(cube: xr.DataArray, dim: str) -> float:
    values = cube[dim].to_numpy().astype("float64")
    if values.size == 1:
        transform = cube.rio.transform()
        return float(transform.a if dim == cube.rio.x_dim else transform.e)
    steps = np.diff(values)
    step = float((values[-1] - values[0]) / (values.size - 1))
    if not np.allclose(steps, step, rtol=1e-6, atol=0):
        msg = (
            f"the {dim} coordinate is not evenly spaced (steps of {steps.min():g} to "
            f"{steps.max():g}); a GeoTIFF needs whole rows and columns: select without "
            "gaps, or da.interp to even steps."
        )
        raise ExportError(msg)
    return step
