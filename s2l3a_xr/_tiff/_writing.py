"""A TIFF that has some blocks of another one, byte for byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from s2l3a_xr._tiff._layout import Layout, Tag

_SHORT, _LONG, _ASCII = 3, 4, 2
_CLASSIC_LIMIT = 2**32
_DESCRIPTION = 270
_NUMBERS = {"u": 1, "i": 2, "f": 3}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """What stands before the blocks of a sparse copy.

    Parameters
    ----------
    data : bytes
        The file's first bytes.
    layout : Layout
        Where each block will lie; those left out have neither place nor length.
    total : int
        Size of the whole file.
    """

    data: bytes
    layout: Layout
    total: int


def plan_copy(layout: Layout, wanted: np.ndarray, description: str) -> Head:
    """Lay out a file that has some blocks of another one and says all else as it does.

    Parameters
    ----------
    layout : Layout
        Of the original.
    wanted : ndarray of bool, shape (block rows, block columns)
        The blocks to be copied; they stand row by row.
    description : str
        Text of the ImageDescription tag, ASCII.

    Returns
    -------
    Head
        With the begin of the file.
    """
    counts = np.where(wanted, layout.counts, 0)
    length = len(_head(layout, counts, counts, description))
    ends = length + np.cumsum(counts.ravel())
    total = int(ends[-1])
    if total >= _CLASSIC_LIMIT:
        msg = f"a copy of {total} bytes does not fit into a classic TIFF"
        raise ValueError(msg)
    offsets = np.where(counts > 0, (ends - counts.ravel()).reshape(counts.shape), 0)
    return Head(
        data=_head(layout, offsets, counts, description),
        layout=replace(layout, offsets=offsets, counts=counts, leader=0, trailer=0),
        total=total,
    )


def _head(layout: Layout, offsets: np.ndarray, counts: np.ndarray, description: str) -> bytes:
    order = layout.byte_order

    def number(code: int, *values: int, kind: int = _SHORT) -> Tag:
        letter = "H" if kind == _SHORT else "I"
        return Tag(code, kind, len(values), struct.pack(f"{order}{len(values)}{letter}", *values))

    def table(code: int, values: np.ndarray) -> Tag:
        return Tag(code, _LONG, values.size, values.ravel().astype(f"{order}u4").tobytes())

    text = description.encode("ascii", "replace") + b"\0"
    tags = [
        number(256, layout.width, kind=_LONG),
        number(257, layout.height, kind=_LONG),
        number(258, layout.dtype.itemsize * 8),
        number(259, layout.compression),
        number(262, 1),  # black is zero
        Tag(_DESCRIPTION, _ASCII, len(text), text),
        number(277, 1),
        number(284, 1),
        number(317, layout.predictor),
        number(339, _NUMBERS[layout.dtype.kind]),
        *layout.tags,
    ]
    if layout.is_tiled:
        tags += [
            number(322, layout.block_width), number(323, layout.block_height),
            table(324, offsets), table(325, counts),
        ]  # fmt: skip
    else:
        tags += [
            table(273, offsets), number(278, layout.block_height, kind=_LONG), table(279, counts),
        ]  # fmt: skip
    return _pack(sorted(tags), order)


def _pack(tags: list[Tag], order: str) -> bytes:
    """Put the directory first, then what does not fit into it."""
    behind = 8 + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag in tags:
        place = tag.data.ljust(4, b"\0")
        if len(tag.data) > 4:  # noqa: PLR2004 - bytes of an entry
            place = struct.pack(f"{order}I", behind + len(values))
            values += tag.data + b"\0" * (len(tag.data) % 2)
        entries += struct.pack(f"{order}HHI", tag.code, tag.kind, tag.number) + place
    begin = b"MM\0*" if order == ">" else b"II*\0"
    directory = struct.pack(f"{order}IH", 8, len(tags)) + entries + struct.pack(f"{order}I", 0)
    return begin + directory + values
