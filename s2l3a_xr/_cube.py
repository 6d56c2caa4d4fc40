"""The lazy array: a request that reads its pixels when it is indexed."""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from dask.base import tokenize
from dask.utils import parse_bytes
from xarray.backends import BackendArray
from xarray.core import indexing

from s2l3a_xr._agreement import Versions, reading_for, share_all, unpack_versions
from s2l3a_xr._cluster import check_version, own_version
from s2l3a_xr._errors import GoneError, ReadError, S2L3AError
from s2l3a_xr._failures import home_folder, listen, report
from s2l3a_xr._loop import to_its_end
from s2l3a_xr._reading import read_planes, read_request
from s2l3a_xr._request import Request
from s2l3a_xr._traffic import listen_to_traffic, note_traffic
from s2l3a_xr._transport import Session, Tally, run_with_session

_T = TypeVar("_T")

_UNCUT_PX = 8192
"""Planes up to so many pixels a side are never cut by automatic chunks."""

_CUT_PX = 512
"""Larger planes are cut on multiples of this, counted from the tiles' corner."""


@dataclass(eq=False, repr=False)
class L3AArray(BackendArray):
    """Array over (time, band, y, x) that reads what it is indexed for.

    It holds the request alone: no connection, no lock; it may be pickled and sent anywhere.

    Parameters
    ----------
    request : Request
        What to read.
    probe : callable, optional
        Called with the positions of each reading, to give values instead of pixels.
    home : str, optional
        Where a child process leaves word of what failed; given to it with the array.
    versions : Versions, optional
        Of the files that were read for it, and for others of the same opening; its own by default.
    """

    request: Request
    probe: Callable[[list[np.ndarray]], np.ndarray] | None = None
    home: str | None = None
    versions: Versions = field(default_factory=Versions)
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = self.request.shape
        self.dtype = self.request.dtype

    @cached_property
    def token(self) -> str:
        """Hash of the request; equal requests have equal ones, in every process."""
        return str(tokenize(self.request))

    def __repr__(self) -> str:
        """Name the request without its URLs: workers log the arguments of tasks that fail."""
        return f"<L3AArray of request {self.token}>"

    def __reduce__(self) -> tuple[Callable[..., L3AArray | _Refused], tuple[Any, ...]]:
        self.announce()  # it may be on its way to a cluster
        packed = pickle.dumps(self.request, pickle.HIGHEST_PROTOCOL)
        home = self.home or home_folder()
        return _unpack, (own_version(), platform.node(), packed, home, self.versions.pack(home))

    def announce(self) -> None:
        """Have the client that is current hear of what workers will tell of this request."""
        listen(lambda: self.token)
        listen_to_traffic(lambda: self.token)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return type(self).__name__, self.token

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(  # type: ignore[no-any-return]
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        """Read without holding up others: ``ds.load_async()`` reads all bands at once.

        Parameters
        ----------
        key : xarray.core.indexing.ExplicitIndexer
            As for indexing.

        Returns
        -------
        ndarray
            The pixels.
        """
        return await asyncio.to_thread(self.__getitem__, key)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        axes = [
            np.atleast_1d(np.arange(size)[index])
            for index, size in zip(key, self.shape, strict=True)
        ]
        if self.probe is not None:
            pixels = self.probe(axes)
        else:
            pixels = self.ask(lambda session: read_request(session, self.request, axes))
        scalars = tuple(
            0 if np.ndim(i) == 0 and not isinstance(i, slice) else slice(None) for i in key
        )
        return pixels[scalars]

    def give_planes(
        self,
        pairs: Sequence[tuple[int, int]],
        rows: np.ndarray,
        columns: np.ndarray,
        take: Callable[[int, np.ndarray, bool], _T],
    ) -> list[_T]:
        """Read planes at once, and give each away as soon as it is whole.

        Parameters
        ----------
        pairs : sequence of tuple of int
            Position along time and band of each plane.
        rows, columns : ndarray of int
            Positions along y and x, in any order.
        take : callable
            Gets a plane's number, its pixels, and whether something of it was gone or failed; one
            plane at a time, in a thread, while others are still being read.

        Returns
        -------
        list
            What it returned, by number.

        Raises
        ------
        ReadError
            As of `ask`; planes that were given away by then stay so.
        """
        (down, across), order = zip(
            *(np.unique(axis, return_inverse=True) for axis in (rows, columns)), strict=True
        )
        is_as_read = all((np.diff(places) == 1).all() for places in order)
        taken: dict[int, _T] = {}

        def give(number: int, plane: np.ndarray, errors: list[ReadError]) -> None:
            pixels = plane if is_as_read else plane[np.ix_(*order)]
            taken[number] = take(number, pixels, bool(errors))

        async def work(session: Session) -> tuple[list[_T], list[ReadError]]:
            shape = (len(down), len(across))
            outputs = {number: np.empty(shape, self.dtype) for number in range(len(pairs))}
            one = asyncio.Lock()

            async def finish(number: int, errors: list[ReadError]) -> None:
                self._check_gone(errors)
                plane = outputs.pop(number)
                async with one:
                    await to_its_end(give, number, plane, errors)

            errors = await read_planes(session, self.request, pairs, down, across, outputs, finish)
            return [taken[number] for number in range(len(pairs))], errors

        return self.ask(work)

    def ask(self, work: Callable[[Session], Awaitable[tuple[_T, list[ReadError]]]]) -> _T:
        """Have something of the request read, and tell what was gone or failed.

        Parameters
        ----------
        work : callable
            Takes this process's session, returns an awaitable of what was read and of what
            became nodata.

        Returns
        -------
        object
            What was read.

        Raises
        ------
        ReadError
            A file can't be read, or is gone where that is an error.
        """
        tally: Tally = Counter()

        async def job(session: Session) -> tuple[_T, list[ReadError]]:
            reading_for.set(self.versions)
            return await work(session)

        try:
            found, errors = run_with_session(self.request.transport, job, tally)
        except ReadError as exc:
            # Errors of other libraries in the chain may not survive the way from a worker, and
            # would take this one along; what they say is in its message.
            exc.__cause__ = exc.__context__ = None
            raise
        finally:
            note_traffic(self.token, tally, self.versions.name, self.versions.news())
        if errors:
            self._report(errors)
        return found

    def _report(self, errors: list[ReadError]) -> None:
        self._check_gone(errors)
        report(self.token, errors, home=self.home, quiet=self.request.missing == "keep")

    def _check_gone(self, errors: list[ReadError]) -> None:
        gone = next((error for error in errors if isinstance(error, GoneError)), None)
        if gone is not None and self.request.missing == "raise":
            gone.__cause__ = gone.__context__ = None  # as above
            raise gone


class _Refused:
    """In the place of an array that another version pickled: an error where it is read.

    Raised by unpickling, it would end a dask worker, and the next one, before anybody sees it.
    """

    def __init__(self, error: S2L3AError) -> None:
        self._error = error

    def __getitem__(self, key: object) -> np.ndarray:
        raise self._error

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):  # what pickle and copy look for
            raise AttributeError(name)
        raise self._error


def _unpack(
    version: str,
    origin: str,
    packed: bytes = b"",
    home: str = "",
    versions: tuple[str, dict[str, str], str] = ("", {}, ""),
    *_: object,
) -> L3AArray | _Refused:
    """Make the array again; the request is only looked at where the versions are equal."""
    try:
        check_version(version, origin)
    except S2L3AError as exc:
        return _Refused(exc)
    request = pickle.loads(packed)  # noqa: S301 - within a pickle
    return L3AArray(request, None, home, unpack_versions(*versions))


def _before_fork() -> None:
    share_all(home_folder())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def auto_chunks(
    shape: Sequence[int], dtype: np.dtype[Any], limit: str | int, *, side: int = _UNCUT_PX
) -> tuple[Any, ...]:
    """Choose chunks: time is split first, then band, then space.

    Many requests in flight decide how fast pixels come, so chunks are as large as dask's
    ``array.chunk-size`` allows, and a plane is cut only beyond 8192 pixels a side.

    Parameters
    ----------
    shape : sequence of int
        ``(time, band, y, x)``.
    dtype : numpy.dtype
        Of the pixels.
    limit : str or int
        Bytes of a chunk, such as ``"128 MiB"``.
    side : int, default 8192
        Most pixels of a chunk along y and x.

    Returns
    -------
    tuple
        Chunk sizes along (time, band, y, x).

    Examples
    --------
    >>> auto_chunks((8, 4, 1000, 1000), np.dtype("int16"), "128MiB")
    (8, 4, 1000, 1000)
    >>> auto_chunks((96, 10, 4096, 4096), np.dtype("int16"), "128MiB")
    (1, 4, 4096, 4096)
    """
    times, bands, height, width = shape
    height, width = min(height, side), min(width, side)
    planes = max(1, parse_bytes(limit) // (height * width * dtype.itemsize))
    if planes >= bands:
        return min(times, planes // bands), bands, height, width
    return 1, min(bands, planes), height, width


def cut_from_corner(size: int, chunk: int, offset: int) -> int | tuple[int, ...]:
    """Cut a long axis where blocks end, counted from the tiles' corner.

    Parameters
    ----------
    size : int
        Pixels of the axis.
    chunk : int
        Longest chunk.
    offset : int
        Pixels between the tiles' corner and the axis' begin.

    Returns
    -------
    int or tuple of int
        Chunk sizes.

    Examples
    --------
    >>> cut_from_corner(10000, 8192, 100)
    (8092, 1908)
    """
    if size <= chunk:
        return size
    first = chunk - offset % _CUT_PX
    cuts = [first, *([chunk] * ((size - first) // chunk))]
    rest = size - sum(cuts)
    return tuple([*cuts, rest] if rest else cuts)
