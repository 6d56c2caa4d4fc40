"""From a file's first bytes to its layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from s2l3a_xr._errors import FormatError
from s2l3a_xr._tiff._bytes import SparseBytes
from s2l3a_xr._tiff._directory import Directory, read_directories, tag_name
from s2l3a_xr._tiff._geo import describe_place
from s2l3a_xr._tiff._layout import (
    DEFLATES,
    FLOAT,
    HORIZONTAL,
    LZW,
    NO_PREDICTOR,
    NONE,
    OLD_ZSTD,
    ZSTD,
    Image,
    Layout,
)

BLOCK_CAP = 64 * 2**20
"""Longest unpacked block, where nothing else is said."""

_CODEC_NAMES = {
    2: "CCITT",
    7: "JPEG",
    34887: "LERC",
    34925: "LZMA",
    50001: "WebP",
    50002: "JPEG XL",
}
_DTYPES = {
    **{(1, bits): f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(3, bits): f"f{bits // 8}" for bits in (32, 64)},
}
_PLAIN = {266: (1,), 274: (1,), 284: (1, 2)}
"""What makes pixels of blocks in another way where it is something else; planes of one sample
are the image."""

_SLACK = 64 * 1024
_REDUCED, _MASK = 1, 4
_CARRIED = (33550, 33922, 34264, 34735, 34736, 34737, 42113)
"""Scale, tie point, transformation, GeoTIFF's keys with their numbers and texts, nodata."""

_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE="
_GHOST_HEAD = re.compile(_GHOST + rb"(\d{6}) bytes\n")
_GHOST_BYTES = 43
_FRAME_BYTES = 4


def parse_header(
    file: SparseBytes,
    url: str,
    *,
    check: Callable[[Image], None] | None = None,
    block_cap: int = BLOCK_CAP,
) -> Layout:
    """Read the first image's layout.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    url : str
        For messages.
    check : callable, optional
        Takes the image before its table of blocks is fetched and read, and may raise.
    block_cap : int, default 64 MiB
        Longest unpacked block.

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
    with _named(url):
        directory = next(read_directories(file))
        image = _image(directory, block_cap, has_place=True)
        if check is not None:
            check(image)
        return _layout(directory, image)


def parse_overviews(
    file: SparseBytes, url: str, full: Image, *, block_cap: int = BLOCK_CAP
) -> tuple[Layout, ...]:
    """Read the layouts of the reduced images that follow the first one.

    Parameters
    ----------
    file : SparseBytes
        What is at hand of the file.
    url : str
        For messages.
    full : Image
        The first one.
    block_cap : int, default 64 MiB
        Longest unpacked block.

    Returns
    -------
    tuple of Layout
        Finest first; they have no geometry of their own.

    Raises
    ------
    MissingBytesError
        More bytes are needed.
    FormatError
        One of them can't be read, or is no reduced image of the first one.
    """
    found: list[Layout] = []
    with _named(url):
        for number, directory in enumerate(read_directories(file)):
            kind = directory.integer(254, 0)
            if number and kind & _REDUCED and not kind & _MASK:
                image = _image(directory, block_cap, has_place=False)
                _check_overview(image, full, found)
                found.append(_layout(directory, image))
    return tuple(sorted(found, key=lambda layout: -layout.width))


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
    with _named(url):
        return next(read_directories(file)).text(270) or ""


@contextmanager
def _named(url: str) -> Iterator[None]:
    try:
        yield
    except FormatError as exc:
        exc.at(url=url)
        raise


def _image(directory: Directory, block_cap: int, *, has_place: bool) -> Image:
    """Read all that a directory says of its image but where the blocks lie."""
    samples = directory.integer(277, 1)
    if samples != 1:
        msg = f"the TIFF has {samples} samples a pixel ({tag_name(277)}), one is expected"
        raise FormatError(msg)
    if extra := directory.integers(338).tolist():
        msg = f"the TIFF's {tag_name(338)} is {extra}, but its pixels have one sample"
        raise FormatError(msg)
    for code, known in _PLAIN.items():
        if (value := directory.integer(code, 1)) not in known:
            msg = f"the TIFF's {tag_name(code)} is {value}, which is not read"
            raise FormatError(msg)
    dtype = _dtype(directory)
    compression, predictor = _packing(directory, dtype)
    width, height = directory.integer(256), directory.integer(257)
    block_width, block_height = _block_size(directory, width, height)
    size = block_width * block_height * dtype.itemsize
    if min(width, height, block_width, block_height) < 1 or size > block_cap:
        msg = (
            f"the TIFF's {width} x {height} pixels in blocks of {block_width} x {block_height}, "
            f"{size} bytes each, are not read, Transport(max_block_bytes={block_cap}) allows less"
        )
        raise FormatError(msg)
    return Image(
        width=width, height=height, block_width=block_width, block_height=block_height,
        dtype=dtype, compression=compression, predictor=predictor,
        **(describe_place(directory) if has_place else {}),
    )  # fmt: skip


def _dtype(directory: Directory) -> np.dtype[Any]:
    bits, kind = directory.integer(258, 1), directory.integer(339, 1)
    if (kind, bits) not in _DTYPES:
        msg = (
            f"the TIFF's pixels of {bits} bits ({tag_name(258)}) in sample format {kind} "
            f"({tag_name(339)}) are not read"
        )
        raise FormatError(msg)
    return np.dtype(f"{directory.order}{_DTYPES[kind, bits]}")


def _packing(directory: Directory, dtype: np.dtype[Any]) -> tuple[int, int]:
    codec, predictor = directory.integer(259, NONE), directory.integer(317, NO_PREDICTOR)
    if codec not in DEFLATES | {NONE, LZW, ZSTD, OLD_ZSTD}:
        known = _CODEC_NAMES.get(codec, "unknown")
        msg = (
            f"the TIFF's compression {codec} ({known}; {tag_name(259)}) is not read, only deflate, "
            "LZW, zstd and none are"
        )
        raise FormatError(msg)
    if predictor not in {NO_PREDICTOR, HORIZONTAL, FLOAT}:
        msg = f"the TIFF's predictor {predictor} ({tag_name(317)}) is unknown"
        raise FormatError(msg)
    if predictor != NO_PREDICTOR and (codec == NONE or (predictor == FLOAT and dtype.kind != "f")):
        msg = (
            f"the TIFF's predictor {predictor} ({tag_name(317)}) does not go with compression "
            f"{codec} and pixels of {dtype.newbyteorder('=')}"
        )
        raise FormatError(msg)
    return codec, predictor


def _block_size(directory: Directory, width: int, height: int) -> tuple[int, int]:
    if _is_tiled(directory):
        return directory.integer(322), directory.integer(323)
    return width, min(directory.integer(278, height), height)


def _is_tiled(directory: Directory) -> bool:
    tiled = [code for code in (322, 323, 324, 325) if code in directory]
    strips = [code for code in (273, 278, 279) if code in directory]
    if tiled and strips:
        msg = f"the TIFF has both tiles and strips ({tag_name(tiled[0])}, {tag_name(strips[0])})"
        raise FormatError(msg)
    return bool(tiled)


def _check_overview(image: Image, full: Image, others: list[Layout]) -> None:
    factor = round(full.width / image.width)
    sides = (-(-full.width // max(factor, 1)), -(-full.height // max(factor, 1)))
    is_new = all(image.width != other.width for other in others)
    if factor < 2 or (image.width, image.height) != sides or not is_new:  # noqa: PLR2004
        msg = (
            f"the TIFF's overview of {image.width} x {image.height} pixels is not a further "
            f"reduction of {full.width} x {full.height}"
        )
        raise FormatError(msg)
    if image.dtype != full.dtype:
        msg = f"the TIFF's overview has pixels of {image.dtype}, the image itself {full.dtype}"
        raise FormatError(msg)


def _layout(directory: Directory, image: Image) -> Layout:
    leader, trailer = _frame(directory)
    offsets, counts = (324, 325) if _is_tiled(directory) else (273, 279)
    layout = Layout(
        **{name: getattr(image, name) for name in Image.__dataclass_fields__},
        offsets=_table(directory, offsets, image),
        counts=_table(directory, counts, image),
        byte_order=directory.order,
        tags=tuple(directory.tag(code) for code in _CARRIED if code in directory),
        leader=leader,
        trailer=trailer,
    )
    _check_table(layout, directory.file.total)
    return layout


def _table(directory: Directory, code: int, image: Image) -> np.ndarray:
    shape = (-(-image.height // image.block_height), -(-image.width // image.block_width))
    number = directory.number_of(code)
    if number != shape[0] * shape[1]:
        what = "offsets" if code in {273, 324} else "counts"
        msg = f"the TIFF lists {number} block {what} ({tag_name(code)}), its size needs {shape}"
        raise FormatError(msg)
    return directory.integers(code).reshape(shape)


def _check_table(layout: Layout, total: int) -> None:
    """Refuse a block table that points outside the file or asks for absurd lengths."""
    offsets, counts = layout.offsets, layout.counts
    written = counts != 0
    wrong = (
        (offsets < layout.leader * written)
        | (counts < 0)
        | (offsets > total - counts - layout.trailer * written)
        | ((offsets == 0) == written)
        | (counts > 2 * layout.raw_block_bytes + _SLACK)
    )
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        msg = (
            f"the TIFF's block table can't be right: {counts[row, column]} bytes at "
            f"{offsets[row, column]} in a file of {total} bytes"
        )
        raise FormatError(msg, block=(row, column))


def _frame(directory: Directory) -> tuple[int, int]:
    """Read GDAL's structural metadata: what stands before and behind each block."""
    file, start = directory.file, directory.start
    stop = start + _GHOST_BYTES
    # Where the directory comes first, nothing can stand before it; and a small file ends early.
    if start <= directory.first < stop or stop > file.total:
        return 0, 0
    head = file.read(start, stop)
    if not head.startswith(_GHOST):
        return 0, 0
    found = _GHOST_HEAD.fullmatch(head)
    if found is None:
        msg = f"the TIFF's structural metadata begins {head!r}, which is not read"
        raise FormatError(msg)
    facts = dict(
        line.partition(b"=")[::2] for line in file.read(stop, stop + int(found[1])).split(b"\n")
    )
    if facts.get(b"KNOWN_INCOMPATIBLE_EDITION") != b"NO":
        return 0, 0
    is_led = facts.get(b"BLOCK_LEADER") == b"SIZE_AS_UINT4"
    is_trailed = facts.get(b"BLOCK_TRAILER") == b"LAST_4_BYTES_REPEATED"
    return is_led * _FRAME_BYTES, is_trailed * _FRAME_BYTES
