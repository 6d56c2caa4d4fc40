"""From what a server did to what it means; nothing is asked here."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from s2l3a_xr._doctor._evidence import (
    AT_ONCE,
    OK,
    PARTIAL,
    SMALL,
    UNMET,
    Evidence,
    content_range,
    title_of,
    what,
)
from s2l3a_xr._doctor._report import Finding, finding
from s2l3a_xr._texts import redact

_DAY_S = 86_400
_SOON_DAYS = 21
_SLOW_S, _SLOW_BYTES_PER_S = 0.3, 1e6
_REGION_FILES, _REGION_MB = 32, 86
_LEAST_MEASURED = 2**18
_TYPES = frozenset({"image/tiff", "image/geotiff", "application/octet-stream"})
_NEW_TLS = frozenset({"TLSv1.2", "TLSv1.3"})


def connection(seen: Evidence) -> list[Finding]:
    """Judge how the server is reached.

    Parameters
    ----------
    seen : Evidence
        What it did.

    Returns
    -------
    list of Finding
        TLS, protocol, proxy and redirects.
    """
    return [_tls(seen), _protocol(seen), _proxy(seen), _redirects(seen)]


def _tls(seen: Evidence) -> Finding:
    if seen.peer is None or not seen.peer.tls:
        parts = urlsplit(seen.url)
        here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if parts.scheme == "http" and here:
            return finding("TLS", "ok", "none, and none is needed on this machine")
        if parts.scheme == "http":
            means = "whoever is on the way can read and change the pixels: use https if it has it"
            return finding("TLS", "warn", "none", means)
        return finding("TLS", "warn", "could not be looked at")
    days = math.inf
    if seen.peer.expires is not None:
        days = (seen.peer.expires - time.time()) / _DAY_S
    ends = "" if math.isinf(days) else f", the certificate ends in {days:.0f} days"
    told = f"{seen.peer.tls}{ends}"
    if seen.peer.tls not in _NEW_TLS:
        return finding("TLS", "warn", told, "old TLS can be broken: tell the operator")
    if days < _SOON_DAYS:
        means = "nothing will be read when it has ended: tell the operator"
        return finding("TLS", "warn", told, means)
    return finding("TLS", "ok", told)


def _protocol(seen: Evidence) -> Finding:
    version = seen.begin.version
    if version == "1.0":
        means = "such a server closes the connection after each answer"
        return finding("protocol", "warn", "HTTP/1.0", means)
    where = f", at {seen.peer.address}" if seen.peer else ""
    return finding("protocol", "ok", f"HTTP/{version}{where}")


def _proxy(seen: Evidence) -> Finding:
    if seen.proxy is None:
        return finding("proxy", "ok", "none")
    means = "from the environment; what is found here holds for server and proxy together"
    return finding("proxy", "ok", redact(seen.proxy), means)


def _redirects(seen: Evidence) -> Finding:
    statuses = seen.begin.redirects
    if not statuses:
        return finding("redirects", "ok", "none")
    told = f"{len(statuses)} ({', '.join(map(str, statuses))}), to {seen.begin.answered_by}"
    means = f"each request costs {len(statuses)} more: give the address that they lead to"
    return finding("redirects", "warn", told, means)


def ranges(seen: Evidence) -> list[Finding]:
    """Judge what the server does with ranges.

    Parameters
    ----------
    seen : Evidence
        What it did.

    Returns
    -------
    list of Finding
        One range, several, the last bytes, and those behind the end.
    """
    found = [one_range(seen)]
    if seen.begin.status == PARTIAL:
        found += [_several(seen), _suffix(seen), _beyond(seen), _announced(seen)]
    return found


def one_range(seen: Evidence) -> Finding:
    """Judge the answer to the first range.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    Finding
        Bad where no part of a file can be had.
    """
    begin = seen.begin
    ignored = next((probe for probe in (begin, *seen.small) if probe.status == OK), None)
    if ignored is not None and "html" in ignored.headers.get("content-type", ""):
        told = f"a page of HTML came instead of the file's bytes{title_of(ignored)}"
        return finding("ranges", "bad", told, "a login or an error page? open it in a browser")
    if ignored is not None:
        means = "no part of a file can be read: download whole files, and open their folder"
        return finding("ranges", "bad", "ignored, the whole file would come", means)
    if begin.status != PARTIAL:
        return finding("ranges", "bad", what(begin), "the file can't be read while this is so")
    label = content_range(begin)
    if label is None:
        means = "a wrong part would not be noticed; see 'reading' for whether it is taken"
        return finding("ranges", "warn", "206 without Content-Range", means)
    if label[0] != 0 or label[1] + 1 - label[0] != len(begin.body):
        told = f"asked for 0-, Content-Range says {begin.headers['content-range']}"
        told += f" and {len(begin.body)} bytes came"
        return finding("ranges", "bad", told, "what comes is not what was asked for: refused")
    return finding("ranges", "ok", "206, and Content-Range says which bytes came")


def _several(seen: Evidence) -> Finding:
    probe = seen.several
    if probe is not None and probe.headers.get("content-type", "").startswith("multipart/byter"):
        return finding("several ranges", "ok", "in one answer", "a file's blocks cost one request")
    told = "no" if probe is None else f"no, {what(probe)}"
    means = "each range costs a request of its own: slower where latency is high"
    return finding("several ranges", "warn", told, means)


def _suffix(seen: Evidence) -> Finding:
    probe = seen.suffix
    label = content_range(probe) if probe is not None else None
    if probe is not None and probe.status == PARTIAL and label and label[1] + 1 == label[2]:
        return finding("last bytes", "ok", "can be asked for")
    told = "no" if probe is None else what(probe)
    means = "nothing for reading from here; whether several ranges come at once is not tried"
    return finding("last bytes", "warn", told, means)


def _beyond(seen: Evidence) -> Finding:
    if seen.beyond is not None and seen.beyond.status == UNMET:
        return finding("behind the end", "ok", f"{UNMET}, as it should be")
    told = "not asked: the size is unknown" if seen.beyond is None else what(seen.beyond)
    means = "a file that became shorter is told by Content-Range alone"
    return finding("behind the end", "warn", told, means)


def _announced(seen: Evidence) -> Finding:
    told = seen.begin.headers.get("accept-ranges")
    if told is None or told.strip().lower() == "bytes":
        return finding("Accept-Ranges", "ok", told or "not said, but they work")
    means = "they work all the same; other programs may download whole files"
    return finding("Accept-Ranges", "warn", told, means)


def identity(seen: Evidence) -> list[Finding]:
    """Judge what tells a file from another one of its name.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    list of Finding
        ETag, whether it stays, Last-Modified, HEAD.
    """
    return [_etag(seen), _steady(seen), _modified(seen), _head(seen)]


def _etag(seen: Evidence) -> Finding:
    tag = seen.begin.headers.get("etag", "")
    dated = "last-modified" in seen.begin.headers
    if tag.startswith("W/"):
        means = "equal weak tags do not promise equal bytes; size and date are compared too"
        return finding("ETag", "warn", f"weak, {tag}", means)
    if tag:
        return finding("ETag", "ok", f"strong, {tag}", "a file replaced while reading is noticed")
    means = "a file replaced by one of the same size "
    means += "within a second can't be noticed" if dated else "while reading can't be noticed"
    return finding("ETag", "warn", "none", means)


def _steady(seen: Evidence) -> Finding:
    def values(name: str) -> set[str]:
        return {probe.headers.get(name, "") for probe in seen.parts}

    sizes = {label[2] for probe in seen.parts if (label := content_range(probe))}
    check, count = "same file each time", len(seen.parts)
    if len(sizes) > 1 or len(values("last-modified")) > 1:
        told = f"{len(sizes)} sizes and {len(values('last-modified'))} dates in {count} answers"
        return finding(check, "bad", told, "the file changes, or servers with other files answer")
    if len(values("etag")) > 1:
        told = f"{len(values('etag'))} ETags of one size and date in {count} answers"
        means = "mirrors that tag one file differently: it must be made sure that it is one"
        return finding(check, "warn", told, means)
    return finding(check, "ok", f"yes, {count} answers agree")


def _modified(seen: Evidence) -> Finding:
    told = seen.begin.headers.get("last-modified")
    if told:
        return finding("Last-Modified", "ok", told)
    means = "one thing less that tells a file from the one that replaced it"
    return finding("Last-Modified", "warn", "none", means)


def _head(seen: Evidence) -> Finding:
    means = "nothing for reading from here, which never asks so; other programs may fail"
    if seen.head.status != OK:
        return finding("HEAD", "warn", what(seen.head), means)
    names = ("etag", "last-modified")
    other = [n for n in names if seen.head.headers.get(n) != seen.begin.headers.get(n)]
    if seen.total and seen.head.headers.get("content-length") not in {None, str(seen.total)}:
        other.append("size")
    if other:
        return finding("HEAD", "warn", f"other {', '.join(other)} than GET", means)
    return finding("HEAD", "ok", "agrees with GET")


def content(seen: Evidence) -> list[Finding]:
    """Judge how the bytes come.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    list of Finding
        Their type and encoding.
    """
    return [_type(seen), _encoding(seen)]


def _type(seen: Evidence) -> Finding:
    told = seen.begin.headers.get("content-type", "none")
    if "html" in told.lower():
        means = "pages of HTML are refused: a login or an error page?"
        return finding("Content-Type", "bad", told, means)
    if told.partition(";")[0].strip() in _TYPES:
        return finding("Content-Type", "ok", told)
    return finding("Content-Type", "warn", told, "nothing for reading from here")


def _encoding(seen: Evidence) -> Finding:
    said = {probe.headers.get("content-encoding", "identity").lower() for probe in seen.probes}
    said -= {"identity"}
    if not said:
        return finding("Content-Encoding", "ok", "none")
    told = f"{', '.join(sorted(said))}, though identity was asked for"
    means = "ranges of packed bytes are refused: the operator should leave .tif as it is"
    return finding("Content-Encoding", "bad", told, means)


def speed(seen: Evidence) -> list[Finding]:
    """Judge connections, latency and throughput.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    list of Finding
        Empty where there was nothing to measure.
    """
    judged: tuple[Callable[[Evidence], Finding | None], ...] = (
        _kept_open,
        _at_once,
        _latency,
        _throughput,
    )
    return [found for judge in judged if (found := judge(seen)) is not None]


def _kept_open(seen: Evidence) -> Finding | None:
    if not seen.small:
        return None
    opened = sum(probe.connections for probe in seen.small)
    if opened <= 1:
        told = f"{len(seen.small)} requests in a row over one connection"
        return finding("keep-alive", "ok", told)
    took_s = statistics.median(p.connect_s for p in seen.small if p.connections)
    told = f"{opened} connections for {len(seen.small)} requests in a row"
    means = f"each request waits for a connection first, {took_s * 1e3:.0f} ms here"
    return finding("keep-alive", "warn", told, means)


def _at_once(seen: Evidence) -> Finding | None:
    if not seen.at_once:
        return None
    count = len(seen.at_once)
    failed = Counter(what(p) for p in seen.at_once if p.status != PARTIAL)
    if not failed:
        return finding("requests at once", "ok", f"{count} were all answered")
    told = ", ".join(f"{number} times {text}" for text, number in failed.most_common(3))
    means = "they are tried again, which takes longer: use fewer with --max-connections"
    return finding("requests at once", "warn", f"of {count}: {told}", means)


def latency(seen: Evidence) -> tuple[float, float] | None:
    """Measure how long short ranges take to begin.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    tuple of float or None
        Median and 95th percentile in seconds.
    """
    times = sorted(probe.first_s for probe in seen.small if probe.status == PARTIAL)
    if not times:
        return None
    return statistics.median(times), times[math.ceil(0.95 * len(times)) - 1]


def _latency(seen: Evidence) -> Finding | None:
    measured = latency(seen)
    if measured is None:
        return None
    median, worst = measured
    count = sum(probe.status == PARTIAL for probe in seen.small)
    told = (
        f"median {median * 1e3:.0f} ms, p95 {worst * 1e3:.0f} ms, {count} ranges of {SMALL} bytes"
    )
    rounds = 2 * math.ceil(_REGION_FILES / AT_ONCE)
    means = f"{_REGION_FILES} files wait for about {rounds * median:.1f} s, whatever the bandwidth"
    return finding("latency", "warn" if median > _SLOW_S else "ok", told, means)


def throughput(seen: Evidence) -> float | None:
    """Measure how fast a long range comes.

    Parameters
    ----------
    seen : Evidence
        What the server did.

    Returns
    -------
    float or None
        Bytes a second; None where too few came to tell.
    """
    probe = seen.long
    if probe is None or probe.status != PARTIAL or len(probe.body) < _LEAST_MEASURED:
        return None
    return len(probe.body) / max(probe.body_s, 1e-6)


def _throughput(seen: Evidence) -> Finding | None:
    rate = throughput(seen)
    if rate is None or seen.long is None:
        return None
    told = f"{rate / 1e6:.1f} MB/s over one connection, of {len(seen.long.body) / 1e6:.1f} MB"
    took = f"{_REGION_MB * 1e6 / rate:.0f} s at this speed; several connections may be faster"
    means = f"{_REGION_MB} MB, a region of {_REGION_FILES} files, take {took}"
    return finding("throughput", "warn" if rate < _SLOW_BYTES_PER_S else "ok", told, means)
