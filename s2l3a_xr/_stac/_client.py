"""pystac-client on our transport; imported only when an API is searched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pystac import Link
from pystac_client import ItemSearch
from pystac_client.stac_api_io import StacApiIO

from s2l3a_xr._errors import ArchiveError, S2L3AError
from s2l3a_xr._stac._documents import IN_CIRCLES, NO_CATALOGUE, fetch_text
from s2l3a_xr._stac._items import Findings
from s2l3a_xr._stac._links import Links
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session

_LIMIT = 250
"""Items a page; servers lower it without a word, and links to the next page rule."""


class Bridge:
    """Lets a thread wait for the loop, and the loop call that off.

    Parameters
    ----------
    session : Session
        This process's connections; belongs to the running loop.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self.most_pages = session.transport.max_pages
        self._stopped = False
        self._pending: set[Any] = set()

    def fetch(self, url: str, body: bytes | None) -> str:
        """Ask from a thread, and wait."""
        ask = fetch_text(self._session, url, body)
        future = asyncio.run_coroutine_threadsafe(ask, self._loop)
        self._pending.add(future)
        if self._stopped:
            future.cancel()
        try:
            return future.result()
        finally:
            self._pending.discard(future)

    async def run(self, work: Callable[[], Findings]) -> Findings:
        """Run work in a thread; where the waiting ends early, so does the work."""
        try:
            return await asyncio.to_thread(work)
        except BaseException:
            self._stopped = True
            for future in tuple(self._pending):
                future.cancel()
            raise


class TransportIO(StacApiIO):
    """pystac-client's door to the network, leading through ours.

    Parameters
    ----------
    fetch : callable
        Takes URL and body, returns text.
    links : Links
        What may be followed.
    url : str
        Where the API is searched; relative links begin from it.
    most_pages : int
        So often it is asked.
    """

    def __init__(
        self,
        fetch: Callable[[str, bytes | None], str],
        links: Links,
        url: str,
        most_pages: int,
    ) -> None:
        super().__init__(max_retries=None)
        self._fetch = fetch
        self._links = links
        self._url = url
        self._most_pages = most_pages
        self._asked: set[tuple[str, bytes | None]] = set()

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401 - pystac's signature
        """Read a document, from the API alone."""
        if isinstance(source, Link):
            return super().read_text(source, *args, **kwargs)
        return self.request(str(source), *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - foreign headers are not sent
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Ask the API, but never the same thing twice."""
        url = self._links.to_document(self._url, href)
        body = None
        if (method or "GET").upper() == "POST":
            body = json.dumps(parameters or {}, sort_keys=True).encode()
        elif parameters:
            url = _with_query(url, parameters)
        self._keep_count(url, body)
        return self._fetch(url, body)

    def _keep_count(self, url: str, body: bytes | None) -> None:
        if (url, body) in self._asked:
            msg = f"the STAC API goes in circles: its next page was read before ({redact(url)})"
            raise ArchiveError(msg, hint=IN_CIRCLES)
        if len(self._asked) >= self._most_pages:
            msg = (
                f"the STAC API {redact(url)} has more than {self._most_pages} pages; ask for fewer "
                "months at once, or allow more with transport=Transport(max_pages=…)."
            )
            raise ArchiveError(msg)
        self._asked.add((url, body))


def _with_query(url: str, parameters: Mapping[str, Any]) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(parameters)
    return urlunsplit(parts._replace(query=urlencode(query)))


def find_items(bridge: Bridge, links: Links, url: str, **query: Any) -> Findings:  # noqa: ANN401 - pystac-client's
    """Search an API and read all pages; called in a thread.

    Parameters
    ----------
    bridge : Bridge
        The way to the network.
    links : Links
        What may be followed.
    url : str
        Where the API is searched.
    **query
        What `pystac_client.ItemSearch` takes.

    Returns
    -------
    Findings
        From every item.

    Raises
    ------
    ArchiveError
        The API's answers can't be understood.
    TransportError
        They can't be had.
    """
    findings = Findings()
    count = matched = 0
    try:
        io = TransportIO(bridge.fetch, links, url, bridge.most_pages)
        for page in ItemSearch(url, stac_io=io, limit=_LIMIT, **query).pages_as_dicts():
            matched = max(matched, _as_number(page.get("numberMatched")))
            for item in page["features"]:
                count += 1
                findings.take(item, url, links)
    except S2L3AError:
        raise
    except Exception as exc:  # pystac meets what it never met
        what = f"{type(exc).__name__}: {str(exc)[:300]}"
        msg = f"the answer of the STAC API {redact(url)} can't be understood ({what})"
        raise ArchiveError(msg, hint=NO_CATALOGUE) from exc
    if count < matched:
        findings.short.append(
            f"the STAC API said that {matched} items match, and gave {count}: some may be missing."
        )
    return findings


def _as_number(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else 0
