"""One file of the archive: its header, held against what the tile must have."""

from __future__ import annotations

from dataclasses import dataclass

from s2l3a_xr._errors import FileChangedError, FormatError
from s2l3a_xr._product import NODATA
from s2l3a_xr._tiff import (
    HEADER_BYTES,
    HEADER_CAP,
    Layout,
    MissingBytesError,
    SparseBytes,
    check_counts,
    parse_header,
)
from s2l3a_xr._tiles import SIDE_M, Tile
from s2l3a_xr._transport import Reply, Session


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
    """

    url: str
    item: str
    band: str
    month: str
    tile: Tile
    resolution_m: int
    dtype: str

    @property
    def place(self) -> dict[str, str]:
        """What an error says of it."""
        return {"url": self.url, "item": self.item, "band": self.band, "month": self.month}


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
    """

    layout: Layout
    total: int
    stamp: tuple[str, ...]


async def read_header(session: Session, source: Source) -> Header:
    """Read a file's layout and hold it against what the tile must have.

    Parameters
    ----------
    session : Session
        This process's connections; it remembers headers.
    source : Source
        The file.

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
    header: Header = await session.headers.get(
        source.url, lambda: _fetch_header(session, source.url)
    )
    _check_layout(header.layout, source)
    return header


async def _fetch_header(session: Session, url: str) -> Header:
    reply = await session.read(url, 0, HEADER_BYTES)
    file = SparseBytes(reply.total)
    file.add(0, reply.data)
    while True:
        try:
            layout = parse_header(file, url)
        except MissingBytesError as gap:
            stop = max(gap.stop, gap.start + HEADER_BYTES)
            if file.held + stop - gap.start > HEADER_CAP:
                msg = f"the TIFF header is longer than {HEADER_CAP} bytes"
                raise FormatError(msg, url=url) from gap
            more = await session.read(url, gap.start, stop)
            check_same(url, more, stamp=reply.stamp, total=reply.total)
            file.add(gap.start, more.data)
        else:
            check_counts(layout, reply.total, url)
            return Header(layout=layout, total=reply.total, stamp=reply.stamp)


def check_same(url: str, reply: Reply, *, stamp: tuple[str, ...], total: int) -> None:
    """Refuse bytes of another file than the one whose header was read.

    Parameters
    ----------
    url : str
        For messages.
    reply : Reply
        The bytes.
    stamp : tuple of str
        What told the file when its header was read.
    total : int
        Its size then.

    Raises
    ------
    FileChangedError
        The file was replaced.
    """
    if (reply.stamp, reply.total) != (stamp, total):
        msg = (
            f"the file was replaced while it was read ({total} bytes {stamp} became "
            f"{reply.total} bytes {reply.stamp}); read it again"
        )
        raise FileChangedError(msg, url=url)


def _check_layout(layout: Layout, source: Source) -> None:
    side = SIDE_M // source.resolution_m
    step = float(source.resolution_m)
    tile = source.tile
    for what, found, expected in (
        ("size", (layout.width, layout.height), (side, side)),
        ("corner", layout.origin, (float(tile.left), float(tile.top))),
        ("pixel size", layout.pixel_size, (step, step)),
        ("CRS", f"EPSG:{layout.epsg}", tile.crs),
        ("pixel type", str(layout.dtype.newbyteorder("=")), source.dtype),
    ):
        if found != expected:
            msg = f"the file's {what} is {found}, tile {tile.name} must have {expected}"
            raise FormatError(msg, **source.place)
    if source.dtype != "uint8" and layout.nodata not in {None, float(NODATA)}:
        msg = f"the file's nodata is {layout.nodata:g}, the product's is {NODATA}"
        raise FormatError(msg, **source.place)
