"""How many bytes files have, and the part of them that an area touches, before any is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import shapely

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._cells import Cell
from s2l3a_xr._product import Band
from s2l3a_xr._tiles import SIDE_M, Tile, tile_named

_BLOCK_PX = 256
_HEADER_BYTES = 32 * 1024
_FULL_RESOLUTION_SHARE = 0.75
"""Of a file with overviews, by area: 1 / (1 + 1/4 + 1/16 + …)."""

_TYPICAL_MB = {"B8": 240, 10: 200, 20: 55}
"""File sizes that the original download script reckoned with, where none are listed."""


def whole_bytes(cells: Sequence[Cell], layers: Sequence[Band]) -> int:
    """Add up whole files.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    layers : sequence of Band
        Their bands.

    Returns
    -------
    int
        Bytes of the files that are there; typical ones where none are listed.
    """
    return sum(size for _, size in _files(cells, layers))


def read_bytes(cells: Sequence[Cell], layers: Sequence[Band], aoi: Aoi) -> int:
    """Estimate what is read of files for an area.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    layers : sequence of Band
        Their bands.
    aoi : Aoi
        The area.

    Returns
    -------
    int
        Bytes, if files are evenly filled.
    """
    shares = {tile: _touched(tile_named(tile), aoi) for tile in {cell.tile for cell in cells}}
    return round(
        sum(
            _HEADER_BYTES + size * _FULL_RESOLUTION_SHARE * shares[cell.tile]
            for cell, size in _files(cells, layers)
        )
    )


def _files(cells: Sequence[Cell], layers: Sequence[Band]) -> Iterator[tuple[Cell, int]]:
    """Yield each file that is there with its size."""
    for cell in cells:
        for layer, has, size in zip(layers, cell.has, cell.sizes, strict=True):
            if has:
                typical = _TYPICAL_MB.get(layer.native, _TYPICAL_MB[layer.resolution_m])
                yield cell, typical * 1_000_000 if size is None else size


def _touched(tile: Tile, aoi: Aoi) -> float:
    """Share of a 10 m file's blocks that the area touches."""
    area = aoi.to_crs(tile.crs).union
    side = _BLOCK_PX * 10
    lefts = np.arange(tile.left, tile.left + SIDE_M, side)
    tops = np.arange(tile.top, tile.top - SIDE_M, -side)
    left, top = np.meshgrid(lefts, tops)
    shapely.prepare(area)
    return float(shapely.intersects(area, shapely.box(left, top - side, left + side, top)).mean())
