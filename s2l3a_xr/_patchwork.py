"""Planes whose files do not lie on the grid's own lattice: each zone is read on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from s2l3a_xr._errors import ReadError
from s2l3a_xr._grid import Grid, ground_m
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._plan import Target
from s2l3a_xr._read import Plane, Veil, is_nothing
from s2l3a_xr._share import Share, Window, share_window
from s2l3a_xr._source import Source
from s2l3a_xr._tiff import Layout
from s2l3a_xr._tiles import SIDE_M, Tile
from s2l3a_xr._transport import Session
from s2l3a_xr._warp import Warp, zone_grid

_COARSEST_M = 640
"""The last overview of a 20 m file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the files of a plane become pixels of the grid.

    Parameters
    ----------
    kernel : str
        How pixels are made that don't coincide with the files'.
    overviews : bool
        Whether reduced images may serve.
    resolution_m : int
        Pixel size of the files.
    """

    kernel: str
    overviews: bool
    resolution_m: int

    def copies(self, grid: Grid, tiles: Sequence[Tile]) -> bool:
        """Tell whether every pixel of the grid is a copy of one in the files.

        Parameters
        ----------
        grid : Grid
            The target.
        tiles : sequence of Tile
            The files' tiles.

        Returns
        -------
        bool
            True in the tiles' zone, for nearest neighbours or where the lattices are one.
        """
        if any(tile.crs != grid.crs for tile in tiles):
            return False
        step = self.resolution_m
        is_same = grid.resolution == step and grid.left % step == 0 and grid.top % step == 0
        return self.kernel == "nearest" or is_same

    def warp(self, grid: Grid, crs: str) -> Warp:
        """Lay the way from the grid to a zone's lattice.

        Parameters
        ----------
        grid : Grid
            The target.
        crs : str
            CRS of the tiles.

        Returns
        -------
        Warp
            To full resolution, or to the coarsest overview that is no coarser than the grid.
        """
        return Warp(grid=grid, native=zone_grid(crs, self.step_m(grid)), kernel=self.kernel)

    def step_m(self, grid: Grid) -> int:
        """Say which pixels of the files are read.

        Parameters
        ----------
        grid : Grid
            The target.

        Returns
        -------
        int
            Their size in metres.
        """
        step = self.resolution_m
        while self.overviews and 2 * step <= min(ground_m(grid), _COARSEST_M):
            step *= 2
        return step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """The files of one zone, and what they have to give to a window.

    Parameters
    ----------
    tiles : tuple of Tile
        Of one zone, in cover order.
    positions : tuple of int
        Which of a plane's files they have.
    has : ndarray of bool, shape (height, width)
        Pixels in the area whose centre lies on one of the tiles.
    wanted : ndarray of bool, shape (height, width)
        Those that no earlier patch has.
    warp : Warp or None
        None where pixels are copies.
    share : Share or None
        Who gives what is wanted; None for nothing.
    """

    tiles: tuple[Tile, ...]
    positions: tuple[int, ...]
    has: np.ndarray
    wanted: np.ndarray
    warp: Warp | None
    share: Share | None


def lay_patches(window: Window, tiles: Sequence[Tile], manner: Manner) -> tuple[Patch, ...]:
    """Give each pixel of a window to the first zone that has it.

    Parameters
    ----------
    window : Window
        The pixels.
    tiles : sequence of Tile
        In cover order.
    manner : Manner
        How their files become pixels.

    Returns
    -------
    tuple of Patch
        The grid's own zone first, then the others in cover order.
    """
    zones = list(dict.fromkeys(tile.crs for tile in tiles))
    zones.sort(key=lambda crs: crs != window.grid.crs)
    inside = np.ones(window.shape, dtype=bool) if window.mask is None else window.mask
    taken = np.zeros(window.shape, dtype=bool)
    patches = []
    for crs in zones:
        positions = tuple(i for i, tile in enumerate(tiles) if tile.crs == crs)
        own = tuple(tiles[i] for i in positions)
        warp = None if manner.copies(window.grid, own) else manner.warp(window.grid, crs)
        places = warp or replace(manner, kernel="nearest").warp(window.grid, crs)
        has = inside & places.has(window.rows, window.columns, own)
        wanted = has & ~taken
        taken |= has
        share = share_out_natively(window, wanted, warp, own, manner) if wanted.any() else None
        patches.append(
            Patch(tiles=own, positions=positions, has=has, wanted=wanted, warp=warp, share=share)
        )
    return tuple(patches)


def share_out_natively(
    window: Window,
    wanted: np.ndarray,
    warp: Warp | None,
    tiles: tuple[Tile, ...],
    manner: Manner,
) -> Share:
    """Say which file gives which pixel of the files' lattice.

    Parameters
    ----------
    window : Window
        Pixels of the grid.
    wanted : ndarray of bool, shape (height, width)
        Those to be made; at least one.
    warp : Warp or None
        The way to the files' lattice, None where it is the grid's.
    tiles : tuple of Tile
        Of one zone, in cover order.
    manner : Manner
        How their files become pixels.

    Returns
    -------
    Share
        Of the window on the lattice that has all that is needed, and no block more.
    """
    native = replace(window, mask=wanted) if warp is None else _needed(window, wanted, warp)
    return share_window(native, tiles, SIDE_M // manner.resolution_m)


def _needed(window: Window, wanted: np.ndarray, warp: Warp) -> Window:
    """Find the pixels of the files' lattice that the wanted ones are made of."""
    rows, columns = window.rows, window.columns
    reach = [
        (
            taps.rows.min(),
            taps.rows.max() + len(taps.down),
            taps.columns.min(),
            taps.columns.max() + len(taps.across),
        )
        for cell in warp.cells(rows, columns)
        if (part := wanted[cell.output]).any()
        for taps in [warp.taps(cell, part)]
    ]
    top, bottom, left, right = (
        int(extreme(edges))
        for extreme, edges in zip((min, max, min, max), zip(*reach, strict=True), strict=True)
    )
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for cell in warp.cells(rows, columns):
        if (part := wanted[cell.output]).any():
            taps = warp.taps(cell, part)
            for i in range(len(taps.down)):
                for j in range(len(taps.across)):
                    mask[taps.rows - top + i, taps.columns - left + j] = True
    return Window(
        grid=warp.native, rows=np.arange(top, bottom), columns=np.arange(left, right), mask=mask
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Patchwork:
    """One band of one month whose files do not all lie on the grid's own lattice.

    Parameters
    ----------
    window : Window
        Pixels of the grid.
    patches : tuple of Patch
        From `lay_patches`.
    sources : tuple of Source
        The files, in the order of the tiles that the patches were laid for.
    manner : Manner
        How they become pixels.
    requests : int
        At least so many requests are made for one file's blocks.
    keep_going : bool
        Whether a failed read leaves nodata instead of raising.
    veil : Veil, optional
        What hides pixels of the files.
    """

    window: Window
    patches: tuple[Patch, ...]
    sources: tuple[Source, ...]
    manner: Manner
    requests: int
    keep_going: bool
    veil: Veil | None = None

    async def read(self, session: Session, output: np.ndarray, fill: int) -> list[ReadError]:
        """Read the plane: the first zone that has a valid pixel gives it.

        What an earlier zone's tiles have is asked of a later zone only where the earlier one
        turns out to hold nodata. What is hidden is left out before pixels are made of it, and
        where that leaves none, no later zone is asked.

        Parameters
        ----------
        session : Session
            This process's connections.
        output : ndarray, shape (height, width)
            Written to.
        fill : int
            Of pixels that no file gives.

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
        await in_thread(np.copyto, output, fill)
        lost: set[str] = set()
        hidden = np.zeros(output.shape if self.veil else (0, 0), dtype=bool)
        read = partial(self._read_patch, session, output, fill, hidden, lost)
        jobs = [
            read(number, patch.wanted, patch.share)
            for number, patch in enumerate(self.patches)
            if patch.share is not None
        ]
        found = [error for errors in await gather(jobs) for error in errors]
        for number, patch in enumerate(self.patches):
            holes = patch.has & ~patch.wanted
            holes &= is_nothing(output, self.sources[0])
            if self.veil is not None:
                holes &= ~hidden
            if holes.any():
                share = await in_thread(
                    share_out_natively, self.window, holes, patch.warp, patch.tiles, self.manner
                )
                found += await read(number, holes, share)
        if self.veil is not None:
            output[hidden] = fill
        return found

    async def plan(self, session: Session) -> list[tuple[Source, Layout, list[Target]]]:
        """Say which blocks reading the plane will fetch, see `Plane.plan`.

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
        shares = enumerate(patch.share for patch in self.patches)
        planes = [self._plane(number, share) for number, share in shares if share is not None]
        found = await gather(plane.plan(session) for plane in planes)
        return [item for items in found for item in items]

    def _plane(self, number: int, share: Share) -> Plane:
        patch = self.patches[number]
        is_whole = self.window.shape == self.window.grid.shape
        files, veil = self.sources, self.veil
        if veil is not None:
            veil = replace(veil, sources=tuple(veil.sources[at] for at in patch.positions))
        return Plane(
            sources=tuple(files[at] for at in patch.positions),
            share=share,
            overviews=self.manner.overviews,
            requests=self.requests,
            keep_going=self.keep_going,
            # Neighbours' pixels are made of the same ones, and so are those that fill holes.
            keeps_all=patch.warp is not None and not (is_whole and number == 0),
            veil=veil,
        )

    async def _read_patch(
        self,
        session: Session,
        output: np.ndarray,
        fill: int,
        hidden: np.ndarray,
        lost: set[str],
        number: int,
        wanted: np.ndarray,
        share: Share,
    ) -> list[ReadError]:
        warp = self.patches[number].warp
        plane = self._plane(number, share)
        if warp is None:
            veiled, found = await plane.read_hidden(session, output, None, lost)
            if veiled is not None:
                hidden[veiled] = True
            return found
        pixels = np.empty(share.window.shape, dtype=output.dtype)
        veiled, found = await plane.read_hidden(session, pixels, fill, lost)
        make = partial(in_thread, _make, self.window, wanted, share.window)
        if veiled is not None:
            pixels[veiled] = fill
            marks = veiled.astype(np.uint8)
            await make(replace(warp, kernel="nearest"), marks, hidden.view(np.uint8), 0)
        await make(warp, pixels, output, fill)
        if veiled is not None:  # a mean may have been made of what is not hidden
            hidden[wanted & (output != fill)] = False
        return found


def _make(
    window: Window,
    wanted: np.ndarray,
    native: Window,
    warp: Warp,
    pixels: np.ndarray,
    output: np.ndarray,
    fill: int,
) -> None:
    """Make the wanted pixels, where there is anything to make them of."""
    corner = (int(native.rows[0]), int(native.columns[0]))
    for cell in warp.cells(window.rows, window.columns):
        part = wanted[cell.output]
        if part.any():
            made = warp.make(cell, part, pixels, corner, fill)
            is_made = made != fill
            part = part.copy()
            part[part] = is_made
            output[cell.output][part] = made[is_made]
