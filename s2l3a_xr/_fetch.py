"""Bringing in the blocks of one file: from disk, from other readers, over the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from s2l3a_xr._errors import FileChangedError, FormatError, GoneError, ReadError
from s2l3a_xr._identity import (
    OutdatedHeaderError,
    check_same,
    claim_version,
    forget_header,
)
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._plan import Range, Target, group_ranges, merge_ranges
from s2l3a_xr._source import Header
from s2l3a_xr._tiff import Layout, decode_block
from s2l3a_xr._transport import Reply, Session

Piece = tuple[Target, memoryview]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockReader:
    """Brings blocks of one image to where they belong.

    Parameters
    ----------
    session : Session
        This process's connections.
    url : str
        The file.
    header : Header
        What was read of it.
    image : Layout
        The full image, or an overview.
    requests : int
        At least so many requests are made, where there is enough to ask for: other files are
        read at the same time, and all connections should have work.
    put : callable
        Takes a target and the block's pixels; called in threads.
    failed : callable, optional
        Takes the error of a range or block that can't be read, and the others go on; without
        it the first error is raised. That the file is gone is always raised.
    """

    session: Session
    url: str
    header: Header
    image: Layout
    requests: int
    put: Callable[[Target, np.ndarray], None]
    failed: Callable[[ReadError], None] | None = None

    def _key(self, target: Target) -> tuple[object, ...]:
        return (self.url, self.header.stamp, self.header.total, self.image.width, target.block)

    def has(self, target: Target) -> bool:
        """Tell whether a block is at hand already.

        Parameters
        ----------
        target : Target
            The block.

        Returns
        -------
        bool
            True where it needs no request.
        """
        key = self._key(target)
        store = self.session.store
        return self.session.blocks.has(key) or (store is not None and store.has_block(key))

    async def bring(self, targets: Sequence[Target]) -> None:
        """Bring each block in and hand it on, only once where others want it at the same time.

        Blocks that reach past this chunk are kept for the next one.

        Parameters
        ----------
        targets : sequence of Target
            Blocks that the file has.

        Raises
        ------
        ReadError
            A block can't be read.
        OutdatedHeaderError
            The header is of an earlier call, and was contradicted.
        """
        first = self.image.span(targets[0].block) if targets else None
        await self._claim(first, asks=False)
        left = targets
        if self.session.store is not None and await in_thread(self._has_some, targets):
            await self._claim(first)
            left = await in_thread(self._put_kept, targets)
        blocks = self.session.blocks
        claims = [(target, blocks.claim(self._key(target))) for target in left]
        mine = [target for target, is_mine in claims if is_mine]
        open_claims = {self._key(target) for target in mine}
        theirs = [target for target, is_mine in claims if not is_mine]
        try:
            ranges = merge_ranges(mine, self.image)
            many = self.session.takes_many(self.url)
            groups = group_ranges(ranges, self.requests if many else len(ranges) or 1)
            await gather(
                [
                    *(self._fetch(group, open_claims) for group in groups),
                    *(self._take(target) for target in theirs),
                ]
            )
            await self._claim(first)  # for what was never written, the header alone says so
        finally:
            for key in open_claims:
                blocks.release(key)

    async def _claim(self, byte_range: tuple[int, int] | None, *, asks: bool = True) -> None:
        await claim_version(self.session, self.header.pin(self.url), byte_range, asks=asks)

    def _has_some(self, targets: Sequence[Target]) -> bool:
        store = self.session.store
        return store is not None and any(store.has_block(self._key(t)) for t in targets)

    def _put_kept(self, targets: Sequence[Target]) -> list[Target]:
        """Serve what the disk has; return the rest."""
        store = self.session.store
        left = []
        for target in targets:
            shape = self.image.block_shape(target.block[0])
            dtype = self.image.dtype.newbyteorder("=")
            pixels = store.block(self._key(target), dtype, shape) if store else None
            if pixels is None:
                left.append(target)
            else:
                self.put(target, pixels)
        return left

    async def _take(self, target: Target) -> None:
        """Wait for a block that another reader is at."""
        data = await self.session.blocks.wait(self._key(target))
        if data is None:
            await self.bring([target])
        else:
            await self._claim(self.image.span(target.block))
            self._complain(await in_thread(self._unpack, [(target, memoryview(data))]))

    async def _fetch(self, group: Sequence[Range], open_claims: set[tuple[object, ...]]) -> None:
        """Fetch some ranges; where one may have spoilt it for the others, each by itself."""
        left = set(range(len(group)))
        try:
            await self._fetch_at_once(group, left, open_claims)
        except ReadError as exc:
            if isinstance(exc, FileChangedError):
                forget_header(self.session, self.url)
            if self.failed is None or isinstance(exc, GoneError):
                raise
            if len(group) == 1:
                self.failed(exc)
            else:
                await gather(self._fetch([group[i]], open_claims) for i in sorted(left))

    async def _fetch_at_once(
        self, group: Sequence[Range], left: set[int], open_claims: set[tuple[object, ...]]
    ) -> None:
        """Fetch some ranges, unpacking each as soon as it is there."""
        jobs: list[asyncio.Task[None]] = []

        def take(position: int, reply: Reply) -> None:
            left.discard(position)
            jobs.append(asyncio.create_task(self._use(group[position], reply, open_claims)))

        async with self.session.slots:
            try:
                ranges = [(part.start, part.stop) for part in group]
                await self.session.read_many(self.url, ranges, take)
            except BaseException:
                if self.failed is None:
                    for job in jobs:
                        job.cancel()
                raise
            finally:
                ends = await asyncio.gather(*jobs, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _use(self, part: Range, reply: Reply, open_claims: set[tuple[object, ...]]) -> None:
        try:
            pin = self.header.pin(self.url)
            await check_same(self.session, pin, reply, (part.start, part.stop))
            await self._claim((part.start, part.stop))
        except FileChangedError as exc:
            if self.header.standing.is_outdated:
                raise OutdatedHeaderError(exc) from exc
            if self.failed is None:
                raise
            self.failed(exc)
            return
        pieces = self._cut(part, memoryview(reply.data))
        broken = await in_thread(self._unpack, pieces)
        for target, data in pieces:
            if target.block in broken:  # the claim is given back: bytes like these are not kept
                continue
            key = self._key(target)
            open_claims.discard(key)
            if target.is_shared or self.session.blocks.is_awaited(key):
                self.session.blocks.fill(key, bytes(data))
            else:
                self.session.blocks.release(key)
        self._complain(broken)

    def _complain(self, broken: dict[tuple[int, int], FormatError]) -> None:
        for error in broken.values():
            if self.failed is None:
                raise error
            self.failed(error)

    def _cut(self, part: Range, data: memoryview) -> list[Piece]:
        pieces = []
        for target in part.targets:
            start, stop = self.image.span(target.block)
            pieces.append((target, data[start - part.start : stop - part.start]))
        return pieces

    def _unpack(self, pieces: Sequence[Piece]) -> dict[tuple[int, int], FormatError]:
        """Unpack and hand on what can be unpacked; return what is wrong with the others."""
        broken = {}
        for target, data in pieces:
            try:
                pixels = decode_block(self.image, data, target.block)
            except FormatError as exc:
                exc.at(url=self.url, byte_range=self.image.span(target.block), attempts=1)
                broken[target.block] = exc
                continue
            if self.session.store is not None:
                self.session.store.keep_block(self._key(target), pixels)
            self.put(target, pixels)
        return broken
