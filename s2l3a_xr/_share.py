"""Which file of a cover gives which pixel of a window, and which blocks that takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from s2l3a_xr._grid import Grid
from s2l3a_xr._mosaic import footprint, share_out
from s2l3a_xr._plan import Axis, Target, cut_axis, find_targets, lay_axis
from s2l3a_xr._tiff import Layout
from s2l3a_xr._tiles import SIDE_M, Tile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Pixels of the grid that a chunk asks for.

    Parameters
    ----------
    grid : Grid
        The lattice.
    rows, columns : ndarray of int, ascending
        Which of its rows and columns.
    mask : ndarray of bool, shape (rows, columns), or None
        Pixels inside the area; None for all.
    """

    grid: Grid
    rows: np.ndarray
    columns: np.ndarray
    mask: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return len(self.rows), len(self.columns)

    def lay(self, tile: Tile, side_px: int) -> tuple[Axis, Axis]:
        """Find a tile's pixels under the window's.

        Parameters
        ----------
        tile : Tile
            A tile in the grid's CRS.
        side_px : int
            Pixels along a side of its image.

        Returns
        -------
        tuple of Axis
            Rows and columns.
        """
        grid = self.grid
        lay = partial(
            lay_axis,
            grid_step=grid.resolution,
            image_step=SIDE_M / side_px,
            image_size=side_px,
        )
        rows = lay(self.rows, grid_start=-grid.top, grid_size=grid.height, image_start=-tile.top)
        columns = lay(
            self.columns, grid_start=grid.left, grid_size=grid.width, image_start=tile.left
        )
        return rows, columns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """Which file of a cover gives which pixel of a window; the same for all months and bands.

    Parameters
    ----------
    window : Window
        The pixels.
    tiles : tuple of Tile
        In cover order.
    layers : tuple of tuple of Axis
        The tiles' full images under the window.
    owner : ndarray of uint8 or None
        From `share_out`; None where there is one tile alone.
    wanted : tuple of (ndarray of bool or None)
        Per tile, the pixels that it has to give; None for all.
    """

    window: Window
    tiles: tuple[Tile, ...]
    layers: tuple[tuple[Axis, Axis], ...]
    owner: np.ndarray | None
    wanted: tuple[np.ndarray | None, ...]
    _targets: dict[tuple[int, ...], list[Target]] = field(default_factory=dict)

    def targets(self, position: int, image: Layout) -> list[Target]:
        """Choose the blocks that give what a tile has to give.

        Parameters
        ----------
        position : int
            Which of the tiles.
        image : Layout
            The tile's image.

        Returns
        -------
        list of Target
            Row by row.
        """
        key = (position, image.width, image.block_width, image.block_height)
        if key not in self._targets:
            self._targets[key] = self.targets_for(self.wanted[position], position, image)
        return self._targets[key]

    def targets_for(self, wanted: np.ndarray | None, position: int, image: Layout) -> list[Target]:
        """Choose the blocks that give certain pixels.

        Parameters
        ----------
        wanted : ndarray of bool or None
            The pixels; None for all.
        position : int
            Which of the tiles.
        image : Layout
            The tile's image.

        Returns
        -------
        list of Target
            Row by row.
        """
        rows, columns = self.window.lay(self.tiles[position], image.width)
        return find_targets(
            cut_axis(rows, image.block_height), cut_axis(columns, image.block_width), wanted
        )


def share_window(window: Window, tiles: tuple[Tile, ...], side_px: int) -> Share:
    """Give each pixel of a window to the first tile that has it.

    Parameters
    ----------
    window : Window
        The pixels.
    tiles : tuple of Tile
        In cover order.
    side_px : int
        Pixels along a side of their full images.

    Returns
    -------
    Share
        Who gives what.
    """
    layers = tuple(window.lay(tile, side_px) for tile in tiles)
    if len(tiles) == 1:
        wanted = (_of_one(window, layers[0]),)
        return Share(window=window, tiles=tiles, layers=layers, owner=None, wanted=wanted)
    owner = share_out(window.shape, layers, window.mask)
    each = tuple(owner == position for position in range(len(tiles)))
    return Share(window=window, tiles=tiles, layers=layers, owner=owner, wanted=each)


def _of_one(window: Window, layer: tuple[Axis, Axis]) -> np.ndarray | None:
    """Say what a single tile has to give; None for all, where all of the window is its own."""
    part = footprint(layer)
    if all(span == slice(0, size) for span, size in zip(part, window.shape, strict=True)):
        return window.mask
    wanted = np.zeros(window.shape, dtype=bool)
    wanted[part] = True if window.mask is None else window.mask[part]
    return wanted
