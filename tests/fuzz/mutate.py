"""Spoiling bytes, in the same ways for hypothesis and for plain random numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable

Choose = Callable[[int], int]
"""Gives a whole number from 0 up to, not including, its argument."""

_NUMBERS = (0, 1, 2, 3, 7, 8, 16, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(data: bytes, choose: Choose, reach: int | None = None) -> bytes:
    """Spoil a few places.

    Parameters
    ----------
    data : bytes
        Something valid.
    choose : callable
        Where choices come from.
    reach : int, optional
        Only the first bytes of the data are spoilt.

    Returns
    -------
    bytes
        Mostly of the same length.
    """
    spoilt = bytearray(data)
    for _ in range(1 + choose(3)):
        end = max(1, min(reach or len(spoilt), len(spoilt)))
        _WAYS[choose(len(_WAYS))](spoilt, choose(end), choose)
    return bytes(spoilt)


def _flip(data: bytearray, at: int, choose: Choose) -> None:
    data[at : at + 1] = bytes(byte ^ 1 << choose(8) for byte in data[at : at + 1])


def _replace(data: bytearray, at: int, choose: Choose) -> None:
    data[at : at + 1] = bytes([choose(256)])


def _number(data: bytearray, at: int, choose: Choose) -> None:
    width, letter = ((2, "H"), (4, "I"), (8, "Q"))[choose(3)]
    value = _NUMBERS[choose(len(_NUMBERS))] % 256**width
    data[at : at + width] = struct.pack("<>"[choose(2)] + letter, value)


def _add(data: bytearray, at: int, choose: Choose) -> None:
    """Change a number of two bytes a little: neighbouring tags, sizes, places."""
    part = bytes(data[at : at + 2]).ljust(2, b"\0")
    value = (int.from_bytes(part, "little") + choose(33) - 16) % 2**16
    data[at : at + 2] = value.to_bytes(2, "little")


def _copy(data: bytearray, at: int, choose: Choose) -> None:
    """Put one stretch in the place of another, such as a tag over its neighbour."""
    length, source = (2, 4, 12, 20)[choose(4)], choose(max(1, len(data)))
    data[at : at + length] = data[source : source + length]


def _cut(data: bytearray, at: int, choose: Choose) -> None:
    if choose(4) == 0:
        del data[at:]
    else:
        del data[at : at + 1 + choose(8)]


def _insert(data: bytearray, at: int, choose: Choose) -> None:
    data[at:at] = bytes(choose(256) for _ in range(1 + choose(4)))


_WAYS = (_flip, _replace, _replace, _number, _number, _add, _copy, _cut, _insert)
