"""Asking the archive: candidate tiles, months, cover, files."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from s2l3a_xr._aoi import COVERAGE, Aoi
from s2l3a_xr._archive import Archive, Catalogue, FolderArchive, Listed, Origin, newest
from s2l3a_xr._cells import AVAILABLE, GONE, MISSING, UNVERIFIED, Cell
from s2l3a_xr._cover import Cover, least_cover
from s2l3a_xr._dated import in_either_layout
from s2l3a_xr._errors import (
    ArchiveError,
    MissingError,
    MissingWarning,
    ReadError,
    SelectionError,
    warn_user,
)
from s2l3a_xr._grid import grid_around, home_crs
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._listing import EmptyFolderError
from s2l3a_xr._loop import gather
from s2l3a_xr._product import BANDS, Band, Product
from s2l3a_xr._selection import Month, Selection, month_text
from s2l3a_xr._stac import ItemArchive
from s2l3a_xr._texts import redact
from s2l3a_xr._tiles import Tile, tiles_over
from s2l3a_xr._transport import Session

_LISTED_PRODUCTS = 300
"""Up to so many product folders are listed, so that availability is exact."""

_SAME_SHARE = 1e-9
"""Shares of an area that differ by less are the same."""


async def take_inventory(
    session: Session,
    archive: Archive | Catalogue,
    aoi: Aoi,
    selection: Selection,
    bands: tuple[str, ...],
    layers: tuple[Band, ...],
    *,
    verify: bool | str = "auto",
    zone: str | None = None,
) -> Inventory:
    """Ask the archive for everything that a request needs.

    Parameters
    ----------
    session : Session
        This process's connections.
    archive : Archive or Catalogue
        Where to look.
    aoi : Aoi
        The area.
    selection : Selection
        The months.
    bands : tuple of str
        Names as the user wrote them.
    layers : tuple of Band
        The same, resolved.
    verify : bool or "auto", default "auto"
        Whether all product folders are listed; "auto" lists them while they are few.
    zone : str, optional
        CRS of the zone whose tiles are wanted, if they have as much of the area as others.

    Returns
    -------
    Inventory
        With a cell for each tile of the cover and month asked for.

    Raises
    ------
    SelectionError
        ``verify`` is something else.
    MissingError
        The archive has nothing for the request.
    ArchiveError
        The archive can't be read.
    """
    if verify not in {True, False, "auto"}:
        msg = f"verify={verify!r} must be True, False or 'auto'."
        raise SelectionError(msg)
    tiles_over(aoi)  # an area that has none asks nobody
    if isinstance(archive, Catalogue):
        archive = await archive.survey(session, aoi, selection.listed)

    async def take(archive: Archive) -> Inventory:
        return await _take(session, archive, aoi, selection, bands, layers, verify, zone)

    return await in_either_layout(session, archive, take)


async def _take(
    session: Session,
    archive: Archive,
    aoi: Aoi,
    selection: Selection,
    bands: tuple[str, ...],
    layers: tuple[Band, ...],
    verify: bool | str,
    zone: str | None,
) -> Inventory:
    candidates = tiles_over(aoi)
    there = {} if selection.years else await _all_years(session, archive, candidates)
    asked: Sequence[Month] = selection.within(
        selection.years or tuple(sorted({year for years in there.values() for year in years}))
    )
    years = sorted({year for year, _ in asked})
    pairs = [(tile.name, year) for tile in candidates for year in years]
    # What is listed next needs more connections: they open meanwhile. Of a catalogue nothing is.
    listings_to_come = len(candidates) * len(asked) if isinstance(archive, FolderArchive) else 0
    found, _ = await asyncio.gather(
        gather(_products(session, archive, *pair, there.get(pair[0], ())) for pair in pairs),
        session.warm(archive.url, listings_to_come),
    )
    chosen = newest(product for products in found for product in products)
    known = {(tile, (y, m)): product for (tile, y, m), product in chosen.items()}
    products = {pair: product for pair, product in known.items() if pair[1] in set(asked)}
    if not products:
        msg = await _explain_nothing(session, archive, aoi, candidates, asked, set(chosen))
        raise MissingError(msg, url=archive.url)
    asked = selection.among(asked, (month for _, month in products))
    # A catalogue is asked for months, and gives some of those beside them.
    months = {month for _, month in known} if not isinstance(archive, ItemArchive) else set(asked)
    cover, offered = _cover_years(aoi, candidates, known, months, zone)
    home = home_crs(aoi, cover.tiles)
    by_month = {
        month: _tiles_of_month(aoi, cover, cover.tiles, month, offered, products, home)
        for month in asked
    }
    resolution = _mask_resolution(layers)

    async def list_files(tiles: dict[Month, tuple[Tile, ...]]) -> dict[Product, dict[str, Listed]]:
        pairs = {(tile.name, month) for month in tiles for tile in tiles[month]}
        used = sorted(products[pair] for pair in pairs & products.keys())
        is_listed = len(used) <= _LISTED_PRODUCTS if verify == "auto" else verify
        # Elsewhere places do not follow from names: the archive has to be asked.
        is_listed = is_listed or not isinstance(archive, FolderArchive)
        return await _list_files(session, archive, used, layers, resolution) if is_listed else {}

    listed = await list_files(by_month)
    lacking = _lacking_files(by_month, products, listed, layers)
    if lacking:
        listed |= await list_files(dict.fromkeys(lacking, tuple(offered)))
        whole = {
            pair: product
            for pair, product in products.items()
            if len(listed.get(product, ())) == len({layer.native for layer in layers})
        }
        by_month |= {
            month: _tiles_of_month(aoi, cover, by_month[month], month, offered, whole, home)
            for month in lacking
        }
    wanted = [(tile.name, month) for month in asked for tile in by_month[month]]
    return Inventory(
        archive_url=archive.url,
        aoi=aoi,
        bands=bands,
        cover=cover,
        grid=grid_around(aoi, cover.tiles, resolution, home),
        cells=tuple(
            _cell(tile, month, products.get((tile, month)), listed, layers)
            for tile, month in wanted
        ),
        layers=layers,
        origin=archive.origin if isinstance(archive, ItemArchive) else Origin(),
        when=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


async def look_for_flags(session: Session, inventory: Inventory) -> Inventory:
    """Find out where FLG is there, for an inventory that was not asked for it.

    Parameters
    ----------
    session : Session
        This process's connections.
    inventory : Inventory
        Of an archive whose places follow from names.

    Returns
    -------
    Inventory
        With FLG; the same where it has it, or nobody can tell before it is read.
    """
    layer, products = BANDS["FLG"], {cell.product for cell in inventory.cells if cell.product}
    has_urls = any(url for cell in inventory.cells for url in cell.urls)
    if layer in inventory.layers or has_urls or len(products) > _LISTED_PRODUCTS:
        return inventory
    archive = FolderArchive(url=inventory.archive_url)
    try:
        listed = await _list_files(
            session, archive, sorted(products), [layer], _mask_resolution(inventory.layers)
        )
    except (ArchiveError, ReadError):  # a server may have files and no listings
        return inventory
    cells = []
    for cell in inventory.cells:
        flag = _cell(cell.tile, cell.month, cell.product, listed, [layer])
        status = (MISSING,) if cell.product and not any(flag.has) else flag.status
        sizes, urls = cell.sizes + flag.sizes, (*cell.urls, "")
        cells.append(replace(cell, status=cell.status + status, sizes=sizes, urls=urls))
    return replace(
        inventory,
        bands=(*inventory.bands, layer.native),
        layers=(*inventory.layers, layer),
        cells=tuple(cells),
    )


def _mask_resolution(layers: Sequence[Band]) -> int:
    """Masks come in both sizes: they follow the reflectances."""
    return min((layer.resolution_m for layer in layers if not layer.is_mask), default=10)


async def _all_years(
    session: Session, archive: Archive, candidates: Sequence[Tile]
) -> dict[str, tuple[int, ...]]:
    found = await gather(archive.years(session, tile.name) for tile in candidates)
    return {tile.name: years for tile, years in zip(candidates, found, strict=True)}


async def _products(
    session: Session, archive: Archive, tile: str, year: int, years: Sequence[int]
) -> tuple[Product, ...]:
    """List a tile's year; nothing in the last one, which nobody asked for by name, stops nobody."""
    try:
        return await archive.products(session, tile, year)
    except EmptyFolderError:
        if len(years) < 2 or year != max(years):  # noqa: PLR2004 - there must be others
            raise
    warn_user(
        f"the archive's folder of {tile} in {year} is there, but lists nothing: that year is left "
        "out, as if it had not begun. Asked for by its number it would be an error.",
        MissingWarning,
    )
    return ()


async def _explain_nothing(
    session: Session,
    archive: Archive,
    aoi: Aoi,
    candidates: Sequence[Tile],
    asked: Sequence[Month],
    found: Set[tuple[str, int, int]],
) -> str:
    where = f"at {aoi.describe()} of {redact(archive.url)}"
    years = await gather(archive.years(session, tile.name) for tile in candidates)
    has = {tile.name: found for tile, found in zip(candidates, years, strict=True) if found}
    names = ", ".join(tile.name for tile in candidates)
    if not has:
        return (
            f"no product tile is offered {where} (looked for {names or 'none'}); {COVERAGE}. "
            "If the AOI lies elsewhere, check the AOI's CRS and that x is longitude or easting; if "
            "not, whether the archive's address leads to the folder that holds 31/, 32/, 33/ (at "
            "DLR it ends in /files/) and the archive has that part of it."
        )
    months = {tile: [month_text((y, m)) for t, y, m in sorted(found) if t == tile] for tile in has}
    there = "; ".join(
        f"{tile} has {', '.join(months[tile] or map(str, years))}" for tile, years in has.items()
    )
    span = ", ".join(map(month_text, asked[:3])) + (", …" if len(asked) > 3 else "")  # noqa: PLR2004
    span = span or "the months asked for"
    return f"the archive has nothing for {span} {where}: {there}. Ask for other years or months."


def _cover_years(
    aoi: Aoi,
    candidates: Sequence[Tile],
    known: Mapping[tuple[str, Month], Product],
    months: Set[Month],
    zone: str | None,
) -> tuple[Cover, list[Tile]]:
    """Choose tiles for all months, among those that have any.

    All months of the years that were listed count, not only those asked for: the grid would
    change from one month to the next.
    """
    gaps = {
        tile.name: sum((tile.name, month) not in known for month in months) for tile in candidates
    }
    there = {name for name, _ in known}
    offered = [tile for tile in candidates if tile.name in there]
    has_zone = any(tile.crs == zone for tile in offered)
    return _fewest_zones(aoi, offered, gaps, zone if has_zone else None), offered


def _tiles_of_month(
    aoi: Aoi,
    cover: Cover,
    chosen: tuple[Tile, ...],
    month: Month,
    offered: Sequence[Tile],
    products: Mapping[tuple[str, Month], Product],
    home: str,
) -> tuple[Tile, ...]:
    """Keep a month's tiles if its products have all of the cover, else take or add others.

    Where the others can't make up for it, the chosen one stays beside them as missing. A product
    that lacks a band counts as lacking, once its files are listed: all bands of a month come
    from the same tiles.
    """
    there = [tile for tile in offered if (tile.name, month) in products]
    if not there or set(cover.tiles) <= set(there):
        return chosen
    others = _fewest_zones(aoi, there, {}, home)
    if others.uncovered <= cover.uncovered + _SAME_SHARE:
        return others.tiles
    return tuple(sorted({*chosen, *others.tiles}, key=lambda tile: tile.name))


def _lacking_files(
    by_month: Mapping[Month, Sequence[Tile]],
    products: Mapping[tuple[str, Month], Product],
    listed: Mapping[Product, Mapping[str, Listed]],
    layers: Sequence[Band],
) -> list[Month]:
    """Find months in which a product lacks one of the bands."""
    names = {layer.native for layer in layers}
    return [
        month
        for month, tiles in by_month.items()
        if any(
            names - listed[product].keys()
            for tile in tiles
            if (product := products.get((tile.name, month))) is not None and product in listed
        )
    ]


def _fewest_zones(
    aoi: Aoi, offered: Sequence[Tile], gaps: dict[str, int], home: str | None = None
) -> Cover:
    """Cover with the least tiles, or with more where the least are of two zones.

    Tiles of the zone ``home`` need no resampling: they are taken wherever they are enough.
    """
    least = least_cover(aoi, offered, gaps)
    zones = {tile.crs for tile in least.tiles}
    if zones == {home} or (home is None and len(zones) == 1):
        return least
    covers = [
        least_cover(aoi, [t for t in offered if t.crs == crs], gaps)
        for crs in sorted({tile.crs for tile in offered})
    ]
    enough = [c for c in covers if c.uncovered <= least.uncovered + _SAME_SHARE]

    def cost(cover: Cover) -> tuple[bool, int, int]:
        lack = sum(gaps.get(tile.name, 0) for tile in cover.tiles)
        return cover.tiles[0].crs != home, len(cover.tiles), lack

    return min(enough, key=cost, default=least)


async def _list_files(
    session: Session,
    archive: Archive,
    products: Sequence[Product],
    layers: Sequence[Band],
    resolution_m: int,
) -> dict[Product, dict[str, Listed]]:
    """Each product's files by band."""
    found = await gather(
        archive.files(session, product, layers, resolution_m) for product in products
    )
    return dict(zip(products, found, strict=True))


def _cell(
    tile: str,
    month: Month,
    product: Product | None,
    listed: dict[Product, dict[str, Listed]],
    layers: Sequence[Band],
) -> Cell:
    names = [layer.native for layer in layers]
    if product is None:
        status = [MISSING] * len(names)
    elif product in listed:
        absent = MISSING if listed[product] else GONE
        status = [AVAILABLE if name in listed[product] else absent for name in names]
    else:
        status = [UNVERIFIED] * len(names)
    files = listed.get(product, {}) if product is not None else {}
    return Cell(
        tile=tile,
        month=month,
        product=product,
        status=tuple(status),
        sizes=tuple(files[name].size if name in files else None for name in names),
        urls=tuple(files[name].url if name in files else "" for name in names),
    )
