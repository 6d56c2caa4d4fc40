"""``s2l3a demo`` and ``s2l3a serve-sample``: the sample archive, for whoever has no network."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm.auto import tqdm

from s2l3a_xr._disk import make_folder, told, try_name, whole_file
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._own import check_own
from s2l3a_xr._texts import printable

if TYPE_CHECKING:
    import xarray as xr

_AREA, _PICTURE = "aoi.geojson", "quicklook.png"
_OF_DEMO = "file of the demo"


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path), default="demo")
def demo(out: Path) -> None:
    """Run the main job on the sample archive.

    GeoTIFFs, a picture and the area are written to the folder OUT, in which only files of an
    earlier demo are replaced.
    """
    from s2l3a_xr import open_l3a, search_l3a, to_geotiff  # noqa: PLC0415 - heavy
    from s2l3a_xr._sample import (  # noqa: PLC0415 - heavy
        SAMPLE_AOI,
        SAMPLE_MONTHS,
        SAMPLE_YEAR,
        SampleServer,
    )

    make_folder(out)
    feature = {"type": "Feature", "properties": {}, "geometry": SAMPLE_AOI}
    aoi = {"type": "FeatureCollection", "features": [feature]}
    is_known = _check_folder(out, aoi)
    with SampleServer(_sample_archive()) as server:
        click.echo(f"The sample archive is served at {server.url}\n")
        months = range(min(SAMPLE_MONTHS), max(SAMPLE_MONTHS) + 1)
        inventory = search_l3a(SAMPLE_AOI, years=SAMPLE_YEAR, months=months, archive=server.url)
        click.echo(f"{printable(repr(inventory))}\n")
        server.clear_log()
        began = time.perf_counter()
        da = open_l3a(inventory=inventory)
        click.echo(f"{da!r}\n\nTo be read: {da.l3a.plan().attrs['summary']}.\n")
        _check_files(out, da, is_known=is_known)
        with whole_file(out / _AREA) as place:
            place.write_text(json.dumps(aoi), "utf-8")
        paths = to_geotiff(da, out, overwrite=True)
        took_s = time.perf_counter() - began
        fetched = sum(request.bytes_sent for request in server.log)
        count = len(server.log)
        picture = _picture(da, out / _PICTURE)
    click.echo(
        f"\n{len(paths)} GeoTIFFs in {out} after {took_s:.1f} s: {fetched / 1e6:.1f} MB in {count} "
        f"requests, where whole files would be {inventory.whole_bytes / 1e6:.1f} MB. (The sample's "
        "files are empty but for a corner, most of which is read; DLR's have 200 to 270 MB each.)"
    )
    for path in paths:
        click.echo(f"  {path.name}")
    hint = 'For a picture: pip install "s2l3a_xr[plot]"'
    click.echo(f"Look at {picture}." if picture else hint)


_EXTENT = (
    "It has tiles 32UPC, 32UQC and 33UUT of March to October 2021, each but for a month, all\n"
    "bands and masks, with pixels at lon 11.63 to 12.33, lat 51.83 to 52.07."
)

_SET = "set" if os.name == "nt" else "export"


@click.command("serve-sample")
@click.option("--port", default=8000, show_default=True, help="0 takes any free one.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds before each answer.")
def serve_sample(port: int, latency: float) -> None:
    """Serve the sample archive on 127.0.0.1 until Ctrl-C."""
    from s2l3a_xr._sample import serve_forever  # noqa: PLC0415 - heavy

    root = _sample_archive()
    try:
        serve_forever(
            root,
            port=port,
            latency_s=latency,
            ready=lambda url: click.echo(
                f"Serving {url} (Ctrl-C ends it).\n"
                f"{_EXTENT} In another window:\n"
                f"{_SET} S2L3A_ARCHIVE={url}\n"
                "s2l3a search 11.68,51.94,11.76,51.99"
            ),
        )
    except (OSError, OverflowError) as exc:
        msg = f"port {port} can't be used ({exc}); choose another with --port, 0 takes any."
        raise SelectionError(msg) from exc


def _sample_archive() -> Path:
    from s2l3a_xr._sample import build_sample_archive  # noqa: PLC0415 - heavy

    # Late, as there is nothing to show where the archive is there.
    with tqdm(
        desc="sample archive", unit="product", file=sys.stderr, leave=False, delay=0.5
    ) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        with told("the sample archive in the user's cache"):
            return build_sample_archive(progress=show)


def _check_folder(out: Path, aoi: dict[str, Any]) -> bool:
    """Tell whether a demo wrote to a folder before, by its area; refuse what is foreign."""
    area = out / _AREA
    try_name(area)
    check_own(area, lambda path: bool(json.loads(path.read_text("utf-8")) == aoi), _OF_DEMO)
    is_known = area.exists()
    check_own(out / _PICTURE, lambda _: is_known, _OF_DEMO)
    return is_known


def _check_files(out: Path, da: xr.DataArray, *, is_known: bool) -> None:
    """Refuse to replace GeoTIFFs of other areas, or of other programs."""
    from s2l3a_xr._geotiff import is_own  # noqa: PLC0415 - heavy
    from s2l3a_xr._jobs import plan_jobs  # noqa: PLC0415 - the same
    from s2l3a_xr._raster import as_cube, raster_of  # noqa: PLC0415 - the same

    cube = as_cube(da)
    raster = raster_of(cube)
    for job in plan_jobs(cube, out, raster, "", None):
        check_own(job.path, lambda path: is_known and is_own(path, raster), _OF_DEMO)


def _picture(da: xr.DataArray, target: Path) -> Path | None:
    try:
        from s2l3a_xr._plot import quicklook  # noqa: PLC0415 - matplotlib is an extra
    except ImportError:
        return None
    return quicklook(da, target)
