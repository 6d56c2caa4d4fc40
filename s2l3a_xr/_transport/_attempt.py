"""One request on its way, and how much patience it has left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from s2l3a_xr._errors import TransportError
from s2l3a_xr._transport._wish import PassingError

PATIENCE_S, PACE = 20.0, 50_000
"""A request may take 20 s and a second for each 50 kB, before its pace is looked at."""


class Attempt:
    """One request on its way.

    Parameters
    ----------
    host : str
        Host and port.
    size : int
        Bytes asked for, 0 where nobody knows.
    idle_s : float
        Silence that is borne: until an answer begins, and then; its pace is measured over as long.
    sent_s : float
        So long sending it may take.
    scope : asyncio.Timeout
        Ends it when it is rescheduled.
    heard : callable
        Called when an answer begins; returns the bytes that the host has sent so far.
    """

    __slots__ = (
        "_content", "_heard", "_scope", "asked_at", "begins_at", "host", "idle_s",
        "late_at", "marked_at", "marks", "verdict",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        size: int,
        idle_s: float,
        sent_s: float,
        scope: asyncio.Timeout,
        heard: Callable[[], int],
    ) -> None:
        now = time.monotonic()
        self._content: aiohttp.StreamReader | None = None
        self._scope = scope
        self._heard = heard
        self.host, self.asked_at = host, now
        self.idle_s, self.begins_at = idle_s, now + sent_s + idle_s
        self.late_at = now + PATIENCE_S + size / PACE
        self.marked_at, self.marks = now, (0, 0)
        self.verdict: PassingError | TransportError | None = None

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return 0 if self._content is None else self._content.total_bytes

    def sent(self) -> None:
        """Wait for the answer from now on."""
        self.begins_at = time.monotonic() + self.idle_s

    def watch(self, content: aiohttp.StreamReader) -> None:
        """Count the body of the answer that begins."""
        self._content = content
        self.mark(self._heard())

    def mark(self, received: int) -> tuple[float, int, int]:
        """Begin to measure its pace anew.

        Parameters
        ----------
        received : int
            Bytes that the host has sent so far, to all.

        Returns
        -------
        tuple
            Seconds since it was marked last, its own bytes and the host's in that time.
        """
        now, (own, all_of_it) = time.monotonic(), self.marks
        span = now - self.marked_at, self.received - own, received - all_of_it
        self.marked_at, self.marks = now, (self.received, received)
        return span

    @property
    def has_begun(self) -> bool:
        """Tell whether the answer has."""
        return self._content is not None

    def cut(self, verdict: PassingError | TransportError) -> None:
        """End it at once."""
        if self.verdict is None:
            self.verdict = verdict
            self._scope.reschedule(asyncio.get_running_loop().time())
