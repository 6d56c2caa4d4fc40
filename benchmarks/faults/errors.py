"""Case ``errors``: whether an error says which file, item, band and bytes it is about."""

from __future__ import annotations

from collections.abc import Sequence

import _data

from faults import scene, silent
from faults.judge import Outcome, names
from faults.pool import Pool
from faults.readers import OURS
from faults.report import Figure, Report, reached

_PARTS = ("URL", "item", "band", "range")


def run(pool: Pool) -> Report:
    """Read the errors of the whole catalogue, which ``silent`` ran if it was asked for."""
    readers = pool.readers()
    layouts = ("raw",) if pool.quick else tuple(scene.LAYOUTS)
    if not any(key.startswith("silent") for key in pool.kept):
        layouts = ("raw",) if pool.quick else ("deflate",)
    results = silent.outcomes(pool, readers, layouts)
    raised = {
        name: [(trial, o) for trial, o in results[name] if o.verdict == "error"] for name in readers
    }
    rows = {name: _row([outcome for _, outcome in raised[name]]) for name in readers}
    peers = [name for name in readers if name != OURS and rows[name]["errors"]]
    best = max(
        peers,
        key=lambda n: (rows[n]["all"] / rows[n]["errors"], rows[n]["URL"] / rows[n]["errors"]),
        default=None,
    )
    ours = rows.get(OURS)
    lacking = [f"{trial.row} {trial.name}" for trial, o in raised.get(OURS, []) if not _whole(o)]
    return Report(
        title="What errors name",
        figures=[
            Figure(
                text="errors that name URL, item, band and range",
                peer=f"{best} {rows[best]['all']} of {rows[best]['errors']} "
                f"(the URL {rows[best]['URL']})"
                if best
                else "-",
                ours=f"{ours['all']} of {ours['errors']}" if ours else "-",
                goal="100 %",
                verdict=reached(ours["all"] == ours["errors"] if ours else None),
            )
        ],
        head=("reader", "errors", *_PARTS, "all four"),
        rows=[[name, *map(str, rows[name].values())] for name in readers],
        notes=(
            "Judged is the error's own text, and its attributes where it has any; not its causes.",
            (
                "The name of a file holds item and band, so whoever names the URL names these too. "
                "A block of the file's table counts as a range."
            ),
            *([f"Ours lack: {', '.join(sorted(set(lacking)))}."] if lacking else []),
        ),
    )


def _named(outcome: Outcome) -> dict[str, bool]:
    item = _data.product_name(scene.TILE, _data.YEAR, scene.SEEDS)
    return names(outcome, item=item, band=scene.BANDS[0])


def _whole(outcome: Outcome) -> bool:
    return all(_named(outcome).values())


def _row(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found = [_named(outcome) for outcome in outcomes]
    parts = {part: sum(named[part] for named in found) for part in _PARTS}
    return {"errors": len(found), **parts, "all": sum(all(named.values()) for named in found)}
