"""Case ``mutants``: spoilt headers and blocks, read in processes that may abort or hang.

The files and what is done to them are those of ``tests/fuzz/mutants.py``, which also reads them
with this package; the peers get the first ones of the same.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _environments import HERE, UnavailableError

from faults.pool import Pool
from faults.readers import OURS
from faults.report import Figure, Report, reached

PEERS = {"tifffile": "ours", "rasterio": "peers", "async-geotiff": "lazycogs"}
"""Tools of ``mutant_child.py``, and the interpreters that have them."""
_SEED, _HANG_S, _OURS_LIMIT_S, _MOST_MB = 5, 8.0, 900, 300
_CHILD = HERE / "faults" / "mutant_child.py"
_ROOT = HERE.parent


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of one tool's mutants."""

    mutants: int = 0
    errors: int = 0
    alike: int = 0
    silent: int = 0
    panics: int = 0
    aborts: int = 0
    hangs: int = 0
    peak_mb: float = 0.0
    notes: list[str] = field(default_factory=list)


def run(pool: Pool) -> Report:
    """Read ours in full number, the peers' with fewer."""
    share, peers_share = (30, 6) if pool.quick else (1429, 86)
    tallies: dict[str, Tally] = {}
    if OURS in pool.only or not pool.only:
        tallies[OURS] = _ours(share)
    with tempfile.TemporaryDirectory() as folder:
        right = _lay(Path(folder), peers_share)
        for tool, environment in PEERS.items():
            if not pool.only or tool in pool.only:
                try:
                    python = pool.environments.python(environment)
                except UnavailableError as error:
                    pool.absent[tool] = str(error)
                else:
                    tallies[tool] = _peer(python, tool, Path(folder), right)
    return Report(
        title="Mutated headers and blocks",
        figures=_figures(tallies),
        head=("reader", *_HEAD),
        rows=[[name, *_cells(tally)] for name, tally in tallies.items()],
        notes=(
            f"A hang is {_HANG_S:.0f} s without an end; peers have at most 14 GB of addresses.",
            (
                "Other pixels: read without an error, but not the original's. Where a tag became "
                "another that is legal, or a codec has no checksum, nobody can tell."
            ),
            *[note for tally in tallies.values() for note in tally.notes],
        ),
    )


_HEAD = ("mutants", "errors", "same pixels", "other pixels", "panics", "aborts", "hangs", "peak")


def _cells(tally: Tally) -> list[str]:
    names = ("mutants", "errors", "alike", "silent", "panics", "aborts", "hangs")
    return [*(str(getattr(tally, name)) for name in names), f"{tally.peak_mb:.0f} MB"]


def _ours(share: int) -> Tally:
    """Let the tests' own program read them, a process for each file."""
    from tests.fuzz.mutants import SPECS  # noqa: PLC0415 - what only this case needs

    tally = Tally()
    for name in SPECS:
        sys.stderr.write(f"  mutants: {OURS}, {name}, {share}\n")
        command = [sys.executable, "-m", "tests.fuzz.mutants", "--only", name]
        command += ["--number", str(share), "--seed", str(_SEED)]
        tally.mutants += share
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=_ROOT,
                timeout=_OURS_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            tally.hangs += 1
            continue
        if done.returncode:
            tally.aborts += 1
            tally.notes.append(f"{name}: ended with {done.returncode}, {done.stderr[-200:]}")
            continue
        told: dict[str, Any] = json.loads(done.stdout)
        tally.errors += told["errors"]
        tally.alike += told["alike"]
        tally.silent += sum(told["silent"].values())
        tally.hangs += told["slowest_s"] > _HANG_S
        tally.peak_mb = max(tally.peak_mb, told["peak_mb"])
    return tally


def _lay(folder: Path, share: int) -> list[str]:
    """Write the mutants, and return the digest of the right pixels of each."""
    import hashlib  # noqa: PLC0415

    from tests.fuzz.mutants import SPECS, lay_original, spoil  # noqa: PLC0415

    right = []
    for place, name in enumerate(SPECS):
        random, original = np.random.default_rng([_SEED, place]), lay_original(name)
        pixels = np.block([[original.pixels[row, col] for col in (0, 1)] for row in (0, 1)])
        digest = hashlib.sha256(pixels.astype("int16").tobytes()).hexdigest()
        for number in range(share):
            _, content = spoil(original, random)
            (folder / f"{place}-{number:05}.tif").write_bytes(content)
            right.append(digest)
    return right


def _peer(python: Path, tool: str, folder: Path, right: Sequence[str]) -> Tally:
    tally = Tally()
    sys.stderr.write(f"  mutants: {tool}, {len(right)}\n")
    while tally.mutants < len(right):
        _read_on(python, tool, folder, right, tally)
    return tally


def _read_on(python: Path, tool: str, folder: Path, right: Sequence[str], tally: Tally) -> None:
    """Read until the process ends, of itself or not."""
    command = [str(python), str(_CHILD), tool, str(folder), str(tally.mutants)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pass_on, args=(child, lines), daemon=True).start()
    wait = 30.0  # the first one imports
    while tally.mutants < len(right):
        try:
            line = lines.get(timeout=wait)
        except queue.Empty:
            child.kill()
            tally.hangs += 1
            tally.mutants += 1
            break
        if not line:
            tally.aborts += 1
            tally.mutants += 1
            break
        _count(json.loads(line), right[tally.mutants], tally)
        wait = _HANG_S
    child.kill()
    child.wait()


def _pass_on(child: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    for line in child.stdout or ():
        lines.put(line)
    lines.put("")


def _count(told: dict[str, Any], right: str, tally: Tally) -> None:
    tally.mutants += 1
    tally.peak_mb = max(tally.peak_mb, told["peak_mb"])
    if "error" in told:
        tally.errors += 1
        tally.panics += "Panic" in told["error"]
    elif told["pixels"] == right:
        tally.alike += 1
    else:
        tally.silent += 1


def _figures(tallies: dict[str, Tally]) -> list[Figure]:
    peers = {name: tally for name, tally in tallies.items() if name != OURS}
    ours = tallies.get(OURS)

    def figure(text: str, goal: str, value: str, *, most: float) -> Figure:
        best = min(peers, key=lambda name: getattr(peers[name], value), default=None)
        mine = None if ours is None else getattr(ours, value)
        return Figure(
            text=text,
            peer=f"{best} {getattr(peers[best], value):.0f} of {peers[best].mutants}"
            if best and value != "peak_mb"
            else f"{best} {peers[best].peak_mb:.0f} MB"
            if best
            else "-",
            ours="-"
            if mine is None
            else f"{mine:.0f} of {ours.mutants}" * (value != "peak_mb") or f"{mine:.0f} MB",
            goal=goal,
            verdict=reached(None if mine is None else mine <= most),
        )

    return [
        figure("aborts", "0", "aborts", most=0),
        figure("hangs", "0", "hangs", most=0),
        figure("peak memory", f"<= {_MOST_MB} MB", "peak_mb", most=_MOST_MB),
    ]
