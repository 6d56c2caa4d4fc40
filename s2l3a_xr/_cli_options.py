"""Options that commands have in common, in groups, and what they mean to the library."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from s2l3a_xr._errors import SelectionError

if TYPE_CHECKING:
    import xarray as xr

    from s2l3a_xr._aoi import Aoi
    from s2l3a_xr._transport import Transport

_T = TypeVar("_T")

DEFAULT_BANDS = "B2,B3,B4,B8"
_UNGROUPED = "Other"
_OTHERS = "*"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a group last."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups[getattr(param, "group", _UNGROUPED)].append(record)
        for heading in sorted(groups, key=_UNGROUPED.__eq__):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])


class _GroupedOption(click.Option):
    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*args, **kwargs)
        self.group = group


def option(group: str, *names: str, **facts: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's
    """Declare an option below a heading.

    Parameters
    ----------
    group : str
        The heading.
    *names : str
        As the user types it, and perhaps the name of the parameter.
    **facts
        As for ``click.option``.

    Returns
    -------
    callable
        A decorator.
    """
    return click.option(*names, cls=_GroupedOption, group=group, **facts)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Declare several options at once.

    Parameters
    ----------
    *options : callable
        From `option`.

    Returns
    -------
    callable
        A decorator.
    """

    def declare(command: Any) -> Any:  # noqa: ANN401 - click's
        for one in reversed(options):
            command = one(command)
        return command

    return declare


_months = (
    option("Selection", "--years", help="2021 or 2019-2021. [default: all that there are]"),
    option("Selection", "--months", help="3-10 or 3,5,7. [default: all]"),
    option("Selection", "--time", help="Instead of years and months: 2021-03/2021-10."),
)
_archive = (
    option(
        "Archive",
        "--archive",
        help="URL or folder in DLR's layout, a STAC API's URL, a STAC .json file, or dlr-stac. "
        "[default: $S2L3A_ARCHIVE, else DLR's server]",
    ),
    option(
        "Archive",
        "--collection",
        help="Collection of the STAC API that --archive names. [default: S2_L3A_WASP; "
        "the API: dlr-stac]",
    ),
    option(
        "Archive",
        "--verify/--no-verify",
        default=None,
        help="List every product's folder, however many, or none. [default: up to 300]",
    ),
)
month_options = together(*_months, *_archive)
"""Which months, where."""

selection_options = together(
    *_months,
    option(
        "Selection",
        "--bands",
        default=DEFAULT_BANDS,
        show_default=True,
        help="Native (B4) or common (red) names, with commas between.",
    ),
    *_archive,
)
"""What is wanted, the same in every command that searches."""

network_options = together(
    option(
        "Network",
        "--max-connections",
        type=click.IntRange(min=1),
        metavar="N",
        help="Connections to one host at once. [default: 16]",
    ),
    option(
        "Network",
        "--cache-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that keeps what was read, up to 10 GB, for later runs. [default: none]",
    ),
    option(
        "Network",
        "--allow-host",
        multiple=True,
        metavar="HOST",
        help="A further host that redirects and a STAC catalogue's links may lead to; may be "
        "repeated.",
    ),
)
"""How the network is used."""

grid_options = together(
    option(
        "Grid",
        "--crs",
        help="CRS of the files, such as EPSG:3035. [default: the UTM zone of most of the area]",
    ),
    option(
        "Grid",
        "--resolution",
        type=float,
        metavar="SIZE",
        help="Pixel size in units of the CRS: metres, or degrees. [default: 10 m, or 20 m if no "
        "10 m band is asked for; degrees have none]",
    ),
    option(
        "Grid",
        "--resampling",
        metavar="KERNEL",
        help="How pixels are made that are none of a file's: nearest, bilinear, cubic or average; "
        "by band as B11=bilinear, a bare name for all others: average,B11=bilinear. "
        "[default: nearest]",
    ),
    option(
        "Grid",
        "--like",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Raster file (GeoTIFF) whose grid is taken over, instead of --crs and --resolution; "
        "AOI may be left out then.",
    ),
    option("Grid", "--no-clip", is_flag=True, help="Keep AOI's bounding box instead of clipping."),
    option(
        "Grid",
        "--all-touched",
        is_flag=True,
        help="Keep pixels that AOI touches at all. [default: those whose centre lies inside]",
    ),
)
"""Which pixels are made."""


def take_transport(given: dict[str, Any]) -> Transport:
    """Take the network's options out of what was given.

    Parameters
    ----------
    given : dict
        All options; these are removed.

    Returns
    -------
    Transport
        Its own defaults where nothing was given.
    """
    from s2l3a_xr._transport import Transport  # noqa: PLC0415 - heavy; --help stays quick

    settings = {
        "max_connections": given.pop("max_connections"),
        "cache_dir": given.pop("cache_dir"),
        "allowed_hosts": given.pop("allow_host"),
    }
    return Transport(**{name: value for name, value in settings.items() if value})


def take_grid(given: dict[str, Any]) -> tuple[dict[str, Any], Aoi | None]:
    """Take the grid's options out of what was given, checked before anything is asked.

    Parameters
    ----------
    given : dict
        All options; these are removed.

    Returns
    -------
    dict
        Keywords of ``open_l3a``; only those that differ from its defaults.
    Aoi or None
        Extent of the raster that --like names.

    Raises
    ------
    SelectionError
        There is no such CRS, kernel or grid.
    """
    from s2l3a_xr._product import resolve_bands  # noqa: PLC0415 - heavy; --help stays quick
    from s2l3a_xr._target import area_of, check_wishes, given_grid, kernels_for  # noqa: PLC0415 - the same

    words = {name: given.pop(name) for name in ("crs", "resolution", "resampling", "like")}
    if words["resampling"] is not None:
        words["resampling"] = _kernels(words["resampling"])
        kernels_for(resolve_bands(("B4",)), words["resampling"])
    if words["like"] is not None:
        words["like"] = _read_grid(words["like"])
    grid = given_grid(None, words["like"], words["crs"], words["resolution"])
    check_wishes(words["crs"], words["resolution"], words["resampling"] or "nearest")
    words["clip"] = False if given.pop("no_clip") else None
    words["all_touched"] = given.pop("all_touched") or None
    keywords = {name: value for name, value in words.items() if value is not None}
    return keywords, None if grid is None else area_of(grid)


def _kernels(text: str) -> dict[str, str]:
    """Read ``average,B11=bilinear``."""
    named: dict[str, str] = {}
    for part in text.split(","):
        band, _, kernel = part.rpartition("=")
        band = band.strip() or _OTHERS
        if band in named:
            what = "all" if band == _OTHERS else band
            msg = f"--resampling {text} says two things of {what}; give one."
            raise SelectionError(msg)
        named[band] = kernel.strip()
    return named


def _read_grid(path: Path) -> xr.DataArray:
    """Read where a raster file's pixels lie."""
    import rioxarray  # noqa: PLC0415 - heavy; --help stays quick
    import xarray as xr  # noqa: PLC0415 - the same
    from rasterio.errors import RasterioIOError  # noqa: PLC0415 - the same

    try:
        raster = rioxarray.open_rasterio(path)
    except RasterioIOError as exc:
        msg = f"--like {path} can't be read as a raster: {exc}"
        raise SelectionError(msg, hint="give a GeoTIFF or another raster of GDAL.") from exc
    if not isinstance(raster, xr.DataArray):
        msg = f"--like {path} holds several rasters; give a file that holds one."
        raise SelectionError(msg)
    raster.close()  # its coordinates are here
    return raster


def take_aoi(text: str) -> Any:  # noqa: ANN401 - a path or bounds
    """Read an AOI as typed.

    Parameters
    ----------
    text : str
        A path or ``minx,miny,maxx,maxy``.

    Returns
    -------
    str or tuple of float
        As ``search_l3a`` takes it.

    Raises
    ------
    SelectionError
        Neither a file nor four numbers.
    """
    parts = text.split(",")
    if len(parts) == 1 or os.path.exists(text):  # noqa: PTH110 - text may be too long for a path
        return text
    try:
        left, bottom, right, top = map(float, parts)
    except ValueError as exc:
        msg = (
            f"AOI {text!r} is neither a file (looked in {Path.cwd()}) nor minx,miny,maxx,maxy; "
            "give one of them, such as 11.68,51.94,11.76,51.99."
        )
        raise SelectionError(msg) from exc
    return left, bottom, right, top
