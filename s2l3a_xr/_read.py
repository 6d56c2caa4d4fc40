"""From files to pixels: one band of one month, all of its files at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from s2l3a_xr._errors import FormatError, GoneError, ReadError
from s2l3a_xr._fetch import BlockReader
from s2l3a_xr._flags import UNKNOWN, hiding_table, strange_flag
from s2l3a_xr._identity import read_again
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._mosaic import NOBODY, footprint, paste
from s2l3a_xr._plan import Target
from s2l3a_xr._product import NODATA
from s2l3a_xr._share import Share
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import Layout
from s2l3a_xr._transport import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Veil:
    """What hides pixels of a plane.

    Parameters
    ----------
    sources : tuple of Source
        FLG of each of the plane's files.
    classes : tuple of int
        Those that are hidden.
    """

    sources: tuple[Source, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One band of one month.

    Parameters
    ----------
    sources : tuple of Source
        Its files, in the order of the share's tiles.
    share : Share
        Who gives which pixel.
    overviews : bool
        Whether reduced images may serve.
    requests : int
        At least so many requests are made for one file's blocks.
    keep_going : bool, default False
        Whether a failed read leaves nodata instead of raising.
    keeps_all : bool, default False
        Whether any block may be asked for again.
    veil : Veil, optional
        What hides pixels.
    """

    sources: tuple[Source, ...]
    share: Share
    overviews: bool
    requests: int
    keep_going: bool = False
    keeps_all: bool = False
    veil: Veil | None = None

    @property
    def asked(self) -> list[int]:
        """Positions of the files that have something to give."""
        wanted = enumerate(self.share.wanted)
        return [position for position, want in wanted if want is None or want.any()]

    async def read(
        self,
        session: Session,
        output: np.ndarray,
        fill: int | None,
        lost: set[str] | None = None,
    ) -> list[ReadError]:
        """Read the plane.

        The first file that has a valid pixel gives it. What an earlier file's tile has is
        asked of a later file only where the earlier one turns out to hold nodata, is gone or
        failed. A pixel is hidden by what FLG of the same product says of it, and stays so.

        Parameters
        ----------
        session : Session
            This process's connections.
        output : ndarray, shape (height, width)
            Written to.
        fill : int or None
            Of pixels that no file gives; None where the output has it already.
        lost : set of str, optional
            URLs of files that are gone or failed as a whole: not asked again, and added to.

        Returns
        -------
        list of ReadError
            Files that the archive lists and has not got, and what else could not be read where
            that was allowed; they count as nodata.

        Raises
        ------
        ReadError
            A file can't be read or is not what it must be.
        """
        hidden, errors = await self.read_hidden(session, output, fill, lost)
        if hidden is not None:
            await in_thread(np.putmask, output, hidden, NODATA)
        return errors

    async def read_hidden(
        self,
        session: Session,
        output: np.ndarray,
        fill: int | None,
        lost: set[str] | None = None,
    ) -> tuple[np.ndarray | None, list[ReadError]]:
        """Read the plane as if nothing was hidden, and say what is.

        Parameters
        ----------
        session, output, fill, lost
            As for `read`.

        Returns
        -------
        ndarray of bool, shape (height, width), or None
            True where a pixel of this plane is hidden; None where nothing can be.
        list of ReadError
            As of `read`.

        Raises
        ------
        ReadError
            A file can't be read or is not what it must be.
        """
        # First use of memory is slow: it goes on while the headers are on their way.
        filling = asyncio.create_task(_fill(output, fill))
        errors: list[ReadError] = []
        lost = set() if lost is None else lost
        works = [(self, output, filling)]
        flags = None
        if self.veil is not None:
            flags = np.empty(output.shape, np.uint8)
            # Each pixel of it comes from the file that was asked for the pixel last.
            works.append((self._flags(), flags, asyncio.create_task(_fill(flags, UNKNOWN))))

        async def read_file(position: int, holes: np.ndarray | None = None) -> None:
            await gather(
                plane.try_file(session, position, pixels, ready, holes, errors, lost)
                for plane, pixels, ready in works
            )

        await gather(read_file(position) for position in self.asked)
        for _, _, filled in works:
            await filled
        for position in range(1, len(self.sources)):
            holes = self._holes(position, output)
            if holes.any():
                if flags is not None:
                    flags[holes] = UNKNOWN
                await read_file(position, holes)
        if self.veil is None or flags is None:
            return None, errors
        table = hiding_table(self.veil.classes, self.sources[0].flag_encoding)
        return await in_thread(_look_up, table, flags, self.share.window.mask), errors

    async def try_file(
        self,
        session: Session,
        position: int,
        output: np.ndarray,
        filling: asyncio.Task[None],
        holes: np.ndarray | None,
        errors: list[ReadError],
        lost: set[str],
    ) -> None:
        """Read what one file has to give, unless it is known to be lost.

        Parameters
        ----------
        session : Session
            This process's connections.
        position : int
            Which of the files.
        output : ndarray, shape (height, width)
            Written to, when it is filled.
        filling : asyncio.Task
            Fills it.
        holes : ndarray of bool, shape (height, width), or None
            Pixels to be given; None for the file's share.
        errors : list of ReadError
            Added to: what could not be read where that is allowed.
        lost : set of str
            Added to: URLs of files that are gone or failed as a whole.

        Raises
        ------
        ReadError
            The file can't be read.
        """
        source = self.sources[position]
        if source.url in lost:
            return
        try:
            read = partial(self._read_file, session, position, output, filling, holes)
            errors.extend(await read_again(read, source.place))
        except ReadError as exc:
            if not (self.keep_going or isinstance(exc, GoneError)):
                raise
            errors.append(exc)
            lost.add(source.url)

    async def plan(self, session: Session) -> list[tuple[Source, Layout, list[Target]]]:
        """Say which blocks reading the plane will fetch, holes of earlier files left aside.

        Parameters
        ----------
        session : Session
            This process's connections; headers are read.

        Returns
        -------
        list of tuple of Source, Layout and list of Target
            Of each file that has something to give; blocks at hand are left out.

        Raises
        ------
        ReadError
            A header can't be read or is not what it must be.
        """

        async def blocks_of(position: int) -> list[tuple[Source, Layout, list[Target]]]:
            source = self.sources[position]
            try:
                reader = await self._open(session, position, _ignore)
            except GoneError:
                return []
            targets = self._targets(position, reader.image)
            fresh = [target for target in targets if not reader.has(target)]
            return [(source, reader.image, fresh)]

        found = await gather(blocks_of(position) for position in self.asked)
        blocks = [item for items in found for item in items]
        return blocks if self.veil is None else blocks + await self._flags().plan(session)

    def _flags(self) -> Plane:
        """Read FLG as this plane is read; all bands ask for the same blocks of it."""
        sources = self.sources if self.veil is None else self.veil.sources
        return replace(self, sources=sources, veil=None, overviews=False, keeps_all=True)

    async def _open(
        self,
        session: Session,
        position: int,
        put: Callable[[Target, np.ndarray], None],
        failed: Callable[[ReadError], None] | None = None,
    ) -> BlockReader:
        source = self.sources[position]
        header = await read_header(session, source, overviews=self.overviews)
        return BlockReader(
            session=session,
            url=source.url,
            header=header,
            image=header.image_for(self.share.window.grid.resolution),
            requests=self.requests,
            put=put,
            failed=failed,
        )

    def _targets(
        self, position: int, image: Layout, holes: np.ndarray | None = None
    ) -> list[Target]:
        if holes is None:
            targets = self.share.targets(position, image)
        else:
            targets = self.share.targets_for(holes, position, image)
        if self.keeps_all:
            targets = [replace(t, is_shared=True) for t in targets]
        elif position > 0:  # may be asked again for what an earlier file lacks
            targets = [replace(t, is_shared=t.is_shared or not t.is_whole) for t in targets]
        return targets

    async def _read_file(
        self,
        session: Session,
        position: int,
        output: np.ndarray,
        filling: asyncio.Task[None],
        holes: np.ndarray | None = None,
    ) -> list[ReadError]:
        """Read one file's share, or what it has for holes of earlier ones."""
        source = self.sources[position]
        failed: list[ReadError] = []
        wanted = self.share.wanted[position] if holes is None else holes
        put: Callable[[Target, np.ndarray], None]
        put = partial(_put_reduced if self.overviews else _put, output, wanted)
        strange: list[ReadError] = []
        if source.band == "FLG":
            put = partial(_put_checked, put, source.flag_encoding, strange)
        try:
            reader = await self._open(
                session, position, put, failed.append if self.keep_going else None
            )
            await asyncio.wait([filling])
            image = reader.image
            targets = self._targets(position, image, holes)
            if source.dtype == "uint8":  # elsewhere what was never written is nodata as it is
                empty = np.zeros((image.block_height, image.block_width), np.uint8)
                for target in targets:
                    if image.counts[target.block] == 0:
                        put(target, empty)
            await reader.bring([t for t in targets if image.counts[t.block] > 0])
            if strange and not self.keep_going:
                raise strange[0]
        except ReadError as exc:
            raise exc.at(**source.place) from exc.__cause__
        return [error.at(**source.place) for error in failed + strange]

    def _holes(self, position: int, output: np.ndarray) -> np.ndarray:
        """Find nodata that an earlier file gave and this one may replace."""
        owner = self.share.owner
        holes = np.zeros(output.shape, dtype=bool)
        if owner is not None:
            part = footprint(self.share.layers[position])
            holes[part] = is_nothing(output[part], self.sources[position])
            holes &= (owner < position) & (owner != NOBODY)
        return holes


def is_nothing(pixels: np.ndarray, source: Source) -> np.ndarray:
    """Tell which pixels a later file may replace.

    Parameters
    ----------
    pixels : ndarray of int16 or uint8
        As read.
    source : Source
        Any of the files that they come from.

    Returns
    -------
    ndarray of bool
        True for nodata, which is class 0 too.
    """
    nothing = NODATA if pixels.dtype.kind == "i" else np.iinfo(pixels.dtype).max
    empty: np.ndarray = pixels == nothing
    if source.band == "FLG":
        empty |= pixels == 0
        if source.flag_encoding == "bits":
            empty |= (pixels & 1) == 1
    return empty


async def _fill(output: np.ndarray, fill: int | None) -> None:
    if fill is not None:
        await in_thread(np.copyto, output, fill)


def _put(output: np.ndarray, wanted: np.ndarray | None, target: Target, pixels: np.ndarray) -> None:
    paste(output, pixels, target, wanted)


def _put_reduced(
    output: np.ndarray, wanted: np.ndarray | None, target: Target, pixels: np.ndarray
) -> None:
    """Take what is below 0 for nodata: overviews were averaged before nodata was set."""
    paste(output, np.where(pixels < 0, np.int16(NODATA), pixels), target, wanted)


def _put_checked(
    put: Callable[[Target, np.ndarray], None],
    encoding: str,
    strange: list[ReadError],
    target: Target,
    pixels: np.ndarray,
) -> None:
    """Leave out blocks of FLG that hold what FLG can't hold."""
    wrong = strange_flag(pixels[target.source], encoding)
    if wrong is None:
        put(target, pixels)
    else:
        strange.append(FormatError(wrong, block=target.block, attempts=1))


def _look_up(table: np.ndarray, flags: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    hidden: np.ndarray = table[flags]
    return hidden if mask is None else hidden & mask


def _ignore(_: Target, __: np.ndarray) -> None:
    pass
