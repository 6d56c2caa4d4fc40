"""Several ranges of a file in one answer (RFC 9110, multipart/byteranges)."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_PART_HEADER = re.compile(rb"^content-range:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_LONGEST_HEADER = 4096


class PartsError(Exception):
    """The answer can't be taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Bytes of a file that came as one part.

    Parameters
    ----------
    start, stop : int
        First byte and the byte behind the last one.
    total : int
        Size of the whole file.
    data : bytes
        The bytes.
    """

    start: int
    stop: int
    total: int
    data: bytes


class PartParser:
    r"""Takes a multipart answer apart while it arrives.

    Lengths come from each part's Content-Range, so that data may hold anything. A server may
    join neighbouring ranges and order parts as it likes.

    Parameters
    ----------
    boundary : str
        From the answer's Content-Type.

    Examples
    --------
    >>> parser = PartParser("x")
    >>> parts = parser.feed(b"--x\r\nContent-Range: bytes 2-3/9\r\n\r\nab\r\n--x--")
    >>> [part.data for part in parts], parser.is_done
    ([b'ab'], True)
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.encode("latin-1", "replace")
        self._buffer = bytearray()
        self._span: tuple[int, int, int] | None = None
        self.is_done = False

    def feed(self, data: bytes) -> list[Part]:
        """Take more of the answer.

        Parameters
        ----------
        data : bytes
            What arrived.

        Returns
        -------
        list of Part
            Those that are complete now.

        Raises
        ------
        PartsError
            A part does not say which bytes it holds, or something else stands between parts.
        """
        self._buffer += data
        found: list[Part] = []
        while not self.is_done and self._has_header():
            if self._span is None:
                break
            first, last, total = self._span
            length = last + 1 - first
            if len(self._buffer) < length:
                break
            body = bytes(memoryview(self._buffer)[:length])
            del self._buffer[:length]
            self._span = None
            found.append(Part(start=first, stop=last + 1, total=total, data=body))
        return found

    def _has_header(self) -> bool:
        """Read a part's header, if none is at hand and all of it has arrived."""
        if self._span is not None:
            return True
        end = self._buffer.find(b"\r\n\r\n", 0, _LONGEST_HEADER)
        head = bytes(self._buffer[: end if end >= 0 else _LONGEST_HEADER]).lstrip(b"\r\n")
        if head.startswith(self._delimiter + b"--"):
            self.is_done = True
            return False
        if end < 0 and len(self._buffer) < _LONGEST_HEADER:
            return False
        label = _PART_HEADER.search(head) if head.startswith(self._delimiter) else None
        span = CONTENT_RANGE.fullmatch(label[1].decode("latin-1").strip()) if label else None
        if span is None or int(span[2]) < int(span[1]):
            msg = "a part does not say which bytes it holds"
            raise PartsError(msg)
        first, last, total = map(int, span.groups())
        self._span = (first, last, total)
        del self._buffer[: end + 4]
        return True
