"""What the workers of one dask cluster share of a host: slots, and waits that it announced.

Slots are leases of a `distributed.Semaphore`, so those of a worker that died come free. One that a
request gave back is used by the next one here for a while, which saves asking the scheduler each
time. An announced wait is sent to all workers, and noted at the scheduler for those to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from s2l3a_xr._errors import S2L3AError

_log = logging.getLogger(__name__)

_KEPT_S = 1.0
"""How long a slot goes from request to request here, before other workers may have it."""

_NEWS_S = 0.1
"""A wait that ends so much later than the known one is told to the others."""

working_for: ContextVar[Any] = ContextVar("working_for", default=None)
"""The dask worker for whose task something is read."""

_open_again: dict[str, float] = {}


def announced(host: str) -> float:
    """Tell until when a host wants to be left alone, by what other processes heard.

    Parameters
    ----------
    host : str
        Host and port.

    Returns
    -------
    float
        By `time.monotonic`.
    """
    return _open_again.get(host, 0.0)


def hold_back(host: str, pause_s: float) -> None:
    """Leave a host alone, in all sessions of this process.

    Parameters
    ----------
    host : str
        Host and port.
    pause_s : float
        From now on, in seconds.
    """
    _open_again[host] = max(announced(host), time.monotonic() + pause_s)


class Crew:
    """The workers of a cluster, as one of them sees them when it asks a host.

    Parameters
    ----------
    worker : distributed.Worker
        This one.
    host : str
        Host and port.
    limit : int or None
        Most requests that all workers together have on their way.
    """

    def __init__(self, worker: Any, host: str, limit: int | None) -> None:  # noqa: ANN401 - an optional extra
        self.worker = worker
        self._host = host
        self._limit = limit
        self._semaphore: Any = None
        self._waiting: deque[asyncio.Future[float]] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._joined: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the cluster's slots.

        Yields
        ------
        None
            While it is held.

        Raises
        ------
        S2L3AError
            The scheduler can't be reached.
        """
        if self._joined is None:
            self._joined = asyncio.create_task(self._join())
        await asyncio.shield(self._joined)
        if self._limit is None:
            yield
            return
        since = await self._take()
        try:
            yield
        finally:
            self._pass_on(since)

    def tell(self, pause_s: float) -> None:
        """Have all workers leave the host alone.

        Parameters
        ----------
        pause_s : float
            From now on, in seconds.
        """
        if time.monotonic() + pause_s > announced(self._host) + _NEWS_S:
            hold_back(self._host, pause_s)
            self._send(self._spread(pause_s))

    def _send(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Have the worker's own loop do something."""
        return asyncio.run_coroutine_threadsafe(work, self.worker.loop.asyncio_loop)

    @property
    def _key(self) -> str:
        return f"s2l3a_xr-wait-{self._host}"

    async def _spread(self, pause_s: float) -> None:
        from distributed.protocol.pickle import dumps  # noqa: PLC0415 - an optional extra

        message = {
            "op": "run",
            "function": dumps(hold_back),
            "args": dumps((self._host, pause_s)),
            "kwargs": dumps({}),
            "wait": True,
        }
        scheduler = self.worker.scheduler
        try:
            await scheduler.set_metadata(keys=[self._key], value=(time.time(), pause_s))
            await scheduler.broadcast(msg=message, on_error="ignore")
        except OSError as exc:
            _log.warning("other workers can't be told that %s asks to wait: %s", self._host, exc)

    async def _join(self) -> None:
        """Hear of what was announced before this worker came."""

        async def look() -> tuple[float, float]:
            said: tuple[float, float]
            said = await self.worker.scheduler.get_metadata(keys=[self._key], default=(0.0, 0.0))
            return said

        try:
            told_at, pause_s = await asyncio.wrap_future(self._send(look()))
        except Exception as exc:
            _log.warning("the scheduler can't tell whether %s asked to wait: %s", self._host, exc)
            return
        left = told_at + pause_s - time.time()
        if left > 0:  # clocks of machines differ
            hold_back(self._host, min(left, pause_s))

    async def _take(self) -> float:
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._ask()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            raise

    def _pass_on(self, since: float) -> None:
        """Give a slot to the next request here, or back to the cluster."""
        while self._waiting and time.monotonic() - since < _KEPT_S:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(since)
                return
        self._send(self._release())
        self._ask()

    def _ask(self) -> None:
        """Have one request for a slot at the scheduler while somebody waits here."""
        if self._asking is None and self._waiting:
            self._asking = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while any(not turn.done() for turn in self._waiting):
                await asyncio.wrap_future(self._send(self._acquire()))
                self._pass_on(time.monotonic())
        except Exception as exc:  # whatever distributed raises of a lost scheduler
            why = str(exc) or repr(exc)
            msg = f"the scheduler gives no slot for {self._host}: {why}; see its log."
            for turn in self._waiting:
                if not turn.done():
                    turn.set_exception(S2L3AError(msg))
            self._waiting.clear()
        finally:
            self._asking = None
        self._ask()

    async def _acquire(self) -> None:
        if self._semaphore is None:
            from distributed import Semaphore  # noqa: PLC0415 - an optional extra

            self._semaphore = Semaphore(
                max_leases=self._limit,
                name=f"s2l3a_xr-{self._limit}-{self._host}",
                scheduler_rpc=self.worker.scheduler,
                loop=self.worker.loop,
            )
        await self._semaphore.acquire()

    async def _release(self) -> None:
        await self._semaphore.release()
