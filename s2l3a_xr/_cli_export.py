"""``s2l3a download``: how and where pixels are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s2l3a_xr._cli_options import option
from s2l3a_xr._cli_steps import within_limit
from s2l3a_xr._own import check_no_input, check_own, take_folder

if TYPE_CHECKING:
    import xarray as xr

    from s2l3a_xr._geotiff import Profile

_OUTPUT = "Output"
REPORT = "s2_l3a_failures.json"
SMALLER = "aoi_ecognition.geojson"
_REPORTED = {"month", "band", "tile", "item", "url", "when", "status", "cause"}


def export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how pixels are written.

    Parameters
    ----------
    command : callable
        The command.

    Returns
    -------
    callable
        The same, with ``form``, ``profile`` and ``overwrite``.
    """
    for add in (
        option(_OUTPUT, "--overwrite", is_flag=True, help="Replace what holds something else."),
        option(
            _OUTPUT,
            "--profile",
            type=click.Choice(["compressed", "plain", "cog"]),
            show_default="compressed",
            help="How GeoTIFFs are packed: DEFLATE in tiles, uncompressed strips, or "
            "cloud-optimised with overviews.",
        ),
        option(
            _OUTPUT,
            "--format",
            "form",
            type=click.Choice(["geotiff", "zarr", "cog"]),
            default="geotiff",
            show_default=True,
            help="A GeoTIFF for each month and band; one Zarr store, which OUT names; or a "
            "cloud-optimised GeoTIFF for each month, with all bands.",
        ),
    ):
        command = add(command)
    return command


def take_profile(given: Profile | None, form: str) -> Profile:
    """Refuse --profile where it has no effect.

    Parameters
    ----------
    given : str or None
        What ``--profile`` says, None where it is not there.
    form : str
        What ``--format`` says.

    Returns
    -------
    str
        The profile of GeoTIFFs.

    Raises
    ------
    click.UsageError
        Other files than GeoTIFFs for each band are to be written.
    """
    if given is not None and form != "geotiff":
        msg = (
            f"--profile says how --format geotiff packs files, and nothing of --format {form}; "
            "leave one of them out."
        )
        raise click.UsageError(msg)
    return given or "compressed"


def folder_of(out: str, form: str, aoi: str, *, has_area: bool, has_report: bool) -> Path:
    """Tell where files go that are written beside the pixels, and see that they may.

    Parameters
    ----------
    out : str
        OUT as typed.
    form : str
        What ``--format`` says.
    aoi : str
        AOI as typed.
    has_area, has_report : bool
        Which files there are, of ``--buffer-aoi`` and of ``--keep-going``.

    Returns
    -------
    Path
        OUT; for a store, the folder that it is in.

    Raises
    ------
    click.UsageError
        There is no such folder.
    ExportError
        OUT can't be the folder of GeoTIFFs, or something else is in a file's place.
    """
    if form == "zarr" and "://" in out and (has_area or has_report):
        msg = "--keep-going and --buffer-aoi need a folder here, and OUT is a URL."
        raise click.UsageError(msg)
    beside = Path(out).absolute().parent if form == "zarr" else Path(out)
    if out and form != "zarr":
        take_folder(out)
    if out and has_area:
        _check_area(beside / SMALLER, aoi)
    if out and has_report:
        check_report(beside / REPORT)
    return beside


def check_saved(path: Path, aoi: str) -> None:
    """Refuse to keep an inventory in the place of something else.

    Parameters
    ----------
    path : Path
        What ``--save`` says.
    aoi : str
        AOI as typed.

    Raises
    ------
    ExportError
        Something else is there, or AOI itself.
    """
    from s2l3a_xr._pin import take_pin_path  # noqa: PLC0415 - heavy; --help stays quick

    check_no_input(take_pin_path(path), aoi, "--save")


def _check_area(path: Path, aoi: str) -> None:
    from s2l3a_xr._buffer import take_area_path  # noqa: PLC0415 - heavy; --help stays quick

    check_no_input(take_area_path(path), aoi, "--buffer-aoi")


def check_report(path: Path) -> None:
    """Refuse to replace by a list of failures what is none.

    Parameters
    ----------
    path : Path
        Where it goes.

    Raises
    ------
    ExportError
        Something else is there.
    """
    check_own(path, _is_report, "list of failures")


def _is_report(path: Path) -> bool:
    rows = json.loads(path.read_text("utf-8"))
    return isinstance(rows, list) and all(
        isinstance(row, dict) and row.keys() >= _REPORTED for row in rows
    )


def export_as(
    form: str,
    da: xr.DataArray,
    out: str,
    *,
    profile: Profile,
    overwrite: bool,
    yes: bool,
    progress: bool,
) -> list[str]:
    """Write an array, and name what was written.

    Parameters
    ----------
    form : {"geotiff", "zarr", "cog"}
        What ``--format`` says.
    da : xarray.DataArray
        The pixels.
    out : str
        OUT as typed.
    profile : str
        What ``--profile`` says.
    overwrite : bool
        Whether what is something else may be replaced.
    yes : bool
        Whether it may be large.
    progress : bool
        Whether there is a bar.

    Returns
    -------
    list of str
        Paths, or the store.
    """
    from s2l3a_xr import to_cog, to_geotiff, to_zarr  # noqa: PLC0415 - heavy; --help stays quick

    def write(most: float | None) -> list[str]:
        if form == "zarr":
            to_zarr(da, out, overwrite=overwrite, progress=progress, max_bytes=most)
            return [out]
        if form == "cog":
            paths = to_cog(
                da, out, together=True, overwrite=overwrite, progress=progress, max_bytes=most
            )
        else:
            paths = to_geotiff(
                da, out, profile=profile, overwrite=overwrite, progress=progress, max_bytes=most
            )
        return [str(path) for path in paths]

    try:
        return within_limit(write, yes=yes)
    except KeyboardInterrupt:
        click.echo(f"What is complete in {out} stays: the same command goes on.", err=True)
        raise


def name_written(paths: Sequence[str], began: datetime, *, quiet: bool) -> None:
    """Name what an export is made of, and say how much of it was there already.

    Parameters
    ----------
    paths : sequence of str
        Files, or the store.
    began : datetime
        When it began.
    quiet : bool
        Whether the names are enough.
    """
    for path in paths:
        click.echo(path)
    if quiet:
        return
    files = [Path(path) for path in paths]
    old = sum(f.is_file() and f.stat().st_mtime < began.timestamp() for f in files)
    if old:
        click.echo(f"{old} of {len(files)} files were complete already and were left.", err=True)
