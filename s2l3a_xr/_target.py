"""The grid that a user asks for, and how its pixels are to be made."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyproj
import rioxarray  # noqa: F401 - gives arrays their .rio
import shapely
import xarray as xr
from affine import Affine
from rioxarray.exceptions import RioXarrayError

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import AoiError, SelectionError
from s2l3a_xr._grid import Grid, grid_around, outline
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._kernels import KERNELS
from s2l3a_xr._product import Band, resolve_bands

Resampling: TypeAlias = "str | Mapping[str, str]"
"""One kernel, or one per band; ``"*"`` names all others."""

_EVEN = 1e-6
"""Coordinates may lie off an even spacing by this share of a pixel."""

_DIGITS = 12
"""Of a pixel size: what coordinates tell beyond is rounding."""


@runtime_checkable
class GeoBoxLike(Protocol):
    """What is needed of an ``odc.geo.geobox.GeoBox``."""

    @property
    def crs(self) -> Any:  # noqa: ANN401 - whatever pyproj takes
        """CRS of the pixels."""

    @property
    def affine(self) -> Affine:
        """From pixel corners to coordinates."""

    @property
    def shape(self) -> Sequence[int]:
        """``(height, width)``."""


def given_grid(geobox: object, like: object, *others: object) -> Grid | None:
    """Take a grid that is there already.

    Parameters
    ----------
    geobox : GeoBoxLike or None
        Such as ``odc.geo.geobox.GeoBox``.
    like : xarray.DataArray or Dataset, or None
        With a CRS that rioxarray finds.
    *others
        CRS and resolution, which it settles; both None.

    Returns
    -------
    Grid or None
        None where neither is given.

    Raises
    ------
    SelectionError
        Both are given, or others beside one, or one that is no north-up grid of square pixels.
    """
    if geobox is not None and like is not None:
        msg = "give either geobox=… or like=…, one of the two."
        raise SelectionError(msg)
    if geobox is None and like is None:
        return None
    if any(other is not None for other in others):
        msg = "geobox=… and like=… settle crs and resolution already; leave those out."
        raise SelectionError(msg)
    if like is not None:
        return _of_array(like)
    if not isinstance(geobox, GeoBoxLike) or geobox.crs is None:
        msg = "geobox=… must be an odc.geo.geobox.GeoBox with a CRS."
        raise SelectionError(msg)
    height, width = (int(size) for size in geobox.shape)
    return _square("geobox=…", geobox.affine, width, height, geobox.crs)


def _of_array(like: object) -> Grid:
    if not isinstance(like, xr.DataArray | xr.Dataset):
        msg = f"like=… must be a DataArray or Dataset, not a {type(like).__name__}."
        if isinstance(like, str | os.PathLike):
            msg += " Open the file first: like=rioxarray.open_rasterio(path)."
        raise SelectionError(msg)
    if like.rio.crs is None:
        msg = "like=… has no CRS; set it with like.rio.write_crs(…)."
        raise SelectionError(msg)
    try:
        x, y = (like[dim].to_numpy() for dim in (like.rio.x_dim, like.rio.y_dim))
        known = like.rio.transform(recalc=min(x.size, y.size) > 1)
    except (RioXarrayError, KeyError) as exc:
        msg = f"like=… has no coordinates x and y: {exc}; see like.rio.set_spatial_dims."
        raise SelectionError(msg) from exc
    step_x, step_y = _step("x", x, known.a), _step("y", y, known.e)
    corner = Affine(step_x, 0.0, x[0] - step_x / 2, 0.0, step_y, y[0] - step_y / 2)
    return _square("like=…", corner, x.size, y.size, like.rio.crs.to_wkt())


def _step(name: str, values: np.ndarray, known: float) -> float:
    if values.size == 1:
        return float(known)
    step = float(f"{(values[-1] - values[0]) / (values.size - 1):.{_DIGITS}g}")
    if not np.allclose(
        values, values[0] + step * np.arange(values.size), rtol=0, atol=_EVEN * abs(step)
    ):
        msg = f"like=… is not evenly spaced along {name}; give one whose rows and columns are."
        raise SelectionError(msg)
    return step


def _square(name: str, transform: Affine, width: int, height: int, crs: object) -> Grid:
    is_square = math.isclose(transform.a, -transform.e, rel_tol=1e-9)
    if transform.b or transform.d or transform.a <= 0 or not is_square or not width * height:
        msg = (
            f"{name} has pixels of {transform.a:g} by {transform.e:g} (rotated by "
            f"{transform.b:g}, {transform.d:g}); only grids of square pixels with north up and "
            "west first can be filled. An array whose y ascends is turned by "
            "da.sortby('y', ascending=False)."
        )
        raise SelectionError(msg)
    return Grid(
        crs=crs_text(crs), left=float(transform.c), top=float(transform.f),
        resolution=float(transform.a), width=width, height=height,
    )  # fmt: skip


def area_of(grid: Grid) -> Aoi:
    """Give a grid's extent as an area.

    Parameters
    ----------
    grid : Grid
        The lattice.

    Returns
    -------
    Aoi
        A rectangle in the grid's CRS, with vertices along its edges.
    """
    right = grid.left + grid.width * grid.resolution
    bottom = grid.top - grid.height * grid.resolution
    return outline(Aoi(features=(shapely.box(grid.left, bottom, right, grid.top),), crs=grid.crs))


def check_wishes(crs: object, resolution: float | None, resampling: Resampling) -> None:
    """Refuse what can't be on any grid, before the archive is asked.

    Parameters
    ----------
    crs : object or None
        What pyproj takes.
    resolution : float or None
        Pixel size in units of the CRS.
    resampling : str or mapping
        As `kernels_for` takes it.

    Raises
    ------
    SelectionError
        There is no such CRS, kernel or band, or the resolution can't be.
    """
    kernels_for((), resampling)
    if resolution is not None:
        _check_resolution(resolution, "a multiple of 10 metres" if crs is None else "a number")
    if crs is not None:
        _in_units(crs_text(crs), resolution, 10)


def check_overlap(grid: Grid, aoi: Aoi) -> None:
    """Refuse a grid that lies elsewhere than the area.

    Parameters
    ----------
    grid : Grid
        The lattice.
    aoi : Aoi
        The area.

    Raises
    ------
    AoiError
        They share nothing.
    """
    if not outline(aoi).to_crs(grid.crs).union.intersects(area_of(grid).union):
        msg = (
            f"the AOI ({aoi.describe()}) shares no pixel with the grid of geobox=… or like=…; "
            "check both, or leave the AOI out to fill the grid."
        )
        raise AoiError(msg)


def lay_grid(inventory: Inventory, crs: object, resolution: float | None) -> Grid:
    """Lay a grid around an inventory's area.

    Parameters
    ----------
    inventory : Inventory
        What the archive has.
    crs : object or None
        What pyproj takes; None for that of the tiles.
    resolution : float or None
        Pixel size in units of the CRS; None for the files' own.

    Returns
    -------
    Grid
        Around the area, as far as there are tiles.

    Raises
    ------
    SelectionError
        There is no such CRS, or the resolution can't be.
    """
    native = inventory.grid
    if crs is None and resolution is None:
        return native
    text = native.crs if crs is None else crs_text(crs)
    step = _in_units(text, resolution, native.resolution)
    return grid_around(inventory.aoi, inventory.cover.tiles, step, text)


def _check_resolution(resolution: Any, rule: str) -> None:  # noqa: ANN401 - checked here
    is_number = isinstance(resolution, int | float | np.number) and resolution is not True
    if is_number and 0 < resolution < math.inf and (rule == "a number" or resolution % 10 == 0):
        return
    msg = f"resolution={resolution!r} must be {rule} greater than 0."
    raise SelectionError(msg)


def _in_units(crs: str, resolution: float | None, resolution_m: float) -> float:
    """Pixel size in units of a CRS: as given, else that of the files."""
    parsed = pyproj.CRS(crs)
    if not parsed.is_projected and (resolution is None or resolution >= 1):
        given = (
            "must be given" if resolution is None else f"of {resolution:g} degrees is too coarse"
        )
        msg = (
            f"resolution=… {given} for {parsed.name}, in its units: for example "
            f"resolution={resolution_m / 1e5:g} degrees for about {resolution_m:g} m."
        )
        raise SelectionError(msg)
    if resolution is not None:
        return float(resolution)
    return float(resolution_m / parsed.axis_info[0].unit_conversion_factor)


def crs_text(crs: object) -> str:
    """Name a CRS.

    Parameters
    ----------
    crs : object
        What pyproj takes.

    Returns
    -------
    str
        ``EPSG:n`` or WKT.

    Raises
    ------
    SelectionError
        There is no such CRS, or it has no plane.
    """
    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as exc:
        msg = f"crs={crs!r} is no CRS: {exc}; give for example 'EPSG:3035'."
        raise SelectionError(msg) from exc
    if not (parsed.is_projected or parsed.is_geographic) or len(parsed.axis_info) != 2:  # noqa: PLR2004
        msg = f"crs={parsed.name!r} must have two axes, easting and northing or lon and lat."
        raise SelectionError(msg)
    code = parsed.to_epsg()
    if code and pyproj.CRS(code).equals(parsed, ignore_axis_order=True):
        return f"EPSG:{code}"
    return str(parsed.to_wkt())


def kernels_for(layers: Sequence[Band], resampling: Resampling) -> tuple[str, ...]:
    """Say how each band's pixels are made.

    Parameters
    ----------
    layers : sequence of Band
        The bands.
    resampling : str or mapping
        One kernel, or one per band by any of its names; ``"*"`` stands for all others.

    Returns
    -------
    tuple of str
        Per band; masks are always ``nearest``.

    Raises
    ------
    SelectionError
        No such kernel or band.

    Examples
    --------
    >>> kernels_for(resolve_bands(["B4", "B11", "FLG"]), {"swir16": "bilinear"})
    ('nearest', 'bilinear', 'nearest')
    """
    if isinstance(resampling, Mapping):
        named = {
            resolve_bands(name)[0].native: kernel
            for name, kernel in resampling.items()
            if name != "*"
        }
        default = resampling.get("*", "nearest")
    else:
        named, default = {}, resampling
    for kernel in (default, *named.values()):
        if kernel not in KERNELS:
            msg = f"resampling={kernel!r} must be one of {', '.join(map(repr, KERNELS))}."
            raise SelectionError(msg)
    return tuple(
        "nearest" if layer.is_mask else named.get(layer.native, default) for layer in layers
    )


def label_like(da: xr.DataArray, like: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Take over x and y to the last bit: xarray aligns equal labels alone.

    Parameters
    ----------
    da : xarray.DataArray
        On the grid of the other.
    like : xarray.DataArray or Dataset
        The other.

    Returns
    -------
    xarray.DataArray
        The same pixels.
    """
    labels = {"x": like[like.rio.x_dim], "y": like[like.rio.y_dim]}
    return da.assign_coords(
        {dim: (dim, label.to_numpy(), da[dim].attrs) for dim, label in labels.items()}
    )
