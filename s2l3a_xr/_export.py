"""From an array to GeoTIFFs, named as eCognition projects expect them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
import numpy as np
import pandas as pd
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from affine import Affine
from dask.base import compute, tokenize
from dask.callbacks import Callback
from dask.delayed import delayed
from dask.utils import key_split
from rioxarray.exceptions import RioXarrayError
from tqdm.auto import tqdm

from s2l3a_xr._cube import auto_chunks, find_array
from s2l3a_xr._errors import ExportError
from s2l3a_xr._product import BANDS, NODATA

Profile = Literal["compressed", "plain", "cog"]

_PROFILES: dict[str, dict[str, Any]] = {
    "compressed": {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "DEFLATE",
        "zlevel": 6,
    },
    "plain": {"driver": "GTiff"},
    "cog": {"driver": "COG", "compress": "DEFLATE", "overview_resampling": "NEAREST"},
}
_TAG = "S2L3A_CONTENT"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_COMMON = {name: band.common for band in BANDS.values() for name in (band.native, band.common)}
_NATIVE = {name: band.native for band in BANDS.values() for name in (band.native, band.common)}
_PLAIN_STEPS = frozenset(
    {"open_l3a", "original", "xarray", "getitem", "transpose", "rechunk"}
    | {"rechunk-merge", "rechunk-split", "xarray-<this-array>"}
)
"""dask steps that choose pixels and change none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raster:
    """What all files of an export share."""

    width: int
    height: int
    transform: Affine
    crs: str
    dtype: str
    nodata: float | None

    def creation(self, profile: str) -> dict[str, Any]:
        """Options for rasterio."""
        options = dict(_PROFILES[profile])
        if profile != "plain":
            options["predictor"] = 3 if self.dtype.startswith("float") else 2
            options["bigtiff"] = "IF_SAFER"
        return options | {
            "count": 1,
            "width": self.width,
            "height": self.height,
            "transform": self.transform,
            "crs": self.crs,
            "dtype": self.dtype,
            "nodata": self.nodata,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One file to be written."""

    path: Path
    time: int
    band: int
    content: str
    name: str


def to_geotiff(
    da: xr.DataArray,
    directory: str | os.PathLike[str],
    *,
    profile: Profile = "compressed",
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Write one GeoTIFF for each month and band.

    The files are named ``s2_l3a_{YYYYMMDD}_{band}.tif`` with common band names (``blue``,
    ``green``, ``red``, ``nir``, …), as eCognition's import of this product expects. Each is
    written under a temporary name and renamed when it is complete. A file that is there
    already and holds the same pixels is skipped. The files are written by dask tasks, on a
    cluster by its workers: ``directory`` must then be one that all of them reach.

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
        Replace files that hold something else; else they are an error.
    progress : bool, default True
        Show a bar on stderr.

    Returns
    -------
    list of pathlib.Path
        All files, written or found complete, by time and band. Pixels have the array's
        dtype; NaN becomes the nodata value (-10000 unless the array says otherwise).

    Raises
    ------
    ExportError
        The array does not say where, when or what its pixels are, or a file is in the way.
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
    cube = _as_cube(da)
    raster = _raster_of(cube)
    folder = Path(directory).expanduser().absolute()
    jobs = _jobs(cube, folder, raster, profile)
    _make(folder)
    todo = [job for job in jobs if overwrite or not _is_complete(job, raster)]
    if todo:
        pixels = _dask_array(cube)
        tasks = [
            delayed(_write_plane)(pixels[job.time, job.band], job, raster, profile) for job in todo
        ]
        with _bar(len(jobs), len(jobs) - len(todo), shown=progress) as tick:
            _compute(tasks, tick)
    return [job.path for job in jobs]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"the folder {folder} can't be made: {exc}"
        raise ExportError(msg) from exc


def _as_cube(da: object) -> xr.DataArray:
    """Bring an array to (time, band, y, x), north up."""
    if not isinstance(da, xr.DataArray):
        msg = (
            f"to_geotiff writes a DataArray, not a {type(da).__name__}; a Dataset becomes one "
            "with ds.to_dataarray('band')."
        )
        raise ExportError(msg)
    da = _with_time_and_band(da)
    try:
        x, y = da.rio.x_dim, da.rio.y_dim
    except RioXarrayError as exc:
        msg = f"the array has no spatial dimensions: {exc}; see da.rio.set_spatial_dims."
        raise ExportError(msg) from exc
    extra = [str(dim) for dim in da.dims if dim not in {"time", "band", x, y}]
    if extra:
        msg = f"the array has more dimensions than time, band, y and x: {', '.join(extra)}."
        raise ExportError(msg)
    cube = da.transpose("time", "band", y, x)
    if not all(cube.shape):
        msg = f"the array is empty: its shape is {cube.shape}."
        raise ExportError(msg)
    descending = {dim: _runs_down(cube, dim) for dim in (x, y)}
    turned = [
        dim for dim, wanted in ((x, False), (y, True)) if descending[dim] not in {None, wanted}
    ]
    return cube.isel({dim: slice(None, None, -1) for dim in turned})


def _with_time_and_band(da: xr.DataArray) -> xr.DataArray:
    if "band" not in da.coords and da.name in _COMMON:
        da = da.assign_coords(band=da.name)
    for name in ("time", "band"):
        if name not in da.coords:
            msg = (
                f"the array has no {name!r} coordinate, so its files can't be named; add it with "
                f"da.assign_coords({name}=…)."
            )
            raise ExportError(msg)
        if name not in da.dims:
            da = da.expand_dims(name)
    if not np.issubdtype(da["time"].dtype, np.datetime64):
        msg = f"the time coordinate must be datetime64, it is {da['time'].dtype}."
        raise ExportError(msg)
    return da


def _runs_down(cube: xr.DataArray, dim: str) -> bool | None:
    """Whether a coordinate descends; None for a single value."""
    values = cube[dim].to_numpy()
    return bool(values[0] > values[-1]) if values.size > 1 else None


def _raster_of(cube: xr.DataArray) -> _Raster:
    if cube.rio.crs is None:
        msg = "the array has no CRS; set it with da.rio.write_crs(…)."
        raise ExportError(msg)
    step_x, step_y = (_step(cube, dim) for dim in (cube.rio.x_dim, cube.rio.y_dim))
    left = float(cube[cube.rio.x_dim].to_numpy()[0]) - step_x / 2
    top = float(cube[cube.rio.y_dim].to_numpy()[0]) - step_y / 2
    dtype = np.dtype("uint8") if cube.dtype == bool else cube.dtype
    if dtype.kind not in "iuf" or (dtype.kind == "f" and dtype.itemsize < 4):  # noqa: PLR2004
        msg = f"pixels of type {cube.dtype} can't be written; use da.astype('float32')."
        raise ExportError(msg)
    nodata = cube.rio.encoded_nodata if cube.rio.encoded_nodata is not None else cube.rio.nodata
    if nodata is None or np.isnan(nodata):
        nodata = NODATA if dtype.kind == "f" else None
    return _Raster(
        width=cube.sizes[cube.rio.x_dim],
        height=cube.sizes[cube.rio.y_dim],
        transform=Affine(step_x, 0.0, left, 0.0, step_y, top),
        crs=cube.rio.crs.to_wkt(),
        dtype=dtype.name,
        nodata=None if nodata is None else float(nodata),
    )


def _step(cube: xr.DataArray, dim: str) -> float:
    values = cube[dim].to_numpy().astype("float64")
    if values.size == 1:
        transform = cube.rio.transform()
        return float(transform.a if dim == cube.rio.x_dim else transform.e)
    steps = np.diff(values)
    step = float((values[-1] - values[0]) / (values.size - 1))
    if not np.allclose(steps, step, rtol=1e-6, atol=0):
        msg = (
            f"the {dim} coordinate is not evenly spaced (steps of {steps.min():g} to "
            f"{steps.max():g}); a GeoTIFF needs whole rows and columns."
        )
        raise ExportError(msg)
    return step


def _jobs(cube: xr.DataArray, folder: Path, raster: _Raster, profile: str) -> list[_Job]:
    days = [pd.Timestamp(value).strftime("%Y%m%d") for value in cube["time"].to_numpy()]
    names = [_COMMON.get(str(value), str(value)) for value in cube["band"].to_numpy()]
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            msg = f"the band name {name!r} can't be part of a file name."
            raise ExportError(msg)
    for what, values in (("time steps on one day", days), ("bands of one name", names)):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            msg = f"the array has several {what} ({', '.join(twice)}): their files would collide."
            raise ExportError(msg)
    contents = _contents(cube, raster, profile)
    return [
        _Job(
            path=folder / f"s2_l3a_{day}_{name}.tif",
            time=i,
            band=j,
            content=contents[i][j],
            name=name,
        )
        for i, day in enumerate(days)
        for j, name in enumerate(names)
    ]


def _contents(cube: xr.DataArray, raster: _Raster, profile: str) -> list[list[str]]:
    """Hash what each plane will hold, without reading it.

    A plane that was only cut out of an opened array is told by its source files and place,
    whatever the other months and bands: a longer export finds the files of a shorter one.
    """
    chunked = cube if cube.chunks else _chunked(cube)
    array = find_array(chunked)
    labels = cube["native_name" if "native_name" in cube.coords else "band"]
    natives = [_NATIVE.get(str(name), "") for name in np.atleast_1d(labels.to_numpy())]
    if array is None or not set(_steps(chunked)) <= _PLAIN_STEPS or not all(natives):
        whole = tokenize(chunked.data if cube.chunks else cube.to_numpy())
        return [
            [tokenize(whole, raster, i, j, profile) for j in range(cube.sizes["band"])]
            for i in range(cube.sizes["time"])
        ]
    request = array.request
    when = cube["time"].dt
    months = list(zip(when.year.to_numpy().tolist(), when.month.to_numpy().tolist(), strict=True))
    same = (raster, request.grid, request.area, request.all_touched, profile)
    return [
        [tokenize(same, request.plane(month, native)) for native in natives] for month in months
    ]


def _steps(da: xr.DataArray) -> list[str]:
    """Name what dask does to get the array, without hashes."""
    names = [key_split(name) for name in da.__dask_graph__().layers]
    return [name.removeprefix("original-") for name in names]


def _chunked(cube: xr.DataArray) -> xr.DataArray:
    sizes = auto_chunks(cube.shape, cube.dtype, dask.config.get("array.chunk-size"))
    return cube.chunk(dict(zip(cube.dims, sizes, strict=True)))


def _dask_array(cube: xr.DataArray) -> Any:  # noqa: ANN401 - dask is untyped
    chunked = cube if cube.chunks else _chunked(cube)
    return chunked.chunk(dict.fromkeys(chunked.dims[2:], -1)).data


def _is_complete(job: _Job, raster: _Raster) -> bool:
    """Tell whether the file is there with the same content; something else is an error."""
    if not job.path.exists():
        return False
    try:
        with rasterio.open(job.path) as file:
            there = (file.width, file.height, file.transform, file.dtypes[0], file.nodata)
            same_crs = file.crs == rasterio.CRS.from_wkt(raster.crs)
            content = file.tags().get(_TAG)
    except rasterio.RasterioIOError:
        there, same_crs, content = None, False, None
    expected = (raster.width, raster.height, raster.transform, raster.dtype, raster.nodata)
    if there == expected and same_crs and content == job.content:
        return True
    msg = (
        f"{job.path} is there already and holds something else (another area, request, type or "
        "program); pass overwrite=True to replace it, or write to another folder."
    )
    raise ExportError(msg)


def _write_plane(pixels: np.ndarray, job: _Job, raster: _Raster, profile: str) -> str:
    """Write one file, complete or not at all."""
    if pixels.dtype.kind == "f" and raster.nodata is not None:
        pixels = np.where(np.isnan(pixels), pixels.dtype.type(raster.nodata), pixels)
    temporary = job.path.with_name(f".{job.path.name}.{uuid.uuid4().hex}.part")
    try:
        with rasterio.open(temporary, "w", **raster.creation(profile)) as file:
            file.write(np.asarray(pixels, dtype=raster.dtype), 1)
            file.update_tags(**{_TAG: job.content})
            file.set_band_description(1, job.name)
        temporary.replace(job.path)
    except (rasterio.errors.RasterioError, OSError) as exc:
        msg = f"{job.path} can't be written: {exc}"
        raise ExportError(msg) from exc
    finally:
        temporary.unlink(missing_ok=True)
    return str(job.path)


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
    if distributed is None or dask.config.get("scheduler", None) is not None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None
