"""fsspec's HTTP file system with reads that check what they got."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fsspec.implementations.http import HTTPFileSystem

from s2l3a_xr._errors import (
    FileChangedError,
    ReadError,
    S2L3AWarning,
    TransportError,
    warn_user,
)
from s2l3a_xr._loop import background_loop, gather
from s2l3a_xr._texts import one_line, redact
from s2l3a_xr._transport._client import Client
from s2l3a_xr._transport._hosts import Host, Hosts
from s2l3a_xr._transport._patience import Patience
from s2l3a_xr._transport._redirects import redirect_target
from s2l3a_xr._transport._settings import Reply, Transport
from s2l3a_xr._transport._tally import count
from s2l3a_xr._transport._wish import (
    Delivery,
    NoPartsError,
    NoSizeError,
    PassingError,
    Wish,
)

_log = logging.getLogger(__name__)

_MOST_SIZES = 4096
_MULTIPART = "multipart/byteranges"


class RangeHTTPFileSystem(HTTPFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """fsspec's HTTP file system with byte reads that check what they got.

    Every range must be answered by exactly that range; passing faults are tried again with
    jitter, an announced ``Retry-After`` holds for the whole host, redirects are followed by
    hand and only to the same domain or to allowed hosts.

    Parameters
    ----------
    transport : Transport
        The settings.
    """

    cachable = False  # or fsspec gives one that was closed for one that is asked for

    def __init__(self, transport: Transport) -> None:
        super().__init__(asynchronous=True, loop=background_loop())
        self._transport = transport
        self.client = Client(transport)
        self._hosts = Hosts(transport)
        self._sizes: dict[str, tuple[int, tuple[str, ...]]] = {}

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
            The server says 404, 410 or 451.
        FileChangedError
            The file ends before the range.
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
        host = self._hosts.of(url)
        if host.takes_many is None:
            host.takes_many = False  # nobody else tries it out meanwhile
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
        return bool(self._hosts.of(url).takes_many)

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
                self._hosts.of(url).takes_many = False
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
        await self.client.warm(url, count)

    async def _persist(self, url: str, wish: Wish) -> Reply:
        """Ask until the answer is right, or it is clear that it will not be."""
        patience = Patience(self._transport, wish)
        trail = [url]
        while True:
            patience.attempts += 1
            try:
                return await self._follow(url, wish, trail)
            except NoSizeError:
                wish = replace(wish, known=await self._size_of(url, wish))
            except PassingError as exc:
                if exc.kind in {"silence", "slow"}:
                    wish = replace(wish, silent_s=wish.silent_s + self.client.idle_s(wish))
                pause_s = patience.pause_after(exc, self._hosts.of(trail[-1]))
                if wish.silent_s >= self._transport.give_up_s:
                    pause_s = None
                if pause_s is None and exc.kind == "nonsense" and wish.takes_parts:
                    raise NoPartsError from exc  # each range by itself may come right
                if pause_s is None:
                    place = {
                        "url": url,
                        "byte_range": wish.span,
                        "status": exc.status,
                        "attempts": patience.attempts,
                    } | ({"hint": exc.hint} if exc.hint else {})
                    raise exc.lasting(str(exc), **place) from exc
                _log.debug(
                    "attempt %d of %s failed: %s",
                    patience.attempts,
                    redact(url),
                    one_line(str(exc)),
                )
                count(self._hosts.of(trail[-1]).name, "retries")
                await asyncio.sleep(pause_s)
                wish = wish.rest()
            except ReadError as exc:
                exc.url = redact(url)  # and not where a redirect led
                place = {"byte_range": wish.span}
                raise exc.at(**place, attempts=patience.attempts) from exc.__cause__

    async def _follow(self, url: str, wish: Wish, trail: list[str]) -> Reply:
        """Ask once, wherever redirects lead; the trail tells where they led."""
        trail[:] = [url]
        while True:
            host = self._hosts.of(trail[-1])
            try:
                answer = await self._attempt(host, url, trail[-1], wish)
            except PassingError as exc:
                if exc.kind == "once" and exc.lasting is TransportError and len(trail) > 1:
                    msg = f"a redirect led to {redact(trail[-1])}: {exc}"
                    raise TransportError(msg, url=url, status=exc.status, hint=exc.hint) from exc
                raise
            if not isinstance(answer, str):
                self._hosts.of(url).succeeded()
                host.succeeded()
                return answer
            if len(trail) > self._transport.max_redirects:
                msg = f"more than {self._transport.max_redirects} redirects"
                hint = "see with `s2l3a doctor URL` where they lead"
                raise TransportError(msg, url=url, hint=hint)
            trail.append(redirect_target(url, trail[-1], answer, self._transport))

    async def _attempt(self, host: Host, asked: str, url: str, wish: Wish) -> Reply | str:
        """Ask at one address; a str is where a redirect leads."""
        if wish.known is None and url in self._sizes:
            wish = replace(wish, known=self._sizes[url])
        is_foreign = urlsplit(url).hostname != urlsplit(asked).hostname
        async with host.attempt(wish.size, self.client.idle_s(wish)) as attempt:
            try:
                answer = await self.client.ask(url, wish, attempt, is_foreign=is_foreign)
            except PassingError as exc:
                if exc.pause_s is None:
                    host.refused(exc.status, attempt.asked_at)
                else:
                    host.shut(exc.pause_s, exc.status)
                raise
        if isinstance(answer, Reply) and wish.known is not None and not host.has_warned:
            host.has_warned = True
            warn_user(
                f"{host.name} does not say which bytes of which file it sends (no full "
                "Content-Range); they are taken where their number is right.",
                S2L3AWarning,
            )
        if isinstance(answer, Reply) and answer.content_type == _MULTIPART:
            self._hosts.of(asked).takes_many = True
        return answer

    async def _size_of(self, url: str, wish: Wish) -> tuple[int, tuple[str, ...]]:
        """Ask for a file's size, of which the server says nothing with ranges."""
        if wish.known is not None:
            msg = "the file changes while its size is asked for"
            raise FileChangedError(msg, url=url, byte_range=wish.span)
        reply = await self._persist(url, Wish(ranges=(), asks_size=True))
        if len(self._sizes) >= _MOST_SIZES:
            self._sizes.clear()
        known = self._sizes[url] = (reply.total, reply.stamp)
        return known

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
