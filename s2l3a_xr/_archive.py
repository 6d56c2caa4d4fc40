"""Where products live: DLR's download server, or any folder laid out like it."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import ArchiveError, SelectionError
from s2l3a_xr._listing import Entry, read_page
from s2l3a_xr._loop import gather
from s2l3a_xr._paths import take_path
from s2l3a_xr._places import end_folder, locate
from s2l3a_xr._product import BANDS, Band, Product, tile_folder, year_folder
from s2l3a_xr._selection import Month
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session, Transport, is_http, is_local

DLR_FILES = "https://download.geoservice.dlr.de/S2_L3A_WASP/files/"
"""DLR's download server, read without login."""

_FRESH_S = 300.0

_log = logging.getLogger(__name__)


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

        Raises
        ------
        ArchiveError
            It can't be listed, or a server lists it as empty.
        """
        folder = year_folder(tile, year)
        entries = await self.entries(session, folder, may_be_empty=False)
        names = [Product.parse(entry.name.rstrip("/")) for entry in entries]
        found = tuple(p for p in names if p is not None and (p.tile, p.year) == (tile, year))
        if len(found) < len(names):
            _log.debug("%s: %d names are no products of it", folder, len(names) - len(found))
        return found

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

        Raises
        ------
        ArchiveError
            It can't be listed, or a server lists it as empty.
        """
        entries = await self.entries(session, tile_folder(tile), may_be_empty=False)
        names = (entry.name.rstrip("/") for entry in entries)
        return tuple(sorted(int(name) for name in names if re.fullmatch(r"\d{4}", name)))

    async def entries(
        self, session: Session, folder: str, *, may_be_empty: bool = True
    ) -> tuple[Entry, ...]:
        """List a folder below the archive; on a server, what is in it is remembered for minutes.

        Parameters
        ----------
        session : Session
            This process's connections.
        folder : str
            With a slash behind it.
        may_be_empty : bool, default True
            Whether a server is believed that has the folder and lists nothing in it.

        Returns
        -------
        tuple of Entry
            Empty where there is no such folder.

        Raises
        ------
        ArchiveError
            It can't be listed.
        """
        url = locate(self.url, folder)
        if is_local(url):  # quick to list, and a mirror may grow meanwhile
            return await _read_folder(session, url)

        async def read() -> tuple[Entry, ...]:
            if is_http(url):
                return await read_page(session, url, may_be_empty=may_be_empty)
            return await _read_folder(session, url)

        key = (url, int(time.monotonic() // _FRESH_S))
        entries: tuple[Entry, ...] = await session.listings.get(key, read)
        if not entries:  # what is not there now may be there again in a moment
            session.listings.forget(key)
        return entries


async def _read_folder(session: Session, url: str) -> tuple[Entry, ...]:
    try:
        found = await session.list_folder(url)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ImportError, ValueError) as exc:  # fsspec lacks the protocol or its package
        msg = f"the archive's folder {redact(url)} can't be listed: {exc}"
        hint = "see whether the address is right, and who may read there"
        raise ArchiveError(msg, hint=hint) from exc
    names = ((re.split(r"[/\\]", e["name"].rstrip("/\\"))[-1], e) for e in found)
    return tuple(
        Entry(name=name + "/") if e["type"] == "directory" else Entry(name=name, size=e["size"])
        for name, e in names
    )


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
        msg = f"archive={archive!r} is no URL, no folder and no archive; give one."
        raise SelectionError(msg) from exc
    if "::" not in place and "://" not in place:
        folder = take_path(place, "archive", SelectionError).resolve()
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
        one from both platforms. What is left aside is logged.
    """
    every = sorted(products, key=lambda p: (p.rank, p.platform, p.day, p.clock, p.distribution))
    chosen = {(product.tile, product.year, product.month): product for product in every}
    aside = sorted(set(every) - set(chosen.values()))
    if aside:
        first = aside[0]
        taken = chosen[first.tile, first.year, first.month]
        _log.info("%d products are left aside, as %s for %s", len(aside), first.name, taken.name)
    return chosen


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
