"""The command line, ``s2l3a COMMAND``."""

from __future__ import annotations

import io
import json
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s2l3a_xr import __version__
from s2l3a_xr._cli_doctor import doctor, versions
from s2l3a_xr._cli_export import (
    REPORT,
    SMALLER,
    check_report,
    check_saved,
    export_as,
    export_options,
    folder_of,
    name_written,
    take_profile,
)
from s2l3a_xr._cli_masks import mask_options, take_masks, with_flags
from s2l3a_xr._cli_options import (
    DEFAULT_BANDS,
    GroupedCommand,
    grid_options,
    network_options,
    option,
    selection_options,
    take_aoi,
    take_grid,
    take_transport,
)
from s2l3a_xr._cli_pictures import quicklook
from s2l3a_xr._cli_sample import demo, serve_sample
from s2l3a_xr._cli_steps import search_as_given, within_limit
from s2l3a_xr._disk import whole_file
from s2l3a_xr._errors import InputError, S2L3AError, S2L3AWarning, SelectionError
from s2l3a_xr._texts import printable, redact

if TYPE_CHECKING:
    import xarray as xr

    from s2l3a_xr._inventory import Inventory

_EXIT_FAILED, _EXIT_BAD_INPUT, _EXIT_INCOMPLETE, _EXIT_INTERRUPTED = 1, 2, 3, 130
_EXITS = """\b
Exit codes: 0 done; 1 the archive failed or has nothing of it; 2 what was asked
for can't be done (options, AOI, files in the way); 3 done but for reads that
failed (download --keep-going); 130 Ctrl-C. s2l3a --debug COMMAND shows a traceback."""
_FAILURES, _OUTPUT = "Missing and failed", "Output"


class _Group(click.Group):
    """Errors in one line; --debug shows where they come from."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        _escape_what_lacks()
        with warnings.catch_warnings():
            warnings.simplefilter("always", S2L3AWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                click.echo("Aborted!", err=True)
                ctx.exit(_EXIT_INTERRUPTED)
            except (S2L3AError, OSError) as exc:
                # Who closed the pipe has seen enough: click ends quietly.
                if ctx.params.get("debug") or isinstance(exc, BrokenPipeError):
                    raise
                click.echo(f"Error: {printable(str(exc))}", err=True)
                is_input = isinstance(exc, (InputError, OSError))
                ctx.exit(_EXIT_BAD_INPUT if is_input else _EXIT_FAILED)


def _escape_what_lacks() -> None:
    """Escape characters that stdout can't encode, such as a folder's name in a pipe on Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    click.echo(f"{category.__name__}: {printable(str(message))}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXITS)
@click.version_option(__version__, prog_name="s2l3a")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Read DLR's monthly cloud-free Sentinel-2 mosaics (Level 3A, WASP, Germany).

    AOI is a vector file (GeoJSON, GPKG, Shapefile, KML) or minx,miny,maxx,maxy in lon/lat.
    """


@main.command(cls=GroupedCommand, epilog=_EXITS)
@click.argument("aoi")
@selection_options
@network_options
@option(
    _OUTPUT,
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep what was found, for download --inventory: .json, .geojson or .parquet.",
)
@option(_OUTPUT, "--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def search(aoi: str, save: Path | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - of the options above
    """Say what the archive has for AOI.

    Listings alone are read, no pixels.
    """
    transport = take_transport(given)
    if save is not None:
        check_saved(save, aoi)
    inventory = search_as_given(take_aoi(aoi), _bands(given), given, transport)
    if save is not None:
        inventory.save(save)
    click.echo(_as_json(inventory) if as_json else printable(repr(inventory)))


@main.command(
    cls=GroupedCommand, epilog=_EXITS, short_help="Write AOI to GeoTIFFs, COGs or a Zarr store."
)
@click.argument("places", nargs=-1, metavar="AOI OUT")
@option(
    "Selection",
    "--inventory",
    "pinned",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead of AOI and all that selects: what search --save has kept.",
)
@selection_options
@grid_options
@mask_options
@option(
    _FAILURES,
    "--missing",
    type=click.Choice(["warn", "keep", "raise"]),
    default="warn",
    show_default=True,
    help="Leave empty months out, write them as nodata, or stop.",
)
@option(
    _FAILURES,
    "--keep-going",
    is_flag=True,
    help=f"Write nodata where a read fails, list it in OUT/{REPORT}, and exit with 3.",
)
@export_options
@option(
    _OUTPUT,
    "--mirror",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy what AOI touches of the archive's files here, for --archive; OUT may be left out.",
)
@option(
    _OUTPUT,
    "--buffer-aoi",
    type=float,
    metavar="METRES",
    help=f"Write {SMALLER} to OUT too: AOI with its border moved, inwards by -20.",
)
@option(_OUTPUT, "--yes", is_flag=True, help="Do not ask before more than 20 GB are written.")
@option(_OUTPUT, "--quiet", is_flag=True, help="No summary and no progress bar.")
@network_options
def download(
    places: tuple[str, ...],
    pinned: Path | None,
    mirror: Path | None,
    form: str,
    missing: Any,  # noqa: ANN401 - one of the choices
    keep_going: bool,
    quiet: bool,
    **given: Any,  # noqa: ANN401 - of the options above
) -> None:
    """Write AOI as GeoTIFFs to the folder OUT, or as the Zarr store OUT.

    Give no AOI with --inventory; it may be left out with --like, and OUT with --mirror.

    There is a file for each month and band, named as eCognition projects expect, such as
    s2_l3a_20210315_blue.tif. Files that are there already and complete are skipped: after a
    failure, the same command reads again what failed.
    """
    from s2l3a_xr import buffer_aoi, open_l3a, save_archive  # noqa: PLC0415 - heavy
    from s2l3a_xr._buffer import write_area  # noqa: PLC0415 - heavy
    from s2l3a_xr._volume import check_bytes  # noqa: PLC0415 - the same

    has_extent, yes = given["like"] is not None, given.pop("yes")
    aoi, out = _places(
        places, may_lack_aoi=has_extent, pinned=pinned is not None, needs_out=mirror is None
    )
    transport = take_transport(given)
    grid, extent = take_grid(given)
    masks, border_m = take_masks(given), given.pop("buffer_aoi")
    profile, overwrite = take_profile(given.pop("profile"), form), given.pop("overwrite")
    beside = folder_of(out, form, aoi, has_area=border_m is not None, has_report=keep_going)
    if mirror is not None and grid.keys() - {"clip", "all_touched"}:
        msg = "--mirror copies files as they are; make another grid of --archive, without --mirror."
        raise click.UsageError(msg)
    if pinned:
        inventory = _load(pinned, given)
        bands = list(inventory.bands)
    else:
        bands = _bands(given)
        area = take_aoi(aoi) if aoi else extent
        inventory = search_as_given(area, with_flags(bands, masks), given, transport)
        grid |= {} if aoi else {"clip": False}
    if not quiet:
        click.echo(printable(inventory.summary()), err=True)
    smaller = None if border_m is None else buffer_aoi(inventory.aoi, border_m)
    if mirror is not None:
        size = inventory.read_bytes
        within_limit(lambda most: check_bytes(size, "the blocks to be copied", most), yes=yes)
        inventory = save_archive(
            inventory,
            mirror,
            clip=grid.get("clip", True),
            progress=not quiet,
            transport=transport,
        )
        click.echo(redact(inventory.archive_url))
    if not out:
        return
    began = datetime.now(UTC)
    da = open_l3a(
        inventory=inventory,
        missing=missing,
        fail_on_error=not keep_going,
        transport=transport,
        **grid,
        **masks,
    )
    da = da.isel(band=slice(len(bands)))  # FLG may have been read for its masks alone
    paths = export_as(
        form, da, out, profile=profile, overwrite=overwrite, yes=yes, progress=not quiet
    )
    name_written(paths, began, quiet=quiet)
    if smaller is not None:
        click.echo(write_area(smaller, beside / SMALLER))
    if keep_going:
        _report(da, began, beside / REPORT)


def _report(da: xr.DataArray, began: datetime, path: Path) -> None:
    """Leave a list of what failed or was gone; what an earlier run left is out of date."""
    table = da.l3a.failures()
    table = table[table["when"] >= began]
    check_report(path)
    path.unlink(missing_ok=True)
    if table.empty:
        return
    rows = table.to_json(orient="records", date_format="iso", indent=2)
    with whole_file(path) as place:
        place.write_text(rows + "\n", "utf-8")
    failed = int((table["status"] == "failed").sum())
    click.echo(f"{failed} reads failed, {len(table) - failed} files are gone: {path}", err=True)
    if failed:
        sys.exit(_EXIT_INCOMPLETE)


for _command in (demo, quicklook, doctor, serve_sample, versions):
    main.add_command(_command)


def _places(
    given: tuple[str, ...], *, may_lack_aoi: bool, pinned: bool, needs_out: bool
) -> tuple[str, str]:
    """Tell AOI and OUT apart; each is empty where it is not needed and not given."""
    left = list(given)
    takes_aoi = not pinned and (len(left) > 1 or not may_lack_aoi)
    aoi = left.pop(0) if takes_aoi and left else ""
    out = left.pop(0) if left else ""
    if left:
        beside = "" if not pinned else ": with --inventory, OUT is the only one"
        msg = f"Got unexpected extra argument ({left[0]}){beside}"
        raise click.UsageError(msg)
    for name, is_lacking in (("AOI", takes_aoi and not aoi), ("OUT", needs_out and not out)):
        if is_lacking:
            msg = f"Missing argument '{name}'."
            raise click.UsageError(msg)
    return aoi, out


def _load(pinned: Path, selection: dict[str, Any]) -> Inventory:
    from s2l3a_xr import Inventory  # noqa: PLC0415 - heavy; --help stays quick

    given = [name for name, value in selection.items() if value not in {None, DEFAULT_BANDS}]
    if given:
        msg = f"--inventory settles {', '.join(given)} already; search again with other options."
        raise SelectionError(msg)
    return Inventory.load(pinned)


def _bands(selection: dict[str, Any]) -> list[str]:
    return [band.strip() for band in (selection["bands"] or "").rstrip(", ").split(",")]


def _as_json(inventory: Inventory) -> str:
    table = inventory.to_dataframe()
    table["month"] = table["month"].astype(str)
    return json.dumps(
        {
            "archive": redact(inventory.archive_url),
            "license": inventory.origin.license,
            "references": inventory.origin.references,
            "tiles": list(inventory.tiles),
            "available": inventory.available,
            "asked_for": len(inventory),
            "whole_bytes": inventory.whole_bytes,
            "expected_read_bytes": inventory.read_bytes,
            "files": json.loads(table.to_json(orient="records")),
        },
        indent=2,
    )


if __name__ == "__main__":
    main()
