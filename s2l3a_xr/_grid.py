"""The target lattice: where the pixels of the result lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
import shapely
from affine import Affine

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._tiles import Tile

_EDGE_PARTS = 32
"""Edges that are straight in one CRS are bent in another: so many parts follow the bend."""

_UTM_TOLERANCE = 0.01
"""Map metres and metres on the ground differ by less in the tiles' own CRS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A north-up lattice of square pixels.

    Parameters
    ----------
    crs : str
        CRS of the lattice.
    left, top : float
        Outer corner of the first pixel, in units of the CRS.
    resolution : float
        Pixel size in units of the CRS.
    width, height : int
        Pixels along x and y.
    """

    crs: str
    left: float
    top: float
    resolution: float
    width: int
    height: int

    @property
    def transform(self) -> Affine:
        """Affine transform from pixel corners to coordinates."""
        return Affine(self.resolution, 0.0, self.left, 0.0, -self.resolution, self.top)

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def x(self) -> np.ndarray:
        """Pixel centres, ascending; float64, shape (width,)."""
        return self.left + self.resolution * (np.arange(self.width) + 0.5)

    @property
    def y(self) -> np.ndarray:
        """Pixel centres, descending; float64, shape (height,)."""
        return self.top - self.resolution * (np.arange(self.height) + 0.5)


@lru_cache(maxsize=256)
def ground_m(grid: Grid) -> float:
    """Measure a pixel on the ground.

    Parameters
    ----------
    grid : Grid
        The lattice.

    Returns
    -------
    float
        The shorter side of its middle pixel in metres; the resolution itself where that says
        the same within a percent, as in UTM.
    """
    centre = grid.left + grid.width / 2 * grid.resolution
    middle = grid.top - grid.height / 2 * grid.resolution
    to_lonlat = pyproj.Transformer.from_crs(grid.crs, LONLAT, always_xy=True)
    longitudes, latitudes = to_lonlat.transform(
        [centre, centre + grid.resolution, centre], [middle, middle, middle - grid.resolution]
    )
    sides = [
        pyproj.Geod(ellps="WGS84").line_length(
            [longitudes[0], longitudes[other]], [latitudes[0], latitudes[other]]
        )
        for other in (1, 2)
    ]
    side = float(min(sides))
    return grid.resolution if abs(side / grid.resolution - 1) < _UTM_TOLERANCE else side


def outline(aoi: Aoi) -> Aoi:
    """Add vertices to straight edges, so that they stay where they are in other CRSs.

    Parameters
    ----------
    aoi : Aoi
        Such as a rectangle.

    Returns
    -------
    Aoi
        The same area.
    """
    left, bottom, right, top = aoi.bounds
    longest = max(right - left, top - bottom) / _EDGE_PARTS
    return Aoi(features=tuple(shapely.segmentize(aoi.features, longest)), crs=aoi.crs)


def home_crs(aoi: Aoi, tiles: Sequence[Tile]) -> str:
    """Find the zone whose tiles hold most of an area: most pixels are then exact copies.

    Parameters
    ----------
    aoi : Aoi
        The area.
    tiles : sequence of Tile
        Of one zone or several.

    Returns
    -------
    str
        CRS of that zone; of equal ones that of the lower number.
    """
    zones = sorted({tile.crs for tile in tiles})
    if len(zones) == 1:
        return zones[0]

    def missing(crs: str) -> float:
        area = aoi.to_crs(crs).union
        held = shapely.union_all([tile.box for tile in tiles if tile.crs == crs])
        return round(1 - float(area.intersection(held).area / area.area), 6)

    return str(min(zones, key=missing))


def grid_around(aoi: Aoi, tiles: Iterable[Tile], resolution: float, crs: str | None = None) -> Grid:
    """Lay the lattice that ``rasterio.mask.mask(crop=True)`` gives on the merged tiles.

    It goes through the corner of the tiles that lie in its CRS. Where none does, pixels' edges
    are multiples of the resolution.

    Parameters
    ----------
    aoi : Aoi
        The area, in any CRS.
    tiles : iterable of Tile
        Tiles of one zone or several.
    resolution : float
        Pixel size in units of the CRS.
    crs : str, optional
        CRS of the lattice; by default that of the first tile.

    Returns
    -------
    Grid
        The smallest window of whole pixels around the area, cut at the tiles' outer border.

    Raises
    ------
    AoiError
        Where area and tiles share no pixel.
    """
    boxes = list(tiles)
    crs = crs or boxes[0].crs
    left, bottom, right, top = _border(boxes, crs, resolution)
    area_left, area_bottom, area_right, area_top = aoi.to_crs(crs).bounds
    # The same arithmetic as rasterio's, so that a vertex on a pixel's edge falls alike.
    to_pixel = ~Affine(resolution, 0.0, left, 0.0, -resolution, top)
    first_column = area_left * to_pixel.a + area_top * to_pixel.b + to_pixel.c
    first_row = area_left * to_pixel.d + area_top * to_pixel.e + to_pixel.f
    last_column = area_right * to_pixel.a + area_bottom * to_pixel.b + to_pixel.c
    last_row = area_right * to_pixel.d + area_bottom * to_pixel.e + to_pixel.f
    column = max(math.floor(first_column), 0)
    row = max(math.floor(first_row), 0)
    width = min(math.ceil(last_column), math.floor((right - left) / resolution)) - column
    height = min(math.ceil(last_row), math.floor((top - bottom) / resolution)) - row
    if width <= 0 or height <= 0:
        names = ", ".join(tile.name for tile in boxes)
        msg = (
            f"the AOI ({aoi.describe()}) shares no pixel with the tiles {names}; "
            "check where it lies."
        )
        raise AoiError(msg)
    return Grid(
        crs=crs,
        left=left + column * resolution,
        top=top - row * resolution,
        resolution=resolution,
        width=width,
        height=height,
    )


def _border(
    tiles: Sequence[Tile], crs: str, resolution: float
) -> tuple[float, float, float, float]:
    """Outer border of the tiles, on the lattice of those that lie in the CRS."""
    own = [tile.bounds for tile in tiles if tile.crs == crs]
    others = []
    for zone in sorted({tile.crs for tile in tiles} - {crs}):  # finding a transformation takes long
        boxes = [outline(Aoi(features=(t.box,), crs=zone)) for t in tiles if t.crs == zone]
        whole = Aoi(features=tuple(box.features[0] for box in boxes), crs=zone)
        others.append(whole.to_crs(crs).bounds)
    lefts, bottoms, rights, tops = zip(*own, *others, strict=True)
    if not others:
        return min(lefts), min(bottoms), max(rights), max(tops)
    corner_left = min((box[0] for box in own), default=0)
    corner_top = max((box[3] for box in own), default=0)
    return (
        corner_left + math.floor((min(lefts) - corner_left) / resolution) * resolution,
        min(bottoms),
        max(rights),
        corner_top + math.ceil((max(tops) - corner_top) / resolution) * resolution,
    )
