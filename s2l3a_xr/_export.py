"""From an array to GeoTIFFs, named as eCognition projects expect them."""

from __future__ import annotations

import operator
import os
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from dask.utils import parse_bytes

from s2l3a_xr._cube import L3AArray
from s2l3a_xr._disk import make_folder, sweep
from s2l3a_xr._errors import ExportError, MissingWarning, warn_user
from s2l3a_xr._geotiff import (
    PROFILES,
    TILE_PX,
    Profile,
    claims_content,
    is_sound,
    write_geotiff,
)
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._jobs import (
    Job,
    Watch,
    check_folder,
    chunked,
    plan_jobs,
    warn_of_numbers,
    watch_failures,
    without_nan,
)
from s2l3a_xr._own import take_folder
from s2l3a_xr._pieces import Piece, cut_plane, drop_pieces, has_piece, join_pieces, write_piece
from s2l3a_xr._progress import count_now, run_counted
from s2l3a_xr._raster import Raster, as_cube, raster_of
from s2l3a_xr._rehearsal import Origin, as_run, find_origin
from s2l3a_xr._volume import MAX_BYTES, check_volume

PIECE_PX = 8192
"""As automatic chunks: 134 MB of int16."""


@knows_keywords
def to_geotiff(
    da: xr.DataArray,
    directory: str | os.PathLike[str],
    *,
    profile: Profile = "compressed",
    overwrite: bool = False,
    progress: bool = True,
    max_bytes: float | None = MAX_BYTES,
    piece_px: int = PIECE_PX,
) -> list[Path]:
    """Write one GeoTIFF for each month and band.

    The files are named ``s2_l3a_{YYYYMMDD}_{band}.tif`` with common band names (``blue``,
    ``green``, ``red``, ``nir``, …), as eCognition's import of this product expects. Each is
    written under a temporary name and renamed when it is complete. A file that is there
    already and was made from the same source files, area and options is skipped, unless
    something of it was gone or failed to be read: such a file is made anew. The files are
    written by dask tasks, on a cluster by its workers: ``directory`` must then be one that all
    of them reach.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, also computed, masked or sliced: it needs a ``time`` coordinate, a
        ``band`` coordinate (or a band's name), evenly spaced x and y, and a CRS.
    directory : str or path
        Made when it is not there; none of a Zarr store.
    profile : {"compressed", "plain", "cog"}, default "compressed"
        DEFLATE in tiles of 256; uncompressed strips as the original script wrote them; or a
        cloud-optimised GeoTIFF with overviews.
    overwrite : bool, default False
        Replace files that were made of something else; else they are an error.
    progress : bool, default True
        Show a bar on stderr.
    max_bytes : float or None, default 20 GB
        Most bytes that all files still to be written may have unpacked; None for no limit.
    piece_px : int, default 8192
        Planes of more pixels than a square of this side are read and packed in such squares, a
        task each, so that memory does not grow with the plane. They are kept beside the file
        until it is put together: an interrupted export goes on from them. A multiple of 256.

    Returns
    -------
    list of pathlib.Path
        All files, written or found complete, by time and band. Pixels have the array's
        dtype; NaN becomes the nodata value (-10000 unless the array says otherwise).

    Raises
    ------
    ExportError
        The array does not say where, when or what its pixels are, a file is in the way, or
        there is more to be written than ``max_bytes``; nothing has been read or written then.
    ReadError
        A source file can't be read; files that were complete by then stay.

    Warns
    -----
    MissingWarning
        Files hold nodata alone.
    S2L3AWarning
        Nodata took part in arithmetic, and is a number like any other.

    References
    ----------
    https://github.com/fkroeber/field_boundary_delineation, the script whose files these are

    Examples
    --------
    >>> from s2l3a_xr import open_l3a
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> da = open_l3a((11.68, 51.94, 11.76, 51.99), time="2021-05", bands="B4", archive=archive)
    >>> [path.name for path in to_geotiff(da, "out", progress=False)]
    ['s2_l3a_20210515_red.tif']
    """
    if profile not in PROFILES:
        msg = f"profile={profile!r} must be one of {', '.join(map(repr, PROFILES))}."
        raise ExportError(msg)
    if piece_px < TILE_PX or piece_px % TILE_PX:
        msg = f"piece_px={piece_px!r} must be a multiple of {TILE_PX}."
        raise ExportError(msg)
    cube = as_cube(da)
    raster = raster_of(cube)
    folder = take_folder(directory)
    origin = find_origin(chunked(cube))
    jobs = plan_jobs(cube, folder, raster, profile, origin)
    make_folder(folder)
    sweep(folder)
    todo = _unfinished(jobs, raster, overwrite=overwrite)
    check_volume(len(todo), raster, max_bytes)
    if todo:
        warn_of_numbers(cube)
        check_folder(folder, todo, raster, is_packed=profile != "plain")
        way = _Way(raster, profile, piece_px)
        if empty := _write(cube, origin, jobs, todo, way, shown=progress):
            warn_user(
                f"{len(empty)} of {len(jobs)} files hold nodata alone: "
                f"{', '.join(empty[:_MOST_NAMED])}{', …' if len(empty) > _MOST_NAMED else ''}; "
                "the archive lacks the month there, or the area lies where it has no pixels; "
                "search_l3a(…) says which.",
                MissingWarning,
            )
    for job in jobs:
        drop_pieces(job.path)
    return [job.path for job in jobs]


_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class _Way:
    """How files are written."""

    raster: Raster
    profile: str
    piece_px: int

    @property
    def is_cut(self) -> bool:
        return self.raster.width * self.raster.height > self.piece_px**2


def _write(
    cube: xr.DataArray,
    origin: Origin | None,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    way: _Way,
    *,
    shown: bool,
) -> list[str]:
    """Write files; return the names of those that hold nothing."""
    unit, done = "file", len(jobs) - len(todo)
    if way.is_cut:
        unit = "piece"
        tasks, done = _piece_tasks(_squares(cube, origin, way), todo, way, watch_failures(cube))
    elif origin is None:
        tasks = _tasks(cube, todo, way, watch_failures(cube))
    else:
        tasks = _reads(origin, todo, way)
    written = run_counted(tasks, unit=unit, shown=shown, done=done)
    return [name for name in written if isinstance(name, str)]


def _squares(cube: xr.DataArray, origin: Origin | None, way: _Way) -> Any:  # noqa: ANN401 - dask is untyped
    planes = origin.planes(way.piece_px) if origin is not None else None
    if planes is not None:
        return planes
    cut = chunked(cube)
    sizes = (1, 1, way.piece_px, way.piece_px)
    return cut.chunk(dict(zip(cut.dims, sizes, strict=True))).data


def _piece_tasks(
    pixels: Any,  # noqa: ANN401 - dask is untyped
    jobs: Sequence[Job],
    way: _Way,
    watch: Watch,
) -> tuple[list[Any], int]:
    """Make a task for each piece that is not there yet, and behind them one for each file."""
    cuts = [cut_plane(job.path, way.raster, way.piece_px) for job in jobs]
    contents = [tokenize(job.content, way.piece_px) for job in jobs]
    every = [
        delayed(has_piece)(piece, content)
        for rows, content in zip(cuts, contents, strict=True)
        for row in rows
        for piece in row
    ]
    there = iter(run_counted(every, unit="piece", shown=False))
    blocks = pixels.to_delayed()
    tasks = []
    for job, rows, content in zip(jobs, cuts, contents, strict=True):
        pieces = (piece for row in rows for piece in row)
        written = [
            delayed(_write_piece)(block, piece, job, content, watch)
            for block, piece in zip(blocks[job.time, job.band].ravel(), pieces, strict=True)
            if not next(there)
        ]
        tasks += [*written, delayed(_join)(written, rows, job, way)]
    return tasks, len(every) - len(tasks) + len(jobs)


def _write_piece(pixels: np.ndarray, piece: Piece, job: Job, content: str, watch: Watch) -> bool:
    """Write a piece; tell whether nothing failed."""
    pixels = without_nan(pixels[0, 0], piece.raster.nodata)
    known = None if watch.sees([job.source]) else content
    write_piece(piece, pixels, name=job.name, content=known)
    return known is not None


def _join(written: Sequence[bool], rows: list[list[Piece]], job: Job, way: _Way) -> str | None:
    """Put a file together; return its name where it holds nothing."""
    content = job.content if all(written) else None
    is_empty = join_pieces(job.path, rows, way.raster, way.profile, name=job.name, content=content)
    return job.path.name if is_empty and content is not None else None


def _reads(origin: Origin, jobs: Sequence[Job], way: _Way) -> list[Any]:
    """Make a task for each file, behind one for as many as memory takes: read at once.

    Nothing else is read, and each file is written as soon as its pixels are there.
    """
    raster = way.raster
    plane = raster.width * raster.height * origin.request.dtype.itemsize
    most = max(1, parse_bytes(dask.config.get("array.chunk-size")) // plane)
    bands = origin.bands.shape[1]
    most = most // bands * bands or most  # whole months: their bands share masks
    whole = delayed((origin.array(), origin.rows, origin.columns), traverse=False)
    tasks = []
    for start in range(0, len(jobs), most):
        members = jobs[start : start + most]
        pairs = [
            (int(origin.times[job.time, job.band]), int(origin.bands[job.time, job.band]))
            for job in members
        ]
        keys = [f"write-{uuid.uuid4().hex}" for _ in members]
        written = delayed(_read_and_write)(whole, pairs, members, keys, way)
        tasks += [
            delayed(operator.getitem)(written, number, dask_key_name=key)
            for number, key in enumerate(keys)
        ]
    return tasks


def _read_and_write(
    whole: tuple[L3AArray, np.ndarray, np.ndarray],
    pairs: Sequence[tuple[int, int]],
    jobs: Sequence[Job],
    keys: Sequence[str],
    way: _Way,
) -> list[str | None]:
    def take(number: int, pixels: np.ndarray, has_failed: bool) -> str | None:
        name = _write_plane(pixels, jobs[number], way, has_failed=has_failed)
        count_now(keys[number])
        return name

    array, rows, columns = whole
    return array.give_planes(pairs, rows, columns, take)


def _tasks(cube: xr.DataArray, jobs: Sequence[Job], way: _Way, watch: Watch) -> list[Any]:
    """Make a task for each file, behind one for each chunk that some files come from.

    dask would join the choice of a plane with the reading, and read plane by plane; a task
    of its own for the chunk keeps all of its requests in flight at once.
    """
    pixels = chunked(cube).chunk(dict.fromkeys(cube.dims[-2:], -1)).data
    edges = [np.cumsum(sizes) for sizes in pixels.chunks[:2]]
    groups: dict[tuple[int, int], list[Job]] = defaultdict(list)
    for job in jobs:
        where = (
            np.searchsorted(edges[0], job.time, "right"),
            np.searchsorted(edges[1], job.band, "right"),
        )
        groups[int(where[0]), int(where[1])].append(job)
    tasks = []
    for members in groups.values():
        times = sorted({job.time for job in members})
        bands = sorted({job.band for job in members})
        part = pixels[as_run(np.array(times))][:, as_run(np.array(bands))]
        chunk = delayed(_hold)(part)
        for job in members:
            plane = chunk[times.index(job.time), bands.index(job.band)]
            tasks.append(delayed(_write_changed)(plane, job, way, watch))
    return tasks


def _hold(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _unfinished(jobs: Sequence[Job], raster: Raster, *, overwrite: bool) -> list[Job]:
    """Choose the files that are not there, or not whole: each pixel of the others is looked at."""
    claimed = [
        job.path
        for job in jobs
        if claims_content(job.path, raster, job.content, overwrite=overwrite)
    ]
    sound = run_counted([delayed(is_sound)(path) for path in claimed], unit="file", shown=False)
    done = {path for path, whole in zip(claimed, sound, strict=True) if whole}
    return [job for job in jobs if job.path not in done]


def _write_changed(pixels: np.ndarray, job: Job, way: _Way, watch: Watch) -> str | None:
    return _write_plane(pixels, job, way, has_failed=watch.sees([job.source]))


def _write_plane(pixels: np.ndarray, job: Job, way: _Way, *, has_failed: bool) -> str | None:
    """Write one file, whole or not at all; return its name where it holds nothing."""
    raster = way.raster
    pixels = without_nan(pixels, raster.nodata)
    # Perhaps its source was gone only for now: what holds nothing is made anew.
    is_empty = raster.nodata is not None and _is_all(pixels, raster.nodata)
    content = None if is_empty or has_failed else job.content
    write_geotiff(job.path, pixels, raster, way.profile, name=job.name, content=content)
    return job.path.name if is_empty and not has_failed else None  # of failures others tell


def _is_all(pixels: np.ndarray, value: float) -> bool:
    """Look at a few first: a plane may be large, and is seldom empty."""
    few = pixels[:: max(1, pixels.shape[0] // 16), :: max(1, pixels.shape[1] // 16)]
    return bool((few == value).all() and (pixels == value).all())
