"""Case ``stalled``: a server that falls silent for good, and how long each waits for it."""

from __future__ import annotations

from faults.judge import Outcome
from faults.pool import Pool, Task
from faults.readers import OURS
from faults.report import Figure, Report, reached, seconds
from faults.server import Fault

SILENCES = {
    "silent after accepting": Fault(kind="stall0", often="inf", scope="any"),
    "silent in the data": Fault(kind="stall0", often="inf", scope="tile"),
    "silent in the middle of data": Fault(kind="stall", often="inf", scope="tile"),
}
_LIMIT_S, _ATTEMPT_GOAL_S, _END_GOAL_S = 60.0, 12.0, 30.0


def run(pool: Pool) -> Report:
    """Let all wait at the same time: waiting costs nothing."""
    readers = pool.readers()
    limit = 40.0 if pool.quick else _LIMIT_S
    pairs = [(name, what) for name in readers for what in SILENCES]
    tasks = [Task(reader=n, fault=SILENCES[what], limit_s=limit) for n, what in pairs]
    outcomes = dict(
        zip(pairs, pool.run_all(tasks, at_once=len(tasks) or 1, title="stalled"), strict=True)
    )
    attempts = {pair: _longest_attempt(pool, outcome) for pair, outcome in outcomes.items()}
    return Report(
        title="A server that falls silent for good",
        figures=[
            _figure("longest attempt", attempts, outcomes, readers, _ATTEMPT_GOAL_S),
            _figure(
                "time to the error",
                {pair: outcome.wall_s for pair, outcome in outcomes.items()},
                outcomes,
                readers,
                _END_GOAL_S,
            ),
        ],
        head=("reader", *SILENCES, "longest attempt"),
        rows=[
            [
                name,
                *(_cell(outcomes[name, what], limit) for what in SILENCES),
                seconds(max(attempts[name, what] for what in SILENCES)),
            ]
            for name in readers
        ],
        notes=(
            (
                f"Cut off after {limit:.0f} s. An attempt lasts from a request's arrival at the "
                "server to the client's hanging up."
            ),
        ),
    )


def _longest_attempt(pool: Pool, outcome: Outcome) -> float:
    log = pool.server.log(outcome.url)
    return max(
        (x["finished"] - x["received"] for x in log if x["kind"] and x["finished"]), default=0
    )


def _cell(outcome: Outcome, limit: float) -> str:
    if outcome.verdict == "hung":
        return f"> {limit:.0f} s"
    return f"{seconds(outcome.wall_s)} ({outcome.verdict})"


def _figure(
    text: str,
    values: dict[tuple[str, str], float],
    outcomes: dict[tuple[str, str], Outcome],
    readers: list[str],
    goal: float,
) -> Figure:
    """Compare the longest of each reader; who is still waiting when cut off has none."""
    longest = {
        name: max(values[name, what] for what in SILENCES)
        for name in readers
        if all(outcomes[name, what].verdict == "error" for what in SILENCES)
    }
    peers = [name for name in longest if name != OURS]
    best = min(peers, key=longest.__getitem__, default=None)
    ours = longest.get(OURS)
    return Figure(
        text=text,
        peer=f"{best} {seconds(longest[best])}" if best else "none ends by itself",
        ours=seconds(ours),
        goal=f"<= {goal:g} s",
        verdict=reached(ours is not None and ours <= goal if OURS in readers else None),
    )
