"""What is asked of a server, and how it may come to nothing for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from s2l3a_xr._errors import ReadError, TransportError
from s2l3a_xr._transport._settings import Reply


class PassingError(Exception):
    """A fault that may be gone at the next attempt.

    Parameters
    ----------
    reason : str
        What went wrong.
    status : int, optional
        HTTP status of the answer.
    pause_s : float, optional
        The wait that the server announced.
    kind : str
        What decides how often it is tried again: ``fault``, ``connect`` (no connection),
        ``silence``, ``slow``, ``once`` (a second time is enough to believe it), ``nonsense`` (a
        third), ``garbled`` (no HTTP; of a connection perhaps that others spoilt), ``short`` (part
        of the range came, rightly labelled).
    hint : str
        What to do where it lasts; empty for what helps with most.
    lasting : type
        The error that it becomes where it lasts.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        pause_s: float | None = None,
        kind: str = "fault",
        hint: str = "",
        lasting: type[ReadError] = TransportError,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.pause_s = pause_s
        self.kind = kind
        self.hint = hint
        self.lasting = lasting


class NoPartsError(Exception):
    """The server does not answer several ranges with several parts."""


class NoSizeError(Exception):
    """The server does not say how large the file is that a range is from."""


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """Ranges that are still to come, and who takes them.

    Parameters
    ----------
    left : dict
        Position by range.
    take : callable
        Called with position and reply, once for each range, as soon as it is there.
    """

    left: dict[tuple[int, int], int]
    take: Callable[[int, Reply], None]

    def hand_over(self, byte_range: tuple[int, int], reply: Reply) -> None:
        """Hand a range on, unless that was done."""
        position = self.left.pop(byte_range, None)
        if position is not None:
            self.take(position, reply)


@dataclass(slots=True, eq=False)
class Kept:
    """The first bytes of a range, whose rest did not come; only its rest is asked for then.

    Parameters
    ----------
    pieces : list of bytes
        What came.
    version : tuple
        ETag and size of the file that they are from.
    """

    pieces: list[bytes] = field(default_factory=list)
    version: tuple[str, int] = ("", 0)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.pieces))

    def keep(self, pieces: list[bytes], version: tuple[str, int]) -> bool:
        """Keep what came, if the file's version can be told for certain."""
        etag = version[0]
        if not pieces or not etag or etag.startswith("W/"):
            return False
        self.pieces += pieces
        self.version = version
        return True

    def drop(self) -> None:
        """Begin anew."""
        self.pieces.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to ask for: ranges, or the whole file up to a cap."""

    ranges: tuple[tuple[int, int], ...]
    cap: int | None = None
    tries_parts: bool = False
    """Ask for the last byte as well, to see whether the server takes several ranges."""
    delivery: Delivery | None = None
    """Who takes the ranges; without it there is one, and its reply is returned."""
    is_document: bool = False
    """A catalogue's document: it may come compressed, and errors explain themselves."""
    body: bytes | None = None
    """JSON to be sent along, with POST."""
    asks_size: bool = False
    """Only for the size of the file."""
    known: tuple[int, tuple[str, ...]] | None = None
    """Size and stamp of the file, where the server does not say them with ranges."""
    kept: Kept = field(default_factory=Kept)
    """What came of the range, where there is one."""
    silent_s: float = 0.0
    """Seconds of silence that were borne at earlier attempts."""

    @property
    def takes_parts(self) -> bool:
        """Whether an answer of several parts is wanted."""
        return self.tries_parts or len(self.ranges) > 1

    @property
    def span(self) -> tuple[int, int] | None:
        """All ranges as one, for messages."""
        return (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else None

    @property
    def size(self) -> int:
        """Bytes asked for, 0 where nobody knows."""
        return sum(stop - start for start, stop in self.ranges)

    @property
    def method(self) -> str:
        """GET, HEAD or POST."""
        return "HEAD" if self.asks_size else "GET" if self.body is None else "POST"

    @property
    def headers(self) -> dict[str, str]:
        """What a request says."""
        headers = {"Accept-Encoding": "gzip" if self.is_document else "identity"}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        spans = [f"{start}-{stop - 1}" for start, stop in self.ranges]
        if self.kept.pieces:
            start, stop = self.ranges[0]
            spans = [f"{start + self.kept.size}-{stop - 1}"]
        elif self.tries_parts:
            spans.append("-1")
        if spans:
            headers["Range"] = f"bytes={','.join(spans)}"
        return headers

    def rest(self) -> Wish:
        """Ask only for what has not come yet."""
        if self.delivery is None or len(self.ranges) <= 1:
            return self
        return replace(self, ranges=tuple(self.delivery.left), kept=Kept())
