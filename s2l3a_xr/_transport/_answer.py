"""What a server answered, held against what it was asked."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

import aiohttp

from s2l3a_xr._errors import FileChangedError, GoneError, TransportError
from s2l3a_xr._transport._multipart import CONTENT_RANGE, Part, PartParser, PartsError
from s2l3a_xr._transport._settings import Reply
from s2l3a_xr._transport._wish import NoPartsError, NoSizeError, PassingError, Wish

_OK, _PARTIAL, _UNMET = 200, 206, 416
_GONE = frozenset({404, 410, 451})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 522, 524})
_SECONDS = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)
_EMPTY = re.compile(r"bytes\s+\*/0", re.ASCII)
_PART_OVERHEAD = 1024
_BAD = 400
_GZIP = frozenset({"gzip", "x-gzip"})
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_LONGEST_EXPLANATION = 2**16
_LOOK_AT = 80
_MOST_REASON = 100
_OTHER_SERVER = "no parts of files can be read there: use another archive, or a mirror folder"
_TELL = "tell the server's operator, or use another archive"


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
    NoSizeError
        The size of the file must be found out in another way.
    TransportError
        It can't be used.
    """
    said = await _explanation(response) if wish.is_document and response.status >= _BAD else ""
    if wish.ranges and response.status == _UNMET and not wish.takes_parts:
        return _nothing(response, wish)
    if wish.ranges and response.status in {_OK, _PARTIAL} and response.content_type in _HTML:
        raise await _html_error(response, url)
    _check_status(response, url, wish, said)
    if wish.asks_size:
        return _size_alone(response)
    if not wish.ranges:
        return await _whole_body(response, url, wish.cap)
    if response.content_type == "multipart/byteranges" and wish.takes_parts:
        return await _parts(response, wish)
    if len(wish.ranges) > 1:
        raise NoPartsError
    reply = await _ranged_body(response, url, wish)
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
    answered = f"the server answered {status} {(response.reason or '')[:_MOST_REASON]}{said}"
    if status in _GONE:
        msg = f"the server has no such {'document' if wish.is_document else 'file'}{said}"
        raise GoneError(msg, url=url, status=status)
    if status in _TRANSIENT:
        pause_s = retry_after_s(response.headers.get("Retry-After"))
        raise PassingError(answered, status=status, pause_s=pause_s)
    if status != expected and wish.takes_parts:
        raise NoPartsError
    if status != expected and status == _OK:
        msg = "the server ignores the Range header and would send the whole file"
        raise TransportError(msg, url=url, status=status, hint=_OTHER_SERVER)
    if status != expected:
        raise TransportError(answered, url=url, status=status)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not (wish.is_document and encoding in _GZIP):
        msg = f"the server sent Content-Encoding {encoding}, though identity was asked for"
        hint = "ask its operator not to compress .tif once more (Apache's mod_deflate)"
        raise TransportError(msg, url=url, status=status, hint=hint)


def _nothing(response: aiohttp.ClientResponse, wish: Wish) -> Reply:
    """Take the answer that a range is behind the file's end."""
    if wish.ranges[0][0] == 0 and _EMPTY.fullmatch(response.headers.get("Content-Range", "")):
        return _reply(response, b"", 0)
    msg = "the file shrank: the server says that it ends before these bytes"
    raise PassingError(msg, status=response.status, kind="once", lasting=FileChangedError)


async def _html_error(response: aiohttp.ClientResponse, url: str) -> Exception:
    begin = (await _read_up_to(response, _LOOK_AT))[:_LOOK_AT]
    hint = "open the address in a browser: it may want a login, or be out of service"
    if not begin.lstrip().startswith(b"<"):
        msg = f"the server calls the file's bytes {response.content_type}, so they may be none"
        return TransportError(msg, url=url, status=response.status, hint=hint)
    text = "".join(c if c.isprintable() else " " for c in begin.decode("utf-8", "replace"))
    msg = f"the server sent {response.content_type}, HTML instead of TIFF, beginning {text!r}"
    return PassingError(msg, status=response.status, kind="once", hint=hint)


def _size_alone(response: aiohttp.ClientResponse) -> Reply:
    if response.content_length is None:
        msg = "the server says nowhere how large the file is"
        raise PassingError(msg, status=response.status, kind="once", hint=_OTHER_SERVER)
    return _reply(response, b"", response.content_length)


def retry_after_s(text: str | None) -> float | None:
    """Read a Retry-After header.

    Parameters
    ----------
    text : str or None
        Seconds, a date, or what makes no sense.

    Returns
    -------
    float or None
        Seconds from now; None where nobody knows.
    """
    if text is None:
        return None
    if seconds := _SECONDS.fullmatch(text):
        return float(seconds[1])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
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
        msg = f"the answer is larger than {cap} bytes, too large for what it must be"
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


async def _ranged_body(response: aiohttp.ClientResponse, url: str, wish: Wish) -> Reply:
    if response.content_type == "multipart/byteranges":
        msg = "the server sent multipart/byteranges instead of the one range asked for"
        raise TransportError(msg, url=url, status=response.status, hint=_TELL)
    kept, (start, stop) = wish.kept, wish.ranges[0]
    start += kept.size
    first, last, total = _labels(response, url, wish, start)
    expected = min(stop, total)
    version = (response.headers.get("ETag", ""), total)
    wrong = f"asked for bytes {start}-{expected - 1}, the server sent {first}-{last}"
    if kept.pieces and kept.version != version:
        kept.drop()
        msg = "the file changed between two parts of a range"
        raise PassingError(msg, status=response.status)
    if first != start or not first <= last < expected:
        is_possible = first <= last < total
        kind = "fault" if is_possible else "nonsense"
        raise PassingError(wrong, status=response.status, kind=kind)
    size = last + 1 - first
    _check_length(response.content_length, size, url, response.status)
    pieces: list[bytes] = []
    try:
        left = await _read_pieces(response, size, pieces)
    except (aiohttp.ClientError, OSError, asyncio.CancelledError):
        kept.keep(pieces, version)
        raise
    _check_length(size - left, size, url, response.status)
    if last + 1 < expected:
        is_kept = kept.keep(pieces, version)
        raise PassingError(wrong, status=response.status, kind="short" if is_kept else "fault")
    return _reply(response, b"".join([*kept.pieces, *pieces]), total)


async def _read_pieces(response: aiohttp.ClientResponse, size: int, pieces: list[bytes]) -> int:
    """Read a body, but for what is behind the bytes asked for; return how many are lacking."""
    while size >= 0 and (piece := await response.content.readany()):
        pieces.append(piece)
        size -= len(piece)
    return size


def _check_length(found: int | None, size: int, url: str, status: int) -> None:
    if found is not None and found > size:
        msg = f"asked for {size} bytes, the server sends {found} or more"
        raise TransportError(msg, url=url, status=status, hint=_TELL)
    if found is not None and found < size:
        msg = f"asked for {size} bytes, the server sent {found}"
        raise PassingError(msg, status=status)


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
            raise PassingError(msg, status=response.status, kind="nonsense") from exc
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        if missing:  # else only the end of the answer is lost, and nothing to ask for again
            raise
    if missing or reply is None:
        msg = f"the answer in parts lacks {len(missing)} of {len(wish.ranges)} ranges"
        kind = "fault" if len(missing) < len(wish.ranges) else "nonsense"
        raise PassingError(msg, status=response.status, kind=kind)
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


def _labels(
    response: aiohttp.ClientResponse, url: str, wish: Wish, start: int
) -> tuple[int, int, int]:
    """Tell which bytes came: the first, the last, and of how many."""
    text = response.headers.get("Content-Range")
    found = None if text is None else CONTENT_RANGE.fullmatch(text)
    if found is not None and found[3] != "*":
        first, last, total = map(int, found.groups())
        return first, last, total
    if text is not None and found is None:
        msg = f"the server sent a part without saying which (Content-Range {text[:80]!r})"
        raise TransportError(msg, url=url, status=response.status, hint=_TELL)
    if wish.known is None or wish.known[1] != _stamp(response):
        raise NoSizeError
    total = wish.known[0]
    if found is not None:
        return int(found[1]), int(found[2]), total
    return start, min(wish.ranges[0][1], total) - 1, total


def _stamp(response: aiohttp.ClientResponse) -> tuple[str, str]:
    return response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")


def _reply(response: aiohttp.ClientResponse, data: bytes | memoryview, total: int) -> Reply:
    return Reply(
        data=data,
        total=total,
        stamp=_stamp(response),
        url=str(response.url),
        content_type=response.content_type,
    )
