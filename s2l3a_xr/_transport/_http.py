"""fsspec's HTTP file system with reads that check what they got."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from s2l3a_xr._errors import TransportError, redact
from s2l3a_xr._loop import background_loop, gather
from s2l3a_xr._transport._answer import (
    Delivery,
    NoPartsError,
    PassingError,
    Wish,
    take_answer,
)
from s2l3a_xr._transport._guard import PublicResolver, check_host
from s2l3a_xr._transport._settings import Reply, Transport

_log = logging.getLogger(__name__)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_LONGEST_PAUSE_S = 60.0
_SILENCES = 3
_CONNECT_ATTEMPTS = 3
_RECENT_S = 10.0
_DOCUMENT_PATIENCE = 3
"""A catalogue searches, and may let clients queue, before it answers."""


class RangeHTTPFileSystem(HTTPFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """fsspec's HTTP file system with byte reads that check what they got.

    Every range must be answered by exactly that range; passing faults are tried again with
    jitter, an announced ``Retry-After`` holds for the whole host, redirects are followed by
    hand and only to the same host or to allowed ones.

    Parameters
    ----------
    transport : Transport
        The settings.
    """

    cachable = False  # fsspec would hand out one whose connections are closed

    def __init__(self, transport: Transport) -> None:
        super().__init__(asynchronous=True, loop=background_loop(), skip_instance_cache=True)
        self._transport = transport
        self._client: aiohttp.ClientSession | None = None
        self._open_again: dict[str, float] = defaultdict(float)
        self._last_success: dict[str, float] = {}
        self._takes_many: dict[str, bool] = {}
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def _cat_file(
        self,
        url: str,
        start: int | None = None,
        end: int | None = None,
        **_: Any,  # noqa: ANN401 - fsspec's signature
    ) -> bytes:
        if start is None and end is None:
            return bytes((await self.fetch(url)).data)
        if start is None or end is None or start < 0 or end < start:
            msg = f"a range needs both ends, got {start} to {end}"
            raise ValueError(msg)
        return bytes((await self.fetch(url, (start, end))).data)

    async def fetch(
        self, url: str, byte_range: tuple[int, int] | None = None, *, cap: int | None = None
    ) -> Reply:
        """Get a file or a range of it.

        Parameters
        ----------
        url : str
            http or https.
        byte_range : tuple of int, optional
            First byte and the byte behind the last one.
        cap : int, optional
            Most bytes taken where no range is asked for.

        Returns
        -------
        Reply
            Checked against what was asked.

        Raises
        ------
        GoneError
            The server says 404 or 410.
        TransportError
            Any other answer that can't be used, or no answer after all attempts.
        """
        ranges = () if byte_range is None else (byte_range,)
        return await self._persist(url, Wish(ranges=ranges, cap=cap))

    async def fetch_document(self, url: str, *, cap: int, body: bytes | None = None) -> Reply:
        """Get a catalogue's document, or what it finds.

        Parameters
        ----------
        url : str
            http or https.
        cap : int
            Most bytes taken, as they come and unpacked.
        body : bytes, optional
            JSON to be sent with POST; a search changes nothing and is tried again like a GET.

        Returns
        -------
        Reply
            Unpacked where it came compressed.

        Raises
        ------
        GoneError, TransportError
            As from `fetch`; the message has what the server's JSON says.
        """
        return await self._persist(url, Wish(ranges=(), cap=cap, is_document=True, body=body))

    async def fetch_first(self, url: str, stop: int) -> Reply:
        """Get a file's first bytes, and learn from it whether the host takes many ranges.

        The first such request to a host asks for the file's last byte as well. A server that
        does not answer with both parts is asked for single ranges from then on.

        Parameters
        ----------
        url : str
            http or https.
        stop : int
            The byte behind the last one.

        Returns
        -------
        Reply
            As from `fetch`.
        """
        host = urlsplit(url).netloc
        if host not in self._takes_many:
            self._takes_many[host] = False  # nobody else tries it out meanwhile
            with contextlib.suppress(NoPartsError):
                return await self._persist(url, Wish(ranges=((0, stop),), tries_parts=True))
        return await self.fetch(url, (0, stop))

    def takes_many(self, url: str) -> bool:
        """Tell whether a URL's host is known to answer many ranges at once.

        Parameters
        ----------
        url : str
            http or https.

        Returns
        -------
        bool
            False too while it is not known.
        """
        return self._takes_many.get(urlsplit(url).netloc, False)

    async def fetch_many(
        self, url: str, ranges: Sequence[tuple[int, int]], take: Callable[[int, Reply], None]
    ) -> None:
        """Get several ranges of a file, in one request where the host takes that.

        Parameters
        ----------
        url : str
            http or https.
        ranges : sequence of tuple of int
            First byte and the byte behind the last one of each; no range twice.
        take : callable
            Called with a range's position and its reply as soon as it is there.
        """
        delivery = Delivery(left={r: i for i, r in enumerate(ranges)}, take=take)
        if len(ranges) > 1 and self.takes_many(url):
            try:
                await self._persist(url, Wish(ranges=tuple(ranges), delivery=delivery))
            except NoPartsError:
                self._takes_many[urlsplit(url).netloc] = False
        singles = [Wish(ranges=(left,), delivery=delivery) for left in delivery.left]
        await gather(self._persist(url, wish) for wish in singles)

    async def warm(self, url: str, count: int) -> None:
        """Open connections that requests to come will use, as far as that works.

        Parameters
        ----------
        url : str
            http or https; its host counts.
        count : int
            How many; never more than ``max_connections``.
        """
        client = self._connected()
        connector = client.connector
        if connector is None or self._transport.public_only or self._proxy_for(url) is not None:
            return
        target = self.encode_url(url)

        async def open_one() -> aiohttp.connector.Connection:
            request = aiohttp.ClientRequest("GET", target, loop=self.loop, session=client)
            return await connector.connect(request, [], client.timeout)

        wanted = [open_one() for _ in range(min(count, self._transport.max_connections))]
        for opened in await asyncio.gather(*wanted, return_exceptions=True):
            if not isinstance(opened, BaseException):
                opened.release()

    async def _persist(self, url: str, wish: Wish) -> Reply:
        """Ask until the answer is right, or it is clear that it will not be."""
        silences = 0
        attempt = 0
        host = urlsplit(url).netloc
        while True:
            attempt += 1
            await self._wait_until_open(host)
            try:
                reply = await self._follow(url, wish)
            except PassingError as exc:
                silences += exc.kind == "silence"
                alive = time.monotonic() - self._last_success.get(host, -_RECENT_S) < _RECENT_S
                if (
                    attempt >= self._transport.max_attempts
                    or silences >= _SILENCES
                    or (exc.kind == "connect" and attempt >= _CONNECT_ATTEMPTS and not alive)
                ):
                    raise TransportError(
                        f"{exc}; given up, try again later",
                        url=url,
                        byte_range=wish.span,
                        status=exc.status,
                        attempts=attempt,
                    ) from exc
                _log.debug("attempt %d of %s failed: %s", attempt, redact(url), exc)
                await self._pause(host, attempt, exc.pause_s)
                wish = wish.rest()
            except TransportError as exc:
                place = {"url": redact(url), "byte_range": wish.span, "attempts": attempt}
                raise exc.at(**place) from exc.__cause__
            else:
                self._last_success[host] = time.monotonic()
                return reply

    async def _wait_until_open(self, host: str) -> None:
        while (left := self._open_again[host] - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _pause(self, host: str, attempt: int, announced_s: float | None) -> None:
        if announced_s is not None:
            until = time.monotonic() + min(announced_s, _LONGEST_PAUSE_S)
            self._open_again[host] = max(self._open_again[host], until)
        longest = min(5.0, 0.1 * 2 ** (attempt - 1))
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, no secret

    async def _follow(self, url: str, wish: Wish) -> Reply:
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._attempt(here, wish)
            if not isinstance(answer, str):
                return answer
            here = self._checked_target(url, here, answer)
        msg = f"more than {_MAX_REDIRECTS} redirects"
        raise TransportError(msg, url=url)

    def _checked_target(self, url: str, here: str, location: str) -> str:
        try:
            target = urljoin(here, location)
            asked, led = urlsplit(url), urlsplit(target)
            _ = led.port  # judged when it is looked at
        except ValueError as exc:
            msg = f"the server redirects to what is no address: {exc}"
            raise TransportError(msg, url=url) from exc
        if led.scheme not in {asked.scheme, "https"}:
            msg = f"the server redirects to {redact(target)}, which is not followed from here"
            raise TransportError(msg, url=url)
        if led.hostname != asked.hostname and led.hostname not in self._transport.allowed_hosts:
            msg = (
                f"the server redirects to another host, {led.hostname}; if you trust it, pass "
                f"transport=Transport(allowed_hosts=({led.hostname!r},)) (--allow-host)"
            )
            raise TransportError(msg, url=url)
        return target

    async def _attempt(self, url: str, wish: Wish) -> Reply | str:
        """Ask once; a str is where a redirect leads."""
        if self._transport.public_only:
            check_host(url, self._transport.allowed_hosts)
        try:
            async with self._connected().request(
                "GET" if wish.body is None else "POST",
                self.encode_url(url),
                data=wish.body,
                headers=_headers(wish),
                allow_redirects=False,
                proxy=self._proxy_for(url),
                timeout=self._timeout(wish),
            ) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                reply = await take_answer(response, url, wish)
                if response.content_type == "multipart/byteranges":
                    self._takes_many[urlsplit(url).netloc] = True
                return reply
        except aiohttp.ClientConnectorCertificateError as exc:
            msg = f"the server's certificate can't be trusted: {exc}"
            raise TransportError(msg, url=url) from exc
        except aiohttp.InvalidURL as exc:
            msg = f"that is no address: {redact(str(exc))}"
            raise TransportError(msg, url=url) from exc
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            msg = f"no connection: {exc}"
            raise PassingError(msg, kind="connect") from exc
        except TimeoutError as exc:
            msg = f"no byte came for {self._transport.idle_timeout_s:g} s"
            raise PassingError(msg, kind="silence") from exc
        except (aiohttp.ClientError, ConnectionError) as exc:
            msg = f"the connection broke: {str(exc) or type(exc).__name__}"
            raise PassingError(msg) from exc

    def _connected(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                auto_decompress=False,
                read_bufsize=2**20,
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self._transport.max_connections,
                    ttl_dns_cache=300,
                    resolver=(
                        PublicResolver(self._transport.allowed_hosts)
                        if self._transport.public_only
                        else None
                    ),
                ),
                cookie_jar=aiohttp.CookieJar(unsafe=True),  # hosts that are numbers have them too
                headers={"User-Agent": _user_agent()},
            )
        return self._client

    def _proxy_for(self, url: str) -> str | None:
        """Look the environment's proxies up once for each host: it takes a millisecond."""
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "")
        if place not in self._proxies:
            proxies = urllib.request.getproxies()
            bypassed = urllib.request.proxy_bypass(place[1])
            self._proxies[place] = None if bypassed else proxies.get(parts.scheme)
        return self._proxies[place]

    def _timeout(self, wish: Wish) -> aiohttp.ClientTimeout:
        patience = _DOCUMENT_PATIENCE if wish.is_document else 1
        return aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._transport.connect_timeout_s,
            sock_read=self._transport.idle_timeout_s * patience,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()


def _headers(wish: Wish) -> dict[str, str]:
    headers = {"Accept-Encoding": "gzip" if wish.is_document else "identity"}
    if wish.body is not None:
        headers["Content-Type"] = "application/json"
    return headers | wish.headers


def _user_agent() -> str:
    try:
        return f"s2l3a_xr/{version('s2l3a_xr')}"
    except PackageNotFoundError:
        return "s2l3a_xr"
