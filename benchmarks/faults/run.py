"""``make bench-faults``: what goes wrong, and who notices; peers beside in the same run.

    python benchmarks/faults/run.py [--quick] [--cases singles,cube] [--only NAMES] [--repeat 10]

Prints a table for each case, and writes ``faults.md`` to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[0] = str(HERE.parent)
    sys.path.append(str(HERE.parent.parent))

import _data  # noqa: E402 - after the path of the checkout is known
import _tables  # noqa: E402
from _environments import Environments  # noqa: E402

from faults import scene  # noqa: E402
from faults.pool import Pool  # noqa: E402
from faults.readers import READERS  # noqa: E402
from faults.server import FaultServer  # noqa: E402

CASES = {
    "singles": "faults.singles",
    "cube": "faults.cube",
    "retry_after": "faults.retry_after",
    "stalled": "faults.stalled",
    "silent": "faults.silent",
    "errors": "faults.errors",
    "hosts": "faults.hosts",
    "mutants": "faults.mutants",
    "kills": "faults.export_kills",
}
"""Module of each case, in the order of a run: ``errors`` judges what ``silent`` left."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run, print."""
    options = parse(arguments)
    folder = _data.cache_folder()
    sys.stderr.write(f"files and environments: {folder}\n")
    begun = time.perf_counter()
    reports = [heading(options)]
    root = scene.build(folder)
    with (
        FaultServer(root) as server,
        Pool(
            server,
            Environments(folder),
            only=options.only,
            repeat=options.repeat,
            quick=options.quick,
        ) as pool,
    ):
        for key in options.cases:
            case_begun = time.perf_counter()
            text = import_module(CASES[key]).run(pool).markdown(key)
            sys.stderr.write(f"  {key}: {time.perf_counter() - case_begun:.0f} s\n")
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            reports.append(text)
        reports += [f"- {name} did not run: {why}\n" for name, why in pool.absent.items()]
        sys.stdout.write(reports[-1] if pool.absent else "")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "faults.md").write_text("\n".join(reports), encoding="utf-8")
    sys.stderr.write(f"{time.perf_counter() - begun:.0f} s in all, {options.output}/faults.md\n")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; unknown cases and readers end it with exit code 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="samples only, in a few minutes")
    parser.add_argument(
        "--cases", type=_names(CASES, ","), default=list(CASES), help=f"of {', '.join(CASES)}"
    )
    parser.add_argument(
        "--only", type=_names(READERS, ";"), default=[], help="readers, between semicolons"
    )
    parser.add_argument("--repeat", type=int, default=10, help="runs of each cube")
    parser.add_argument(
        "--output", type=Path, default=HERE.parent / "results", help="folder to write to"
    )
    return parser.parse_args(arguments)


def _names(known: Sequence[str] | dict[str, object], separator: str):  # noqa: ANN202 - argparse's
    def split(text: str) -> list[str]:
        found = [part.strip() for part in text.split(separator) if part.strip()]
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
        return found

    return split


def heading(options: argparse.Namespace) -> str:
    """Say what the figures were measured on."""
    facts = _tables.machine()
    return (
        f"# Faults\n\n{facts['date']}, {facts['cores']} cores ({facts['processor']}), "
        f"{facts['system']}, Python {facts['python']}; load before the run "
        f"{facts['load_before']}{'; --quick' if options.quick else ''}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
