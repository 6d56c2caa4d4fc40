"""Whether bytes are of the very file whose header was read."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from s2l3a_xr._agreement import reading_for
from s2l3a_xr._errors import FileChangedError
from s2l3a_xr._transport import Reply, Session, asked_at, is_http

Marks = tuple[tuple[int, int, bytes], ...]

_T = TypeVar("_T")

_MIRRORS_ASKED = 8
"""How often a file's header is asked for until the mirror answers that is looked for."""


class OutdatedHeaderError(Exception):
    """A header of an earlier call turned out to be of another version: it is to be read anew.

    Parameters
    ----------
    error : FileChangedError
        What to raise where that was done.
    """

    def __init__(self, error: FileChangedError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """What became of a header since it was read.

    Parameters
    ----------
    read_at : float
        When it was read, as of `time.monotonic`; -inf for what an earlier process read.
    is_outdated : bool, default False
        Whether a later call contradicted it: then it is never used.
    """

    read_at: float = field(default_factory=time.monotonic)
    is_outdated: bool = False

    @property
    def is_remembered(self) -> bool:
        """Tell whether an earlier call read it."""
        return self.read_at < asked_at.get()


async def read_again(read: Callable[[], Awaitable[_T]], place: Mapping[str, str]) -> _T:
    """Read a file, and once more where the remembered header turned out to be outdated.

    Parameters
    ----------
    read : callable
        Reads the file, its header first.
    place : mapping of str
        What an error says of the file.

    Returns
    -------
    object
        What it returns.

    Raises
    ------
    FileChangedError
        The header that came from others meanwhile is outdated too.
    """
    with contextlib.suppress(OutdatedHeaderError):
        return await read()
    try:
        return await read()
    except OutdatedHeaderError as exc:
        raise exc.error.at(**place) from None


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
    version : str
        As in `Header`; empty while the header is still being read.
    marks : tuple
        Of its header, as in `Header`.
    standing : Standing
        Of its header.
    """

    url: str
    stamp: tuple[str, ...]
    total: int
    marks: Marks
    version: str = ""
    standing: Standing = field(default_factory=Standing)


async def check_same(session: Session, pin: Pin, reply: Reply, byte_range: tuple[int, int]) -> None:
    """Refuse bytes of another file than the one whose header was read.

    A mirror may give the same file another ETag. Where only that differs, the header is read
    again from there, and must be the same.

    A header that an earlier call left behind is called outdated where it is contradicted: whoever
    reads may read it once more and go on, if the array has no pixel of it (`claim_version`).

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
        standing.is_outdated |= standing.is_remembered
        raise exc.at(byte_range=byte_range, attempts=1) from exc.__cause__


async def claim_version(
    session: Session, pin: Pin, byte_range: tuple[int, int] | None, *, asks: bool = True
) -> None:
    """Take a file's version for an array, before its first pixel is handed on.

    Parameters
    ----------
    session : Session
        This process's connections.
    pin : Pin
        What the file was when its header was read.
    byte_range : tuple of int or None
        Which bytes are wanted of it, for messages.
    asks : bool, default True
        Whether to take it; else it is only held against what was taken.

    Raises
    ------
    FileChangedError
        The array has pixels of another version.
    OutdatedHeaderError
        So it has, and the header is of an earlier call.
    """
    versions = reading_for.get()
    if versions is None:
        return
    if asks:
        counts: str | None = await versions.claim(pin.url, pin.version, session.questions)
    else:
        counts = versions.known(pin.url)
    if counts in {None, pin.version}:
        return
    msg = "the file was replaced since other pixels of this array were read"
    error = FileChangedError(msg, url=pin.url, byte_range=byte_range, attempts=1)
    if pin.standing.is_remembered:
        forget_header(session, pin.url)
        raise OutdatedHeaderError(error)
    raise error


def _may_be_twin(pin: Pin, reply: Reply) -> bool:
    """Tell whether the ETag alone differs: of http, there are that and Last-Modified."""
    return (
        _has_date(pin.url, pin.stamp)
        and reply.total == pin.total
        and reply.stamp[1:] == pin.stamp[1:]
    )


def _has_date(url: str, stamp: tuple[str, ...]) -> bool:
    return is_http(url) and bool(stamp[1:]) and all(stamp[1:])


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


def tell_version(url: str, stamp: tuple[str, ...], total: int, tables: bytes) -> str:
    """Name a file's version, alike for all mirrors.

    Parameters
    ----------
    url : str
        Where it is.
    stamp : tuple of str
        As of `Pin`; an ETag, which may be each mirror's own, counts where there is no date.
    total : int
        Its size.
    tables : bytes
        Where its blocks are.

    Returns
    -------
    str
        Equal for equal files.
    """
    own = stamp[1:] if _has_date(url, stamp) else stamp
    return digest(repr((own, total)).encode() + tables).hex()


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
