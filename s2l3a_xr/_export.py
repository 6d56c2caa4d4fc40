"""From an array to GeoTIFFs, named as eCognition projects expect them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from dask.base import compute, tokenize
from dask.callbacks import Callback
from dask.delayed import delayed
from tqdm.auto import tqdm

from s2l3a_xr._cube import auto_chunks
from s2l3a_xr._errors import ExportError, SelectionError
from s2l3a_xr._failures import Row, failures_of, home_folder
from s2l3a_xr._paths import take_path
from s2l3a_xr._raster import COMMON, Raster, as_cube, raster_of
from s2l3a_xr._rehearsal import Origin, as_run, find_origin, tokens_of, tokens_to_read
from s2l3a_xr._volume import MAX_BYTES, check_volume

Profile = Literal["compressed", "plain", "cog"]

_PROFILES: dict[str, dict[str, Any]] = {
    "compressed": {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "DEFLATE",
        "zlevel": 6,
        "num_threads": "all_cpus",
    },
    "plain": {"driver": "GTiff"},
    "cog": {
        "driver": "COG",
        "compress": "DEFLATE",
        "overview_resampling": "NEAREST",
        "num_threads": "all_cpus",
    },
}
_TAG, _OURS = "S2L3A_CONTENT", "S2L3A"
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
            row["id"] not in self.known and job.source in {None, (row["month"], row["band"])}
            for row in failures_of(self.tokens, self.home)
        )


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
    if profile not in _PROFILES:
        msg = f"profile={profile!r} must be one of {', '.join(map(repr, _PROFILES))}."
        raise ExportError(msg)
    cube = as_cube(da)
    raster = raster_of(cube)
    folder = take_path(directory, "directory", ExportError)
    origin = find_origin(cube if cube.chunks else _chunked(cube))
    jobs = _jobs(cube, folder, raster, profile, origin)
    _make(folder)
    todo = [job for job in jobs if not _is_complete(job, raster, overwrite=overwrite)]
    check_volume(len(todo), raster, max_bytes)
    if todo:
        tasks = _tasks(_dask_array(cube, origin), todo, raster, profile, _watch(cube))
        with _bar(len(jobs), len(jobs) - len(todo), shown=progress) as tick:
            _compute(tasks, tick)
    return [job.path for job in jobs]


def _watch(cube: xr.DataArray) -> _Watch:
    """Watch for failures from now on; of pixels that are there, for all that are known."""
    tokens = tokens_to_read(cube if cube.chunks else _chunked(cube))
    known: Sequence[Row] = failures_of(tokens)
    if not tokens:
        with contextlib.suppress(SelectionError):
            tokens = tokens_of(cube)
    return _Watch(tokens=tokens, known=frozenset(row["id"] for row in known), home=home_folder())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"the folder {folder} can't be made: {exc}"
        raise ExportError(msg) from exc


def _creation(raster: Raster, profile: str) -> dict[str, Any]:
    """Options for rasterio."""
    options = dict(_PROFILES[profile])
    if profile != "plain":
        options["predictor"] = 3 if raster.dtype.startswith("float") else 2
        options["bigtiff"] = "IF_SAFER"
    return options | {
        "count": 1,
        "width": raster.width,
        "height": raster.height,
        "transform": raster.transform,
        "crs": raster.crs,
        "dtype": raster.dtype,
        "nodata": raster.nodata,
    }


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
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            msg = f"the array has several {what} ({', '.join(twice)}): their files would collide."
            raise ExportError(msg)
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


def _is_complete(job: _Job, raster: Raster, *, overwrite: bool) -> bool:
    """Tell whether the file is there with the same content; something else is an error."""
    if not job.path.exists():
        return False
    try:
        with rasterio.open(job.path) as file:
            there = (file.width, file.height, file.transform, file.dtypes[0], file.nodata)
            same_crs = file.crs == rasterio.CRS.from_wkt(raster.crs)
            tags = file.tags()
    except rasterio.RasterioIOError:
        there, same_crs, tags = None, False, {}
    expected = (raster.width, raster.height, raster.transform, raster.dtype, raster.nodata)
    is_unfinished = tags.get(_OURS) == "1" and _TAG not in tags
    if there == expected and same_crs and tags.get(_TAG) == job.content:
        return True
    if overwrite or is_unfinished:
        return False
    msg = (
        f"{job.path} is there already and was made of something else (another area, request, "
        "profile, type or program, or from a computed array); pass overwrite=True (--overwrite) "
        "to replace it, or write to another folder."
    )
    raise ExportError(msg)


def _write_plane(pixels: np.ndarray, job: _Job, raster: Raster, profile: str, watch: _Watch) -> str:
    """Write one file, whole or not at all; it knows its content if nothing failed."""
    if pixels.dtype.kind == "f" and raster.nodata is not None:
        pixels = np.where(np.isnan(pixels), pixels.dtype.type(raster.nodata), pixels)
    temporary = job.path.with_name(f".{job.path.name}.{uuid.uuid4().hex}.part")
    try:
        with rasterio.open(temporary, "w", **_creation(raster, profile)) as file:
            file.write(np.asarray(pixels, dtype=raster.dtype), 1)
            # Perhaps its source was gone only for now: what holds nothing is made anew.
            is_empty = raster.nodata is not None and _is_all(pixels, raster.nodata)
            is_complete = not is_empty and not watch.sees(job)
            file.update_tags(**{_OURS: "1"} | ({_TAG: job.content} if is_complete else {}))
            file.set_band_description(1, job.name)
        temporary.replace(job.path)
    except (rasterio.errors.RasterioError, OSError) as exc:
        msg = f"{job.path} can't be written: {exc}"
        raise ExportError(msg) from exc
    finally:
        temporary.unlink(missing_ok=True)
    return str(job.path)


def _is_all(pixels: np.ndarray, value: float) -> bool:
    """Look at a few first: a plane may be large, and is seldom empty."""
    few = pixels[:: max(1, pixels.shape[0] // 16), :: max(1, pixels.shape[1] // 16)]
    return bool((few == value).all() and (pixels == value).all())


@contextlib.contextmanager
def _bar(total: int, done: int, *, shown: bool) -> Iterator[Any]:
    with tqdm(total=total, initial=done, unit="file", disable=not shown, file=sys.stderr) as bar:
        yield bar.update


def _compute(tasks: Sequence[Any], tick: Any) -> None:  # noqa: ANN401 - tqdm's update
    """Run the tasks where dask runs things now, and count those that are done."""
    client = _client()
    if client is not None:
        from distributed import as_completed  # noqa: PLC0415 - an optional extra

        futures = client.compute(list(tasks))
        for future in as_completed(futures):
            future.result()
            tick()
        return

    def count(key: object, *_: object) -> None:
        if str(key).startswith("_write_plane"):
            tick()

    with Callback(posttask=count):
        compute(*tasks)


def _client() -> Any:  # noqa: ANN401 - distributed is an optional extra
    distributed = sys.modules.get("distributed")
    chosen = dask.config.get("scheduler", None)
    if distributed is None or chosen not in {None, "dask.distributed", "distributed"}:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None
