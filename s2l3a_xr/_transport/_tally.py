"""How much was asked of each host, counted for whoever has it read."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from typing import TypeAlias

Tally: TypeAlias = Counter[tuple[str, str]]
"""By host, and what is counted: ``requests``, ``bytes``, ``retries`` or ``connections``."""

COUNTED = ("requests", "bytes", "retries", "connections")

_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


def count_into(tally: Tally) -> None:
    """Count what this task and those that it begins ask for.

    Parameters
    ----------
    tally : Tally
        Belongs to the loop from now on.
    """
    _tally.set(tally)


def count(host: str, what: str, amount: int = 1) -> None:
    """Count something for whoever began this task.

    Parameters
    ----------
    host : str
        Host and port.
    what : str
        One of `COUNTED`.
    amount : int, default 1
        How many.
    """
    tally = _tally.get()
    if tally is not None:
        tally[host, what] += amount
