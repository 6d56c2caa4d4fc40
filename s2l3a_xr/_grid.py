"""The target lattice: where the pixels of the result lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from affine import Affine

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._tiles import Tile


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


def grid_around(aoi: Aoi, tiles: Iterable[Tile], resolution: float) -> Grid:
    """Lay the lattice that ``rasterio.mask.mask(crop=True)`` gives on the merged tiles.

    Parameters
    ----------
    aoi : Aoi
        The area, in any CRS.
    tiles : iterable of Tile
        Tiles of one zone.
    resolution : float
        Pixel size in metres.

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
    left = min(tile.bounds[0] for tile in boxes)
    bottom = min(tile.bounds[1] for tile in boxes)
    right = max(tile.bounds[2] for tile in boxes)
    top = max(tile.bounds[3] for tile in boxes)
    area_left, area_bottom, area_right, area_top = aoi.to_crs(boxes[0].crs).bounds
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
        msg = f"the AOI ({aoi.describe()}) shares no pixel with the tiles {names}."
        raise AoiError(msg)
    return Grid(
        crs=boxes[0].crs,
        left=left + column * resolution,
        top=top - row * resolution,
        resolution=resolution,
        width=width,
        height=height,
    )
