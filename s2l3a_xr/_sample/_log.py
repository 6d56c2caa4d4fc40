"""What the server saw of each request."""

from __future__ import annotations

from dataclasses import dataclass

from s2l3a_xr._sample._answers import ByteRange


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as the server saw it."""

    method: str
    path: str
    """Decoded path, without the query."""
    range: ByteRange | None
    """The bytes asked for, resolved against the file; None where no single range was asked."""
    ranges: tuple[ByteRange, ...]
    """All ranges asked for; the same one where there is only one."""
    status: int
    """Status sent; 0 where the connection was cut before one."""
    bytes_sent: int
    """Bytes of the body that were handed to the socket."""
    started: float
    """`time.monotonic` when the request had been read."""
    finished: float | None
    """`time.monotonic` when the answer had been written; None while it is not."""
    peer_port: int
    """Port of the client, one for each connection."""
    cookie: str
    """What the client sent back of the cookies that it got."""
    body: bytes
    """What was posted."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """What became of a request so far; a client may look at the log before it ends."""

    method: str
    path: str
    started: float
    peer_port: int
    range: ByteRange | None = None
    ranges: tuple[ByteRange, ...] = ()
    status: int = 0
    bytes_sent: int = 0
    cookie: str = ""
    body: bytes = b""
    finished: float | None = None
