"""Maps of an inventory: its tiles and its area."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pandas as pd

from s2l3a_xr._cells import Cell
from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._tiles import footprint, tile_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COVER, _HELPER, _AREA = "chosen for the area", "helps in months that lack one", "area"
_COLOURS = {_COVER: "#0072B2", _HELPER: "#D55E00", _AREA: "#E69F00"}
"""Okabe and Ito's, which the colour-blind tell apart; line styles say the same."""


def footprint_table(cells: Sequence[Cell], chosen: Collection[str]) -> gpd.GeoDataFrame:
    """Make the table of `Inventory.to_geodataframe`.

    Parameters
    ----------
    cells : sequence of Cell
        Tiles and months.
    chosen : collection of str
        Names of the tiles chosen for the area.

    Returns
    -------
    geopandas.GeoDataFrame
        A row for each cell.
    """
    shapes = {name: footprint(tile_named(name)) for name in {cell.tile for cell in cells}}
    rows = [
        {
            "tile": cell.tile,
            "month": f"{cell.month[0]:04}-{cell.month[1]:02}",
            "status": cell.status[0] if len({*cell.status}) == 1 else "partial",
            "files": sum(cell.has),
            "asked": len(cell.status),
            "product": cell.product.name if cell.product else None,
            "platform": cell.product.platform if cell.product else None,
            "version": cell.product.version if cell.product else None,
            "is_chosen": cell.tile in chosen,
        }
        for cell in cells
    ]
    return gpd.GeoDataFrame(rows, geometry=[shapes[cell.tile] for cell in cells], crs=LONLAT)


def _by_tile(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    groups = table.groupby("tile", sort=True)
    sums = groups[["files", "asked"]].sum().reset_index()
    first = groups[["is_chosen", "geometry"]].first().reset_index(drop=True)
    return gpd.GeoDataFrame(pd.concat([sums, first], axis=1), geometry="geometry", crs=table.crs)


def plot_tiles(table: gpd.GeoDataFrame, area: gpd.GeoSeries, ax: Axes | None) -> Axes:
    """Draw tiles and area, see `Inventory.plot`.

    Parameters
    ----------
    table : GeoDataFrame
        From `footprint_table`.
    area : GeoSeries
        In the same CRS.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the map.

    Raises
    ------
    ImportError
        matplotlib is not there.
    """
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - an optional extra
        from matplotlib.lines import Line2D  # noqa: PLC0415
        from matplotlib.patches import Patch  # noqa: PLC0415
    except ImportError as exc:
        msg = 'a map needs matplotlib: pip install "s2l3a_xr[plot]"'
        raise ImportError(msg) from exc
    tiles = _by_tile(table)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 7), layout="constrained")
    area.plot(ax=ax, color=_COLOURS[_AREA], edgecolor="black", linewidth=0.8, alpha=0.7, zorder=1)
    legend: list[Any] = [Patch(facecolor=_COLOURS[_AREA], edgecolor="black", label=_AREA)]
    for role, style, is_chosen in ((_COVER, "-", True), (_HELPER, "--", False)):
        part = tiles[tiles["is_chosen"] == is_chosen]
        if len(part):
            line: dict[str, Any] = {"color": _COLOURS[role], "linestyle": style, "linewidth": 1.8}
            part.boundary.plot(ax=ax, zorder=2, **line)
            legend.append(Line2D([], [], label=role, **line))
    size = 10 if len(tiles) <= 12 else 7  # noqa: PLR2004 - what can be read beside each other
    for row in tiles.itertuples():
        centre = row.geometry.centroid
        ax.annotate(
            f"{row.tile}\n{row.files}/{row.asked}",
            (centre.x, centre.y),
            ha="center",
            va="center",
            fontsize=size,
            color=_COLOURS[_COVER if row.is_chosen else _HELPER],
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=3,
        )
    ax.legend(
        handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False
    )
    ax.set(xlabel="longitude [°]", ylabel="latitude [°]")
    ax.set_title("Sentinel-2 L3A tiles, files available / asked for")
    return ax


def explore_tiles(table: gpd.GeoDataFrame, area: gpd.GeoSeries, **options: Any) -> Any:  # noqa: ANN401 - folium's
    """Make a map to zoom in, see `Inventory.explore`.

    Parameters
    ----------
    table, area
        As in `plot_tiles`.
    **options
        Of ``GeoDataFrame.explore``.

    Returns
    -------
    folium.Map
        The map.

    Raises
    ------
    ImportError
        folium or mapclassify is not there.
    """
    tiles = _by_tile(table)
    roles = tiles["is_chosen"].map({True: _COVER, False: _HELPER})
    colours = [_COLOURS[role] for role in roles]
    labelled = tiles.drop(columns="is_chosen").assign(role=roles)
    try:
        shown = labelled.explore(
            color=colours, style_kwds={"fillOpacity": 0.1}, name="tiles", **options
        )
    except ImportError as exc:
        msg = 'a map to zoom in needs folium and mapclassify: pip install "s2l3a_xr[explore]"'
        raise ImportError(msg) from exc
    return area.explore(m=shown, color=_COLOURS[_AREA], name=_AREA)
