"""Look up known holes in pinned versions, and never call "clean" what nobody answered.

pip-audit says "No known vulnerabilities found" and ends with 0 where the index knows none of the
packages, as mirrors do. Here each package counts as checked only if an advisory source answered
for it.

Exit codes: 0 all checked, no known hole; 1 known holes; 3 not checked, all or in part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

CLEAN, HOLES, NOT_CHECKED = 0, 1, 3
SERVICES = ("pypi", "osv")


@dataclass(slots=True)
class Result:
    """What a source said."""

    checked: set[str] = field(default_factory=set)
    holes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    silence: str = ""
    """Why there was no answer at all."""

    @property
    def code(self) -> int:
        """Exit code."""
        if self.holes:
            return HOLES
        return CLEAN if self.checked and not self.skipped else NOT_CHECKED

    def text(self) -> str:
        """Say it in a line for each thing to know."""
        lines = self.holes[:]
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            count = f"{len(self.skipped)} of {len(self.checked) + len(self.skipped)} packages"
            lines.append(f"not checked: {count}, the first is {name} ({reason})")
        elif not self.checked:
            lines.append(f"not checked: no advisory source answered ({self.silence or 'nothing'})")
        elif not self.holes:
            lines.append(f"no known hole in {len(self.checked)} packages")
        return "\n".join(lines)


def judge(answer: str, silence: str = "") -> Result:
    """Read pip-audit's JSON.

    Parameters
    ----------
    answer : str
        Its stdout.
    silence : str
        Its stderr, for where there is no JSON.

    Returns
    -------
    Result
        By package.
    """
    result = Result(silence=(silence.strip().splitlines() or [""])[-1][:300])
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return result
    for package in packages:
        name = package["name"]
        if "vulns" not in package:
            result.skipped[name] = package.get("skip_reason", "no reason given")
            continue
        result.checked.add(name)
        for hole in package["vulns"]:
            fixed = ", ".join(hole.get("fix_versions", [])) or "no version"
            result.holes.append(f"{name} {package['version']}: {hole['id']}, fixed in {fixed}")
    return result


def ask(service: str, requirements: str, osv_url: str | None) -> Result:
    """Run pip-audit with one source.

    Parameters
    ----------
    service : str
        ``pypi`` or ``osv``.
    requirements : str
        Path of the file.
    osv_url : str or None
        Another address of OSV.

    Returns
    -------
    Result
        Without any package where the source did not answer.
    """
    with tempfile.TemporaryDirectory() as fresh:  # no answer of another day
        ended = subprocess.run(  # noqa: S603 - our own arguments
            [
                str(Path(sys.executable).with_name("pip-audit")),
                *("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "15"),
                *("--cache-dir", fresh, "-f", "json", "-s", service, "-r", requirements),
                *(("--osv-url", osv_url) if osv_url else ()),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    return judge(ended.stdout, ended.stderr)


def main() -> int:
    """Ask one source after the other until one has checked everything.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("requirements")
    parser.add_argument("--osv-url", help="instead of https://api.osv.dev/v1/query")
    options = parser.parse_args()
    results = []
    for service in SERVICES:
        results.append(ask(service, options.requirements, options.osv_url))
        if results[-1].code != NOT_CHECKED:
            break
    result = min(results, key=lambda one: (one.code == NOT_CHECKED, -len(one.checked)))
    print(result.text())
    return result.code


if __name__ == "__main__":
    sys.exit(main())
