"""Several ranges of a file in one answer (RFC 9110, multipart/byteranges)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_PART_HEADER = re.compile(rb"^content-range:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PAGE_HEADER = re.compile(
    rb"^content-type:[ \t]*(?:text/html|application/xhtml)", re.IGNORECASE | re.MULTILINE
)
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
    data : memoryview
        The bytes.
    """

    start: int
    stop: int
    total: int
    data: memoryview


class PartParser:
    r"""Takes a multipart answer apart while it arrives.

    Lengths come from each part's Content-Range, so that data may hold anything. A server may
    join neighbouring ranges and order parts as it likes.

    Parameters
    ----------
    boundary : str
        From the answer's Content-Type.
    longest : int
        Most bytes of a part.

    Examples
    --------
    >>> parser = PartParser("x", longest=9)
    >>> parts = parser.feed(b"--x\r\nContent-Range: bytes 2-3/9\r\n\r\nab\r\n--x--")
    >>> [bytes(part.data) for part in parts], parser.is_done
    ([b'ab'], True)
    """

    def __init__(self, boundary: str, *, longest: int) -> None:
        self._longest = longest
        self._delimiter = b"--" + boundary.encode("latin-1", "replace")
        self._head = bytearray()
        self._span: tuple[int, int, int] | None = None
        self._body = memoryview(b"")
        self._filled = 0
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
        found: list[Part] = []
        rest = memoryview(data)
        while rest and not self.is_done:
            if self._span is None:
                rest = self._take_header(rest)
            if self._span is None:
                break
            # Straight to its place: bodies are long, and every further copy costs new pages.
            piece = rest[: len(self._body) - self._filled]
            self._body[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == len(self._body):
                first, last, total = self._span
                found.append(Part(start=first, stop=last + 1, total=total, data=self._body))
                self._span = None
        return found

    def _take_header(self, data: memoryview) -> memoryview:
        """Read a part's header, if all of it has arrived; return what stands behind it."""
        known = len(self._head)
        self._head += data[:_LONGEST_HEADER]
        end = self._head.find(b"\r\n\r\n", 0, _LONGEST_HEADER)
        head = bytes(self._head[: end if end >= 0 else _LONGEST_HEADER]).lstrip(b"\r\n")
        if head.startswith(self._delimiter + b"--"):
            self.is_done = True
            return data[:0]
        if end < 0 and len(self._head) < _LONGEST_HEADER:
            return data[:0]
        is_header = end >= 0 and head.startswith(self._delimiter)
        label = _PART_HEADER.search(head) if is_header else None
        span = CONTENT_RANGE.fullmatch(label[1].decode("latin-1").strip()) if label else None
        if span is None or span[3] == "*" or int(span[2]) < int(span[1]):
            msg = "a part does not say which bytes it holds"
            raise PartsError(msg)
        if _PAGE_HEADER.search(head):
            msg = "a part is a page of HTML"
            raise PartsError(msg)
        first, last, total = map(int, span.groups())
        if last + 1 - first > self._longest:
            msg = f"a part is {last + 1 - first} bytes long, at most {self._longest} were asked for"
            raise PartsError(msg)
        self._span = (first, last, total)
        self._body = np.empty(last + 1 - first, np.uint8).data  # not zeroed, as bytearrays
        self._filled = 0
        self._head.clear()
        return data[end + 4 - known :]
