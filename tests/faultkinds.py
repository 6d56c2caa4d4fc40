"""What each kind of fault makes of a right answer; `faultserver` sends it."""

from __future__ import annotations

import gzip
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from faultfiles import (
    FOR_EVER_S,
    LOGIN,
    LOGIN_PAGE,
    Answer,
    Request,
    cut_out,
    label_of,
    multipart,
    page,
    redirect,
    stamps_of,
)

_SHIFT = 16
_LONG = 32 * 2**20
_STATUS = re.compile(r"s(\d{3})(ra|once)?")


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
    ranges = case.request.ranges
    if case.answer.status == 206 and len(ranges) > 1 and ranges[0][0] > 0 and not honest:
        return multipart(case.file, ranges, stamps_of(case.file), off_by=_SHIFT)
    if case.part is None:
        return case.answer
    start, stop, size = case.part
    by = _SHIFT if stop + _SHIFT <= size else -min(_SHIFT, start)
    moved = replace(case.answer, body=cut_out(case.file, start + by, stop + by))
    return (
        moved.with_headers(Content_Range=label_of(start + by, stop + by, size)) if honest else moved
    )


def _shorter(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    start, _, size = case.part
    label = label_of(start, start + len(case.half), size)
    return replace(case.answer, body=case.half).with_headers(Content_Range=label)


def _other_total(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    start, stop, size = case.part
    return case.answer.with_headers(Content_Range=label_of(start, stop, size + 4096))


def _one_part(case: Case) -> Answer:
    if case.part is None:
        return case.answer
    headers = {k: v for k, v in case.answer.headers.items() if k != "Content-Range"}
    return multipart(case.file, case.request.ranges, headers)


def _whole(case: Case) -> Answer:
    if not case.file.is_file():
        return case.answer
    return Answer(status=200, headers=stamps_of(case.file), body=case.file.read_bytes())


def _flipped(case: Case) -> Answer:
    body = bytearray(case.answer.body)
    if body:
        body[len(body) // 2] ^= 0x10
    return replace(case.answer, body=bytes(body))


def _page_for_bytes(case: Case) -> Answer:
    length = len(case.answer.body)
    body = (LOGIN_PAGE * (length // len(LOGIN_PAGE) + 1))[:length]
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
    label = label_of(start, stop, new.stat().st_size)
    body = cut_out(new, start, stop)
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
    return redirect(target if "://" in target else f"{scheme}://{target}")


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
    "redirloop": lambda c: redirect(_here(c)),
    "redirhost": _other_host,
    "redirfile": lambda c: redirect(c.argument or "file:///etc/passwd"),
    "redirhttp": lambda c: redirect(
        f"http://{c.request.origin.partition('//')[2]}{c.request.healthy}"
    ),
    "redirlogin": lambda c: redirect(f"/{c.request.prefix.split('/')[1]}/none/{LOGIN}"),
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
    "html200": lambda c: page(200, LOGIN_PAGE),  # noqa: ARG005 - all kinds take a case
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
