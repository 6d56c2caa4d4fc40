"""The interpreters of the contenders: the project's own, the peers', and lazycogs'."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_LAZYCOGS_MINIMUM = (3, 12)


class UnavailableError(Exception):
    """An environment or program that this machine can't give, with the reason."""


@dataclass(frozen=True, slots=True)
class Environments:
    """Where the environments stand; they are made when first asked for."""

    folder: Path

    def python(self, name: str) -> Path:
        """Interpreter of ``ours``, ``peers`` or ``lazycogs``.

        Raises
        ------
        UnavailableError
            Where it can't be made.
        """
        if name == "ours":
            return Path(sys.executable)
        requirements = HERE / f"requirements-{name}.txt"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
        target = self.folder / "environments" / f"{name}-{wanted}"
        python = target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not (target / "complete").exists():
            base = _find_python(_LAZYCOGS_MINIMUM if name == "lazycogs" else (3, 11))
            _make(base, target, python, requirements)
            (target / "complete").touch()
        return python


def _make(base: str, target: Path, python: Path, requirements: Path) -> None:
    sys.stderr.write(f"making the environment {target.name} ...\n")
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--python", base, str(target)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)],
        ]
    else:
        commands = [
            [base, "-m", "venv", str(target)],
            [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)],
        ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise UnavailableError(f"{requirements.name} can't be installed: {lines[-1:]}")


def _find_python(minimum: tuple[int, int]) -> str:
    """Find an interpreter of at least this version: this one, or one on the machine."""
    if sys.version_info >= minimum:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(minimum[1], minimum[1] + 6)]
    candidates = [shutil.which(name) for name in names]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("*/bin/python"))]
    for candidate in candidates:
        if candidate and _version(candidate) >= minimum:
            return candidate
    raise UnavailableError(f"no Python {minimum[0]}.{minimum[1]} or newer on this machine")


def _version(python: str) -> tuple[int, int]:
    done = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return 0, 0
    major, minor = done.stdout.split()
    return int(major), int(minor)
