"""Several ranges of a file in one answer (RFC 9110, multipart/byteranges)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_PART_HEADER = re.compile(rb"^content-range:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_LONGEST_HEADER = 4096


class PartsError(Exception):
    """The answer can't be taken apart, or lacks a range that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    first: int
    stop: int
    total: int
    data: memoryview


def take_apart(
    body: bytes, boundary: str, ranges: Sequence[tuple[int, int]]
) -> tuple[list[memoryview], int]:
    r"""Find the asked ranges in a multipart answer.

    Lengths come from each part's Content-Range, so that data may hold anything. A server may
    join neighbouring ranges and order parts as it likes.

    Parameters
    ----------
    body : bytes
        The answer.
    boundary : str
        From its Content-Type.
    ranges : sequence of tuple of int
        First byte and the byte behind the last one of each range asked for; the latter may
        lie behind the file's end.

    Returns
    -------
    pieces : list of memoryview
        Bytes of each range, in the order asked for.
    total : int
        Size of the whole file, as all parts say.

    Raises
    ------
    PartsError
        A part is cut or unlabelled, sizes disagree, or a range is not there.

    Examples
    --------
    >>> body = b"--x\r\nContent-Range: bytes 2-3/9\r\n\r\nab\r\n--x--"
    >>> [bytes(piece) for piece in take_apart(body, "x", [(2, 4)])[0]]
    [b'ab']
    """
    parts = _parts(memoryview(body), body, b"--" + boundary.encode("latin-1", "replace"))
    totals = {part.total for part in parts}
    if len(totals) != 1:
        msg = f"the parts speak of files of {sorted(totals)} bytes"
        raise PartsError(msg)
    (total,) = totals
    pieces = []
    for start, behind in ranges:
        stop = min(behind, total)
        part = next((p for p in parts if p.first <= start and stop <= p.stop), None)
        if part is None:
            msg = f"bytes {start}-{stop - 1} are in none of the {len(parts)} parts"
            raise PartsError(msg)
        pieces.append(part.data[start - part.first : stop - part.first])
    return pieces, total


def _parts(view: memoryview, body: bytes, delimiter: bytes) -> list[_Part]:
    found: list[_Part] = []
    position = body.find(delimiter, 0, _LONGEST_HEADER)
    while position >= 0:
        begin = position + len(delimiter)
        if body[begin : begin + 2] == b"--":
            return found
        end = body.find(b"\r\n\r\n", begin, begin + _LONGEST_HEADER)
        label = _PART_HEADER.search(body[begin:end]) if end >= 0 else None
        span = CONTENT_RANGE.fullmatch(label[1].decode("latin-1").strip()) if label else None
        if span is None:
            msg = "a part does not say which bytes it holds"
            raise PartsError(msg)
        first, last, total = map(int, span.groups())
        data = view[end + 4 : end + 4 + last + 1 - first]
        if len(data) != last + 1 - first or last < first:
            msg = f"the part of bytes {first}-{last} is cut"
            raise PartsError(msg)
        found.append(_Part(first=first, stop=last + 1, total=total, data=data))
        behind = end + 4 + len(data)
        position = behind + 2 if body[behind : behind + 2 + len(delimiter)] == (
            b"\r\n" + delimiter
        ) else -1  # fmt: skip
    msg = "the answer ends before its last part"
    raise PartsError(msg)
