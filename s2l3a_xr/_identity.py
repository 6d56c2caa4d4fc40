"""Whether bytes are of the very file whose header was read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from s2l3a_xr._errors import FileChangedError
from s2l3a_xr._transport import Reply, Session, asked_at, is_http

Marks = tuple[tuple[int, int, bytes], ...]

_T = TypeVar("_T")

_MIRRORS_ASKED = 8
"""How often a file's header is asked for until the mirror answers that is looked for."""


class OutdatedHeaderError(Exception):
    """A remembered header that gave no pixel yet is contradicted: it may be read once more."""


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """What became of a header since it was read.

    Parameters
    ----------
    read_at : float
        When it was read, as of `time.monotonic`.
    is_used : bool, default False
        Whether bytes of its file were taken: another header's must not be mixed with them.
    is_outdated : bool, default False
        Whether it was contradicted before that: then it is never used.
    """

    read_at: float = field(default_factory=time.monotonic)
    is_used: bool = False
    is_outdated: bool = False


async def read_again(read: Callable[[], Awaitable[_T]]) -> _T:
    """Read a file, and once more where the remembered header turned out to be outdated.

    Parameters
    ----------
    read : callable
        Reads the file, its header first.

    Returns
    -------
    object
        What it returns.
    """
    try:
        return await read()
    except OutdatedHeaderError:
        return await read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What tells a file from a later one of the same name.

    Parameters
    ----------
    url : str
        Where it is.
    stamp : tuple of str
        ETag and Last-Modified, or what the place has instead.
    total : int
        Its size.
    marks : tuple
        Of its header, as in `Header`.
    standing : Standing
        Of its header.
    """

    url: str
    stamp: tuple[str, ...]
    total: int
    marks: Marks
    standing: Standing = field(default_factory=Standing)


async def check_same(session: Session, pin: Pin, reply: Reply, byte_range: tuple[int, int]) -> None:
    """Refuse bytes of another file than the one whose header was read.

    A mirror may give the same file another ETag. Where only that differs, the header is read
    again from there, and must be the same.

    A header that an earlier call left behind, and that gave no pixel yet, is called outdated
    where it is contradicted: whoever reads may read it once more and go on.

    Parameters
    ----------
    session : Session
        This process's connections; it forgets the header of a file that was replaced.
    pin : Pin
        What the file was when its header was read.
    reply : Reply
        The bytes.
    byte_range : tuple of int
        Which bytes, for messages.

    Raises
    ------
    FileChangedError
        The file was replaced.
    """
    standing = pin.standing
    try:
        if (reply.stamp, reply.total) != (pin.stamp, pin.total):
            if not _may_be_twin(pin, reply):
                raise _changed(pin, reply)
            key = (pin.url, pin.stamp, reply.stamp)
            await session.twins.get(key, lambda: _check_twin(session, pin, reply))
        if standing.is_outdated:  # what others read meanwhile may be of the newer file
            raise _changed(pin, reply)
    except FileChangedError as exc:
        forget_header(session, pin.url)
        standing.is_outdated |= not standing.is_used and standing.read_at < asked_at.get()
        raise exc.at(byte_range=byte_range, attempts=1) from exc.__cause__
    standing.is_used = True


def _may_be_twin(pin: Pin, reply: Reply) -> bool:
    """Tell whether the ETag alone differs: of http, there are that and Last-Modified."""
    return (
        is_http(pin.url)
        and reply.total == pin.total
        and bool(pin.stamp[1:])
        and all(pin.stamp[1:])
        and reply.stamp[1:] == pin.stamp[1:]
    )


async def _check_twin(session: Session, pin: Pin, reply: Reply) -> bool:
    """Hold a mirror's header against the known one.

    It is asked for from its second byte: some servers treat the beginning of a file apart.
    """
    for start, stop, known in pin.marks:
        for _ in range(_MIRRORS_ASKED):
            again = await session.read(pin.url, start, stop)
            if again.stamp == reply.stamp:
                break
        if again.stamp != reply.stamp or digest(again.data) != known:
            raise _changed(pin, reply)
    return True


def _changed(pin: Pin, reply: Reply) -> FileChangedError:
    msg = (
        f"the file was replaced while it was read ({pin.total} bytes {pin.stamp} became "
        f"{reply.total} bytes {reply.stamp})"
    )
    return FileChangedError(msg, url=pin.url)


def digest(data: bytes | memoryview) -> bytes:
    """Tell bytes from others.

    Parameters
    ----------
    data : bytes or memoryview
        Any.

    Returns
    -------
    bytes
        16 of them.
    """
    return hashlib.blake2b(data, digest_size=16).digest()


def forget_header(session: Session, url: str) -> None:
    """Drop what is remembered of a remote file, since it is another one now.

    Parameters
    ----------
    session : Session
        This process's connections.
    url : str
        The file.
    """
    for overviews in (False, True):
        session.headers.forget((url, overviews, ()))
    if session.store is not None:
        session.store.forget_header(url)
