"""What was found, as a table and as JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Literal

from s2l3a_xr._texts import one_line

Level = Literal["ok", "warn", "bad"]

_WIDTH = 100
_TEXT_COLUMN = 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; texts of servers in it are made harmless.

    Parameters
    ----------
    check : str
        What was looked at.
    level : {"ok", "warn", "bad"}
        Whether reading works with it, works worse, or does not work.
    found : str
        What there is.
    means : str
        What follows for reading; empty where nothing does.
    """

    check: str
    level: Level
    found: str
    means: str = ""


def finding(check: str, level: Level, found: str, means: str = "") -> Finding:
    """Make a finding of texts that may be a server's.

    Parameters
    ----------
    check, level, found, means : str
        As for `Finding`.

    Returns
    -------
    Finding
        In single lines, URLs redacted, control characters escaped.
    """
    return Finding(check=check, level=level, found=one_line(found)[:600], means=one_line(means))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an examination gave.

    Parameters
    ----------
    url : str
        What was asked about, without secrets.
    file : str
        The file that was looked at, empty where none was found.
    findings : tuple of Finding
        In the order in which they were made.
    requests, bytes : int
        What the examination cost the server.
    seconds : float
        How long it took.
    latency_s : tuple of float or None
        Median and 95th percentile of small ranges.
    bytes_per_s : float or None
        Of one long range.
    """

    url: str
    file: str
    findings: tuple[Finding, ...]
    requests: int
    bytes: int
    seconds: float
    latency_s: tuple[float, float] | None = None
    bytes_per_s: float | None = None

    @property
    def is_readable(self) -> bool:
        """Whether pixels can be read from there."""
        return bool(self.file) and all(one.level != "bad" for one in self.findings)

    @property
    def verdict(self) -> str:
        """All of it in one line."""
        bad = next((one for one in self.findings if one.level == "bad"), None)
        if bad is not None:
            return f"not readable: {bad.check}: {bad.found}"
        if not self.file:
            return "not readable: no file of the product was found"
        warned = [one.check for one in self.findings if one.level == "warn"]
        return f"readable, but mind: {', '.join(warned)}" if warned else "readable"

    def text(self) -> str:
        """Write a table with what follows below each finding.

        Returns
        -------
        str
            Lines of at most 100 characters, but for long words.
        """
        lines = [f"looked at {self.url}"]
        lines += [f"          {self.file}"] if self.file and self.file != self.url else []
        lines.append("")
        for one in self.findings:
            lines += _wrapped(f"{one.level:<5} {one.check:<{_TEXT_COLUMN - 7}} ", one.found)
            lines += _wrapped(" " * _TEXT_COLUMN + "-> ", one.means) if one.means else []
        asked = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        cost = f"{asked}, {self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        return "\n".join([*lines, "", f"{self.verdict} ({cost})"])

    def json(self) -> str:
        """Write one JSON object.

        Returns
        -------
        str
            The fields, ``readable`` and ``verdict``; ``latency_s`` has ``median`` and ``p95``.
        """
        names = ("median", "p95")
        told = {
            **asdict(self),
            "latency_s": dict(zip(names, self.latency_s, strict=True)) if self.latency_s else None,
            "readable": self.is_readable,
            "verdict": self.verdict,
        }
        return json.dumps(told, indent=2)


def _wrapped(begin: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [begin]
