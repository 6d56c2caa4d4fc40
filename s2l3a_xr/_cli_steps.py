"""What several commands do with their options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from s2l3a_xr._inventory import Inventory
    from s2l3a_xr._transport import Transport

_T = TypeVar("_T")


def within_limit(work: Callable[[float | None], _T], *, yes: bool) -> _T:
    """Do what may be larger than meant, and ask before it is.

    Parameters
    ----------
    work : callable
        Takes the most bytes that it may have, None for no limit.
    yes : bool
        Whether the user has agreed already.

    Returns
    -------
    object
        What the work returns.

    Raises
    ------
    VolumeError
        It is larger, and there is nobody to be asked.
    """
    from s2l3a_xr._volume import MAX_BYTES, VolumeError  # noqa: PLC0415 - heavy; --help stays quick

    try:
        return work(None if yes else MAX_BYTES)
    except VolumeError as exc:
        if not sys.stdin.isatty():
            raise
        click.echo(exc, err=True)
        click.confirm("Go on?", abort=True, err=True)
        return work(None)


def take_archive(archive: str | None, collection: str | None) -> Any:  # noqa: ANN401 - a name or StacArchive
    """Join --archive and --collection.

    Parameters
    ----------
    archive, collection : str or None
        As typed.

    Returns
    -------
    str, StacArchive or None
        As ``search_l3a`` takes it.

    Raises
    ------
    SelectionError
        A collection of what is no API.
    """
    if collection is None:
        return archive
    from s2l3a_xr._stac import (  # noqa: PLC0415 - heavy
        DLR_STAC,
        DLR_STAC_NAME,
        StacArchive,
        usual_archive,
    )

    named = archive or usual_archive()
    url = DLR_STAC if named in {None, DLR_STAC_NAME} else str(named)
    return StacArchive(url, collection)


def search_as_given(
    aoi: Any,  # noqa: ANN401 - many forms
    bands: list[str],
    selection: dict[str, Any],
    transport: Transport,
) -> Inventory:
    """Ask what the archive has.

    Parameters
    ----------
    aoi : object
        As ``search_l3a`` takes it.
    bands : list of str
        Names of bands.
    selection : dict
        The options that select months and archive.
    transport : Transport
        How the network is used.

    Returns
    -------
    Inventory
        What there is.
    """
    from s2l3a_xr import search_l3a  # noqa: PLC0415 - heavy; --help stays quick

    return search_l3a(
        aoi,
        years=selection["years"],
        months=selection["months"],
        time=selection["time"],
        bands=bands,
        archive=take_archive(selection["archive"], selection["collection"]),
        verify="auto" if selection["verify"] is None else selection["verify"],
        transport=transport,
    )
