"""Case ``cube``: 48 files of a link on which every request fails with some probability."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from faults import scene
from faults.judge import Outcome
from faults.pool import Pool, Task
from faults.readers import OURS
from faults.report import Figure, Report, reached, seconds
from faults.server import Fault

MIX = "s500+s502+s503+s504+s429+reset0+closemid+resetmid"
SHARES = (0.0, 0.05, 0.2, 0.4)
RIVAL = "lazycogs"
"""Whose wall time is the goal."""
_LIMIT_S = 60.0

Results = dict[tuple[str, float], list[Outcome]]


def run(pool: Pool) -> Report:
    """Read the cube again and again, the rivals in turn and alone, all others side by side."""
    readers = pool.readers(cubes=True)
    timed = [name for name in readers if name in {OURS, RIVAL}]
    others = [name for name in readers if name not in timed]
    results: Results = {}
    for names, at_once in ((timed, 1), (others, 4)):
        tasks = list(_tasks(pool, names))
        outcomes = pool.run_all(tasks, at_once=at_once, title=f"cube, {', '.join(names)}")
        for (share, name), outcome in zip(_turns(pool, names), outcomes, strict=True):
            results.setdefault((name, share), []).append(outcome)
    return Report(
        title="48 files (12 months x 4 bands), every request fails with probability p",
        figures=[figure for share in SHARES[1:] for figure in _figures(results, readers, share)],
        head=("reader", *(f"p = {share:.0%}" if share else "no fault" for share in SHARES)),
        rows=[[name, *(_cell(results[name, share]) for share in SHARES)] for name in readers],
        notes=(
            f"Runs with all pixels right of all runs; median wall time of those. Faults: {MIX}.",
            "Every request can be hit: HEAD, headers and data. Listings are not in the clock.",
        ),
    )


def _turns(pool: Pool, names: Iterable[str]) -> list[tuple[float, str]]:
    """Share and reader of every run, in order."""
    repeat = 1 if pool.quick else pool.repeat
    return [
        (share, name)
        for share in SHARES
        for _ in range(min(repeat, 3) if not share else repeat)
        for name in names
    ]


def _tasks(pool: Pool, names: list[str]) -> Iterable[Task]:
    for number, (share, name) in enumerate(_turns(pool, names)):
        fault = Fault(kind=MIX, often=f"p{share:g}", scope="any") if share else Fault()
        yield Task(
            reader=name,
            fault=fault,
            months=scene.MONTHS,
            bands=scene.BANDS,
            limit_s=_LIMIT_S,
            token=f"cube-{number}-{''.join(filter(str.isalnum, name))}",
        )


def _right(outcomes: list[Outcome]) -> int:
    return sum(outcome.survived for outcome in outcomes)


def _wall(outcomes: list[Outcome]) -> float | None:
    times = [outcome.wall_s for outcome in outcomes if outcome.survived]
    return statistics.median(times) if times else None


def _cell(outcomes: list[Outcome]) -> str:
    text = f"{_right(outcomes)} of {len(outcomes)}"
    silent = sum(outcome.silent for outcome in outcomes)
    hung = sum(outcome.verdict == "hung" for outcome in outcomes)
    if _right(outcomes):
        text += f", {seconds(_wall(outcomes))}"
    return text + (f", {silent} silently wrong" if silent else "") + (f", {hung} hung" * bool(hung))


def _figures(results: Results, readers: list[str], share: float) -> list[Figure]:
    peers = [name for name in readers if name != OURS]
    best = max(peers, key=lambda name: _right(results[name, share]), default=None)
    ours = results.get((OURS, share))
    rival = results.get((RIVAL, share))
    wall, limit = _wall(ours or []), _wall(rival or [])
    return [
        Figure(
            text=f"runs all right, p = {share:.0%}",
            peer=f"{best} {_right(results[best, share])}" if best else "-",
            ours=str(_right(ours)) if ours else "-",
            goal=f"{len(ours)} of {len(ours)}" if ours else "all",
            verdict=reached(_right(ours) == len(ours) if ours else None),
        ),
        Figure(
            text=f"median wall time, p = {share:.0%}",
            peer=f"{RIVAL} {seconds(limit)}",
            ours=seconds(wall),
            goal=f"<= {RIVAL}'s",
            verdict=reached(wall <= limit if wall is not None and limit is not None else None),
        ),
    ]
