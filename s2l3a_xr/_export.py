"""From an array to GeoTIFFs, named as eCognition projects expect them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed

from s2l3a_xr._cube import auto_chunks
from s2l3a_xr._disk import make_folder, sweep, try_name
from s2l3a_xr._errors import ExportError, SelectionError
from s2l3a_xr._failures import Row, failures_of, home_folder
from s2l3a_xr._geotiff import PROFILES, Profile, claims_content, is_sound, write_geotiff
from s2l3a_xr._inventory import volume_text
from s2l3a_xr._paths import take_path
from s2l3a_xr._progress import run_counted
from s2l3a_xr._raster import COMMON, Raster, as_cube, raster_of
from s2l3a_xr._rehearsal import Origin, as_run, find_origin, tokens_of, tokens_to_read
from s2l3a_xr._volume import MAX_BYTES, check_volume

_LEAST_PACKED_SHARE = 0.02
"""Of unpacked bytes: masks and areas that are nodata for the most part pack as well as that."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One file to be written."""

    path: Path
    time: int
    band: int
    content: str
    name: str
    source: tuple[str, str] | None
    """Month and native band, where the plane comes from just one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """Looks for failures that leave holes in files."""

    tokens: tuple[str, ...]
    known: frozenset[str]
    home: str

    def sees(self, job: _Job) -> bool:
        """Tell whether something of a file's sources was not read."""
        return any(
            row["id"] not in self.known
            and (job.source in {None, (row["month"], row["band"])} or _hides(row, job))
            for row in failures_of(self.tokens, self.home)
        )


def _hides(row: Row, job: _Job) -> bool:
    """Tell whether pixels of a file may be hidden since FLG of the month was not read."""
    return row["band"] == "FLG" and job.source is not None and row["month"] == job.source[0]


def to_geotiff(
    da: xr.DataArray,
    directory: str | os.PathLike[str],
    *,
    profile: Profile = "compressed",
    overwrite: bool = False,
    progress: bool = True,
    max_bytes: float | None = MAX_BYTES,
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
        Made when it is not there.
    profile : {"compressed", "plain", "cog"}, default "compressed"
        DEFLATE in tiles of 256; uncompressed strips as the original script wrote them; or a
        cloud-optimised GeoTIFF with overviews.
    overwrite : bool, default False
        Replace files that were made of something else; else they are an error.
    progress : bool, default True
        Show a bar on stderr.
    max_bytes : float or None, default 20 GB
        Most bytes that all files still to be written may have unpacked; None for no limit.

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

    Examples
    --------
    >>> from s2l3a_xr import open_l3a
    >>> archive = getfixture("sample_archive_url")  # a server with the sample archive
    >>> da = open_l3a((11.68, 51.94, 11.76, 51.99), time="2021-05", bands="B4", archive=archive)
    >>> [path.name for path in to_geotiff(da, getfixture("tmp_path"), progress=False)]
    ['s2_l3a_20210515_red.tif']
    """
    if profile not in PROFILES:
        msg = f"profile={profile!r} must be one of {', '.join(map(repr, PROFILES))}."
        raise ExportError(msg)
    cube = as_cube(da)
    raster = raster_of(cube)
    folder = take_path(directory, "directory", ExportError)
    origin = find_origin(cube if cube.chunks else _chunked(cube))
    jobs = _jobs(cube, folder, raster, profile, origin)
    make_folder(folder)
    sweep(folder)
    todo = _unfinished(jobs, raster, overwrite=overwrite)
    check_volume(len(todo), raster, max_bytes)
    if todo:
        _check_folder(folder, todo, raster, profile)
        tasks = _tasks(_dask_array(cube, origin), todo, raster, profile, _watch(cube))
        run_counted(tasks, unit="file", shown=progress, done=len(jobs) - len(todo))
    return [job.path for job in jobs]


def _watch(cube: xr.DataArray) -> _Watch:
    """Watch for failures from now on; of pixels that are there, for all that are known."""
    tokens = tokens_to_read(cube if cube.chunks else _chunked(cube))
    known: Sequence[Row] = failures_of(tokens)
    if not tokens:
        with contextlib.suppress(SelectionError):
            tokens = tokens_of(cube)
    return _Watch(tokens=tokens, known=frozenset(row["id"] for row in known), home=home_folder())


def _jobs(
    cube: xr.DataArray, folder: Path, raster: Raster, profile: str, origin: Origin | None
) -> list[_Job]:
    days = [pd.Timestamp(value).strftime("%Y%m%d") for value in cube["time"].to_numpy()]
    names = [COMMON.get(str(value), str(value)) for value in cube["band"].to_numpy()]
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            msg = f"the band name {name!r} can't be part of a file name."
            raise ExportError(msg, hint="rename it: da.assign_coords(band=…).")
    for what, values in (("time steps on one day", days), ("bands of one name", names)):
        folded = [value.casefold() for value in values]  # for Windows and macOS B is b
        twice = sorted({value for value in values if folded.count(value.casefold()) > 1})
        if twice:
            msg = f"the array has several {what} ({', '.join(twice)}): their files would collide"
            raise ExportError(msg, hint="select one of them, or rename them.")
    contents = _contents(cube, raster, profile, origin)
    return [
        _Job(
            path=folder / f"s2_l3a_{day}_{name}.tif",
            time=i,
            band=j,
            content=contents[i][j],
            name=name,
            source=origin.source(i, j) if origin is not None else None,
        )
        for i, day in enumerate(days)
        for j, name in enumerate(names)
    ]


def _contents(
    cube: xr.DataArray, raster: Raster, profile: str, origin: Origin | None
) -> list[list[str]]:
    """Hash what each plane will hold, without reading it.

    A plane that was only cut out of an opened array is told by its source files and place,
    whatever the other months and bands: a longer export finds the files of a shorter one.
    """
    times, bands = range(cube.sizes["time"]), range(cube.sizes["band"])
    if origin is None:
        whole = tokenize(cube.data if cube.chunks else cube.to_numpy())
        return [[tokenize(whole, raster, i, j, profile) for j in bands] for i in times]
    same = tokenize(raster, profile, origin.rows, origin.columns, origin.request.pixels_of_a_plane)
    return [
        [
            tokenize(same, origin.request.plane(int(origin.times[i, j]), int(origin.bands[i, j])))
            for j in bands
        ]
        for i in times
    ]


def _chunked(cube: xr.DataArray) -> xr.DataArray:
    sizes = auto_chunks(cube.shape, cube.dtype, dask.config.get("array.chunk-size"))
    return cube.chunk(dict(zip(cube.dims, sizes, strict=True)))


def _dask_array(cube: xr.DataArray, origin: Origin | None) -> Any:  # noqa: ANN401 - dask is untyped
    planes = origin.planes() if origin is not None else None
    if planes is not None:
        return planes
    chunked = cube if cube.chunks else _chunked(cube)
    return chunked.chunk(dict.fromkeys(chunked.dims[2:], -1)).data


def _tasks(
    pixels: Any,  # noqa: ANN401 - dask is untyped
    jobs: Sequence[_Job],
    raster: Raster,
    profile: str,
    watch: _Watch,
) -> list[Any]:
    """Make a task for each file, behind one for each chunk that some files come from.

    dask would join the choice of a plane with the reading, and read plane by plane; a task
    of its own for the chunk keeps all of its requests in flight at once.
    """
    edges = [np.cumsum(sizes) for sizes in pixels.chunks[:2]]
    groups: dict[tuple[int, int], list[_Job]] = defaultdict(list)
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
            tasks.append(delayed(_write_plane)(plane, job, raster, profile, watch))
    return tasks


def _hold(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _unfinished(jobs: Sequence[_Job], raster: Raster, *, overwrite: bool) -> list[_Job]:
    """Choose the files that are not there, or not whole: each pixel of the others is looked at."""
    claimed = [
        job.path
        for job in jobs
        if claims_content(job.path, raster, job.content, overwrite=overwrite)
    ]
    sound = run_counted([delayed(is_sound)(path) for path in claimed], unit="file", shown=False)
    done = {path for path, whole in zip(claimed, sound, strict=True) if whole}
    return [job for job in jobs if job.path not in done]


def _check_folder(folder: Path, todo: Sequence[_Job], raster: Raster, profile: str) -> None:
    """Refuse a folder that can't take the files, before anything is read for them."""
    try_name(max((job.path for job in todo), key=lambda path: len(os.fsencode(path.name))))
    plane = raster.width * raster.height * np.dtype(raster.dtype).itemsize
    replaced = sum(job.path.stat().st_size for job in todo if job.path.exists())
    share = 1.0 if profile == "plain" else _LEAST_PACKED_SHARE
    needed = max(plane, round(share * plane * len(todo)) - replaced)
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{folder} has {volume_text(free)} free, {len(todo)} files of "
            f"{raster.width} x {raster.height} pixels need {volume_text(needed)} at the very "
            "least; make room, or ask for a smaller area, fewer months or bands."
        )
        raise ExportError(msg)


def _write_plane(pixels: np.ndarray, job: _Job, raster: Raster, profile: str, watch: _Watch) -> str:
    """Write one file, whole or not at all; it knows its content if nothing failed."""
    if pixels.dtype.kind == "f" and raster.nodata is not None:
        pixels = np.where(np.isnan(pixels), pixels.dtype.type(raster.nodata), pixels)
    # Perhaps its source was gone only for now: what holds nothing is made anew.
    is_empty = raster.nodata is not None and _is_all(pixels, raster.nodata)
    content = None if is_empty or watch.sees(job) else job.content
    write_geotiff(job.path, pixels, raster, profile, name=job.name, content=content)
    return str(job.path)


def _is_all(pixels: np.ndarray, value: float) -> bool:
    """Look at a few first: a plane may be large, and is seldom empty."""
    few = pixels[:: max(1, pixels.shape[0] // 16), :: max(1, pixels.shape[1] // 16)]
    return bool((few == value).all() and (pixels == value).all())
