"""The directories of a TIFF: which tags there are, and their values as numbers or text.

Nothing of a file is believed: a value is read where its type, number and place can be right,
and what a header claims is never allocated before that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from s2l3a_xr._errors import FormatError
from s2l3a_xr._tiff._bytes import SparseBytes
from s2l3a_xr._tiff._layout import Tag

NAMES = {
    254: "NewSubfileType", 256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample",
    259: "Compression", 266: "FillOrder", 270: "ImageDescription", 273: "StripOffsets",
    274: "Orientation", 277: "SamplesPerPixel", 278: "RowsPerStrip", 279: "StripByteCounts",
    284: "PlanarConfiguration", 317: "Predictor", 322: "TileWidth", 323: "TileLength",
    324: "TileOffsets", 325: "TileByteCounts", 338: "ExtraSamples", 339: "SampleFormat",
    33550: "ModelPixelScale", 33922: "ModelTiepoint", 34264: "ModelTransformation",
    34735: "GeoKeyDirectory", 34736: "GeoDoubleParams", 34737: "GeoAsciiParams",
    42112: "GDAL_METADATA", 42113: "GDAL_NODATA",
}  # fmt: skip
"""Tags that are read; all others may hold anything."""

_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
_ASCII, _DOUBLE = 2, 12
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_MOST_ENTRIES = 4096
_MOST_DIRECTORIES = 64


class _Form(NamedTuple):
    """How numbers of a directory are written: classic, or BigTIFF."""

    tags: str
    number: str
    start: int
    """Where the file's header ends."""


_CLASSIC, _BIG = _Form("H", "I", 8), _Form("Q", "Q", 16)
_MAGIC = {
    b"II*\0": ("<", _CLASSIC), b"MM\0*": (">", _CLASSIC),
    b"II+\0": ("<", _BIG), b"MM\0+": (">", _BIG),
}  # fmt: skip


class _Entry(NamedTuple):
    kind: int
    number: int
    start: int


def tag_name(code: int) -> str:
    """Say which tag is meant.

    Parameters
    ----------
    code : int
        One of `NAMES`.

    Returns
    -------
    str
        Its number and name.
    """
    return f"tag {code} ({NAMES[code]})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Directory:
    """One directory: its tags by number.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    order : str
        The file's byte order, ``<`` or ``>``.
    start : int
        Where the file's own header ends, and GDAL's structural metadata may stand.
    first : int
        Where the first directory stands.
    entries : mapping of int to entry
        Tags of `NAMES` alone.
    """

    file: SparseBytes
    order: str
    start: int
    first: int
    entries: Mapping[int, _Entry]

    def __contains__(self, code: int) -> bool:
        return code in self.entries

    def number_of(self, code: int) -> int:
        """Count a tag's values without reading them.

        Parameters
        ----------
        code : int
            The tag.

        Returns
        -------
        int
            0 where there is no such tag.
        """
        return self.entries[code].number if code in self.entries else 0

    def tag(self, code: int) -> Tag:
        """Take a tag as it stands.

        Parameters
        ----------
        code : int
            A tag that the directory has.

        Returns
        -------
        Tag
            With all of its bytes.

        Raises
        ------
        MissingBytesError, FormatError
            As `SparseBytes.read`; also for a type that TIFF has not got.
        """
        entry = self.entries[code]
        size = _SIZES.get(entry.kind)
        if size is None:
            msg = f"the TIFF's {tag_name(code)} has the unknown type {entry.kind}"
            raise FormatError(msg)
        data = self.file.read(entry.start, entry.start + entry.number * size)
        return Tag(code, entry.kind, entry.number, data)

    def _values(self, code: int, kinds: Mapping[int, str]) -> np.ndarray:
        if code not in self.entries:
            return np.empty(0)
        entry = self.entries[code]
        if entry.kind not in kinds or not entry.number:
            msg = f"the TIFF's {tag_name(code)} has {entry.number} values of type {entry.kind}"
            raise FormatError(msg)
        return np.frombuffer(self.tag(code).data, f"{self.order}{kinds[entry.kind]}")

    def integers(self, code: int) -> np.ndarray:
        """Read whole numbers.

        Parameters
        ----------
        code : int
            The tag.

        Returns
        -------
        ndarray of int64
            Empty where there is no such tag. What does not fit is negative, which nothing
            that is asked for may be.

        Raises
        ------
        MissingBytesError, FormatError
            As `tag`; also where it has no whole numbers.
        """
        return self._values(code, _WHOLE).astype(np.int64)

    def integer(self, code: int, default: int | None = None) -> int:
        """Read a tag of one whole number.

        Parameters
        ----------
        code : int
            The tag.
        default : int, optional
            Where there is no such tag; without it, that is an error.

        Returns
        -------
        int
            The number.

        Raises
        ------
        MissingBytesError, FormatError
            As `integers`; also where there are several.
        """
        number = self.number_of(code)
        if number > 1 or (code not in self.entries and default is None):
            msg = f"the TIFF has {number} values of {tag_name(code)}, one is expected"
            raise FormatError(msg)
        values = self.integers(code)
        return int(values[0]) if len(values) else default or 0

    def floats(self, code: int) -> tuple[float, ...]:
        """Read floating-point numbers.

        Parameters
        ----------
        code : int
            The tag.

        Returns
        -------
        tuple of float
            Empty where there is no such tag.

        Raises
        ------
        MissingBytesError, FormatError
            As `tag`; also where it has no such numbers.
        """
        return tuple(self._values(code, {_DOUBLE: "f8"}).tolist())

    def text(self, code: int) -> str | None:
        """Read text up to its first NUL.

        Parameters
        ----------
        code : int
            The tag.

        Returns
        -------
        str or None
            None where there is no such tag.

        Raises
        ------
        MissingBytesError, FormatError
            As `tag`; also where it is no text.
        """
        if code not in self.entries:
            return None
        data = self._values(code, {_ASCII: "u1"}).tobytes()
        return data.partition(b"\0")[0].decode("utf-8", "replace")


def read_directories(file: SparseBytes) -> Iterator[Directory]:
    """Read one directory after the other.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.

    Yields
    ------
    Directory
        At least one.

    Raises
    ------
    MissingBytesError
        More bytes are needed.
    FormatError
        It is no TIFF, or its directories can't be right: in a circle, outside the file, too many
        or too long, with a tag twice.
    """
    magic = file.begin()
    if magic[:4] not in _MAGIC:
        msg = f"this is no TIFF file: it begins {magic!r}"
        raise FormatError(msg)
    order, form = _MAGIC[magic[:4]]
    width = struct.calcsize(f"<{form.number}")
    start = form.start - width
    if form is _BIG and file.read(4, 8) != struct.pack(f"{order}HH", 8, 0):
        msg = "the TIFF's header is broken: a BigTIFF's places have 8 bytes each"
        raise FormatError(msg)
    first = place = _number(file.read(start, form.start), order)
    seen: set[int] = set()
    while place or not seen:
        if place in seen or len(seen) == _MOST_DIRECTORIES or place < form.start:
            msg = f"the TIFF's directory {len(seen) + 1} at byte {place} can't be right"
            raise FormatError(msg)
        seen.add(place)
        entries, place = _read_entries(file, order, form, place)
        yield Directory(file=file, order=order, start=form.start, first=first, entries=entries)


def _read_entries(
    file: SparseBytes, order: str, form: _Form, place: int
) -> tuple[dict[int, _Entry], int]:
    width, head = struct.calcsize(f"<{form.number}"), struct.calcsize(f"<{form.tags}")
    number = _number(file.read(place, place + head), order)
    if not 0 < number <= _MOST_ENTRIES:
        msg = f"the TIFF's directory at byte {place} has {number} tags"
        raise FormatError(msg)
    size, place = 4 + 2 * width, place + head
    table = file.read(place, place + number * size + width)
    entries: dict[int, _Entry] = {}
    for at in range(0, number * size, size):
        code, kind, values = struct.unpack_from(f"{order}HH{form.number}", table, at)
        if code not in NAMES:
            continue
        if code in entries:
            msg = f"the TIFF has its {tag_name(code)} twice"
            raise FormatError(msg)
        is_inside = values * _SIZES.get(kind, 1) <= width
        value = at + 4 + width
        where = place + value if is_inside else _number(table[value : value + width], order)
        entries[code] = _Entry(kind, values, where)
    return entries, _number(table[-width:], order)


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")
