"""Case ``retry_after``: whether an announced wait is waited; the server's log is the judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.pool import Pool, Task
from faults.readers import OURS
from faults.report import Figure, Report, reached
from faults.server import Fault

WAITS = {"s429ra:2": 2.0, "s503ra:2": 2.0, "s429ra:date3": 3.0, "s503ra:date3": 3.0}
"""Kinds, and the seconds that each announces at the least (a date has whole seconds)."""
_TOLERANCE_S = 0.05


def run(pool: Pool) -> Report:
    """Announce waits for every range of the data, once."""
    readers = pool.readers()
    pairs = [(name, kind) for name in readers for kind in WAITS]
    tasks = [Task(reader=n, fault=Fault(kind=k), limit_s=30) for n, k in pairs]
    outcomes = pool.run_all(tasks, at_once=12, title="retry_after")
    waited = dict.fromkeys(readers, 0)
    asked = dict.fromkeys(readers, 0)
    cells: dict[str, list[str]] = {name: [] for name in readers}
    for (name, kind), outcome in zip(pairs, outcomes, strict=True):
        gaps = pauses(pool.server.log(outcome.url))
        good = sum(gap >= WAITS[kind] - _TOLERANCE_S for gap in gaps)
        waited[name] += good
        asked[name] += len(gaps)
        shortest = f", shortest {min(gaps):.2f} s" if gaps else ""
        cells[name].append(f"{good} of {len(gaps)}{shortest} ({outcome.verdict})")
    peers = [name for name in readers if name != OURS and asked[name]]
    best = max(peers, key=lambda name: waited[name] / asked[name], default=None)
    ours = asked.get(OURS)
    return Report(
        title="Retry-After, in seconds and as a date",
        figures=[
            Figure(
                text="announced waits that were waited",
                peer=f"{best} {waited[best]} of {asked[best]}" if best else "-",
                ours=f"{waited[OURS]} of {ours}" if ours else "-",
                goal="100 %",
                verdict=reached(waited[OURS] == ours if ours else None),
            )
        ],
        head=("reader", *WAITS),
        rows=[[name, *cells[name]] for name in readers],
        notes=(
            (
                "Of the ranges that were asked for again: time from the refusal to the next "
                "request that begins or ends at the same byte."
            ),
        ),
    )


def pauses(log: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds from each refusal to the next request for the same range, where there is one."""
    found = []
    for place, entry in enumerate(log):
        if not entry["kind"]:
            continue
        refused = entry["finished"] or entry["received"]
        again = (
            other["received"] - refused
            for other in log[place + 1 :]
            if other["path"] == entry["path"] and _meets(other["ranges"], entry["ranges"])
        )
        found += [pause for pause in [next(again, None)] if pause is not None]
    return found


def _meets(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> bool:
    if not one or not other:
        return False
    return one[0][0] == other[0][0] or one[-1][1] == other[-1][1]
