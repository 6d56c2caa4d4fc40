"""A STAC API as an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._errors import ArchiveError, GoneError, ReadError, SelectionError
from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._listing import KEPT
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._places import check_address
from s2l3a_xr._selection import Month
from s2l3a_xr._stac._documents import fresh, get_document, keep_text, links_of
from s2l3a_xr._stac._items import Findings, ItemArchive, make_archive
from s2l3a_xr._stac._links import Links
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session, is_http

DLR_STAC = "https://geoservice.dlr.de/eoc/ogc/stac/v1"
"""DLR's STAC API."""

COLLECTION = "S2_L3A_WASP"

_NEAR_MONTHS = 3
"""Runs of months that lie so near are one search: neighbours come along anyway."""

_NAMES_TOLD = 12


@dataclass(frozen=True, slots=True)
class StacArchive:
    """A collection of a STAC API, as ``archive=`` takes it.

    Parameters
    ----------
    url : str, default DLR's
        Landing page of the API.
    collection : str, default "S2_L3A_WASP"
        Which of its collections.

    Raises
    ------
    SelectionError
        The URL is none.

    References
    ----------
    https://github.com/radiantearth/stac-api-spec

    Examples
    --------
    >>> StacArchive(collection="S2_L3A_WASP_V2").url
    'https://geoservice.dlr.de/eoc/ogc/stac/v1'
    """

    url: str = DLR_STAC
    collection: str = COLLECTION

    def __repr__(self) -> str:
        return f"StacArchive({redact(self.url)!r}, collection={self.collection!r})"

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        texts: tuple[object, object] = (self.url, self.collection)
        are_texts = all(isinstance(text, str) and text for text in texts)
        if not are_texts or not is_http(self.url):
            msg = (
                f"StacArchive({redact(str(self.url))!r}, collection={self.collection!r}) needs the "
                "http(s) URL of an API's landing page and the name of a collection."
            )
            raise SelectionError(msg)
        check_address(self.url)

    async def survey(
        self, session: Session, aoi: Aoi, months: Sequence[Month] | None
    ) -> ItemArchive:
        """Find all items around an area, in some months or in all that there are.

        Parameters
        ----------
        session : Session
            This process's connections.
        aoi : Aoi
            The area; its bounding box is searched.
        months : sequence of Month or None
            Which months; None for all.

        Returns
        -------
        ItemArchive
            May hold neighbouring months too, as the API searches by the dates that went
            into a mosaic; where there is nothing in those months, all others.

        Raises
        ------
        MissingError
            The collection has nothing of the area.
        ArchiveError
            The API can't be searched.
        """
        bounds = aoi.to_crs(LONLAT).bounds
        found = await self._find(session, bounds, _spans(months))
        if months and not any((p.year, p.month) in set(months) for p in found.found):
            found = await self._find(session, bounds, (None,))  # to say what there is instead
        found.check(aoi, f"the collection {self.collection} of {redact(self.url)}")
        return found

    async def _find(
        self,
        session: Session,
        bounds: tuple[float, float, float, float],
        spans: tuple[str | None, ...],
    ) -> ItemArchive:
        async def find() -> ItemArchive:
            try:
                return await self._ask(session, bounds, spans)
            except ReadError as exc:
                msg = f"the STAC API can't be searched: {exc}; {KEPT}."
                raise ArchiveError(msg) from exc

        key = (self, bounds, spans, fresh())
        archive: ItemArchive = await session.listings.get(key, find)
        return archive

    async def _ask(
        self,
        session: Session,
        bounds: tuple[float, float, float, float],
        spans: tuple[str | None, ...],
    ) -> ItemArchive:
        try:
            from s2l3a_xr._stac._client import Bridge, find_items  # noqa: PLC0415 - an extra, heavy
        except ImportError as exc:
            msg = f'a STAC API needs pystac-client ({exc}): pip install "s2l3a_xr[stac]"'
            raise ArchiveError(msg) from exc
        links = Links(named=self.url, allowed_hosts=session.transport.allowed_hosts)
        landing = await self._landing(session)
        described = await self._described(session, links, landing)
        bridge = Bridge(session)
        method, href = _search_link(landing) or ("GET", f"{_bare(self.url)}/search")
        url = links.to_document(self.url, href)

        async def one(span: str | None) -> Findings:
            return await bridge.run(
                lambda: find_items(
                    bridge, links, url,
                    method=method, collections=[self.collection], bbox=bounds, datetime=span,
                )
            )  # fmt: skip

        findings = Findings()
        for part in await gather(one(span) for span in spans):
            findings.join(part)
        return await in_thread(make_archive, findings, self._origin(described, findings))

    async def _landing(self, session: Session) -> dict[str, Any]:
        landing = await get_document(session, self.url, read=keep_text)
        if not is_api(landing):
            msg = (
                f"{redact(self.url)} is no STAC API that can be searched (its page names no "
                "item-search); give the address of the API's landing page."
            )
            raise ArchiveError(msg)
        return landing

    async def _described(
        self, session: Session, links: Links, landing: dict[str, Any]
    ) -> dict[str, Any]:
        """Read the collection's description, or say which collections there are."""
        listed = [link["href"] for link in links_of(landing, "data") if _is_json(link)]
        url = links.to_document(self.url, listed[0] if listed else f"{_bare(self.url)}/collections")
        parts = urlsplit(url)
        path = f"{parts.path.rstrip('/')}/{quote(self.collection, safe='')}"
        try:
            description = urlunsplit(parts._replace(path=path))
            return await get_document(session, description, read=keep_text)
        except GoneError as exc:
            known = (await get_document(session, url)).get("collections", [])
            names = sorted(str(c["id"]) for c in known if isinstance(c, dict) and "id" in c)
            near = get_close_matches(self.collection, names, n=_NAMES_TOLD, cutoff=0.4)
            told = ", ".join(near or names[:_NAMES_TOLD])
            more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
            msg = (
                f"{redact(self.url)} has no collection {self.collection!r}; it has "
                f"{told or 'none'}{more}. Choose with "
                f"archive=s2l3a_xr.StacArchive({redact(self.url)!r}, collection=…) (--collection)."
            )
            raise ArchiveError(msg) from exc

    def _origin(self, described: dict[str, Any], findings: Findings) -> Origin:
        terms = described.get("license")
        doi = described.get("sci:doi")
        return Origin(
            catalogue=f"{_bare(self.url)}/collections/{self.collection}",
            license=terms if isinstance(terms, str) else license_of(findings),
            references=f"https://doi.org/{doi}" if isinstance(doi, str) else redact(self.url),
        )


def is_api(document: dict[str, Any]) -> bool:
    """Tell whether a document is the landing page of an API that can be searched.

    Parameters
    ----------
    document : dict
        A JSON object.

    Returns
    -------
    bool
        True where it says so.
    """
    classes = document.get("conformsTo")
    return isinstance(classes, list) and any(str(name).endswith("/item-search") for name in classes)


def license_of(findings: Findings) -> str:
    """Name the licences that items carry.

    Parameters
    ----------
    findings : Findings
        From all items.

    Returns
    -------
    str
        One or several; ``not stated`` for none.
    """
    return ", ".join(sorted(findings.licenses)) or "not stated"


def _bare(url: str) -> str:
    return redact(url).rstrip("/")


def _is_json(link: dict[str, Any]) -> bool:
    return "json" in str(link.get("type", "json"))


def _search_link(landing: dict[str, Any]) -> tuple[str, str] | None:
    """Find how and where to search; POST where that is offered."""
    hrefs = {
        str(link.get("method", "GET")): link["href"]
        for link in links_of(landing, "search")
        if _is_json(link)
    }
    return next(((way, hrefs[way]) for way in ("POST", "GET") if way in hrefs), None)


def _spans(months: Sequence[Month] | None) -> tuple[str | None, ...]:
    """Write runs of months as STAC does, both ends included."""
    if not months:
        return (None,)
    runs: list[list[int]] = []
    for number in sorted(year * 12 + month - 1 for year, month in months):
        if runs and number - runs[-1][1] <= _NEAR_MONTHS:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return tuple(f"{_month(first)}/{_month(last)}" for first, last in runs)


def _month(number: int) -> str:
    return f"{number // 12:04}-{number % 12 + 1:02}"
