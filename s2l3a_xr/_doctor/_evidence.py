"""What a server did, before anybody judges it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from s2l3a_xr._transport import Peer, Probe

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)

SMALL = 1024
"""Bytes of the ranges that latency is measured with."""

AT_ONCE = 16
"""Requests that reading has in flight to one host."""

OK, PARTIAL, UNMET = 200, 206, 416
BUSY = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one file's server answered.

    Parameters
    ----------
    url : str
        The file.
    peer : Peer or None
        Who answered.
    proxy : str or None
        What stood between.
    head : Probe
        To HEAD.
    begin : Probe
        To the file's first bytes.
    total : int
        Size of the file as the first answer says it, 0 where it does not.
    several, suffix, beyond : Probe
        To two ranges in one request; the last bytes; bytes behind the file's end.
    small : sequence of Probe
        To short ranges, one after the other.
    at_once : sequence of Probe
        To short ranges, all at once.
    long : Probe
        To one long range.
    """

    url: str
    peer: Peer | None
    proxy: str | None
    head: Probe
    begin: Probe
    total: int = 0
    several: Probe | None = None
    suffix: Probe | None = None
    beyond: Probe | None = None
    small: Sequence[Probe] = ()
    at_once: Sequence[Probe] = ()
    long: Probe | None = None

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All that were made, in order."""
        single = (self.head, self.begin, self.several, self.suffix, self.beyond)
        made = (*single, *self.small, *self.at_once, self.long)
        return tuple(probe for probe in made if probe is not None)

    @property
    def parts(self) -> tuple[Probe, ...]:
        """Those that were answered with a part of the file."""
        return tuple(probe for probe in self.probes if probe.status == PARTIAL)


def content_range(probe: Probe) -> tuple[int, int, int] | None:
    """Read which bytes an answer says that it holds.

    Parameters
    ----------
    probe : Probe
        The answer.

    Returns
    -------
    tuple of int or None
        First byte, last byte and size of the file.
    """
    found = _CONTENT_RANGE.fullmatch(probe.headers.get("content-range", ""))
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def title_of(probe: Probe) -> str:
    """Give the title of a page of HTML, to be put behind what is said of it.

    Parameters
    ----------
    probe : Probe
        The answer.

    Returns
    -------
    str
        Empty where it has none.
    """
    title = re.search(rb"<title>([^<]{1,80})", probe.body[:4096], re.IGNORECASE)
    return f", with the title {title[1].decode('utf-8', 'replace')!r}" if title else ""


def what(probe: Probe) -> str:
    """Say in a few words what came back.

    Parameters
    ----------
    probe : Probe
        The answer.

    Returns
    -------
    str
        What went wrong, or the status.
    """
    return probe.fault or f"status {probe.status}"
