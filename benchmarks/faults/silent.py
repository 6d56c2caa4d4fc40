"""Case ``silent``: the whole catalogue of faults, and who gives wrong pixels without a word."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faults import scene, spoilt
from faults.judge import Outcome
from faults.pool import Pool, Task
from faults.readers import OURS, READERS
from faults.report import Figure, Report, reached
from faults.server import Fault

PASSING: dict[int, tuple[str, ...]] = {
    6: ("reset0",), 7: ("close0",), 8: ("closemid",), 9: ("resetmid",), 15: ("stall",),
    16: ("stall0",), 19: ("s429",), 20: ("s500",), 21: ("s502",), 22: ("s503",), 23: ("s504",),
    24: ("s408",), 25: ("s522", "s524"), 26: ("s429ra:1", "s503ra:1"), 30: ("s416",),
    31: ("s404once",), 35: ("redirlogin",),
    46: ("keepalive-close",),
}  # fmt: skip
"""Rows of faults that pass by themselves: each range is hit once."""
LASTING: dict[int, tuple[str, ...]] = {
    10: ("short_cl",), 11: ("short_chunked",), 12: ("short_nocl",), 13: ("short_honest",),
    14: ("long", "long_chunked", "long_wire"), 17: ("drip",), 18: ("slow",), 27: ("s404",),
    28: ("s401", "s403"), 29: ("s410", "s451"), 32: ("redirloop",), 33: ("redirhost",),
    34: ("redirfile", "redirhttp"), 36: ("full200",), 37: ("nocr",),
    38: ("shift_honest",), 39: ("badtotal",), 40: ("multipart",), 41: ("shift_lying", "zeros"),
    42: ("flip",), 43: ("ctype_html", "gzip"), 44: ("html200", "html206"),
    45: ("mirror_etag",), 47: ("http10",),
}  # fmt: skip
"""Rows of faults that hit every range of the data, always."""
MIXING = ("etagswap", "mirror_swap")
"""Row 45: about half of the ranges come from the file's successor."""
AGAIN = ("s500", "s503", "reset0", "closemid", "stall0")
"""Faults of the first kind that are also tried lasting, with two layouts."""
UNKNOWABLE = {"shift_lying": ("lzw", "raw"), "zeros": ("raw",), "flip": ("lzw", "raw", "cog")}
"""Layouts in which no reader can tell: no checksum of the codec, no leader and trailer."""
_LONG = ("drip", "slow")
"""Left out of quick runs."""
_LIMIT_S, _OURS_LIMIT_S = 20.0, 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fault in one layout."""

    row: int
    name: str
    layout: str
    fault: Fault
    folder: str
    unknowable: bool
    task: Task
    """Without its reader."""


def run(pool: Pool) -> Report:
    """Try everything on everybody."""
    readers = pool.readers()
    results = outcomes(pool, readers, ("raw",) if pool.quick else tuple(scene.LAYOUTS))
    counted = {name: [_count(results[name], dagger=d) for d in (False, True)] for name in readers}
    peers = [name for name in readers if name != OURS]
    best = min(peers, key=lambda name: counted[name][0]["silent"], default=None)
    ours = counted.get(OURS)
    found = ours[0]["silent"] if ours else None
    return Report(
        title="Wrong pixels without an error or a warning, over the whole catalogue",
        figures=[
            Figure(
                text="silently wrong reads",
                peer=f"{best} {counted[best][0]['silent']}" if best else "-",
                ours="-" if found is None else str(found),
                goal="0",
                verdict=reached(None if found is None else found == 0),
            )
        ],
        head=("reader", *_COLUMNS, "silently wrong †", "which"),
        rows=[_row(name, *counted[name], results[name]) for name in readers],
        notes=(
            f"Layouts {', '.join(scene.LAYOUTS)}; peers cut off after {_LIMIT_S:.0f} s.",
            "†: faults that no reader can see, as the file carries no checksum there.",
            "A log line alone is no warning; they are counted as silent.",
        ),
    )


def outcomes(
    pool: Pool, readers: Sequence[str], layouts: tuple[str, ...]
) -> dict[str, list[tuple[Trial, Outcome]]]:
    """Run the catalogue, once in a session for each choice of layouts."""
    key = f"silent {layouts} {readers}"
    if key not in pool.kept:
        trials = [x for x in _trials(pool, layouts) if not pool.quick or x.name not in _LONG]
        pairs = [(name, trial) for trial in trials for name in readers]
        tasks = [_for(name, trial) for name, trial in pairs]
        # Those that hang first, side by side: they only wait.
        order = sorted(range(len(pairs)), key=lambda n: not _waits(pairs[n][1]))
        split = sum(_waits(trial) for _, trial in pairs)
        got = pool.run_all([tasks[n] for n in order[:split]], at_once=40, title="silent, waiting")
        got += pool.run_all([tasks[n] for n in order[split:]], at_once=6, title="silent, others")
        found: dict[str, list[tuple[Trial, Outcome]]] = {name: [] for name in readers}
        for place, outcome in zip(order, got, strict=True):
            name, trial = pairs[place]
            found[name].append((trial, outcome))
        pool.kept[key] = found
        shutil.rmtree(pool.root / "spoilt", ignore_errors=True)
    result: dict[str, list[tuple[Trial, Outcome]]] = pool.kept[key]
    return result


def _for(name: str, trial: Trial) -> Task:
    task = trial.task
    return Task(
        reader=name,
        fault=task.fault,
        folder=task.folder,
        accepted=task.accepted,
        limit_s=_OURS_LIMIT_S if name == OURS else _LIMIT_S,
        token="" if not task.token else f"{task.token}-{list(READERS).index(name)}",
    )


def _waits(trial: Trial) -> bool:
    return trial.name in {"drip", "stall", "stall0"} or trial.fault.often == "inf"


def _trials(pool: Pool, layouts: tuple[str, ...]) -> Iterator[Trial]:
    old, new = scene.expected((scene.SEEDS,), scene.BANDS[:1]), scene.successor()
    for layout in layouts:
        for rows, often in ((PASSING, "1"), (LASTING, "inf")):
            for row, kinds in rows.items():
                for kind in kinds:
                    yield _trial(row, layout, Fault(kind=kind, often=often))
        for kind in MIXING:
            fault = Fault(kind=kind, often="p0.5")
            yield _trial(45, layout, fault, accepted=(old, new), token=f"mix-{kind}-{layout}")
        for kind in AGAIN if layout in {"deflate", "raw"} else ():
            row = next(row for row, kinds in PASSING.items() if kind in kinds)
            yield _trial(row, layout, Fault(kind=kind, often="inf"))
    for wrong, layout, folder in spoilt.lay(pool.root, only=layouts):
        yield Trial(
            row=wrong.row,
            name=wrong.name,
            layout=layout,
            fault=Fault(),
            folder=folder,
            unknowable=layout in wrong.unknowable,
            task=Task(reader="", folder=folder, accepted=[spoilt.expected(wrong)]),
        )


def _trial(row: int, layout: str, fault: Fault, **options: object) -> Trial:
    return Trial(
        row=row,
        name=fault.kind,
        layout=layout,
        fault=fault,
        folder=layout,
        unknowable=layout in UNKNOWABLE.get(fault.kind, ()),
        task=Task(reader="", fault=fault, folder=layout, **options),  # type: ignore[arg-type]
    )


_COLUMNS = ("runs", "right", "error", "hung", "died", "wrong, warned", "silently wrong")


def _count(results: Sequence[tuple[Trial, Outcome]], *, dagger: bool) -> dict[str, int]:
    of = [outcome for trial, outcome in results if trial.unknowable is dagger]
    counts = {kind: sum(o.verdict == kind for o in of) for kind in ("right", "error", "hung")}
    silent = sum(o.silent for o in of)
    wrong = sum(o.verdict == "wrong" for o in of)
    died = sum(o.verdict == "died" or o.panic for o in of)
    return {"runs": len(of), **counts, "died": died, "warned": wrong - silent, "silent": silent}


def _row(
    name: str,
    known: dict[str, int],
    unknowable: dict[str, int],
    results: Sequence[tuple[Trial, Outcome]],
) -> list[str]:
    which = [
        f"{trial.row} {trial.name} ({trial.layout})"
        for trial, outcome in sorted(results, key=lambda pair: pair[0].row)
        if outcome.silent and not trial.unknowable
    ]
    shown = which[:12] + ([f"and {len(which) - 12} more"] if len(which) > 12 else [])
    return [name, *map(str, known.values()), str(unknowable["silent"]), ", ".join(shown)]
