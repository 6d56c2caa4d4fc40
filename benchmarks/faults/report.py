"""What a case prints: the figures beside their goals, then who did what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Reached = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One goal of the issue."""

    text: str
    peer: str
    """The best peer of the same run, and its figure."""
    ours: str
    goal: str
    verdict: Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One case."""

    title: str
    figures: Sequence[Figure]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def markdown(self, key: str) -> str:
        """Write it down."""
        shown = [[f.text, f.peer, f.ours, f.goal, f"**{f.verdict}**"] for f in self.figures]
        parts = [
            f"## {key}: {self.title}",
            table(["", "best peer", "s2l3a_xr", "goal", ""], shown),
            table(self.head, self.rows),
            "\n".join(f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in x) + " |" for x in lines)


def reached(value: bool | None) -> Reached:
    """Name a verdict; None is of something that did not run."""
    if value is None:
        return "not measured"
    return "reached" if value else "missed"


def seconds(value: float | None) -> str:
    """Write a time, with a dash for none."""
    return "-" if value is None else f"{value:.2f} s"
