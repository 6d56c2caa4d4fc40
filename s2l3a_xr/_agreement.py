"""Which version of each file an array has read: one for all of its chunks, in every process.

The version that gave the first pixel counts. A process keeps that in mind. Workers of a dask
cluster ask the scheduler, as does its client; processes on one machine that got the array pickled,
or were forked, ask a database in the folder of the one that opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import sqlite3
import uuid
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from s2l3a_xr._cluster import current_client
from s2l3a_xr._errors import S2L3AError
from s2l3a_xr._loop import in_thread
from s2l3a_xr._transport import working_for

_log = logging.getLogger(__name__)

_DATABASE = "versions.sqlite"
_PATIENCE_S = 60.0

reading_for: ContextVar[Versions | None] = ContextVar("reading_for", default=None)
"""Versions of the array for which something is read."""

_open: WeakValueDictionary[str, Versions] = WeakValueDictionary()
_unpacked: deque[Versions] = deque(maxlen=16)
"""A pool's child unpacks the array anew for each task: it should not ask anew each time."""


class Versions:
    """Versions of the files that one array has read.

    Copies of the array share it; pickled, it takes along what it knows.

    Parameters
    ----------
    name : str, optional
        What it is called in other processes.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or uuid.uuid4().hex
        self._known: dict[str, str] = {}
        self._database: Path | None = None
        self._client: Any = None
        _open[self.name] = self

    def pack(self, home: str) -> tuple[str, dict[str, str]]:
        """Tell all that another process must know, and from now on ask where it does.

        Parameters
        ----------
        home : str
            Folder of the process that opened the array.

        Returns
        -------
        tuple
            What it is called, and the versions by place; for `unpack_versions`.
        """
        self._client = current_client()
        self.share(home)
        return self.name, dict(self._known)

    def share(self, home: str) -> None:
        """Ask, before a version is taken, what other processes of this machine have taken.

        Parameters
        ----------
        home : str
            Folder of the process that opened the array; made where it is not there.
        """
        try:
            Path(home).mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            _log.warning("processes can't agree on versions of files: %s", exc)
        else:
            self._database = Path(home) / _DATABASE

    def forget_client(self) -> None:
        """Ask no scheduler any more: in a forked child, the client's loop does not run."""
        self._client = None

    def learn(self, known: Mapping[str, str], home: str) -> None:
        """Take over what another process knows.

        Parameters
        ----------
        known : mapping of str
            Versions by place.
        home : str
            Folder of the process that opened the array; nobody is asked where it is not there,
            as on another machine.
        """
        for place, version in known.items():
            self._known.setdefault(place, version)
        if Path(home).is_dir():
            self._database = Path(home) / _DATABASE

    def known(self, url: str) -> str | None:
        """Tell which version of a file was taken, as far as this process knows.

        Parameters
        ----------
        url : str
            The file.

        Returns
        -------
        str or None
            None for none.
        """
        return self._known.get(_place(url))

    async def claim(self, url: str, version: str, turn: asyncio.Semaphore) -> str:
        """Take a version of a file, unless another one was taken before.

        Parameters
        ----------
        url : str
            The file.
        version : str
            Its version.
        turn : asyncio.Semaphore
            So many questions are asked at a time.

        Returns
        -------
        str
            The version that counts.

        Raises
        ------
        S2L3AError
            The scheduler can't be asked.
        """
        place = _place(url)
        if place in self._known:
            return self._known[place]
        async with turn:
            if place not in self._known:
                self._known.setdefault(place, await self._agree(place, version))
        return self._known[place]

    async def _agree(self, place: str, version: str) -> str:
        node = working_for.get() or self._running_client()
        if node is not None:
            return await self._ask_scheduler(node, place, version)
        if self._database is not None:
            return await in_thread(self._ask_database, self._database, place, version)
        return version

    def _running_client(self) -> Any:  # noqa: ANN401 - distributed is an optional extra
        client = self._client
        # In an asynchronous client's loop somebody may be waiting for this very answer.
        is_there = client is not None and client.status == "running" and not client.asynchronous
        return client if is_there else None

    async def _ask_scheduler(self, node: Any, place: str, version: str) -> str:  # noqa: ANN401
        """Add a version to those that were named, and take the one that was named first."""
        keys = ["s2l3a_xr-versions", self.name, place]

        async def ask() -> str:
            await node.scheduler.set_metadata(keys=[*keys, version], value=True)
            named = await node.scheduler.get_metadata(keys=keys)
            return str(next(iter(named), version))

        try:
            said = asyncio.run_coroutine_threadsafe(ask(), node.loop.asyncio_loop)
            return await asyncio.wrap_future(said)
        except Exception as exc:  # whatever distributed raises of a scheduler that is lost or old
            why = str(exc) or repr(exc)
            msg = f"the scheduler can't tell which version of a file counts: {why}; see its log."
            raise S2L3AError(msg) from exc

    def _ask_database(self, path: Path, place: str, version: str) -> str:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_S)) as database:
                with database:
                    database.execute("PRAGMA synchronous = OFF")  # of use as long as we live
                    database.execute(
                        "CREATE TABLE IF NOT EXISTS taken"
                        " (name TEXT, place TEXT, version TEXT, PRIMARY KEY (name, place))"
                    )
                    database.execute(
                        "INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", (self.name, place, version)
                    )
                found = database.execute(
                    "SELECT version FROM taken WHERE name = ? AND place = ?", (self.name, place)
                ).fetchone()
        except sqlite3.Error as exc:
            if not path.parent.is_dir():  # who opened the array is gone, and the others with it
                return version
            msg = f"processes can't agree on versions of files in {path}: {exc}; see the disk."
            raise S2L3AError(msg) from exc
        return str(found[0])


def unpack_versions(name: str, known: Mapping[str, str], home: str) -> Versions:
    """Find an array's versions in this process, or begin with what another one knew.

    Parameters
    ----------
    name : str
        What it is called.
    known : mapping of str
        See `Versions.learn`.
    home : str
        See `Versions.learn`.

    Returns
    -------
    Versions
        The same for all copies of the array.
    """
    versions = _open.get(name) or Versions(name)
    versions.learn(known, home)
    if versions not in _unpacked:
        _unpacked.append(versions)
    return versions


def share_all(home: str) -> None:
    """Have all arrays of this process agree with those of a child that is forked.

    Parameters
    ----------
    home : str
        Folder of this process.
    """
    for versions in _all():
        versions.share(home)


def _all() -> list[Versions]:
    refs = _open.valuerefs()  # a list at once: other threads may open arrays meanwhile
    return [versions for ref in refs if (versions := ref()) is not None]


def _leave_client_to_parent() -> None:
    for versions in _all():
        versions.forget_client()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_client_to_parent)


def _place(url: str) -> str:
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
