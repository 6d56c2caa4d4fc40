"""What an archive has for a request, asked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from s2l3a_xr._aoi import AoiLike, read_aoi
from s2l3a_xr._cover import share_text
from s2l3a_xr._discover import take_inventory
from s2l3a_xr._errors import AoiWarning, ArchiveError, warn_user
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._mirror import ask_records
from s2l3a_xr._product import band_names, resolve_bands
from s2l3a_xr._selection import Numbers, select_months
from s2l3a_xr._stac import ArchiveLike, name_source, open_place
from s2l3a_xr._transport import Transport, run_with_session

DEFAULT_BANDS = ("B2", "B3", "B4", "B8")


@knows_keywords
def search_l3a(
    aoi: AoiLike,
    *,
    years: Numbers | None = None,
    months: Numbers | None = None,
    time: Any = None,  # noqa: ANN401 - many forms, see the docstring
    bands: str | Iterable[str] = DEFAULT_BANDS,
    archive: ArchiveLike = None,
    verify: bool | Literal["auto"] = "auto",
    transport: Transport | None = None,
) -> Inventory:
    """Ask what the archive has for an area, without reading any pixel.

    Parameters
    ----------
    aoi : path, GeoDataFrame, GeoSeries, shapely geometry, GeoJSON mapping or tuple of float
        The area; ``(minx, miny, maxx, maxy)`` and what has no CRS are lon/lat.
    years, months : int, iterable of int or str, optional
        Every one of ``months`` (default all twelve) in every one of ``years`` (default all
        that the archive has): ``2021``, ``range(3, 11)``, ``"3-10"``.
    time : str, slice, datetime64, Period or sequence of those, optional
        Instead of years and months: ``"2021-03/2021-10"``, the end included.
    bands : str or iterable of str, default ("B2", "B3", "B4", "B8")
        Native (``B4``) or common (``red``) names.
    archive : str, path, StacArchive, STAC items or Archive, optional
        A URL or folder in DLR's layout; the URL of a STAC API, or ``"dlr-stac"`` for DLR's; a
        static STAC catalogue, item collection or item as URL, ``.json`` file, dict or pystac
        object. By default what the environment variable ``S2L3A_ARCHIVE`` names, else DLR's
        download server.
    verify : bool or "auto", default "auto"
        Whether every product's folder is listed too, so that it is known of each file whether
        it is there. Without that files follow from the products' names and are called
        ``unverified``. ``"auto"`` lists the folders of up to 300 products.
    transport : Transport, optional
        How the network is used.

    Returns
    -------
    Inventory
        A table with one row for each file, with counts and volumes.

    Raises
    ------
    AoiError, SelectionError
        The request can't be understood.
    MissingError
        The archive has nothing for it.
    ArchiveError
        The archive can't be read.

    Warns
    -----
    AoiWarning
        Part of the area lies outside the offered tiles, or was repaired.
    MissingWarning
        A year's folder is there and lists nothing.

    References
    ----------
    https://geoservice.dlr.de/web/datasets/s2_l3a_wasp, https://doi.org/10.15489/4hcq6dgkj648

    Examples
    --------
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> search_l3a((11.7, 51.9, 11.8, 52.0), years=2021, months="3-5", archive=archive).available
    12
    """
    return find_inventory(
        aoi,
        years=years,
        months=months,
        time=time,
        bands=bands,
        archive=archive,
        verify=verify,
        transport=transport,
    )


def find_inventory(
    aoi: AoiLike,
    *,
    bands: str | Iterable[str],
    archive: ArchiveLike,
    transport: Transport | None,
    verify: bool | Literal["auto"] = "auto",
    zone: str | None = None,
    **when: Any,  # noqa: ANN401 - many forms
) -> Inventory:
    """Ask as `search_l3a` does, perhaps for tiles of one zone first.

    Parameters
    ----------
    aoi, bands, archive, transport, verify
        As for `search_l3a`.
    zone : str, optional
        CRS of the zone whose tiles are wanted, if they have as much of the area as others.
    **when : object
        ``years``, ``months`` and ``time``.

    Returns
    -------
    Inventory
        What there is.
    """
    area = read_aoi(aoi)
    selection = select_months(**when)
    names = band_names(bands)
    layers = resolve_bands(names)
    place = open_place(archive)

    try:
        found = run_with_session(
            transport or Transport(),
            lambda session: take_inventory(
                session, place, area, selection, names, layers, verify=verify, zone=zone
            ),
        )
    except ArchiveError as exc:
        name_source(exc, archive)
        raise
    if found.cover.uncovered > 0:
        warn_user(
            f"{share_text(found.cover.uncovered)} of the AOI lies outside the tiles that the "
            "archive offers; it stays nodata: see where the AOI lies.",
            AoiWarning,
        )
    return ask_records(found)
