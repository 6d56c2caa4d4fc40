"""The reading of any part of a request: every plane of it at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import numpy as np
import shapely

from s2l3a_xr._errors import GoneError, ReadError
from s2l3a_xr._grid import ground_m
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._mosaic import inside
from s2l3a_xr._patchwork import Manner, Patch, Patchwork, lay_patches
from s2l3a_xr._plan import Range, merge_ranges
from s2l3a_xr._read import Plane, Veil
from s2l3a_xr._request import Request
from s2l3a_xr._share import Share, Window, share_window
from s2l3a_xr._source import Source
from s2l3a_xr._tiles import SIDE_M, Tile, tile_named
from s2l3a_xr._transport import Session

_MOST_PX = 2**27
"""Pixels of files that are held at once to make others of them."""


async def read_request(
    session: Session, request: Request, axes: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[ReadError]]:
    """Read a part of the cube, every plane of it at once.

    Parameters
    ----------
    session : Session
        This process's connections.
    request : Request
        What is asked for.
    axes : sequence of ndarray of int, ascending
        Positions along time, band, y and x.

    Returns
    -------
    pixels : ndarray, shape (time, band, y, x)
        Nodata where nothing is.
    errors : list of ReadError
        Listed files that are gone, and what else failed where that is allowed.

    Raises
    ------
    ReadError
        A file can't be read.
    """
    pixels = np.empty([len(axis) for axis in axes], dtype=request.dtype)
    outputs = [pixels[place] for place in np.ndindex(pixels.shape[:2])]
    errors = await read_planes(session, request, _pairs(axes), axes[2], axes[3], outputs)
    return pixels, errors


async def read_planes(
    session: Session,
    request: Request,
    pairs: Sequence[tuple[int, int]],
    rows: np.ndarray,
    columns: np.ndarray,
    outputs: Sequence[np.ndarray] | Mapping[int, np.ndarray],
    finish: Callable[[int, list[ReadError]], Awaitable[None]] | None = None,
) -> list[ReadError]:
    """Read planes of the cube, all at once.

    Parameters
    ----------
    session : Session
        This process's connections.
    request : Request
        What is asked for.
    pairs : sequence of tuple of int
        Position along time and band of each plane.
    rows, columns : ndarray of int, ascending
        Positions along y and x.
    outputs : sequence or mapping of ndarray, shape (y, x)
        By the plane's number. Written to: nodata where nothing is.
    finish : callable, optional
        Awaited for each plane as soon as it is whole, with its number and its errors.

    Returns
    -------
    list of ReadError
        Listed files that are gone, and what else failed where that is allowed.

    Raises
    ------
    ReadError
        A file can't be read.
    """
    found: list[list[ReadError]] = [[] for _ in pairs]
    parts = list(_parts(request, pairs, rows, columns))
    for part, positions in parts:
        planes = await _planes(session, request, pairs, positions, columns)

        async def read(number: int, plane: Plane | Patchwork | None, part: slice = part) -> None:
            output = outputs[number][part]
            if plane is None:
                output[...] = request.fill
            else:
                found[number] += await plane.read(session, output, request.fill)
            if finish is not None and part == parts[-1][0]:
                await finish(number, found[number])

        await gather(read(number, plane) for number, plane in enumerate(planes))
    errors = itertools.chain.from_iterable(found)
    return list({e.url if isinstance(e, GoneError) else id(e): e for e in errors}.values())


async def plan_request(
    session: Session, request: Request, reads: Sequence[Sequence[np.ndarray]]
) -> list[tuple[Source, Range]]:
    """Say which ranges reading parts of the cube will fetch; headers are read for it.

    Parameters
    ----------
    session : Session
        This process's connections.
    request : Request
        What is asked for.
    reads : sequence of sequence of ndarray of int, ascending
        For each part the positions along time, band, y and x.

    Returns
    -------
    list of tuple of Source and Range
        By part, month, band and file; a block that several parts need is in the first.

    Raises
    ------
    ReadError
        A header can't be read.
    """
    known: set[tuple[str, tuple[int, int]]] = set()
    found: list[tuple[Source, Range]] = []
    parts = (
        (pairs, rows, axes[3])
        for axes in reads
        for pairs in [_pairs(axes)]
        for _, rows in _parts(request, pairs, axes[2], axes[3])
    )
    for pairs, rows, columns in parts:
        planes = await _planes(session, request, pairs, rows, columns)
        files = await gather(plane.plan(session) for plane in planes if plane is not None)
        for source, image, targets in (item for items in files for item in items):
            fresh = [t for t in targets if (source.url, t.block) not in known]
            known.update((source.url, target.block) for target in targets if target.is_shared)
            found += [(source, together) for together in merge_ranges(fresh, image)]
    return found


def _pairs(axes: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    return list(itertools.product(axes[0].tolist(), axes[1].tolist()))


def _parts(
    request: Request, pairs: Sequence[tuple[int, int]], rows: np.ndarray, columns: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Cut a reading whose files' own pixels would not fit in memory, as if it were several."""
    if not (pairs and len(rows) and len(columns)):
        return
    most = 1
    tiles = {p.tile for time in {time for time, _ in pairs} for p, _ in request.products[time]}
    manners = [request.manner(band) for band in {band for _, band in pairs}]
    if not all(manner.copies(request.grid, [*map(tile_named, tiles)]) for manner in manners):
        span = int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1)
        finest = min(manner.step_m(request.grid) for manner in manners)
        pixels = span * (ground_m(request.grid) / finest) ** 2 * len(pairs)
        most = min(len(rows), math.ceil(pixels / _MOST_PX))
    edges = np.linspace(0, len(rows), most + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop), rows[start:stop]


async def _planes(
    session: Session,
    request: Request,
    pairs: Sequence[tuple[int, int]],
    rows: np.ndarray,
    columns: np.ndarray,
) -> list[Plane | Patchwork | None]:
    """Prepare every plane: masks and shares are made once for all that have the same tiles.

    None stands for planes of which nothing is to be read.
    """
    mask = await in_thread(area_mask, request, rows, columns)
    if mask is not None and not mask.any():
        return [None] * len(pairs)
    whole = mask is None or bool(mask.all())
    window = Window(grid=request.grid, rows=rows, columns=columns, mask=None if whole else mask)
    found = [tuple(request.sources(time, band)) for time, band in pairs]
    count = max(1, sum(map(len, found)))
    requests = max(1, session.transport.max_connections // count)
    laid: dict[tuple[object, ...], Share | tuple[Patch, ...]] = {}
    planes: list[Plane | Patchwork | None] = []
    for (time, band), files in zip(pairs, found, strict=True):
        if not files:
            planes.append(None)
            continue
        manner = request.manner(band)
        tiles = tuple(source.tile for source in files)
        key = (manner, tiles)
        if key not in laid:
            laid[key] = await in_thread(_lay, window, tiles, manner)
        ground = laid[key]
        flags = tuple(request.flags(time, band))
        veil = Veil(sources=flags, classes=request.hidden) if flags else None
        if isinstance(ground, Share):
            plane = Plane(
                sources=files,
                share=ground,
                overviews=manner.overviews,
                requests=requests,
                keep_going=not request.fail_on_error,
                veil=veil,
            )
            planes.append(plane)
        else:
            patchwork = Patchwork(
                window=window,
                patches=ground,
                sources=files,
                manner=manner,
                requests=requests,
                keep_going=not request.fail_on_error,
                veil=veil,
            )
            planes.append(patchwork)
    return planes


def _lay(window: Window, tiles: tuple[Tile, ...], manner: Manner) -> Share | tuple[Patch, ...]:
    if manner.copies(window.grid, tiles):
        return share_window(window, tiles, SIDE_M // manner.resolution_m)
    return lay_patches(window, tiles, manner)


def area_mask(request: Request, rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Tell which pixels lie in the area.

    Parameters
    ----------
    request : Request
        What is asked for.
    rows, columns : ndarray of int, ascending
        Positions along y and x.

    Returns
    -------
    ndarray of bool, shape (rows, columns), or None
        None where nothing is clipped.
    """
    if request.area is None:
        return None
    features = shapely.from_wkb(request.area).geoms
    return inside(features, request.grid.shape, rows, columns, all_touched=request.all_touched)
