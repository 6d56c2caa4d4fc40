"""A bounded cache that lets several readers share work under way."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_V = TypeVar("_V")


class SharedCache(Generic[_V]):
    """Least recently used results, and claims on results that somebody is fetching.

    It belongs to one event loop and needs no lock. A failure is never kept: who waited for
    a claim that came to nothing makes the value itself.

    Parameters
    ----------
    limit : int
        Weight that all kept values may have together.
    weigh : callable, optional
        Weight of one value; 1 each by default.
    """

    def __init__(self, limit: int, weigh: Callable[[_V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[Hashable, asyncio.Future[_V]] = OrderedDict()
        self._waiting: Counter[Hashable] = Counter()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[_V]]) -> _V:
        """Return the value, made by whoever asked first.

        Parameters
        ----------
        key : hashable
            Its name.
        make : callable
            Makes the value where nobody has it or is at it.

        Returns
        -------
        object
            The value.
        """
        while not self.claim(key):
            found = await self.wait(key)
            if found is not None:
                return found
        try:
            value = await make()
        except BaseException:
            self.release(key)
            raise
        self.fill(key, value)
        return value

    def claim(self, key: Hashable) -> bool:
        """Promise to make a value.

        Parameters
        ----------
        key : hashable
            Its name.

        Returns
        -------
        bool
            True where the caller is now the one who must `fill` or `release` it.
        """
        if key in self._entries:
            return False
        self._entries[key] = asyncio.get_running_loop().create_future()
        return True

    def has(self, key: Hashable) -> bool:
        """Tell whether a value is there, or somebody is at it.

        Parameters
        ----------
        key : hashable
            Its name.

        Returns
        -------
        bool
            True where nobody needs to make it.
        """
        return key in self._entries

    async def wait(self, key: Hashable) -> _V | None:
        """Wait for a value that somebody has claimed.

        Parameters
        ----------
        key : hashable
            Its name.

        Returns
        -------
        object or None
            None where the claim came to nothing.
        """
        future = self._entries.get(key)
        if future is None:
            return None
        self._waiting[key] += 1
        try:
            await asyncio.wait([future])
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
        if future.cancelled():
            return None
        if key in self._entries:
            self._entries.move_to_end(key)
        return future.result()

    def fill(self, key: Hashable, value: _V) -> None:
        """Keep the promise.

        Parameters
        ----------
        key : hashable
            Its name.
        value : object
            What was made.
        """
        self._entries[key].set_result(value)
        self._weight += self._weigh(value)
        if self._weight <= self._limit:
            return
        for oldest in list(self._entries):
            if self._weight <= self._limit:
                break
            if oldest != key and self._entries[oldest].done():
                self._weight -= self._weigh(self._entries.pop(oldest).result())

    def is_awaited(self, key: Hashable) -> bool:
        """Tell whether somebody waits for a claimed value.

        Parameters
        ----------
        key : hashable
            Its name.

        Returns
        -------
        bool
            True where the value is wanted now.
        """
        return key in self._waiting

    def release(self, key: Hashable) -> None:
        """Give the promise back, if it was not kept.

        Parameters
        ----------
        key : hashable
            Its name.
        """
        future = self._entries.get(key)
        if future is not None and not future.done():
            del self._entries[key]
            future.cancel()

    def forget(self, key: Hashable) -> None:
        """Drop a value that turned out to be stale.

        Parameters
        ----------
        key : hashable
            Its name.
        """
        future = self._entries.get(key)
        if future is not None and future.done():
            self._weight -= self._weigh(self._entries.pop(key).result())
