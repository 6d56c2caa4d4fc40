"""From a file's first bytes to its layout."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar, cast

import numpy as np
import tifffile

from s2l3a_xr._errors import FormatError
from s2l3a_xr._tiff._bytes import MissingBytesError, SparseBytes
from s2l3a_xr._tiff._layout import (
    DEFLATES,
    FLOAT,
    HORIZONTAL,
    LZW,
    NO_PREDICTOR,
    NONE,
    OLD_ZSTD,
    ZSTD,
    Layout,
    Tag,
)

HEADER_BYTES = 32 * 1024
"""First guess at a header's length: a COG of 10980 x 10980 with blocks of 256 fits in."""

HEADER_CAP = 8 * 2**20
"""Most bytes that are read for a header."""

_CODEC_NAMES = {
    2: "CCITT",
    7: "JPEG",
    34887: "LERC",
    34925: "LZMA",
    50001: "WebP",
    50002: "JPEG XL",
}
_PARSER_ERRORS = (
    ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error,
)  # fmt: skip
_LARGEST_BLOCK_PX = 2**28
_SLACK = 64 * 1024
_GDAL_NODATA = 42113
_CARRIED = (33550, 33922, 34735, 34736, 34737, _GDAL_NODATA)
"""Scale, tie point, GeoTIFF's keys with their numbers and texts, nodata."""

_MOST_IMAGES = 64
_T = TypeVar("_T")


def parse_header(file: SparseBytes, url: str) -> Layout:
    """Read the first image's layout.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    url : str
        For messages.

    Returns
    -------
    Layout
        Of the full-resolution image.

    Raises
    ------
    MissingBytesError
        More bytes are needed.
    FormatError
        It is no TIFF, or not one whose pixels can be read.
    """
    file.seek(0)
    magic = file.read(4)
    if magic not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        msg = f"this is no TIFF file: it begins {file_start(magic)}"
        raise FormatError(msg, url=url)
    return _parse(file, url, lambda page: _layout(page, page.geotiff_tags or {}, url))


def parse_overviews(file: SparseBytes, url: str) -> tuple[Layout, ...]:
    """Read the layouts of the reduced images that follow the first one.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    url : str
        For messages.

    Returns
    -------
    tuple of Layout
        Finest first; they have no geometry of their own.

    Raises
    ------
    MissingBytesError
        More bytes are needed.
    FormatError
        One of them can't be read.
    """

    def reduced(page: Any) -> tuple[Layout, ...]:  # noqa: ANN401 - tifffile is untyped
        pages = itertools.islice(page.parent.pages, 1, _MOST_IMAGES)
        found = [_layout(p, {}, url) for p in pages if p.subfiletype & 1 and not p.subfiletype & 4]
        return tuple(sorted(found, key=lambda layout: -layout.width))

    return _parse(file, url, reduced)


def read_description(file: SparseBytes, url: str) -> str:
    """Read the first image's ImageDescription.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    url : str
        For messages.

    Returns
    -------
    str
        Empty where there is none.
    """
    return _parse(file, url, lambda page: str(page.description))


def _parse(file: SparseBytes, url: str, take: Callable[[Any], _T]) -> _T:
    """Hand the first image to a function, and say in our words what goes wrong."""
    file.seek(0)
    try:
        with tifffile.TiffFile(cast("IO[bytes]", file), name="header") as tiff:
            return take(tiff.pages[0])
    except MissingBytesError:
        raise
    except _PARSER_ERRORS as exc:
        msg = f"the TIFF header is broken: {exc}"
        raise FormatError(msg, url=url) from exc


def file_start(data: bytes) -> str:
    """Show the first bytes of a file in a message.

    Parameters
    ----------
    data : bytes
        The file's begin.

    Returns
    -------
    str
        At most 80 of them.
    """
    return repr(data[:80])


def _layout(page: Any, geo: dict[str, Any], url: str) -> Layout:  # noqa: ANN401 - tifffile is untyped
    tiled = page.is_tiled
    block_width = page.tilewidth if tiled else page.imagewidth
    block_height = page.tilelength if tiled else min(page.rowsperstrip, page.imagelength)
    _check_image(page, block_width, block_height, url)
    shape = (-(-page.imagelength // block_height), -(-page.imagewidth // block_width))
    arrays = []
    for name, values in (("offsets", page.dataoffsets), ("counts", page.databytecounts)):
        if len(values) != shape[0] * shape[1]:
            msg = f"the TIFF lists {len(values)} block {name}, its size needs {shape}"
            raise FormatError(msg, url=url)
        arrays.append(np.asarray(values, dtype=np.int64).reshape(shape))
    scale, tie = geo.get("ModelPixelScale"), geo.get("ModelTiepoint")
    size = (float(scale[0]), float(scale[1])) if scale else None
    origin = None
    if tie and size:
        origin = (tie[3] - tie[0] * size[0], tie[4] + tie[1] * size[1])
    nodata = page.tags.valueof(_GDAL_NODATA)
    return Layout(
        width=page.imagewidth,
        height=page.imagelength,
        block_width=block_width,
        block_height=block_height,
        dtype=np.dtype(page.dtype).newbyteorder(page.parent.byteorder),
        compression=int(page.compression),
        predictor=int(page.predictor),
        nodata=_number(nodata, url),
        origin=origin,
        pixel_size=size,
        epsg=_epsg(geo),
        offsets=arrays[0],
        counts=arrays[1],
        byte_order=page.parent.byteorder,
        tags=tuple(_carried(page)),
    )


def _carried(page: Any) -> Iterator[Tag]:  # noqa: ANN401 - tifffile is untyped
    """Take tags as they stand; their values were read already, for what they mean."""
    for tag in (page.tags.get(code) for code in _CARRIED):
        if tag is not None:
            page.parent.filehandle.seek(tag.valueoffset)
            data = page.parent.filehandle.read(tag.valuebytecount)
            yield Tag(tag.code, int(tag.dtype), tag.count, data)


def _check_image(page: Any, block_width: int, block_height: int, url: str) -> None:  # noqa: ANN401
    codec = int(page.compression)
    if codec not in DEFLATES | {NONE, LZW, ZSTD, OLD_ZSTD}:
        known = _CODEC_NAMES.get(codec, "unknown")
        msg = f"the TIFF's compression {codec} ({known}) is not read; deflate, LZW, zstd, none are"
        raise FormatError(msg, url=url)
    if int(page.predictor) not in {NO_PREDICTOR, HORIZONTAL, FLOAT}:
        msg = f"the TIFF's predictor {int(page.predictor)} is unknown"
        raise FormatError(msg, url=url)
    if page.samplesperpixel != 1:
        msg = f"the TIFF has {page.samplesperpixel} samples a pixel, one is expected"
        raise FormatError(msg, url=url)
    if page.dtype is None or min(page.imagewidth, page.imagelength) < 1:
        msg = f"the TIFF's image has no readable type or size ({page.shape}, {page.dtype})"
        raise FormatError(msg, url=url)
    if min(block_width, block_height) < 1 or block_width * block_height > _LARGEST_BLOCK_PX:
        msg = f"the TIFF's blocks of {block_width} x {block_height} pixels can't be"
        raise FormatError(msg, url=url)


def _number(text: object, url: str) -> float | None:
    if text is None:
        return None
    try:
        return float(str(text).strip("\0 "))
    except ValueError as exc:
        msg = f"the TIFF's nodata {text!r} is no number"
        raise FormatError(msg, url=url) from exc


def _epsg(geo: dict[str, Any]) -> int | None:
    code = geo.get("ProjectedCSTypeGeoKey", geo.get("GeographicTypeGeoKey"))
    return int(code) if code is not None else None


def check_counts(layout: Layout, total: int, url: str) -> None:
    """Refuse a block table that points outside the file or asks for absurd lengths.

    Parameters
    ----------
    layout : Layout
        As parsed.
    total : int
        Size of the file.
    url : str
        For messages.

    Raises
    ------
    FormatError
        With the first block that can't be right.
    """
    offsets, counts = layout.offsets, layout.counts
    wrong = (
        (offsets < 0)
        | (counts < 0)
        | (offsets + counts > total)
        | ((offsets == 0) != (counts == 0))
        | (counts > 2 * layout.raw_block_bytes + _SLACK)
    )
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        msg = (
            f"the TIFF's block table can't be right: {counts[row, column]} bytes at "
            f"{offsets[row, column]} in a file of {total} bytes"
        )
        raise FormatError(msg, url=url, block=(row, column))
