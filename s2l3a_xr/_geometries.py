"""Geometries in any of the forms that users have them in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile, ZipFile

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._errors import AoiError, AoiWarning, warn_user
from s2l3a_xr._own import MEMBER, kind_of
from s2l3a_xr._paths import take_path

LONLAT = "EPSG:4326"

_PACKED = frozenset({".shp", ".gpkg", ".geojson", ".kml", ".fgb"})
"""What is looked for in a zip."""

_POINTS_ELSEWHERE = re.compile(rb"<OGR\w*DataSource|<VRTDataset|gdal_streamed_alg", re.IGNORECASE)
"""How files begin, whatever their name, that send GDAL to others on disk or in the network."""
_BEGINNING_BYTES = 2**16
_NO_NETWORK = {f"GML_DOWNLOAD_{'' if pyogrio.__gdal_version__ >= (3, 12) else 'WFS_'}SCHEMA": "NO"}
"""What else GDAL would fetch for a local file: measured with a GML file that a WFS gave."""

_MOST_NAMED = 5

_UNREADABLE = (DataSourceError, DataLayerError, BadZipFile, ShapelyError, ValueError)
"""What GDAL, GEOS and zipfile raise of files that are not whole or not theirs."""

_NO_GEOJSON = (
    ShapelyError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip
"""What shapely raises of mappings that are no GeoJSON."""


@runtime_checkable
class _GeoInterface(Protocol):
    @property
    def __geo_interface__(self) -> Mapping[str, Any]: ...


def to_series(aoi: object) -> gpd.GeoSeries:
    """Take geometries in any form, as they are.

    Parameters
    ----------
    aoi : path, GeoDataFrame, GeoSeries, shapely geometry, mapping or tuple of float
        As for `read_aoi`.

    Returns
    -------
    GeoSeries
        With the index of a GeoDataFrame or GeoSeries; without a CRS where none is told.

    Raises
    ------
    AoiError
        There are none, or they can't be read.

    Warns
    -----
    AoiWarning
        A file has several layers; all of them are taken.
    """
    if isinstance(aoi, gpd.GeoDataFrame | gpd.GeoSeries):
        return _active_geometry(aoi)
    if isinstance(aoi, BaseGeometry):
        return gpd.GeoSeries([aoi])
    if isinstance(aoi, str | os.PathLike):
        return _read_file(aoi)
    if isinstance(aoi, Mapping):
        return _read_mapping(aoi)
    if isinstance(aoi, list | tuple | np.ndarray):
        return _read_bounds(aoi)
    if isinstance(aoi, _GeoInterface):
        return _read_mapping(aoi.__geo_interface__)
    if hasattr(aoi, "to_geodataframe"):
        msg = (
            f"an AOI can't be an {type(aoi).__name__}; give it as inventory=…, in the AOI's place."
        )
        raise AoiError(msg)
    msg = (
        f"an AOI can't be a {type(aoi).__name__}; give a path, a GeoDataFrame, a GeoSeries, a "
        "shapely geometry, a GeoJSON mapping or (minx, miny, maxx, maxy) in lon/lat."
    )
    raise AoiError(msg)


def _active_geometry(frame: gpd.GeoDataFrame | gpd.GeoSeries) -> gpd.GeoSeries:
    try:
        return frame.geometry
    except AttributeError as exc:
        msg = "the AOI's GeoDataFrame has no active geometry column; name it with set_geometry()."
        raise AoiError(msg) from exc


def _read_file(path: str | os.PathLike[str]) -> gpd.GeoSeries:
    if "://" in os.fspath(path) or os.fspath(path).startswith("/vsi"):
        msg = f"an AOI is read from a local file, not from {os.fspath(path)}; download it first."
        raise AoiError(msg)
    file = take_path(path, "aoi", AoiError)
    if not os.fspath(path) or not file.exists():
        msg = f"no such AOI file: {os.fspath(path)!r} (looked in {Path.cwd()}); check the path."
        if "," in os.fspath(path):
            msg += " No text but (minx, miny, maxx, maxy) or shapely.from_wkt(…) is an area."
        raise AoiError(msg)
    pyogrio.set_gdal_config_options(_NO_NETWORK)
    try:
        layers = [
            (source, str(name))
            for source in _data_sources(file)
            for name, kind in pyogrio.list_layers(source)
            if kind is not None
        ]
        read = [gpd.read_file(s, layer=name, columns=[]).geometry for s, name in layers]
    except AoiError:
        raise
    except _UNREADABLE as exc:
        reason = str(exc).partition(" It might help")[0].rstrip(".;")  # GDAL on its drivers
        msg = (
            f"{file} can't be read as a vector file (GeoJSON, GPKG, Shapefile, KML): {reason}; "
            "see that it is whole, or export it anew."
        )
        raise AoiError(msg) from exc
    if not read:
        msg = f"{file} holds no layer with geometries; give a file of polygons."
        raise AoiError(msg)
    if len(layers) > 1:
        warn_user(
            f"{file} has {len(layers)} layers, and all of them are taken: "
            f"{', '.join(name for _, name in layers[:_MOST_NAMED])}"
            f"{', …' if len(layers) > _MOST_NAMED else ''}; for one of them pass "
            "geopandas.read_file(path, layer=…).",
            AoiWarning,
        )
    known = [series.set_crs(LONLAT) if series.crs is None else series for series in read]
    crs = known[0].crs
    parts = [series if series.crs == crs else series.to_crs(crs) for series in known]
    return gpd.GeoSeries(np.concatenate([part.to_numpy() for part in parts]), crs=crs)


def _data_sources(file: Path) -> list[str]:
    """Name the files in a zip, since GDAL looks into none of its folders."""
    if file.suffix.lower() != ".zip":
        if file.is_file():
            with file.open("rb") as opened:
                beginning = opened.read(_BEGINNING_BYTES)
            _refuse_pointer(beginning, file)
            _refuse_own(beginning, file)
        return [str(file.absolute())]  # a name such as PG:x is none of a database then
    with ZipFile(file) as packed:
        names = [Path(name) for name in packed.namelist()]
        vectors = [path for path in names if path.suffix.lower() in _PACKED and path.name[0] != "."]
        for path in vectors:
            with packed.open(path.as_posix()) as opened:
                _refuse_pointer(opened.read(_BEGINNING_BYTES), file)
    return [f"/vsizip/{{{file.as_posix()}}}/{path.as_posix()}" for path in vectors]


def _refuse_pointer(beginning: bytes, file: Path) -> None:
    if _POINTS_ELSEWHERE.search(beginning):
        msg = (
            f"{file} holds no shapes but tells GDAL to fetch them elsewhere (VRT, WFS, pipeline); "
            "an AOI is read from a file that holds it: export it as GeoJSON or GPKG first."
        )
        raise AoiError(msg)


def _refuse_own(beginning: bytes, file: Path) -> None:
    """Refuse footprints of tiles that would be taken for an area."""
    if f'"{MEMBER}"'.encode() not in beginning:
        return
    uses = {"inventory": "inventory=…", "request": 'engine="s2l3a" of xarray'}
    try:
        kind = kind_of(file).removeprefix(f"{MEMBER} ")
    except RecursionError:  # GDAL says what is wrong
        return
    if kind in uses:
        msg = f"{file} is no area but a saved {kind}; open it with {uses[kind]}."
        raise AoiError(msg)


def _read_mapping(mapping: Mapping[str, Any]) -> gpd.GeoSeries:
    kind = mapping.get("type")
    try:
        if kind == "FeatureCollection":
            found = [feature.get("geometry") for feature in mapping["features"]]
        else:
            found = [mapping.get("geometry") if kind == "Feature" else mapping]
        shapes = [shapely.geometry.shape(geometry) for geometry in found if geometry]
    except _NO_GEOJSON as exc:
        msg = (
            f"the AOI mapping of type {kind!r} is no GeoJSON geometry, Feature or "
            f"FeatureCollection ({exc}); give one, or a file or GeoDataFrame."
        )
        raise AoiError(msg) from exc
    return gpd.GeoSeries(shapes, crs=_old_crs_member(mapping))


def _old_crs_member(mapping: Mapping[str, Any]) -> pyproj.CRS:
    """GeoJSON of 2008 could name a CRS; its files are still about."""
    try:
        return pyproj.CRS(mapping["crs"]["properties"]["name"])
    except (KeyError, TypeError):
        return pyproj.CRS(LONLAT)
    except pyproj.exceptions.CRSError as exc:
        msg = f"the AOI's crs member names no known CRS: {exc}; remove it where it is lon/lat."
        raise AoiError(msg) from exc


def _read_bounds(values: Any) -> gpd.GeoSeries:  # noqa: ANN401 - checked here
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as exc:
        msg = f"AOI bounds must be four numbers (minx, miny, maxx, maxy), got {values!r}."
        raise AoiError(msg) from exc
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        msg = f"AOI bounds must be four finite numbers (minx, miny, maxx, maxy), got {values!r}."
        raise AoiError(msg)
    left, bottom, right, top = numbers.tolist()
    if left >= right or bottom >= top:
        msg = (
            f"AOI bounds {values!r} are empty: the order is (minx, miny, maxx, maxy) "
            "with minx < maxx and miny < maxy."
        )
        raise AoiError(msg)
    return gpd.GeoSeries([shapely.box(left, bottom, right, top)])
