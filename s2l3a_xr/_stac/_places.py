"""What users may give as ``archive=``, and finding out what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import DLR_FILES, Archive, Catalogue, open_archive
from s2l3a_xr._errors import ArchiveError, GoneError, ReadError, S2L3AError, SelectionError
from s2l3a_xr._listing import KEPT
from s2l3a_xr._places import check_address
from s2l3a_xr._selection import Month
from s2l3a_xr._stac._api import StacArchive, is_api
from s2l3a_xr._stac._documents import keep_text, links_of, parse_document
from s2l3a_xr._stac._links import Links
from s2l3a_xr._stac._static import StaticCatalogue, from_objects
from s2l3a_xr._transport import Session, is_http

DLR_STAC_NAME = "dlr-stac"
"""Short name of DLR's STAC API."""

_VARIABLE = "S2L3A_ARCHIVE"
"""Environment variable that names the archive where none is given."""

ArchiveLike: TypeAlias = "str | os.PathLike[str] | Archive | Catalogue | Any | None"
"""What users may hand over; the last is whatever is made of STAC items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPlace:
    """A URL that may lead to a STAC API, a STAC document, or a folder.

    Parameters
    ----------
    url : str
        http or https.
    """

    url: str

    async def survey(self, session: Session, aoi: Aoi, months: Sequence[Month] | None) -> Archive:
        """Ask what it is, and search that.

        Parameters
        ----------
        session : Session
            This process's connections.
        aoi : Aoi
            The area.
        months : sequence of Month or None
            Which months; None for all.

        Returns
        -------
        Archive
            A folder as it is, all else as its search gives it.

        Raises
        ------
        ArchiveError
            The server can't be reached, or has nothing.
        """
        document = await self._ask(session)
        if document is None:
            return open_archive(self.url)
        links = Links(named=self.url, allowed_hosts=session.transport.allowed_hosts)
        return await _catalogue(self.url, document, links).survey(session, aoi, months)

    async def _ask(self, session: Session) -> dict[str, Any] | None:
        """Give the STAC document that is there, None where something else is."""
        try:
            text = await keep_text(session, self.url)
        except GoneError:
            return None  # nobody lists the folder above, perhaps
        except ReadError as exc:
            if exc.status is not None and exc.attempts == 1:  # a plain no, such as 403
                return None
            msg = f"the archive can't be reached: {exc}; {KEPT}."
            raise ArchiveError(msg) from exc
        if not text.lstrip("\ufeff \t\r\n").startswith("{"):
            return None
        document = parse_document(text, self.url)
        return document if "stac_version" in document or "type" in document else None


def _catalogue(url: str, document: dict[str, Any], links: Links) -> Catalogue:
    if is_api(document):
        return StacArchive(url)
    roots = links_of(document, "root")
    if document.get("type") == "Collection" and links_of(document, "items") and roots:
        return StacArchive(links.to_document(url, roots[0]["href"]), str(document.get("id")))
    return StaticCatalogue(named=url)


def open_place(archive: ArchiveLike) -> Archive | Catalogue:
    """Find out what kind of archive the user means, as far as that goes without asking.

    Parameters
    ----------
    archive : str, path, Archive, Catalogue, STAC objects or None
        A URL or folder in DLR's layout; a STAC API or document, in a file, on a server or in
        memory; ``"dlr-stac"``; None is what `usual_archive` says, or DLR's download server.

    Returns
    -------
    Archive or Catalogue
        Ready to be asked.

    Raises
    ------
    SelectionError
        A local folder that is not there, or no place at all.
    """
    if isinstance(archive, Catalogue | Archive):
        return archive
    named = usual_archive() if archive is None else archive
    if named is None:
        return open_archive(None)
    if not isinstance(named, str | os.PathLike):
        return _from_pystac(named) or from_objects(named)
    try:
        return _open_address(os.fspath(named))
    except SelectionError as exc:
        name_source(exc, archive)
        raise


def usual_archive() -> str | None:
    """Tell which archive the environment names for where none is given.

    Returns
    -------
    str or None
        An address, or None for DLR's download server.
    """
    return os.environ.get(_VARIABLE) or None


def name_source(error: S2L3AError, archive: ArchiveLike) -> None:
    """Let an error tell that the archive was named by the environment, where it was.

    Parameters
    ----------
    error : S2L3AError
        What came of opening or asking the archive; its hint grows.
    archive : str, path, Archive, Catalogue, STAC objects or None
        What the user gave.
    """
    if archive is None and usual_archive() is not None:
        source = f"archive is the one that the environment variable {_VARIABLE} names."
        start = "The" if str(error).endswith(".") else "the"
        error.hint = f"{error.hint}; the {source}" if error.hint else f"{start} {source}"


def _open_address(place: str) -> Archive | Catalogue:
    if place == DLR_STAC_NAME:
        return StacArchive()
    if is_http(place):
        check_address(place)
    # What has DLR's own path is its tree, or a copy: asking would cost a round trip.
    if is_http(place) and not place.rstrip("/").endswith(urlsplit(DLR_FILES).path.rstrip("/")):
        return WebPlace(url=place)
    file = Path(place).expanduser()
    if "://" not in place and place.lower().endswith((".json", ".geojson")) and file.is_file():
        return StaticCatalogue(named=os.path.normpath(file.absolute()))
    return open_archive(place)


def _from_pystac(archive: object) -> Catalogue | None:
    """Take the client of an API for the API."""
    fields = getattr(archive, "extra_fields", None)
    home = archive.get_self_href() if hasattr(archive, "get_self_href") else None
    if isinstance(fields, dict) and is_api(fields) and home and is_http(home):
        return StacArchive(str(home))
    return None
