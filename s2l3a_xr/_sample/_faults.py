"""What a server can do wrong, on demand."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal[
    "status",  # `status` with an HTML page
    "html",  # 200 and a page of HTML in the file's place
    "html_range",  # 206, rightly labelled, of HTML
    "redirect",  # 302 to `location`
    "reset",  # RST before the answer
    "close",  # FIN before the answer
    "truncate",  # true Content-Length, half of the body, then FIN
    "reset_mid",  # the same with RST
    "short",  # half of the body under a Content-Length of its own
    "short_range",  # half of the range, rightly labelled
    "extra",  # 16 bytes more than asked, in length and label as asked
    "ignore_range",  # 200 and the whole file
    "wrong_range",  # another range, rightly labelled
    "lying_range",  # another range under the label of the one asked
    "wrong_total",  # another file size in Content-Range
    "no_content_range",  # 206 without Content-Range
    "zeros",  # zeros for bytes
    "flip",  # one bit of the body flipped
    "etag",  # another ETag
    "stall",  # silence for `seconds`, then the answer
    "stall_mid",  # half of the body, silence for `seconds`, then the rest
    "drip",  # the body byte by byte, `seconds` between
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    r"""One way to fail, and the requests that it hits.

    Examples
    --------
    Answer 503 to the first two requests for any file of band B4:

    >>> Fault(match=r"_B4\.tif$", kind="status", status=503, count=2).kind
    'status'
    """

    match: str
    """Regular expression searched in the decoded path."""
    kind: Kind
    """What goes wrong."""
    count: int | None = None
    """How often it strikes; None is always."""
    each: bool = False
    """Count for every path and first byte by itself."""
    skip: int = 0
    """Matching requests that pass before the first strike."""
    probability: float = 1.0
    """Share of the matching requests that are hit."""
    seed: int = 0
    """Where the dice begin, so that a run repeats."""
    min_start: int = 0
    """Hits only requests whose range begins here or later (no range begins at 0)."""
    max_start: int | None = None
    """Hits only requests whose range begins before this byte."""
    method: str | None = None
    """Hits only this method."""
    status: int = 503
    """For kind "status"."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, such as Retry-After."""
    seconds: float = 60.0
    """For the kinds that take time."""
    location: str = "/"
    """For kind "redirect"."""

    def __post_init__(self) -> None:
        """Refuse unknown kinds and broken patterns at once."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of fault: {self.kind!r}")
        re.compile(self.match)


class FaultBook:
    """Keeps count of which fault struck how often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[int, str, int], int] = {}
        self._struck: dict[tuple[int, str, int], int] = {}
        self._dice: dict[int, random.Random] = {}
        self._kept: dict[int, Fault] = {}

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            for store in (self._seen, self._struck, self._dice, self._kept):
                store.clear()

    def choose(
        self, faults: Sequence[Fault], *, method: str, path: str, start: int
    ) -> Fault | None:
        """Return the first fault that strikes this request, and count it."""
        with self._lock:
            for fault in tuple(faults):
                if _applies(fault, method, path, start) and self._strikes(fault, path, start):
                    return fault
        return None

    def _strikes(self, fault: Fault, path: str, start: int) -> bool:
        self._kept[id(fault)] = fault  # a kept fault can't lend its id to another
        key = (id(fault), path, start) if fault.each else (id(fault), "", 0)
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        if seen <= fault.skip:
            return False
        dice = self._dice.setdefault(id(fault), random.Random(fault.seed))  # noqa: S311 - dice
        if fault.probability < 1.0 and dice.random() >= fault.probability:
            return False
        struck = self._struck.get(key, 0)
        if fault.count is not None and struck >= fault.count:
            return False
        self._struck[key] = struck + 1
        return True


def _applies(fault: Fault, method: str, path: str, start: int) -> bool:
    return (
        (fault.method is None or fault.method == method)
        and fault.min_start <= start
        and (fault.max_start is None or start < fault.max_start)
        and re.search(fault.match, path) is not None
    )
