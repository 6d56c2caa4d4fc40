"""From geometries to the pixels of a zone's lattice that they hold, and how much of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._grid import Grid
from s2l3a_xr._mosaic import inside, to_pixels
from s2l3a_xr._tiles import SIDE_M, Tile

Method: TypeAlias = Literal["centre", "exact"]

_POINTS = frozenset({"Point", "MultiPoint"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprint:
    """Pixels that geometries hold; one that several hold is there for each of them.

    Parameters
    ----------
    features : ndarray of int64, shape (pixels,), ascending
        Whose pixel it is: a position among the geometries.
    rows, columns : ndarray of int64, shape (pixels,)
        Place in pixels of the anchor's image; negative or beyond it on neighbouring tiles.
    weights : ndarray of float64, shape (pixels,), or None
        Share of the pixel that the geometry covers; None where each counts fully.
    anchor : Tile
        Where rows and columns are counted from.
    resolution_m : int
        Pixel size.
    """

    features: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray | None
    anchor: Tile
    resolution_m: int

    def __len__(self) -> int:
        return len(self.features)

    def on(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Count rows and columns from another tile's corner.

        Parameters
        ----------
        tile : Tile
            Of the same zone.

        Returns
        -------
        tuple of ndarray of int64, shape (pixels,)
            Rows and columns.
        """
        rows = self.rows + (tile.top - self.anchor.top) // self.resolution_m
        return rows, self.columns + (self.anchor.left - tile.left) // self.resolution_m

    def within(self, tile: Tile) -> np.ndarray:
        """Tell which pixels a tile has.

        Parameters
        ----------
        tile : Tile
            Of the same zone.

        Returns
        -------
        ndarray of bool, shape (pixels,)
            True on the tile.
        """
        rows, columns = self.on(tile)
        side = SIDE_M // self.resolution_m
        on_tile: np.ndarray = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        return on_tile


def find_footprint(
    shapes: Sequence[BaseGeometry], anchor: Tile, resolution_m: int, method: Method
) -> Footprint:
    """Find the pixels that geometries hold.

    Parameters
    ----------
    shapes : sequence of shapely geometry
        Polygons and points in the anchor's CRS. A point holds the pixel that it lies in.
    anchor : Tile
        Gives the lattice.
    resolution_m : int
        Pixel size.
    method : {"centre", "exact"}
        Whether a polygon holds the pixels whose centre lies inside, or each by the share that
        it covers.

    Returns
    -------
    Footprint
        In the order of the geometries.
    """
    side = SIDE_M // resolution_m
    grid = Grid(
        crs=anchor.crs, left=float(anchor.left), top=float(anchor.top),
        resolution=float(resolution_m), width=side, height=side,
    )  # fmt: skip
    placed = to_pixels(shapes, grid)
    find = _covered if method == "exact" else _centred
    found = list(find(placed))
    counts = [len(rows) for rows, _, _ in found]
    rows, columns, weights = (
        np.concatenate([part[i] for part in found]) if found else np.zeros(0) for i in range(3)
    )
    return Footprint(
        features=np.repeat(np.arange(len(shapes)), counts),
        rows=rows.astype(np.int64),
        columns=columns.astype(np.int64),
        weights=weights if method == "exact" else None,
        anchor=anchor,
        resolution_m=resolution_m,
    )


_Found: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, columns and weights."""


def _points(shape: BaseGeometry) -> _Found:
    x, y = shapely.get_coordinates(shape).T
    return np.floor(-y), np.floor(x), np.ones(len(x))


def _centred(shapes: Sequence[BaseGeometry]) -> Iterator[_Found]:
    """Burn each geometry by itself, as `rasterio.mask.mask` does: they may overlap."""
    for shape in shapes:
        if shape.geom_type in _POINTS:
            yield _points(shape)
            continue
        left, top, right, bottom = _extent(shape)
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        burnt = inside([shape], (bottom, right), rows, columns, all_touched=False)
        row, column = np.nonzero(burnt)
        yield row + top, column + left, np.ones(len(row))


def _covered(shapes: Sequence[BaseGeometry]) -> Iterator[_Found]:
    try:
        from exactextract import exact_extract  # noqa: PLC0415 - an optional extra
        from exactextract.raster import NumPyRasterSource  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'method="exact" needs exactextract: pip install "s2l3a_xr[zonal]"'
        raise ImportError(msg) from exc
    areas = [shape for shape in shapes if shape.geom_type not in _POINTS]
    left, top, right, bottom = _extent(shapely.GeometryCollection(areas)) if areas else (0,) * 4
    extent = {"xmin": left, "ymin": -bottom, "xmax": right, "ymax": -top}
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for shape in areas
    ]
    # It only asks where cells lie: one number stands for all pixels.
    blank = np.broadcast_to(np.zeros((), np.uint8), (bottom - top, right - left))
    found = iter(
        exact_extract(NumPyRasterSource(blank, **extent), features, ["cell_id", "coverage"])
        if areas
        else ()
    )
    for shape in shapes:
        if shape.geom_type in _POINTS:
            yield _points(shape)
        else:
            told = next(found)["properties"]
            row, column = np.divmod(np.asarray(told["cell_id"], np.int64), right - left)
            yield row + top, column + left, np.asarray(told["coverage"], np.float64)


def _extent(shape: BaseGeometry) -> tuple[int, int, int, int]:
    """First column and row, and those behind the last ones; y is minus the row."""
    left, low, right, high = shape.bounds
    return math.floor(left), math.floor(-high), math.ceil(right), math.ceil(-low)


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Parameters
    ----------
    method : str
        As the user wrote it.

    Raises
    ------
    SelectionError
        It is neither "centre" nor "exact".
    """
    if method not in {"centre", "exact"}:
        msg = f"method={method!r} must be 'centre' or 'exact'."
        raise SelectionError(msg)
