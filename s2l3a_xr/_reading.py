"""The reading of any part of a request: every plane of it at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

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
    found: list[ReadError] = []
    for rows, part in _parts(request, axes):
        planes = await _planes(session, request, part)
        for i, j in {*np.ndindex(pixels.shape[:2])} - {(i, j) for i, j, _ in planes}:
            pixels[i, j, rows] = request.fill
        told = await gather(
            plane.read(session, pixels[i, j, rows], request.fill) for i, j, plane in planes
        )
        found += [error for errors in told for error in errors]
    once = {error.url if isinstance(error, GoneError) else id(error): error for error in found}
    return pixels, list(once.values())


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
    for _, part in (item for axes in reads for item in _parts(request, axes)):
        planes = await _planes(session, request, part)
        files = await gather(plane.plan(session) for _, _, plane in planes)
        for source, image, targets in (item for items in files for item in items):
            fresh = [t for t in targets if (source.url, t.block) not in known]
            known.update((source.url, target.block) for target in targets if target.is_shared)
            found += [(source, together) for together in merge_ranges(fresh, image)]
    return found


def _parts(
    request: Request, axes: Sequence[np.ndarray]
) -> Iterator[tuple[slice, Sequence[np.ndarray]]]:
    """Cut a reading whose files' own pixels would not fit in memory, as if it were several."""
    times, bands, rows, columns = axes
    if not all(len(axis) for axis in axes):
        return
    most = 1
    tiles = {p.tile for time in times.tolist() for p, _ in request.products[time]}
    manners = [request.manner(band) for band in bands.tolist()]
    if not all(manner.copies(request.grid, [*map(tile_named, tiles)]) for manner in manners):
        span = int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1)
        finest = min(manner.step_m(request.grid) for manner in manners)
        pixels = span * (ground_m(request.grid) / finest) ** 2 * len(times) * len(bands)
        most = min(len(rows), math.ceil(pixels / _MOST_PX))
    edges = np.linspace(0, len(rows), most + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop), (times, bands, rows[start:stop], columns)


async def _planes(
    session: Session, request: Request, axes: Sequence[np.ndarray]
) -> list[tuple[int, int, Plane | Patchwork]]:
    """Prepare every plane: masks and shares are made once for all that have the same tiles."""
    times, bands, rows, columns = axes
    mask = await in_thread(area_mask, request, rows, columns)
    if mask is not None and not mask.any():
        return []
    whole = mask is None or bool(mask.all())
    window = Window(grid=request.grid, rows=rows, columns=columns, mask=None if whole else mask)
    found = [
        (i, j, tuple(sources))
        for i, time in enumerate(times.tolist())
        for j, band in enumerate(bands.tolist())
        if (sources := request.sources(time, band))
    ]
    count = max(1, sum(len(files) for _, _, files in found))
    requests = max(1, session.transport.max_connections // count)
    laid: dict[tuple[object, ...], Share | tuple[Patch, ...]] = {}
    planes: list[tuple[int, int, Plane | Patchwork]] = []
    for i, j, files in found:
        manner = request.manner(int(bands[j]))
        tiles = tuple(source.tile for source in files)
        key = (manner, tiles)
        if key not in laid:
            laid[key] = await in_thread(_lay, window, tiles, manner)
        ground = laid[key]
        flags = tuple(request.flags(int(times[i]), int(bands[j])))
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
            planes.append((i, j, plane))
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
            planes.append((i, j, patchwork))
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
