"""Single requests that tell how a server behaves; nothing is tried again or held against a wish."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from s2l3a_xr._errors import ReadError, TransportError
from s2l3a_xr._texts import redact
from s2l3a_xr._transport._answer import retry_after_s
from s2l3a_xr._transport._guard import check_host
from s2l3a_xr._transport._http import RangeHTTPFileSystem
from s2l3a_xr._transport._redirects import redirect_target
from s2l3a_xr._transport._settings import Transport
from s2l3a_xr._transport._wish import Wish

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 503})
_PIECE = 2**16
_PATIENCE = 2
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one request brought.

    Parameters
    ----------
    url : str
        What was asked for.
    answered_by : str
        Where the answer came from, after redirects.
    status : int
        HTTP status, 0 where there was no answer.
    headers : mapping of str to str
        By name in lower case.
    body : bytes
        No more of it than was wanted.
    version : str
        Of HTTP.
    redirects : tuple of int
        Statuses of the redirects on the way.
    connections : int
        How many were opened for it.
    first_s : float
        Seconds until the answer began, without the time it took to connect.
    connect_s : float
        Seconds until connected.
    body_s : float
        Seconds in which the body came.
    fault : str
        What went wrong, empty for nothing.
    """

    url: str
    answered_by: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    version: str = ""
    redirects: tuple[int, ...] = ()
    connections: int = 0
    first_s: float = 0.0
    connect_s: float = 0.0
    body_s: float = 0.0
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who answers.

    Parameters
    ----------
    address : str
        The server's, or the proxy's.
    tls : str
        Version of TLS, empty without.
    expires : float or None
        When its certificate ends, in seconds since 1970.
    """

    address: str
    tls: str = ""
    expires: float | None = None


class Prober:
    """Asks as the session of a `Transport` does, and keeps count.

    Parameters
    ----------
    http : RangeHTTPFileSystem
        Whose connections and rules are used; what it asks by itself is counted too.
    transport : Transport
        Its settings.
    most_requests, most_bytes : int
        Beyond which nothing is asked any more.
    most_s : float
        After which nothing is asked any more.
    """

    def __init__(
        self,
        http: RangeHTTPFileSystem,
        transport: Transport,
        *,
        most_requests: int,
        most_bytes: int,
        most_s: float,
    ) -> None:
        self._client = http.client
        self._transport = transport
        self._most = (most_requests, most_bytes)
        self._until = time.monotonic() + most_s
        self._patience = _PATIENCE
        self.requests = 0
        self.bytes = 0
        self.busy: list[Probe] = []
        """Answers of 429 and 503."""
        for only_public in (False, True):
            self._watch(self._client.session(only_public=only_public))

    def proxy(self, url: str) -> str | None:
        """Name the proxy that requests for a URL go through."""
        return self._client.proxy_for(url)

    async def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        span: str = "",
        most_bytes: int = 2**16,
        most_s: float = 30.0,
    ) -> Probe:
        """Ask, following redirects where reading would.

        A server that is busy is asked again after the pause that it wants, some times in all
        and after ten seconds at most.

        Parameters
        ----------
        url : str
            http or https.
        method : str
            ``GET`` or ``HEAD``.
        span : str
            What follows ``bytes=`` in the Range header; empty for none.
        most_bytes : int
            Where the body is cut.
        most_s : float
            After which the body is cut.

        Returns
        -------
        Probe
            Also where it failed.
        """
        most_bytes = min(most_bytes, max(0, self._most[1] - self.bytes))
        probe = await self._follow(url, method, span, (most_bytes, most_s))
        if probe.status in _BUSY:
            self.busy.append(probe)
        if probe.status in _BUSY and self._patience > 0:
            self._patience -= 1
            pause_s = retry_after_s(probe.headers.get("retry-after"))
            await asyncio.sleep(min(1.0 if pause_s is None else pause_s, _LONGEST_PAUSE_S))
            probe = await self._follow(url, method, span, (most_bytes, most_s))
        return probe

    async def _follow(self, url: str, method: str, span: str, most: tuple[int, float]) -> Probe:
        facts = SimpleNamespace(connections=0, connect_s=0.0)
        here, redirects = url, []
        try:
            while True:
                probe = await self._once(url, here, method, span, most, facts)
                self.bytes += len(probe.body)
                location = probe.headers.get("location")
                if probe.status not in _REDIRECTS or location is None:
                    break
                redirects.append(probe.status)
                self._check_count(redirects)
                here = redirect_target(url, here, location, self._transport)
        except Exception as exc:
            return Probe(url=url, redirects=tuple(redirects), fault=self._told(exc))
        return replace(
            probe,
            url=url,
            redirects=tuple(redirects),
            connections=facts.connections,
            connect_s=facts.connect_s,
        )

    async def peer(self, url: str) -> Peer | None:
        """Look at a connection.

        Parameters
        ----------
        url : str
            http or https; its host counts.

        Returns
        -------
        Peer or None
            None where there is no connection.
        """
        client = self._client.session(only_public=self._transport.public_only)
        proxy = self.proxy(url)
        request = aiohttp.ClientRequest(
            "GET",
            URL(url),
            loop=asyncio.get_running_loop(),
            session=client,
            proxy=URL(proxy) if proxy else None,
        )
        try:
            connection = await client.connector.connect(  # type: ignore[union-attr]  # it is open
                request, [], client.timeout
            )
        except (aiohttp.ClientError, OSError, ReadError):
            return None
        try:
            transport = connection.transport
            if transport is None:
                return None
            host, port = transport.get_extra_info("peername")[:2]
            secured = transport.get_extra_info("ssl_object")
            if secured is None:
                return Peer(address=f"{host}:{port}")
            ends = (secured.getpeercert() or {}).get("notAfter")
            return Peer(
                address=f"{host}:{port}",
                tls=secured.version() or "",
                expires=ssl.cert_time_to_seconds(ends) if ends else None,
            )
        finally:
            connection.release()

    async def _once(
        self,
        asked: str,
        url: str,
        method: str,
        span: str,
        most: tuple[int, float],
        facts: SimpleNamespace,
    ) -> Probe:
        is_foreign = URL(url).host != URL(asked).host
        only_public = is_foreign or self._transport.public_only
        if only_public:
            check_host(url, self._transport.allowed_hosts)
        began = time.monotonic()
        asking = self._client.session(only_public=only_public).request(
            method,
            URL(url),
            headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={span}"} if span else {}),
            allow_redirects=False,
            proxy=self.proxy(url),
            timeout=self._client.timeout(Wish(ranges=())),
            trace_request_ctx=facts,
        )
        async with await self._answer(asking) as response:
            answered = time.monotonic()
            body = await _begin_of(response, *most)
            return Probe(
                url=url,
                answered_by=url,
                status=response.status,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=body,
                version=".".join(map(str, response.version or ())),
                first_s=max(0.0, answered - began - facts.connect_s),
                body_s=time.monotonic() - answered,
            )

    async def _answer(self, asking: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Wait for an answer to begin; a header that comes in drips has no end of its own."""
        longest_s = self._transport.give_up_s
        limit = asyncio.timeout(longest_s)
        try:
            async with limit:
                return await asking
        except TimeoutError as exc:
            if not limit.expired():
                raise
            msg = f"the header of the answer was not complete after {longest_s:g} s"
            raise TransportError(msg) from exc

    def _check_count(self, redirects: list[int]) -> None:
        if len(redirects) > self._transport.max_redirects:
            msg = f"more than {self._transport.max_redirects} redirects"
            raise TransportError(msg)

    def _spend(self) -> None:
        if self.requests >= self._most[0] or self.bytes >= self._most[1]:
            msg = "not asked: enough was asked of this server"
            raise TransportError(msg)
        if time.monotonic() > self._until:
            msg = "not asked: this server has taken long enough"
            raise TransportError(msg)

    def _told(self, exc: Exception) -> str:
        if isinstance(exc, ReadError):
            return exc.reason
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            return f"the server's certificate can't be trusted: {exc}"
        if isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return f"no connection: {str(exc).replace(' ssl:default', '')}"  # said of http too
        if isinstance(exc, TimeoutError):
            return f"no byte came for {self._transport.idle_timeout_s:g} s"
        if isinstance(exc, ValueError):
            return f"that is no address: {redact(str(exc))}"
        return f"the connection broke: {str(exc) or type(exc).__name__}"

    def _watch(self, client: aiohttp.ClientSession) -> None:
        """Note requests, and connections that were opened for them."""

        async def started(_: Any, facts: SimpleNamespace, __: Any) -> None:  # noqa: ANN401 - aiohttp's
            self._spend()
            self.requests += 1
            facts.since = time.monotonic()

        async def connected(_: Any, facts: SimpleNamespace, __: Any) -> None:  # noqa: ANN401
            noted = facts.trace_request_ctx
            if isinstance(noted, SimpleNamespace):  # those of reading note their host
                noted.connections += 1
                noted.connect_s = time.monotonic() - facts.since

        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(started)
        trace.on_connection_create_end.append(connected)
        trace.freeze()
        client.trace_configs.append(trace)


async def _begin_of(response: aiohttp.ClientResponse, most_bytes: int, most_s: float) -> bytes:
    """Take a body as far as it is wanted; the rest is not waited for."""
    pieces: list[bytes] = []
    left = most_bytes
    try:
        async with asyncio.timeout(most_s):
            while left > 0 and (piece := await response.content.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
    except TimeoutError:
        if not pieces:
            raise
    if not response.content.at_eof():
        response.close()
    return b"".join(pieces)
