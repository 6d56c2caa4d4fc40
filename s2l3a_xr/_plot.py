"""Pictures of months beside each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._disk import make_folder, whole_file
from s2l3a_xr._errors import ExportError, MissingWarning, ReadError, SelectionError, warn_user
from s2l3a_xr._masks import Part, find_part
from s2l3a_xr._own import check_own
from s2l3a_xr._paths import take_path
from s2l3a_xr._picture import Picture, Stretch, check_picture, colour_table, paint
from s2l3a_xr._quality import Unclear, find_unclear

PANEL_PX = 480
_MARK = b"s2l3a_xr quicklook"
"""In the head of pictures, by which they are known."""
_HEAD_BYTES = 1024
_PANEL_INCHES = 3.0
_DPI = (150, 1200)
_NO_DATA_GREY = "0.85"
OUTLINE = "#D55E00"
"""Of Okabe and Ito's colours, which the colour-blind tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a picture says beside its pixels.

    Parameters
    ----------
    part : Part or None
        Where the masks are; None where that is not known.
    area : BaseGeometry or None
        The area in the picture's CRS, None where it is not known or nothing is clipped.
    """

    part: Part | None
    area: BaseGeometry | None

    @classmethod
    def of(cls, da: xr.DataArray) -> Surroundings:
        """Find out what is known of an array.

        Parameters
        ----------
        da : xarray.DataArray
            Of a picture.

        Returns
        -------
        Surroundings
            Empty for a computed array.
        """
        with contextlib.suppress(SelectionError):
            part = find_part(da)
            request, grid = part.request, part.request.grid
            if request.area is None:
                return cls(part=part, area=None)
            # In pixels of the grid, rows negative.
            step = np.array([grid.resolution, grid.resolution])
            area = shapely.transform(
                shapely.from_wkb(request.area), lambda xy: xy * step + (grid.left, grid.top)
            )
            return cls(part=part, area=shapely.union_all(shapely.make_valid(area.geoms)))
        return cls(part=None, area=None)


def thin(da: xr.DataArray, most_px: int) -> xr.DataArray:
    """Leave out rows and columns that a picture has no room for.

    Parameters
    ----------
    da : xarray.DataArray
        Dims y and x among others.
    most_px : int
        Pixels of the longer side, up to twice as many.

    Returns
    -------
    xarray.DataArray
        Every so manieth row and column.

    Raises
    ------
    SelectionError
        It has no y or x.
    """
    if not {"y", "x"} <= {*da.dims}:
        msg = (
            "a picture needs the dimensions y and x, the array has "
            f"{', '.join(map(str, da.dims))}; draw it before they are reduced."
        )
        raise SelectionError(msg)
    every = _every(da, most_px)
    return da.isel(y=every, x=every)


def _every(da: xr.DataArray, most_px: int) -> slice:
    return slice(None, None, max(1, max(da.sizes["y"], da.sizes["x"]) // most_px))


def plot_rgb(
    da: xr.DataArray,
    *,
    bands: str | Sequence[str],
    stretch: Stretch,
    columns: int,
    share: bool,
    panel_px: int = PANEL_PX,
    figure: Figure | None = None,
) -> Figure:
    """Draw a panel for each month, see ``da.l3a.plot_rgb``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, with ``native_name`` and ``time`` coordinates.
    bands : str or sequence of str
        As in `paint`.
    stretch : "percentile" or tuple of float
        As in `paint`.
    columns : int
        Panels in a row.
    share : bool
        Whether titles say how much is nodata, cloud or snow, and percentiles leave that out,
        where it can be found out.
    panel_px : int
        Pixels of a panel's longer side, up to twice as many.
    figure : Figure, optional
        An empty one to draw in; of pyplot's by default.

    Returns
    -------
    matplotlib.figure.Figure
        With the panels.

    Raises
    ------
    SelectionError
        There is no such picture or number of columns, or the array lacks its bands.
    """
    if columns < 1:
        msg = f"columns={columns!r} must be a whole number of panels in a row, at least 1."
        raise SelectionError(msg)
    if "time" not in da.dims:
        da = da.expand_dims("time")
    small = thin(da, panel_px)
    check_picture(small, bands, stretch)  # before masks are read
    around = Surroundings.of(da)
    unclear = None
    if share and around.part is not None:
        unclear = _find_unclear(around.part, _every(da, panel_px))
    titles = [str(when)[:10] for when in da["time"].to_numpy()]
    hidden = None
    if unclear is not None:
        titles = [
            f"{when}, {part:.1%} nodata, cloud or snow"
            for when, part in zip(titles, unclear.shares, strict=True)
        ]
        hidden = xr.DataArray(unclear.hidden, dims=("time", "y", "x"))
    picture = paint(small, bands, stretch, hidden)
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    height = _PANEL_INCHES * da.sizes["y"] / da.sizes["x"] + 0.25
    if figure is None:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - only where figures are to be shown

        figure = plt.figure()
    below = 0.75 if picture.is_index else 0.3
    figure.set_size_inches(_PANEL_INCHES * columns, height * rows + below)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(titles) :]:
        axis.set_axis_off()
    extent = _extent(da)
    for axis, title, panel in zip(axes, titles, picture.image.to_numpy(), strict=False):
        _draw_panel(axis, panel, extent, around.area)
        axis.set_title(title, fontsize=9)
    _explain(figure, axes, picture)
    return figure


def _find_unclear(part: Part, every: slice) -> Unclear | None:
    """Read the masks; a picture needs none."""
    try:
        shown = replace(part, rows=part.rows[every], columns=part.columns[every])
        return find_unclear(part, shown)
    except (ReadError, SelectionError) as exc:
        warn_user(f"the titles don't say how much is masked: {exc}", MissingWarning)
        return None


def _extent(da: xr.DataArray) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edge of the whole array."""
    left, bottom, right, top = da.rio.bounds()
    return left, right, bottom, top


def _draw_panel(
    axis: Axes,
    panel: np.ndarray,
    extent: tuple[float, float, float, float],
    area: BaseGeometry | None,
) -> None:
    axis.imshow(panel, extent=extent, interpolation="antialiased")
    axis.set(xticks=[], yticks=[], facecolor=_NO_DATA_GREY)
    axis.spines[:].set_visible(False)
    rings = shapely.get_rings(area) if area is not None else []
    for ring in rings:
        axis.plot(*shapely.get_coordinates(ring).T, color=OUTLINE, linewidth=0.8)
    axis.set(xlim=extent[:2], ylim=extent[2:])


def _explain(figure: Figure, axes: np.ndarray, picture: Picture) -> None:
    if not picture.is_index:
        figure.suptitle(f"Sentinel-2 L3A, {_told(picture)}", fontsize=9, wrap=True)
        return
    figure.suptitle("Sentinel-2 L3A, NDVI", fontsize=9)
    ((low, high),) = picture.limits
    colours = ScalarMappable(Normalize(low, high), ListedColormap(colour_table()[:255] / 255))
    bar = figure.colorbar(
        colours, ax=list(axes), location="bottom", shrink=0.6, aspect=40, extend="both"
    )
    bar.set_label("NDVI", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _told(picture: Picture) -> str:
    """Say which bands are which colours, and from which to which reflectance."""
    colours = zip(("red", "green", "blue"), picture.bands, picture.limits, strict=True)
    if len({*picture.limits}) == 1:
        low, high = picture.limits[0]
        return f"{' '.join(picture.bands)} as red, green, blue, reflectance {low:.2f} to {high:.2f}"
    parts = (f"{colour} {band} {low:.2f} to {high:.2f}" for colour, band, (low, high) in colours)
    return f"reflectance: {', '.join(parts)}"


def quicklook(
    da: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    bands: str | Sequence[str] = "true",
    stretch: Stretch = "percentile",
    columns: int = 4,
    share: bool = True,
    panel_px: int = PANEL_PX,
) -> Path:
    """Write a picture with one panel a month, all stretched alike.

    Parameters
    ----------
    da : xarray.DataArray
        As `open_l3a` gives it, with ``native_name`` and ``time`` coordinates.
    path : str or path
        PNG to be written, in place of an older one of this package; it must end in ``.png``.
    bands, stretch, columns, share, panel_px
        As in `plot_rgb`.

    Returns
    -------
    pathlib.Path
        The picture.

    Raises
    ------
    SelectionError
        As for `plot_rgb`.
    ExportError
        The picture can't be written, its name does not end in ``.png``, or another is there.
    """
    target = take_picture_path(path)
    make_folder(target.parent)
    figure = Figure()
    FigureCanvasAgg(figure)
    plot_rgb(
        da,
        bands=bands,
        stretch=stretch,
        columns=columns,
        share=share,
        panel_px=panel_px,
        figure=figure,
    )
    # A dot for each pixel.
    dpi = float(np.clip(thin(da, panel_px).sizes["x"] / _PANEL_INCHES, *_DPI))
    with whole_file(target) as place:
        figure.savefig(place, format="png", dpi=dpi, metadata={"Software": _MARK.decode()})
    return target


def take_picture_path(path: str | os.PathLike[str]) -> Path:
    """Check where a picture goes.

    Parameters
    ----------
    path : str or path
        As the user gave it.

    Returns
    -------
    pathlib.Path
        The same.

    Raises
    ------
    ExportError
        It does not end in ``.png``, or another file than a picture of this package is there.
    """
    target = take_path(path, "the picture's path", ExportError)
    if target.suffix.lower() != ".png":  # else a slip of the pen replaces an AOI file by a picture
        msg = f"the picture's path {str(target)!r} must end in .png: pictures are PNG files."
        raise ExportError(msg)
    check_own(target, _is_ours, "picture")
    return target


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _MARK in file.read(_HEAD_BYTES)
