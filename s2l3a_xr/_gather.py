"""Single pixels of one band of one month, wherever they lie, from all of its files at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s2l3a_xr._errors import GoneError, ReadError
from s2l3a_xr._fetch import BlockReader
from s2l3a_xr._footprint import Footprint
from s2l3a_xr._loop import gather
from s2l3a_xr._plan import Target
from s2l3a_xr._product import NODATA
from s2l3a_xr._read import is_nothing
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import Layout
from s2l3a_xr._transport import Session


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathering:
    """Pixels of one band of one month, anywhere on one zone's lattice.

    Parameters
    ----------
    sources : tuple of Source
        Files of int16 on tiles of that zone, in cover order.
    footprint : Footprint
        Which pixels.
    requests : int
        At least so many requests are made for one file's blocks.
    keep_going : bool
        Whether a failed read leaves nodata instead of raising.
    is_shared : bool
        Whether others may want the same blocks.
    """

    sources: tuple[Source, ...]
    footprint: Footprint
    requests: int
    keep_going: bool
    is_shared: bool

    async def read(self, session: Session) -> tuple[np.ndarray, list[ReadError]]:
        """Read the pixels: of each the first valid one in cover order.

        Parameters
        ----------
        session : Session
            This process's connections.

        Returns
        -------
        pixels : ndarray of int16, shape (pixels,)
            Nodata where nothing is.
        errors : list of ReadError
            Files that are gone, and what else failed where that is allowed.

        Raises
        ------
        ReadError
            A file can't be read or is not what it must be.
        """
        pixels = np.full(len(self.footprint), NODATA, np.int16)
        errors: list[ReadError] = []
        lost: set[str] = set()
        held = [self.footprint.within(source.tile) for source in self.sources]
        owner = np.argmax([*held, np.ones(len(pixels), bool)], axis=0)

        async def read_file(position: int, which: np.ndarray) -> None:
            source = self.sources[position]
            if source.url in lost or not which.size:
                return
            try:
                errors.extend(await self._read_file(session, source, which, pixels))
            except ReadError as exc:
                if not (self.keep_going or isinstance(exc, GoneError)):
                    raise
                errors.append(exc)
                lost.add(source.url)

        every = range(len(self.sources))
        await gather(read_file(i, np.flatnonzero(owner == i)) for i in every)
        for i in every[1:]:
            holes = held[i] & (owner < i) & is_nothing(pixels, self.sources[i].band)
            await read_file(i, np.flatnonzero(holes))
        return pixels, errors

    async def _read_file(
        self, session: Session, source: Source, which: np.ndarray, pixels: np.ndarray
    ) -> list[ReadError]:
        failed: list[ReadError] = []
        try:
            header = await read_header(session, source)
            image = header.layout
            rows, columns = (index[which] for index in self.footprint.on(source.tile))
            order = _by_block(rows, columns, image)
            where = which[order]

            def put(target: Target, block: np.ndarray) -> None:
                pixels[where[target.output[0]]] = block[target.source]

            reader = BlockReader(
                session=session,
                url=source.url,
                header=header,
                image=image,
                requests=self.requests,
                put=put,
                failed=failed.append if self.keep_going else None,
            )
            targets = self._targets(rows[order], columns[order], image)
            await reader.bring([t for t in targets if image.counts[t.block] > 0])
        except ReadError as exc:
            raise exc.at(**source.place) from exc.__cause__
        return [error.at(**source.place) for error in failed]

    def _targets(self, rows: np.ndarray, columns: np.ndarray, image: Layout) -> Iterator[Target]:
        """Cut pixels that are in the order of blocks where a block ends."""
        block_rows, block_columns = rows // image.block_height, columns // image.block_width
        changes = np.diff(block_rows, prepend=-1) | np.diff(block_columns, prepend=-1)
        starts = np.flatnonzero(changes)
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            row, column = int(block_rows[start]), int(block_columns[start])
            yield Target(
                block=(row, column),
                output=(slice(start, stop), slice(0, 1)),
                source=(
                    rows[start:stop] - row * image.block_height,
                    columns[start:stop] - column * image.block_width,
                ),
                is_whole=False,
                is_shared=self.is_shared,
            )


def _by_block(rows: np.ndarray, columns: np.ndarray, image: Layout) -> np.ndarray:
    return np.lexsort((columns // image.block_width, rows // image.block_height))
