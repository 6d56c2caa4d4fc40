"""One large GeoTIFF, written in pieces that an interruption leaves to the next run.

Each piece is a small GeoTIFF of its own beside the target, whole or not there, with content and
checksum as any other. The file is put together of their packed tiles: its header is GDAL's,
made without pixels, and told at the end where each tile lies.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.windows import Window

from s2l3a_xr._disk import make_folder, whole_file
from s2l3a_xr._errors import ExportError
from s2l3a_xr._geotiff import (
    PROFILES,
    TILE_PX,
    blank_geotiff,
    checksum_of,
    claims_content,
    creation_options,
    is_sound,
    write_geotiff,
)
from s2l3a_xr._raster import Raster

_CLASSIC_LIMIT = 4_000_000_000
"""Most bytes of a classic TIFF's blocks; the header comes on top."""

_CACHE_BYTES = 64_000_000

_OFFSETS, _COUNTS = frozenset({273, 324}), frozenset({279, 325})
_NUMBERS = {3: "u2", 4: "u4", 16: "u8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A rectangle of a plane.

    Parameters
    ----------
    path : Path
        Where it is kept.
    row, column : int
        Its first pixel in the plane.
    raster : Raster
        Its place and type.
    """

    path: Path
    row: int
    column: int
    raster: Raster


@dataclass(slots=True)
class _Seen:
    """What went by while a file was put together."""

    nodata: float | None
    checksum: int = 0
    is_empty: bool = True

    def look(self, pixels: np.ndarray) -> None:
        self.checksum = zlib.crc32(pixels.data.cast("B"), self.checksum)
        self.is_empty = self.is_empty and bool((pixels == self.nodata).all())


def cut_plane(path: Path, raster: Raster, side: int) -> list[list[Piece]]:
    """Cut a plane into pieces.

    Parameters
    ----------
    path : Path
        The file that is made of them.
    raster : Raster
        The plane.
    side : int
        Pixels of a piece along both axes, a multiple of 256.

    Returns
    -------
    list of list of Piece
        Row by row.
    """
    step_x, _, left, _, step_y, top = raster.transform[:6]

    def piece(row: int, column: int) -> Piece:
        corner = Affine(step_x, 0.0, left + column * step_x, 0.0, step_y, top + row * step_y)
        part = replace(
            raster,
            width=min(side, raster.width - column),
            height=min(side, raster.height - row),
            transform=corner,
        )
        place = _folder(path) / f"{row}_{column}.tif"
        return Piece(path=place, row=row, column=column, raster=part)

    columns = range(0, raster.width, side)
    return [[piece(row, column) for column in columns] for row in range(0, raster.height, side)]


def _folder(path: Path) -> Path:
    return path.with_name(f".{path.name}.pieces")


def drop_pieces(path: Path) -> None:
    """Remove what pieces there are of a file.

    Parameters
    ----------
    path : Path
        The file, which is complete.
    """
    folder = _folder(path)
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def has_piece(piece: Piece, content: str) -> bool:
    """Tell whether a piece is there, with the pixels that were written.

    Parameters
    ----------
    piece : Piece
        The piece.
    content : str
        What its pixels must be.

    Returns
    -------
    bool
        False where it is to be written.
    """
    claimed = claims_content(piece.path, piece.raster, content, overwrite=True)
    return claimed and is_sound(piece.path)


def write_piece(piece: Piece, pixels: np.ndarray, *, name: str, content: str | None) -> None:
    """Write a piece, whole or not at all.

    Parameters
    ----------
    piece : Piece
        The piece.
    pixels : ndarray, shape (height, width)
        Its pixels.
    name : str
        Of the band.
    content : str or None
        What the pixels are; None where something of them failed.

    Raises
    ------
    ExportError
        It can't be written.
    """
    make_folder(piece.path.parent)
    write_geotiff(piece.path, pixels, piece.raster, "compressed", name=name, content=content)


def join_pieces(
    path: Path,
    pieces: Sequence[Sequence[Piece]],
    raster: Raster,
    profile: str,
    *,
    name: str,
    content: str | None,
) -> bool:
    """Put a file together of its pieces, whole or not at all, and remove them.

    No more than a row of tiles is in memory at once, besides the table of tiles.

    Parameters
    ----------
    path : Path
        Where it goes; what is there is replaced.
    pieces : sequence of sequence of Piece
        From `cut_plane`, all of them written.
    raster : Raster
        Its place and type.
    profile : str
        How it is packed.
    name : str
        Of the band.
    content : str or None
        What the pixels are; None where something of them failed.

    Returns
    -------
    bool
        Whether all of its pixels are nodata.

    Raises
    ------
    ExportError
        It can't be written, or a piece is damaged.
    """
    try:
        with whole_file(path) as place:
            if profile == "cog":
                joined = place.with_name("joined.tif")
                is_empty = _join(joined, pieces, raster, "compressed", name=name, content=content)
                _as_cog(joined, place, raster)
            else:
                is_empty = _join(place, pieces, raster, profile, name=name, content=content)
    except rasterio.errors.RasterioError as exc:
        msg = f"{path} can't be put together of its pieces: {exc}; run the same again."
        raise ExportError(msg) from exc
    drop_pieces(path)
    return is_empty


def _join(
    place: Path,
    pieces: Sequence[Sequence[Piece]],
    raster: Raster,
    profile: str,
    *,
    name: str,
    content: str | None,
) -> bool:
    size = raster.width * raster.height * np.dtype(raster.dtype).itemsize
    if profile != "plain":
        size = sum(piece.path.stat().st_size for row in pieces for piece in row)
    big = size > _CLASSIC_LIMIT
    seen = _Seen(raster.nodata)
    blank, rows = blank_geotiff(raster, profile, name=name, content=content, checksum=0, big=big)
    with place.open("wb") as file:
        file.write(blank)
        lengths = [
            file.write(block)
            for row in pieces
            for block in _blocks(row, seen, is_plain=profile == "plain")
        ]
        if profile == "plain":  # strips lie as rows do, and may have reached past what came at once
            lengths = [min(rows, raster.height - top) * (size // raster.height)
                       for top in range(0, raster.height, rows)]  # fmt: skip
        if seen.is_empty:  # as in small files: what holds nothing is made anew
            content = None
        head, _ = blank_geotiff(
            raster, profile, name=name, content=content, checksum=seen.checksum, big=big
        )
        file.seek(0)
        file.write(_with_tables(head, np.array(lengths), len(blank)))
    return seen.is_empty


def _blocks(row: Sequence[Piece], seen: _Seen, *, is_plain: bool) -> Iterator[bytes | memoryview]:
    """Give what a row of pieces adds to the file: its rows, or its tiles as they are packed."""
    for tile_row, top in enumerate(range(0, row[0].raster.height, TILE_PX)):
        with contextlib.ExitStack() as stack:  # each time: GDAL keeps what it read of open files
            files = [stack.enter_context(rasterio.open(piece.path)) for piece in row]
            rows = min(TILE_PX, row[0].raster.height - top)
            parts = [file.read(1, window=Window(0, top, file.width, rows)) for file in files]
            pixels = np.hstack(parts)
            seen.look(pixels)
            if is_plain:
                yield pixels.data.cast("B")
                continue
            for file, piece in zip(files, row, strict=True):
                with piece.path.open("rb") as raw:
                    yield from _tiles(file, raw, tile_row)


def _tiles(file: Any, raw: Any, tile_row: int) -> Iterator[bytes]:  # noqa: ANN401 - rasterio is untyped
    for column in range(-(-file.width // TILE_PX)):
        where = (
            file.get_tag_item(f"BLOCK_{what}_{column}_{tile_row}", "TIFF", bidx=1)
            for what in ("OFFSET", "SIZE")
        )
        offset, size = map(int, where)
        raw.seek(offset)
        yield raw.read(size)


def _with_tables(head: bytes, lengths: np.ndarray, begin: int) -> bytes:
    """Tell a header where its blocks lie: one behind the other."""
    tables = dict.fromkeys(_COUNTS, lengths)
    tables |= dict.fromkeys(_OFFSETS, begin + np.cumsum(lengths) - lengths)
    patched = bytearray(head)
    order = "<" if head[:2] == b"II" else ">"
    is_big = head[2:4] in {b"+\0", b"\0+"}
    word, count, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (directory,) = struct.unpack_from(order + word, head, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + count, head, directory)
    first = directory + struct.calcsize(order + count)
    for at in range(first, first + entries * entry, entry):
        code, kind, number = struct.unpack_from(f"{order}HH{word}", head, at)
        if code in tables:
            values = tables[code].astype(order + _NUMBERS[kind])
            place = at + entry - struct.calcsize(word)
            if values.nbytes > struct.calcsize(word):
                (place,) = struct.unpack_from(order + word, head, place)
            if number != values.size or (values != tables[code]).any():
                msg = f"a TIFF of {number} blocks can't hold {values.size} of them"
                raise ExportError(msg, hint="try another profile, or tell the package's authors.")
            patched[place : place + values.nbytes] = values.tobytes()
    return bytes(patched)


def _as_cog(joined: Path, place: Path, raster: Raster) -> None:
    """Have GDAL make overviews, and look at what it made: it keeps quiet when a disk is full."""
    options = {key: creation_options(raster, "cog")[key] for key in (*PROFILES["cog"], "predictor")}
    # By itself GDAL keeps a twentieth of the machine's memory of what it has read.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
        rasterio.shutil.copy(joined, place, bigtiff="IF_SAFER", **options)
        with rasterio.open(joined) as file:
            expected = checksum_of(file)
        with rasterio.open(place) as file:
            found, levels = checksum_of(file), len(file.overviews(1))
        for level in range(levels):
            with rasterio.open(place, overview_level=level) as file:
                checksum_of(file)
    joined.unlink()
    if found != expected:
        msg = (
            f"{place.name} can't be written: its pixels are not those written; is the disk full? "
            "Run the same again."
        )
        raise ExportError(msg)
