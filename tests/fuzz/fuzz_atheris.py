"""Fuzz one target with atheris: ``python -m tests.fuzz.fuzz_atheris T [libFuzzer options]``.

Inputs are chosen by which lines of the package they reach, which hypothesis does not see.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Hand over to libFuzzer, which ends the process."""
    import atheris  # noqa: PLC0415 - not everywhere, and it changes what is imported below

    with atheris.instrument_imports(include=["s2l3a_xr"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
