"""A cluster as users start one: a scheduler and workers from the command line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed

ROOT = Path(__file__).resolve().parent.parent.parent
_STARTING_S = 60


@contextlib.contextmanager
def cluster(workers: int, *, threads: int = 1) -> Iterator[distributed.Client]:
    """Start a scheduler and workers, each a process of its own, and a client in this one.

    Parameters
    ----------
    workers : int
        Processes.
    threads : int
        Of each of them.

    Yields
    ------
    distributed.Client
        When all workers are there.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder,
        contextlib.ExitStack() as stack,
    ):
        file = Path(folder) / "scheduler.json"
        told = ["--scheduler-file", str(file), "--dashboard-address", "127.0.0.1:0"]
        stack.enter_context(_process("scheduler", "--host", "127.0.0.1", "--port", "0", *told))
        _wait_for(file)
        for number in range(workers):
            own = Path(folder) / str(number)
            own.mkdir()
            stack.enter_context(
                _process(
                    "worker", *told, "--host", "127.0.0.1", "--no-nanny", "--memory-limit", "0",
                    "--nthreads", str(threads), "--local-directory", str(own), "--death-timeout",
                    str(_STARTING_S),
                )
            )  # fmt: skip
        client = stack.enter_context(distributed.Client(scheduler_file=str(file)))
        client.wait_for_workers(workers, timeout=_STARTING_S)
        yield client


@contextlib.contextmanager
def _process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environ["DASK_LOGGING__DISTRIBUTED"] = "error"
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], env=environ)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(file: Path) -> None:
    until = time.monotonic() + _STARTING_S
    while not file.exists():
        if time.monotonic() > until:
            msg = f"the scheduler did not write {file.name} within {_STARTING_S} s"
            raise RuntimeError(msg)
        time.sleep(0.05)


def memory_mb() -> dict[str, float]:
    """Memory of this process.

    Returns
    -------
    dict
        ``peak_mb`` and ``now_mb``, resident.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {
        "peak_mb": int(found["VmHWM"].split()[0]) / 1024,
        "now_mb": int(found["VmRSS"].split()[0]) / 1024,
    }


def scheduler_state(dask_scheduler: Any) -> dict[str, float]:
    """Look at the scheduler from within, through ``client.run_on_scheduler``.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by distributed.

    Returns
    -------
    dict
        Transitions since its start, and its memory.
    """
    return {"transitions": dask_scheduler.transition_counter, **memory_mb()}
