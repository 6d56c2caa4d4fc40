"""One background event loop per process, and the way for threads to wait on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

_T = TypeVar("_T")

_SLICE_S = 0.2
"""How long a waiting thread sleeps at most before it can see Ctrl-C."""


class _Background:
    """The loop and its thread; forked children start their own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="s2l3a_xr-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def is_here(self) -> bool:
        return self._thread is threading.current_thread()


_background = _Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_background.forget)


def background_loop() -> asyncio.AbstractEventLoop:
    """Give this process's loop, started when first asked for.

    Returns
    -------
    asyncio.AbstractEventLoop
        Runs in a daemon thread of its own.
    """
    return _background.loop()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the background loop and wait for its result.

    Parameters
    ----------
    work : coroutine
        What to do; cancelled when the waiting thread is interrupted.

    Returns
    -------
    object
        What the coroutine returns.

    Raises
    ------
    RuntimeError
        When called on the background loop itself, which would wait for ever.
    """
    if _background.is_here():
        work.close()
        msg = "run() was called on the background loop itself; await the coroutine there."
        raise RuntimeError(msg)
    loop = background_loop()
    tasks: list[asyncio.Task[Any] | None] = []

    interrupted = threading.Event()

    async def job() -> _T:
        tasks.append(asyncio.current_task())
        if interrupted.is_set():
            work.close()
            raise asyncio.CancelledError
        return await work

    def cancel() -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    try:
        future = asyncio.run_coroutine_threadsafe(job(), loop)
        while not wait([future], timeout=_SLICE_S).done:
            pass
        return future.result()
    except BaseException:
        # By the task: an interrupt may come while the future is still being handed over.
        interrupted.set()
        loop.call_soon_threadsafe(cancel)
        raise


async def gather(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run all at once; the first failure cancels the rest and is raised as it is.

    Parameters
    ----------
    work : iterable of coroutine
        What to do.

    Returns
    -------
    list
        The results, in order.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    # Raised in there, it would carry the group that carries it: pickle goes round for ever.
    raise first


class _Pool:
    """Threads for work that would hold up the loop; forked children make their own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            workers = max(2, min(4, os.cpu_count() or 1))
            self._threads = ThreadPoolExecutor(workers, thread_name_prefix="s2l3a_xr-work")
        return self._threads


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


async def in_thread(work: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401 - of the work
    """Run a function in one of a few threads.

    Parameters
    ----------
    work : callable
        Unpacks, or touches the disk.
    *args
        Its arguments.

    Returns
    -------
    object
        What it returns.
    """
    return await asyncio.get_running_loop().run_in_executor(_pool.threads(), work, *args)
