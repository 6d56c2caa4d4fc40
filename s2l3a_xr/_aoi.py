"""The area of interest: any of the forms users have it in, checked and made polygons."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._errors import AoiError, AoiWarning, warn_user
from s2l3a_xr._geometries import LONLAT, to_series

_PRODUCT_BOUNDS = (5.7, 46.7, 15.2, 56.0)
"""Lon/lat extent of DLR's collection; only hints use it."""

COVERAGE = "the product covers Germany, lon {} to {}, lat {} to {}".format(
    *(_PRODUCT_BOUNDS[i] for i in (0, 2, 1, 3))
)
"""For messages about areas that lie elsewhere."""

AoiLike: TypeAlias = (
    "str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries | BaseGeometry"
    " | Mapping[str, Any] | tuple[float, float, float, float] | Aoi"
)
"""What users may hand over as an area of interest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aoi:
    """Area of interest.

    Parameters
    ----------
    features : tuple of shapely Polygon or MultiPolygon
        Valid, two-dimensional and not empty; they may overlap.
    crs : str
        Their CRS, as WKT or ``EPSG:n``.
    """

    features: tuple[BaseGeometry, ...]
    crs: str

    def to_crs(self, crs: str) -> Aoi:
        """Reproject the vertices, without adding any.

        Parameters
        ----------
        crs : str
            Target CRS.

        Returns
        -------
        Aoi
            In the target CRS.

        Raises
        ------
        AoiError
            Where a vertex has no place in the target CRS.
        """
        source, target = pyproj.CRS(self.crs), pyproj.CRS(crs)
        if source == target:
            return self
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
        features = shapely.transform(
            np.array(self.features, dtype=object), transformer.transform, interleaved=False
        )
        if not np.isfinite(shapely.get_coordinates(features)).all():
            msg = (
                f"the AOI can't be transformed from {source.name} to {target.name}; "
                "check its coordinates and its CRS."
            )
            raise AoiError(msg)
        return Aoi(features=tuple(features), crs=crs)

    @property
    def union(self) -> BaseGeometry:
        """All features as one geometry."""
        return shapely.union_all(shapely.make_valid(np.array(self.features, dtype=object)))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(left, bottom, right, top)`` in the AOI's CRS."""
        left, bottom, right, top = shapely.total_bounds(self.features)
        return float(left), float(bottom), float(right), float(top)

    def box(self) -> Aoi:
        """Return the bounding box as an AOI.

        Returns
        -------
        Aoi
            One rectangle in the same CRS.
        """
        return Aoi(features=(shapely.box(*self.bounds),), crs=self.crs)

    def describe(self) -> str:
        """Say where the AOI lies, for messages.

        Returns
        -------
        str
            Bounds in lon/lat with three decimals.
        """
        left, bottom, right, top = self.to_crs(LONLAT).bounds
        return f"lon {left:.3f} to {right:.3f}, lat {bottom:.3f} to {top:.3f}"


def read_aoi(aoi: AoiLike) -> Aoi:
    """Take an area of interest in any form, check it and make it polygons.

    Parameters
    ----------
    aoi : path, GeoDataFrame, GeoSeries, shapely geometry, mapping or tuple of float
        A file that pyogrio reads (GeoJSON, GPKG, Shapefile, KML, …), a geometry, a GeoJSON
        geometry, Feature or FeatureCollection, or ``(minx, miny, maxx, maxy)`` in lon/lat.
        What has no CRS of its own is taken as lon/lat (EPSG:4326).

    Returns
    -------
    Aoi
        In the CRS that it came in.

    Raises
    ------
    AoiError
        Nothing there, no polygons, coordinates that are not finite, not in degrees or
        swapped.

    Warns
    -----
    AoiWarning
        A ring that crosses itself was repaired, or points and lines were left out.
    """
    if isinstance(aoi, Aoi):
        return aoi
    series = to_series(aoi)
    crs = pyproj.CRS(series.crs if series.crs is not None else LONLAT)
    features = _polygons(series.to_numpy())
    check_coordinates(features, crs)
    code = crs.to_epsg()
    return Aoi(features=features, crs=f"EPSG:{code}" if code else crs.to_wkt())


def _polygons(shapes: np.ndarray) -> tuple[BaseGeometry, ...]:
    flat = shapely.force_2d(shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))])
    if not flat.size:
        msg = "the AOI is empty: it has no geometry; give at least one polygon."
        raise AoiError(msg)
    if not np.isfinite(shapely.get_coordinates(flat)).all():
        msg = "the AOI has coordinates that are not finite (NaN or infinite); correct or drop them."
        raise AoiError(msg)
    invalid = ~shapely.is_valid(flat)
    if invalid.any():
        reason = shapely.is_valid_reason(flat[invalid][0])
        warn_user(
            f"{invalid.sum()} AOI geometr{'y is' if invalid.sum() == 1 else 'ies are'} invalid and "
            f"repaired with shapely.make_valid (first: {reason}); check the area.",
            AoiWarning,
        )
        flat[invalid] = [repaired(shape) for shape in flat[invalid]]
    kept = [polygon for shape in flat if (polygon := polygonal(shape)) is not None]
    if not kept:
        kinds = ", ".join(sorted({shape.geom_type for shape in flat}))
        msg = (
            f"the AOI has no polygon, only {kinds}; buffer points and lines first (extract_l3a "
            "takes points)."
        )
        raise AoiError(msg)
    if len(kept) < len(flat):
        warn_user(
            f"{len(flat) - len(kept)} of {len(flat)} AOI geometries are no polygons: left out; "
            "buffer them to keep them.",
            AoiWarning,
        )
    return tuple(kept)


def repaired(shape: BaseGeometry) -> BaseGeometry:
    """Make the parts valid one by one: where parts overlap, make_valid would cut a hole.

    Parameters
    ----------
    shape : shapely geometry
        An invalid one.

    Returns
    -------
    shapely geometry
        Valid, perhaps with lines where polygons had spikes.
    """
    return shapely.union_all(shapely.make_valid(shapely.get_parts(shape)))


def polygonal(shape: BaseGeometry) -> BaseGeometry | None:
    """Give the polygons that a geometry has.

    Parameters
    ----------
    shape : shapely geometry
        Of any kind.

    Returns
    -------
    shapely geometry or None
        Polygon or MultiPolygon; None where it has no area.
    """
    if shape.geom_type not in {"Polygon", "MultiPolygon"}:
        shape = shapely.union_all([polygonal(part) for part in getattr(shape, "geoms", ())])
    return shape if shape.area > 0 else None


def check_coordinates(features: Sequence[BaseGeometry], crs: pyproj.CRS) -> None:
    """Refuse what is no place, and explain what is surely meant for another.

    Parameters
    ----------
    features : sequence of shapely geometry
        With finite coordinates.
    crs : pyproj.CRS
        Their CRS.

    Raises
    ------
    AoiError
        The coordinates are no degrees, swapped, or of another CRS.
    """
    left, bottom, right, top = map(float, shapely.total_bounds(features))
    degrees = left >= -180 and right <= 180 and bottom >= -90 and top <= 90  # noqa: PLR2004
    where = f"({left:g}, {bottom:g}, {right:g}, {top:g})"
    if crs.is_geographic and not degrees:
        msg = (
            f"the AOI's coordinates {where} are no degrees of lon/lat; if they are metres, give "
            "the AOI with its CRS: gpd.read_file(…).set_crs(25832, allow_override=True), or a file "
            "that ogr2ogr -a_srs EPSG:25832 new.gpkg old.geojson makes."
        )
        raise AoiError(msg)
    if _meets_product((left, bottom, right, top), crs):
        return
    if degrees and _meets_product((left, bottom, right, top), pyproj.CRS(LONLAT)):
        msg = (
            f"the AOI's coordinates {where} are degrees of Germany, but its CRS is {crs.name}: "
            f"give it the right one (set_crs({LONLAT!r}, allow_override=True))."
        )
        raise AoiError(msg)
    if _meets_product((bottom, left, top, right), crs):
        names = ("lon", "lat") if crs.is_geographic else ("x", "y")
        msg = (
            f"the AOI lies at {names[0]} {left:.3f} to {right:.3f}, {names[1]} {bottom:.3f} to "
            f"{top:.3f}, but with {' and '.join(names)} swapped it lies in Germany: swap them (x "
            "is longitude, or easting)."
        )
        raise AoiError(msg)


def _meets_product(bounds: tuple[float, float, float, float], crs: pyproj.CRS) -> bool:
    """Tell whether coordinates lie where the product does."""
    to_lonlat = pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)
    try:
        here = to_lonlat.transform_bounds(*bounds)
    except pyproj.exceptions.ProjError:
        return False
    return all(map(math.isfinite, here)) and shapely.box(*here).intersects(
        shapely.box(*_PRODUCT_BOUNDS)
    )
