"""The Sentinel-2 tile grid, computed: no shapefile needed."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import mgrs
import numpy as np
import pyproj
import shapely
from mgrs.core import MGRSError
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._aoi import COVERAGE, Aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._geometries import LONLAT

SIDE_M = 109_800
"""Side of a tile in metres."""

_SQUARE_M = 100_000
_LATTICE_M = 60
_UTM_LATITUDES = (0.0, 84.0)
_WIDEST_DEGREES = 90.0
"""Wider areas can't be expressed in each zone that they touch."""
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One Sentinel-2 tile.

    Parameters
    ----------
    name : str
        MGRS name, such as ``32UPC``.
    zone : int
        UTM zone, northern hemisphere.
    left, top : int
        Upper left corner in metres of the zone.
    """

    name: str
    zone: int
    left: int
    top: int

    @property
    def crs(self) -> str:
        """CRS of the tile's files."""
        return f"EPSG:{32600 + self.zone}"

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """``(left, bottom, right, top)`` in metres of the zone."""
        return self.left, self.top - SIDE_M, self.left + SIDE_M, self.top

    @property
    def box(self) -> BaseGeometry:
        """The tile as a rectangle in its zone."""
        return shapely.box(*self.bounds)


@lru_cache(maxsize=4096)
def tile_named(name: str) -> Tile:
    """Compute where a tile lies.

    Parameters
    ----------
    name : str
        MGRS name of its 100 km square.

    Returns
    -------
    Tile
        With its corner on the 60 m lattice.

    Raises
    ------
    AoiError
        Where there is no such square.

    Examples
    --------
    >>> tile_named("32UPC").bounds
    (600000, 5690220, 709800, 5800020)
    """
    corner = _square_corner(name)
    if corner is None:
        msg = f"there is no MGRS tile named {name!r} in the north; write such as '32UPC'."
        raise AoiError(msg)
    zone, easting, northing = corner
    return Tile(
        name=name,
        zone=zone,
        left=_LATTICE_M * math.floor(easting / _LATTICE_M),
        top=_LATTICE_M * math.ceil((northing + _SQUARE_M) / _LATTICE_M),
    )


@lru_cache(maxsize=4096)
def footprint(tile: Tile) -> shapely.Polygon:
    """Give a tile's corners in lon/lat.

    Parameters
    ----------
    tile : Tile
        The tile.

    Returns
    -------
    shapely.Polygon
        Rounded to seven decimals, about a centimetre.
    """
    corners = Aoi(features=(tile.box,), crs=tile.crs).to_crs(LONLAT).features[0]
    return shapely.set_precision(corners, 1e-7)


def tiles_over(aoi: Aoi) -> tuple[Tile, ...]:
    """Find every tile that may share pixels with an area.

    The grid of squares is wider than what any archive offers: whether a tile exists is for
    the archive to say.

    Parameters
    ----------
    aoi : Aoi
        The area.

    Returns
    -------
    tuple of Tile
        Sorted by name.

    Raises
    ------
    AoiError
        Where the area lies outside the UTM grid's northern part, or is too wide for it.
    """
    west, south, east, north = aoi.to_crs(LONLAT).bounds
    if south < _UTM_LATITUDES[0] or north > _UTM_LATITUDES[1]:
        msg = (
            f"no tile of the product lies at {aoi.describe()}: {COVERAGE}. See whether the AOI has "
            "the CRS that it says, and x is longitude or easting."
        )
        raise AoiError(msg)
    if east - west > _WIDEST_DEGREES:
        msg = (
            f"no tile is looked for in an area as wide as {aoi.describe()}; {COVERAGE}: give the "
            "part that is meant. Does the AOI cross the antimeridian?"
        )
        raise AoiError(msg)
    first, last = (int((longitude + 180) // 6) + 1 for longitude in (west, east))
    # Tiles at a zone's edge reach past it: up to 110 km in the east, 50 km in the west.
    zones = range(max(first - 1, 1), min(last + 1, 60) + 1)
    return tuple(sorted((t for zone in zones for t in _tiles_of_zone(aoi, zone)), key=_name))


def _name(tile: Tile) -> str:
    return tile.name


def _tiles_of_zone(aoi: Aoi, zone: int) -> list[Tile]:
    here = aoi.to_crs(f"EPSG:{32600 + zone}")
    features = np.array(here.features, dtype=object)
    broken = ~shapely.is_valid(features)
    features[broken] = shapely.make_valid(features[broken])
    left, bottom, right, top = here.bounds
    reach = SIDE_M - _SQUARE_M + _LATTICE_M
    # Rounded to the lattice, tiles begin a little west and north of their squares.
    columns = range(int((left - reach) // _SQUARE_M), int((right + _LATTICE_M) // _SQUARE_M) + 1)
    rows = range(int((bottom - _LATTICE_M) // _SQUARE_M), int((top + reach) // _SQUARE_M) + 1)
    names = (_square_name(zone, column, row) for column in columns for row in rows)
    tiles = [tile_named(name) for name in names if name is not None]
    return [tile for tile in tiles if _overlap(tile.box, features)]


def _overlap(box: BaseGeometry, features: np.ndarray) -> bool:
    """Tell whether any of many features shares ground with a box, without their union."""
    near = features[shapely.intersects(box, features)]
    return bool((~shapely.touches(box, near)).any())


@lru_cache(maxsize=16384)
def _square_name(zone: int, column: int, row: int) -> str | None:
    """Letter a 100 km square at its centre; None where the zone has no such square."""
    if not 1 <= column <= 8 or row < 0:  # noqa: PLR2004 - MGRS has eight columns
        return None
    to_lonlat = _to_lonlat(zone)
    centre, left = (column + 0.5) * _SQUARE_M, column * _SQUARE_M
    bottom, top = row * _SQUARE_M, (row + 1) * _SQUARE_M
    longitude, latitude = to_lonlat.transform(centre, (bottom + top) / 2)
    leftmost = min(to_lonlat.transform((left, left), (bottom, top))[0])
    west_edge = (zone - 31) * 6
    # Sentinel-2 leaves a zone's western sliver to the neighbour whose tiles reach over it.
    if longitude < west_edge or leftmost >= west_edge + 6 or latitude >= _UTM_LATITUDES[1]:
        return None
    letter = _LATITUDE_BANDS[min(int((latitude + 80) // 8), len(_LATITUDE_BANDS) - 1)]
    offset = 5 if zone % 2 == 0 else 0
    name = f"{zone:02}{letter}{_COLUMNS[zone % 3][column - 1]}{_ROWS[(row + offset) % 20]}"
    return name if _square_corner(name) == (zone, column * _SQUARE_M, row * _SQUARE_M) else None


@lru_cache(maxsize=60)
def _to_lonlat(zone: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(f"EPSG:{32600 + zone}", LONLAT, always_xy=True)


def _square_corner(name: str) -> tuple[int, int, int] | None:
    """Ask for the corner with ten digits: the bare name would give the centre."""
    with warnings.catch_warnings():
        # mgrs warns of valid squares at 48 degrees north, between two latitude bands.
        warnings.filterwarnings("ignore", message=".*Latitude Warning", category=RuntimeWarning)
        try:
            zone, hemisphere, easting, northing = mgrs.MGRS().MGRSToUTM(f"{name}0000000000")
        except MGRSError:
            return None
    return (zone, math.floor(easting), math.floor(northing)) if hemisphere == "N" else None
