"""What a server answered, held against what it was asked."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

import aiohttp

from s2l3a_xr._errors import GoneError, TransportError
from s2l3a_xr._transport._multipart import CONTENT_RANGE, Part, PartParser, PartsError
from s2l3a_xr._transport._settings import Reply

_OK, _PARTIAL = 200, 206
_GONE = frozenset({404, 410})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_SECONDS = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)
_PART_OVERHEAD = 1024
_BAD = 400
_GZIP = frozenset({"gzip", "x-gzip"})
_LONGEST_EXPLANATION = 2**16


class PassingError(Exception):
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


class NoPartsError(Exception):
    """The server does not answer several ranges with several parts."""


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """Ranges that are still to come, and who takes them.

    Parameters
    ----------
    left : dict
        Position by range.
    take : callable
        Called with position and reply, once for each range, as soon as it is there.
    """

    left: dict[tuple[int, int], int]
    take: Callable[[int, Reply], None]

    def hand_over(self, byte_range: tuple[int, int], reply: Reply) -> None:
        """Hand a range on, unless that was done."""
        position = self.left.pop(byte_range, None)
        if position is not None:
            self.take(position, reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to ask for: ranges, or the whole file up to a cap."""

    ranges: tuple[tuple[int, int], ...]
    cap: int | None = None
    tries_parts: bool = False
    """Ask for the last byte as well, to see whether the server takes several ranges."""
    delivery: Delivery | None = None
    """Who takes the ranges; without it there is one, and its reply is returned."""
    is_document: bool = False
    """A catalogue's document: it may come compressed, and errors explain themselves."""
    body: bytes | None = None
    """JSON to be sent along, with POST."""

    @property
    def takes_parts(self) -> bool:
        return self.tries_parts or len(self.ranges) > 1

    @property
    def span(self) -> tuple[int, int] | None:
        """All ranges as one, for messages."""
        return (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else None

    @property
    def headers(self) -> dict[str, str]:
        spans = [f"{start}-{stop - 1}" for start, stop in self.ranges]
        spans += ["-1"] if self.tries_parts else []
        return {"Range": f"bytes={','.join(spans)}"} if spans else {}

    def rest(self) -> Wish:
        """Ask only for what has not come yet."""
        return replace(self, ranges=tuple(self.delivery.left)) if self.delivery else self


async def take_answer(response: aiohttp.ClientResponse, url: str, wish: Wish) -> Reply:
    """Check an answer and read its body, handing ranges on where somebody takes them.

    Parameters
    ----------
    response : aiohttp.ClientResponse
        The answer; no redirect.
    url : str
        For messages.
    wish : Wish
        What was asked for.

    Returns
    -------
    Reply
        The whole file, or the last range.

    Raises
    ------
    PassingError
        It may be right at the next attempt.
    NoPartsError
        Several ranges were asked for and the server does not do that.
    TransportError
        It can't be used.
    """
    said = await _explanation(response) if wish.is_document and response.status >= _BAD else ""
    _check_status(response, url, wish, said)
    if not wish.ranges:
        return await _whole_body(response, url, wish.cap)
    if response.content_type == "multipart/byteranges" and wish.takes_parts:
        return await _parts(response, wish)
    if len(wish.ranges) > 1:
        raise NoPartsError
    reply = await _ranged_body(response, url, wish.ranges[0])
    if wish.delivery is not None:
        wish.delivery.hand_over(wish.ranges[0], reply)
    return reply


async def _explanation(response: aiohttp.ClientResponse) -> str:
    """Give what a JSON error says, as the end of a message."""
    data = await _read_up_to(response, _LONGEST_EXPLANATION)
    try:
        told = json.loads(_unpacked(response, data, _LONGEST_EXPLANATION))
    except (ValueError, RecursionError, zlib.error):
        return ""
    said = told.get("description") or told.get("detail") if isinstance(told, dict) else None
    return f": {str(said)[:500]}" if said else ""


def _check_status(response: aiohttp.ClientResponse, url: str, wish: Wish, said: str) -> None:
    status = response.status
    expected = _PARTIAL if wish.ranges else _OK
    if status in _GONE:
        msg = f"the server has no such {'document' if wish.is_document else 'file'}{said}"
        raise GoneError(msg, url=url, status=status)
    if status in _TRANSIENT:
        msg = f"the server answered {status} {response.reason}{said}"
        pause_s = _retry_after_s(response.headers.get("Retry-After"))
        raise PassingError(msg, status=status, pause_s=pause_s)
    if status != expected and wish.takes_parts:
        raise NoPartsError
    if status != expected and status == _OK:
        msg = "the server ignores the Range header and would send the whole file"
        raise TransportError(msg, url=url, status=status)
    if status != expected:
        msg = f"the server answered {status} {response.reason}{said}"
        raise TransportError(msg, url=url, status=status)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not (wish.is_document and encoding in _GZIP):
        msg = f"the server sent Content-Encoding {encoding}, though identity was asked for"
        raise TransportError(msg, url=url, status=status)


def _retry_after_s(text: str | None) -> float | None:
    if text is None:
        return None
    if seconds := _SECONDS.fullmatch(text):
        return float(seconds[1])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


async def _whole_body(response: aiohttp.ClientResponse, url: str, cap: int | None) -> Reply:
    data = await response.read() if cap is None else await _read_up_to(response, cap + 1)
    if cap is not None and len(data) <= cap:
        try:
            data = _unpacked(response, data, cap)
        except zlib.error as exc:
            msg = f"the compressed answer is broken: {exc}"
            raise PassingError(msg, status=response.status) from exc
    if cap is not None and len(data) > cap:
        msg = f"the answer is larger than {cap} bytes"
        raise TransportError(msg, url=url, status=response.status)
    return _reply(response, data, len(data))


def _unpacked(response: aiohttp.ClientResponse, data: bytes, cap: int) -> bytes:
    """Unpack an answer if it is compressed, to one byte more than the cap at most."""
    if response.headers.get("Content-Encoding", "").lower() not in _GZIP:
        return data
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    unpacked = unpacker.decompress(data, cap + 1)
    if len(unpacked) <= cap and not unpacker.eof:
        raise zlib.error("it ends early")
    return unpacked


async def _read_up_to(response: aiohttp.ClientResponse, size: int) -> bytes:
    """Read no further than asked, where the server does not say how long its answer is."""
    pieces: list[bytes] = []
    while size > 0 and (piece := await response.content.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


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
        raise PassingError(msg, status=response.status)
    if response.content_length not in {None, expected - start}:
        msg = f"asked for {expected - start} bytes, the server sends {response.content_length}"
        raise PassingError(msg, status=response.status)
    if response.content_length is None:
        data = await _read_up_to(response, expected - start + 1)
    else:
        data = await response.read()
    if len(data) != expected - start:
        msg = f"asked for {expected - start} bytes, the server sent {len(data)}"
        raise PassingError(msg, status=response.status)
    return _reply(response, data, total)


async def _parts(response: aiohttp.ClientResponse, wish: Wish) -> Reply:
    """Take the parts as they arrive; a range may lie within a larger part."""
    asked = sum(stop - start for start, stop in wish.ranges)
    allowed = 2 * asked + _PART_OVERHEAD * (len(wish.ranges) + 1)
    parser = PartParser(_boundary(response), longest=allowed)
    missing = set(wish.ranges)
    reply: Reply | None = None
    try:
        async for data in response.content.iter_any():
            allowed -= len(data)
            for part in parser.feed(data):
                reply = _hand_over(part, missing, response, wish) or reply
            if parser.is_done or allowed < 0:
                break
    except PartsError as exc:
        if missing:
            msg = f"the answer in parts is broken: {exc}"
            raise PassingError(msg, status=response.status) from exc
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        if missing:  # else only the end of the answer is lost, and nothing to ask for again
            raise
    if missing or reply is None:
        msg = f"the answer in parts lacks {len(missing)} of {len(wish.ranges)} ranges"
        raise PassingError(msg, status=response.status)
    return reply


def _hand_over(
    part: Part, missing: set[tuple[int, int]], response: aiohttp.ClientResponse, wish: Wish
) -> Reply | None:
    """Hand on the missing ranges that lie in a part, and give the last one's reply."""
    reply = None
    for start, behind in list(missing):
        stop = min(behind, part.total)
        if part.start <= start and stop <= part.stop:
            piece = part.data[start - part.start : stop - part.start]
            reply = _reply(response, piece, part.total)
            missing.discard((start, behind))
            if wish.delivery is not None:
                wish.delivery.hand_over((start, behind), reply)
    return reply


def _boundary(response: aiohttp.ClientResponse) -> str:
    message = Message()
    message["Content-Type"] = response.headers["Content-Type"]
    return str(message.get_param("boundary", ""))


def _content_range(response: aiohttp.ClientResponse, url: str) -> tuple[int, int, int]:
    text = response.headers.get("Content-Range", "")
    found = CONTENT_RANGE.fullmatch(text)
    if found is None:
        msg = f"the server sent a part without saying which (Content-Range {text!r})"
        raise TransportError(msg, url=url, status=response.status)
    first, last, total = map(int, found.groups())
    return first, last, total


def _reply(response: aiohttp.ClientResponse, data: bytes | memoryview, total: int) -> Reply:
    headers = response.headers
    return Reply(
        data=data,
        total=total,
        stamp=(headers.get("ETag", ""), headers.get("Last-Modified", "")),
        url=str(response.url),
        content_type=response.content_type,
    )
