"""What the archive lacks of a request, in months of which it has something."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._cells import Cell
from s2l3a_xr._cover import Cover, uncovered
from s2l3a_xr._product import resolve_bands
from s2l3a_xr._selection import Month, month_text
from s2l3a_xr._tiles import tile_named

_ROUNDING = 1e-4


def missing_files(cells: Sequence[Cell], bands: Sequence[str]) -> list[str]:
    """Name files that are not there, of months that have others.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    bands : sequence of str
        Their bands.

    Returns
    -------
    list of str
        Such as ``B2 of 32UPC in 2021-07``.
    """
    months = {cell.month for cell in cells if any(cell.has)}
    return [
        f"{band} of {cell.tile} in {month_text(cell.month)}"
        for cell in cells
        if cell.month in months
        for band, has in zip(bands, cell.has, strict=True)
        if not has
    ]


def months_without(band: str, cells: Sequence[Cell], bands: Sequence[str]) -> list[Month]:
    """Name months that have files, but none of a band.

    Parameters
    ----------
    band : str
        Native name.
    cells : sequence of Cell
        Tiles and months.
    bands : sequence of str
        Their bands, by whatever name.

    Returns
    -------
    list of Month
        In no order; none where nobody asked for the band, so that it is not known.
    """
    names = [layer.native for layer in resolve_bands(bands)]
    if band not in names:
        return []
    number = names.index(band)
    there = {cell.month for cell in cells if any(cell.has)}
    return list(there - {cell.month for cell in cells if cell.has[number]})


def other_tiles(cells: Sequence[Cell], chosen: Collection[str]) -> list[str]:
    """Name the months that take tiles besides the chosen ones.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    chosen : collection of str
        Names of the tiles chosen for all months.

    Returns
    -------
    list of str
        Such as ``2021-07 32UPD``.
    """
    others = sorted((cell.month, cell.tile) for cell in cells if cell.tile not in chosen)
    return [f"{month_text(month)} {tile}" for month, tile in others]


def tell_lacks(cells: Sequence[Cell], bands: Sequence[str], aoi: Aoi, cover: Cover) -> str:
    """Say how much of the area has no file, in months that have some.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    bands : sequence of str
        Their bands.
    aoi : Aoi
        The area.
    cover : Cover
        The tiles chosen for all months.

    Returns
    -------
    str
        The band and month that lack most and how many do; empty where it is next to nothing.
    """
    by_month: dict[Month, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_month[cell.month].append(cell)
    lacks = []
    for month, its in by_month.items():
        if any(any(cell.has) for cell in its) and not all(all(cell.has) for cell in its):
            shares = _lacking_shares(its, aoi)
            worst = max(shares)
            if worst > cover.uncovered + _ROUNDING:
                band = f"{bands[shares.index(worst)]} of " if min(shares) < worst else ""
                lacks.append((worst, f"{band}{month_text(month)}"))
    if not lacks:
        return ""
    share, where = max(lacks)
    others = f" (no more than that in {len(lacks) - 1} other months)" if len(lacks) > 1 else ""
    return f"{share:.1%} of the area is nodata in {where}{others}"


def _lacking_shares(cells: Sequence[Cell], aoi: Aoi) -> list[float]:
    """Share of the area without a file, by band."""
    bands = zip(*(cell.has for cell in cells), strict=True)
    return [
        uncovered(aoi, [tile_named(c.tile) for c, has in zip(cells, band, strict=True) if has])
        for band in bands
    ]
