"""From geometries to the pixels of a zone's lattice that they hold, and how much of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._grid import Grid
from s2l3a_xr._mosaic import burn_each, to_pixels
from s2l3a_xr._tiff import Layout
from s2l3a_xr._tiles import SIDE_M, Tile

Method: TypeAlias = Literal["centre", "exact"]

_POINTS = ("Point", "MultiPoint")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Pixels of a footprint that one block holds.

    Parameters
    ----------
    block : tuple of int
        Row and column of blocks.
    pixels : ndarray of int32
        Which pixels of the footprint.
    inside : ndarray of int32
        Where they are in the block, counted row by row.
    """

    block: tuple[int, int]
    pixels: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprint:
    """Pixels that geometries hold; one that several hold is there for each of them.

    Parameters
    ----------
    features : ndarray of int32, shape (pixels,), ascending
        Whose pixel it is: a position among the geometries.
    rows, columns : ndarray of int32, shape (pixels,)
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
    _owners: dict[tuple[Tile, ...], np.ndarray] = field(default_factory=dict)
    _pieces: dict[tuple[object, ...], list[Piece]] = field(default_factory=dict)

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
        tuple of ndarray of int32, shape (pixels,)
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

    def owners(self, tiles: tuple[Tile, ...]) -> np.ndarray:
        """Give each pixel to the first tile that has it.

        Parameters
        ----------
        tiles : tuple of Tile
            Of the same zone, in cover order.

        Returns
        -------
        ndarray of uint8, shape (pixels,)
            Position of the tile; their number where none has it. Not to be written to.
        """
        if tiles not in self._owners:
            held = [*(self.within(tile) for tile in tiles), np.ones(len(self), bool)]
            self._owners[tiles] = np.argmax(held, axis=0).astype(np.uint8)
        return self._owners[tiles]

    def cut(self, tiles: tuple[Tile, ...], position: int, image: Layout) -> list[Piece]:
        """Sort the pixels that a tile owns by the blocks of its image.

        It is the same for all months and bands whose files are laid out alike.

        Parameters
        ----------
        tiles : tuple of Tile
            As for `owners`.
        position : int
            Which of them.
        image : Layout
            Of the tile's file.

        Returns
        -------
        list of Piece
            One for each block.
        """
        key = (tiles, position, image.width, image.block_height, image.block_width)
        if key not in self._pieces:
            which = np.flatnonzero(self.owners(tiles) == position)
            self._pieces[key] = self.cut_some(which, tiles[position], image)
        return self._pieces[key]

    def cut_some(self, which: np.ndarray, tile: Tile, image: Layout) -> list[Piece]:
        """Sort some pixels by the blocks of a tile's image.

        Parameters
        ----------
        which : ndarray of int
            Positions of pixels on the tile.
        tile : Tile
            The tile.
        image : Layout
            Of its file.

        Returns
        -------
        list of Piece
            One for each block.
        """
        if not which.size:
            return []
        rows, columns = (index[which] for index in self.on(tile))
        height, width = image.block_height, image.block_width
        block = rows // height * image.offsets.shape[1] + columns // width
        inside = (rows % height * width + columns % width).astype(np.int32)
        order = np.argsort(block, kind="stable")
        which, block, inside = which[order].astype(np.int32), block[order], inside[order]
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        return [
            Piece(
                block=divmod(int(block[start]), image.offsets.shape[1]),
                pixels=which[start:stop],
                inside=inside[start:stop],
            )
            for start, stop in zip(starts, [*starts[1:], len(block)], strict=True)
        ]


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
    placed = np.array(to_pixels(shapes, grid), dtype=object)
    is_point = np.isin([shape.geom_type for shape in shapes], _POINTS)
    areas, points = (np.flatnonzero(which).astype(np.int32) for which in (~is_point, is_point))
    xy, point = shapely.get_coordinates(placed[points], return_index=True)
    if method == "exact":
        owners, rows, columns, shares = _covered(placed[areas])
    else:
        owners, rows, columns = burn_each(placed[areas])
        shares = None
    column, row = np.floor(xy * (1, -1)).T.astype(np.int32)
    features = np.concatenate([areas[owners], points[point]])
    order = np.argsort(features, kind="stable")
    return Footprint(
        features=features[order],
        rows=np.concatenate([rows, row])[order],
        columns=np.concatenate([columns, column])[order],
        weights=None if shares is None else np.concatenate([shares, np.ones(len(xy))])[order],
        anchor=anchor,
        resolution_m=resolution_m,
    )


def _covered(
    shapes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find pixels and the shares of them that geometries cover."""
    try:
        from exactextract import exact_extract  # noqa: PLC0415 - an optional extra
        from exactextract.raster import NumPyRasterSource  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'method="exact" needs exactextract: pip install "s2l3a_xr[zonal]"'
        raise ImportError(msg) from exc
    if not shapes.size:
        return (np.zeros(0, np.int32),) * 3 + (np.zeros(0),)
    left, low, right, high = shapely.total_bounds(shapes)
    left, top, right, bottom = (
        math.floor(left),
        math.floor(-high),
        math.ceil(right),
        math.ceil(-low),
    )
    # It only asks where cells lie: one number stands for all pixels.
    blank = np.broadcast_to(np.zeros((), np.uint8), (bottom - top, right - left))
    raster = NumPyRasterSource(blank, xmin=left, ymin=-bottom, xmax=right, ymax=-top)
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for shape in shapes
    ]
    found = [
        told["properties"] for told in exact_extract(raster, features, ["cell_id", "coverage"])
    ]
    cells = np.concatenate([np.asarray(told["cell_id"], np.int64) for told in found])
    shares = np.concatenate([np.asarray(told["coverage"], np.float64) for told in found])
    owners = np.repeat(
        np.arange(len(found), dtype=np.int32), [len(told["cell_id"]) for told in found]
    )
    rows, columns = (index.astype(np.int32) for index in np.divmod(cells, right - left))
    return owners, rows + top, columns + left, shares


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
