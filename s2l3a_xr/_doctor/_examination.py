"""Ask a server a few dozen things, and judge what it does."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from s2l3a_xr._doctor import _checks
from s2l3a_xr._doctor._evidence import (
    AT_ONCE,
    OK,
    PARTIAL,
    SMALL,
    Evidence,
    content_range,
)
from s2l3a_xr._doctor._report import Finding, Report, finding
from s2l3a_xr._doctor._walk import Way, find_file, named_file
from s2l3a_xr._errors import FormatError, ReadError, S2L3AError, S2L3AWarning, SelectionError
from s2l3a_xr._loop import gather, run
from s2l3a_xr._places import check_address
from s2l3a_xr._source import Header, Source, read_header
from s2l3a_xr._texts import redact
from s2l3a_xr._tiff import HEADER_BYTES, SparseBytes, decode_block, parse_header
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Probe, Prober, Session, Transport, is_http, passing_session

MOST_REQUESTS = 40
MOST_BYTES = 8 * 2**20
MOST_S = 90.0
"""What is under way by then ends by the limits that reading has."""

_IN_A_ROW = 6
_AT_ONCE_BYTES = 32 * 2**10
_LONG_BYTES, _LONG_S = 4 * 2**20, 10.0
_PACKINGS = {1: "uncompressed", 5: "LZW", 8: "deflate", 32946: "deflate", 50000: "zstd"}
_PREDICTORS = {1: "no predictor", 2: "predictor 2", 3: "predictor 3"}
_GHOST, _TRAILER = b"GDAL_STRUCTURAL_METADATA_SIZE=", b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED"


def examine(url: str, transport: Transport) -> Report:
    """Look at how a server behaves, in at most 40 requests, 8 MB and two minutes.

    Parameters
    ----------
    url : str
        http(s): a folder in DLR's layout, a file, or a STAC API or document.
    transport : Transport
        How the network is used.

    Returns
    -------
    Report
        What was found, and what it means for reading.

    Raises
    ------
    SelectionError
        That is no address of a server.
    """
    _check_address(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S2L3AWarning)  # it is among the findings
        return run(_examine(url, transport))


def _check_address(url: str) -> None:
    if not is_http(url):
        what = (
            f"{redact(url)} has a scheme that is read by other libraries"
            if "://" in url
            else f"{url!r} is no URL"
        )
        msg = (
            f"{what}; doctor looks at web servers: give a URL that begins with https:// or http://."
        )
        raise SelectionError(msg)
    check_address(url)


async def _examine(url: str, transport: Transport) -> Report:
    began = time.monotonic()
    # Its own connections, so that opening them is seen; nothing of it is kept on disk.
    settings = replace(transport, cache_dir=None, max_attempts=min(3, transport.max_attempts))
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(passing_session(settings))
        probers = [_prober(session)]
        way = await find_file(probers[0], url)
        if way.file and way.host is not None:  # a catalogue's links are foreign
            foreign = passing_session(settings.for_links(way.host))
            session = await stack.enter_async_context(foreign)
            taken_s = time.monotonic() - began
            probers.append(_prober(session, probers[0].requests, taken_s))
        findings, seen = await _look_at(session, probers[-1], way)
    busy = [probe for one in probers for probe in one.busy]
    return Report(
        url=redact(url),
        file=redact(way.file),
        findings=(*findings, *_patience(busy)),
        requests=sum(one.requests for one in probers),
        bytes=sum(one.bytes for one in probers),
        seconds=time.monotonic() - began,
        latency_s=_checks.latency(seen) if seen else None,
        bytes_per_s=_checks.throughput(seen) if seen else None,
    )


def _prober(session: Session, asked: int = 0, taken_s: float = 0.0) -> Prober:
    return Prober(
        session.http,
        session.transport,
        most_requests=MOST_REQUESTS - asked,
        most_bytes=MOST_BYTES,
        most_s=MOST_S - taken_s,
    )


def _patience(busy: Sequence[Probe]) -> list[Finding]:
    if not busy:
        return []
    waits = [probe.headers.get("retry-after", "") for probe in busy]
    told = f"{len(busy)} times status {', '.join(sorted({str(p.status) for p in busy}))}"
    told += f", Retry-After: {next(filter(None, waits), 'not said')}"
    means = "what it asks for is waited, for all requests; be gentle with --max-connections"
    return [finding("busy", "warn", told, means)]


async def _look_at(
    session: Session, prober: Prober, way: Way
) -> tuple[list[Finding], Evidence | None]:
    if not way.file:
        return way.findings, None
    seen = await _ask_all(prober, way.file)
    if not seen.begin.status:
        means = "nothing can be read while this is so"
        return [*way.findings, finding("reachable", "bad", seen.begin.fault, means)], None
    found = [*_checks.connection(seen), *way.findings, *_checks.ranges(seen)]
    if seen.begin.status == PARTIAL:
        found += _checks.identity(seen) + _checks.content(seen) + _checks.speed(seen)
        found += await _read(session, prober, seen)
    return found, seen


async def _ask_all(prober: Prober, url: str) -> Evidence:
    """Ask for a file in all the ways that matter, gently first."""
    begin = await prober.ask(url, span=f"0-{HEADER_BYTES - 1}", most_bytes=HEADER_BYTES + 1)
    label = content_range(begin)
    total = label[2] if label else 0
    seen = Evidence(
        url=url,
        proxy=prober.proxy(url),
        peer=await prober.peer(url) if begin.status else None,
        head=await prober.ask(url, method="HEAD") if begin.status else begin,
        begin=begin,
        total=total,
    )
    if begin.status != PARTIAL:
        return seen
    last = max(total - SMALL, 1)
    places = [round(i * last / _IN_A_ROW) for i in range(_IN_A_ROW)]
    seen = replace(
        seen,
        several=await prober.ask(url, span=f"0-15,{HEADER_BYTES}-{HEADER_BYTES + 15}"),
        suffix=await prober.ask(url, span="-16"),
        beyond=await prober.ask(url, span=f"{total}-{total + 15}") if total else None,
        small=await _in_a_row(prober, url, places),
    )
    if any(probe.status == OK for probe in seen.small):  # each would be the whole file
        return seen
    spots = [round(i * max(total - _AT_ONCE_BYTES, 1) / AT_ONCE) for i in range(AT_ONCE)]
    asked = (prober.ask(url, span=f"{at}-{at + _AT_ONCE_BYTES - 1}") for at in spots)
    seen = replace(seen, at_once=await gather(asked))
    if prober.busy:  # it had enough
        return seen
    start = max(0, (total - _LONG_BYTES) // 2)
    span = f"{start}-{start + _LONG_BYTES - 1}"
    long = await prober.ask(url, span=span, most_bytes=_LONG_BYTES, most_s=_LONG_S)
    return replace(seen, long=long)


async def _in_a_row(prober: Prober, url: str, places: Sequence[int]) -> list[Probe]:
    made: list[Probe] = []
    for at in places:
        made.append(await prober.ask(url, span=f"{at}-{at + SMALL - 1}", most_bytes=SMALL))
        if made[-1].status == OK:
            break
    return made


async def _read(session: Session, prober: Prober, seen: Evidence) -> list[Finding]:
    """Read the file as reading does, with all its checks."""
    named = named_file(seen.url)
    try:
        if named is None:
            header = await _unnamed_header(session, seen.url)
            told = f"the name {seen.url.rpartition('/')[2]} is no product's"
            placed = finding("place", "warn", told, "whether it lies where it must is not known")
        else:
            product, band, resolution_m = named
            source = Source(
                url=seen.url,
                item=product.name,
                band=band.native,
                month=f"{product.year:04}-{product.month:02}",
                tile=tile_named(product.tile),
                resolution_m=resolution_m,
                dtype="uint8" if band.kind == "flag" else "int16",
            )
            header = await read_header(session, source, overviews=True)
            told = f"as tile {product.tile} must at {resolution_m} m, for {band.native}"
            placed = finding("place", "ok", told)
        prober.bytes += HEADER_BYTES
        block = await _one_block(session, prober, seen.url, header)
    except S2L3AError as exc:
        reason = exc.reason if isinstance(exc, ReadError) else str(exc)
        return [finding("reading", "bad", reason, "the file is refused with this error")]
    return [finding("TIFF", "ok", _layout(header, seen.begin.body)), placed, block]


async def _unnamed_header(session: Session, url: str) -> Header:
    reply = await session.read(url, 0, HEADER_BYTES)
    file = SparseBytes(reply.total)
    file.add(0, bytes(reply.data))
    layout = parse_header(file, url)
    return Header(layout=layout, total=reply.total, stamp=reply.stamp, version="")


async def _one_block(session: Session, prober: Prober, url: str, header: Header) -> Finding:
    layout = header.layout
    there = np.argwhere(layout.counts > 0)
    if not there.size:
        means = "all of it is nodata"
        return finding("reading", "ok", "the file is sparse and has no block", means)
    row, column = map(int, there[len(there) // 2])
    start, size = int(layout.offsets[row, column]), int(layout.counts[row, column])
    if size > MOST_BYTES // 4:
        return finding("reading", "warn", f"a block is {size / 1e6:.0f} MB and was not tried")
    reply = await session.read(url, start, start + size)
    prober.bytes += size
    try:
        decode_block(layout, reply.data, (row, column))
    except FormatError as exc:
        raise exc.at(url=url) from exc.__cause__
    return finding("reading", "ok", f"a block of {size} bytes was read and unpacked")


def _layout(header: Header, begin: bytes) -> str:
    image = header.layout
    kind = "blocks" if image.is_tiled else "strips"
    cog = "a GDAL COG" if _GHOST in begin[:64] else "no GDAL COG"
    check = " whose blocks can be checked" if _TRAILER in begin[:512] else ""
    return (
        f"{image.width} x {image.height} {image.dtype.name}, {kind} of {image.block_width} x "
        f"{image.block_height}, {_PACKINGS.get(image.compression, image.compression)}, "
        f"{_PREDICTORS.get(image.predictor, image.predictor)}, {len(header.overviews)} overviews, "
        f"{cog}{check}"
    )
