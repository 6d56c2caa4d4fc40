"""One file of the archive: its header, held against what the tile must have."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from s2l3a_xr._errors import FormatError, ReadError
from s2l3a_xr._flags import FlagEncoding
from s2l3a_xr._identity import Marks, Pin, Standing, check_same, digest, tell_version
from s2l3a_xr._loop import in_thread
from s2l3a_xr._product import NODATA
from s2l3a_xr._store import KeptHeader
from s2l3a_xr._tiff import (
    HEADER_BYTES,
    Image,
    Layout,
    MissingBytesError,
    SparseBytes,
    parse_header,
    parse_overviews,
)
from s2l3a_xr._tiles import SIDE_M, Tile
from s2l3a_xr._transport import Session, Transport, is_http

_CLASSES = range(2, 7)
"""Of the mask FLG, in every reading of its numbers; nodata may be none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file, and what must be in it.

    Parameters
    ----------
    url : str
        Where it is.
    item, band, month : str
        Product name, native band name and ``YYYY-MM``, for messages.
    tile : Tile
        What it shows.
    resolution_m : int
        Pixel size.
    dtype : str
        Type of its pixels.
    flag_encoding : {"classes", "bits"}, default "classes"
        What the numbers in FLG mean.
    """

    url: str
    item: str
    band: str
    month: str
    tile: Tile
    resolution_m: int
    dtype: str
    flag_encoding: FlagEncoding = "classes"

    @property
    def place(self) -> dict[str, str]:
        """What an error says of it."""
        return {
            "url": self.url,
            "item": self.item,
            "tile": self.tile.name,
            "band": self.band,
            "month": self.month,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Header:
    """What the first bytes of a file told.

    Parameters
    ----------
    layout : Layout
        Where its blocks are.
    total : int
        Size of the file.
    stamp : tuple of str
        What tells this file from a later one of the same name.
    version : str
        What tells it from a later one and is equal on mirrors, see `tell_version`.
    overviews : tuple of Layout
        Reduced images, finest first; empty where they were not asked for.
    marks : tuple of (int, int, bytes)
        First byte, the byte behind the last one and a digest of each piece that was read.
    standing : Standing
        What became of it since.
    """

    layout: Layout
    total: int
    stamp: tuple[str, ...]
    version: str
    overviews: tuple[Layout, ...] = ()
    marks: Marks = ()
    standing: Standing = field(default_factory=Standing)

    def pin(self, url: str) -> Pin:
        """Give what bytes of the file are held against.

        Parameters
        ----------
        url : str
            Where the file is.

        Returns
        -------
        Pin
            For `check_same`.
        """
        return Pin(
            url=url,
            stamp=self.stamp,
            total=self.total,
            marks=self.marks,
            version=self.version,
            standing=self.standing,
        )

    @property
    def weight(self) -> int:
        """Bytes of its tables, for a cache of headers."""
        return sum(i.offsets.nbytes + i.counts.nbytes for i in (self.layout, *self.overviews))

    def image_for(self, resolution: float) -> Layout:
        """Choose the coarsest image that is no coarser than wanted.

        Parameters
        ----------
        resolution : float
            Wanted pixel size in metres.

        Returns
        -------
        Layout
            An overview, or the full image where none fits.
        """
        fit = [image for image in self.overviews if SIDE_M / image.width <= resolution]
        return fit[-1] if fit else self.layout


async def read_header(session: Session, source: Source, *, overviews: bool = False) -> Header:
    """Read a file's layout and hold it against what the tile must have.

    Parameters
    ----------
    session : Session
        This process's connections; it remembers headers.
    source : Source
        The file.
    overviews : bool, default False
        Look for reduced images too.

    Returns
    -------
    Header
        Checked.

    Raises
    ------
    GoneError
        There is no such file.
    ReadError
        It can't be read, or is not the file that it must be.
    """
    url = source.url

    async def make() -> Header:
        parse = partial(_parse, source, session.transport, overviews=overviews)
        # A local file is as quick to ask as the disk's memory of it.
        believed = session.store if is_http(url) else None
        kept = await in_thread(believed.header, url) if believed else None
        if kept is not None:
            file = SparseBytes(kept.total, session.transport.max_header_bytes)
            for start, data in kept.pieces:
                file.add(start, data)
            with contextlib.suppress(MissingBytesError, FormatError):
                return parse(file, kept.stamp, read_at=-math.inf)
        return await _fetch_header(session, source, parse)

    key = (url, overviews, await session.version(url))
    try:
        header: Header = await session.headers.get(key, make)
        _check_image(source, header.layout)  # another product may be at the same place
    except ReadError as exc:
        span = (0, min(HEADER_BYTES, session.transport.max_header_bytes))
        raise exc.at(**source.place, byte_range=span, attempts=1) from exc.__cause__
    return header


async def _fetch_header(session: Session, source: Source, parse: Callable[..., Header]) -> Header:
    url, cap = source.url, session.transport.max_header_bytes
    length = min(HEADER_BYTES, cap)
    first = await session.read_first(url, length)
    file = SparseBytes(first.total, cap)
    file.add(0, bytes(first.data))
    while True:
        try:
            header = parse(file, first.stamp, read_at=time.monotonic())
        except MissingBytesError as gap:
            start = gap.start - gap.start % HEADER_BYTES  # what comes next may lie before it
            stop = min(max(gap.stop, start + length), file.total)
            if file.held + stop - start > cap:
                msg = f"the TIFF's header is longer than Transport(max_header_bytes={cap})"
                raise FormatError(msg, url=url, byte_range=(start, stop), attempts=1) from gap
            more = await session.read(url, start, stop)
            pin = Pin(url=url, stamp=first.stamp, total=first.total, marks=_marks(file))
            await check_same(session, pin, more, (start, stop))
            file.add(start, bytes(more.data))
            length *= 2  # so that a header in many places ends soon
        except FormatError as exc:
            raise exc.at(byte_range=(0, len(first.data)), attempts=1) from exc.__cause__
        else:
            if session.store is not None:
                kept = KeptHeader(total=first.total, stamp=first.stamp, pieces=file.pieces)
                await in_thread(session.store.keep_header, url, kept)
            return header


def _parse(
    source: Source,
    transport: Transport,
    file: SparseBytes,
    stamp: tuple[str, ...],
    *,
    overviews: bool,
    read_at: float,
) -> Header:
    url, block_cap = source.url, transport.max_block_bytes
    check = partial(_check_image, source)
    layout = parse_header(file, url, check=check, block_cap=block_cap)
    reduced = parse_overviews(file, url, layout, block_cap=block_cap) if overviews else ()
    tables = layout.offsets.tobytes() + layout.counts.tobytes()
    return Header(
        layout=layout,
        total=file.total,
        stamp=stamp,
        version=tell_version(url, stamp, file.total, tables),
        overviews=reduced,
        marks=_marks(file),
        standing=Standing(read_at=read_at),
    )


def _marks(file: SparseBytes) -> Marks:
    # Without the first byte: _identity says why.
    pieces = ((start, data) if start else (1, data[1:]) for start, data in file.pieces)
    return tuple((start, start + len(data), digest(data)) for start, data in pieces if data)


def _check_image(source: Source, image: Image) -> None:
    side = SIDE_M // source.resolution_m
    step = float(source.resolution_m)
    tile = source.tile
    for what, found, expected in (
        ("size", (image.width, image.height), (side, side)),
        ("corner", image.origin, (float(tile.left), float(tile.top))),
        ("pixel size", image.pixel_size, (step, step)),
        ("CRS", f"EPSG:{image.epsg}", tile.crs),
        ("pixel type", str(image.dtype.newbyteorder("=")), source.dtype),
        ("scale and offset", image.scaling, (1.0, 0.0)),
    ):
        if found != expected:
            msg = f"the file's {what} is {found}, tile {tile.name} must have {expected}"
            raise FormatError(msg, **source.place)
    if source.dtype == "uint8":
        if image.nodata in _CLASSES:
            msg = f"the file's nodata is {image.nodata:g}, which is a class of {source.band}"
            raise FormatError(msg, **source.place)
    elif image.nodata not in {None, float(NODATA)}:
        msg = f"the file's nodata is {image.nodata:g}, the product's is {NODATA}"
        raise FormatError(msg, **source.place)
