"""From files to pixels: headers, ranges and blocks, all at once, on the background loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from s2l3a_xr._errors import FileChangedError, GoneError, ReadError
from s2l3a_xr._grid import Grid
from s2l3a_xr._loop import gather
from s2l3a_xr._mosaic import NOBODY, footprint, paste, share_out
from s2l3a_xr._plan import Axis, Range, Target, cut_axis, find_targets, lay_axis, merge_ranges
from s2l3a_xr._product import NODATA
from s2l3a_xr._source import Header, Source, check_same, read_header
from s2l3a_xr._tiff import Layout, decode_block
from s2l3a_xr._tiles import SIDE_M, Tile
from s2l3a_xr._transport import Session


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Pixels of the grid that a chunk asks for.

    Parameters
    ----------
    grid : Grid
        The lattice.
    rows, columns : ndarray of int, ascending
        Which of its rows and columns.
    mask : ndarray of bool, shape (rows, columns), or None
        Pixels inside the area; None for all.
    """

    grid: Grid
    rows: np.ndarray
    columns: np.ndarray
    mask: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return len(self.rows), len(self.columns)

    def lay(self, tile: Tile, resolution_m: int) -> tuple[Axis, Axis]:
        """Find a tile's pixels under the window's.

        Parameters
        ----------
        tile : Tile
            A tile in the grid's CRS.
        resolution_m : int
            Pixel size of its file.

        Returns
        -------
        tuple of Axis
            Rows and columns.
        """
        grid = self.grid
        size = SIDE_M // resolution_m
        common = {"grid_step": grid.resolution, "image_step": resolution_m, "image_size": size}
        rows = lay_axis(
            self.rows,
            grid_start=-grid.top,
            grid_size=grid.height,
            image_start=-tile.top,
            **common,
        )
        columns = lay_axis(
            self.columns,
            grid_start=grid.left,
            grid_size=grid.width,
            image_start=tile.left,
            **common,
        )
        return rows, columns


class _Pool:
    """Threads that unpack; forked children make their own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            workers = max(2, min(4, os.cpu_count() or 1))
            self._threads = ThreadPoolExecutor(workers, thread_name_prefix="s2l3a_xr-unpack")
        return self._threads


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


async def read_plane(
    session: Session, sources: Sequence[Source], window: Window, output: np.ndarray
) -> list[GoneError]:
    """Read one band of one month.

    The first file that has a valid pixel gives it. What an earlier file's tile has is asked
    of a later file only where the earlier one turns out to hold nodata.

    Parameters
    ----------
    session : Session
        This process's connections.
    sources : sequence of Source
        Files in cover order.
    window : Window
        Which pixels.
    output : ndarray, shape (height, width)
        Filled with nodata; written to.

    Returns
    -------
    list of GoneError
        Files that the archive lists and has not got; they count as nodata.

    Raises
    ------
    ReadError
        A file can't be read or is not what it must be.
    """
    layers = [window.lay(source.tile, source.resolution_m) for source in sources]
    is_alone = len(sources) == 1 and window.mask is None and _is_full(window.shape, layers[0])
    owner = None if is_alone else share_out(window.shape, layers, window.mask)
    wanted = [None if owner is None else owner == position for position in range(len(sources))]
    read = partial(_read_layer, session, output=output)
    jobs = [
        read(source, layer, want)
        for source, layer, want in zip(sources, layers, wanted, strict=True)
        if want is None or want.any()
    ]
    gone = [error for error in await gather(jobs) if error is not None]
    for position in range(1, len(sources)):
        part = footprint(layers[position])
        holes = np.zeros(window.shape, dtype=bool)
        holes[part] = _is_hole(output[part], sources[position])
        holes &= (owner < position) & (owner != NOBODY)  # type: ignore[operator]
        if holes.any():
            error = await read(sources[position], layers[position], holes)
            gone += [error] if error is not None and error.url not in {e.url for e in gone} else []
    return gone


def _is_full(shape: tuple[int, int], layer: tuple[Axis, Axis]) -> bool:
    return shape == tuple(axis.pixels.size for axis in layer)


def _is_hole(pixels: np.ndarray, source: Source) -> np.ndarray:
    holes = pixels == (NODATA if pixels.dtype.kind == "i" else np.iinfo(pixels.dtype).max)
    return holes | (pixels == 0) if source.band == "FLG" else holes


async def _read_layer(
    session: Session,
    source: Source,
    layer: tuple[Axis, Axis],
    wanted: np.ndarray | None,
    *,
    output: np.ndarray,
) -> GoneError | None:
    try:
        header = await read_header(session, source)
        layout = header.layout
        rows = cut_axis(layer[0], layout.block_height)
        columns = cut_axis(layer[1], layout.block_width)
        targets = find_targets(rows, columns, wanted)
        targets = [target for target in targets if layout.counts[target.block] > 0]
        put = partial(_put, layout=layout, output=output, wanted=wanted)
        await _fetch_blocks(session, source.url, header, targets, put)
    except GoneError as exc:
        return exc.at(**source.place)  # type: ignore[return-value]
    except ReadError as exc:
        raise exc.at(**source.place) from exc.__cause__
    return None


def _put(
    pieces: Sequence[tuple[Target, memoryview]],
    *,
    layout: Layout,
    output: np.ndarray,
    wanted: np.ndarray | None,
) -> None:
    for target, data in pieces:
        paste(output, decode_block(layout, data, target.block), target, wanted)


async def _fetch_blocks(
    session: Session,
    url: str,
    header: Header,
    targets: Sequence[Target],
    put: Any,  # noqa: ANN401
) -> None:
    """Bring each block in and hand it on, those that another chunk wants too only once."""

    def key(target: Target) -> tuple[object, ...]:
        return (url, header.stamp, header.total, target.block)

    kept = [target for target in targets if target.is_shared]
    claimed = {target.block for target in kept if session.blocks.claim(key(target))}
    mine = [t for t in targets if not t.is_shared or t.block in claimed]
    theirs = [t for t in kept if t.block not in claimed]

    async def bring(part: Range) -> None:
        async with session.slots:
            pieces = await _fetch_range(session, url, header, part)
            for target, data in pieces:
                if target.block in claimed:
                    session.blocks.fill(key(target), bytes(data))
            await _unpack(put, pieces)

    async def take(target: Target) -> None:
        data = await session.blocks.wait(key(target))
        if data is None:
            await _fetch_blocks(session, url, header, [target], put)
        else:
            await _unpack(put, [(target, memoryview(data))])

    try:
        ranges = merge_ranges(mine, header.layout)
        await gather([*(bring(part) for part in ranges), *(take(target) for target in theirs)])
    finally:
        for target in kept:
            if target.block in claimed:
                session.blocks.release(key(target))


async def _unpack(put: Any, pieces: Sequence[tuple[Target, memoryview]]) -> None:  # noqa: ANN401
    await asyncio.get_running_loop().run_in_executor(_pool.threads(), put, pieces)


async def _fetch_range(
    session: Session, url: str, header: Header, part: Range
) -> list[tuple[Target, memoryview]]:
    reply = await session.read(url, part.start, part.stop)
    try:
        check_same(url, reply, stamp=header.stamp, total=header.total)
    except FileChangedError:
        session.headers.forget(url)
        raise
    view = memoryview(reply.data)
    offsets, counts = header.layout.offsets, header.layout.counts
    pieces = []
    for target in part.targets:
        start = int(offsets[target.block]) - part.start
        pieces.append((target, view[start : start + int(counts[target.block])]))
    return pieces
