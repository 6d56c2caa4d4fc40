"""Where a grid's pixels lie on the lattice of other files, and resampling from there.

Everything is a function of a pixel's place in the whole grid: chunks can't be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
import pyproj
from rasterio.crs import CRS
from rasterio.warp import transform

from s2l3a_xr._grid import Grid
from s2l3a_xr._kernels import Taps, overlaps, sum_up, under, weigh
from s2l3a_xr._tiles import SIDE_M, Tile

_CELL_PX = 256
"""Places are computed for squares of so many pixels, counted from the grid's corner."""

_NODES = 8
_PLACE_PX = 1e-7
"""Within a square, polynomials through 8 x 8 exact places may be off by so much."""

_HARDLY_REDUCED = 0.95
"""GDAL's bound: more target pixels for one of the file's than this, and no filter is widened."""

_ZONE_WIDTH_M, _ZONE_TOP_M = 1_024_000, 9_408_000
"""A zone's extent: whole multiples of every pixel size in use."""

_Places: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Columns and rows on a lattice; fractional, pixel edges are whole."""


def zone_grid(crs: str, resolution: float) -> Grid:
    """Lay the lattice of a zone's tiles.

    Parameters
    ----------
    crs : str
        CRS of the tiles.
    resolution : float
        Pixel size in metres.

    Returns
    -------
    Grid
        Over the whole zone.
    """
    return Grid(
        crs=crs,
        left=0.0,
        top=float(_ZONE_TOP_M),
        resolution=resolution,
        width=int(_ZONE_WIDTH_M // resolution),
        height=int(_ZONE_TOP_M // resolution),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """Some pixels of a window, and where they lie.

    Parameters
    ----------
    output : tuple of slice
        Rows and columns of the window.
    centres : tuple of ndarray of float64
        Columns and rows of their centres on the file's lattice.
    corners : tuple of ndarray of float64, shape (2, …), or None
        The same of their upper left and lower right corners, where the kernel asks for them.
    """

    output: tuple[slice, slice]
    centres: _Places
    corners: _Places | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """The way from a grid to a lattice of files.

    Parameters
    ----------
    grid : Grid
        The target.
    native : Grid
        The files' lattice, see `zone_grid`.
    kernel : str
        One of `KERNELS`.
    """

    grid: Grid
    native: Grid
    kernel: str

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> Iterator[Cell]:
        """Go through a window and say where its pixels lie.

        Parameters
        ----------
        rows, columns : ndarray of int, ascending
            Of the grid.

        Yields
        ------
        Cell
            Together they are the window.
        """
        for row, down, part_y in _cut(rows):
            for column, across, part_x in _cut(columns):
                here = np.ix_(part_y, part_x)
                x, y = self._places(row, column, _CENTRES)
                corners = None
                if self.kernel == "average":
                    far = np.ix_(part_y + 1, part_x + 1)
                    edges = self._places(row, column, _EDGES)
                    corners = tuple(np.stack([edge[here], edge[far]]) for edge in edges)
                yield Cell(output=(down, across), centres=(x[here], y[here]), corners=corners)  # type: ignore[arg-type]

    def has(self, rows: np.ndarray, columns: np.ndarray, tiles: Iterable[Tile]) -> np.ndarray:
        """Tell which pixels have their centre on a tile.

        Parameters
        ----------
        rows, columns : ndarray of int, ascending
            Of the grid.
        tiles : iterable of Tile
            In the CRS of the files' lattice.

        Returns
        -------
        ndarray of bool, shape (rows, columns)
            True where any tile is.
        """
        step = self.native.resolution
        boxes = [
            ((tile.left - self.native.left) / step, (self.native.top - tile.top) / step)
            for tile in tiles
        ]
        side = SIDE_M / step
        found = np.zeros((len(rows), len(columns)), dtype=bool)
        for cell in self.cells(rows, columns):
            x, y = cell.centres
            for left, top in boxes:
                within = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
                found[cell.output] |= within
        return found

    def taps(self, cell: Cell, wanted: np.ndarray) -> Taps:
        """Say which of the files' pixels make up the wanted ones of a cell.

        Parameters
        ----------
        cell : Cell
            From `cells`.
        wanted : ndarray of bool
            Which of its pixels.

        Returns
        -------
        Taps
            In the order of the wanted pixels.
        """
        x, y = (place[wanted] for place in cell.centres)
        if cell.corners is not None:
            columns, across = overlaps(*(edge[wanted] for edge in cell.corners[0]))
            rows, down = overlaps(*(edge[wanted] for edge in cell.corners[1]))
        elif self.kernel == "nearest":
            columns, rows = under(x), under(y)
            across = down = np.ones((1, 1))
        else:
            scale_x, scale_y = _scales(self)
            columns, across = weigh(self.kernel, x, scale_x)
            rows, down = weigh(self.kernel, y, scale_y)
        return Taps(rows=rows, columns=columns, down=down, across=across)

    def make(
        self, cell: Cell, wanted: np.ndarray, pixels: np.ndarray, corner: tuple[int, int], fill: int
    ) -> np.ndarray:
        """Make the wanted pixels of a cell.

        What has no data is left out of a mean. Except for averages, a pixel is nodata where the
        file's pixel under its centre is: holes keep their shape.

        Parameters
        ----------
        cell : Cell
            From `cells`.
        wanted : ndarray of bool
            Which of its pixels.
        pixels : ndarray, shape (height, width)
            Part of the files' lattice that has all taps.
        corner : tuple of int
            Its first row and column.
        fill : int
            Value of nodata.

        Returns
        -------
        ndarray
            In the order of the wanted pixels.
        """
        if self.kernel == "average":
            return sum_up(pixels, corner, self.taps(cell, wanted), fill)[0]
        x, y = (place[wanted] for place in cell.centres)
        nearest: np.ndarray = pixels[under(y) - corner[0], under(x) - corner[1]]
        if self.kernel == "nearest":
            return nearest
        made, whole = sum_up(pixels, corner, self.taps(cell, wanted), fill)
        if self.kernel == "cubic" and not whole.all() and _scales(self) == (1.0, 1.0):
            # As GDAL does: a parabola through a hole is worse than a straight line beside it.
            some = np.zeros_like(wanted)
            some[wanted] = ~whole
            made[~whole] = replace(self, kernel="bilinear").make(cell, some, pixels, corner, fill)
        return np.where(nearest == fill, nearest, made)

    def exact(self, columns: np.ndarray, rows: np.ndarray) -> _Places:
        """Transform points one by one.

        Parameters
        ----------
        columns, rows : ndarray of float64
            On the grid; pixel edges are whole.

        Returns
        -------
        tuple of ndarray of float64
            Columns and rows on the files' lattice; not finite where there is no such place.
        """
        grid, native = self.grid, self.native
        x = grid.left + grid.resolution * columns
        y = grid.top - grid.resolution * rows
        if grid.crs != native.crs:
            x, y = _transform(grid.crs, native.crs, x, y)
        return (x - native.left) / native.resolution, (native.top - y) / native.resolution

    def _places(self, row: int, column: int, offsets: np.ndarray) -> _Places:
        """Say where all points of a square lie; always all, so that none depends on a chunk."""
        left, top = column * _CELL_PX, row * _CELL_PX
        if self.grid.crs == self.native.crs:
            x, y = self.exact(left + offsets, top + offsets)
            shape = (offsets.size, offsets.size)
            return np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)
        nodes, spread = _polynomials(offsets is _EDGES)
        at_x, at_y = np.meshgrid(left + nodes, top + nodes)
        known = self.exact(at_x, at_y)
        x, y = (_spread_out(place, spread) for place in known)
        few = np.ix_(_TESTED, _TESTED)
        exact_x, exact_y = self.exact(*np.meshgrid(left + offsets[_TESTED], top + offsets[_TESTED]))
        off = np.maximum(np.abs(exact_x - x[few]), np.abs(exact_y - y[few])).max()
        if off <= _PLACE_PX:  # never true of what is not finite
            return x, y
        return self.exact(*np.meshgrid(left + offsets, top + offsets))


_CENTRES = np.arange(_CELL_PX) + 0.5
_EDGES = np.arange(_CELL_PX + 1.0)
_TESTED = np.array([0, 19, 101, 206, _CELL_PX - 1])


_crs = lru_cache(maxsize=64)(CRS.from_user_input)


def _transform(source: str, target: str, x: np.ndarray, y: np.ndarray) -> _Places:
    """Ask GDAL: its PROJ may differ from pyproj's, and by tenths of a millimetre from that one."""
    try:
        found = transform(_crs(source), _crs(target), x.reshape(-1), y.reshape(-1))
    except Exception:  # rasterio has no public class for it
        # Some point has no place in the target: pyproj says which, GDAL fails for all.
        other = pyproj.Transformer.from_crs(source, target, always_xy=True)
        found = other.transform(x.reshape(-1), y.reshape(-1))
    new_x, new_y = (np.asarray(values, dtype=float).reshape(x.shape) for values in found)
    return new_x, new_y


@cache
def _polynomials(edges: bool) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev's nodes in a square, and the matrix from values there to values at its points."""
    unit = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    points = _EDGES if edges else _CENTRES
    basis = np.polynomial.chebyshev.chebvander
    at_points = basis(points / (_CELL_PX / 2) - 1, _NODES - 1)
    return (unit + 1) * _CELL_PX / 2, at_points @ np.linalg.inv(basis(unit, _NODES - 1))


def _spread_out(known: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Evaluate the polynomials; without BLAS, whose threads get in the way of ours."""
    base = known[0, 0]
    along = np.einsum("ik,kl->il", spread, known - base)
    found: np.ndarray = np.einsum("il,lj->ij", along, np.ascontiguousarray(spread.T)) + base
    return found


@lru_cache(maxsize=256)
def _scales(warp: Warp) -> tuple[float, float]:
    """Target pixels for one of the files' along its columns and rows.

    At most 1, and 1 for both where neither is much reduced.
    """
    grid = warp.grid
    column, row = grid.width / 2, grid.height / 2
    x, y = warp.exact(np.array([column, column + 1, column]), np.array([row, row, row + 1]))
    scales = [1 / math.hypot(*(place[1:] - place[0])) for place in (x, y)]
    if min(scales) >= _HARDLY_REDUCED:
        return 1.0, 1.0
    return min(scales[0], 1.0), min(scales[1], 1.0)


def _cut(index: np.ndarray) -> Iterator[tuple[int, slice, np.ndarray]]:
    """Cut an axis into squares: number, positions in the window, pixels within the square."""
    squares = index // _CELL_PX
    starts = np.flatnonzero(np.diff(squares, prepend=-1))
    stops = np.append(starts[1:], index.size)
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        square = int(squares[start])
        yield square, slice(start, stop), index[start:stop] - square * _CELL_PX
