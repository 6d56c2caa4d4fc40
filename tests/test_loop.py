"""The background loop and waiting on it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time

import pytest

from s2l3a_xr._loop import background_loop, gather, run


async def _give(value):
    await asyncio.sleep(0)
    return value


def test_run_waits_for_the_result_on_one_loop_for_all_threads():
    async def where():
        return asyncio.get_running_loop(), threading.current_thread().name

    loops = []
    threads = [threading.Thread(target=lambda: loops.append(run(where()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(loops) == {(background_loop(), "s2l3a_xr-loop")}


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("late"), asyncio.CancelledError])
def test_run_raises_what_the_work_raises(error):
    async def fail():
        await asyncio.sleep(0.3)  # longer than one slice of waiting
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a cancellation is none of Exception
        run(fail())
    expected = asyncio.CancelledError if isinstance(error, type) else type(error)
    assert type(caught.value).__name__ == expected.__name__


def test_run_on_the_loop_itself_is_refused_instead_of_waiting_for_ever():
    async def outer():
        return run(_give(1))

    with pytest.raises(RuntimeError, match="on the background loop itself"):
        run(outer())


def test_gather_keeps_order():
    async def late(value):
        await asyncio.sleep(0.01 * (3 - value))
        return value

    assert run(gather([late(value) for value in range(3)])) == [0, 1, 2]


def test_gather_raises_the_first_failure_as_it_is_and_cancels_the_rest():
    cancelled = []

    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fail():
        await asyncio.sleep(0.01)
        raise KeyError("first") from ValueError("cause")

    started = time.monotonic()
    with pytest.raises(KeyError, match="first") as caught:
        run(gather([wait(), gather([wait(), fail()]), wait()]))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__context__ is None  # no way back to itself
    assert len(cancelled) == 3
    assert time.monotonic() - started < 5


def test_work_that_is_cancelled_before_it_began_leaves_no_warning():
    async def fail():
        raise KeyError("at once")

    async def spread():
        return await gather([_give(1) for _ in range(10)])

    async def later():
        await asyncio.sleep(0)
        return await spread()

    for _ in range(20):
        with pytest.raises(KeyError):
            run(gather([spread(), fail(), later(), spread()]))
    gc.collect()  # "coroutine was never awaited" would be an error here


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_runs_a_loop_of_its_own():
    assert run(_give(1)) == 1
    child = os.fork()
    if child == 0:
        os._exit(0 if run(_give(2)) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run(_give(3)) == 3
