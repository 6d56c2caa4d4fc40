"""``s2l3a doctor``: how a server behaves; ``s2l3a versions``: what is installed here."""

from __future__ import annotations

from typing import Any

import click

from s2l3a_xr._cli_options import GroupedCommand, network_options, option, take_transport

_EXITS = """\b
Exit codes: 0 pixels can be read from there; 1 they can't; 2 that is no address."""


@click.command(
    cls=GroupedCommand, epilog=_EXITS, short_help="Say how a server behaves for reading from it."
)
@click.argument("url", required=False, default="")
@network_options
@option("Output", "--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def doctor(ctx: click.Context, /, url: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - of the options above
    """Say how the server at URL behaves, and what that means for reading from it.

    URL is a folder in DLR's layout, a file, or a STAC API; by default S2L3A_ARCHIVE in
    the environment names it, else it is DLR's server. It is asked
    for at most 40 times and about 8 MB: listings down to one file, and parts of that file.
    """
    from s2l3a_xr._archive import DLR_FILES  # noqa: PLC0415 - heavy; --help stays quick
    from s2l3a_xr._doctor import examine  # noqa: PLC0415 - heavy
    from s2l3a_xr._stac import DLR_STAC, DLR_STAC_NAME, usual_archive  # noqa: PLC0415 - heavy

    url = url or usual_archive() or DLR_FILES
    place = DLR_STAC if url == DLR_STAC_NAME else url
    report = examine(place, take_transport(given))
    click.echo(report.json() if as_json else report.text())
    ctx.exit(0 if report.is_readable else 1)


@click.command(short_help="Say which versions are at work, for bug reports.")
def versions() -> None:
    """Say which versions are at work: of s2l3a, Python, the C libraries, and what is optional.

    Bug reports need it. Nothing secret is printed: no variables, no names of hosts.
    """
    from s2l3a_xr._versions import versions_text  # noqa: PLC0415 - heavy; --help stays quick

    click.echo(versions_text())
