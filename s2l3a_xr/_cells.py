"""Tiles and months of a request, and tables of them."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from s2l3a_xr._product import Product
from s2l3a_xr._selection import Month

AVAILABLE, MISSING, GONE, UNVERIFIED = "available", "missing", "gone", "unverified"
STATUSES = (AVAILABLE, MISSING, GONE, UNVERIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One tile and month of a request.

    Parameters
    ----------
    tile : str
        MGRS tile.
    month : Month
        Year and month.
    product : Product or None
        What the archive has, None for nothing.
    status : tuple of str
        Per band ``available``, ``missing``, ``gone`` where the archive names the product and
        has none of the files asked for, or ``unverified`` where the product's folder was not
        listed and its files follow from its name.
    sizes : tuple of (int or None)
        Listed size per band, None where none is said.
    urls : tuple of str
        Per band where its file is; empty where that follows from archive, product and band.
    """

    tile: str
    month: Month
    product: Product | None
    status: tuple[str, ...]
    sizes: tuple[int | None, ...]
    urls: tuple[str, ...]

    @property
    def has(self) -> tuple[bool, ...]:
        """Per band, whether there is a file to be read."""
        return tuple(status in {AVAILABLE, UNVERIFIED} for status in self.status)


def count_kinds(cells: Sequence[Cell]) -> list[str]:
    """Count what differs between cells.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.

    Returns
    -------
    list of str
        Lines on statuses where some are not available, versions and platforms.
    """
    status = Counter(status for cell in cells for status in cell.status)
    told = [f"{status[name]} {name}" for name in STATUSES if status[name]]
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for product in (cell.product for cell in cells):
        if product is not None:
            kinds["versions"][product.version] += 1
            kinds["platforms"][product.platform] += 1
    lines = [f"file status: {', '.join(told)}"] if set(status) - {AVAILABLE} else []
    for name, counts in kinds.items():
        lines.append(f"{name} {', '.join(f'{kind} ({n})' for kind, n in sorted(counts.items()))}")
    return lines


def tell_age(when: str) -> list[str]:
    """Say how old is what is known of an archive.

    Parameters
    ----------
    when : str
        ISO 8601 with zone; empty where that is not known.

    Returns
    -------
    list of str
        A line, or none where it is of the last day.
    """
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(when) if when else dt.timedelta()
    return [f"as the archive was {age.days} days ago, at {when}"] if age.days > 0 else []


def tabulate(cells: Sequence[Cell]) -> pd.DataFrame:
    """Make the table that is printed.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.

    Returns
    -------
    pandas.DataFrame
        A row for each, with the number of files, platform and version.
    """
    rows = {
        (f"{cell.month[0]:04}-{cell.month[1]:02}", cell.tile): {
            "files": f"{sum(cell.has)}/{len(cell.status)}",
            "platform": cell.product.platform if cell.product else "-",
            "version": cell.product.version if cell.product else "-",
        }
        for cell in cells
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.names = ["month", "tile"]
    return table
