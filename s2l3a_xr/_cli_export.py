"""``s2l3a download``: how and where pixels are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s2l3a_xr._cli_options import option
from s2l3a_xr._cli_steps import within_limit

if TYPE_CHECKING:
    import xarray as xr

    from s2l3a_xr._geotiff import Profile

_OUTPUT = "Output"


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
            default="compressed",
            show_default=True,
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


def folder_of(out: str, form: str, *, is_needed: bool) -> Path:
    """Tell where files go that are written beside the pixels.

    Parameters
    ----------
    out : str
        OUT as typed.
    form : str
        What ``--format`` says.
    is_needed : bool
        Whether there are such files.

    Returns
    -------
    Path
        OUT; for a store, the folder that it is in.

    Raises
    ------
    click.UsageError
        There is no such folder.
    """
    if form == "zarr" and "://" in out and is_needed:
        msg = "--keep-going and --buffer-aoi need a folder here, and OUT is a URL."
        raise click.UsageError(msg)
    return Path(out).absolute().parent if form == "zarr" else Path(out)


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
