"""``make bench``: s2l3a_xr beside what users would pick instead, on one machine, in one run.

    python benchmarks/run.py [--quick] [--cases A,B] [--repeat 5] [--output FOLDER]

Writes ``bench.md``, ``bench.json`` and ``bench.png``. See ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import _data  # noqa: E402 - after the path of the checkout is known
import _tables  # noqa: E402
from _environments import Environments  # noqa: E402
from _harness import Bench, CaseResult, open_nginx  # noqa: E402
from _reading import READING_CASES  # noqa: E402
from _server import Server  # noqa: E402
from _special import SPECIAL_CASES  # noqa: E402

CASES = {**READING_CASES, **SPECIAL_CASES}
_QUICK = "ABCDEFGHIJ"


def main() -> int:
    """Parse the command line, run, write."""
    options = _parser().parse_args()
    every = "".join(CASES) if not options.quick else _QUICK
    wanted = [key.strip().upper() for key in options.cases.split(",")] if options.cases else every
    unknown = set(wanted) - set(CASES)
    if unknown:
        sys.stderr.write(
            f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}\n"
        )
        return 2
    repeat = options.repeat or (1 if options.quick else 5)
    folder = _data.cache_folder()
    sys.stderr.write(f"archive and environments: {folder}\n")
    facts = _tables.machine()
    begun = time.perf_counter()
    results: list[CaseResult] = []
    with ExitStack() as stack:
        root = _data.build_archive(folder)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = stack.enter_context(Server(root))
        nginx = open_nginx(root)
        if nginx is not None:
            stack.enter_context(nginx)
        bench = Bench(
            folder=folder,
            root=root,
            scratch=scratch,
            server=server,
            nginx=nginx,
            environments=Environments(folder),
            repeat=repeat,
            quick=options.quick,
            only=tuple(name.strip() for name in options.only.split(";") if name.strip()),
        )
        for key in wanted:
            case_begun = time.perf_counter()
            result = CASES[key](bench)
            sys.stderr.write(f"  {key}: {time.perf_counter() - case_begun:.0f} s\n")
            results.append(result)
            sys.stdout.write(_tables.case_markdown(result) + "\n\n")
            for goal in result.goals:
                sys.stdout.write(f"{goal.verdict.upper():14} {goal.text}: {goal.figure}\n")
            sys.stdout.write("\n")
            sys.stdout.flush()
    _write(results, facts, options)
    sys.stderr.write(f"{time.perf_counter() - begun:.0f} s in all\n")
    return 1 if any(row.equal is False for case in results for row in case.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run each, fewer contenders")
    parser.add_argument("--cases", default="", help="letters of the cases, such as A,B")
    parser.add_argument("--only", default="", help="names of contenders, between semicolons")
    parser.add_argument("--repeat", type=int, default=0, help="runs of each contender")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder to write to")
    return parser


def _write(
    results: list[CaseResult], facts: dict[str, object], options: argparse.Namespace
) -> None:
    command = "make bench-quick" if options.quick else "make bench"
    options.output.mkdir(parents=True, exist_ok=True)
    report = _tables.markdown(results, facts, command)
    (options.output / "bench.md").write_text(report, encoding="utf-8")
    (options.output / "bench.json").write_text(_tables.as_json(results, facts, command))
    _tables.plot(results, options.output / "bench.png")
    sys.stderr.write(f"written: {options.output}/bench.md, bench.json, bench.png\n")


if __name__ == "__main__":
    sys.exit(main())
