"""Run one reader, each time in a process of its own: ``python child.py READER``.

Reads jobs as lines of JSON and answers each with a line when it has ended, in any order. The
process imports everything the reader needs and reads nothing itself; each job is a fork of it,
so that no run finds a cache, a connection or a fault of the one before. A run that takes longer
than its ``limit_s`` is killed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import pickle
import select
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from faults.readers import READERS

_POLL_S = 0.02
_ABOUT_CODE = (DeprecationWarning, FutureWarning, ImportWarning, PendingDeprecationWarning)
"""Warnings for programmers, not of the data."""


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    scratch: Path
    ends: float


def main() -> None:
    """Answer jobs until the input ends."""
    reader = sys.argv[1]
    running: dict[int, _Run] = {}
    waiting = b""
    os.set_blocking(0, False)
    while True:
        readable = select.select([0], [], [], _POLL_S if running else None)[0]
        if readable:
            got = os.read(0, 1 << 20)
            if not got:
                break
            waiting += got
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                _begin(reader, json.loads(line), running)
        _gather(running)
    for pid in running:
        _kill(pid)


def _begin(reader: str, job: dict[str, Any], running: dict[int, _Run]) -> None:
    """Fork for a job, or import what earlier jobs imported while they read."""
    if "imports" in job:
        for name in job["imports"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        return
    pid = os.fork()
    if not pid:
        _run(reader, job)
    running[pid] = _Run(job["number"], Path(job["scratch"]), time.monotonic() + job["limit_s"])


def _gather(running: dict[int, _Run]) -> None:
    for pid, run in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        outcome = run.scratch / "outcome.json"
        if ended and outcome.exists():
            answer = json.loads(outcome.read_text())
        elif ended:
            answer = {"kind": "died", "error": f"exit status {os.waitstatus_to_exitcode(status)}"}
        elif time.monotonic() > run.ends:
            _kill(pid)
            os.waitpid(pid, 0)
            answer = {"kind": "hung", "error": "killed"}
        else:
            continue
        del running[pid]
        sys.stdout.write(json.dumps({"number": run.number, **answer}) + "\n")
        sys.stdout.flush()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(reader: str, job: dict[str, Any]) -> NoReturn:
    """Read in the fork, and leave what came of it beside the job."""
    scratch = Path(job["scratch"])
    log = os.open(scratch / "output.txt", os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = _measure(reader, job, scratch)
    answer["warnings"] = [
        f"{w.category.__name__}: {w.message}"
        for w in caught
        if not issubclass(w.category, _ABOUT_CODE)
    ]
    answer["log"] = [record.getMessage()[:300] for record in records]
    (scratch / "outcome.part").write_text(json.dumps(answer))
    (scratch / "outcome.part").rename(scratch / "outcome.json")
    os._exit(0)


def _measure(reader: str, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - every interpreter here has it

    begun = time.perf_counter()
    known = set(sys.modules)
    try:
        run = READERS[reader].prepare(job)
        begun = time.perf_counter()
        pixels = run()
        answer: dict[str, Any] = {"kind": "pixels", "wall_s": time.perf_counter() - begun}
        np.save(scratch / "pixels.npy", pixels)
    except BaseException as error:
        answer = {"kind": "error", "wall_s": time.perf_counter() - begun, **_told(error)}
    # in their order: _asyncio before asyncio breaks both
    answer["imported"] = [name for name in sys.modules if name not in known]
    return answer


def _told(error: BaseException) -> dict[str, Any]:
    """All that an error says: its text, that of its causes, and its facts."""
    with contextlib.suppress(Exception):
        error = pickle.loads(pickle.dumps(error))
    names = ("url", "item", "band", "byte_range", "block", "attempts", "status")
    facts = {name: getattr(error, name, None) for name in names}
    return {
        "error": f"{type(error).__module__}.{type(error).__name__}: {error}",
        "facts": {name: value for name, value in facts.items() if value is not None},
        "traceback": "".join(traceback.format_exception(error))[-4000:],
        "panic": "Panic" in type(error).__name__,
    }


if __name__ == "__main__":
    main()
