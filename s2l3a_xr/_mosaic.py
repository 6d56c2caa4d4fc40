"""Which file gives which pixel, and the copying: first valid pixel in cover order, clipped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._grid import Grid
from s2l3a_xr._plan import Axis, Target

NOBODY = 255
"""Mark of output pixels that no file gives: outside the area, or outside all tiles."""

_MANY_VERTICES = 5000
_LARGEST_BURN_PX = 2**28
"""Of larger grids, touched pixels are found window by window."""

_STACK_PX = 2**22
"""Of many small geometries, so many pixels are burnt at once."""

# rasterio swaps the process' warning filters while it rasterises: of two threads at once, the
# second puts back what the first had set, and every warning stays silent from then on. A warning
# of another thread is hidden meanwhile: whoever warns while others read takes this lock.
rasterio_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=rasterio_lock.acquire,
        after_in_parent=rasterio_lock.release,
        after_in_child=rasterio_lock.release,
    )

_Extent: TypeAlias = tuple[int, int, int, int]
"""First column and row, and those behind the last ones."""


def to_pixels(features: Sequence[BaseGeometry], grid: Grid) -> tuple[BaseGeometry, ...]:
    """Express geometries in columns and rows of a grid, by GDAL's own arithmetic.

    A chunk's mask is then rasterised by whole-pixel shifts, which are exact: the mask does
    not depend on where chunks begin. Rows are negative, so that north stays up: a horizontal
    edge on pixel centres falls by the direction in which GDAL walks the ring.

    Parameters
    ----------
    features : sequence of shapely geometry
        In the grid's CRS.
    grid : Grid
        The lattice.

    Returns
    -------
    tuple of shapely geometry
        x is the column, y minus the row, both fractional.
    """
    step = grid.resolution

    def convert(xy: np.ndarray) -> np.ndarray:
        column = -grid.left / step + xy[:, 0] * (1.0 / step)
        row = -grid.top / -step + xy[:, 1] * (1.0 / -step)
        return np.column_stack([column, -row])

    return tuple(shapely.transform(np.array(features, dtype=object), convert))


def inside(
    features: Sequence[BaseGeometry],
    shape: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    all_touched: bool,
) -> np.ndarray:
    """Tell which pixels lie inside, as ``rasterio.mask.mask`` does.

    Parameters
    ----------
    features : sequence of shapely geometry
        In pixels of the grid, see `to_pixels`.
    shape : tuple of int
        ``(height, width)`` of the grid.
    rows, columns : ndarray of int, ascending
        The grid's rows and columns of interest.
    all_touched : bool
        Whether pixels count that are only touched; else their centre decides.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        True inside.
    """
    top, left = int(rows[0]), int(columns[0])
    window = (left, top, int(columns[-1]) + 1, int(rows[-1]) + 1)
    around = _box((left - 2, top - 2, window[2] + 2, window[3] + 2))
    near = [f for f in features if around.intersects(shapely.box(*f.bounds))]
    if all_touched:
        burnt = _burn_touched(near, window, shape)
    else:
        cut = [shapely.clip_by_rect(f, *around.bounds) if _is_long(f) else f for f in near]
        burnt = _burn(cut, window)
    if not _is_run(rows):
        burnt = burnt[rows - top]
    if not _is_run(columns):
        burnt = burnt[:, columns - left]
    return burnt


def _burn_touched(
    features: Sequence[BaseGeometry], window: _Extent, shape: tuple[int, int]
) -> np.ndarray:
    """Burn the whole grid and take the window out of it.

    Which corners count as touched depends on the raster's extent in GDAL, and where a
    geometry reaches past the raster, GDAL 3.10 writes outside of its memory.
    """
    left, top, right, bottom = window
    extent = (0, 0, shape[1], shape[0])
    if shape[0] * shape[1] > _LARGEST_BURN_PX:
        extent = (left - 2, top - 2, right + 2, bottom + 2)
    room = _box(extent)
    fits = [room.covers(shapely.box(*f.bounds)) for f in features]
    cut = [
        f if fit else shapely.clip_by_rect(f, *room.bounds)
        for f, fit in zip(features, fits, strict=True)
    ]
    burnt = _burn(cut, extent, all_touched=True)
    return burnt[top - extent[1] : bottom - extent[1], left - extent[0] : right - extent[0]]


def _box(extent: _Extent) -> BaseGeometry:
    left, top, right, bottom = extent
    return shapely.box(left, -bottom, right, -top)


def _burn(
    features: Sequence[BaseGeometry], extent: _Extent, *, all_touched: bool = False
) -> np.ndarray:
    left, top, right, bottom = extent
    features = [feature for feature in features if not feature.is_empty]
    if not features:
        return np.zeros((bottom - top, right - left), dtype=bool)
    with rasterio_lock:
        burnt: np.ndarray = rasterize(
            features,
            out_shape=(bottom - top, right - left),
            transform=Affine(1.0, 0.0, left, 0.0, -1.0, -top),
            all_touched=all_touched,
            dtype="uint8",
        )
    return burnt.view(bool)


def burn_each(
    shapes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pixels whose centre lies inside each of many geometries, which may overlap.

    They are shifted by whole pixels to where each has rows of its own, and burnt at once: a call
    for each costs half a millisecond.

    Parameters
    ----------
    shapes : ndarray of shapely geometry
        In pixels, see `to_pixels`.

    Returns
    -------
    owners, rows, columns : ndarray of int32, shape (pixels,)
        Position of the geometry, ascending, and place of the pixel.
    """
    found = [(np.zeros(0, np.int32),) * 3]
    for start, stop in _stacks(shapes):
        bounds = shapely.bounds(shapes[start:stop])
        first = np.floor(np.column_stack([-bounds[:, 3], bounds[:, 0]])).astype(np.int32)
        last = np.ceil(np.column_stack([-bounds[:, 1], bounds[:, 2]])).astype(np.int32)
        heights, width = last[:, 0] - first[:, 0], int((last - first)[:, 1].max())
        shift = np.cumsum(heights, dtype=np.int32) - heights - first[:, 0]
        xy, owner = shapely.get_coordinates(shapes[start:stop], return_index=True)
        xy -= np.column_stack([first[:, 1], shift])[owner]
        moved = shapely.set_coordinates(shapes[start:stop].copy(), xy)
        with rasterio_lock:
            burnt = rasterize(
                zip(moved, range(1, len(moved) + 1), strict=True),
                out_shape=(int(heights.sum()), max(1, width)),
                transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
                dtype="int32",
            )
        row, column = (index.astype(np.int32) for index in np.nonzero(burnt))
        owner = burnt[row, column] - 1
        found.append((owner + start, row - shift[owner], column + first[owner, 1]))
    owners, rows, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return owners, rows, columns


def _stacks(shapes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut a sequence of geometries so that each part has few pixels, one above the other."""
    bounds = shapely.bounds(shapes)
    spans = (np.ceil(bounds[:, 2:]) - np.floor(bounds[:, :2]) + 1).astype(np.int64)
    start = rows = width = 0
    for i, (across, down) in enumerate(spans.tolist()):
        rows, width = rows + down, max(width, across)
        if rows * width > _STACK_PX and i > start:
            yield start, i
            start, rows, width = i, down, across
    if start < len(shapes):
        yield start, len(shapes)


def _is_long(feature: BaseGeometry) -> bool:
    return bool(shapely.count_coordinates(feature) > _MANY_VERTICES)


def _is_run(index: np.ndarray) -> bool:
    return bool(np.all(np.diff(index) == 1))


def share_out(
    shape: tuple[int, int], layers: Sequence[tuple[Axis, Axis]], mask: np.ndarray | None
) -> np.ndarray:
    """Give each output pixel to the first file, in cover order, whose tile has it.

    Parameters
    ----------
    shape : tuple of int
        ``(height, width)`` of the output.
    layers : sequence of tuple of Axis
        Rows and columns of each file's image, in cover order.
    mask : ndarray of bool or None
        Pixels inside the area; None for all.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        Position of the owner in ``layers``, or `NOBODY`.
    """
    owner = np.full(shape, NOBODY, dtype=np.uint8)
    for position in reversed(range(len(layers))):
        owner[footprint(layers[position])] = position
    if mask is not None:
        np.copyto(owner, NOBODY, where=~mask)
    return owner


def footprint(layer: tuple[Axis, Axis]) -> tuple[slice, slice]:
    """Say which part of the output a file's image lies under.

    Parameters
    ----------
    layer : tuple of Axis
        Its rows and columns.

    Returns
    -------
    tuple of slice
        Rows and columns of the output.
    """
    rows, columns = (slice(axis.first, axis.first + axis.pixels.size) for axis in layer)
    return rows, columns


def paste(output: np.ndarray, block: np.ndarray, target: Target, wanted: np.ndarray | None) -> None:
    """Copy a block's pixels to where they belong.

    Parameters
    ----------
    output : ndarray, shape (height, width)
        Written to.
    block : ndarray, shape (block height, block width)
        Pixels of the block.
    target : Target
        Where they go.
    wanted : ndarray of bool, shape (height, width), or None
        Output pixels that the file has to give; None for all.
    """
    if target.is_whole or wanted is None:
        output[target.output] = block[target.source]
    else:
        np.copyto(output[target.output], block[target.source], where=wanted[target.output])
