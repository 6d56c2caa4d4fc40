"""Fuzz every target for some time: ``python -m tests.fuzz [--seconds 60] [target ...]``.

Half of the time goes to hypothesis, half to atheris where that is installed. Each runs in a
process of its own, so that an abort or a hang is a finding as well.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile

from tests.fuzz.targets import CORPUS, TARGETS

_GRACE_S = 120


def main() -> int:
    """Run all, and say what each found; 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    has_atheris = importlib.util.find_spec("atheris") is not None
    share = options.seconds / (1 + has_atheris)
    failed = []
    for target in options.targets or TARGETS:
        if not _with_hypothesis(target, share):
            failed.append(f"{target} (hypothesis)")
        if has_atheris and not _with_atheris(target, share):
            failed.append(f"{target} (atheris)")
    if not has_atheris:
        print("atheris is not installed here, so hypothesis had all of the time")
    print(f"failed: {', '.join(failed)}" if failed else "nothing but typed errors escaped")
    return bool(failed)


def _with_hypothesis(target: str, seconds: float) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.fuzz_hypothesis", target, f"{seconds}"]
    try:
        return subprocess.run(command, check=False, timeout=seconds + _GRACE_S).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{target}: hypothesis hangs")
        return False


def _with_atheris(target: str, seconds: float) -> bool:
    with tempfile.TemporaryDirectory() as grown:
        command = [
            sys.executable, "-m", "tests.fuzz.fuzz_atheris", target, grown, str(CORPUS / target),
            f"-max_total_time={max(1, round(seconds))}", "-timeout=5", "-rss_limit_mb=2048",
            "-max_len=8192", f"-artifact_prefix={CORPUS / target}/failed-",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, check=False, text=True, capture_output=True, timeout=seconds + _GRACE_S
            )
        except subprocess.TimeoutExpired:
            print(f"{target}: atheris hangs")
            return False
    told = re.findall(r"Done (\d+) runs in (\d+)", done.stderr)
    if done.returncode == 0 and told:
        print(f"{target:10} atheris    {told[-1][0]:>7} inputs in {told[-1][1]:>3} s", flush=True)
        return True
    print(done.stderr[-4000:], flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
