"""The front door: from an area of interest to a lazy DataArray."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import rioxarray  # noqa: F401 - gives the result its .rio
import shapely
import xarray as xr
from dask.base import tokenize
from xarray.core import indexing

from s2l3a_xr._aoi import AoiLike
from s2l3a_xr._chunks import DIMS, resolve_chunks
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import (
    AoiWarning,
    MissingError,
    MissingWarning,
    SelectionError,
    redact,
    warn_user,
)
from s2l3a_xr._failures import listen
from s2l3a_xr._grid import Grid
from s2l3a_xr._inventory import Inventory, month_text
from s2l3a_xr._mosaic import inside, to_pixels
from s2l3a_xr._product import BANDS, QUANTIFICATION
from s2l3a_xr._request import Request, make_request
from s2l3a_xr._search import DEFAULT_BANDS, search_l3a
from s2l3a_xr._selection import Month, Numbers, spans_text
from s2l3a_xr._stac import ArchiveLike
from s2l3a_xr._target import (
    GeoBoxLike,
    Resampling,
    area_of,
    check_overlap,
    check_wishes,
    given_grid,
    kernels_for,
    label_like,
    lay_grid,
)
from s2l3a_xr._transport import Transport

_FEW_PX = 2**16
"""Grids up to this size are looked at: whether any pixel is left."""

_POLICIES = ("warn", "keep", "raise")


def open_l3a(  # noqa: PLR0913 - one keyword for each thing that users may want to say
    aoi: AoiLike | None = None,
    *,
    years: Numbers | None = None,
    months: Numbers | None = None,
    time: Any = None,  # noqa: ANN401 - many forms, see the docstring
    bands: str | Iterable[str] = DEFAULT_BANDS,
    archive: ArchiveLike = None,
    inventory: Inventory | str | os.PathLike[str] | None = None,
    verify: bool | Literal["auto"] = "auto",
    crs: Any = None,  # noqa: ANN401 - whatever pyproj takes
    resolution: float | None = None,
    geobox: GeoBoxLike | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    resampling: Resampling = "nearest",
    use_overviews: bool = True,
    clip: bool = True,
    all_touched: bool = False,
    mask_and_scale: bool = False,
    chunks: Any = "auto",  # noqa: ANN401 - xarray's many forms
    missing: Literal["warn", "keep", "raise"] = "warn",
    fail_on_error: bool = True,
    transport: Transport | None = None,
) -> xr.DataArray:
    """Open monthly cloud-free Sentinel-2 mosaics as one lazy array.

    Only listings are read here; pixels cross the network when the array is computed, and
    then no more of them than the TIFF blocks that the area touches.

    Parameters
    ----------
    aoi : path, GeoDataFrame, GeoSeries, shapely geometry, GeoJSON mapping or tuple of float
        The area; ``(minx, miny, maxx, maxy)`` and what has no CRS are lon/lat.
    years, months : int, iterable of int or str, optional
        Every one of ``months`` (default all twelve) in every one of ``years`` (default all
        that the archive has): ``2021``, ``range(3, 11)``, ``"3-10"``.
    time : str, slice, datetime64, Period or sequence of those, optional
        Instead of years and months: ``"2021-03/2021-10"``, the end included.
    bands : str or iterable of str, default ("B2", "B3", "B4", "B8")
        Native (``B4``) or common (``red``) names.
    archive : str, path, StacArchive, STAC items or Archive, optional
        A URL or folder in DLR's layout; the URL of a STAC API, or ``"dlr-stac"`` for DLR's; a
        static STAC catalogue, item collection or item as URL, ``.json`` file, dict or pystac
        object. DLR's download server by default.
    inventory : Inventory or path, optional
        What `search_l3a` found, or a file that `Inventory.save` wrote, instead of all the above
        (an error beside it): nothing is listed again.
    verify : bool or "auto", default "auto"
        Whether every product's folder is listed, see `search_l3a`.
    crs : str, int, pyproj.CRS or other, optional
        CRS of the result: anything that pyproj takes. By default the UTM zone whose tiles hold
        most of the area; tiles of other zones are resampled onto its grid.
    resolution : float, optional
        Pixel size in units of the CRS, without ``crs`` a multiple of 10 metres; by default 10 m
        if any 10 m band is asked for, else 20 m. Degrees have no default.
    geobox : odc.geo.geobox.GeoBox, optional
        Grid of the result, instead of ``crs`` and ``resolution``: square pixels, north up. The
        area may be left out: it is the grid's extent.
    like : DataArray or Dataset, optional
        An array with a CRS whose grid the result gets, x and y alike to the bit.
    resampling : {"nearest", "bilinear", "cubic", "average"} or dict, default "nearest"
        How pixels are made that don't coincide with a file's, for all bands or by band
        (``{"B11": "bilinear", "*": "nearest"}``). Nearest takes the file's pixel under the
        pixel's centre. Masks are always nearest.
    use_overviews : bool, default True
        Read grids coarser than 20 m from the files' overviews, where resampling is nearest: for
        a coarse look at little cost. Overviews are averages that mix nodata in at edges; values
        below 0 are taken for nodata. False takes single full-resolution pixels instead.
    clip : bool, default True
        Set pixels outside the area to nodata; False keeps its bounding box.
    all_touched : bool, default False
        Keep pixels that the area touches at all; else those whose centre lies inside.
    mask_and_scale : bool, default False
        Give float32 reflectance with NaN instead of int16 with nodata -10000.
    chunks : "auto", int, dict, tuple or None, default "auto"
        dask chunks as in ``xarray.open_dataset``; ``"auto"`` makes them as large as dask's
        ``array.chunk-size`` allows, since many requests in flight make reading fast; None
        gives an array without dask that reads when it is indexed.
    missing : {"warn", "keep", "raise"}, default "warn"
        What to do about months, tiles and files that the archive has not got: leave empty
        months out and warn, keep them as nodata, or raise. A listed file that turns out to be
        gone (404, 410) when it is read counts as nodata, with a warning, silently, or raises.
    fail_on_error : bool, default True
        Raise when a file can't be read. False leaves nodata where it failed, warns once, and
        lists it in ``da.l3a.failures()``.
    transport : Transport, optional
        How the network is used; travels with the array.

    Returns
    -------
    xarray.DataArray
        Dims (time, band, y, x); int16 DN (reflectance x 10000) with nodata -10000 in
        ``attrs["_FillValue"]``, or float32 reflectance (unit 1). ``x`` and ``y`` are pixel
        centres in units of the CRS, ``y`` descending. No pixel has been read.

    Raises
    ------
    AoiError, SelectionError
        The request can't be understood.
    MissingError
        The archive has nothing for it, or not all and ``missing="raise"``.
    ArchiveError
        The archive can't be read.
    ReadError
        When the array is computed: a file can't be read, or is gone and ``missing="raise"``.

    Warns
    -----
    MissingWarning
        Months, tiles or files are missing; also when the array is computed.
    ReadFailedWarning
        When the array is computed with ``fail_on_error=False``: something failed.
    AoiWarning
        Part of the area lies outside the offered tiles, or it holds no pixel's centre.

    Notes
    -----
    The product is DLR's Sentinel-2 L3A of the WASP processor, see
    https://geoservice.dlr.de/web/datasets/s2_l3a_wasp (CC-BY-4.0).

    Where tiles overlap, the first valid pixel in the order of the tiles' names is taken; of
    several zones, the grid's own goes first. A pixel is of the first zone on whose tiles its
    centre lies, and of a later one where that has no data; each zone is resampled on its own.

    Examples
    --------
    >>> archive = getfixture("sample_archive_url")  # a server with the sample archive
    >>> da = open_l3a(
    ...     (11.68, 51.94, 11.76, 51.99), years=2021, months=[4, 5], bands=["B4"], archive=archive
    ... )
    >>> da.dims, da.dtype, da.sizes["time"]
    (('time', 'band', 'y', 'x'), dtype('int16'), 2)
    """
    grid = given_grid(geobox, like, crs, resolution)
    if grid is not None and aoi is None and inventory is None:
        aoi, clip = area_of(grid), False
    _check_options(aoi, inventory, missing)
    if inventory is not None:
        asked = {"years": years, "months": months, "time": time, "archive": archive}
        _check_alone(**asked, bands=bands, verify=None if verify == "auto" else verify)
        if not isinstance(inventory, Inventory):
            inventory = Inventory.load(inventory)
    check_wishes(crs, resolution, resampling)
    settings = transport or Transport()
    if inventory is None:
        inventory = search_l3a(
            aoi,
            years=years, months=months, time=time, bands=bands, archive=archive,
            verify=verify, transport=settings,
        )  # fmt: skip
    kept = _months_to_keep(inventory, missing)
    if grid is None:
        grid = lay_grid(inventory, crs, resolution)
    else:
        check_overlap(grid, inventory.aoi)
    request = make_request(
        inventory,
        grid,
        kept,
        _area_in_pixels(inventory, grid, all_touched=all_touched) if clip else None,
        resampling=kernels_for(inventory.layers, resampling),
        all_touched=all_touched,
        use_overviews=use_overviews,
        missing=missing,
        fail_on_error=fail_on_error,
        transport=inventory.origin.settings(settings),
    )
    da = _to_dataarray(request, inventory, chunks=chunks, mask_and_scale=mask_and_scale)
    return da if like is None else label_like(da, like)


def _check_options(aoi: object, inventory: object, missing: str) -> None:
    if (aoi is None) == (inventory is None):
        msg = "give either an AOI or inventory=…, one of the two."
        raise SelectionError(msg)
    if missing not in _POLICIES:
        msg = f"missing={missing!r} must be one of {', '.join(map(repr, _POLICIES))}."
        raise SelectionError(msg)


def _check_alone(**asked: object) -> None:
    """Refuse what an inventory has settled already."""
    named = [name for name, value in asked.items() if value is not None and name != "bands"]
    if asked["bands"] != DEFAULT_BANDS:
        named.append("bands")
    if named:
        msg = f"inventory=… settles {', '.join(named)} already; ask search_l3a for it instead."
        raise SelectionError(msg)


def _months_to_keep(inventory: Inventory, missing: str) -> list[Month]:
    """Apply the policy on what the archive has not got."""
    empty = set(inventory.missing_months)
    if inventory.available < len(inventory) and missing != "keep":
        text = (
            f"the archive has {inventory.available} of {len(inventory)} files: {_gaps(inventory)}"
        )
        if not inventory.available:
            asked = f"bands {', '.join(inventory.bands)} of {', '.join(inventory.tiles)}"
            msg = (
                f"{text} ({asked} in {redact(inventory.archive_url)}). Ask for other bands or "
                "months, or print search_l3a(…) of them to see what there is."
            )
            raise MissingError(msg)
        if missing == "raise":
            msg = f"{text}. missing='warn' leaves empty months out and goes on."
            raise MissingError(msg)
        warn_user(f"{text}. Empty months are left out.", MissingWarning)
    return [month for month in inventory.months if missing == "keep" or month not in empty]


def _gaps(inventory: Inventory) -> str:
    empty = inventory.missing_months
    told = [f"nothing in {spans_text(empty)}"] if empty else []
    partial = [
        f"{name} of {cell.tile} in {month_text(cell.month)}"
        for cell in inventory.cells
        if cell.month not in empty
        for name, has in zip(inventory.bands, cell.has, strict=True)
        if not has
    ]
    if partial:
        where = "in other months " if empty else ""
        told.append(f"{where}{len(partial)} missing, first {partial[0]}")
    return "; ".join(told)


def _area_in_pixels(inventory: Inventory, grid: Grid, *, all_touched: bool) -> bytes:
    features = inventory.aoi.to_crs(grid.crs).features
    pixels = to_pixels(features, grid)
    height, width = grid.shape
    if not all_touched and height * width <= _FEW_PX:
        mask = inside(pixels, grid.shape, np.arange(height), np.arange(width), all_touched=False)
        if not mask.any():
            warn_user(
                f"the AOI at {inventory.aoi.describe()} is so small that no pixel's centre lies in "
                "it: all is nodata. all_touched=True (--all-touched) keeps the pixels it touches.",
                AoiWarning,
            )
    return bytes(shapely.to_wkb(shapely.GeometryCollection(list(pixels))))


def _to_dataarray(
    request: Request,
    inventory: Inventory,
    *,
    chunks: Any,  # noqa: ANN401 - xarray's many forms
    mask_and_scale: bool,
) -> xr.DataArray:
    array = L3AArray(request)
    listen(lambda: array.token)
    attrs = _attrs(request, inventory, array)
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(array), attrs)
    if chunks is not None:
        sizes = resolve_chunks(request, chunks)
        # Chunks are part of the name: dask takes equal names for equal blocks.
        name = f"open_l3a-{tokenize(array.token, sizes)}"
        variable = variable.chunk(dict(zip(DIMS, sizes, strict=True)), name=name, lock=False)
    layers = [BANDS[name] for name in request.bands]
    da = xr.DataArray(
        variable,
        name="s2_l3a",
        coords={
            "time": ("time", _dates(request), {"long_name": "month of the mosaic"}),
            "band": ("band", list(inventory.bands)),
            "common_name": ("band", [layer.common for layer in layers]),
            "native_name": ("band", [layer.native for layer in layers]),
            "y": request.grid.y,
            "x": request.grid.x,
        },
    )
    da = da.rio.write_crs(request.grid.crs).rio.write_transform(request.grid.transform)
    da = da.rio.write_coordinate_system()
    return _scale(da) if mask_and_scale else da


def _dates(request: Request) -> np.ndarray:
    days = [
        next(iter({p.day for p, _ in products})) if len({p.day for p, _ in products}) == 1 else 15
        for products in request.products
    ]
    text = [f"{y:04}-{m:02}-{d:02}" for (y, m), d in zip(request.months, days, strict=True)]
    return np.array(text, dtype="datetime64[ns]")


def _attrs(request: Request, inventory: Inventory, array: L3AArray) -> dict[str, Any]:
    tiles = sorted({p.tile for products in request.products for p, _ in products})
    versions = sorted({p.version for products in request.products for p, _ in products})
    return {
        "_FillValue": request.dtype.type(request.fill),
        **_meaning(request),
        "title": "Sentinel-2 L3A monthly cloud-free mosaic (WASP, Germany)",
        "institution": "German Aerospace Center (DLR), Earth Observation Center",
        "source": redact(request.archive_url),
        "references": inventory.origin.references,
        "license": inventory.origin.license,
        "attribution": "DLR; contains modified Copernicus Sentinel data",
        "tiles": tiles,
        "product_versions": versions,
        "request": array.token,
        "Conventions": "CF-1.11",
        **({"catalogue": inventory.origin.catalogue} if inventory.origin.catalogue else {}),
    } | _overview_note(request)


def _meaning(request: Request) -> dict[str, str]:
    kinds = {BANDS[band].kind for band in request.bands}
    if kinds == {"reflectance"}:
        what = "surface reflectance x 10000"
        return {"long_name": f"Sentinel-2 L3A WASP {what}", "units": "1e-4"}
    what = "; ".join(f"{band}: {BANDS[band].title}" for band in request.bands)
    return {"long_name": f"Sentinel-2 L3A WASP layers ({what})"}


def _overview_note(request: Request) -> dict[str, str]:
    if not any(request.manner(band).overviews for band in range(len(request.bands))):
        return {}
    note = "read from overviews: averages that mix nodata in at edges; for pictures, no statistics"
    return {"comment": note}


def _scale(da: xr.DataArray) -> xr.DataArray:
    """Give reflectance, with the encoding that writes the same numbers back."""
    spectral = [BANDS[str(name)].kind == "reflectance" for name in da["native_name"].to_numpy()]
    if not all(spectral):
        msg = "mask_and_scale=True is for reflectance; open FLG, WGT and DTS without it."
        raise SelectionError(msg)
    fill = da.attrs["_FillValue"]
    scaled = da.where(da != fill).astype("float32") / np.float32(QUANTIFICATION)
    scaled.attrs = {k: v for k, v in da.attrs.items() if k != "_FillValue"}
    scaled.attrs["long_name"] = "Sentinel-2 L3A WASP surface reflectance"
    scaled.attrs["units"] = "1"
    scaled.encoding = {
        "_FillValue": fill, "dtype": "int16", "scale_factor": 1 / QUANTIFICATION,
        "grid_mapping": "spatial_ref",
    }  # fmt: skip
    return scaled
