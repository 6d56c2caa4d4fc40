"""What the archive has for a request, as a table."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pandas as pd

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin, band_resolution
from s2l3a_xr._cells import Cell, count_kinds, tabulate, tell_age
from s2l3a_xr._cover import Cover, share_text
from s2l3a_xr._gaps import other_tiles, tell_lacks
from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._grid import Grid
from s2l3a_xr._map import explore_tiles, footprint_table, plot_tiles
from s2l3a_xr._pin import read_pin, write_pin
from s2l3a_xr._places import locate
from s2l3a_xr._product import Band
from s2l3a_xr._selection import Month, spans_text
from s2l3a_xr._sizes import read_bytes, whole_bytes
from s2l3a_xr._texts import printable, redact

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST_TABLE = 40


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
    when : str
        When the archive was asked, ISO 8601 with zone; empty where that is not known.

    References
    ----------
    https://geoservice.dlr.de/web/datasets/s2_l3a_wasp, https://doi.org/10.15489/4hcq6dgkj648

    Examples
    --------
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> from s2l3a_xr import search_l3a
    >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
    >>> found.tiles, len(found), found.available
    (('32UPC',), 4, 4)
    >>> found.months, found.missing_months
    (((2021, 5),), ())
    >>> found.read_bytes < found.whole_bytes
    True
    """

    archive_url: str
    aoi: Aoi
    bands: tuple[str, ...]
    cover: Cover
    grid: Grid
    cells: tuple[Cell, ...]
    layers: tuple[Band, ...]
    origin: Origin = field(default_factory=Origin)
    when: str = ""

    @property
    def tiles(self) -> tuple[str, ...]:
        """Names of the tiles chosen for the area, in the order of the mosaic."""
        return tuple(tile.name for tile in self.cover.tiles)

    @property
    def months(self) -> tuple[Month, ...]:
        """Every month asked for as (year, month), ascending."""
        return tuple(sorted({cell.month for cell in self.cells}))

    @property
    def missing_months(self) -> tuple[Month, ...]:
        """Months, as (year, month), of which no file is there."""
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
        return whole_bytes(self.cells, self.layers)

    @property
    def read_bytes(self) -> int:
        """Bytes of the blocks that the area touches; an estimate before headers are read."""
        return read_bytes(self.cells, self.layers, self.aoi)

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

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.url(found.cells[0], 0)
        'http://.../32/U/PC/2021/SENTINEL2A_20210515-..._FRC_B2.tif'
        """
        if cell.product is None:
            return None
        layer = self.layers[band]
        resolution_m = band_resolution(layer, int(self.grid.resolution))
        path = cell.product.file(layer, resolution_m)
        return cell.urls[band] or locate(self.archive_url, path)

    def to_dataframe(self) -> pd.DataFrame:
        """Give the table, one row for each file.

        Returns
        -------
        pandas.DataFrame
            Columns ``tile``, ``month`` (Period), ``band``, ``status``, ``platform``,
            ``version``, ``size`` (bytes as listed, NaN where not said) and ``url``, whose user
            info and query are cut off.

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.to_dataframe()["band"].tolist()
        ['B2', 'B3', 'B4', 'B8']
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
                "url": redact(url) if (url := self.url(cell, band)) else None,
            }
            for cell in self.cells
            for band, name in enumerate(self.bands)
        ]
        table = pd.DataFrame(rows)
        table["size"] = table["size"].astype("float64")
        return table

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """Give the table with footprints, one row for each tile and month.

        Returns
        -------
        geopandas.GeoDataFrame
            In lon/lat (EPSG:4326). Columns ``tile``, ``month`` (``"2021-03"``), ``status``
            (``partial`` where the files differ), ``files`` and ``asked`` (numbers of files),
            ``product``, ``platform``, ``version``, ``is_chosen`` (whether the tile is one of
            those chosen for the area) and ``geometry``.

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.to_geodataframe().loc[0, ["tile", "month", "status"]].tolist()
        ['32UPC', '2021-05', 'available']
        """
        return footprint_table(self.cells, self.tiles)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the tiles over the area.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw, in lon/lat; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            With the map.

        Raises
        ------
        ImportError
            matplotlib is not there (``pip install "s2l3a_xr[plot]"``).

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.plot().figure.savefig("tiles.png")
        """
        return plot_tiles(self.to_geodataframe(), self._area(), ax)

    def explore(self, **options: Any) -> Any:  # noqa: ANN401 - of folium, an optional extra
        """Make a map of tiles and area to zoom in, in a notebook.

        Parameters
        ----------
        **options
            Of ``GeoDataFrame.explore``, such as ``tiles="CartoDB positron"``.

        Returns
        -------
        folium.Map
            The map; its background comes from the internet when it is shown.

        Raises
        ------
        ImportError
            folium is not there (``pip install "s2l3a_xr[explore]"``).

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.explore().save("tiles.html")
        """
        return explore_tiles(self.to_geodataframe(), self._area(), **options)

    def _area(self) -> gpd.GeoSeries:
        return gpd.GeoSeries(list(self.aoi.to_crs(LONLAT).features), crs=LONLAT)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the inventory to a file, so that the very same can be opened again.

        Parameters
        ----------
        path : str or path
            The ending decides: ``.json`` or ``.geojson`` for GeoJSON that people and GIS can
            read, ``.parquet`` or ``.geoparquet`` for GeoParquet (needs pyarrow). Passwords in
            URLs are left out. An inventory that is there is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ExportError
            It can't be written, or the file is there and no inventory of this package.

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import open_l3a, search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> pinned = found.save("inventory.json")
        >>> da = open_l3a(inventory=pinned)  # or Inventory.load(pinned)
        """
        return write_pin(path, {fact.name: getattr(self, fact.name) for fact in fields(self)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Inventory:
        """Read an inventory from a file that `save` wrote.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        Inventory
            Equal requests to it read equal files.

        Raises
        ------
        SelectionError
            There is no such file, or it is no inventory.

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> again = Inventory.load(found.save("inventory.json"))
        >>> again.available == found.available
        True
        """
        return cls(**read_pin(path))

    def summary(self) -> str:
        """Say in a few lines what there is.

        Returns
        -------
        str
            Counts and volumes, versions and platforms, licence and citation.

        Examples
        --------
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> from s2l3a_xr import search_l3a
        >>> found = search_l3a((11.7, 51.9, 11.8, 52.0), time="2021-05", archive=archive)
        >>> found.summary().splitlines()[3]
        '4 of 4 files are available (100%)'
        """
        share = self.available / len(self)
        months = self.months
        lines = [
            f"tiles {', '.join(self.tiles)} of {redact(self.archive_url)}",
            f"bands {', '.join(self.bands)}",
            f"months {spans_text(months)}, {len(months)} asked for",
            f"{self.available} of {len(self)} files are available ({share:.0%})",
            (
                f"whole files {volume_text(self.whole_bytes)}, roughly "
                f"{volume_text(self.read_bytes)} to be read, by area; da.l3a.plan() tells exactly"
            ),
        ]
        if self.origin.catalogue:
            lines.insert(1, f"found in {self.origin.catalogue}, licence {self.origin.license}")
        lines += [*tell_age(self.when), *count_kinds(self.cells)]
        if others := other_tiles(self.cells, self.tiles):
            lines.append(f"where a chosen tile lacks the month: {', '.join(others)}")
        if self.missing_months:
            lines.append(f"nothing in {spans_text(self.missing_months)}")
        if lacks := tell_lacks(self.cells, self.bands, self.aoi, self.cover):
            lines.append(lacks)
        if self.cover.uncovered > 0:
            outside = share_text(self.cover.uncovered)
            lines.append(f"{outside} of the area lies outside the offered tiles")
        lines.append(f"licence {self.origin.license}, cite {self.origin.references}")
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        body = self.summary().replace("\n", "\n  ")
        table = tabulate(self.cells).to_string(max_rows=_LONGEST_TABLE)
        return f"<s2l3a_xr.Inventory>\n  {body}\n\n{table}"

    def _repr_html_(self) -> str:
        body = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        table = tabulate(self.cells).to_html(max_rows=_LONGEST_TABLE)
        return f"<div><b>s2l3a_xr.Inventory</b><br>{body}{table}</div>"


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
