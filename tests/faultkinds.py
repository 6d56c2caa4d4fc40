"""What goes wrong, kind by kind: right answers, and what each fault makes of them.

`faultserver` sends them. Standard library only, so that any Python can run it.
"""

from __future__ import annotations

import gzip
import html
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Literal
from urllib.parse import quote

FOR_EVER_S = 3600.0
LOGIN = "login.html"
_LOGIN_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body>Please log in.</body></html>\n"
)
_TYPES = {".tif": "image/tiff", ".xml": "application/xml", ".json": "application/json"}
_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found"}
_BOUNDARY = "3d6b6a416f9b5"
_SHIFT = 16
_LONG = 32 * 2**20
_STATUS = re.compile(r"s(\d{3})(ra|once)?")


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
        return page(200, _LOGIN_PAGE)
    parts = request.path.split("/")
    found = root.joinpath(*parts)
    if ".." in parts or not found.exists() or (found.is_file() and not parts[-1]):
        return page(404)
    if found.is_file():
        return _file_answer(found, request, many=many)
    if request.path and not request.path.endswith("/"):
        return _redirect(f"{request.origin}{request.prefix}{quote(request.path)}/")
    return page(200, _listing(found, request).encode())


def page(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a page of HTML."""
    text = body or f"<html><body><h1>{status}</h1></body></html>\n".encode()
    return Answer(
        status=status, headers={"Content-Type": "text/html;charset=UTF-8"}, body=text
    ).with_headers(**headers)


def _redirect(location: str) -> Answer:
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


def _label(start: int, stop: int, size: int) -> str:
    return f"bytes {start}-{stop - 1}/{size}"


def _stamps(file: Path) -> dict[str, str]:
    stat = file.stat()
    return {
        "Content-Type": _TYPES.get(file.suffix, "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": f'"{stat.st_size:x}-{stat.st_mtime_ns // 1000:x}"',
        "Last-Modified": formatdate(int(stat.st_mtime), usegmt=True),
    }


def _file_answer(file: Path, request: Request, *, many: bool) -> Answer:
    size, headers, ranges = file.stat().st_size, _stamps(file), request.ranges
    if any(start >= stop for start, stop in ranges):
        return page(416, Content_Range=f"bytes */{size}")
    if not ranges or (len(ranges) > 1 and not many):
        return Answer(status=200, headers=headers, body=file.read_bytes())
    if len(ranges) > 1:
        return _multipart(file, ranges, headers)
    ((start, stop),) = ranges
    body = _cut_out(file, start, stop)
    label = {"Content-Range": _label(start, stop, size)}
    return Answer(status=206, headers={**headers, **label}, body=body)


def _cut_out(file: Path, start: int, stop: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def _multipart(file: Path, ranges: tuple[tuple[int, int], ...], headers: dict[str, str]) -> Answer:
    body = b""
    for start, stop in ranges:
        label = _label(start, stop, file.stat().st_size)
        lines = ["", f"--{_BOUNDARY}", f"Content-type: {headers['Content-Type']}"]
        head = "\r\n".join([*lines, f"Content-range: {label}", "", ""])
        body += head.encode() + _cut_out(file, start, stop)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a fault has to work with."""

    answer: Answer
    """The right answer."""
    request: Request
    argument: str
    """What stands behind a kind's colon, such as the seconds of ``s503ra:6``."""
    file: Path

    @property
    def half(self) -> bytes:
        return self.answer.body[: max(len(self.answer.body) // 2, 1)]

    @property
    def part(self) -> tuple[int, int, int] | None:
        """Start, stop and file size of the one range asked for, where there is one."""
        if self.answer.status != 206 or len(self.request.ranges) != 1:
            return None
        return (*self.request.ranges[0], self.file.stat().st_size)


def _moved(case: Case, *, honest: bool) -> Answer:
    if case.part is None:
        return case.answer
    start, stop, size = case.part
    by = _SHIFT if stop + _SHIFT <= size else -min(_SHIFT, start)
    moved = replace(case.answer, body=_cut_out(case.file, start + by, stop + by))
    return (
        moved.with_headers(Content_Range=_label(start + by, stop + by, size)) if honest else moved
    )


def _shorter(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    start, _, size = case.part
    label = _label(start, start + len(case.half), size)
    return replace(case.answer, body=case.half).with_headers(Content_Range=label)


def _other_total(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    start, stop, size = case.part
    return case.answer.with_headers(Content_Range=_label(start, stop, size + 4096))


def _one_part(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    headers = {k: v for k, v in case.answer.headers.items() if k != "Content-Range"}
    return _multipart(case.file, case.request.ranges, headers)


def _whole(case: Case) -> Answer:
    if not case.file.is_file():
        return case.answer
    return Answer(status=200, headers=_stamps(case.file), body=case.file.read_bytes())


def _flipped(case: Case) -> Answer:
    body = bytearray(case.answer.body)
    if body:
        body[len(body) // 2] ^= 0x10
    return replace(case.answer, body=bytes(body))


def _page_for_bytes(case: Case) -> Answer:
    length = len(case.answer.body)
    body = (_LOGIN_PAGE * (length // len(_LOGIN_PAGE) + 1))[:length]
    return replace(case.answer, body=body).with_headers(Content_Type="text/html")


def _zipped(case: Case) -> Answer:
    body = gzip.compress(case.answer.body, 1)
    return replace(case.answer, body=body).with_headers(Content_Encoding="gzip")


def _replaced(case: Case, **stamps: str) -> Answer:
    """Answer from the file named ``….new`` beside the one asked for, if there is one."""
    new = case.file.with_name(case.file.name + ".new")
    answer = case.answer.with_headers(**stamps)
    if case.part is None or not new.exists():
        return answer
    start, stop, _ = case.part
    label = _label(start, stop, new.stat().st_size)
    body = _cut_out(new, start, stop)
    return replace(answer, body=body).with_headers(Content_Range=label)


def _status(case: Case, status: int, *, waits: bool) -> Answer:
    size = case.file.stat().st_size if case.file.is_file() else 0
    label = {"Content_Range": f"bytes */{size}"} if status == 416 else {}
    pause = {"Retry_After": _retry_after(case.argument)} if waits else {}
    return page(status, **label, **pause)


def _retry_after(text: str) -> str:
    """Write seconds, ``date2`` (a date so far ahead), ``past`` or anything else as it is."""
    if text.startswith("date"):
        return formatdate(math.ceil(time.time() + float(text[4:] or 1)), usegmt=True)
    if text == "past":
        return formatdate(time.time() - 3600, usegmt=True)
    return text or "1"


def _other_host(case: Case) -> Answer:
    """Redirect to the same place under another name, or to a place given in full."""
    target = case.argument or "localhost"
    if "/" not in target:
        port = case.request.origin.rpartition(":")[2]
        target = f"{target}:{port}{case.request.healthy}"
    scheme = case.request.origin.partition(":")[0]
    return _redirect(target if "://" in target else f"{scheme}://{target}")


def _here(case: Case) -> str:
    return case.request.prefix + quote(case.request.path)


def _padded(case: Case) -> bytes:
    return case.answer.body + bytes(_LONG)


SPOILERS: dict[str, Callable[[Case], Answer]] = {
    "none": lambda c: c.answer,
    "reset0": lambda c: replace(c.answer, silent=True, end="rst"),
    "close0": lambda c: replace(c.answer, silent=True, end="fin"),
    "closemid": lambda c: replace(c.answer, body=c.half, claimed=len(c.answer.body), end="fin"),
    "resetmid": lambda c: replace(c.answer, body=c.half, claimed=len(c.answer.body), end="rst"),
    "short_cl": lambda c: replace(c.answer, body=c.half),
    "short_chunked": lambda c: replace(c.answer, body=c.half, framing="chunked"),
    "short_nocl": lambda c: replace(c.answer, body=c.half, framing="close"),
    "short_honest": _shorter,
    "long": lambda c: replace(c.answer, body=_padded(c)),
    "long_chunked": lambda c: replace(c.answer, body=_padded(c), framing="chunked"),
    "long_wire": lambda c: replace(
        c.answer, body=c.answer.body + bytes(4096), claimed=len(c.answer.body)
    ),
    "stall": lambda c: replace(
        c.answer, pause_at=len(c.half), pause_s=float(c.argument or FOR_EVER_S)
    ),
    "stall0": lambda c: replace(c.answer, pause_at=-1, pause_s=float(c.argument or FOR_EVER_S)),
    "drip": lambda c: replace(c.answer, step=1, gap_s=float(c.argument or 0.5)),
    "slow": lambda c: replace(
        c.answer, step=max(int(float(c.argument or 200_000) / 20), 1), gap_s=0.05
    ),
    "redirloop": lambda c: _redirect(_here(c)),
    "redirhost": _other_host,
    "redirfile": lambda c: _redirect(c.argument or "file:///etc/passwd"),
    "redirhttp": lambda c: _redirect(
        f"http://{c.request.origin.partition('//')[2]}{c.request.healthy}"
    ),
    "redirlogin": lambda c: _redirect(f"{c.request.prefix}{LOGIN}"),
    "full200": _whole,
    "nocr": lambda c: c.answer.with_headers(Content_Range=None),
    "nocr_short": lambda c: replace(c.answer, body=c.half).with_headers(Content_Range=None),
    "nocr_long": lambda c: replace(c.answer, body=c.answer.body + bytes(16)).with_headers(
        Content_Range=None
    ),
    "shift_honest": lambda c: _moved(c, honest=True),
    "shift_lying": lambda c: _moved(c, honest=False),
    "badtotal": _other_total,
    "multipart": _one_part,
    "zeros": lambda c: replace(c.answer, body=bytes(len(c.answer.body))),
    "flip": _flipped,
    "ctype_html": lambda c: c.answer.with_headers(Content_Type="text/html"),
    "gzip": _zipped,
    "html200": lambda c: page(200, _LOGIN_PAGE),  # noqa: ARG005 - all kinds take a case
    "html206": _page_for_bytes,
    "etagswap": lambda c: _replaced(c, ETag='"0-0"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT"),
    "mirror_etag": lambda c: c.answer.with_headers(ETag='"0-1"'),
    "mirror_swap": lambda c: _replaced(c, ETag='"0-2"'),
    "keepalive-close": lambda c: replace(c.answer, end="fin"),
    "http10": lambda c: replace(c.answer, version="1.0", end="fin"),
}
_ALIASES = {"rst": "reset0", "fin": "close0"}


def check_kind(kind: str) -> str:
    """Return a kind by its main name, its argument with it, or raise ValueError."""
    name, colon, argument = kind.partition(":")
    name = _ALIASES.get(name, name)
    if name not in SPOILERS and not _STATUS.fullmatch(name):
        raise ValueError(f"unknown kind of fault: {kind!r}")
    return f"{name}{colon}{argument}"


def spoil(root: Path, request: Request, answer: Answer, kind: str) -> Answer:
    """Return what a kind of fault makes of the right answer."""
    name, _, argument = kind.partition(":")
    case = Case(answer=answer, request=request, argument=argument, file=root / request.path)
    if found := _STATUS.fullmatch(name):
        return _status(case, int(found[1]), waits=found[2] == "ra")
    return SPOILERS[name](case)
