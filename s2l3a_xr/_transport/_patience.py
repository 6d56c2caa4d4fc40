"""When a request that failed is tried again."""

from __future__ import annotations

import random
import time
from collections import Counter

from s2l3a_xr._transport._hosts import TOO_MANY, Host
from s2l3a_xr._transport._settings import Transport
from s2l3a_xr._transport._wish import PassingError, Wish

_TRIES = {"silence": 3, "slow": 3, "nonsense": 3, "once": 2}
"""Failures of one kind that are borne, less than of all kinds together."""

_CONNECT_TRIES = 3

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_SHORT_PAUSE_S, _LONGEST_SHORT_PAUSE_S = 0.01, 0.5
"""Where the host serves others well."""

_LONGEST_GARBLED_PAUSE_S = 0.25

_SHORTS, _SHORT_BYTES = 64, 2**14
"""Pieces in which a range may come, and one more for each so many bytes."""


class Patience:
    """How often one request was tried, and what is borne.

    Parameters
    ----------
    transport : Transport
        The settings.
    wish : Wish
        What is asked for.
    """

    def __init__(self, transport: Transport, wish: Wish) -> None:
        self.attempts = 0
        self._most = transport.max_attempts
        self._refusals, self._spared = 0, 0
        self._begun_at = self._refused_at = time.monotonic()
        self._longest_s = transport.max_retry_after_s
        self._counts: Counter[str] = Counter()
        self._shorts = _SHORTS + wish.size // _SHORT_BYTES

    def pause_after(self, fault: PassingError, host: Host) -> float | None:
        """Say how long to wait before the next attempt.

        Parameters
        ----------
        fault : PassingError
            What went wrong.
        host : Host
            Where.

        Returns
        -------
        float or None
            Seconds; None where no further attempt is worth it.
        """
        kind = fault.kind
        if self._is_spared(fault, host):
            self._spared += 1
            return self._pause(fault, host)
        self._counts[kind] += 1
        if kind == "short":  # a success in part
            self.attempts -= 1
            return 0.0 if self._counts[kind] <= self._shorts else None
        tried, most = self.attempts - self._spared, _TRIES.get(kind, self._most)
        if tried >= self._most or self._counts[kind] >= most:
            return None
        if kind == "connect" and self.attempts >= _CONNECT_TRIES and not host.is_alive:
            return None
        if not host.may_retry():
            return None
        return self._pause(fault, host)

    def _is_spared(self, fault: PassingError, host: Host) -> bool:
        """Tell whether a host only refuses since it serves others: that counts as no attempt."""
        if fault.status != TOO_MANY:
            return False
        before, self._refused_at = self._refused_at, time.monotonic()
        return host.gave_since(before) and self._refused_at - self._begun_at < self._longest_s

    def _pause(self, fault: PassingError, host: Host) -> float:
        # A host that serves others well needs no rest, unless it says so; one fault is no sign.
        is_quick, count = fault.kind in {"fault", "nonsense"}, float(self.attempts)
        if fault.kind == "garbled":  # bytes too many of an answer may spoil this one, or the next
            return _jitter(_SHORT_PAUSE_S, count, _LONGEST_GARBLED_PAUSE_S)
        if fault.status == TOO_MANY:
            own = self._refusals = self._refusals + 1  # half of it, where only this is refused
            count = max(own / 2, min(own, host.strained()))
        elif is_quick and (host.is_well or count == 1):
            return _jitter(_SHORT_PAUSE_S, count, _LONGEST_SHORT_PAUSE_S)
        return _jitter(_FIRST_PAUSE_S, count, _LONGEST_PAUSE_S)


def _jitter(first_s: float, count: float, longest_s: float) -> float:
    """Give a random pause of up to double the one before."""
    return random.uniform(0, min(longest_s, first_s * 2 ** (count - 1)))  # noqa: S311 - no secret
