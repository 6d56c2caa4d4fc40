"""Which blocks a window needs and which byte ranges bring them; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from s2l3a_xr._tiff import Layout

MERGE_GAP = 8 * 1024
"""Ranges with no more bytes than this between them are fetched as one."""

LONGEST_RANGE = 4 * 2**20
"""Longer ranges are cut, so that connections share a large image."""

MOST_RANGES = 50
"""Ranges in one request; Apache's limit is 200."""

Index: TypeAlias = "slice | np.ndarray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """How positions of the output lie on one axis of a file's image.

    Parameters
    ----------
    pixels : ndarray of int, ascending
        The image's pixel for each output position; those outside the image are left out.
    first : int
        Output position of the first of them.
    reach : tuple of int
        First pixel and the one behind the last that the whole grid has of the image: a block
        that reaches past ``pixels`` within it may be wanted by another chunk.
    """

    pixels: np.ndarray
    first: int
    reach: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The part of one axis that one row or column of blocks serves.

    Parameters
    ----------
    block : int
        Row or column of blocks.
    output : slice
        Positions in the output.
    source : slice or ndarray of int
        Pixels within the block.
    is_shared : bool
        Whether another chunk may want the block too.
    """

    block: int
    output: slice
    source: Index
    is_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One block and where its pixels go.

    Parameters
    ----------
    block : tuple of int
        Row and column of blocks.
    output : tuple of slice
        Rows and columns of the output.
    source : tuple of slice or ndarray
        Index of the wanted pixels in the block.
    is_whole : bool
        Whether all these output pixels are the file's to give.
    is_shared : bool
        Whether another chunk may want the block too.
    """

    block: tuple[int, int]
    output: tuple[slice, slice]
    source: tuple[Index, Index]
    is_whole: bool
    is_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bytes to fetch at once.

    Parameters
    ----------
    start, stop : int
        First byte and the byte behind the last one.
    targets : tuple of Target
        The blocks in it.
    """

    start: int
    stop: int
    targets: tuple[Target, ...]


def lay_axis(
    positions: np.ndarray,
    *,
    grid_start: float,
    grid_step: float,
    grid_size: int,
    image_start: float,
    image_step: float,
    image_size: int,
) -> Axis:
    """Find the image's pixel under the centre of each output position.

    Parameters
    ----------
    positions : ndarray of int, ascending
        Rows or columns of the grid.
    grid_start, image_start : float
        Outer edge of the first pixel, both in the axis' direction (y is negated).
    grid_step, image_step : float
        Pixel sizes.
    grid_size, image_size : int
        Numbers of pixels.

    Returns
    -------
    Axis
        Of those positions that lie on the image.
    """

    def on_image(index: np.ndarray) -> np.ndarray:
        centre = grid_start - image_start + (index + 0.5) * grid_step
        return np.floor(centre / image_step).astype(np.int64)

    pixels = on_image(np.asarray(positions))
    first, last = np.searchsorted(pixels, (0, image_size))
    ends = np.clip(on_image(np.array([0, grid_size - 1])), 0, image_size - 1)
    reach = (int(ends[0]), int(ends[1]) + 1)
    return Axis(pixels=pixels[first:last], first=int(first), reach=reach)


def cut_axis(axis: Axis, block_size: int) -> list[Span]:
    """Cut an axis where blocks end.

    Parameters
    ----------
    axis : Axis
        Positions on the image.
    block_size : int
        Pixels of a block along the axis.

    Returns
    -------
    list of Span
        One per row or column of blocks that has any of the positions.
    """
    pixels = axis.pixels
    if not pixels.size:
        return []
    blocks = pixels // block_size
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    stops = np.append(starts[1:], pixels.size)
    spans = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        block = int(blocks[start])
        inside = pixels[start:stop] - block * block_size
        is_run = inside[-1] - inside[0] == stop - start - 1 and np.all(np.diff(inside) == 1)
        wanted = (
            max(block * block_size, axis.reach[0]),
            min((block + 1) * block_size, axis.reach[1]),
        )
        spans.append(
            Span(
                block=block,
                output=slice(axis.first + start, axis.first + stop),
                source=slice(int(inside[0]), int(inside[-1]) + 1) if is_run else inside,
                is_shared=bool(wanted[0] < pixels[0] or wanted[1] > pixels[-1] + 1),
            )
        )
    return spans


def find_targets(
    rows: Sequence[Span], columns: Sequence[Span], wanted: np.ndarray | None
) -> list[Target]:
    """Choose the blocks that give at least one wanted pixel.

    Parameters
    ----------
    rows, columns : sequence of Span
        The image's axes, cut at its blocks.
    wanted : ndarray of bool, shape (height, width), or None
        Output pixels that the file has to give; None for all.

    Returns
    -------
    list of Target
        Row by row.
    """
    found = []
    for row in rows:
        band = None if wanted is None else wanted[row.output]
        for column in columns:
            part = None if band is None else band[:, column.output]
            if part is not None and not part.any():
                continue
            found.append(
                Target(
                    block=(row.block, column.block),
                    output=(row.output, column.output),
                    source=_index(row.source, column.source),
                    is_whole=part is None or bool(part.all()),
                    is_shared=row.is_shared or column.is_shared,
                )
            )
    return found


def _index(rows: Index, columns: Index) -> tuple[Index, Index]:
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return rows[:, None], columns[None, :]


def merge_ranges(targets: Iterable[Target], layout: Layout) -> list[Range]:
    """Join the bytes of neighbouring blocks.

    Parameters
    ----------
    targets : iterable of Target
        Blocks to fetch; those that were never written need no bytes and are left out.
    layout : Layout
        Of the file.

    Returns
    -------
    list of Range
        In the order of the file, with the leader of the first block and the trailer of the last
        one.
    """
    placed = [
        (int(layout.offsets[target.block]), int(layout.counts[target.block]), target)
        for target in targets
    ]
    placed = sorted((item for item in placed if item[1] > 0), key=lambda item: item[0])
    merged: list[tuple[int, int, list[Target]]] = []
    for offset, count, target in placed:
        stop = offset + count
        if merged:
            start, end, members = merged[-1]
            longest = max(LONGEST_RANGE, end - start)
            if offset - end <= MERGE_GAP and max(stop, end) - start <= longest:
                merged[-1] = (start, max(stop, end), [*members, target])
                continue
        merged.append((offset, stop, [target]))
    return [
        Range(start=a - layout.leader, stop=b + layout.trailer, targets=tuple(members))
        for a, b, members in merged
    ]


def group_ranges(ranges: Sequence[Range], requests: int) -> list[list[Range]]:
    """Put ranges together that one request may ask for.

    Parameters
    ----------
    ranges : sequence of Range
        In the order of the file.
    requests : int
        At least so many requests are made, where there are as many ranges.

    Returns
    -------
    list of list of Range
        Each of at most `MOST_RANGES` and, unless one range alone is longer,
        `LONGEST_RANGE` bytes.
    """
    most = min(MOST_RANGES, -(-len(ranges) // requests))
    groups: list[list[Range]] = []
    size = 0
    for part in ranges:
        length = part.stop - part.start
        if not groups or len(groups[-1]) >= most or size + length > LONGEST_RANGE:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += length
    return groups
