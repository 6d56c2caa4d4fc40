"""Which file gives which pixel, and the copying: first valid pixel in cover order, clipped."""

from __future__ import annotations

from collections.abc import Sequence

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


def to_pixels(features: Sequence[BaseGeometry], grid: Grid) -> tuple[BaseGeometry, ...]:
    """Express geometries in columns and rows of a grid, by GDAL's own arithmetic.

    A chunk's mask is then rasterised by whole-pixel shifts, which are exact: the mask does
    not depend on where chunks begin.

    Parameters
    ----------
    features : sequence of shapely geometry
        In the grid's CRS.
    grid : Grid
        The lattice.

    Returns
    -------
    tuple of shapely geometry
        x is the column, y the row, both fractional.
    """
    step = grid.resolution

    def convert(xy: np.ndarray) -> np.ndarray:
        column = -grid.left / step + xy[:, 0] * (1.0 / step)
        row = -grid.top / -step + xy[:, 1] * (1.0 / -step)
        return np.column_stack([column, row])

    return tuple(shapely.transform(np.array(features, dtype=object), convert))


def inside(
    features: Sequence[BaseGeometry], rows: np.ndarray, columns: np.ndarray, *, all_touched: bool
) -> np.ndarray:
    """Tell which pixels lie inside, as ``rasterio.mask.mask`` does.

    Parameters
    ----------
    features : sequence of shapely geometry
        In pixels of the grid, see `to_pixels`.
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
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    window = (left - 2, top - 2, left + width + 2, top + height + 2)
    near = [f for f in features if shapely.box(*window).intersects(shapely.box(*f.bounds))]
    near = [
        shapely.clip_by_rect(f, *window) if shapely.count_coordinates(f) > _MANY_VERTICES else f
        for f in near
    ]
    near = [feature for feature in near if not feature.is_empty]
    if not near:
        return np.zeros((len(rows), len(columns)), dtype=bool)
    burnt = rasterize(
        near,
        out_shape=(height, width),
        transform=Affine.translation(left, top),
        all_touched=all_touched,
        dtype="uint8",
    ).view(bool)
    if len(rows) < height:
        burnt = burnt[rows - top]
    if len(columns) < width:
        burnt = burnt[:, columns - left]
    return burnt


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
        owner[~mask] = NOBODY
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
