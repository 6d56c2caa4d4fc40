"""What the archive lacks of a request, in months of which it has something."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._cells import MISSING, Cell
from s2l3a_xr._cover import Cover, share_text, uncovered
from s2l3a_xr._product import resolve_bands
from s2l3a_xr._selection import Month, month_text
from s2l3a_xr._tiles import tile_named

_ROUNDING = 1e-6


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


def judged_alone(cells: Sequence[Cell], bands: Sequence[str]) -> list[Cell]:
    """Count files as missing whose pixels FLG can't judge, and FLG that has none to judge.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    bands : sequence of str
        Their bands, by whatever name; without FLG nothing is known of it, and all counts.

    Returns
    -------
    list of Cell
        The same, some with other status.
    """
    names = [layer.native for layer in resolve_bands(bands)]
    if "FLG" not in names or len(names) == 1:
        return list(cells)
    flag = names.index("FLG")
    return [
        cell
        if cell.has[flag] and sum(cell.has) > 1
        else replace(cell, status=(MISSING,) * len(names))
        for cell in cells
    ]


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
        The band and month that lack most and how many do; empty where nothing is lost.
    """
    by_month: dict[Month, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_month[cell.month].append(cell)
    partial = {
        month: its
        for month, its in by_month.items()
        if any(any(cell.has) for cell in its) and not all(all(cell.has) for cell in its)
    }
    tiles = [tile_named(name) for name in sorted({cell.tile for cell in cells})]
    lacks = []
    for month, its in partial.items():
        groups = [{c.tile for c in its if c.has[number]} for number in range(len(bands))]
        shares = uncovered(aoi, tiles, groups)
        worst = max(shares)
        if worst > cover.uncovered + _ROUNDING:
            band = f"{bands[shares.index(worst)]} of " if min(shares) < worst else ""
            lacks.append((worst, f"{band}{month_text(month)}"))
    if not lacks:
        return ""
    share, where = max(lacks)
    others = f" (and no more than that in other months: {len(lacks) - 1})" if lacks[1:] else ""
    return f"{share_text(share)} of the area is nodata in {where}{others}"
