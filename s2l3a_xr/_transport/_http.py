"""fsspec's HTTP file system with reads that check what they got."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from s2l3a_xr._errors import GoneError, TransportError, redact
from s2l3a_xr._loop import background_loop
from s2l3a_xr._transport._settings import Reply, Transport

_log = logging.getLogger(__name__)

_OK, _PARTIAL = 200, 206
_GONE = frozenset({404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_MAX_REDIRECTS = 5
_LONGEST_PAUSE_S = 60.0
_SILENCES = 3
_CONNECT_ATTEMPTS = 3
_RECENT_S = 10.0


class _PassingError(Exception):
    """A fault that may be gone at the next attempt."""

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        pause_s: float | None = None,
        kind: str = "fault",
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.pause_s = pause_s
        self.kind = kind


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

    def __init__(self, transport: Transport) -> None:
        super().__init__(asynchronous=True, loop=background_loop(), skip_instance_cache=True)
        self._transport = transport
        self._client: aiohttp.ClientSession | None = None
        self._open_again: dict[str, float] = defaultdict(float)
        self._last_success: dict[str, float] = {}

    async def _cat_file(
        self,
        url: str,
        start: int | None = None,
        end: int | None = None,
        **_: Any,  # noqa: ANN401 - fsspec's signature
    ) -> bytes:
        if start is None and end is None:
            return (await self.fetch(url)).data
        if start is None or end is None or start < 0 or end < start:
            msg = f"a range needs both ends, got {start} to {end}"
            raise ValueError(msg)
        return (await self.fetch(url, (start, end))).data

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
        silences = 0
        attempt = 0
        host = urlsplit(url).netloc
        while True:
            attempt += 1
            await self._wait_until_open(host)
            try:
                reply = await self._follow(url, byte_range, cap)
            except _PassingError as exc:
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
                        byte_range=byte_range,
                        status=exc.status,
                        attempts=attempt,
                    ) from exc
                _log.debug("attempt %d of %s failed: %s", attempt, redact(url), exc)
                await self._pause(host, attempt, exc.pause_s)
            except TransportError as exc:
                raise exc.at(byte_range=byte_range, attempts=attempt) from exc.__cause__
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
        else:
            longest = min(5.0, 0.1 * 2 ** (attempt - 1))
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, no secret

    async def _follow(self, url: str, byte_range: tuple[int, int] | None, cap: int | None) -> Reply:
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            reply = await self._attempt(here, byte_range, cap)
            if isinstance(reply, Reply):
                return reply
            here = self._checked_target(url, urljoin(here, reply))
        msg = f"more than {_MAX_REDIRECTS} redirects"
        raise TransportError(msg, url=url)

    def _checked_target(self, url: str, target: str) -> str:
        asked, led = urlsplit(url), urlsplit(target)
        if led.scheme not in {asked.scheme, "https"}:
            msg = f"the server redirects to {redact(target)}, which is not followed from here"
            raise TransportError(msg, url=url)
        if led.hostname != asked.hostname and led.hostname not in self._transport.allowed_hosts:
            msg = (
                f"the server redirects to another host, {led.hostname}; if you trust it, pass "
                f"transport=Transport(allowed_hosts=({led.hostname!r},))"
            )
            raise TransportError(msg, url=url)
        return target

    async def _attempt(
        self, url: str, byte_range: tuple[int, int] | None, cap: int | None
    ) -> Reply | str:
        """Ask once; a str is where a redirect leads."""
        headers = {"Accept-Encoding": "identity"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        try:
            async with self._connected().get(
                self.encode_url(url),
                headers=headers,
                allow_redirects=False,
                proxy=_proxy_for(url),
            ) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                _check_status(response, url, ranged=byte_range is not None)
                if byte_range is None:
                    return await _whole_body(response, url, cap)
                return await _ranged_body(response, url, byte_range)
        except aiohttp.ClientConnectorCertificateError as exc:
            msg = f"the server's certificate can't be trusted: {exc}"
            raise TransportError(msg, url=url) from exc
        except aiohttp.ClientConnectorError as exc:
            msg = f"no connection: {exc}"
            raise _PassingError(msg, kind="connect") from exc
        except (TimeoutError, aiohttp.ServerTimeoutError) as exc:
            msg = f"no byte came for {self._transport.idle_timeout_s:g} s"
            raise _PassingError(msg, kind="silence") from exc
        except (aiohttp.ClientError, ConnectionError) as exc:
            msg = f"the connection broke: {exc or type(exc).__name__}"
            raise _PassingError(msg) from exc

    def _connected(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                auto_decompress=False,
                read_bufsize=2**20,
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=self._transport.max_connections, ttl_dns_cache=300
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self._transport.connect_timeout_s,
                    sock_read=self._transport.idle_timeout_s,
                ),
                headers={"User-Agent": _user_agent()},
            )
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()


def _user_agent() -> str:
    try:
        return f"s2l3a_xr/{version('s2l3a_xr')}"
    except PackageNotFoundError:
        return "s2l3a_xr"


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if parts.scheme not in proxies or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxies[parts.scheme]


def _check_status(response: aiohttp.ClientResponse, url: str, *, ranged: bool) -> None:
    status = response.status
    if status in _GONE:
        msg = "the server has no such file"
        raise GoneError(msg, url=url, status=status)
    if status in _TRANSIENT:
        msg = f"the server answered {status} {response.reason}"
        pause_s = _retry_after_s(response.headers.get("Retry-After"))
        raise _PassingError(msg, status=status, pause_s=pause_s)
    if ranged and status == _OK:
        msg = "the server ignores the Range header and would send the whole file"
        raise TransportError(msg, url=url, status=status)
    if status != (_PARTIAL if ranged else _OK):
        msg = f"the server answered {status} {response.reason}"
        raise TransportError(msg, url=url, status=status)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        msg = f"the server sent Content-Encoding {encoding}, though identity was asked for"
        raise TransportError(msg, url=url, status=status)


def _retry_after_s(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


async def _whole_body(response: aiohttp.ClientResponse, url: str, cap: int | None) -> Reply:
    if cap is None:
        data = await response.read()
    else:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > cap:
                msg = f"the answer is larger than {cap} bytes"
                raise TransportError(msg, url=url, status=response.status)
            pieces.append(piece)
        data = b"".join(pieces)
    return _reply(response, data, len(data))


async def _ranged_body(
    response: aiohttp.ClientResponse, url: str, byte_range: tuple[int, int]
) -> Reply:
    start, stop = byte_range
    if response.content_type in {"text/html", "multipart/byteranges"}:
        msg = f"the server sent {response.content_type} instead of the file's bytes"
        raise TransportError(msg, url=url, status=response.status)
    first, last, total = _content_range(response, url)
    expected = min(stop, total)
    if (first, last + 1) != (start, expected):
        msg = f"asked for bytes {start}-{expected - 1}, the server sent {first}-{last}"
        raise _PassingError(msg, status=response.status)
    if response.content_length not in {None, expected - start}:
        msg = f"asked for {expected - start} bytes, the server sends {response.content_length}"
        raise _PassingError(msg, status=response.status)
    data = await response.read()
    if len(data) != expected - start:
        msg = f"asked for {expected - start} bytes, the server sent {len(data)}"
        raise _PassingError(msg, status=response.status)
    return _reply(response, data, total)


def _content_range(response: aiohttp.ClientResponse, url: str) -> tuple[int, int, int]:
    text = response.headers.get("Content-Range", "")
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not (first.isdigit() and last.isdigit() and total.isdigit()):
        msg = f"the server sent a part without saying which (Content-Range {text!r})"
        raise TransportError(msg, url=url, status=response.status)
    return int(first), int(last), int(total)


def _reply(response: aiohttp.ClientResponse, data: bytes, total: int) -> Reply:
    headers = response.headers
    return Reply(
        data=data,
        total=total,
        stamp=(headers.get("ETag", ""), headers.get("Last-Modified", "")),
        url=str(response.url),
        content_type=response.content_type,
    )
