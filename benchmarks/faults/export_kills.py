"""Case ``kills``: exports killed at random times; ``kills.py`` does it, apart from this process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from _environments import HERE

from faults.pool import Pool
from faults.report import Figure, Report, reached

_PROGRAM = HERE / "faults" / "kills.py"
_LIMIT_S = 900


def run(pool: Pool) -> Report:
    """Kill ours often, and rioxarray's some times."""
    kills = {"ours": 15 if pool.quick else 100, "rioxarray": 5 if pool.quick else 20}
    found = {what: _kill(what, number) for what, number in kills.items()}
    ours, peer = found["ours"], found["rioxarray"]
    return Report(
        title="Exports killed by SIGKILL at random times",
        figures=[
            Figure(
                text="kills that left a partial file under a final name",
                peer=f"rioxarray {peer['partial_kills']} of {kills['rioxarray']}" if peer else "-",
                ours=f"{ours['partial_kills']} of {kills['ours']}" if ours else "-",
                goal="0",
                verdict=reached(ours["partial_kills"] == 0 if ours else None),
            )
        ],
        head=("writer", "kills", "left something unfinished", "left a partial file",
              "partial files", "whole files", "left over after the next export"),
        rows=[
            [what, *(str(tally[key]) for key in _KEYS)] for what, tally in found.items() if tally
        ],
        notes=(
            ("The same files are written again and again, over those that are there, and compared "
            "pixel by pixel with the arrays that may be in them."),
        ),
    )  # fmt: skip


_KEYS = ("kills", "in_the_middle", "partial_kills", "partial", "whole", "left_over")


def _kill(what: str, number: int) -> dict[str, Any] | None:
    command = [sys.executable, str(_PROGRAM), "--what", what, "--kills", str(number)]
    sys.stderr.write(f"  kills: {what}, {number}\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if not done.stdout.strip():
        sys.stderr.write(done.stderr[-500:] + "\n")
        return None
    tally: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return tally
