"""One background event loop per process, and the way for threads to wait on it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from s2l3a_xr._errors import S2L3AError

_T = TypeVar("_T")

_SLICE_S = 0.2
"""How long a waiting thread sleeps at most before it can see Ctrl-C."""

_LAST_WAIT_S = 0.5
"""How long the interpreter's end waits for connections to be closed."""


class _Background:
    """The loop and its thread; forked children start their own."""

    def __init__(self) -> None:
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.is_over = False
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.jobs: set[asyncio.Task[Any]] = set()

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.is_over:
                msg = (
                    "nothing can be read any more, the interpreter is shutting down; read earlier."
                )
                raise RuntimeError(msg)
            if self._loop is None or not self._is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name="s2l3a_xr-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def keep(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self.jobs.add(task)
            task.add_done_callback(self.jobs.discard)

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def is_here(self) -> bool:
        return self._thread is threading.current_thread()

    def serves(self, loop: asyncio.AbstractEventLoop) -> bool:
        return loop is self._loop and self._is_alive()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run until something ends the loop; then nobody may be left waiting for it."""
        try:
            loop.run_forever()
        finally:
            with self._lock:
                if self._loop is loop:
                    self._loop = None  # whoever comes now starts another one
            loop.run_until_complete(self._wind_up())
            loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in self.closers:
            await close()

    def end(self) -> None:
        """End for good. Threads that the interpreter waits for would read on, or wait on."""
        with self._lock:
            self.is_over = True
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_LAST_WAIT_S)


_background = _Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_background.forget)
# Before executors are waited for, which atexit is not; they register in the same way.
getattr(threading, "_register_atexit", atexit.register)(_background.end)


def close_with_loop(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have something closed on the background loop when that ends.

    Parameters
    ----------
    close : callable
        Gives a coroutine, which must work again for the next loop.
    """
    _background.closers.append(close)


def cancel_all() -> None:
    """Cancel all that `run` waits for in any thread: the user wants it to stop."""

    def cancel() -> None:
        for task in list(_background.jobs):
            task.cancel()

    background_loop().call_soon_threadsafe(cancel)


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
        When called on the background loop itself, which would wait for ever; or while the
        interpreter is shutting down.
    S2L3AError
        The loop's thread died; the next call starts another one.
    """
    if _background.is_here():
        work.close()
        msg = "run() was called on the background loop itself; await the coroutine there."
        raise RuntimeError(msg)
    loop = background_loop()
    tasks: list[asyncio.Task[Any] | None] = []

    interrupted = threading.Event()

    async def job() -> _T:
        task = asyncio.current_task()
        tasks.append(task)
        if interrupted.is_set():
            work.close()
            raise asyncio.CancelledError
        _background.keep(task)
        return await work

    def cancel() -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    try:
        future = asyncio.run_coroutine_threadsafe(job(), loop)
        while not wait([future], timeout=_SLICE_S).done:
            _check_served(loop)
        try:
            return future.result()
        except CancelledError:
            _check_served(loop)
            raise
    except BaseException:
        # By the task: an interrupt may come while the future is still being handed over.
        interrupted.set()
        with contextlib.suppress(RuntimeError):  # closed: nothing is left to be cancelled
            loop.call_soon_threadsafe(cancel)
        raise


def _check_served(loop: asyncio.AbstractEventLoop) -> None:
    if not _background.serves(loop):
        msg = "the background loop ended while it was waited for; do the same again."
        raise S2L3AError(msg)


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


async def to_its_end(work: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401 - of the work
    """Run a function that takes long in a thread of its own; being cancelled waits for it.

    Parameters
    ----------
    work : callable
        Writes something that should not go on when nobody waits for it any more.
    *args
        Its arguments.

    Returns
    -------
    object
        What it returns.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
