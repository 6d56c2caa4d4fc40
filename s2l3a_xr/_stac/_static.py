"""Static catalogues, item collections and items: documents, files, and objects in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._errors import ArchiveError, GoneError, SelectionError
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._selection import Month
from s2l3a_xr._stac._api import COLLECTION, license_of
from s2l3a_xr._stac._documents import IN_CIRCLES, NO_CATALOGUE, fresh, get_document, links_of
from s2l3a_xr._stac._items import Findings, ItemArchive, make_archive
from s2l3a_xr._stac._links import LinkRefusedError, Links
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session, is_http

IN_MEMORY = "STAC items in memory"
"""Stands for the address of what has none."""

_MOST_DOCUMENTS = 50_000
_STEP = 500
"""Documents asked for at once."""

_GONE = "see whether the catalogue has moved, or tell whoever keeps it"

_TYPES = {"Feature", "FeatureCollection", "Catalog", "Collection"}

Node: TypeAlias = tuple[Mapping[str, Any], str]
"""A document, and the URL or path that its links begin from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaticCatalogue:
    """What is read by following links, not by searching.

    Parameters
    ----------
    named : str
        URL or path of the document to begin with; empty for objects in memory.
    nodes : sequence of Node
        Documents in memory.
    """

    named: str = ""
    nodes: Sequence[Node] = ()

    async def survey(
        self,
        session: Session,
        aoi: Aoi,
        months: Sequence[Month] | None,  # noqa: ARG002 - nothing is searched, all is read
    ) -> ItemArchive:
        """Read all items.

        Parameters
        ----------
        session : Session
            This process's connections.
        aoi : Aoi
            The area.
        months : sequence of Month or None
            Not looked at.

        Returns
        -------
        ItemArchive
            Of all that there are.

        Raises
        ------
        MissingError
            No item has a file of the area.
        ArchiveError
            A document can't be read.
        """

        async def read() -> ItemArchive:
            return await self._read(session)

        is_remote = is_http(self.named)
        found: ItemArchive = (
            await session.listings.get((self.named, "catalogue", fresh()), read)
            if is_remote
            else await read()
        )
        found.check(aoi, redact(self.named) or "what is in memory of STAC")
        return found

    async def _read(self, session: Session) -> ItemArchive:
        allowed = session.transport.allowed_hosts
        walk = _Walk(session=session, links=Links(named=self.named, allowed_hosts=allowed))
        await walk.follow([self.named] if self.named else [], self.nodes)
        terms = walk.license or license_of(walk.findings)
        if walk.collections == {COLLECTION} and terms == "not stated":
            terms = Origin().license
        origin = Origin(
            catalogue=redact(self.named) or IN_MEMORY,
            license=terms,
            references=Origin().references if walk.collections == {COLLECTION} else "",
        )
        return await in_thread(make_archive, walk.findings, origin)


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One way through a catalogue."""

    session: Session
    links: Links
    findings: Findings = field(default_factory=Findings)
    collections: set[str] = field(default_factory=set)
    license: str = ""
    _seen: set[str] = field(default_factory=set)
    _pages: int = 0

    async def follow(self, places: Sequence[str], nodes: Iterable[Node]) -> None:
        """Take in documents, and all that they link to."""
        ahead = [place for node in nodes for place in self._take(*node)]
        ahead += places
        while ahead:
            batch = [place for place in dict.fromkeys(ahead) if place not in self._seen]
            step, ahead = batch[:_STEP], batch[_STEP:]
            self._seen.update(step)
            if len(self._seen) > _MOST_DOCUMENTS:
                msg = (
                    f"the STAC catalogue has over {_MOST_DOCUMENTS} documents; give the URL of a "
                    "smaller part."
                )
                raise ArchiveError(msg)
            try:
                found = await gather(get_document(self.session, place) for place in step)
            except GoneError as exc:
                msg = f"a document of the STAC catalogue is gone: {exc.url}"
                raise ArchiveError(msg, url=exc.url, hint=_GONE) from exc
            for place, document in zip(step, found, strict=True):
                ahead += self._take(document, place)

    def _take(self, document: Mapping[str, Any], base: str) -> list[str]:
        """Take in one document and say where it leads."""
        kind = document.get("type")
        if kind == "Feature":
            self._take_item(document, base)
            return []
        if kind == "FeatureCollection":
            features = document.get("features")
            for item in features if isinstance(features, list) else []:
                self._take_item(item, base)
            return self._next_page(document, base)
        if kind not in _TYPES and "links" not in document:
            msg = f"{redact(base) or 'archive='} is no STAC object: its type is {str(kind)[:80]!r}"
            raise ArchiveError(msg, hint=NO_CATALOGUE)
        if kind == "Collection" and isinstance(document.get("license"), str):
            self.license = str(document["license"])
        return [
            self.links.to_document(base, link["href"])
            for link in links_of(dict(document), "child", "item")
        ]

    def _take_item(self, item: object, base: str) -> None:
        if isinstance(item, Mapping) and isinstance(item.get("collection"), str):
            self.collections.add(item["collection"])
        self.findings.take(item, base, self.links)

    def _next_page(self, document: Mapping[str, Any], base: str) -> list[str]:
        """Lead on from one page of a search where that takes no more than a link."""
        links = links_of(dict(document), "next")
        if not links:
            return []
        reason = "its next page is asked for by POST"
        if links[0].get("method", "GET") == "GET" and is_http(base):
            try:
                return [self._counted(self.links.to_document(base, links[0]["href"]))]
            except LinkRefusedError as exc:
                reason = str(exc)
        self.findings.short.append(
            f"{redact(base) or IN_MEMORY} is one page of a longer search and the rest is not "
            f"read ({reason}); give all items, or the address of the API."
        )
        return []

    def _counted(self, page: str) -> str:
        """Follow a page once, and not without end."""
        self._pages += 1
        most = self.session.transport.max_pages
        if page in self._seen:
            msg = f"the STAC search goes in circles: its next page was read before ({page})"
            raise ArchiveError(msg, hint=IN_CIRCLES)
        if self._pages >= most:
            msg = (
                f"the STAC search has more than {most} pages, the last {page}; search for less at "
                "once, or allow more with transport=Transport(max_pages=…)."
            )
            raise ArchiveError(msg)
        return page


def from_objects(objects: object) -> StaticCatalogue:
    """Take STAC objects in memory.

    Parameters
    ----------
    objects : object
        A STAC dict, a pystac object, or an iterable of those.

    Returns
    -------
    StaticCatalogue
        Ready to be searched.

    Raises
    ------
    SelectionError
        It is something else.
    """
    nodes: list[Node] = []
    named = _gather_nodes(objects, nodes)
    return StaticCatalogue(named=named, nodes=nodes)


def _gather_nodes(objects: object, nodes: list[Node]) -> str:
    """Collect documents from objects, and give the address of what stands above them."""
    if isinstance(objects, Mapping):
        nodes.append((objects, ""))
        return ""
    if hasattr(objects, "get_child_links"):
        return _gather_catalogue(objects, nodes)
    if hasattr(objects, "assets") and hasattr(objects, "to_dict"):
        item = objects.to_dict(include_self_link=False, transform_hrefs=False)
        nodes.append((item, objects.get_self_href() or ""))  # type: ignore[attr-defined]  # pystac's
        return ""
    if isinstance(objects, Iterable) and not isinstance(objects, str | bytes):
        for element in objects:
            _gather_nodes(element, nodes)
        return ""
    msg = (
        f"archive={str(objects)[:80]!r} is no URL, no folder, no archive and nothing of STAC; give "
        "a URL, a folder, a .json file, or STAC items."
    )
    raise SelectionError(msg)


def _gather_catalogue(catalogue: Any, nodes: list[Node]) -> str:  # noqa: ANN401 - pystac may not be there
    """Take what pystac holds already; what it would fetch is fetched by us."""
    home = catalogue.get_self_href() or ""
    links = [{"rel": "self", "href": home}] if home else []
    for link in (*catalogue.get_child_links(), *catalogue.get_item_links()):
        if link.is_resolved():
            _gather_nodes(link.target, nodes)
        else:
            links.append({"rel": str(link.rel), "href": link.get_absolute_href() or link.href})
    described = {"type": "Catalog", "links": links}
    if hasattr(catalogue, "license"):
        described = {"type": "Collection", "links": links, "license": catalogue.license}
    nodes.append((described, home))
    return str(home)
