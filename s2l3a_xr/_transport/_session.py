"""What a process holds for one set of settings, and the door for other threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem

from s2l3a_xr._cache import SharedCache
from s2l3a_xr._cluster import dask_worker
from s2l3a_xr._errors import GoneError, S2L3AError, SelectionError, TransportError
from s2l3a_xr._loop import close_with_loop, gather, run
from s2l3a_xr._store import Store
from s2l3a_xr._transport._hosts import asked_at
from s2l3a_xr._transport._http import RangeHTTPFileSystem
from s2l3a_xr._transport._polite import working_for
from s2l3a_xr._transport._settings import Reply, Transport
from s2l3a_xr._transport._tally import Tally, count_into

_T = TypeVar("_T")


_MOST_QUESTIONS = 4
"""So many are asked of a cluster's scheduler at a time: each may take a connection to it."""


class Session:
    """What one process holds for one `Transport`: connections and what was learnt.

    It belongs to the background loop; `session_for` gives it.

    Parameters
    ----------
    transport : Transport
        The settings.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.http = RangeHTTPFileSystem(transport)
        # Twice the connections, so that some unpack while others receive, and no more pile up.
        self.slots = asyncio.Semaphore(2 * transport.max_connections)
        self.questions = asyncio.Semaphore(_MOST_QUESTIONS)
        self.headers: SharedCache[Any] = SharedCache(64 * 2**20, lambda header: header.weight)
        self.blocks: SharedCache[bytes] = SharedCache(256 * 2**20, len)
        self.listings: SharedCache[Any] = SharedCache(4096)
        self.twins: SharedCache[bool] = SharedCache(4096)
        folder = transport.cache_dir
        self.store = (
            Store(Path(folder).expanduser(), transport.cache_bytes) if folder is not None else None
        )
        self._infos: SharedCache[dict[str, Any]] = SharedCache(4096)
        self._file_systems: dict[tuple[str, str], fsspec.AbstractFileSystem] = {}

    async def read(self, url: str, start: int, stop: int) -> Reply:
        """Read a range of a file, wherever it lies.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.
        start, stop : int
            First byte and the byte behind the last one.

        Returns
        -------
        Reply
            Exactly these bytes, or those up to the file's end.

        Raises
        ------
        GoneError
            There is no such file.
        TransportError
            It can't be read.
        """
        if is_http(url):
            return await self.http.fetch(url, (start, stop))
        try:
            fs, path = self.file_system(url)
            if is_local(url):
                data, total, stamp = await asyncio.to_thread(_read_local, path, start, stop)
            else:
                info = await self._infos.get(url, lambda: _call(fs, "info", path))
                total = int(info["size"])
                stamp = tuple(str(info[key]) for key in ("mtime", "ETag", "etag") if key in info)
                data = await _call(fs, "cat_file", path, start=start, end=min(stop, total))
        except FileNotFoundError as exc:
            msg = "there is no such file"
            raise GoneError(msg, url=url, byte_range=(start, stop)) from exc
        except Exception as exc:  # each place that fsspec knows has errors of its own
            msg = f"the file can't be read: {str(exc) or repr(exc)}"
            hint = "see whether the address is right, and who may read there"
            raise TransportError(msg, url=url, byte_range=(start, stop), hint=hint) from exc
        if len(data) != min(stop, total) - start:
            msg = f"asked for {min(stop, total) - start} bytes, got {len(data)}"
            raise TransportError(msg, url=url, byte_range=(start, stop))
        return Reply(data=data, total=total, stamp=stamp, url=url)

    async def version(self, url: str) -> tuple[object, ...]:
        """Tell a local file from what had its name before.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.

        Returns
        -------
        tuple
            Time and size; empty where there is no such file, and for all other places, where
            asking would take a request.
        """
        if not is_local(url):
            return ()
        try:
            facts = await asyncio.to_thread(os.stat, self.file_system(url)[1])
        except OSError:
            return ()
        return facts.st_mtime_ns, facts.st_size

    async def read_first(self, url: str, stop: int) -> Reply:
        """Read a file's first bytes.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.
        stop : int
            The byte behind the last one.

        Returns
        -------
        Reply
            As from `read`.
        """
        return await (self.http.fetch_first(url, stop) if is_http(url) else self.read(url, 0, stop))

    async def read_many(
        self, url: str, ranges: Sequence[tuple[int, int]], take: Callable[[int, Reply], None]
    ) -> None:
        """Read several ranges of a file, in as few requests as its host allows.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.
        ranges : sequence of tuple of int
            First byte and the byte behind the last one of each; no range twice.
        take : callable
            Called with a range's position and its reply as soon as it is there.
        """
        if is_http(url):
            await self.http.fetch_many(url, ranges, take)
            return

        async def one(position: int, start: int, stop: int) -> None:
            take(position, await self.read(url, start, stop))

        await gather(one(position, *byte_range) for position, byte_range in enumerate(ranges))

    async def warm(self, url: str, count: int) -> None:
        """Open connections that requests to come will use, where the place has any.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.
        count : int
            How many; never more than ``max_connections``.
        """
        if is_http(url):
            await self.http.warm(url, count)

    def takes_many(self, url: str) -> bool:
        """Tell whether several ranges of a file come in one request.

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.

        Returns
        -------
        bool
            False too while it is not known.
        """
        return is_http(url) and self.http.takes_many(url)

    def file_system(self, url: str) -> tuple[fsspec.AbstractFileSystem, str]:
        """Give fsspec's file system for a place that is not http(s).

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.

        Returns
        -------
        tuple
            The file system and the path in it.
        """
        place, _, container = url.partition("::")
        protocol = place.partition("://")[0] if "://" in place else "file"
        key = (protocol, container)  # each zip has a file system of its own
        if key not in self._file_systems:
            asynchronous = issubclass(fsspec.get_filesystem_class(protocol), AsyncFileSystem)
            options = {"asynchronous": True} if asynchronous else {}
            self._file_systems[key] = fsspec.core.url_to_fs(url, **options)[0]
        fs = self._file_systems[key]
        return fs, fs._strip_protocol(place)  # noqa: SLF001 - fsspec's way for implementers

    async def list_folder(self, url: str) -> list[dict[str, Any]]:
        """List a folder of a place that is not http(s).

        Parameters
        ----------
        url : str
            A URL that fsspec knows, or a local path.

        Returns
        -------
        list of dict
            fsspec's entries: ``name``, ``size``, ``type``.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        """
        fs, path = self.file_system(url)
        return list(await _call(fs, "ls", path, detail=True))


def is_http(url: str) -> bool:
    """Tell whether a place is reached over http or https.

    Parameters
    ----------
    url : str
        A URL or path.

    Returns
    -------
    bool
        True for http and https URLs.
    """
    return url.startswith(("http://", "https://"))


def is_local(url: str) -> bool:
    """Tell whether a place is on this machine's disks, where asking is quick.

    Parameters
    ----------
    url : str
        A URL or path.

    Returns
    -------
    bool
        True for paths and ``file:`` URLs; False for what is in a zip.
    """
    return "::" not in url and ("://" not in url or url.startswith("file://"))


def _read_local(path: str, start: int, stop: int) -> tuple[bytes, int, tuple[str, ...]]:
    """Read a range, with size and stamp of the very file that it came from."""
    with Path(path).open("rb") as file:
        facts = os.fstat(file.fileno())
        file.seek(start)
        return file.read(max(0, stop - start)), facts.st_size, (str(facts.st_mtime),)


async def _call(fs: fsspec.AbstractFileSystem, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - fsspec is untyped
    """Call a file system's method without blocking the loop."""
    if isinstance(fs, AsyncFileSystem):
        return await getattr(fs, f"_{method}")(*args, **kwargs)
    return await asyncio.to_thread(getattr(fs, method), *args, **kwargs)


_sessions: dict[Transport, Session] = {}
_passing: set[Session] = set()
_inherited: list[tuple[Session, ...]] = []


def _leave_to_parent() -> None:
    """Forget the parent's sessions in a forked child, without ever closing them.

    Parent and child share one epoll set: a connection closed here would fall silent there.
    """
    _inherited.append((*_sessions.values(), *_passing))
    _sessions.clear()
    _passing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def run_with_session(
    transport: Transport, work: Callable[[Session], Awaitable[_T]], tally: Tally | None = None
) -> _T:
    """Run asynchronous work with this process's session and wait for it.

    Parameters
    ----------
    transport : Transport
        The settings; equal settings share one session.
    work : callable
        Takes the session, returns an awaitable.
    tally : Tally, optional
        Counts what is asked for.

    Returns
    -------
    object
        What the work returns.

    Raises
    ------
    SelectionError
        The settings are none.
    """
    given: object = transport
    if not isinstance(given, Transport):
        msg = f"transport={transport!r} must be a Transport, such as Transport(max_connections=4)."
        raise SelectionError(msg)

    worker = dask_worker()

    async def job() -> _T:
        asked_at.set(time.monotonic())
        working_for.set(worker)
        if tally is not None:
            count_into(tally)
        session = _sessions.get(transport)
        if session is None or session.loop is not asyncio.get_running_loop():
            session = _sessions[transport] = Session(transport)
        return await work(session)

    try:
        return run(job())
    except S2L3AError as exc:
        exc.__cause__ = exc.__context__ = None  # pages of other libraries; the message has it
        raise


@contextlib.asynccontextmanager
async def passing_session(transport: Transport) -> AsyncIterator[Session]:
    """Give a session that nobody else uses, and close it afterwards.

    Parameters
    ----------
    transport : Transport
        The settings.

    Yields
    ------
    Session
        Of the running loop.
    """
    session = Session(transport)
    _passing.add(session)  # closed with the loop, where closing is interrupted
    try:
        yield session
    finally:
        await session.http.close()
        _passing.discard(session)


async def _close_sessions() -> None:
    here = asyncio.get_running_loop()
    ours = [session for session in (*_sessions.values(), *_passing) if session.loop is here]
    _passing.difference_update(ours)
    for session in ours:
        if _sessions.get(session.transport) is session:
            del _sessions[session.transport]
        await session.http.close()


close_with_loop(_close_sessions)
