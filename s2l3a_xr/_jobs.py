"""Which files an export makes, what each will hold, and whether something of it failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from s2l3a_xr._cube import auto_chunks
from s2l3a_xr._disk import try_name
from s2l3a_xr._errors import ExportError, S2L3AWarning, SelectionError, warn_user
from s2l3a_xr._failures import Row, failures_of, home_folder
from s2l3a_xr._inventory import volume_text
from s2l3a_xr._raster import COMMON, Raster, nodata_of
from s2l3a_xr._rehearsal import Origin, nodata_becomes, tokens_to_read
from s2l3a_xr._tokens import tokens_of

LEAST_PACKED_SHARE = 0.02
"""Of unpacked bytes: masks and areas that are nodata for the most part pack as well as that."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to be written.

    Parameters
    ----------
    path : Path
        Where it goes.
    time, band : int
        Position of its plane in the array.
    content : str
        Hash of what its pixels are.
    name : str
        Of the band.
    source : tuple of str or None
        Month and native band, where the plane comes from just one.
    """

    path: Path
    time: int
    band: int
    content: str
    name: str
    source: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Looks for failures that leave holes in what is written.

    Parameters
    ----------
    tokens : tuple of str
        Of the requests that are read.
    known : frozenset of str
        Failures that do not count.
    home : str
        Where this process's children leave word of theirs.
    """

    tokens: tuple[str, ...]
    known: frozenset[str]
    home: str

    def sees(self, sources: Sequence[tuple[str, str] | None]) -> bool:
        """Tell whether something of what planes come from was not read.

        Parameters
        ----------
        sources : sequence of tuple of str or None
            Month and native band of each plane; None where it may come from any.

        Returns
        -------
        bool
            True also where FLG of a month failed: pixels may be hidden since.
        """
        return any(
            row["id"] not in self.known and any(_is_of(row, source) for source in sources)
            for row in failures_of(self.tokens, self.home)
        )


def _is_of(row: Row, source: tuple[str, str] | None) -> bool:
    return source is None or (row["month"] == source[0] and row["band"] in {source[1], "FLG"})


def watch_failures(cube: xr.DataArray) -> Watch:
    """Watch for failures from now on; of pixels that are there, for all that are known.

    Parameters
    ----------
    cube : xarray.DataArray
        What will be written.

    Returns
    -------
    Watch
        To be asked when it has been read.
    """
    tokens = tokens_to_read(chunked(cube))
    known: Sequence[Row] = failures_of(tokens)
    if not tokens:
        with contextlib.suppress(SelectionError):
            tokens = tokens_of(cube)
    return Watch(tokens=tokens, known=frozenset(row["id"] for row in known), home=home_folder())


def plan_jobs(
    cube: xr.DataArray, folder: Path, raster: Raster, how: str, origin: Origin | None
) -> list[Job]:
    """Name the files of an array, one for each month and band.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.
    folder : Path
        Where they go.
    raster : Raster
        What each of them is.
    how : str
        How they are packed; part of the content.
    origin : Origin or None
        Where the pixels come from, where that is known.

    Returns
    -------
    list of Job
        By time and band.

    Raises
    ------
    ExportError
        Names can't be part of a file name, or collide.
    """
    days, names = days_of(cube), band_names(cube)
    contents = contents_of(cube, origin)
    return [
        Job(
            path=folder / f"s2_l3a_{day}_{name}.tif",
            time=i,
            band=j,
            content=tokenize(contents[i][j], raster, how),
            name=name,
            source=origin.source(i, j) if origin is not None else None,
        )
        for i, day in enumerate(days)
        for j, name in enumerate(names)
    ]


def days_of(cube: xr.DataArray) -> list[str]:
    """Write the time steps as file names have them.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.

    Returns
    -------
    list of str
        ``YYYYMMDD``.

    Raises
    ------
    ExportError
        Two are on one day.
    """
    days = [pd.Timestamp(value).strftime("%Y%m%d") for value in cube["time"].to_numpy()]
    _check_unique(days, "time steps on one day")
    return days


def band_names(cube: xr.DataArray) -> list[str]:
    """Give bands their common names, as file names have them.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.

    Returns
    -------
    list of str
        Such as ``red``.

    Raises
    ------
    ExportError
        One can't be part of a file name, or two are one.
    """
    names = [COMMON.get(str(value), str(value)) for value in cube["band"].to_numpy()]
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            msg = f"the band name {name!r} can't be part of a file name."
            raise ExportError(msg, hint="rename it: da.assign_coords(band=…).")
    _check_unique(names, "bands of one name")
    return names


def _check_unique(values: list[str], what: str) -> None:
    folded = [value.casefold() for value in values]  # for Windows and macOS B is b
    twice = sorted({value for value in values if folded.count(value.casefold()) > 1})
    if twice:
        msg = f"the array has several {what} ({', '.join(twice)}): their files would collide"
        raise ExportError(msg, hint="select one of them, or rename them.")


def contents_of(cube: xr.DataArray, origin: Origin | None) -> list[list[str]]:
    """Hash what each plane holds, without reading it.

    A plane that was only cut out of an opened array is told by its source files and place,
    whatever the other months and bands: a longer export finds the files of a shorter one.

    Parameters
    ----------
    cube : xarray.DataArray
        From `as_cube`.
    origin : Origin or None
        Where the pixels come from, where that is known.

    Returns
    -------
    list of list of str
        By time and band.
    """
    times, bands = range(cube.sizes["time"]), range(cube.sizes["band"])
    if origin is None:
        whole = tokenize(cube.data if cube.chunks else cube.to_numpy())
        return [[tokenize(whole, i, j) for j in bands] for i in times]
    same = tokenize(origin.rows, origin.columns, origin.request.pixels_of_a_plane)
    return [
        [
            tokenize(same, origin.request.plane(int(origin.times[i, j]), int(origin.bands[i, j])))
            for j in bands
        ]
        for i in times
    ]


def chunked(da: xr.DataArray) -> xr.DataArray:
    """Give an array chunks where it has none.

    Parameters
    ----------
    da : xarray.DataArray
        Four dimensions.

    Returns
    -------
    xarray.DataArray
        The same pixels.
    """
    if da.chunks:
        return da
    sizes = auto_chunks(da.shape, da.dtype, dask.config.get("array.chunk-size"))
    return da.chunk(dict(zip(da.dims, sizes, strict=True)))


def check_folder(folder: Path, todo: Sequence[Job], raster: Raster, *, is_packed: bool) -> None:
    """Refuse a folder that can't take the files, before anything is read for them.

    Parameters
    ----------
    folder : Path
        Where they go.
    todo : sequence of Job
        The files.
    raster : Raster
        What each of them is.
    is_packed : bool
        Whether they are compressed.

    Raises
    ------
    ExportError
        It can't be written, or has too little space.
    """
    try_name(max((job.path for job in todo), key=lambda path: len(os.fsencode(path.name))))
    plane = raster.width * raster.height * np.dtype(raster.dtype).itemsize
    replaced = sum(job.path.stat().st_size for job in todo if job.path.exists())
    share = LEAST_PACKED_SHARE if is_packed else 1.0
    needed = max(plane, round(share * plane * len(todo)) - replaced)
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{folder} has {volume_text(free)} free, {len(todo)} files of "
            f"{raster.width} x {raster.height} pixels need {volume_text(needed)} at the very "
            "least; make room, or ask for a smaller area, fewer months or bands."
        )
        raise ExportError(msg)


def warn_of_numbers(cube: xr.DataArray) -> None:
    """Warn where nodata took part in arithmetic, and is a number like any other now.

    Parameters
    ----------
    cube : xarray.DataArray
        What is to be written.
    """
    found = nodata_becomes(chunked(cube)) if cube.dtype.kind in "iuf" else None
    if found is None:
        return
    before, after = found
    if np.isnan(after) or after in {before, nodata_of(cube)}:
        return
    warn_user(
        f"pixels without data will hold {after:.6g}: {before:g} took part in the arithmetic as a "
        "number; compute from da.l3a.masked(), or open with mask_and_scale=True.",
        S2L3AWarning,
    )


def without_nan(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """Make nodata of NaN.

    Parameters
    ----------
    pixels : ndarray
        Any.
    nodata : float or None
        Value of pixels without data.

    Returns
    -------
    ndarray
        The same, or a copy.
    """
    if pixels.dtype.kind == "f" and nodata is not None:
        return np.where(np.isnan(pixels), pixels.dtype.type(nodata), pixels)
    return pixels
