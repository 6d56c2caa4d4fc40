"""Answers to requests for files and folders: right ones, and ones spoilt on purpose."""

from __future__ import annotations

import dataclasses
import email.utils
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s2l3a_xr._sample._faults import Fault

_PIECE = 1 << 18
_HTML = "text/html;charset=UTF-8"
_TYPES = {
    ".tif": "image/tiff",
    ".xml": "application/xml",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".html": _HTML,
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_LOGIN_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Login</title></head><body>Please log in.</body></html>\n"
)
_BOUNDARY = "3d6b6a416f9b5"
_SHIFT = 16  # bytes by which a wrong range is off


class ByteRange(NamedTuple):
    """Bytes of a file, the stop not among them."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, headers, and a body that is bytes or part of a file."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    """The body, where it is not a part of a file."""
    file: Path | None = None
    part: ByteRange = field(default=ByteRange(0, 0))
    """The bytes of `file` that are the body."""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.content) if self.file is None else self.part.stop - self.part.start

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces, so that a large file never stands in memory."""
        if self.file is None:
            for at in range(0, len(self.content), _PIECE):
                yield self.content[at : at + _PIECE]
            return
        with self.file.open("rb") as stream:
            stream.seek(self.part.start)
            left = self.length
            while left > 0 and (piece := stream.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece

    def body(self) -> bytes:
        """Return the body in one."""
        return b"".join(self.pieces())

    def with_content(self, content: bytes) -> Answer:
        """Return the same answer with other bytes."""
        return dataclasses.replace(self, content=content, file=None)

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return the same answer with headers added or replaced."""
        return dataclasses.replace(self, headers={**self.headers, **headers})


def page_answer(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a short page of HTML that says what is wrong."""
    text = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n'
        f"<html><head>\n<title>{status} {html.escape(reason)}</title>\n</head><body>\n"
        f"<h1>{html.escape(reason)}</h1>\n</body></html>\n"
    )
    return html_answer(status, text, headers)


def html_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a page of HTML."""
    return Answer(
        status=status,
        headers={"Content-Type": _HTML, **(headers or {})},
        content=text.encode(),
    )


def file_answer(file: Path, headers: Mapping[str, str], *, many: bool = True) -> Answer:
    """Answer with a file, or with the ranges of it that the request's headers ask for.

    Where `many` is not set, several ranges in one request get the whole file, which the
    standard allows.
    """
    stat = file.stat()
    common = {
        "Content-Type": _TYPES.get(file.suffix, "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": f'"{stat.st_size:x}-{stat.st_mtime_ns // 1000:x}"',
        "Last-Modified": email.utils.formatdate(int(stat.st_mtime), usegmt=True),
    }
    whole = ByteRange(0, stat.st_size)
    condition = headers.get("If-Range")
    if condition is not None and condition not in (common["ETag"], common["Last-Modified"]):
        return Answer(status=200, headers=common, file=file, part=whole)
    parts = asked_ranges(headers.get("Range"), stat.st_size)
    if many and len(parts) > 1 and all(part.start < part.stop for part in parts):
        return _multipart_answer(file, parts, stat.st_size, common)
    asked = parts[0] if len(parts) == 1 else None
    if asked is None:
        return Answer(status=200, headers=common, file=file, part=whole)
    if asked.start >= asked.stop:
        unmet = {"Content-Range": f"bytes */{stat.st_size}"}
        return page_answer(416, "Requested Range Not Satisfiable", unmet)
    label = {"Content-Range": _label(asked, stat.st_size)}
    return Answer(status=206, headers={**common, **label}, file=file, part=asked)


def asked_range(header: str | None, size: int) -> ByteRange | None:
    """Resolve a Range header against the size of a file.

    Returns
    -------
    ByteRange or None
        None without a header that names one range; an empty range where the file ends
        before it.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        return ByteRange(max(size - int(last), 0), size)
    if last != "" and int(last) < int(first):
        return None
    stop = size if last == "" else min(int(last) + 1, size)
    return ByteRange(int(first), max(stop, 0))


def asked_ranges(header: str | None, size: int) -> tuple[ByteRange, ...]:
    """Resolve all ranges of a Range header; empty where one of them is none."""
    unit, _, spans = (header or "").strip().partition("=")
    found = [asked_range(f"{unit}={span.strip()}", size) for span in spans.split(",")]
    return tuple(item for item in found if item is not None) if None not in found else ()


def _multipart_answer(
    file: Path, parts: tuple[ByteRange, ...], size: int, common: Mapping[str, str]
) -> Answer:
    """Answer as Apache does to several ranges: each with a header of its own."""
    content = bytearray()
    with file.open("rb") as stream:
        for part in parts:
            stream.seek(part.start)
            head = f"Content-type: {common['Content-Type']}\r\nContent-range: {_label(part, size)}"
            content += f"\r\n--{_BOUNDARY}\r\n{head}\r\n\r\n".encode()
            content += stream.read(part.stop - part.start)
    content += f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/byteranges; boundary={_BOUNDARY}"}
    return Answer(status=206, headers={**common, **kind}, content=bytes(content))


def spoil(answer: Answer, fault: Fault, asked: ByteRange | None) -> Answer:
    """Return the answer as the fault makes it.

    What a fault does to the connection (cut, stalled, one byte at a time) is left to the
    server.
    """
    if fault.kind == "status":
        return page_answer(fault.status, "Trouble", fault.headers)
    if fault.kind == "redirect":
        return page_answer(302, "Found", {"Location": fault.location, **fault.headers})
    if fault.kind == "html":
        return html_answer(200, _LOGIN_PAGE, fault.headers)
    answer = answer.with_headers(fault.headers)
    if fault.kind == "etag":
        return answer.with_headers({"ETag": '"0-0"'})
    if answer.file is None:
        return answer
    return _spoil_file(answer, answer.file, fault, asked)


def _spoil_file(answer: Answer, file: Path, fault: Fault, asked: ByteRange | None) -> Answer:
    size = file.stat().st_size
    if fault.kind == "ignore_range":
        headers = {k: v for k, v in answer.headers.items() if k != "Content-Range"}
        return Answer(status=200, headers=headers, file=file, part=ByteRange(0, size))
    if fault.kind == "short":
        return answer.with_content(answer.body()[: answer.length // 2])
    if fault.kind == "zeros":
        return answer.with_content(bytes(answer.length))
    if fault.kind == "flip":
        content = bytearray(answer.body())
        content[len(content) // 2] ^= 0x10
        return answer.with_content(bytes(content))
    if asked is None or answer.status != 206:
        return answer
    return _spoil_range(answer, fault, asked, size)


def _spoil_range(answer: Answer, fault: Fault, asked: ByteRange, size: int) -> Answer:
    by = _SHIFT if asked.stop + _SHIFT <= size else -_SHIFT
    moved = ByteRange(max(asked.start + by, 0), asked.stop + by)
    half = ByteRange(asked.start, asked.start + max((asked.stop - asked.start) // 2, 1))
    label = _label(asked, size)
    if fault.kind == "html_range":
        page = (_LOGIN_PAGE * (answer.length // len(_LOGIN_PAGE) + 1)).encode()
        answer = answer.with_content(page[: answer.length]).with_headers({"Content-Type": _HTML})
    elif fault.kind == "no_content_range":
        headers = {k: v for k, v in answer.headers.items() if k != "Content-Range"}
        return dataclasses.replace(answer, headers=headers)
    elif fault.kind == "wrong_total":
        label = _label(asked, size + 1)
    elif fault.kind == "lying_range":
        answer = dataclasses.replace(answer, part=moved)
    elif fault.kind == "wrong_range":
        answer, label = dataclasses.replace(answer, part=moved), _label(moved, size)
    elif fault.kind == "short_range":
        answer, label = dataclasses.replace(answer, part=half), _label(half, size)
    return answer.with_headers({"Content-Range": label})


def _label(part: ByteRange, size: int) -> str:
    return f"bytes {part.start}-{part.stop - 1}/{size}"
