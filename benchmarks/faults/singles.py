"""Case ``singles``: every range fails once, in 18 ways that pass by themselves."""

from __future__ import annotations

from faults.judge import Outcome
from faults.pool import Pool, Task
from faults.readers import OURS
from faults.report import Figure, Report, reached, seconds
from faults.server import Fault

TILE_KINDS = (
    "s408", "s429", "s429ra:1", "s500", "s502", "s503", "s503ra:1", "s504",
    "reset0", "close0", "closemid", "resetmid", "stall", "stall0",
)  # fmt: skip
HEADER_KINDS = ("s503", "reset0", "closemid", "stall0")
FAULTS = tuple(
    Fault(kind=kind, scope=scope)
    for scope, kinds in (("tile", TILE_KINDS), ("header", HEADER_KINDS))
    for kind in kinds
)
_STALL_GOAL_S, _OTHER_GOAL_S, _LIMIT_S = 12.0, 2.0, 45.0


def run(pool: Pool) -> Report:
    """Read one window of one file under each fault."""
    limit = 15.0 if pool.quick else _LIMIT_S
    readers = pool.readers()
    peers = [name for name in readers if name != OURS]
    alone = [name for name in readers if name == OURS]
    found: dict[tuple[str, Fault], Outcome] = {}
    turns = [(alone, False, 1), (peers, False, 6)]
    turns += [(readers, True, 30)] if pool.quick else [(alone, True, 1), (peers, True, 30)]
    for names, stalls, at_once in turns:
        pairs = [(name, x) for x in FAULTS if _is_stall(x) is stalls for name in names]
        tasks = [Task(reader=name, fault=fault, limit_s=limit) for name, fault in pairs]
        outcomes = pool.run_all(tasks, at_once=at_once, title="singles")
        found |= dict(zip(pairs, outcomes, strict=True))
    results = {name: [found[name, fault] for fault in FAULTS] for name in readers}
    return Report(
        title="18 transient faults, each hitting every range once",
        figures=_figures(results, peers),
        head=("reader", "survived", "longest stall cured", "longest other cured", "not survived"),
        rows=[_row(name, results[name]) for name in readers],
        notes=(
            (
                f"Cut off after {limit:.0f} s. 14 faults strike ranges of the data, 4 (with "
                "`header:`) those from byte 0; `ra:1` announces a wait of 1 s."
            ),
            "The peers run side by side, ours alone (in a quick run not for the stalls).",
        ),
    )


def _is_stall(fault: Fault) -> bool:
    return fault.kind.startswith("stall")


def _slowest(outcomes: list[Outcome], *, stalls: bool) -> float | None:
    cured = zip(FAULTS, outcomes, strict=True)
    times = [o.wall_s for fault, o in cured if o.survived and _is_stall(fault) is stalls]
    return max(times, default=None)


def _row(name: str, outcomes: list[Outcome]) -> list[str]:
    lost = [
        ("header:" if fault.scope == "header" else "") + f"{fault.kind} ({outcome.verdict})"
        for fault, outcome in zip(FAULTS, outcomes, strict=True)
        if not outcome.survived
    ]
    return [
        name,
        str(sum(outcome.survived for outcome in outcomes)),
        seconds(_slowest(outcomes, stalls=True)),
        seconds(_slowest(outcomes, stalls=False)),
        ", ".join(lost),
    ]


def _figures(results: dict[str, list[Outcome]], peers: list[str]) -> list[Figure]:
    ours = results.get(OURS)
    survived = {name: sum(o.survived for o in results[name]) for name in results}
    best = max(peers, key=survived.__getitem__, default=None)
    figures = [
        Figure(
            text="18 single faults survived",
            peer=f"{best} {survived[best]}" if best else "-",
            ours=str(survived.get(OURS, "-")),
            goal="18",
            verdict=reached(survived[OURS] == len(FAULTS) if ours else None),
        )
    ]
    for stalls, text, limit in (
        (True, "slowest stall cured", _STALL_GOAL_S),
        (False, "slowest other fault cured", _OTHER_GOAL_S),
    ):
        value = _slowest(ours, stalls=stalls) if ours else None
        figures.append(
            Figure(
                text=text,
                peer=f"{best} {seconds(_slowest(results[best], stalls=stalls))}" if best else "-",
                ours=seconds(value),
                goal=f"<= {limit:g} s",
                verdict=reached(value is not None and value <= limit if ours else None),
            )
        )
    return figures
