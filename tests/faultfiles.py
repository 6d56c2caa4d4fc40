"""Right answers to requests for files and folders, as Apache gives them.

Standard library only, so that any Python can run it.
"""

from __future__ import annotations

import html
import math
import time
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Literal
from urllib.parse import quote

FOR_EVER_S = 3600.0
LOGIN = "login.html"
LOGIN_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body>Please log in.</body></html>\n"
)
_TYPES = {".tif": "image/tiff", ".xml": "application/xml", ".json": "application/json"}
_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found"}
_BOUNDARY = "3d6b6a416f9b5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, its path without token and faults."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    prefix: str
    """What stands before the path, such as ``/token/s503:1:any/``."""
    origin: str
    """The server's own, such as ``http://127.0.0.1:8000``."""
    ranges: tuple[tuple[int, int], ...] = ()
    """First byte and the byte behind the last one of each range asked for."""

    @property
    def healthy(self) -> str:
        """The same place without faults, in the same log."""
        return f"/{self.prefix.split('/')[1]}/none/{quote(self.path)}"

    @property
    def scope(self) -> str:
        if self.method == "HEAD":
            return "head"
        if self.path.endswith("/") or not self.path:
            return "listing"
        return "tile" if self.ranges and self.ranges[0][0] > 0 else "header"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent, and how: all that HTTP allows, and some things that it does not."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    version: str = "1.1"
    framing: Literal["length", "chunked", "close"] = "length"
    """How the client learns where the body ends."""
    claimed: int | None = None
    """Content-Length, where it is not the body's."""
    end: Literal["keep", "fin", "rst"] = "keep"
    silent: bool = False
    """Send nothing at all before `end`."""
    pause_at: int | None = None
    """Bytes of the body after which nothing comes for `pause_s`; -1 is before the head."""
    pause_s: float = FOR_EVER_S
    step: int = 2**18
    """Bytes sent at once."""
    gap_s: float = 0.0
    """Seconds between them."""

    @property
    def head(self) -> bytes:
        headers = dict(self.headers)
        if self.framing == "length":
            length = len(self.body) if self.claimed is None else self.claimed
            headers["Content-Length"] = str(length)
        elif self.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if self.framing == "close" or self.version == "1.0":
            headers["Connection"] = "close"
        reason = _REASONS.get(self.status, "Trouble")
        lines = [f"HTTP/{self.version} {self.status} {reason}", "Server: Apache"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def with_headers(self, **changed: str | None) -> Answer:
        """Return it with headers changed or, by None, left out."""
        names = {name.replace("_", "-"): value for name, value in changed.items()}
        merged = {**self.headers, **names}
        return replace(self, headers={k: v for k, v in merged.items() if v is not None})


def right_answer(root: Path, request: Request, *, many: bool) -> Answer:
    """Answer as Apache would."""
    if request.method not in {"GET", "HEAD"}:
        return page(405)
    if request.path == LOGIN:
        return page(200, LOGIN_PAGE)
    parts = request.path.split("/")
    found = root.joinpath(*parts)
    if ".." in parts or not found.exists() or (found.is_file() and not parts[-1]):
        return page(404)
    if found.is_file():
        return _file_answer(found, request, many=many)
    if request.path and not request.path.endswith("/"):
        return redirect(f"{request.origin}{request.prefix}{quote(request.path)}/")
    return page(200, _listing(found, request).encode())


def page(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a page of HTML."""
    text = body or f"<html><body><h1>{status}</h1></body></html>\n".encode()
    return Answer(
        status=status, headers={"Content-Type": "text/html;charset=UTF-8"}, body=text
    ).with_headers(**headers)


def redirect(location: str) -> Answer:
    return page(302, Location=location)


def asked_ranges(header: str | None, size: int) -> tuple[tuple[int, int], ...]:
    """Resolve a Range header; empty where there is none or it can't be read."""
    unit, _, spans = (header or "").partition("=")
    found = []
    for span in spans.split(",") if unit.strip() == "bytes" else ():
        first, dash, last = span.strip().partition("-")
        if not dash or not (first + last).isdigit():
            return ()
        if not first:
            found.append((max(size - int(last), 0), size))
        else:
            found.append((int(first), min(int(last) + 1, size) if last else size))
    return tuple(found)


def label_of(start: int, stop: int, size: int) -> str:
    return f"bytes {start}-{stop - 1}/{size}"


def stamps_of(file: Path) -> dict[str, str]:
    stat = file.stat()
    return {
        "Content-Type": _TYPES.get(file.suffix, "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": f'"{stat.st_size:x}-{stat.st_mtime_ns // 1000:x}"',
        "Last-Modified": formatdate(int(stat.st_mtime), usegmt=True),
    }


def _file_answer(file: Path, request: Request, *, many: bool) -> Answer:
    size, headers, ranges = file.stat().st_size, stamps_of(file), request.ranges
    if any(start >= stop for start, stop in ranges):
        return page(416, Content_Range=f"bytes */{size}")
    if not ranges or (len(ranges) > 1 and not many):
        return Answer(status=200, headers=headers, body=file.read_bytes())
    if len(ranges) > 1:
        return multipart(file, ranges, headers)
    ((start, stop),) = ranges
    body = cut_out(file, start, stop)
    label = {"Content-Range": label_of(start, stop, size)}
    return Answer(status=206, headers={**headers, **label}, body=body)


def cut_out(file: Path, start: int, stop: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def multipart(
    file: Path, ranges: tuple[tuple[int, int], ...], headers: dict[str, str], *, off_by: int = 0
) -> Answer:
    body = b""
    for start, stop in ranges:
        label = label_of(start, stop, file.stat().st_size)
        lines = ["", f"--{_BOUNDARY}", f"Content-type: {headers['Content-Type']}"]
        head = "\r\n".join([*lines, f"Content-range: {label}", "", ""])
        body += head.encode() + cut_out(file, start - off_by, stop - off_by)
    body += f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/byteranges; boundary={_BOUNDARY}"}
    return Answer(status=206, headers={**headers, **kind}, body=body)


def _listing(folder: Path, request: Request) -> str:
    """Write the page of a folder as mod_autoindex does with HTMLTable."""
    title = html.escape(f"Index of {request.prefix}{request.path}")
    parent = quote(f"{request.prefix}{request.path}".rstrip("/").rpartition("/")[0] + "/")
    rows = [f'<tr><td><a href="{parent}">Parent Directory</a></td><td>&nbsp;</td><td>-</td></tr>']
    for entry in sorted(folder.iterdir()):
        stat, is_folder = entry.stat(), entry.is_dir()
        name = entry.name + "/" * is_folder
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(stat.st_mtime))
        shown = "  - " if is_folder else f"{math.ceil(stat.st_size / 1024)}K"
        rows.append(
            f'<tr><td><a href="{quote(name)}">{html.escape(name)}</a></td>'
            f'<td align="right">{when}  </td><td align="right">{shown}</td><td>&nbsp;</td></tr>'
        )
    table = "\n".join(rows)
    return (
        f"<html><head><title>{title}</title></head><body><h1>{title}</h1>\n"
        f"<table>\n{table}\n</table></body></html>\n"
    )
