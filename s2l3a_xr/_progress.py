"""Running dask tasks with a bar that counts them."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
from dask.base import compute
from dask.callbacks import Callback
from tqdm.auto import tqdm

from s2l3a_xr._loop import cancel_all

_lock = threading.Lock()
_counters: list[Callable[[object], None]] = []


def run_counted(tasks: Sequence[Any], *, unit: str, shown: bool, done: int = 0) -> list[Any]:
    """Run tasks where dask runs things now, and count those that are done.

    Parameters
    ----------
    tasks : sequence of dask.delayed.Delayed
        What to do.
    unit : str
        What a task makes.
    shown : bool
        Whether there is a bar, on stderr; a single step has none.
    done : int, default 0
        How many more were done before.

    Returns
    -------
    list
        What they return, in order.
    """
    total = done + len(tasks)
    left = {task.key for task in tasks}
    hidden = not shown or total <= 1
    with tqdm(total=total, initial=done, unit=unit, disable=hidden, file=sys.stderr) as bar:

        def count(key: object, *_: object) -> None:
            with _lock:
                if key in left:
                    left.discard(key)
                    bar.update()

        client = current_client()
        if client is not None:
            from distributed import as_completed  # noqa: PLC0415 - an optional extra

            futures = client.compute(list(tasks))
            with _listening(count):
                for future in as_completed(futures):
                    future.result()
                    count(future.key)
            return [future.result() for future in futures]
        try:
            with _listening(count), Callback(posttask=count):
                return list(compute(*tasks))
        except KeyboardInterrupt:
            cancel_all()  # the threads that were at it would read on
            raise


@contextlib.contextmanager
def _listening(count: Callable[[object], None]) -> Iterator[None]:
    _counters.append(count)
    try:
        yield
    finally:
        _counters.remove(count)


def count_now(key: str) -> None:
    """Count a task whose result is certain, though it waits for others before it is done.

    Parameters
    ----------
    key : str
        The task's. Where it is counted in another process, it counts when it is done.
    """
    for count in tuple(_counters):
        count(key)


def current_client() -> Any:  # noqa: ANN401 - distributed is an optional extra
    """Give the client of the cluster that dask would use now.

    Returns
    -------
    distributed.Client or None
        None where dask computes by itself.
    """
    distributed = sys.modules.get("distributed")
    chosen = dask.config.get("scheduler", None)
    if distributed is None or chosen not in {None, "dask.distributed", "distributed"}:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None
