"""The command that draws: ``s2l3a quicklook``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from s2l3a_xr._cli_options import (
    GroupedCommand,
    month_options,
    network_options,
    option,
    take_aoi,
    take_transport,
)
from s2l3a_xr._cli_steps import search_as_given
from s2l3a_xr._errors import SelectionError

_STEPS_M = (10, 20, 40, 80, 160, 320, 640)
"""Pixel sizes that files have: full resolution and overviews."""

_PICTURE = "Picture"


@click.command(cls=GroupedCommand)
@click.argument("aoi")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@month_options
@option(
    _PICTURE,
    "--bands",
    default="true",
    show_default=True,
    help="true, nir, swir or ndvi; or red, green and blue of the picture: B8,B4,B3.",
)
@option(
    _PICTURE,
    "--stretch",
    default="percentile",
    show_default=True,
    metavar="percentile|LOW,HIGH",
    help="Darkest and brightest reflectance, such as 0,0.2; percentile takes clear pixels'.",
)
@option(
    _PICTURE,
    "--size",
    type=click.IntRange(min=16),
    default=800,
    show_default=True,
    metavar="PIXELS",
    help="Longer side of a panel at most; what is larger comes from the files' overviews.",
)
@option(_PICTURE, "--columns", type=click.IntRange(min=1), default=4, show_default=True,
        help="Panels in a row.")  # fmt: skip
@option(
    _PICTURE,
    "--no-share",
    is_flag=True,
    help="Don't say how much is nodata, cloud or snow, and stretch to clouds too: reads no masks.",
)
@network_options
def quicklook(
    aoi: str,
    out: Path,
    bands: str,
    stretch: str,
    size: int,
    columns: int,
    no_share: bool,
    **given: Any,  # noqa: ANN401 - of the options above
) -> None:
    """Draw AOI month by month to the PNG file OUT.

    Large areas are read from the files' overviews: pictures for a first look.
    """
    from s2l3a_xr import open_l3a  # noqa: PLC0415 - heavy; --help stays quick
    from s2l3a_xr._picture import picture_bands, read_stretch  # noqa: PLC0415 - the same

    try:
        from s2l3a_xr._plot import quicklook as draw  # noqa: PLC0415 - matplotlib is an extra
        from s2l3a_xr._plot import take_picture_path  # noqa: PLC0415 - the same
    except ImportError as exc:
        msg = 'pictures need matplotlib: pip install "s2l3a_xr[plot]"'
        raise click.ClickException(msg) from exc
    take_picture_path(out)
    wanted: str | list[str] = [name.strip() for name in bands.split(",")]
    if len(wanted) == 1:
        wanted = wanted[0]
    natives = picture_bands(wanted)
    limits = _split_stretch(stretch)
    read_stretch(limits, "--stretch ")
    transport = take_transport(given)
    names = list(dict.fromkeys(natives))
    inventory = search_as_given(take_aoi(aoi), names, given, transport)
    longest_m = max(inventory.grid.shape) * inventory.grid.resolution
    fits = [step for step in _STEPS_M if longest_m / step <= size]
    step = max(fits[0] if fits else _STEPS_M[-1], inventory.grid.resolution)
    da = open_l3a(inventory=inventory, resolution=step, transport=transport)
    path = draw(
        da,
        out,
        bands=wanted,
        stretch=limits,
        columns=columns,
        share=not no_share,
        panel_px=size,
    )
    click.echo(path)


def _split_stretch(text: str) -> Any:  # noqa: ANN401 - a word or two numbers
    if text == "percentile":
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as exc:
        msg = f"--stretch {text} must be percentile, or two reflectances such as 0,0.2."
        raise SelectionError(msg) from exc
    return low, high
