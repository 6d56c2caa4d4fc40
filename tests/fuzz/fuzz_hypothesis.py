"""Fuzz one target with hypothesis for some seconds: ``python -m tests.fuzz.fuzz_hypothesis T S``.

What fails is written to the target's corpus, from where the unit tests replay it.
"""

from __future__ import annotations

import hashlib
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.strategies import STRATEGIES
from tests.fuzz.targets import CORPUS, TARGETS

_AT_ONCE = 500
_LONGEST_S = 5.0


def main() -> None:
    """Draw until the time is over, or something escapes."""
    target, seconds = sys.argv[1], float(sys.argv[2])
    end = time.monotonic() + seconds
    failed = b""
    count, slowest = 0, 0.0

    def attempt(data: bytes) -> None:
        nonlocal failed, count, slowest
        began = time.monotonic()
        try:
            TARGETS[target](data)
            spent = time.monotonic() - began
            assert spent < _LONGEST_S, f"{spent:.1f} s for {len(data)} bytes"
        except BaseException:
            failed = data
            raise
        count, slowest = count + 1, max(slowest, spent)

    number = int(began := time.time())
    while time.monotonic() < end:
        number += 1
        fuzz = given(STRATEGIES[target])(attempt)
        fuzz = settings(
            max_examples=_AT_ONCE, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )(fuzz)  # fmt: skip
        try:
            seed(number)(fuzz)()
        except BaseException:
            name = f"failed-{hashlib.sha256(failed).hexdigest()[:8]}"
            (CORPUS / target / name).write_bytes(failed)
            print(f"{target}: kept as {name}")
            raise
    print(
        f"{target:10} hypothesis {count:7} inputs in {time.time() - began:3.0f} s, "
        f"slowest {1e3 * slowest:.0f} ms"
    )


if __name__ == "__main__":
    main()
