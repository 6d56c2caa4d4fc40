"""Write what was measured: Markdown, JSON and a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from _harness import CaseResult, Row

_OURS = "s2l3a_xr"
_COLUMNS = ("wall s", "range", "x ours", "CPU s", "requests", "MB", "RSS MB", "pixels")
_PACKAGES = ("s2l3a_xr", "aiohttp", "dask", "imagecodecs", "numpy", "rasterio", "xarray")
_EQUAL = {True: "equal", False: "**NOT EQUAL**", None: ""}


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def markdown(cases: Sequence[CaseResult], facts: dict[str, Any], command: str) -> str:
    """Write the whole report."""
    parts = [
        "# Benchmark",
        (
            f"{facts['date']}, {facts['cores']} cores ({facts['processor']}), {facts['system']}, "
            f"Python {facts['python']}; load before the run {facts['load_before']}. "
            f"Made by `{command}`. Medians; every run in a fresh process, the contenders in turn. "
            "MB are bodies sent by the server, requests include listings."
        ),
        _goal_table(cases),
    ]
    parts += [case_markdown(case) for case in cases]
    parts.append(_settings(cases))
    return "\n\n".join(parts) + "\n"


def case_markdown(case: CaseResult) -> str:
    """Heading, table and notes of a case."""
    lines = [f"## {case.key}. {case.title}"]
    if case.bound_s:
        lines.append(f"Bound: {case.bound_s:.3f} s.")
    measured = [row for row in case.rows if row.samples]
    if measured:
        cells = [_cells(case, row) for row in measured]
        lines.append(_table(["contender", *_COLUMNS], cells, figures=len(_COLUMNS) - 1))
    failed = [row for row in case.rows if not row.samples]
    notes = [f"- {row.name}: skipped, {row.error or 'no run'}" for row in failed]
    notes += [f"- {note}" for note in case.notes]
    lines.append("\n".join(notes))
    return "\n\n".join(lines)


def _cells(case: CaseResult, row: Row) -> list[str]:
    wall = [sample.wall_s for sample in row.samples]
    ratio = case.ratio(row.name, case.reference, "wall_s")
    spread = f"{min(wall):.2f}..{max(wall):.2f}" if len(wall) > 1 else ""
    return [
        row.name,
        f"{row.median('wall_s'):.2f}",
        spread,
        "" if ratio is None else f"{ratio:.1f}",
        f"{row.median('cpu_s'):.2f}",
        f"{row.median('requests'):.0f}",
        f"{row.median('sent_bytes') / 1e6:.1f}",
        f"{row.median('rss_mb'):.0f}",
        _EQUAL[row.equal],
    ]


def _goal_table(cases: Sequence[CaseResult]) -> str:
    rows = [
        [case.key, goal.text, goal.figure, goal.verdict.replace("missed", "**missed**")]
        for case in cases
        for goal in case.goals
    ]
    return "## Goals\n\n" + _table(["case", "goal", "figure", "verdict"], rows)


def _settings(cases: Sequence[CaseResult]) -> str:
    settings = {row.contender: row.settings for case in cases for row in case.rows if row.settings}
    return "## Settings\n\n" + _table(
        ["contender", "settings"], [list(i) for i in settings.items()]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], figures: int = 0) -> str:
    """Write a table whose columns of `figures`, behind the first one, stand to the right."""
    rule = ["---", *["---:"] * figures, *["---"] * (len(head) - 1 - figures)]
    lines = [list(head), rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_json(cases: Sequence[CaseResult], facts: dict[str, Any], command: str) -> str:
    """Everything, each run by itself."""
    payload = {
        "machine": facts,
        "command": command,
        "cases": [
            {
                **asdict(case),
                "rows": [{**asdict(row), "medians": _medians(row)} for row in case.rows],
            }
            for case in cases
        ],
    }
    return json.dumps(payload, indent=1) + "\n"


def _medians(row: Row) -> dict[str, float]:
    figures = ("wall_s", "cpu_s", "rss_mb", "requests", "tif_requests", "sent_bytes")
    return {figure: row.median(figure) for figure in figures} if row.samples else {}


def plot(cases: Sequence[CaseResult], path: Path) -> bool:
    """Bars of wall time per contender for the cases that have a table; False without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only the plot needs it

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        sys.stderr.write("no plot: matplotlib is not installed\n")
        return False
    shown = [case for case in cases if sum(bool(row.samples) for row in case.rows) > 1]
    if not shown:
        return False
    heights = [1 + sum(bool(row.samples) for row in case.rows) for case in shown]
    figure, all_axes = plt.subplots(
        len(shown),
        1,
        figsize=(6.4, 0.28 * sum(heights) + 0.6 * len(shown)),  # words to be read on a phone
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for case, axes in zip(shown, all_axes[:, 0], strict=True):
        _bars(case, axes)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _bars(case: CaseResult, axes: Any) -> None:
    rows = sorted((row for row in case.rows if row.samples), key=lambda row: row.median("wall_s"))
    walls = [row.median("wall_s") for row in rows]
    colors = ["#1b7f5c" if row.name.startswith(_OURS) else "#9aa5b1" for row in rows]
    # One that takes minutes must not hide how the others compare.
    longest = max(wall for wall in walls if wall <= 10 * statistics.median(walls))
    shown = [min(wall, longest) for wall in walls]
    labels = [f"{wall:.2f} s" + (" (bar cut)" if wall > longest else "") for wall in walls]
    bars = axes.barh([row.name for row in rows], shown, color=colors)
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    if case.bound_s is not None and case.bound_s > 0.005 * longest:  # else it is the axis
        axes.axvline(case.bound_s, color="#b3261e", linewidth=1, linestyle="--")
        foot = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate("bound", (case.bound_s, 0), (3, 3), fontsize=8, color="#b3261e", **foot)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * longest)
    axes.set_title(f"{case.key}. {case.title}: seconds", fontsize=10, loc="left")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
