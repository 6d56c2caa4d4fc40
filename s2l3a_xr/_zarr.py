"""From an array to a Zarr store, region by region, so that an interrupted export goes on."""

from __future__ import annotations

import itertools
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from dask.utils import parse_bytes

from s2l3a_xr._chunks import DIMS
from s2l3a_xr._cube import auto_chunks
from s2l3a_xr._disk import make_folder, told
from s2l3a_xr._errors import ExportError
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._jobs import Watch, chunked, contents_of, warn_of_numbers, watch_failures
from s2l3a_xr._journal import (
    GROUP,
    Journal,
    Place,
    begin_journal,
    find_journal,
    is_half,
    mark_laid,
)
from s2l3a_xr._paths import take_path
from s2l3a_xr._progress import run_counted
from s2l3a_xr._raster import as_cube
from s2l3a_xr._rehearsal import Origin, find_origin
from s2l3a_xr._volume import MAX_BYTES, check_bytes

_CHUNK_PX = 2048
_CHUNK_BYTES = 16 * 2**20
"""Most of an unpacked chunk: 2048 x 2048 pixels of int16 are 8 MB."""

_KEPT = ("_FillValue", "dtype", "scale_factor", "add_offset")
"""What of an array's encoding is about its values; all else is of the file it was read from."""

_FILE_URL = re.compile(r"^file://(?:/(?=[A-Za-z]:))?")
"""What stands before a path in a file's URL; a drive follows on Windows."""

_UNFINISHED = "unfinished: regions are missing; the same to_zarr again writes them"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How pixels become numbers in a store."""

    name: str
    attrs: Mapping[str, Any]
    encoding: Mapping[str, Any]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        variable = xr.Variable(DIMS, pixels, dict(self.attrs), dict(self.encoding))
        encoded = xr.conventions.encode_cf_variable(variable, name=self.name)
        return np.ascontiguousarray(encoded.to_numpy())


@dataclass(frozen=True, slots=True)
class _Region:
    """Some whole chunks of a store, written by one task."""

    number: int
    slices: tuple[slice, ...]
    sources: tuple[tuple[str, str] | None, ...]


@knows_keywords
def to_zarr(
    da: xr.DataArray,
    store: Any,  # noqa: ANN401 - path, URL or a store
    *,
    chunks: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    max_bytes: float | None = MAX_BYTES,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:  # noqa: ANN401 - as it was given
    """Write an array to a Zarr store, and go on with one that was interrupted.

    Arrays and their coordinates are laid out first, then pixels are written in regions of whole
    chunks by dask tasks, on a cluster by its workers. A region that is complete is noted in the
    store with its checksum: the same call again, after whatever ended the first one, reads and
    writes what is missing, or was damaged since. A region of which something was gone or failed
    to be read is not complete. Nothing passes through the client.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, also computed, masked or sliced, with ``time`` and ``band`` coordinates.
        It is stored with dims (time, band, y, x), north up.
    store : str, path or zarr.abc.store.Store
        A folder, any URL that fsspec can write, or a store. What is no Zarr store is never
        replaced.
    chunks : mapping, optional
        Pixels of the store's chunks by dim, -1 for all. By default up to 2048 along y and x, and
        as many bands and months as 16 MiB hold.
    overwrite : bool, default False
        Replace a store that was made of something else; else it is an error, as is one with
        files that are none of Zarr's in it.
    progress : bool, default True
        Show a bar on stderr.
    max_bytes : float or None, default 20 GB
        Most bytes of pixels still to be written, unpacked; None for no limit.
    storage_options : mapping, optional
        For fsspec, where the store is a URL.

    Returns
    -------
    Path, str or zarr.abc.store.Store
        The folder, or the URL or store as it was given.

    Raises
    ------
    ExportError
        The array does not say enough, something else is in the place, or there is more to be
        written than ``max_bytes``.
    ReadError
        A source file can't be read; regions that were complete by then stay.

    Notes
    -----
    Format 2 of Zarr: format 3 has no rule for the text of coordinates and for consolidated
    metadata yet, and zarr warns of both. Whatever is not written yet is nodata, and the store's
    attribute ``status`` says so. Open it with ``xr.open_zarr(store, decode_coords="all")`` to
    have the CRS, and ``mask_and_scale=False`` to have the numbers as they are.

    References
    ----------
    https://zarr-specs.readthedocs.io

    Examples
    --------
    >>> import xarray as xr
    >>> from s2l3a_xr import open_l3a
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> da = open_l3a((11.68, 51.94, 11.76, 51.99), time="2021-05", archive=archive)
    >>> folder = to_zarr(da, "l3a.zarr", progress=False)
    >>> ds = xr.open_zarr(folder, decode_coords="all", mask_and_scale=False)
    >>> bool((ds["s2_l3a"] == da).all())
    True
    """
    cube = as_cube(da)
    cube = cube.rename(dict(zip(cube.dims, DIMS, strict=True)) if cube.dims != DIMS else {})
    place = _take_store(store, storage_options)
    sizes = _chunk_sizes(cube, chunks)
    layout = _layout(cube)
    origin = find_origin(chunked(cube))
    made_of = _made_of(cube, layout, sizes, origin)
    with told(place):
        journal = find_journal(place, made_of, overwrite=overwrite)
        regions = journal.regions if journal is not None else _region_sizes(cube, sizes)
        todo = every = _regions(cube, regions, origin)
        if journal is not None and journal.laid:
            todo = _unfinished(journal, layout.name, every)
        check_bytes(_bytes_of(todo, cube.dtype), "the pixels to be written, unpacked,", max_bytes)
        if journal is None:
            journal = begin_journal(place, made_of, regions, len(every), overwrite=overwrite)
        if not journal.laid:
            _lay(place, cube, layout, sizes)
            journal = mark_laid(journal)
        if todo:
            warn_of_numbers(cube)
        watch = watch_failures(cube)
        blocks = _pixels(cube, origin, regions).to_delayed().ravel()
        tasks = [
            delayed(_write_region)(blocks[region.number], region, layout, journal, watch)
            for region in todo
        ]
        run_counted(tasks, unit="region", shown=progress, done=len(every) - len(todo))
        _finish(journal)
    return store if place.folder is None else place.folder


def _take_store(store: Any, options: Mapping[str, Any] | None) -> Place:  # noqa: ANN401
    try:
        from zarr.abc.store import Store  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'Zarr stores need zarr (pip install "s2l3a_xr[io]").'
        raise ExportError(msg) from exc
    given = None if options is None else dict(options)
    if isinstance(store, str):
        store = _FILE_URL.sub("", store)
    if isinstance(store, Store) or (isinstance(store, str) and "://" in store):
        return Place(store, given)
    folder = take_path(store, "store", ExportError)
    make_folder(folder.parent)
    return Place(os.fspath(folder), given)


def _chunk_sizes(cube: xr.DataArray, chunks: Mapping[str, int] | None) -> tuple[int, ...]:
    given = dict(chunks or {})
    unknown = sorted(set(given) - set(DIMS))
    if unknown:
        msg = f"chunks has no dimension {unknown[0]!r}; choose from {', '.join(DIMS)}."
        raise ExportError(msg)
    usual = auto_chunks(cube.shape, cube.dtype, _CHUNK_BYTES, side=_CHUNK_PX)
    sizes = [
        size if given.get(dim) == -1 else given.get(dim, one)
        for dim, size, one in zip(DIMS, cube.shape, usual, strict=True)
    ]
    if any(type(one) is not int or one < 1 for one in sizes):
        msg = (
            f"chunks={chunks!r} can't be: a chunk has at least one pixel, and whole ones; give "
            "such as {'x': 1024}, or -1 for all of a dimension."
        )
        raise ExportError(msg)
    return tuple(min(one, size) for one, size in zip(sizes, cube.shape, strict=True))


def _region_sizes(cube: xr.DataArray, sizes: Sequence[int]) -> tuple[int, ...]:
    """Take as many whole chunks as a dask chunk holds: many requests are then in flight at once."""
    limit = parse_bytes(dask.config.get("array.chunk-size"))
    wanted = auto_chunks(cube.shape, cube.dtype, limit)
    regions = [max(1, want // one) * one for want, one in zip(wanted, sizes, strict=True)]
    for axis in (0, 1, 2, 3):  # chunks along one axis may be long, and leave no room for others
        while math.prod(regions) * cube.dtype.itemsize > limit and regions[axis] > sizes[axis]:
            regions[axis] -= sizes[axis]
    return tuple(regions)


def _regions(cube: xr.DataArray, sizes: Sequence[int], origin: Origin | None) -> list[_Region]:
    cuts = [
        [slice(begin, min(begin + step, size)) for begin in range(0, size, step)]
        for size, step in zip(cube.shape, sizes, strict=True)
    ]
    regions = []
    for number, slices in enumerate(itertools.product(*cuts)):
        planes = itertools.product(*(range(part.start, part.stop) for part in slices[:2]))
        sources = (None,) if origin is None else tuple(origin.source(i, j) for i, j in planes)
        regions.append(_Region(number, slices, sources))
    return regions


def _bytes_of(regions: Sequence[_Region], dtype: np.dtype[Any]) -> int:
    shapes = ([part.stop - part.start for part in region.slices] for region in regions)
    pixels: int = sum(math.prod(shape) for shape in shapes)
    return pixels * int(dtype.itemsize)


def _layout(cube: xr.DataArray) -> _Layout:
    """Choose how pixels are stored, so that reading gives them back.

    xarray refuses a nodata value in attributes and encoding at once, and writes fractions as
    integers without a word where a scale is missing.
    """
    encoding = {key: cube.encoding[key] for key in _KEPT if key in cube.encoding}
    attrs = {key: value for key, value in cube.attrs.items() if key != "grid_mapping"}
    if "_FillValue" in attrs:
        encoding.pop("_FillValue", None)
    is_float = cube.dtype.kind == "f"
    if not is_float or np.dtype(encoding.get("dtype", cube.dtype)).kind == "f":
        encoding.pop("dtype", None)
    if not is_float or "dtype" not in encoding:
        for key in ("scale_factor", "add_offset"):
            encoding.pop(key, None)
    if "dtype" in encoding and "scale_factor" not in encoding:
        del encoding["dtype"]
    if cube.rio.crs is not None:
        encoding["grid_mapping"] = cube.rio.grid_mapping
    return _Layout("s2_l3a" if cube.name is None else str(cube.name), attrs, encoding)


def _made_of(
    cube: xr.DataArray, layout: _Layout, sizes: Sequence[int], origin: Origin | None
) -> dict[str, Any]:
    """Say what a store holds, part by part, so that a difference can be named."""
    crs = cube.rio.crs
    encoding = {key: str(value) for key, value in sorted(layout.encoding.items())}
    return {
        "name": layout.name,
        "shape": list(cube.shape),
        "time": np.datetime_as_string(cube["time"].to_numpy(), unit="s").tolist(),
        "band": [str(value) for value in cube["band"].to_numpy()],
        "crs": None if crs is None else crs.to_string(),
        "x": [float(value) for value in cube["x"].to_numpy()[[0, -1]]],
        "y": [float(value) for value in cube["y"].to_numpy()[[0, -1]]],
        "dtype": str(cube.dtype),
        "encoding": encoding,
        "nodata": str(layout.attrs.get("_FillValue")),
        "chunks": list(sizes),
        "pixels": tokenize(contents_of(cube, origin)),
    }


def _pixels(
    cube: xr.DataArray, origin: Origin | None, regions: tuple[int, ...]
) -> dask.array.Array:
    """Cut the array along regions, by opening it anew where that is possible."""
    reopened = origin.reopened(regions) if origin is not None else None
    if reopened is not None:
        return reopened
    pixels: dask.array.Array = chunked(cube).chunk(dict(zip(DIMS, regions, strict=True))).data
    return pixels


def _lay(place: Place, cube: xr.DataArray, layout: _Layout, sizes: Sequence[int]) -> None:
    """Write all but the pixels; what an interruption left of that goes first."""
    from numcodecs import Blosc  # noqa: PLC0415 - comes with zarr

    _sweep(place)
    root = place.group("r+")
    for name in place.members() - {GROUP}:
        del root[name]
    blank = dask.array.zeros(cube.shape, dtype=cube.dtype, chunks=cube.shape)
    ds = cube.copy(data=blank).to_dataset(name=layout.name)
    for coordinate in ds.coords.values():
        coordinate.encoding = {"_FillValue": None} if coordinate.dtype.kind == "f" else {}
    ds[layout.name].attrs = dict(layout.attrs)
    ds[layout.name].encoding = {
        **layout.encoding, "chunks": tuple(sizes),
        "compressors": (Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE),),
    }  # fmt: skip
    ds.attrs = {"Conventions": "CF-1.11", "status": _UNFINISHED}
    ds.to_zarr(
        place.store, mode="a", compute=False, zarr_format=2, consolidated=True,
        storage_options=place.options,
    )  # fmt: skip


def _unfinished(journal: Journal, name: str, every: Sequence[_Region]) -> list[_Region]:
    """Choose the regions that are not complete, or not as they were written."""
    sums = journal.sums()
    noted = [region for region in every if sums[region.number] >= 0]
    checks = [
        delayed(_is_sound)(journal.place, name, region, int(sums[region.number]))
        for region in noted
    ]
    sound = run_counted(checks, unit="region", shown=False)
    damaged = {region.number for region, whole in zip(noted, sound, strict=True) if not whole}
    journal.strike(sorted(damaged))
    return [region for region in every if sums[region.number] < 0 or region.number in damaged]


def _is_sound(place: Place, name: str, region: _Region, checksum: int) -> bool:
    try:
        stored = np.ascontiguousarray(place.array(name)[region.slices])
    except (OSError, RuntimeError, ValueError):  # what codecs say of rotten bytes
        return False
    return zlib.crc32(stored.data.cast("B")) == checksum


def _write_region(
    pixels: np.ndarray, region: _Region, layout: _Layout, journal: Journal, watch: Watch
) -> None:
    """Write a region, and note it if nothing of it failed."""
    encoded = layout.encode(pixels)
    with told(journal.place):
        journal.place.array(layout.name)[region.slices] = encoded
        if not watch.sees(region.sources):
            journal.note(region.number, zlib.crc32(encoded.data.cast("B")))


def _finish(journal: Journal) -> None:
    """Take the word of missing regions away, where none is missing."""
    import zarr  # noqa: PLC0415 - an optional extra

    root = journal.place.group("r+")
    if "status" in root.attrs and (journal.sums() >= 0).all():
        _sweep(journal.place)
        del root.attrs["status"]
        zarr.consolidate_metadata(root.store, zarr_format=2)


def _sweep(place: Place) -> None:
    """Remove what a killed process left half-written: zarr warns of it."""
    for path in place.folder.rglob("*.partial") if place.folder is not None else ():
        if is_half(path):
            path.unlink(missing_ok=True)
