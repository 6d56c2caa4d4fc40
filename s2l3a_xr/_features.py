"""Fields and points that are measured one by one."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from s2l3a_xr._aoi import Aoi, AoiLike, check_coordinates, polygonal, read_aoi, repaired
from s2l3a_xr._errors import AoiError, AoiWarning, warn_user
from s2l3a_xr._geometries import LONLAT, to_series

EQUAL_AREA = "EPSG:3035"
_POINTS = frozenset({"Point", "MultiPoint"})
_AREAS = frozenset({"Polygon", "MultiPolygon"})
_POINT_M = 5.0
"""Search for points within so many metres."""

_NAMED = 5


def read_features(geometries: AoiLike) -> gpd.GeoSeries:
    """Take polygons and points, each for itself and with its name.

    Parameters
    ----------
    geometries : path, GeoDataFrame, GeoSeries, shapely geometry, mapping or tuple of float
        As for `read_aoi`, points among them.

    Returns
    -------
    GeoSeries
        Valid, two-dimensional polygons and points with a CRS and a unique index.

    Raises
    ------
    AoiError
        There are none, or one of them has no place, no area and is no point, or no name of its own.

    Warns
    -----
    AoiWarning
        Some were repaired.
    """
    series = to_series(geometries) if not isinstance(geometries, Aoi) else _of_aoi(geometries)
    if series.empty:
        msg = "there are no geometries; give at least one polygon or point."
        raise AoiError(msg)
    if isinstance(series.index, pd.MultiIndex) or not series.index.is_unique:
        msg = "the index of the geometries must be unique and have one level: reset_index()."
        raise AoiError(msg)
    series = series.set_crs(LONLAT) if series.crs is None else series
    shapes = series.to_numpy()
    empty = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if empty.any():
        msg = f"{some_of(series.index[empty])} have no geometry; drop them or give them one."
        raise AoiError(msg)
    shapes = shapely.force_2d(shapes)
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    lost = np.unique(owner[~np.isfinite(xy).all(axis=1)])
    if lost.size:
        names = some_of(series.index[lost])
        msg = (
            f"{names} have coordinates that are not finite (NaN or infinite); correct or drop them."
        )
        raise AoiError(msg)
    check_coordinates(shapes, series.crs)
    shapes = _areas_and_points(shapes, series.index)
    return gpd.GeoSeries(shapes, index=series.index, crs=series.crs)


def _areas_and_points(shapes: np.ndarray, names: pd.Index) -> np.ndarray:
    """Repair what is invalid, take polygons out of collections, refuse the rest."""
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        warn_user(
            f"{some_of(names[broken])} are invalid and repaired with shapely.make_valid; check "
            "them.",
            AoiWarning,
        )
        shapes[broken] = [repaired(shape) for shape in shapes[broken]]
    mixed = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    shapes[mixed] = [polygonal(shape) or shape for shape in shapes[mixed]]
    kinds = np.array([shape.geom_type for shape in shapes])
    wrong = ~np.isin(kinds, [*_POINTS, *_AREAS])
    if wrong.any():
        found = ", ".join(sorted(set(kinds[wrong])))
        msg = f"{some_of(names[wrong])} are {found}, no polygons or points; buffer them first."
        raise AoiError(msg)
    return shapes


def _of_aoi(aoi: Aoi) -> gpd.GeoSeries:
    return gpd.GeoSeries(list(aoi.features), crs=aoi.crs)


def some_of(names: pd.Index) -> str:
    """Name some features, for messages.

    Parameters
    ----------
    names : pandas.Index
        All that are meant.

    Returns
    -------
    str
        How many, and the ids of the first of them.
    """
    few = ", ".join(str(name) for name in names[:_NAMED])
    return f"{len(names)} of the features (id {few}{', …' if len(names) > _NAMED else ''})"


def area_around(features: gpd.GeoSeries) -> Aoi:
    """Say where to search: points get some room.

    Parameters
    ----------
    features : GeoSeries
        From `read_features`.

    Returns
    -------
    Aoi
        Polygons.
    """
    points = features.geom_type.isin(_POINTS)
    if not points.any():
        return read_aoi(features)
    around = features[points].to_crs(EQUAL_AREA).buffer(_POINT_M).to_crs(features.crs)
    return read_aoi(pd.concat([features[~points], around]))
