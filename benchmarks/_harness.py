"""Run contenders in fresh processes, interleaved, and gather what clock and server say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from _cases import Bound, Network, Request, job_for, perfect_plan
from _environments import HERE, Environments, UnavailableError
from _nginx import Nginx, find_nginx
from _server import Server, Traffic
from contenders import CONTENDERS, Contender

_TIMEOUT_S = 300
_PATH = re.compile(r"(?:/[\w.+-]+)+/([\w.+-]+)")
"""Paths of this machine, which have no place in a report."""
THREADS = 2
"""dask's threads in every contender: the default of the two-core machine of the goals."""


class Source(Protocol):
    """A server whose log can be read."""

    url: str

    def reset(self) -> None:
        """Clear the log."""

    def traffic(self) -> Traffic:
        """Read the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run."""

    wall_s: float
    cpu_s: float
    rss_mb: float
    requests: int
    """All requests, listings included."""
    tif_requests: int
    sent_bytes: int
    repeated_bytes: int
    """Bytes of files that were fetched more than once."""
    server_cpu_s: float = 0.0
    """CPU seconds of the server meanwhile; 0 where it does not say."""
    digest: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Row:
    """All runs of one contender in one case."""

    name: str
    contender: str = ""
    """Name among the contenders; empty for rows made otherwise."""
    settings: str = ""
    samples: list[Sample] = field(default_factory=list)
    error: str = ""
    equal: bool | None = None
    """Whether every run gave the expected pixels; None where nothing is compared."""

    def median(self, value: str) -> float:
        """Median of a figure over the runs."""
        return statistics.median(getattr(sample, value) for sample in self.samples)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal of the issue and how it went."""

    text: str
    figure: str
    verdict: str
    """``reached``, ``missed`` or ``not available``."""

    @classmethod
    def at_most(cls, text: str, value: float | None, limit: float, unit: str = "") -> Goal:
        """Judge a figure that must not be larger."""
        wanted = f"at most {_short(limit)}{unit}"
        return cls._judged(text, value, wanted, unit, lambda x: x <= limit)

    @classmethod
    def at_least(cls, text: str, value: float | None, limit: float, unit: str = "") -> Goal:
        """Judge a figure that must not be smaller."""
        wanted = f"at least {_short(limit)}{unit}"
        return cls._judged(text, value, wanted, unit, lambda x: x >= limit)

    @classmethod
    def _judged(
        cls, text: str, value: float | None, wanted: str, unit: str, holds: Callable[[float], bool]
    ) -> Goal:
        if value is None:
            return cls(text=text, figure=wanted, verdict="not available")
        verdict = "reached" if holds(value) else "missed"
        return cls(text=text, figure=f"{_short(value)}{unit}, {wanted}", verdict=verdict)


@dataclass(slots=True, kw_only=True)
class CaseResult:
    """A case with its table and its goals."""

    key: str
    title: str
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bound_s: float | None = None
    reference: str = "s2l3a_xr"
    """Row that the others are compared with."""

    def row(self, name: str) -> Row | None:
        """Find the row of a contender that ran, None where it did not."""
        return next((row for row in self.rows if row.name == name and row.samples), None)

    def value(self, name: str, figure: str) -> float | None:
        """Median figure of a contender that ran."""
        row = self.row(name)
        return None if row is None else row.median(figure)

    def ratio(self, upper: str, lower: str, figure: str) -> float | None:
        """Quotient of two contenders' medians."""
        above, below = self.value(upper, figure), self.value(lower, figure)
        return None if above is None or below is None else above / (below or 1e-9)


@dataclass(slots=True, kw_only=True)
class Bench:
    """Archive, servers and environments of one session."""

    folder: Path
    root: Path
    scratch: Path
    server: Server
    nginx: Nginx | None
    environments: Environments
    repeat: int
    quick: bool
    only: tuple[str, ...] = ()
    """Names of contenders; empty is every one of the case."""

    def run_case(  # noqa: PLR0913 - the cases differ in just these things
        self,
        case: CaseResult,
        names: Sequence[str],
        request: Request,
        network: Network,
        *,
        repeat: int | None = None,
        options: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        expected: Mapping[str, set[str]] | None = None,
        label: str = "{}",
    ) -> None:
        """Run the named contenders interleaved and add their rows to the case.

        ``options`` are keywords of our package; ``extra`` goes into the job, which every
        contender reads; ``expected`` replaces the oracle's digests; ``label`` makes the names
        of the rows, where a case runs a contender several times.
        """
        source = self.source(network)
        if expected is None:
            expected = self.expected(request)
        names = [name for name in names if not self.only or name in self.only]
        rows = [
            Row(name=label.format(name), contender=name, settings=CONTENDERS[name].settings)
            for name in names
        ]
        case.rows += rows
        job = self.job(request, source) | {"options": dict(options or {})} | dict(extra or {})
        if any(CONTENDERS[name].environment == "ours" for name in names):
            job["inventory"] = self.inventory(job)
        for turn in range(repeat or self.repeat):
            for row in rows:
                if not row.error:
                    self._progress(f"{case.key}: {row.name} ({turn + 1})")
                    self._run_into(row, job, source)
        for row in rows:
            self._compare(row, request, expected)

    def source(self, network: Network) -> Source:
        """Choose and shape the server for a network: nginx where there is nothing to simulate."""
        if not network.latency_s and not network.mbit and self.nginx is not None:
            return self.nginx
        self.server.shape(latency_s=network.latency_s, mbit=network.mbit)
        return self.server

    def server_name(self, network: Network) -> str:
        """Which server that is."""
        return "bench server" if self.source(network) is self.server else "nginx"

    def trivial(self, request: Request, network: Network, connections: int) -> list[Sample]:
        """Run the trivial client under the same load."""
        source = self.source(network)
        plan = perfect_plan(request, self.root)
        job = self.job(request, source) | {"plan": plan, "options": {"connections": connections}}
        return [
            self.measure(CONTENDERS["trivial client"], job, source)
            for _ in range(min(self.repeat, 3))
        ]

    def job(self, request: Request, source: Source) -> dict[str, Any]:
        """Give the request as plain data, read from a server."""
        return job_for(request, source.url, self.root, self.scratch)

    def expected(self, request: Request) -> dict[str, set[str]]:
        """Digests that contenders may give, by what they give (``box``, ``clip``, ``first``)."""
        orders = {request.tiles, request.tiles[::-1]}
        box, clip = set(), set()
        for tiles in orders:
            whole = replace(request, tiles=tiles, fields=())
            box.add(self.oracle(whole))
            clip.add(self.oracle(replace(request, tiles=tiles)) if request.fields else "")
        one = replace(request, months=request.months[:1], bands=request.bands[:1], fields=())
        return {"box": box, "clip": clip - {""} or box, "first": {self.oracle(one)}}

    def oracle(self, request: Request) -> str:
        """Digest of what rasterio reads from the files on disk."""
        return self.remembered("oracle", request)

    def remembered(self, name: str, request: Request) -> str:
        """Digest of an oracle, kept beside the archive, which does not change."""
        file = self.root / "digests.json"
        digests: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        key = hashlib.sha256(f"{name} {request}".encode()).hexdigest()[:24]
        if key not in digests:
            self._progress("expected pixels")
            job = self.job(request, self.server)
            digests[key] = self.run_process(CONTENDERS[name], job)["digest"]
            file.write_text(json.dumps(digests))
        return digests[key]

    def inventory(self, job: Mapping[str, Any]) -> str:
        """Path of a pickled inventory for the job; empty where the package gives none."""
        path = self.scratch / f"inventory-{len(list(self.scratch.iterdir()))}.pickle"
        try:
            self.run_process(CONTENDERS["search"], {**job, "inventory": str(path)})
        except UnavailableError as error:
            self._progress(f"no inventory: {error}")
            return ""
        return str(path)

    def run_process(self, contender: Contender, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run a contender in a fresh process of its environment.

        Raises
        ------
        UnavailableError
            With the last line that it printed, where it can't run or fails.
        """
        python = self.environments.python(contender.environment)
        with tempfile.TemporaryDirectory(dir=self.scratch) as scratch:
            path = Path(scratch) / "job.json"
            path.write_text(
                json.dumps({**job, "contender": contender.name, "scratch": str(scratch)})
            )
            command = [str(python), str(HERE / "_runner.py"), str(path)]
            return run_json(command, contender.environ)

    def imported_in_use(self, name: str, job: Mapping[str, Any]) -> list[str]:
        """Modules that a contender imports only while it reads, learned from one small window.

        They are imported before the clock starts, as every other import is.
        """
        environment = CONTENDERS[name].environment
        python = self.environments.python(environment)
        folder = self.scratch if environment == "ours" else python.parent.parent
        file = folder / "imported_in_use.json"
        known: dict[str, list[str]] = json.loads(file.read_text()) if file.exists() else {}
        if name not in known:
            trial = self.run_process(CONTENDERS[name], self.small_job(job))
            known[name] = trial["imported"]
            file.write_text(json.dumps(known))
        return known[name]

    def small_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """One file's corner of a job, with an inventory where the job has one."""
        first = job["files"][0]
        left, bottom = job["bounds"][:2]
        small = {
            **job,
            "bounds": [left, bottom, left + 5120, bottom + 5120],
            "shape": [5120 // job["resolution"]] * 2,
            "fields": [],
            "months": [first["month"]],
            "bands": [first["band"]],
            "files": [first],
            "tiles": {first["tile"]: job["tiles"][first["tile"]]},
        }
        return small | {"inventory": self.inventory(small) if job.get("inventory") else ""}

    def measure(self, contender: Contender, job: Mapping[str, Any], source: Source) -> Sample:
        """Run once and read the server's log."""
        preload = self.imported_in_use(contender.name, job) if contender.gives else []
        source.reset()
        measured = self.run_process(contender, {"preload": preload, **job})
        traffic = source.traffic()
        factor = len(job["files"]) if contender.scaled_files else 1
        known = {name: measured.pop(name) for name in ("wall_s", "cpu_s", "rss_mb")}
        measured.pop("imported")
        return Sample(
            wall_s=known["wall_s"] * factor,
            cpu_s=known["cpu_s"] * factor,
            rss_mb=known["rss_mb"],
            requests=len(traffic.records) * factor,
            tif_requests=len(traffic.tif) * factor,
            sent_bytes=traffic.sent * factor,
            repeated_bytes=traffic.repeated() * factor,
            server_cpu_s=traffic.server_cpu_s,
            digest=measured.pop("digest", ""),
            extra=measured,
        )

    def _run_into(self, row: Row, job: Mapping[str, Any], source: Source) -> None:
        try:
            row.samples.append(self.measure(CONTENDERS[row.contender], job, source))
        except UnavailableError as error:
            row.error = str(error)
            self._progress(f"{row.name} did not run: {error}")

    @staticmethod
    def _compare(row: Row, request: Request, expected: Mapping[str, set[str]]) -> None:
        contender = CONTENDERS[row.contender]
        digests = {sample.digest for sample in row.samples} - {""}
        if digests:
            gives = "first" if contender.scaled_files else contender.gives
            if gives == "clip" and not request.fields:
                gives = "box"
            row.equal = digests <= expected[gives]

    @staticmethod
    def _progress(text: str) -> None:
        sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()


def run_json(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Run a command that prints one line of JSON at its end.

    Raises
    ------
    UnavailableError
        Where it fails or takes too long.
    """
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    settings = {
        **clean,
        "PYTHONPATH": str(HERE.parent),
        "DASK_NUM_WORKERS": str(THREADS),
        **environ,
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=settings, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"took more than {_TIMEOUT_S} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(_PATH.sub(r"\1", lines[-1])[:200])
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def server_check(bench: Bench, request: Request, network: Network, bound: Bound) -> str:
    """Say how the server does under the same load with a trivial client."""
    samples = bench.trivial(request, network, 16)
    best = min(samples, key=lambda sample: sample.wall_s)
    return (
        f"Server check ({bench.server_name(network)}): a trivial client with 16 "
        f"connections fetches the same {best.sent_bytes / 1e6:.1f} MB in {best.requests} ranges "
        f"in {best.wall_s:.2f} s ({best.cpu_s:.2f} s CPU of its own"
        f"{f', {best.server_cpu_s:.2f} s of the server' if best.server_cpu_s else ''}); bound "
        f"{bound.wall_s(network):.2f} s."
    )


def open_nginx(root: Path) -> Nginx | None:
    """Start nginx where it is installed."""
    program = find_nginx()
    return Nginx(root, program) if program else None
