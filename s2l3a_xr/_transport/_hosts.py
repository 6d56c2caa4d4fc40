"""What is known of each host: whether it is alive, when it may be asked, how fast it sends."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from urllib.parse import urlsplit

from s2l3a_xr._errors import TransportError
from s2l3a_xr._transport._attempt import Attempt
from s2l3a_xr._transport._polite import Crew, announced, working_for
from s2l3a_xr._transport._settings import Transport
from s2l3a_xr._transport._tally import count
from s2l3a_xr._transport._wish import PassingError

RECENT_S = 10.0
"""A host that gave something so short a time ago is alive."""

_WELL_S = 2.0
"""A host that gave something so short a time ago needs no rest."""

_TRICKLE, _DRIBBLE = 100, 10_000
"""Bytes a second below which a request drips: its own, and all of its host's together."""

_FAIR_SHARE = 0.1
"""Share of the others' mean pace below which a late request is cut."""

_LOOK_S = 0.5

TOO_MANY, _UNAVAILABLE = 429, 503
_FEW_RETRIES = 3
"""Of all requests together, where a host only failed at the call before."""

_FIRST_REST_S, _LONGEST_REST_S = 0.05, 5.0
_LEAST_WINDOW_S = 2.0
"""Paces are not judged over less."""

_MOST_STRAIN = 7
"""Refusals of a host that are counted at most, for right answers to weigh up."""

_MOST_WAITS = 5
"""So many times the longest announced wait is borne in all, while nothing right comes."""

_SILENT_HINT = "try again later, or let Transport(give_up_s=...) wait longer"
_BUSY_HINT = "try again later, or let Transport(max_retry_after_s=...) wait longer"

asked_at: ContextVar[float] = ContextVar("asked_at", default=math.inf)
"""When the work that a request belongs to began."""


class Host:
    """One host as all requests of a session find it.

    It belongs to one event loop and needs no lock.

    Parameters
    ----------
    name : str
        Host and port.
    transport : Transport
        The settings.
    """

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self.takes_many: bool | None = None
        self.has_warned = False
        self._transport = transport
        most = min(transport.max_connections, transport.cluster_connections or math.inf)
        self._slots = asyncio.Semaphore(int(most))
        self._crew: Crew | None = None
        self._live: set[Attempt] = set()
        self._open_again = 0.0
        self._shut_at: float | None = None
        # Silence counts while somebody waits for an answer: no idle time, no announced wait.
        self._silent_s, self._ticked = 0.0, 0.0
        self._given_up_at, self._is_doubtful = -math.inf, False
        self._verdict: tuple[str, str, int | None] = ("", "", None)
        self._success_at = -math.inf
        self._refusals, self._refused_at, self._strain = 0, -math.inf, 0
        self._quota, self._spent_at = 2 * transport.max_attempts, -math.inf
        self._finished, self._seen = 0, 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_well(self) -> bool:
        """Tell whether it answers rightly all the time."""
        return time.monotonic() - self._success_at < _WELL_S

    @property
    def is_alive(self) -> bool:
        """Tell whether it answered rightly a short time ago."""
        return time.monotonic() - self._success_at < RECENT_S

    def gave_since(self, moment: float) -> bool:
        """Tell whether it answered rightly since then."""
        return self._success_at > moment

    def succeeded(self) -> None:
        """Note a right answer."""
        self._success_at = time.monotonic()
        self._shut_at = None
        self._quota = 2 * self._transport.max_attempts
        self._refusals, self._strain = 0, max(0, self._strain - 1)

    def heard(self) -> int:
        """Note that a byte came, and tell how many bodies had so far."""
        self._tick()
        self._silent_s, self._is_doubtful = 0.0, False
        return self._received

    def shut(self, pause_s: float, status: int | None) -> None:
        """Ask nothing for as long as the host announced, unless it does so without end."""
        now, longest_s = time.monotonic(), self._transport.max_retry_after_s
        self._rest(min(pause_s, longest_s))
        if self._shut_at is None:
            self._shut_at = now
        if self._open_again - self._shut_at > _MOST_WAITS * longest_s:
            asked_s = now - self._shut_at
            self._shut_at, self._open_again = None, now
            self._give_up(f"only asks to wait, for {asked_s:.0f} s by now", _BUSY_HINT, status)

    def refused(self, status: int | None, asked_at: float) -> None:
        """Rest where a host says again and again, and nothing else, that too much is asked.

        Parameters
        ----------
        status : int or None
            Of its answer, which announces no wait.
        asked_at : float
            When it was asked: what was on its way at the last refusal says nothing new.
        """
        is_about_all = status == TOO_MANY or (status == _UNAVAILABLE and not self.is_alive)
        if is_about_all and asked_at > self._refused_at:
            self._refused_at, self._refusals = time.monotonic(), self._refusals + 1
            if self._refusals > 1:
                self._rest(min(_LONGEST_REST_S, _FIRST_REST_S * 2 ** (self._refusals - 2)))

    def strained(self) -> int:
        """Note that it answered that too much is asked.

        Returns
        -------
        int
            How often, each right answer taken off: about one where it serves most requests.
        """
        self._strain = min(_MOST_STRAIN, self._strain + 1)
        return self._strain

    def _rest(self, pause_s: float) -> None:
        """Ask nothing for a while, nor shall other workers of a cluster."""
        self._open_again = max(self._open_again, time.monotonic() + pause_s)
        if (crew := self._current_crew()) is not None:
            crew.tell(pause_s)

    def _current_crew(self) -> Crew | None:
        worker = working_for.get()
        if worker is None:
            return None
        if self._crew is None or self._crew.worker is not worker:
            self._crew = Crew(worker, self.name, self._transport.cluster_connections)
        return self._crew

    def may_retry(self) -> bool:
        """Tell whether a failed request may be tried again.

        Requests to a host that has had no success for a while share some retries, so that
        each of many does not go through all of its own. Where these were spent and nothing came
        right since, later calls have but a few.

        Returns
        -------
        bool
            False where the retries are spent.
        """
        now, asked = time.monotonic(), asked_at.get()
        if self._spent_at > self._success_at:
            if asked > self._spent_at:  # somebody asks anew
                self._quota, self._spent_at = _FEW_RETRIES, now
        elif now - max(self._success_at, asked) < RECENT_S:
            return True
        if self._quota == 0:
            return False
        self._quota -= 1
        if self._quota == 0:
            self._spent_at = now
        return True

    @contextlib.asynccontextmanager
    async def attempt(self, size: int, idle_s: float) -> AsyncIterator[Attempt]:
        """Let one request through when it is its turn, and watch it.

        Parameters
        ----------
        size : int
            Bytes asked for, 0 where nobody knows.
        idle_s : float
            Silence that is borne.

        Yields
        ------
        Attempt
            To be told what to count.

        Raises
        ------
        TransportError
            The host is given up.
        PassingError
            The request was cut, since it does not advance.
        """
        crew = self._current_crew()
        shared = contextlib.nullcontext() if crew is None else crew.slot()
        async with self._slots, shared:
            while (left := max(self._open_again, announced(self.name)) - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if self._given_up_at > asked_at.get():
                raise self._given_up()
            attempt: Attempt | None = None
            try:
                async with asyncio.timeout(None) as scope:
                    sent_s = self._transport.connect_timeout_s
                    attempt = Attempt(self.name, size, idle_s, sent_s, scope, self.heard)
                    self._begin(attempt)
                    try:
                        yield attempt
                    finally:
                        self._end(attempt)
            except TimeoutError as exc:
                if attempt is None or attempt.verdict is None:
                    raise
                raise attempt.verdict from exc

    def _begin(self, attempt: Attempt) -> None:
        self._tick()
        self._live.add(attempt)
        count(self.name, "requests")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._next_look(), self._look)

    def _end(self, attempt: Attempt) -> None:
        self._tick()
        self._live.discard(attempt)
        self._finished += attempt.received
        count(self.name, "bytes", attempt.received)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._live:
            self._silent_s += now - self._ticked
        self._ticked = now

    @property
    def _received(self) -> int:
        return self._finished + sum(attempt.received for attempt in self._live)

    @property
    def _limit_s(self) -> float:
        """Silence that is borne; one attempt's where nothing came since the host was given up."""
        longest_s = self._transport.give_up_s
        if not self._is_doubtful:
            return longest_s
        idle_s = max((attempt.idle_s for attempt in self._live), default=longest_s)
        return min(longest_s, self._transport.connect_timeout_s + idle_s)

    def _next_look(self) -> float:
        return max(0.01, min(_LOOK_S, self._limit_s / 20, self._limit_s - self._silent_s))

    def _look(self) -> None:
        """Look after the requests on their way, from time to time."""
        self._timer = None
        if not self._live:
            return
        received = self._received
        if received > self._seen:
            self.heard()
        self._seen = received
        self._tick()
        if self._silent_s >= self._limit_s:
            self._is_doubtful, self._silent_s = True, 0.0
            self._give_up("is silent: no byte came from it to any request", _SILENT_HINT)
        else:
            self._compare_paces(received)
        self._timer = asyncio.get_running_loop().call_later(self._next_look(), self._look)

    def _give_up(self, why: str, hint: str, status: int | None = None) -> None:
        self._given_up_at, self._verdict = time.monotonic(), (why, hint, status)
        for attempt in self._live:
            attempt.cut(self._given_up())

    def _given_up(self) -> TransportError:
        why, hint, status = self._verdict
        return TransportError(f"{self.name} {why}", hint=hint, status=status)

    def _compare_paces(self, received: int) -> None:
        """Cut requests that drip, and late ones that do not advance while others do."""
        now = time.monotonic()
        for attempt in self._live:
            if not attempt.has_begun:
                if now > attempt.begins_at:
                    msg = f"no answer began for {attempt.idle_s:g} s"
                    attempt.cut(PassingError(msg, kind="slow"))
                continue
            if not attempt.received:  # silence until then is looked at apart
                attempt.mark(received)
                continue
            if now - attempt.marked_at < max(attempt.idle_s, _LEAST_WINDOW_S):
                continue
            window, own, all_of_it = attempt.mark(received)
            least = _TRICKLE * window
            if now > attempt.late_at:
                others = (all_of_it - own) / max(1, len(self._live) - 1)
                least = max(least, _FAIR_SHARE * others)
            if own < least or all_of_it < _DRIBBLE * window:
                msg = f"only {own} bytes came in {window:.0f} s"
                attempt.cut(PassingError(msg, kind="slow"))


class Hosts:
    """All hosts that a session has asked.

    Parameters
    ----------
    transport : Transport
        The settings.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._hosts: dict[str, Host] = {}

    def of(self, url: str) -> Host:
        """Give what is known of a URL's host.

        Parameters
        ----------
        url : str
            http or https.

        Returns
        -------
        Host
            The same for each URL of one host and port.

        Raises
        ------
        TransportError
            It is no URL.
        """
        try:
            name = urlsplit(url).netloc.rpartition("@")[2].lower()
        except ValueError as exc:
            msg = f"that is no address: {exc}"
            raise TransportError(msg, url=url, attempts=1, hint="see how it is spelt") from None
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(name, self._transport)
        return host
