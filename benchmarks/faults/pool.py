"""The readers' processes, and everything else of one session."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _environments import HERE, Environments, UnavailableError
from numpy.typing import NDArray

from faults import scene
from faults.judge import Outcome, judge
from faults.readers import OURS, QUICK, READERS
from faults.server import Fault, FaultServer

_WARM_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run: who reads what, and how long it may take."""

    reader: str
    fault: Fault = field(default_factory=Fault)
    folder: str = "deflate"
    """The archive below the server's root."""
    months: Sequence[int] = (scene.SEEDS,)
    bands: Sequence[str] = scene.BANDS[:1]
    limit_s: float = 20.0
    token: str = ""
    """Seed of the dice, and name of the log; a new one for every run where it is empty."""
    accepted: Sequence[NDArray[Any]] = ()
    """Right answers, where they are not the window's pixels."""
    href: str = ""
    """What a catalogue has in the place of each file's URL."""


class Child:
    """The process of one reader, which forks for each run."""

    def __init__(self, reader: str, environments: Environments) -> None:
        spec = READERS[reader]
        python = environments.python(spec.environment)
        clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        settings = {"PYTHONPATH": str(HERE.parent), "DASK_NUM_WORKERS": "2", **spec.environ}
        self._process = subprocess.Popen(
            [str(python), str(HERE / "faults" / "child.py"), reader],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**clean, **settings},
        )
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, job: Mapping[str, Any]) -> None:
        """Write a line."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Fork for a job and wait for what it leaves."""
        number, future = next(self._numbers), Future[dict[str, Any]]()
        self._waiting[number] = future
        self.send({**job, "number": number})
        return future.result(job["limit_s"] + 60)

    def close(self) -> None:
        """End the process and its forks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            answer = json.loads(line)
            self._waiting.pop(answer["number"]).set_result(answer)
        for future in self._waiting.values():
            future.set_exception(UnavailableError("the reader's process ended"))


class Pool:
    """All readers' processes of a session, made when first asked for; a context manager.

    Parameters
    ----------
    server : FaultServer
        Where everybody reads.
    environments : Environments
        The interpreters.
    only : sequence of str
        Names of readers; empty is every one.
    repeat : int
        Runs of what is repeated at all.
    quick : bool
        Whether cases may take a sample of what they would try.
    """

    def __init__(
        self,
        server: FaultServer,
        environments: Environments,
        *,
        only: Sequence[str] = (),
        repeat: int = 10,
        quick: bool = False,
    ) -> None:
        self.server, self.environments = server, environments
        self.only, self.repeat, self.quick = only, repeat, quick
        self.root = scene.build(environments.folder)
        self.scratch = Path(tempfile.mkdtemp(prefix="faults-"))
        self.kept: dict[str, Any] = {}
        """Outcomes that a later case judges too."""
        self.absent: dict[str, str] = {}
        """Readers that can't run here, and why."""
        self._children: dict[str, Child] = {}
        self._numbers = itertools.count()

    def __enter__(self) -> Pool:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the readers' processes, and leave no file."""
        for child in self._children.values():
            child.close()
        for path in sorted(self.scratch.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        self.scratch.rmdir()

    def readers(self, *, cubes: bool = False) -> list[str]:
        """Names of those that take part and can run here, with everything imported."""
        wanted = self.only or (QUICK if self.quick else READERS)
        asked = [name for name in READERS if name in wanted]
        return [n for n in asked if (READERS[n].cubes or not cubes) and self._start(n)]

    def _start(self, name: str) -> bool:
        if name in self._children or name in self.absent:
            return name in self._children
        try:
            child = Child(name, self.environments)
            trial = child.run(self._job(Task(reader=name, limit_s=_WARM_LIMIT_S))[0])
            child.send({"imports": trial.get("imported", [])})
        except UnavailableError as error:
            self.absent[name] = str(error)
            return False
        if trial["kind"] != "pixels":
            self.absent[name] = f"fails where nothing goes wrong: {trial.get('error', '')[:150]}"
            child.close()
            return False
        self._children[name] = child
        return True

    def run(self, task: Task) -> Outcome:
        """Run once and judge."""
        return self.run_for_pixels(task)[0]

    def run_for_pixels(self, task: Task) -> tuple[Outcome, NDArray[Any] | None]:
        """Run once, judge, and give the pixels too, where some came."""
        job, url = self._job(task)
        answer = self._children[task.reader].run(job)
        saved = Path(job["scratch"]) / "pixels.npy"
        pixels = np.load(saved) if saved.exists() and answer["kind"] == "pixels" else None
        saved.unlink(missing_ok=True)
        right = task.accepted or [scene.expected(task.months, task.bands)]
        return judge(answer, pixels, right, url), pixels

    def run_all(self, tasks: Iterable[Task], *, at_once: int, title: str = "") -> list[Outcome]:
        """Run many, in their order where one at a time."""
        tasks = list(tasks)
        sys.stderr.write(f"  {title}: {len(tasks)} runs\n")
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(self.run, tasks))

    def _job(self, task: Task) -> tuple[dict[str, Any], str]:
        url = self.server.url(task.fault, task.folder, task.token)
        scratch = self.scratch / str(next(self._numbers))
        scratch.mkdir()
        job = scene.job(url, months=task.months, bands=task.bands)
        job |= {"scratch": str(scratch), "limit_s": task.limit_s}
        if task.href:
            job["files"] = [{**file, "url": task.href} for file in job["files"]]
        elif task.reader == OURS:
            inventory = self._inventory(task, job)
            (scratch / "inventory").write_bytes(pickle.dumps(inventory))
            job["inventory"] = str(scratch / "inventory")
        return job, url

    def _inventory(self, task: Task, job: Mapping[str, Any]) -> Any:
        """Give what the package finds in the folder on disk, at the server's place."""
        from _readers import aoi  # noqa: PLC0415 - geopandas, once

        from s2l3a_xr import search_l3a  # noqa: PLC0415

        key = f"inventory {task.folder} {task.months} {task.bands}"
        if key not in self.kept:
            self.kept[key] = search_l3a(
                aoi=aoi(job),
                years=job["years"],
                months=job["months"],
                bands=job["bands"],
                archive=self.root / task.folder / "S2_L3A_WASP" / "files",
            )
        return replace(self.kept[key], archive_url=job["archive"])
