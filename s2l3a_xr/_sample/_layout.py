"""Lay the bytes of a GeoTIFF without GDAL.

GDAL needs more than a second for one 10980 x 10980 file with overviews, most of it
spent on nodata. Here a small array is placed in a large raster of one fill value; all
blocks of nothing but fill share the bytes of a single block, so that a file of real
tile geometry costs little more than its pixels.

The order of things is the one of ``gdal_translate -co COPY_SRC_OVERVIEWS=YES``: all
IFDs first, the main one leading, then the block tables, then the blocks, smallest
overview first.

Overviews are plain 2 x 2 means of the level before, nodata taken as a number like any
other: ``gdaladdo -r average`` does the same on a raster whose nodata is not yet set,
which is how the files of the archive were made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Compression = Literal["deflate", "lzw", "zstd", "none"]
Pixels = NDArray[np.int16 | np.uint8 | np.uint16 | np.float32]

_COMPRESSION_TAG = {"none": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_TYPE_SIZE = {_ASCII: 1, _SHORT: 2, _LONG: 4, _DOUBLE: 8}
_TYPE_CODE = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}
_TILE_OFFSETS, _TILE_BYTE_COUNTS = 324, 325
_CLASSIC_LIMIT = 2**32

_GHOST_BODY = (
    b"LAYOUT=IFDS_BEFORE_DATA\n"
    b"BLOCK_ORDER=ROW_MAJOR\n"
    b"BLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
# The NUL at the end brings the first IFD to an even byte.
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n%b\0" % (len(_GHOST_BODY), _GHOST_BODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class CogSpec:
    """What a file is to look like, apart from its pixels."""

    width: int
    """Columns of the raster."""
    height: int
    """Rows of the raster."""
    epsg: int
    """A WGS 84 / UTM zone, 326zz."""
    left: float
    """Easting of the outer edge of the first column, metres."""
    top: float
    """Northing of the outer edge of the first row, metres."""
    resolution_m: float
    """Side of a pixel."""
    nodata: int | None = None
    """The GDAL_NODATA tag, in the main image and in every overview; None writes none."""
    fill: int | None = None
    """What stands where the array does not reach; None is nodata, or 0 without one."""
    row_offset: int = 0
    """Row of the raster where the array begins."""
    col_offset: int = 0
    """Column of the raster where the array begins."""
    block_size: int = 256
    """Side of the square blocks, a multiple of 16."""
    compression: Compression = "deflate"
    """The codec of the blocks."""
    level: int = 4
    """Effort of deflate and zstd."""
    predictor: Literal[1, 2] = 1
    """1 none, 2 horizontal differences."""
    overviews: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Factors, each twice the one before; empty for none."""
    ghost: bool = False
    """GDAL's structural metadata with block leaders and trailers. The blocks of fill are
    then no longer shared, as the metadata promises them in row order."""

    def __post_init__(self) -> None:
        """Refuse what can't be laid."""
        if self.block_size <= 0 or self.block_size % 16:
            raise ValueError(f"block_size must be a positive multiple of 16, not {self.block_size}")
        if self.overviews != tuple(2 ** (i + 1) for i in range(len(self.overviews))):
            raise ValueError(f"overviews must be 2, 4, 8, ... in turn, not {self.overviews}")
        if not (32601 <= self.epsg <= 32660):
            raise ValueError(f"epsg must be a northern WGS 84 / UTM zone, not {self.epsg}")

    @property
    def background(self) -> int:
        """The value of all pixels that the array does not cover."""
        if self.fill is not None:
            return self.fill
        return 0 if self.nodata is None else self.nodata


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """One resolution of the file: a raster of fill with an array in it."""

    width: int
    height: int
    pixels: Pixels
    row: int
    col: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    """The blocks of a level in row order; equal numbers are shared bytes."""

    level: _Level
    blobs: tuple[bytes, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    """One TIFF field, its value packed already."""

    code: int
    type: int
    count: int
    value: bytes

    @classmethod
    def of(cls, code: int, kind: int, *values: float) -> _Tag:
        """Pack numbers of one TIFF type."""
        packed = struct.pack(f"<{len(values)}{_TYPE_CODE[kind]}", *values)
        return cls(code=code, type=kind, count=len(values), value=packed)

    @classmethod
    def text(cls, code: int, text: str) -> _Tag:
        """Pack a string with its closing NUL."""
        packed = text.encode("ascii") + b"\0"
        return cls(code=code, type=_ASCII, count=len(packed), value=packed)


def write_cog(target: Path | BinaryIO, pixels: Pixels, spec: CogSpec) -> int:
    """Write one band as a tiled GeoTIFF in the order of a cloud-optimised one.

    Parameters
    ----------
    target : pathlib.Path or binary file
        Where the bytes go; a file is written from its present position, which must be 0.
    pixels : ndarray, shape (rows, cols)
        The whole raster, or a part of it placed at ``spec.row_offset``/``spec.col_offset``.
    spec : CogSpec
        Size, place and layout.

    Returns
    -------
    int
        Number of bytes written.

    Raises
    ------
    ValueError
        If the array does not lie inside the raster or the file would pass 4 GiB.
    """
    content = b"".join(_lay(pixels, spec))
    return target.write_bytes(content) if isinstance(target, Path) else target.write(content)


def _lay(pixels: Pixels, spec: CogSpec) -> Iterator[bytes]:
    encoded = [_encode_level(level, spec) for level in _pyramid(pixels, spec)]
    tables = [len(item.numbers) for item in encoded]
    fields = [_fields(item.level, spec, main=i == 0) for i, item in enumerate(encoded)]
    start = 8 + (len(_GHOST) if spec.ghost else 0)
    ifd_at, position = [], start
    for tags in fields:
        ifd_at.append(position)
        position += _ifd_size(tags)
    table_at = []
    for count in tables:
        table_at.append(position)
        position += 8 * count if count > 1 else 0

    blobs: list[bytes] = []
    offsets: list[list[int]] = [[] for _ in encoded]
    for index in reversed(range(len(encoded))):
        starts = []
        for blob in encoded[index].blobs:
            framed = _frame(blob) if spec.ghost else blob
            starts.append(position + (4 if spec.ghost else 0))
            blobs.append(framed)
            position += len(framed)
        offsets[index] = [starts[number] for number in encoded[index].numbers]
    if position >= _CLASSIC_LIMIT:
        raise ValueError(f"{position} bytes do not fit in a classic TIFF")

    yield struct.pack("<2sHI", b"II", 42, start)
    if spec.ghost:
        yield _GHOST
    arrays: list[bytes] = []
    for index, item in enumerate(encoded):
        counts = [len(item.blobs[number]) for number in item.numbers]
        one = len(counts) == 1
        offset_value = offsets[index][0] if one else table_at[index]
        count_value = counts[0] if one else table_at[index] + 4 * len(counts)
        follower = ifd_at[index + 1] if index + 1 < len(ifd_at) else 0
        pointers = {_TILE_OFFSETS: offset_value, _TILE_BYTE_COUNTS: count_value}
        yield _pack_ifd(fields[index], ifd_at[index], follower, pointers)
        if not one:
            arrays.append(np.array([offsets[index], counts], "<u4").tobytes())
    yield from arrays
    yield from blobs


def _pyramid(pixels: Pixels, spec: CogSpec) -> list[_Level]:
    rows, cols = pixels.shape
    row, col = spec.row_offset, spec.col_offset
    if row < 0 or col < 0 or row + rows > spec.height or col + cols > spec.width:
        raise ValueError(
            f"an array of {rows} x {cols} at row {row}, column {col} "
            f"does not lie in {spec.height} x {spec.width}"
        )
    level = _Level(width=spec.width, height=spec.height, pixels=pixels, row=row, col=col)
    levels = [level]
    for _ in spec.overviews:
        level = _halve(level, spec.background)
        levels.append(level)
    return levels


def _halve(level: _Level, background: int) -> _Level:
    rows, cols = level.pixels.shape
    stop_row, stop_col = level.row + rows, level.col + cols
    # An odd raster has no partner for its last row; repeating it keeps its own value.
    last_row = stop_row == level.height
    last_col = stop_col == level.width
    pad_rows = (level.row % 2, stop_row % 2)
    pad_cols = (level.col % 2, stop_col % 2)
    even = level.pixels
    if any(pad_rows + pad_cols):
        even = np.pad(even, (pad_rows, pad_cols), constant_values=background)
    if last_row and pad_rows[1]:
        even[-1] = even[-2]
    if last_col and pad_cols[1]:
        even[:, -1] = even[:, -2]
    wide = np.float64 if even.dtype.kind == "f" else np.int32
    pairs = np.add(even[0::2], even[1::2], dtype=wide)
    total = pairs[:, 0::2] + pairs[:, 1::2]
    mean = total / 4 if even.dtype.kind == "f" else (total + 2) >> 2
    return _Level(
        width=-(-level.width // 2),
        height=-(-level.height // 2),
        pixels=mean.astype(even.dtype),
        row=level.row // 2,
        col=level.col // 2,
    )


def _encode_level(level: _Level, spec: CogSpec) -> _Encoded:
    side = spec.block_size
    encode = _encoder(spec)
    empty = np.full((side, side), spec.background, level.pixels.dtype)
    empty_blob = encode(empty)
    blobs: list[bytes] = []
    numbers: list[int] = []
    shared: int | None = None
    for top in range(0, level.height, side):
        for left in range(0, level.width, side):
            block = _cut(level, top, left, empty)
            if block is None and shared is not None and not spec.ghost:
                numbers.append(shared)
                continue
            numbers.append(len(blobs))
            if block is None:
                shared = len(blobs)
            blobs.append(empty_blob if block is None else encode(block))
    return _Encoded(level=level, blobs=tuple(blobs), numbers=tuple(numbers))


def _cut(level: _Level, top: int, left: int, empty: Pixels) -> Pixels | None:
    """Pixels of one block, or None where it is nothing but fill."""
    side = empty.shape[0]
    row, col = top - level.row, left - level.col
    inside = level.pixels[max(row, 0) : max(row + side, 0), max(col, 0) : max(col + side, 0)]
    if inside.size == 0 or bool((inside == empty[0, 0]).all()):
        return None
    if inside.shape == empty.shape:
        return np.ascontiguousarray(inside)
    block = empty.copy()
    to_row, to_col = max(-row, 0), max(-col, 0)
    block[to_row : to_row + inside.shape[0], to_col : to_col + inside.shape[1]] = inside
    return block


def _encoder(spec: CogSpec) -> Callable[[Pixels], bytes]:
    level = spec.level

    def encode(block: Pixels) -> bytes:
        raw = block
        if spec.predictor == 2:
            raw = block.copy()
            raw[:, 1:] = block[:, 1:] - block[:, :-1]
        data = raw.astype(raw.dtype.newbyteorder("<"), copy=False).tobytes()
        if spec.compression == "deflate":
            return bytes(imagecodecs.deflate_encode(data, level=level))
        if spec.compression == "zstd":
            return bytes(imagecodecs.zstd_encode(data, level=level))
        if spec.compression == "lzw":
            return bytes(imagecodecs.lzw_encode(data))
        return data

    return encode


def _frame(blob: bytes) -> bytes:
    return struct.pack("<I", len(blob)) + blob + blob[-4:]


def _fields(level: _Level, spec: CogSpec, *, main: bool) -> list[_Tag]:
    dtype = level.pixels.dtype
    side = spec.block_size
    blocks = -(-level.width // side) * -(-level.height // side)
    tags = [] if main else [_Tag.of(254, _LONG, 1)]
    tags += [
        _Tag.of(256, _SHORT, level.width),
        _Tag.of(257, _SHORT, level.height),
        _Tag.of(258, _SHORT, 8 * dtype.itemsize),
        _Tag.of(259, _SHORT, _COMPRESSION_TAG[spec.compression]),
        _Tag.of(262, _SHORT, 1),
        _Tag.of(277, _SHORT, 1),
        _Tag.of(284, _SHORT, 1),
    ]
    if spec.compression != "none":
        tags.append(_Tag.of(317, _SHORT, spec.predictor))
    tags += [
        _Tag.of(322, _SHORT, side),
        _Tag.of(323, _SHORT, side),
        _Tag(code=_TILE_OFFSETS, type=_LONG, count=blocks, value=b""),
        _Tag(code=_TILE_BYTE_COUNTS, type=_LONG, count=blocks, value=b""),
        _Tag.of(339, _SHORT, _SAMPLE_FORMAT[dtype.kind]),
    ]
    if main:
        tags += _geo_fields(spec)
    if spec.nodata is not None:
        tags.append(_Tag.text(42113, str(spec.nodata)))
    return tags


def _geo_fields(spec: CogSpec) -> list[_Tag]:
    side = float(spec.resolution_m)
    projection = f"WGS 84 / UTM zone {spec.epsg - 32600}N|"
    datum = "WGS 84|"
    keys = (
        (1, 1, 0, 7),
        (1024, 0, 1, 1),  # GTModelType: projected
        (1025, 0, 1, 1),  # GTRasterType: pixel is area
        (1026, 34737, len(projection), 0),  # GTCitation
        (2049, 34737, len(datum), len(projection)),  # GeodeticCitation
        (2054, 0, 1, 9102),  # GeogAngularUnits: degree
        (3072, 0, 1, spec.epsg),  # ProjectedCRS
        (3076, 0, 1, 9001),  # ProjLinearUnits: metre
    )
    return [
        _Tag.of(33550, _DOUBLE, side, side, 0.0),
        _Tag.of(33922, _DOUBLE, 0.0, 0.0, 0.0, float(spec.left), float(spec.top), 0.0),
        _Tag.of(34735, _SHORT, *(number for key in keys for number in key)),
        _Tag.text(34737, projection + datum),
    ]


def _value_size(tag: _Tag) -> int:
    """Bytes of the value that stand behind the IFD, padded to a word."""
    size = len(tag.value)
    return 0 if size <= 4 else size + size % 2


def _ifd_size(tags: list[_Tag]) -> int:
    return 2 + 12 * len(tags) + 4 + sum(_value_size(tag) for tag in tags)


def _pack_ifd(tags: list[_Tag], at: int, follower: int, pointers: dict[int, int]) -> bytes:
    entries = [struct.pack("<H", len(tags))]
    values: list[bytes] = []
    position = at + 2 + 12 * len(tags) + 4
    for tag in tags:
        entries.append(struct.pack("<HHI", tag.code, tag.type, tag.count))
        if tag.code in pointers:
            entries.append(struct.pack("<I", pointers[tag.code]))
        elif len(tag.value) <= 4:
            entries.append(tag.value.ljust(4, b"\0"))
        else:
            entries.append(struct.pack("<I", position))
            values.append(tag.value.ljust(_value_size(tag), b"\0"))
            position += _value_size(tag)
    entries.append(struct.pack("<I", follower))
    return b"".join(entries + values)
