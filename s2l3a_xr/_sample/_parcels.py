"""Parcels of land: blocks between roads, strips across them, cut to lengths.

Ten to fifty hectares each, as on the plains of central Germany.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2l3a_xr._sample._noise import Floats, hash_of, unit_of, value_noise
from s2l3a_xr._sample._strip import DETAIL_AT

_BLOCK_M = 1500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Blocks of fields between roads: the cells of scattered points."""

    number: NDArray[np.intp]
    """Index of the block in the tables below."""
    border_m: Floats
    """Distance to the next block."""
    border_key: NDArray[np.uint32]
    """The same for all pixels along one border, from both sides."""
    key: NDArray[np.uint32]
    """Hash of each block."""
    seed_x: Floats
    seed_y: Floats


def blocks_of(x: Floats, y: Floats) -> Blocks:
    """Find the block of every place."""
    scale = np.float32(1 / _BLOCK_M)
    column = np.floor(x * scale).astype(np.int32)
    row = np.floor(y * scale).astype(np.int32)
    left, top = int(column.min()) - 1, int(row.min()) - 1
    width, height = int(column.max()) - left + 2, int(row.max()) - top + 2
    across = np.arange(left, left + width, dtype=np.int32)[None, :]
    down = np.arange(top, top + height, dtype=np.int32)[:, None]
    jitter_x = unit_of(hash_of(across, down, 11)) * np.float32(0.8) + np.float32(0.1)
    jitter_y = unit_of(hash_of(across, down, 12)) * np.float32(0.8) + np.float32(0.1)
    seed_x = ((np.arange(left, left + width) + jitter_x) * _BLOCK_M).astype(np.float32).ravel()
    down_at = np.arange(top, top + height)[:, None]
    seed_y = ((down_at + jitter_y) * _BLOCK_M).astype(np.float32).ravel()
    key = hash_of(across, down, 13).ravel()

    home = ((row - np.int32(top)) * np.int32(width) + (column - np.int32(left))).astype(np.intp)
    steps = np.array([down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1)])
    far = np.finfo(np.float32).max
    first = second = np.full(x.shape, far, np.float32).view(np.int32)
    for index, step in enumerate(steps):
        at = home + step
        dx, dy = seed_x[at] - x, seed_y[at] - y
        # Positive floats sort as integers do: with the neighbour's index in the lowest
        # bits, the two nearest come out of plain minima, to a millimetre.
        rated = (dx * dx + dy * dy).view(np.int32) & np.int32(~15) | np.int32(index)
        second = np.minimum(second, np.maximum(first, rated))
        first = np.minimum(first, rated)
    number = home + steps[first & np.int32(15)]
    other = home + steps[second & np.int32(15)]
    nearest, next_nearest = first.view(np.float32), second.view(np.float32)
    gap = np.hypot(seed_x[number] - seed_x[other], seed_y[number] - seed_y[other])
    border_m = (next_nearest - nearest) / (2 * gap + np.float32(1e-3))
    return Blocks(
        number=number,
        border_m=border_m,
        border_key=key[number] ^ key[other],
        key=key,
        seed_x=seed_x,
        seed_y=seed_y,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Parcels: strips across a block, cut to lengths."""

    key: NDArray[np.uint32]
    """Hash of the parcel."""
    strip_key: NDArray[np.uint32]
    """Hash of the strip that it lies in."""
    side_m: Floats
    """Distance to the next strip."""
    end_m: Floats
    """Distance to the next parcel of the strip."""
    along: Floats
    """Metres in the direction of the plough."""
    across: Floats


def fields_of(x: Floats, y: Floats, blocks: Blocks) -> Fields:
    """Find the parcel of every place."""
    key = blocks.key
    # The lie of the land turns slowly; half of the blocks are ploughed the other way.
    lie = value_noise(blocks.seed_x, blocks.seed_y, 7000.0, 21) * np.float32(1.3)
    turn = lie + (unit_of(hash_of(key, key, 22)) - np.float32(0.5)) * np.float32(0.5)
    turn += np.where(key & np.uint32(4), np.float32(np.pi / 2), np.float32(0))
    cosine, sine = np.cos(turn), np.sin(turn)
    # Far from the sample's region the parcels are larger, as every border costs disk.
    away = np.hypot(blocks.seed_x - DETAIL_AT[0], blocks.seed_y - DETAIL_AT[1])
    size = np.where(away < 9000, np.float32(1), np.float32(1.4))
    width = (np.float32(200) + np.float32(320) * unit_of(hash_of(key, key, 23)) ** 2) * size
    at = blocks.number
    dx, dy = x - blocks.seed_x[at], y - blocks.seed_y[at]
    along = dx * cosine[at] + dy * sine[at]
    across = dy * cosine[at] - dx * sine[at]

    strip_width = width[at]
    place = across / strip_width
    strip = np.floor(place)
    place -= strip
    side_m = np.minimum(place, 1 - place) * strip_width
    strip_key = hash_of(key[at], strip.astype(np.int32), 24)
    length = np.float32(450) + np.float32(1000) * unit_of(strip_key)
    length *= size[at]
    place = along / length + unit_of(hash_of(strip_key, strip_key, 25))
    piece = np.floor(place)
    place -= piece
    end_m = np.minimum(place, 1 - place) * length
    return Fields(
        key=hash_of(strip_key, piece.astype(np.int32), 26),
        strip_key=strip_key,
        side_m=side_m,
        end_m=end_m,
        along=along,
        across=across,
    )
