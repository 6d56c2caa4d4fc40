"""What the archive has for a request, as a table."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import shapely

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin, band_resolution
from s2l3a_xr._cover import Cover
from s2l3a_xr._errors import redact
from s2l3a_xr._grid import Grid
from s2l3a_xr._product import Band, Product
from s2l3a_xr._selection import Month
from s2l3a_xr._tiles import SIDE_M, Tile, tile_named

_BLOCK_PX = 256
_HEADER_BYTES = 32 * 1024
_FULL_RESOLUTION_SHARE = 0.75
"""Of a file with overviews, by area: 1 / (1 + 1/4 + 1/16 + …)."""

_TYPICAL_MB = {"B8": 240, 10: 200, 20: 55}
"""File sizes that the original download script reckoned with, where none are listed."""

AVAILABLE, MISSING, UNVERIFIED = "available", "missing", "unverified"


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
        Per band ``available``, ``missing``, or ``unverified`` where the product's folder was
        not listed and its files follow from its name.
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
        return tuple(status != MISSING for status in self.status)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inventory:
    """The table of what the archive has for a request.

    Printed, it says how much is available and how much will be read. Its length is the
    number of files asked for.

    Parameters
    ----------
    archive_url : str
        Where the archive's files begin.
    aoi : Aoi
        The area.
    bands : tuple of str
        As the user wrote them.
    cover : Cover
        Tiles chosen for the area.
    grid : Grid
        Native lattice around the area.
    cells : tuple of Cell
        By month, then in cover order.
    layers : tuple of Band
        The bands, resolved.
    origin : Origin
        Who told of the files, and their licence.
    """

    archive_url: str
    aoi: Aoi
    bands: tuple[str, ...]
    cover: Cover
    grid: Grid
    cells: tuple[Cell, ...]
    layers: tuple[Band, ...]
    origin: Origin = field(default_factory=Origin)

    @property
    def tiles(self) -> tuple[str, ...]:
        """Names of the tiles chosen for the area, in the order of the mosaic."""
        return tuple(tile.name for tile in self.cover.tiles)

    @property
    def months(self) -> tuple[Month, ...]:
        """Every month asked for, ascending."""
        return tuple(sorted({cell.month for cell in self.cells}))

    @property
    def missing_months(self) -> tuple[Month, ...]:
        """Months of which no file is there."""
        present = {cell.month for cell in self.cells if any(cell.has)}
        return tuple(month for month in self.months if month not in present)

    def __len__(self) -> int:
        return len(self.cells) * len(self.layers)

    @property
    def available(self) -> int:
        """Number of files that are there."""
        return sum(sum(cell.has) for cell in self.cells)

    @property
    def whole_bytes(self) -> int:
        """Bytes of the whole files, as a download would fetch them; partly estimated."""
        return sum(
            self._size(cell, band)
            for cell in self.cells
            for band, has in enumerate(cell.has)
            if has
        )

    @property
    def read_bytes(self) -> int:
        """Bytes of the blocks that the area touches; an estimate before headers are read."""
        shares = {tile: self._touched(tile_named(tile)) for tile in {c.tile for c in self.cells}}
        return round(
            sum(
                _HEADER_BYTES + self._size(cell, band) * _FULL_RESOLUTION_SHARE * shares[cell.tile]
                for cell in self.cells
                for band, has in enumerate(cell.has)
                if has
            )
        )

    def _size(self, cell: Cell, band: int) -> int:
        size = cell.sizes[band]
        layer = self.layers[band]
        typical = _TYPICAL_MB.get(layer.native, _TYPICAL_MB[layer.resolution_m])
        return typical * 1_000_000 if size is None else size

    def _touched(self, tile: Tile) -> float:
        """Share of a 10 m file's blocks that the area touches."""
        area = self.aoi.to_crs(tile.crs).union
        side = _BLOCK_PX * 10
        lefts = np.arange(tile.left, tile.left + SIDE_M, side)
        tops = np.arange(tile.top, tile.top - SIDE_M, -side)
        left, top = np.meshgrid(lefts, tops)
        shapely.prepare(area)
        return float(
            shapely.intersects(area, shapely.box(left, top - side, left + side, top)).mean()
        )

    def url(self, cell: Cell, band: int) -> str | None:
        """Say where a file is.

        Parameters
        ----------
        cell : Cell
            Tile and month.
        band : int
            Position of the band.

        Returns
        -------
        str or None
            None where there is no product.
        """
        if cell.product is None:
            return None
        layer = self.layers[band]
        resolution_m = band_resolution(layer, int(self.grid.resolution))
        return cell.urls[band] or self.archive_url + cell.product.file(layer, resolution_m)

    def to_dataframe(self) -> pd.DataFrame:
        """Give the table, one row for each file.

        Returns
        -------
        pandas.DataFrame
            Columns ``tile``, ``month`` (Period), ``band``, ``status``, ``platform``,
            ``version``, ``size`` (bytes as listed, NaN where not said) and ``url``.
        """
        rows = [
            {
                "tile": cell.tile,
                "month": pd.Period(year=cell.month[0], month=cell.month[1], freq="M"),
                "band": name,
                "status": cell.status[band],
                "platform": cell.product.platform if cell.product else None,
                "version": cell.product.version if cell.product else None,
                "size": cell.sizes[band],
                "url": self.url(cell, band),
            }
            for cell in self.cells
            for band, name in enumerate(self.bands)
        ]
        table = pd.DataFrame(rows)
        table["size"] = table["size"].astype("float64")
        return table

    def summary(self) -> str:
        """Say in a few lines what there is.

        Returns
        -------
        str
            Counts and volumes.
        """
        share = self.available / len(self)
        months = self.months
        lines = [
            f"tiles {', '.join(self.tiles)} of {redact(self.archive_url)}",
            f"bands {', '.join(self.bands)}",
            f"months {month_text(months[0])} to {month_text(months[-1])}, {len(months)} asked for",
            f"{self.available} of {len(self)} files are available ({share:.0%})",
            (
                f"whole files {volume_text(self.whole_bytes)}, "
                f"about {volume_text(self.read_bytes)} to be read if they are evenly filled"
            ),
        ]
        if self.origin.catalogue:
            lines.insert(1, f"found in {self.origin.catalogue}, licence {self.origin.license}")
        if others := self._other_tiles():
            lines.append(f"where a chosen tile lacks the month: {', '.join(others)}")
        if self.missing_months:
            lines.append(f"nothing in {', '.join(map(month_text, self.missing_months))}")
        if self.cover.uncovered > 0:
            lines.append(f"{self.cover.uncovered:.1%} of the area lies outside the offered tiles")
        return "\n".join(lines)

    def _other_tiles(self) -> list[str]:
        """Name the months that take tiles besides the chosen ones."""
        others = sorted((cell.month, cell.tile) for cell in self.cells)
        return [f"{month_text(month)} {tile}" for month, tile in others if tile not in self.tiles]

    def __repr__(self) -> str:
        body = self.summary().replace("\n", "\n  ")
        return f"<s2l3a_xr.Inventory>\n  {body}\n\n{self._by_month().to_string()}"

    def _repr_html_(self) -> str:
        body = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        return f"<div><b>s2l3a_xr.Inventory</b><br>{body}{self._by_month().to_html()}</div>"

    def _by_month(self) -> pd.DataFrame:
        rows = {
            (month_text(cell.month), cell.tile): {
                "files": f"{sum(cell.has)}/{len(self.layers)}",
                "platform": cell.product.platform if cell.product else "-",
                "version": cell.product.version if cell.product else "-",
            }
            for cell in self.cells
        }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.names = ["month", "tile"]
        return table


def month_text(month: Month) -> str:
    """Write a month as people do.

    Parameters
    ----------
    month : Month
        Year and month.

    Returns
    -------
    str
        ``YYYY-MM``.
    """
    return f"{month[0]:04}-{month[1]:02}"


def volume_text(size: float) -> str:
    """Write a number of bytes as people do.

    Parameters
    ----------
    size : float
        Bytes.

    Returns
    -------
    str
        Such as ``8.4 MB``.
    """
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size:.0f} bytes"
