"""One run of one contender in a process of its own: ``python _runner.py job.json``.

Imports and preparation come before the clock, also of what the package imports only when used
(``preload``, learned from a small run). Prints one line of JSON: wall and CPU seconds,
peak memory, and a digest of the pixels for the comparison. A run may return an array, a dict of
further figures, or a function that gives one of them after the clock has stopped.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import contenders
from _readers import digest

try:
    import resource
except ImportError:  # Windows: CPU from the interpreter, no peak memory
    resource = None  # type: ignore[assignment]


def main() -> None:
    """Run the job of the command line."""
    job = json.loads(Path(sys.argv[1]).read_text())
    contender = contenders.CONTENDERS[job["contender"]]
    run = contender.prepare(job)
    for name in job.get("preload", ()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    known = set(sys.modules)
    cpu, wall = _cpu_s(), time.perf_counter()
    outcome = run()
    measured: dict[str, Any] = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": _cpu_s() - cpu,
        "rss_mb": _peak_mb(),
        "imported": sorted(set(sys.modules) - known),
    }
    if callable(outcome):
        outcome = outcome()
    if isinstance(outcome, dict):
        measured |= outcome
    elif outcome is not None:
        measured["digest"] = digest(outcome.shape, [outcome])
    sys.stdout.write(json.dumps(measured) + "\n")


def _cpu_s() -> float:
    if resource is None:
        return time.process_time()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    """Peak memory of this process; ``ru_maxrss`` would also count its parent's before the exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
