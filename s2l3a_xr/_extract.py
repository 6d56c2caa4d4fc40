"""From many fields or points to a series of statistics for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import dask
import dask.array
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from dask.delayed import delayed
from dask.utils import parse_bytes

from s2l3a_xr._aoi import Aoi, AoiLike
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import AoiWarning, SelectionError, warn_user
from s2l3a_xr._features import EQUAL_AREA, area_around, read_features, some_of
from s2l3a_xr._flags import FlagEncoding, Mask, check_encoding, read_classes
from s2l3a_xr._footprint import Method, check_method
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._kept import months_to_keep
from s2l3a_xr._labels import attrs_of, dates_of
from s2l3a_xr._open import find_flags, take_settled, with_flags
from s2l3a_xr._product import BANDS, QUANTIFICATION, Band, band_names, resolve_bands
from s2l3a_xr._progress import run_counted
from s2l3a_xr._request import Request, make_request
from s2l3a_xr._search import DEFAULT_BANDS, search_l3a
from s2l3a_xr._selection import Numbers
from s2l3a_xr._stac import ArchiveLike
from s2l3a_xr._statistics import STATISTICS, check_statistics
from s2l3a_xr._target import kernels_for
from s2l3a_xr._transport import Transport
from s2l3a_xr._zonal import Home, Part, find_homes, read_part

_FLAGS = frozenset({"FLG", "flg"})
_MOST_FEATURES = 5000
"""Features of one task."""

_BYTES_OF_A_PLACE = 64
"""What a pixel takes of memory while its place is sought, for all bands and months."""

_BYTES_OF_A_PIXEL = 16
"""What a pixel takes more for each band and month while it is summarised."""


@knows_keywords
def extract_l3a(  # noqa: PLR0913 - one keyword for each thing that users may want to say
    geometries: AoiLike,
    stats: str | Iterable[str] = ("mean", "std", "count"),
    *,
    years: Numbers | None = None,
    months: Numbers | None = None,
    time: Any = None,  # noqa: ANN401 - many forms, see the docstring
    bands: str | Iterable[str] = DEFAULT_BANDS,
    archive: ArchiveLike = None,
    inventory: Inventory | str | os.PathLike[str] | None = None,
    method: Method = "centre",
    mask: Mask = None,
    flag_encoding: FlagEncoding = "classes",
    mask_and_scale: bool = False,
    missing: Literal["warn", "keep", "raise"] = "warn",
    fail_on_error: bool = True,
    compute: bool = True,
    progress: bool = True,
    transport: Transport | None = None,
) -> xr.Dataset:
    """Compute statistics of fields or points for each month and band.

    No mosaic is made: of each file those TIFF blocks are read that the features touch, each of
    them once, and reduced at once. Every band is measured in its own pixels (10 or 20 m), every
    feature in the UTM zone whose tiles hold most of it; nothing is resampled.

    Parameters
    ----------
    geometries : path, GeoDataFrame, GeoSeries, shapely geometry, GeoJSON mapping or tuple of float
        Polygons and points, thousands of them if you like; they may overlap. What has no CRS is
        lon/lat.
    stats : str or iterable of str, default ("mean", "std", "count")
        Of ``count``, ``sum``, ``mean``, ``std`` (of the population), ``min``, ``max`` and
        ``median``. Nodata never counts. DTS counts days from 1 January of the month's own year,
        those of the December before below 0.
    years, months, time, bands, archive, inventory, missing, fail_on_error, transport
        As for `open_l3a`.
    method : {"centre", "exact"}, default "centre"
        Pixels whose centre lies inside a polygon, as ``rasterio.mask`` takes them; or all that it
        touches, each with the share that it covers as its weight (needs the extra ``zonal``; no
        median). A point takes the pixel that it lies in.
    mask, flag_encoding
        As for `open_l3a`: pixels of these classes don't count. FLG is read in each band's own
        pixel size.
    mask_and_scale : bool, default False
        Give reflectance instead of reflectance x 10000.
    compute : bool, default True
        Read now. False gives dask arrays, to be computed later or on a cluster's workers; with
        True a `distributed.Client` is used as well, if there is one.
    progress : bool, default True
        Show a bar on stderr while computing.

    Returns
    -------
    xarray.Dataset
        A float64 variable for each statistic, dims (time, band, feature), in the bands' own
        numbers (reflectance x 10000 unless scaled, weight x 1000, days), NaN where a feature has
        no pixel with data (``count`` and ``sum``: 0). ``count`` is a number of pixels; with
        ``method="exact"`` a sum of shares. ``feature`` is the index of a GeoDataFrame or
        GeoSeries, else 0, 1, … (dates in UTC; as text where it mixes types); ``tile`` names the
        tile that a feature lies on first.
        ``to_dataframe()`` makes a table of it.

    Raises
    ------
    AoiError, SelectionError
        The request can't be understood.
    MissingError
        The archive has nothing for it, or not all and ``missing="raise"``.
    ArchiveError
        The archive can't be read.
    ReadError
        A file can't be read.
    ImportError
        exactextract is not there (``pip install "s2l3a_xr[zonal]"``).

    Warns
    -----
    MissingWarning
        Months, tiles or files are missing.
    AoiWarning
        Part of a feature lies beyond the tiles of its zone, or was repaired.

    References
    ----------
    https://geoservice.dlr.de/web/datasets/s2_l3a_wasp, https://doi.org/10.15489/4hcq6dgkj648

    Examples
    --------
    >>> import geopandas as gpd, shapely
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> fields = gpd.GeoSeries(
    ...     [shapely.box(11.70, 51.95, 11.705, 51.953), shapely.Point(11.72, 51.96)],
    ...     index=["field", "point"], crs="EPSG:4326",
    ... )
    >>> table = extract_l3a(
    ...     fields, "mean", time="2021-05/2021-06", bands=["B4", "B8"], archive=archive,
    ...     progress=False,
    ... )
    >>> table["mean"].dims, table["feature"].values.tolist()
    (('time', 'band', 'feature'), ['field', 'point'])
    """
    check_method(method)
    names = check_statistics(stats, weighted=method == "exact")
    features = read_features(geometries)
    settings = transport or Transport()
    area = area_around(features)
    hidden = read_classes(mask)
    check_encoding(flag_encoding)
    if inventory is None:
        wanted = band_names(bands)
        inventory = search_l3a(
            area, years=years, months=months, time=time, archive=archive,
            bands=with_flags(wanted) if hidden else wanted, transport=settings,
        )  # fmt: skip
    else:
        inventory = take_settled(
            inventory, years=years, months=months, time=time, archive=archive, bands=bands
        )
        inventory = find_flags(inventory, settings) if hidden else inventory
        # A catalogue whose files lie anywhere must be asked for FLG if it is to mask.
        others = tuple(name for name in inventory.bands if name not in _FLAGS)
        wanted = others if hidden and others else inventory.bands
    layers = resolve_bands(wanted)
    _check_bands(layers, scaled=mask_and_scale)
    request = make_request(
        inventory,
        inventory.grid,
        months_to_keep(inventory, missing, judged=bool(hidden)),
        None,
        bands=[layer.native for layer in layers],
        resampling=kernels_for(layers, "nearest"),
        all_touched=False,
        use_overviews=False,
        missing=missing,
        fail_on_error=fail_on_error,
        transport=inventory.origin.settings(settings),
        hidden=hidden,
        flag_encoding=flag_encoding,
    )
    if hidden:
        _check_flags(request, layers)
    array = L3AArray(request)
    array.announce()
    aoi = Aoi(features=tuple(features), crs=features.crs.to_wkt())
    homes = find_homes(aoi, inventory.cover.tiles)
    _warn_of_borders(features.index, homes)
    tiles = _home_tiles(aoi, inventory, homes)
    values = _values(array, aoi, tiles, names, method, compute=compute, progress=progress)
    dataset = _dataset(values, names, inventory, array, scaled=mask_and_scale)
    labels: dict[str, Any] = {"band": list(wanted), "feature": _names(features.index)}
    return dataset.assign_coords(**labels, tile=("feature", tiles))


def _check_bands(layers: Sequence[Band], *, scaled: bool) -> None:
    kinds = {layer.kind for layer in layers}
    if "flag" in kinds:
        msg = "FLG holds classes, which have no mean; da.l3a.quality() counts them."
        raise SelectionError(msg)
    if scaled and kinds != {"reflectance"}:
        msg = "mask_and_scale=True is for reflectance; leave it out for WGT and DTS."
        raise SelectionError(msg)


def _check_flags(request: Request, layers: Sequence[Band]) -> None:
    request.check_layers("FLG")
    if not request.is_named and len({layer.resolution_m for layer in layers}) > 1:
        msg = (
            "mask=… needs bands of one pixel size in this archive: ask for 10 and 20 m one by one."
        )
        raise SelectionError(msg)


def _warn_of_borders(names: pd.Index, homes: Home) -> None:
    beyond = homes.held < 1 - 1e-6
    if beyond.any():
        warn_user(
            f"{some_of(names[beyond])} reach past the tiles of the zone that they are measured in, "
            f"by up to {1 - homes.held.min():.0%}: only what lies on those tiles counts.",
            AoiWarning,
        )


def _home_tiles(aoi: Aoi, inventory: Inventory, homes: Home) -> np.ndarray:
    """Name the first tile of the cover that a feature lies on."""
    found = np.full(len(aoi.features), "", dtype=object)
    for i, zone in enumerate(homes.zones):
        shapes = np.array(aoi.to_crs(zone).features, dtype=object)
        for tile in inventory.cover.tiles:
            if tile.crs == zone:
                free = (homes.zone == i) & (found == "")
                found[free & shapely.intersects(tile.box, shapes)] = tile.name
    return found.astype(str)


def _values(
    array: L3AArray,
    aoi: Aoi,
    tiles: np.ndarray,
    names: tuple[str, ...],
    method: Method,
    *,
    compute: bool,
    progress: bool,
) -> Any:  # noqa: ANN401 - a numpy or a dask array
    """Measure, a task for features of one tile and some months each."""
    request = array.request
    wkb = shapely.to_wkb(np.array(aoi.features, dtype=object))
    pixels = _pixels(aoi, request)
    groups = list(_groups(aoi, tiles, pixels))
    rows = [
        [
            Part(
                shapes=tuple(wkb[group].tolist()),
                crs=aoi.crs,
                times=times,
                method=method,
                stats=names,
                is_shared=len(groups) > 1,
            )
            for times in _runs(request, float(pixels[group].sum()))
        ]
        for group in groups
    ]
    tasks = [[delayed(read_part)(array, part) for part in row] for row in rows]
    back = np.argsort(np.concatenate(groups))
    if compute:
        flat = [task for row in tasks for task in row]
        done = iter(run_counted(flat, unit="part", shown=progress))
        parts = [np.concatenate([next(done) for _ in row], axis=1) for row in tasks]
        return np.concatenate(parts, axis=3)[..., back]
    lazy = [
        dask.array.concatenate([_lazy(t, p, request) for t, p in zip(*pair, strict=True)], 1)
        for pair in zip(tasks, rows, strict=True)
    ]
    return dask.array.concatenate(lazy, axis=3)[..., back]


def _lazy(task: Any, part: Part, request: Request) -> dask.array.Array:  # noqa: ANN401 - untyped
    shape = (len(part.stats), len(part.times), len(request.bands), len(part.shapes))
    lazy: dask.array.Array = dask.array.from_delayed(task, shape, dtype=np.float64)
    return lazy


def _groups(aoi: Aoi, tiles: np.ndarray, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Put features of a tile together, and cut what would be too much for one task.

    North to south, so that few blocks are shared.
    """
    bounds = shapely.bounds(np.array(aoi.features, dtype=object))
    order = np.lexsort((bounds[:, 0], -bounds[:, 3], tiles))
    for name in sorted(set(tiles)):
        here = order[tiles[order] == name]
        full = np.cumsum(pixels[here]) * _BYTES_OF_A_PLACE // _task_bytes()
        part = full + np.arange(len(here)) // _MOST_FEATURES
        yield from np.split(here, np.flatnonzero(np.diff(part)) + 1)


def _pixels(aoi: Aoi, request: Request) -> np.ndarray:
    """Estimate how many pixels features hold, in the finest of the bands."""
    shapes = gpd.GeoSeries(aoi.features, crs=aoi.crs).to_crs(EQUAL_AREA)
    pixels: np.ndarray = shapes.area.to_numpy() / request.native_m**2 + 1
    return pixels


def _runs(request: Request, pixels: float) -> Iterator[tuple[int, ...]]:
    """Cut time so that the pixels of a task fit in memory."""
    most = max(1, int(_task_bytes() // (pixels * _BYTES_OF_A_PIXEL * len(request.bands))))
    times = range(len(request.months))
    for start in times[::most]:
        yield tuple(times[start : start + most])


def _task_bytes() -> int:
    return 4 * int(parse_bytes(dask.config.get("array.chunk-size")))


def _names(index: pd.Index) -> np.ndarray:
    """Name features as netCDF and Zarr can hold it."""
    if isinstance(index.dtype, pd.DatetimeTZDtype):
        index = index.tz_convert(None)
    names: np.ndarray = index.infer_objects().to_numpy()
    if names.dtype != object or pd.api.types.infer_dtype(index) == "string":
        return names
    return np.array([str(name) for name in names], dtype=object)


def _dataset(
    values: Any,  # noqa: ANN401 - a numpy or a dask array
    names: Sequence[str],
    inventory: Inventory,
    array: L3AArray,
    *,
    scaled: bool,
) -> xr.Dataset:
    request = array.request
    attrs = attrs_of(request, inventory.origin, array)
    what = attrs.pop("long_name").removesuffix(f" x {QUANTIFICATION}" if scaled else "")
    units = attrs.pop("units", None)
    del attrs["_FillValue"]
    dims = ("time", "band", "feature")
    variables = {}
    for position, name in enumerate(names):
        if name == "count":
            told = {"long_name": STATISTICS[name], "units": "1", "request": array.token}
            variables[name] = (dims, values[position], told)
            continue
        found = values[position] / QUANTIFICATION if scaled else values[position]
        told = {"long_name": f"{STATISTICS[name]} of {what}", "request": array.token}
        if units is not None:
            told["units"] = "1" if scaled else units
        variables[name] = (dims, found, told)
    layers = [BANDS[name] for name in request.bands]
    coords = {
        "time": ("time", dates_of(request), {"long_name": "month of the mosaic"}),
        "common_name": ("band", [layer.common for layer in layers]),
        "native_name": ("band", [layer.native for layer in layers]),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)
