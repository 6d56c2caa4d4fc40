"""Mirrors laid out by date, as CODE-DE has them: ``2021/06/01/S2_L3_WASP_202106_32UPE/…``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from s2l3a_xr._archive import Archive, FolderArchive, Listed
from s2l3a_xr._errors import ArchiveError, MissingError
from s2l3a_xr._listing import Entry
from s2l3a_xr._loop import gather
from s2l3a_xr._places import locate
from s2l3a_xr._product import Band, Product
from s2l3a_xr._transport import Session

_T = TypeVar("_T")

_YEAR, _TWO_DIGITS = re.compile(r"\d{4}/", re.ASCII), re.compile(r"\d{2}/", re.ASCII)


async def in_either_layout(
    session: Session, archive: Archive, take: Callable[[Archive], Awaitable[_T]]
) -> _T:
    """Ask an archive, and again where it has nothing because its folders are dates.

    Parameters
    ----------
    session : Session
        This process's connections.
    archive : Archive
        A folder in either layout, or something else.
    take : callable
        Asks the archive.

    Returns
    -------
    object
        What it returns.

    Raises
    ------
    MissingError
        The archive has nothing for it.
    """
    try:
        return await take(archive)
    except MissingError:
        if not isinstance(archive, FolderArchive) or not await _has_years(session, archive):
            raise
    return await take(DatedArchive(folders=archive))


async def _has_years(session: Session, archive: FolderArchive) -> bool:
    """Look at the top: years there are dates, 31 to 33 are zones."""
    try:
        names = [entry.name for entry in await archive.entries(session, "")]
    except ArchiveError:  # it may well have nothing that is listed
        return False
    has_zones = any(_TWO_DIGITS.fullmatch(name) for name in names)
    return not has_zones and any(_YEAR.fullmatch(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedArchive:
    """An archive whose folders are years, months, days, and then a tile's month.

    Parameters
    ----------
    folders : FolderArchive
        Lists them.
    """

    folders: FolderArchive

    @property
    def url(self) -> str:
        """Where the archive's files begin, with a slash behind it."""
        return self.folders.url

    async def products(self, session: Session, tile: str, year: int) -> tuple[Product, ...]:
        """Find a tile's products of a year, see `Archive`.

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
            Every product; empty where there is none.
        """
        found = await self._files(session, tile, year)
        products = {Product.parse(_product_name(path)) for path in found}
        return tuple(
            sorted(p for p in products if p is not None and (p.tile, p.year) == (tile, year))
        )

    async def files(
        self, session: Session, product: Product, bands: Iterable[Band], resolution_m: int
    ) -> dict[str, Listed]:
        """Find a product's files, see `Archive`.

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
            By native band name, with their places.
        """
        found = await self._files(session, product.tile, product.year)
        by_name = {path.rpartition("/")[2]: path for path in found}
        wanted = {band.native: product.name + band.suffix(resolution_m) for band in bands}
        return {
            native: Listed(size=found[by_name[name]].size, url=locate(self.url, by_name[name]))
            for native, name in wanted.items()
            if name in by_name
        }

    async def years(self, session: Session, tile: str) -> tuple[int, ...]:
        """Find a tile's years, see `Archive`.

        Parameters
        ----------
        session : Session
            This process's connections.
        tile : str
            MGRS tile.

        Returns
        -------
        tuple of int
            Years, ascending.
        """
        names = await self._folders(session, "", _YEAR)
        years = sorted(int(name.rstrip("/")) for name in names)
        found = await gather(self.products(session, tile, year) for year in years)
        return tuple(year for year, products in zip(years, found, strict=True) if products)

    async def _files(self, session: Session, tile: str, year: int) -> dict[str, Entry]:
        """List a tile's folders of a year, their masks' folders too: files by path."""
        months = await self._folders(session, f"{year:04}/", _TWO_DIGITS)
        days = await gather(self._folders(session, month, _TWO_DIGITS) for month in months)
        is_tile = re.compile(rf"S2_L3_WASP_{year:04}\d\d_{tile}/", re.ASCII)
        tiles = await gather(self._folders(session, day, is_tile) for some in days for day in some)
        places = [folder for some in tiles for folder in some]
        masks = await gather(
            self._folders(session, place, re.compile("MASKS/")) for place in places
        )
        places += [folder for some in masks for folder in some]
        listings = await gather(self.folders.entries(session, place) for place in places)
        return {
            place + entry.name: entry
            for place, entries in zip(places, listings, strict=True)
            for entry in entries
            if entry.name.endswith(".tif")
        }

    async def _folders(self, session: Session, folder: str, pattern: re.Pattern[str]) -> list[str]:
        entries = await self.folders.entries(session, folder)
        return [folder + entry.name for entry in entries if pattern.fullmatch(entry.name)]


def _product_name(path: str) -> str:
    """Cut ``_FRC_B4.tif`` off a file's name."""
    return path.rpartition("/")[2].rsplit("_", 2)[0]
