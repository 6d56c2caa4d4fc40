"""From an array to cloud-optimised GeoTIFFs, through odc-geo: tile by tile, as dask tasks."""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import rasterio
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed

from s2l3a_xr._disk import make_folder, move_whole, set_aside, sweep, told
from s2l3a_xr._errors import ExportError
from s2l3a_xr._geotiff import checksum_of, open_any
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._jobs import (
    Job,
    Watch,
    band_names,
    check_folder,
    chunked,
    contents_of,
    days_of,
    plan_jobs,
    warn_of_numbers,
    watch_failures,
    without_nan,
)
from s2l3a_xr._own import take_folder
from s2l3a_xr._progress import run_counted
from s2l3a_xr._raster import Raster, as_cube, raster_of
from s2l3a_xr._rehearsal import Origin, find_origin
from s2l3a_xr._volume import MAX_BYTES, check_volume

_TILE_PX, _CHUNK_PX = 512, 4096
_LEAST_PX = 64
_HOW = "cog by odc-geo"
_CLASSIC_LIMIT = 4_000_000_000
_SAID = "S2L3A content {} pixels {}"
_SAYS = re.compile(r"S2L3A content ([0-9a-f]{32}|-{32}) pixels ([0-9a-f]{8}|-{8})")


@knows_keywords
def to_cog(
    da: xr.DataArray,
    directory: str | os.PathLike[str],
    *,
    together: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    max_bytes: float | None = MAX_BYTES,
) -> list[Path]:
    """Write cloud-optimised GeoTIFFs tile by tile, so that no task holds a whole plane.

    `to_geotiff` with ``profile="cog"`` has GDAL write them, and goes on from what was read when
    it is interrupted; it is the one to take unless all bands shall be in one file, or all
    workers of a cluster shall pack one file. Here odc-geo makes overviews and packs tiles in
    dask tasks of their own. Files are written under a temporary name and renamed when they are
    complete; complete ones are skipped as by `to_geotiff`.

    Parameters
    ----------
    da : xarray.DataArray
        As for `to_geotiff`.
    directory : str or path
        Made when it is not there; none of a Zarr store.
    together : bool, default False
        Write one file for each month, with all bands, ``s2_l3a_{YYYYMMDD}.tif``; else one for
        each month and band, named as by `to_geotiff`.
    overwrite : bool, default False
        Replace files that were made of something else; else they are an error.
    progress : bool, default True
        Show a bar on stderr.
    max_bytes : float or None, default 20 GB
        Most bytes that all files still to be written may have unpacked; None for no limit.

    Returns
    -------
    list of pathlib.Path
        All files, written or found complete. Planes are padded with nodata at the right and at
        the bottom: to 64 pixels at least, and to a multiple of 2 for each overview.

    Raises
    ------
    ExportError
        odc-geo is not there, the array does not say enough, a file is in the way, or there is
        more to be written than ``max_bytes``.
    ReadError
        A source file can't be read; files that were complete by then stay.

    References
    ----------
    https://docs.ogc.org/is/21-026/21-026.html

    Examples
    --------
    >>> from s2l3a_xr import open_l3a
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> aoi = (11.68, 51.94, 11.76, 51.99)
    >>> da = open_l3a(aoi, time="2021-05", bands=["red", "nir"], archive=archive)
    >>> [path.name for path in to_cog(da, "out", together=True, progress=False)]
    ['s2_l3a_20210515.tif']
    """
    _check_libraries()
    cube = as_cube(da)
    raster = raster_of(cube)
    folder = take_folder(directory)
    origin = find_origin(chunked(cube))
    jobs = _jobs(cube, folder, raster, origin, together=together)
    bands = cube.sizes["band"] if together else 1
    make_folder(folder)
    sweep(folder)
    todo = _unfinished(jobs, overwrite=overwrite)
    check_volume(len(todo) * bands, raster, max_bytes)
    if not todo:
        return [job.path for job in jobs]
    warn_of_numbers(cube)
    check_folder(folder, todo, raster, is_packed=True)
    watch = watch_failures(cube)
    pixels = _pixels(cube, origin, raster)
    with told(folder), set_aside(folder) as hidden:
        tasks = []
        for job in todo:
            plane = pixels[job.time] if together else pixels[job.time, job.band]
            names = band_names(cube) if together else [job.name]
            place = hidden / job.path.name
            packed = _pack(plane, place, raster, names)
            tasks.append(delayed(_finish)(packed, place, job, watch))
        with warnings.catch_warnings():
            # rasterio's own filter is lost now and then where overviews are made in threads.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            run_counted(tasks, unit="file", shown=progress, done=len(jobs) - len(todo))
    return [job.path for job in jobs]


def _check_libraries() -> None:
    try:
        import odc.geo.cog  # noqa: F401, PLC0415 - an optional extra
        import tifffile  # noqa: F401, PLC0415 - an optional extra
    except ImportError as exc:
        msg = (
            'to_cog needs odc-geo and tifffile (pip install "s2l3a_xr[cog]"); '
            'to_geotiff(profile="cog") does without them.'
        )
        raise ExportError(msg) from exc


def _jobs(
    cube: xr.DataArray, folder: Path, raster: Raster, origin: Origin | None, *, together: bool
) -> list[Job]:
    if not together:
        return plan_jobs(cube, folder, raster, _HOW, origin)
    contents, names = contents_of(cube, origin), band_names(cube)
    return [
        Job(
            path=folder / f"s2_l3a_{day}.tif",
            time=i,
            band=0,
            content=tokenize(contents[i], raster, names, _HOW),
            name="all",
            source=None,
        )
        for i, day in enumerate(days_of(cube))
    ]


def _unfinished(jobs: Sequence[Job], *, overwrite: bool) -> list[Job]:
    claims = [_claims_content(job, overwrite=overwrite) for job in jobs]
    claimed = [job for job, claim in zip(jobs, claims, strict=True) if claim]
    checks = [delayed(_is_complete)(job, overwrite) for job in claimed]
    done = run_counted(checks, unit="file", shown=False)
    whole = {job.path for job, complete in zip(claimed, done, strict=True) if complete}
    return [job for job in jobs if job.path not in whole]


def _claims_content(job: Job, *, overwrite: bool) -> bool:
    """Tell whether a file is there whose header says what is wanted."""
    if not job.path.exists():
        return False
    try:
        with open_any(job.path) as file:
            said = _SAYS.fullmatch(file.tags().get("TIFFTAG_IMAGEDESCRIPTION", ""))
    except rasterio.errors.RasterioError:
        said = None
    if said and said[1] == job.content:
        return True
    if overwrite or (said and said[1].startswith("-")):
        return False
    raise _in_the_way(job.path)


def _is_complete(job: Job, overwrite: bool) -> bool:
    """Tell whether a file that says what is wanted has the pixels, too."""
    try:
        with rasterio.open(job.path, driver="GTiff") as file:
            said = _SAYS.fullmatch(file.tags()["TIFFTAG_IMAGEDESCRIPTION"])
            return bool(said and said[2] == _checksum(file))
    except rasterio.errors.RasterioError as exc:
        if overwrite:
            return False
        raise _in_the_way(job.path) from exc


def _in_the_way(path: Path) -> ExportError:
    return ExportError(
        f"{path} is there already and was made of something else, or is damaged; pass "
        "overwrite=True (--overwrite) to replace it, or write to another folder."
    )


def _checksum(file: Any) -> str:  # noqa: ANN401 - rasterio is untyped
    sums = [checksum_of(file, band) for band in file.indexes]
    return f"{zlib.crc32(np.array(sums, '<u4').tobytes()):08x}"


def _pixels(cube: xr.DataArray, origin: Origin | None, raster: Raster) -> Any:  # noqa: ANN401 - dask is untyped
    pixels: Any = origin.planes(_CHUNK_PX) if origin is not None else None
    if pixels is None:
        cut = chunked(cube)
        pixels = cut.chunk(dict.fromkeys(cut.dims[2:], _CHUNK_PX)).data
    return pixels.map_blocks(without_nan, raster.nodata, dtype=pixels.dtype).astype(raster.dtype)


def _pack(pixels: Any, place: Path, raster: Raster, names: Sequence[str]) -> Any:  # noqa: ANN401 - dask is untyped
    from odc.geo.cog import save_cog_with_dask  # noqa: PLC0415 - an optional extra
    from odc.geo.geobox import GeoBox  # noqa: PLC0415 - the same
    from odc.geo.xr import wrap_xr  # noqa: PLC0415 - the same

    pixels = _widened(pixels, raster.nodata)
    box = GeoBox(pixels.shape[-2:], raster.transform, raster.crs)
    da = wrap_xr(pixels, box, nodata=raster.nodata, always_yx=True, axis=pixels.ndim - 2)
    da.attrs["long_name"] = list(names)
    return save_cog_with_dask(
        da,
        place,
        compression="DEFLATE",
        level=6,
        blocksize=_TILE_PX,
        bigtiff=pixels.nbytes > _CLASSIC_LIMIT,
        overview_resampling="nearest",
        stats=False,
        description=_SAID.format("-" * 32, "-" * 8),
    )


def _widened(pixels: Any, nodata: float | None) -> Any:  # noqa: ANN401 - dask is untyped
    """Pad a small plane: odc-geo takes (band, y, 3) for colours, and can't halve single rows."""
    bands = pixels.shape[0] if pixels.ndim == 3 else 1  # noqa: PLR2004 - of all bands
    least = max(_LEAST_PX, bands + 1)  # as many bands as rows and columns are a guess, too
    lacking = [max(least - size, 0) for size in pixels.shape[-2:]]
    if not any(lacking):
        return pixels
    ends = [(0, 0)] * (pixels.ndim - 2) + [(0, more) for more in lacking]
    padded = dask.array.pad(pixels, ends, constant_values=nodata or 0)
    return padded.rechunk(dict.fromkeys((-2, -1), _CHUNK_PX))


def _finish(packed: object, place: Path, job: Job, watch: Watch) -> str:  # noqa: ARG001 - waited for
    """Look at a file that odc-geo has written, say what it holds, and give it its name."""
    import tifffile  # noqa: PLC0415 - an optional extra

    tiff: Any
    with told(job.path):
        with rasterio.open(place, driver="GTiff") as file:
            checksum = _checksum(file)
        with tifffile.TiffFile(place, mode="r+") as tiff:
            # A tile that could not be packed is left out there without a word.
            if not all(min(page.databytecounts) for page in tiff.pages):
                msg = (
                    f"{job.path} can't be written: odc-geo could not pack all of its tiles; run "
                    "the same again, or use to_geotiff(profile='cog')."
                )
                raise ExportError(msg)
            if not watch.sees([job.source]):
                for page in tiff.pages:
                    page.tags[270].overwrite(_SAID.format(job.content, checksum))
        move_whole(place, job.path)
    return str(job.path)
