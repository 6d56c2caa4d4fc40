"""Where products live: DLR's download server, or any folder laid out like it."""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urljoin, urlsplit

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import ArchiveError, GoneError, ReadError, SelectionError, redact
from s2l3a_xr._loop import gather
from s2l3a_xr._places import end_folder, locate
from s2l3a_xr._product import BANDS, Band, Product, tile_folder, year_folder
from s2l3a_xr._selection import Month
from s2l3a_xr._transport import Session, Transport, is_http, is_local

DLR_FILES = "https://download.geoservice.dlr.de/S2_L3A_WASP/files/"
"""DLR's download server, read without login."""

_LISTING_CAP = 16 * 2**20
_FRESH_S = 300.0
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ANCHOR = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""(?<![\w-])href\s*=\s*(["'])(.*?)\1""", re.IGNORECASE | re.DOTALL)
_BEHIND = re.compile(r"</a>([^\n]*)", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\d:.-])(\d+(?:\.\d+)?)([KMGT]?)(?=\s*(?:<|$))")
_CHILD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*/?")
_IS_LISTING = re.compile(r"index of|directory listing|parent directory", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a listing.

    Parameters
    ----------
    name : str
        Name below the folder; a folder's has a slash behind it.
    size : int or None
        Bytes as listed (servers round them), None where not said.
    """

    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file that the archive lists.

    Parameters
    ----------
    size : int or None
        Bytes as listed (servers round them), None where not said.
    url : str
        Where it is; empty where that follows from archive, product and band.
    """

    size: int | None
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who told of the files, and their terms.

    Parameters
    ----------
    catalogue : str
        The catalogue that linked to them; empty where they were found in the archive itself.
    license : str
        SPDX name, or what the catalogue says.
    references : str
        Where the product is described.
    """

    catalogue: str = ""
    license: str = "CC-BY-4.0"
    references: str = "https://doi.org/10.15489/4hcq6dgkj648"

    def settings(self, transport: Transport) -> Transport:
        """Give the settings for reading the files.

        Parameters
        ----------
        transport : Transport
            The user's.

        Returns
        -------
        Transport
            The same, or for what a catalogue links to.
        """
        named = self.catalogue
        return transport.for_links(urlsplit(named).hostname) if named else transport


@runtime_checkable
class Archive(Protocol):
    """What discovery needs to know of a place."""

    @property
    def url(self) -> str:
        """Where the archive's files begin, with a slash behind it."""

    async def products(self, session: Session, tile: str, year: int) -> tuple[Product, ...]:
        """All products of a tile and year."""

    async def files(
        self, session: Session, product: Product, bands: Iterable[Band], resolution_m: int
    ) -> dict[str, Listed]:
        """Those bands' files that exist, by native band name."""

    async def years(self, session: Session, tile: str) -> tuple[int, ...]:
        """Years that the archive has of a tile."""


@runtime_checkable
class Catalogue(Protocol):
    """What must be searched as a whole before discovery can ask about tiles and years."""

    async def survey(self, session: Session, aoi: Aoi, months: Sequence[Month] | None) -> Archive:
        """Everything around an area in some months, or in all that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderArchive:
    """An archive in DLR's layout that is browsed folder by folder.

    Parameters
    ----------
    url : str
        ``https://…/files/`` with Apache-style listings, a local folder, or any fsspec URL.
    """

    url: str

    def __repr__(self) -> str:
        return f"FolderArchive(url={redact(self.url)!r})"

    async def products(self, session: Session, tile: str, year: int) -> tuple[Product, ...]:
        """List a tile's year.

        Parameters
        ----------
        session : Session
            This process's connections.
        tile : str
            MGRS tile.
        year : int
            Calendar year.

        Returns
        -------
        tuple of Product
            Every product folder; empty where there is no such folder.
        """
        entries = await self.entries(session, year_folder(tile, year))
        found = [Product.parse(entry.name.rstrip("/")) for entry in entries]
        return tuple(p for p in found if p is not None and (p.tile, p.year) == (tile, year))

    async def files(
        self, session: Session, product: Product, bands: Iterable[Band], resolution_m: int
    ) -> dict[str, Listed]:
        """List a product's folder, and its masks' folder where masks are asked for.

        Parameters
        ----------
        session : Session
            This process's connections.
        product : Product
            One tile and month.
        bands : iterable of Band
            Layers of interest.
        resolution_m : int
            Wanted pixel size in metres; only masks have a choice.

        Returns
        -------
        dict of str to Listed
            By native band name, the files that exist.
        """
        paths = {band.native: product.file(band, resolution_m) for band in bands}
        folders = sorted({path.rpartition("/")[0] + "/" for path in paths.values()})
        listings = await gather(self.entries(session, folder) for folder in folders)
        sizes = {
            folder + entry.name: entry.size
            for folder, entries in zip(folders, listings, strict=True)
            for entry in entries
        }
        return {native: Listed(size=sizes[path]) for native, path in paths.items() if path in sizes}

    async def years(self, session: Session, tile: str) -> tuple[int, ...]:
        """List a tile's folder.

        Parameters
        ----------
        session : Session
            This process's connections.
        tile : str
            MGRS tile.

        Returns
        -------
        tuple of int
            Years, ascending; empty where the archive does not offer the tile.
        """
        entries = await self.entries(session, tile_folder(tile))
        names = (entry.name.rstrip("/") for entry in entries)
        return tuple(sorted(int(name) for name in names if re.fullmatch(r"\d{4}", name)))

    async def entries(self, session: Session, folder: str) -> tuple[Entry, ...]:
        """List a folder below the archive; unless it is local, it is remembered for some minutes.

        Parameters
        ----------
        session : Session
            This process's connections.
        folder : str
            With a slash behind it.

        Returns
        -------
        tuple of Entry
            Empty where there is no such folder.
        """
        url = locate(self.url, folder)
        if is_local(url):  # quick to list, and a mirror may grow meanwhile
            return await _read_folder(session, url)
        read = _read_page if is_http(url) else _read_folder
        key = (url, int(time.monotonic() // _FRESH_S))
        entries: tuple[Entry, ...] = await session.listings.get(key, lambda: read(session, url))
        return entries


async def _read_page(session: Session, url: str) -> tuple[Entry, ...]:
    try:
        reply = await session.http.fetch(url, cap=_LISTING_CAP)
    except GoneError:
        return ()
    except ReadError as exc:
        msg = f"the archive's listing can't be read: {exc}"
        raise ArchiveError(msg) from exc
    return parse_listing(bytes(reply.data).decode("utf-8", "replace"), reply.url)


async def _read_folder(session: Session, url: str) -> tuple[Entry, ...]:
    try:
        found = await session.list_folder(url)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ImportError, ValueError) as exc:  # fsspec lacks the protocol or its package
        msg = f"the archive's folder {redact(url)} can't be listed: {exc}"
        raise ArchiveError(msg) from exc
    names = ((re.split(r"[/\\]", e["name"].rstrip("/\\"))[-1], e) for e in found)
    return tuple(
        Entry(name=name + "/") if e["type"] == "directory" else Entry(name=name, size=e["size"])
        for name, e in names
    )


def parse_listing(text: str, url: str) -> tuple[Entry, ...]:
    """Read a web server's directory listing, in table or preformatted form.

    Parameters
    ----------
    text : str
        The page.
    url : str
        Where it came from, with a slash behind it.

    Returns
    -------
    tuple of Entry
        Direct children of the folder alone: links that sort, go up, or lead elsewhere are
        no entries.

    Raises
    ------
    ArchiveError
        The page is no directory listing.

    Examples
    --------
    >>> page = '<h1>Index of /f</h1><a href="?C=N;O=D">Name</a> <a href="a.tif">a.tif</a> 55M'
    >>> parse_listing(page, "http://localhost/f/")
    (Entry(name='a.tif', size=57671680),)
    """
    text = _COMMENT.sub("", text)
    found: dict[str, Entry] = {}
    _, *links = _ANCHOR.split(text)
    for attributes, content in zip(links[::2], links[1::2], strict=True):
        name = _child_name(attributes, url)
        if name is not None:
            found[name] = Entry(name=name, size=_listed_size(content))
    if not found and not _IS_LISTING.search(text):
        msg = f"{redact(url)} is no directory listing; it begins {text[:80]!r}."
        raise ArchiveError(msg)
    return tuple(found.values())


def _child_name(attributes: str, url: str) -> str | None:
    """Name that an anchor links to, None where that is no direct child of the folder."""
    href = _HREF.search(attributes)
    if href is None:
        return None
    try:
        target = urljoin(url, html.unescape(href[2]))
    except ValueError:  # such as a host that begins with [
        return None
    name = unquote(target.removeprefix(url)) if target.startswith(url) else ""
    return name if _CHILD.fullmatch(name) else None


def _listed_size(content: str) -> int | None:
    """Size in the line of a link, from what stands between it and the next one."""
    behind = _BEHIND.search(content)
    match = _SIZE.search(behind[1]) if behind else None
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def open_archive(archive: str | os.PathLike[str] | Archive | None) -> Archive:
    """Find out what kind of archive the user means.

    Parameters
    ----------
    archive : str, path, Archive or None
        A URL or folder in DLR's layout; None is DLR's download server.

    Returns
    -------
    Archive
        Ready to be asked.

    Raises
    ------
    SelectionError
        A local folder that is not there, or no place at all.
    """
    if archive is None:
        return FolderArchive(url=DLR_FILES)
    if isinstance(archive, Archive):
        return archive
    try:
        place = os.fspath(archive)
    except TypeError as exc:
        msg = f"archive={archive!r} is no URL, no folder and no archive."
        raise SelectionError(msg) from exc
    if "::" not in place and "://" not in place:
        folder = Path(place).expanduser().resolve()
        if not place or not folder.is_dir():
            msg = f"no such archive folder: {place!r} ({folder}); give a folder, URL or 'dlr-stac'."
            raise SelectionError(msg)
        place = folder.as_posix()
    return FolderArchive(url=end_folder(place))


def newest(products: Iterable[Product]) -> dict[tuple[str, int, int], Product]:
    """Choose one product per tile and month.

    Parameters
    ----------
    products : iterable of Product
        Perhaps several versions of a month.

    Returns
    -------
    dict
        ``(tile, year, month)`` to the product of the newest version; of equal versions the
        one from both platforms.
    """
    return {
        (product.tile, product.year, product.month): product
        for product in sorted(products, key=lambda p: (p.rank, p.platform, p.day, p.clock))
    }


def band_resolution(band: Band, resolution_m: int) -> int:
    """Pixel size of the file that serves a band at a wanted resolution.

    Parameters
    ----------
    band : Band
        The layer.
    resolution_m : int
        Wanted pixel size in metres.

    Returns
    -------
    int
        10 or 20.
    """
    if band.is_mask:
        return 10 if resolution_m < 20 else 20  # noqa: PLR2004 - R1 is 10 m, R2 20 m
    return BANDS[band.native].resolution_m
