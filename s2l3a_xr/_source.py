"""One file of the archive: its header, held against what the tile must have."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from functools import partial

from s2l3a_xr._errors import FileChangedError, FormatError, ReadError
from s2l3a_xr._flags import FlagEncoding
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
from s2l3a_xr._transport import Reply, Session, Transport, is_http

_CLASSES = range(2, 7)
"""Of the mask FLG, in every reading of its numbers; nodata may be none of them."""

Marks = tuple[tuple[int, int, bytes], ...]

_MIRRORS_ASKED = 8
"""How often a file's header is asked for until the mirror answers that is looked for."""


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
    overviews : tuple of Layout
        Reduced images, finest first; empty where they were not asked for.
    marks : tuple of (int, int, bytes)
        First byte, the byte behind the last one and a digest of each piece that was read.
    """

    layout: Layout
    total: int
    stamp: tuple[str, ...]
    overviews: tuple[Layout, ...] = ()
    marks: Marks = ()

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
        return Pin(url=url, stamp=self.stamp, total=self.total, marks=self.marks)

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
        # A local file is as quick to ask as the disk's memory of it.
        believed = session.store if is_http(url) else None
        kept = await in_thread(believed.header, url) if believed else None
        if kept is not None:
            file = SparseBytes(kept.total, session.transport.max_header_bytes)
            for start, data in kept.pieces:
                file.add(start, data)
            with contextlib.suppress(MissingBytesError, FormatError):
                return _parse(file, source, kept.stamp, session.transport, overviews=overviews)
        return await _fetch_header(session, source, overviews=overviews)

    key = (url, overviews, await session.version(url))
    try:
        header: Header = await session.headers.get(key, make)
        _check_image(source, header.layout)  # another product may be at the same place
    except ReadError as exc:
        raise exc.at(**source.place) from exc.__cause__
    return header


def forget_header(session: Session, url: str) -> None:
    """Drop what is remembered of a remote file, since it is another one now.

    Parameters
    ----------
    session : Session
        This process's connections.
    url : str
        The file.
    """
    for overviews in (False, True):
        session.headers.forget((url, overviews, ()))
    if session.store is not None:
        session.store.forget_header(url)


async def _fetch_header(session: Session, source: Source, *, overviews: bool) -> Header:
    url, cap = source.url, session.transport.max_header_bytes
    length = min(HEADER_BYTES, cap)
    first = await session.read_first(url, length)
    file = SparseBytes(first.total, cap)
    file.add(0, bytes(first.data))
    while True:
        try:
            header = _parse(file, source, first.stamp, session.transport, overviews=overviews)
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
    file: SparseBytes,
    source: Source,
    stamp: tuple[str, ...],
    transport: Transport,
    *,
    overviews: bool,
) -> Header:
    url, block_cap = source.url, transport.max_block_bytes
    check = partial(_check_image, source)
    layout = parse_header(file, url, check=check, block_cap=block_cap)
    reduced = parse_overviews(file, url, layout, block_cap=block_cap) if overviews else ()
    return Header(
        layout=layout, total=file.total, stamp=stamp, overviews=reduced, marks=_marks(file)
    )


def _marks(file: SparseBytes) -> Marks:
    # Without the first byte: _check_twin says why.
    pieces = ((start, data) if start else (1, data[1:]) for start, data in file.pieces)
    return tuple((start, start + len(data), _digest(data)) for start, data in pieces if data)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What tells a file from a later one of the same name.

    Parameters
    ----------
    url : str
        Where it is.
    stamp : tuple of str
        ETag and Last-Modified, or what the place has instead.
    total : int
        Its size.
    marks : tuple
        Of its header, as in `Header`.
    """

    url: str
    stamp: tuple[str, ...]
    total: int
    marks: Marks


async def check_same(session: Session, pin: Pin, reply: Reply, byte_range: tuple[int, int]) -> None:
    """Refuse bytes of another file than the one whose header was read.

    A mirror may give the same file another ETag. Where only that differs, the header is read
    again from there, and must be the same.

    Parameters
    ----------
    session : Session
        This process's connections; it forgets the header of a file that was replaced.
    pin : Pin
        What the file was when its header was read.
    reply : Reply
        The bytes.
    byte_range : tuple of int
        Which bytes, for messages.

    Raises
    ------
    FileChangedError
        The file was replaced.
    """
    if (reply.stamp, reply.total) == (pin.stamp, pin.total):
        return
    try:
        if not _may_be_twin(pin, reply):
            raise _changed(pin, reply)
        key = (pin.url, pin.stamp, reply.stamp)
        await session.twins.get(key, lambda: _check_twin(session, pin, reply))
    except FileChangedError as exc:
        forget_header(session, pin.url)
        raise exc.at(byte_range=byte_range, attempts=1) from exc.__cause__


def _may_be_twin(pin: Pin, reply: Reply) -> bool:
    """Tell whether the ETag alone differs: of http, there are that and Last-Modified."""
    return (
        is_http(pin.url)
        and reply.total == pin.total
        and bool(pin.stamp[1:])
        and all(pin.stamp[1:])
        and reply.stamp[1:] == pin.stamp[1:]
    )


async def _check_twin(session: Session, pin: Pin, reply: Reply) -> bool:
    """Hold a mirror's header against the known one.

    It is asked for from its second byte: some servers treat the beginning of a file apart.
    """
    for start, stop, digest in pin.marks:
        for _ in range(_MIRRORS_ASKED):
            again = await session.read(pin.url, start, stop)
            if again.stamp == reply.stamp:
                break
        if again.stamp != reply.stamp or _digest(again.data) != digest:
            raise _changed(pin, reply)
    return True


def _changed(pin: Pin, reply: Reply) -> FileChangedError:
    msg = (
        f"the file was replaced while it was read ({pin.total} bytes {pin.stamp} became "
        f"{reply.total} bytes {reply.stamp})"
    )
    return FileChangedError(msg, url=pin.url)


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
