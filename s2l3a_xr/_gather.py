"""Single pixels of one band of one month, wherever they lie, from all of its files at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s2l3a_xr._errors import FormatError, GoneError, ReadError
from s2l3a_xr._fetch import BlockReader
from s2l3a_xr._flags import UNKNOWN, hiding_table, strange_flag
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
    flags : tuple of Source, default none
        For each of the files FLG of the same product and pixel size.
    hidden : tuple of int, default none
        Classes of FLG whose pixels become nodata; also where FLG can't be had.
    """

    sources: tuple[Source, ...]
    footprint: Footprint
    requests: int
    keep_going: bool
    is_shared: bool
    flags: tuple[Source, ...] = ()
    hidden: tuple[int, ...] = ()

    async def read(self, session: Session) -> tuple[np.ndarray, list[ReadError]]:
        """Read the pixels: of each the first valid one in cover order.

        Parameters
        ----------
        session : Session
            This process's connections.

        Returns
        -------
        pixels : ndarray of int16, shape (pixels,)
            Nodata where nothing is, or where FLG of the same product hides it.
        errors : list of ReadError
            Files that are gone, and what else failed where that is allowed.

        Raises
        ------
        ReadError
            A file can't be read or is not what it must be.
        """
        pixels = np.full(len(self.footprint), NODATA, np.int16)
        errors: list[ReadError] = []
        held = [self.footprint.within(source.tile) for source in self.sources]
        giver = np.argmax([*held, np.ones(len(pixels), bool)], axis=0)
        every = range(len(self.sources))
        asks = [self._ask(session, self.sources[i], giver == i, pixels, errors) for i in every]
        lost = {i for i, came in enumerate(await gather(asks)) if not came}
        for i in sorted({*every[1:]} - lost):
            holes = held[i] & (giver < i) & is_nothing(pixels, self.sources[i])
            await self._ask(session, self.sources[i], holes, pixels, errors)
            giver[holes & ~is_nothing(pixels, self.sources[i])] = i
        if self.flags:
            flags = np.full(len(pixels), UNKNOWN, np.uint8)
            has = ~is_nothing(pixels, self.sources[0])
            wanted = [has & (giver == i) for i in every]
            asks = [self._ask(session, self.flags[i], wanted[i], flags, errors) for i in every]
            await gather(asks)
            pixels[hiding_table(self.hidden, self.flags[0].flag_encoding)[flags]] = NODATA
        return pixels, errors

    async def _ask(
        self,
        session: Session,
        source: Source,
        wanted: np.ndarray,
        pixels: np.ndarray,
        errors: list[ReadError],
    ) -> bool:
        """Read what a file has to give; False where it is gone or failed as a whole."""
        which = np.flatnonzero(wanted)
        if not which.size:
            return True
        try:
            errors.extend(await self._read_file(session, source, which, pixels))
        except ReadError as exc:
            if not (self.keep_going or isinstance(exc, GoneError)):
                raise
            errors.append(exc)
            return False
        return True

    async def _read_file(
        self, session: Session, source: Source, which: np.ndarray, pixels: np.ndarray
    ) -> list[ReadError]:
        failed: list[ReadError] = []
        try:
            header = await read_header(session, source)
            image = header.layout
            rows, columns = (index[which] for index in self.footprint.on(source.tile))
            order = np.lexsort((columns // image.block_width, rows // image.block_height))
            where = which[order]

            def put(target: Target, block: np.ndarray) -> None:
                found = block[target.source]
                wrong = strange_flag(found, source.flag_encoding) if source.band == "FLG" else None
                if wrong is None:
                    pixels[where[target.output[0]]] = found
                else:
                    failed.append(FormatError(wrong, block=target.block))

            reader = BlockReader(
                session=session,
                url=source.url,
                header=header,
                image=image,
                requests=self.requests,
                put=put,
                failed=failed.append if self.keep_going else None,
            )
            targets = list(self._targets(rows[order], columns[order], image))
            if source.dtype == "uint8":  # elsewhere what was never written is nodata as it is
                for target in targets:
                    if image.counts[target.block] == 0:
                        pixels[where[target.output[0]]] = 0
            await reader.bring([t for t in targets if image.counts[t.block] > 0])
            if failed and not self.keep_going:
                raise failed[0]
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
