"""Which chunks a user means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask
import numpy as np
from dask.array.core import normalize_chunks

from s2l3a_xr._cube import auto_chunks, cut_from_corner
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._grid import Grid
from s2l3a_xr._request import Request
from s2l3a_xr._tiles import Tile, tile_named

DIMS = ("time", "band", "y", "x")


def resolve_chunks(request: Request, chunks: Any) -> tuple[tuple[int, ...], ...]:  # noqa: ANN401 - xarray's many forms
    """Let dask say which blocks a user means, now: its settings may change.

    Parameters
    ----------
    request : Request
        What is opened.
    chunks : "auto", int, dict or tuple
        As in `open_l3a`.

    Returns
    -------
    tuple of tuple of int
        Sizes along (time, band, y, x).

    Raises
    ------
    SelectionError
        There are no such chunks.
    """
    sizes = _chunk_sizes(request, chunks)
    try:
        wanted = tuple(sizes[dim] for dim in DIMS)
        found = normalize_chunks(wanted, request.shape, dtype=request.dtype)
    except (ArithmeticError, TypeError, ValueError) as exc:
        msg = f"chunks={chunks!r} can't be: {exc}; give such as {{'time': 1}}."
        raise SelectionError(msg) from exc
    if any(size < 1 or size != int(size) for axis in found for size in axis):
        msg = (
            f"chunks={chunks!r} can't be: a chunk has at least one pixel, and whole ones; "
            "give such as {'x': 1024}, or -1 for all of a dimension."
        )
        raise SelectionError(msg)
    return tuple(tuple(int(size) for size in axis) for axis in found)


def _chunk_sizes(request: Request, chunks: Any) -> dict[str, Any]:  # noqa: ANN401
    if chunks == "auto":
        limit = dask.config.get("array.chunk-size")
        times, bands, height, width = auto_chunks(request.shape, request.dtype, limit)
        grid = request.grid
        tiles = (tile_named(p.tile) for products in request.products for p, _ in products)
        tile = next((tile for tile in tiles if tile.crs == grid.crs), None)
        top, left = _offset_in_tile(grid, tile) if tile else (0, 0)
        rows = cut_from_corner(grid.height, height, top)
        return {"time": times, "band": bands, "y": rows,
                "x": cut_from_corner(grid.width, width, left)}  # fmt: skip
    if isinstance(chunks, dict):
        unknown = sorted(set(chunks) - set(DIMS))
        if unknown:
            msg = f"chunks has no dimension {unknown[0]!r}; choose from {', '.join(DIMS)}."
            raise SelectionError(msg)
        # As in xarray: {} are the preferred chunks, what is not named is not cut.
        return dict.fromkeys(DIMS, -1) | chunks if chunks else _chunk_sizes(request, "auto")
    if isinstance(chunks, Sequence) and not isinstance(chunks, str):
        if len(chunks) != len(DIMS):
            msg = f"chunks={chunks!r} must have one entry each for {', '.join(DIMS)}."
            raise SelectionError(msg)
        return dict(zip(DIMS, chunks, strict=True))
    if isinstance(chunks, int | np.integer) and type(chunks) is not bool:
        return dict.fromkeys(DIMS, int(chunks))
    msg = f"chunks={chunks!r} must be 'auto', an int, a dict, a tuple or None."
    raise SelectionError(msg)


def _offset_in_tile(grid: Grid, tile: Tile) -> tuple[int, int]:
    return (
        round((tile.top - grid.top) / grid.resolution),
        round((grid.left - tile.left) / grid.resolution),
    )
