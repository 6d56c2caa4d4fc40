"""An area made smaller or larger."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from s2l3a_xr._aoi import AoiLike, read_aoi
from s2l3a_xr._disk import whole_file
from s2l3a_xr._errors import AoiError, ExportError
from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._own import MEMBER, check_own, kind_of
from s2l3a_xr._paths import take_path

_METRES = "EPSG:3035"
"""ETRS89 / LAEA Europe."""

_FORMAT = "s2l3a_xr area"


def buffer_aoi(aoi: AoiLike, distance_m: float) -> gpd.GeoSeries:
    """Make an area smaller or larger by a distance.

    A slightly smaller area keeps clear of what the edge of clipped pictures does to object
    recognition, in eCognition for example.

    Parameters
    ----------
    aoi : path, GeoDataFrame, GeoSeries, shapely geometry, GeoJSON mapping or tuple of float
        The area, as in `open_l3a`. Features that touch are one: only the outer border moves.
    distance_m : float
        Metres, measured in EPSG:3035; negative moves the border inwards.

    Returns
    -------
    geopandas.GeoSeries
        Polygons in the CRS of the area.

    Raises
    ------
    AoiError
        The area can't be read, or nothing of it is left.

    References
    ----------
    https://epsg.io/3035

    Examples
    --------
    >>> smaller = buffer_aoi((11.68, 51.94, 11.76, 51.99), -20)
    >>> smaller.crs.to_epsg(), len(smaller)
    (4326, 1)
    """
    is_number = isinstance(distance_m, int | float | np.number)
    if not is_number or not math.isfinite(distance_m):
        msg = f"distance_m={distance_m!r} must be a number of metres, such as -20."
        raise AoiError(msg)
    area = read_aoi(aoi)
    moved = area.to_crs(_METRES).union.buffer(distance_m)
    if moved.is_empty:
        msg = (
            f"nothing of the AOI ({area.describe()}) is left {-distance_m:g} m inside its border; "
            "give a smaller distance."
        )
        raise AoiError(msg)
    return gpd.GeoSeries(list(shapely.get_parts(moved)), crs=_METRES).to_crs(area.crs)


def write_area(area: gpd.GeoSeries, path: str | os.PathLike[str]) -> Path:
    """Write an area as GeoJSON in lon/lat, whole or not at all.

    Parameters
    ----------
    area : GeoSeries
        Polygons, in any CRS.
    path : str or path
        The file; its folder must be there. An area that this package wrote is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ExportError
        It can't be written, or something else is there.
    """
    target = take_area_path(path)
    features = json.loads(area.to_crs(LONLAT).to_json(drop_id=True))["features"]
    head = {"type": "FeatureCollection", MEMBER: {"format": _FORMAT}}
    with whole_file(target) as place:
        place.write_text(json.dumps(head | {"features": features}), "utf-8")
    return target


def take_area_path(path: str | os.PathLike[str]) -> Path:
    """Check where an area goes.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    pathlib.Path
        Absolute; an area that this package wrote may be there, and nothing else.

    Raises
    ------
    ExportError
        Something else is there.
    """
    target = take_path(path, "the area's file", ExportError)
    check_own(target, lambda there: kind_of(there) == _FORMAT, "area")
    return target
