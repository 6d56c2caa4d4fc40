"""The front door: from an area of interest to a lazy DataArray."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import shapely
import xarray as xr

from s2l3a_xr._aoi import AoiLike
from s2l3a_xr._discover import look_for_flags
from s2l3a_xr._errors import (
    AoiWarning,
    SelectionError,
    warn_user,
)
from s2l3a_xr._flags import FlagEncoding, Mask, check_encoding, check_share, read_classes
from s2l3a_xr._grid import Grid
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._kept import months_to_keep
from s2l3a_xr._labels import label_request
from s2l3a_xr._mosaic import inside, to_pixels
from s2l3a_xr._product import band_names, resolve_bands
from s2l3a_xr._quality import clear_request
from s2l3a_xr._request import make_request
from s2l3a_xr._search import DEFAULT_BANDS, find_inventory
from s2l3a_xr._selection import Numbers
from s2l3a_xr._stac import ArchiveLike
from s2l3a_xr._target import (
    GeoBoxLike,
    Resampling,
    area_of,
    check_overlap,
    check_wishes,
    crs_text,
    given_grid,
    kernels_for,
    label_like,
    lay_grid,
)
from s2l3a_xr._transport import Transport, run_with_session

_FEW_PX = 2**16
"""Grids up to this size are looked at: whether any pixel is left."""

_POLICIES = ("warn", "keep", "raise")


@knows_keywords
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
    mask: Mask = None,
    max_masked: float | None = None,
    flag_encoding: FlagEncoding = "classes",
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
        object. By default what the environment variable ``S2L3A_ARCHIVE`` names, else DLR's
        download server.
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
    mask : str, int, iterable of those, False or None, optional
        Classes of FLG whose pixels become nodata in reflectances: ``("cloud", "snow")``, of
        ``nodata``, ``cloud``, ``snow``, ``water``, ``land`` (0 to 4). Each pixel is judged by FLG
        of the product that gives it, and what is masked stays nodata. Overviews are not used.
    max_masked : float, optional
        Leave out months of which a larger share of the area (0 to 1) is nodata or of the classes
        in ``mask``, by default cloud and snow. FLG is read for it now.
    flag_encoding : {"classes", "bits"}, default "classes"
        What the numbers in FLG mean: classes as WASP writes them, or bits as DLR's page says.
    mask_and_scale : bool, default False
        Give float32 reflectance with NaN instead of int16 with nodata -10000.
    chunks : "auto", int, dict, tuple or None, default "auto"
        dask chunks as in ``xarray.open_dataset``; ``"auto"`` makes them as large as dask's
        ``array.chunk-size`` allows, since many requests in flight make reading fast; None
        gives an array without dask that reads when it is indexed.
    missing : {"warn", "keep", "raise"}, default "warn"
        What to do about months, tiles and files that the archive has not got: leave empty
        months out and warn, keep them as nodata, or raise. A listed file that turns out to be
        gone (404, 410, 451) when it is read is nodata, with a warning, silently, or raises.
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
    MaskedWarning
        Months were left out by ``max_masked``.
    AoiWarning
        Part of the area lies outside the offered tiles, or it holds no pixel's centre.

    Notes
    -----
    The product is DLR's Sentinel-2 L3A of the WASP processor (CC-BY-4.0).

    Where tiles overlap, the first valid pixel in the order of the tiles' names is taken; of
    several zones, the grid's own goes first. A pixel is of the first zone on whose tiles its
    centre lies, and of a later one where that has no data; each zone is resampled on its own.

    References
    ----------
    https://geoservice.dlr.de/web/datasets/s2_l3a_wasp, https://doi.org/10.15489/4hcq6dgkj648

    Examples
    --------
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> da = open_l3a(
    ...     (11.68, 51.94, 11.76, 51.99), years=2021, months=[4, 5], bands=["B4"], archive=archive
    ... )
    >>> da.dims, da.dtype, da.sizes["time"]
    (('time', 'band', 'y', 'x'), dtype('int16'), 2)
    """
    grid = given_grid(geobox, like, crs, resolution)
    if grid is not None and aoi is None and inventory is None:
        aoi, clip = area_of(grid), False
    hidden = read_classes(mask)
    _check_options(aoi, inventory, missing)
    check_encoding(flag_encoding)
    check_share(max_masked)
    if inventory is not None:
        asked = {"years": years, "months": months, "time": time, "archive": archive}
        told = None if verify == "auto" else verify
        inventory = take_settled(inventory, **asked, bands=bands, verify=told)
        names = inventory.bands
    else:
        names = band_names(bands)
    check_wishes(crs, resolution, resampling)
    settings = transport or Transport()
    needs_flags = bool(hidden) or max_masked is not None
    if inventory is None:
        inventory = find_inventory(
            aoi,
            years=years, months=months, time=time, archive=archive, verify=verify,
            bands=with_flags(names) if needs_flags else names, transport=settings,
            zone=grid.crs if grid is not None else None if crs is None else crs_text(crs),
        )  # fmt: skip
    elif needs_flags:
        inventory = find_flags(inventory, settings)
    kept = months_to_keep(inventory, missing, judged=needs_flags)
    if grid is None:
        grid = lay_grid(inventory, crs, resolution)
    else:
        check_overlap(grid, inventory.aoi)
    layers = resolve_bands(names)
    request = make_request(
        inventory,
        grid,
        kept,
        _area_in_pixels(inventory, grid, all_touched=all_touched) if clip else None,
        bands=[layer.native for layer in layers],
        resampling=kernels_for(layers, resampling),
        all_touched=all_touched,
        use_overviews=use_overviews,
        missing=missing,
        fail_on_error=fail_on_error,
        transport=inventory.origin.settings(settings),
        hidden=hidden,
        flag_encoding=flag_encoding,
    )
    if needs_flags:
        request.check_layers("FLG")
    if max_masked is not None:
        request = clear_request(request, hidden, max_masked)
    da = label_request(
        request, inventory.origin, names, chunks=chunks, mask_and_scale=mask_and_scale
    )
    return da if like is None else label_like(da, like)


def with_flags(names: tuple[str, ...]) -> tuple[str, ...]:
    """Ask for FLG as well.

    Parameters
    ----------
    names : tuple of str
        Bands.

    Returns
    -------
    tuple of str
        With FLG among them.
    """
    has = any(layer.native == "FLG" for layer in resolve_bands(names))
    return names if has else (*names, "FLG")


def find_flags(inventory: Inventory, transport: Transport) -> Inventory:
    """Find out where FLG is there, for an inventory that was not asked for it.

    Parameters
    ----------
    inventory : Inventory
        As found, or loaded.
    transport : Transport
        How the network is used.

    Returns
    -------
    Inventory
        With FLG, where listings tell.
    """
    return run_with_session(transport, lambda session: look_for_flags(session, inventory))


def _check_options(aoi: object, inventory: object, missing: str) -> None:
    if (aoi is None) == (inventory is None):
        msg = "give either an AOI or inventory=…, one of the two."
        raise SelectionError(msg)
    if missing not in _POLICIES:
        msg = f"missing={missing!r} must be one of {', '.join(map(repr, _POLICIES))}."
        raise SelectionError(msg)


def take_settled(inventory: Inventory | str | os.PathLike[str], **asked: object) -> Inventory:
    """Take an inventory, and refuse what it has settled already.

    Parameters
    ----------
    inventory : Inventory or path
        As found, or a file of it.
    **asked : object
        What else was asked for; None, and the default bands, are nothing.

    Returns
    -------
    Inventory
        Loaded.

    Raises
    ------
    SelectionError
        Something else was asked for.
    """
    named = [name for name, value in asked.items() if value is not None and name != "bands"]
    if asked["bands"] != DEFAULT_BANDS:
        named.append("bands")
    if named:
        msg = f"inventory=… settles {', '.join(named)} already; ask search_l3a for it instead."
        raise SelectionError(msg)
    return inventory if isinstance(inventory, Inventory) else Inventory.load(inventory)


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
