"""Single pixels of one band of one month, wherever they lie, from all of its files at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from s2l3a_xr._errors import FormatError, GoneError, ReadError
from s2l3a_xr._fetch import BlockReader
from s2l3a_xr._flags import UNKNOWN, hiding_table, strange_flag
from s2l3a_xr._footprint import Footprint, Piece
from s2l3a_xr._identity import read_again
from s2l3a_xr._loop import gather, in_thread
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
        footprint = self.footprint
        pixels = np.full(len(footprint), NODATA, np.int16)
        errors: list[ReadError] = []
        tiles = tuple(source.tile for source in self.sources)
        owners = footprint.owners(tiles)
        jobs = [(source, partial(footprint.cut, tiles, i)) for i, source in enumerate(self.sources)]
        came = await gather(self._ask(session, *job, pixels, errors) for job in jobs)
        for i, source in enumerate(self.sources):
            holes = (owners < i) & is_nothing(pixels, source)
            if i and came[i] and (holes := holes & footprint.within(source.tile)).any():
                which = np.flatnonzero(holes)
                jobs[i] = source, partial(footprint.cut_some, which, source.tile)
                await self._ask(session, *jobs[i], pixels, errors)
                owners = owners.copy()
                owners[which[~is_nothing(pixels[which], source)]] = i
        if self.flags:
            await self._hide(session, owners, pixels, errors)
        return pixels, errors

    async def _hide(
        self, session: Session, owners: np.ndarray, pixels: np.ndarray, errors: list[ReadError]
    ) -> None:
        """Make nodata of what FLG says of the product that gave a pixel."""
        flags = np.full(len(pixels), UNKNOWN, np.uint8)
        footprint = self.footprint
        jobs = [
            (flag, partial(footprint.cut_some, np.flatnonzero(owners == i), flag.tile))
            for i, flag in enumerate(self.flags)
        ]
        await gather(self._ask(session, *job, flags, errors) for job in jobs)
        pixels[hiding_table(self.hidden, self.flags[0].flag_encoding)[flags]] = NODATA

    async def _ask(
        self,
        session: Session,
        source: Source,
        cut: Callable[[Layout], list[Piece]],
        pixels: np.ndarray,
        errors: list[ReadError],
    ) -> bool:
        """Read what a file has to give; False where it is gone or failed as a whole."""
        try:
            read = partial(self._read_file, session, source, cut, pixels)
            errors.extend(await read_again(read, source.place))
        except ReadError as exc:
            if not (self.keep_going or isinstance(exc, GoneError)):
                raise
            errors.append(exc)
            return False
        return True

    async def _read_file(
        self,
        session: Session,
        source: Source,
        cut: Callable[[Layout], list[Piece]],
        pixels: np.ndarray,
    ) -> list[ReadError]:
        failed: list[ReadError] = []
        pieces: dict[tuple[int, int], Piece] = {}

        def put(target: Target, block: np.ndarray) -> None:
            piece = pieces[target.block]
            found = block.ravel()[piece.inside]
            wrong = strange_flag(found, source.flag_encoding) if source.band == "FLG" else None
            if wrong is None:
                pixels[piece.pixels] = found
            else:
                failed.append(FormatError(wrong, block=target.block, attempts=1))

        try:
            header = await read_header(session, source)
            image = header.layout
            pieces.update({piece.block: piece for piece in await in_thread(cut, image)})
            if source.dtype == "uint8":  # elsewhere what was never written is nodata as it is
                for block, piece in pieces.items():
                    if image.counts[block] == 0:
                        pixels[piece.pixels] = 0
            reader = BlockReader(
                session=session,
                url=source.url,
                header=header,
                image=image,
                requests=self.requests,
                put=put,
                failed=failed.append if self.keep_going else None,
            )
            await reader.bring([self._target(b) for b in pieces if image.counts[b] > 0])
            if failed and not self.keep_going:
                raise failed[0]
        except ReadError as exc:
            raise exc.at(**source.place) from exc.__cause__
        return [error.at(**source.place) for error in failed]

    def _target(self, block: tuple[int, int]) -> Target:
        nothing = slice(0, 0)
        return Target(
            block=block,
            output=(nothing, nothing),
            source=(nothing, nothing),
            is_whole=False,
            is_shared=self.is_shared,
        )
