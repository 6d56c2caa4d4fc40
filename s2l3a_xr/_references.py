"""Stores whose chunks are blocks of files elsewhere: icechunk, and kerchunk's references."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from s2l3a_xr._errors import ExportError
from s2l3a_xr._tiff import DEFLATES, HORIZONTAL, LZW, NONE, Layout
from s2l3a_xr._transport import is_http

_RECORD_REFS = 10_000
"""References in one Parquet file."""

_IN_THE_CLEAR = {"allow_http": "true"}
_GROUP = {"zarr_format": 2}
_DIMS = "_ARRAY_DIMENSIONS"
"""Where xarray looks for names of dimensions in Zarr format 2."""

_INSTALL = 'pip install "s2l3a_xr[virtual]"'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One file, as one month of a variable.

    Parameters
    ----------
    url : str
        Where it is, without passwords; a path on disk.
    layout : Layout
        Where its blocks are.
    stamp : tuple of str
        Its ETag and Last-Modified, or what the place has instead.
    """

    url: str
    layout: Layout
    stamp: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variable:
    """One band of a tile.

    Parameters
    ----------
    fill : int
        Value of chunks that are nowhere.
    attrs : dict
        What JSON takes.
    parts : tuple of (Part or None)
        Along time, all packed alike; None where there is no file.
    """

    fill: int
    attrs: dict[str, Any]
    parts: tuple[Part | None, ...]

    @property
    def layout(self) -> Layout:
        """How its blocks are packed."""
        return next(part.layout for part in self.parts if part is not None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(time, y, x)``."""
        return len(self.parts), self.layout.height, self.layout.width

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Sizes of a chunk, which is a block."""
        return 1, self.layout.block_height, self.layout.block_width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """A tile, or what of it has one pixel size.

    Parameters
    ----------
    path : str
        In the store.
    attrs : dict
        What JSON takes.
    coords : dict
        Dimensions, values and attributes by name.
    variables : dict
        By band.
    """

    path: str
    attrs: dict[str, Any]
    coords: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]
    variables: dict[str, Variable]


class Writer(Protocol):
    """Takes groups one by one."""

    def add(self, group: Group) -> None:
        """Write one group."""

    def close(self) -> None:
        """Write what is left."""


class IcechunkWriter:
    """Writes an icechunk repository of Zarr format 3.

    Parameters
    ----------
    place : Path
        A folder that is not there.
    prefixes : sequence of str
        Below which the files lie.
    """

    def __init__(self, place: Path, prefixes: Sequence[str]) -> None:
        with _needed():
            import icechunk  # noqa: PLC0415 - an optional extra
            import imagecodecs.zarr  # noqa: F401, PLC0415

        config = icechunk.RepositoryConfig.default()
        for prefix in prefixes:
            store = (
                icechunk.http_store(_IN_THE_CLEAR if prefix.startswith("http://") else None)
                if is_http(prefix)
                else icechunk.local_filesystem_store(prefix)
            )
            named = icechunk.VirtualChunkContainer(_as_url(prefix), store)
            config.set_virtual_chunk_container(named)
        storage = icechunk.local_filesystem_storage(str(place))
        self._repository = icechunk.Repository.create(storage, config=config)
        self._session = self._repository.writable_session("main")

    def add(self, group: Group) -> None:
        """Write one group.

        Parameters
        ----------
        group : Group
            Whose files lie below the prefixes.
        """
        import zarr  # noqa: PLC0415 - an optional extra

        node = zarr.open_group(self._session.store, path=group.path, mode="a", zarr_format=3)
        node.update_attributes(group.attrs)
        for name, (dims, values, attrs) in group.coords.items():
            node.create_array(
                name, data=values, attributes=attrs, dimension_names=dims, compressors=None
            )
        for name, variable in group.variables.items():
            layout = variable.layout
            node.create_array(
                name,
                shape=variable.shape,
                chunks=variable.chunks,
                dtype=layout.dtype.newbyteorder("="),
                fill_value=variable.fill,
                attributes=variable.attrs,
                dimension_names=("time", "y", "x"),
                **_codecs(layout),
            )
            self._refer(f"/{group.path}/{name}", variable)

    def _refer(self, path: str, variable: Variable) -> None:
        for month, part in enumerate(variable.parts):
            if part is None:
                continue
            counts, url = part.layout.counts.ravel(), _as_url(part.url)
            failed = self._session.store.set_virtual_refs_arr(
                path,
                (1, *part.layout.counts.shape),
                [url if count else "" for count in counts.tolist()],
                part.layout.offsets.ravel().astype(np.uint64),
                counts.astype(np.uint64),
                arr_offset=(month, 0, 0),
                checksum=_checksum(part),
            )
            if failed:
                msg = f"icechunk refuses references to {part.url}; write refs.parquet instead."
                raise ExportError(msg)

    def close(self) -> None:
        """Commit what was written."""
        self._session.commit("s2l3a_xr.to_virtual")


def _as_url(place: str) -> str:
    if is_http(place):
        return place
    return Path(place).as_uri() + ("/" if place.endswith("/") else "")


def _checksum(part: Part) -> dt.datetime | str | None:
    """Give what a file is held against when it is read.

    Mirrors may give one file several ETags; when it was modified is the same everywhere.
    """
    if not is_http(part.url):
        return None
    etag, modified = (*part.stamp, "", "")[:2]
    if modified:
        with contextlib.suppress(ValueError):
            return email.utils.parsedate_to_datetime(modified)
    return etag if etag and not etag.startswith("W/") else None


def _codecs(layout: Layout) -> dict[str, Any]:
    """Say how to unpack a block, in Zarr format 3."""
    import imagecodecs.zarr as imagecodecs  # noqa: PLC0415 - an optional extra
    from zarr.codecs import BytesCodec, ZstdCodec  # noqa: PLC0415

    if layout.compression == NONE:
        packed: tuple[Any, ...] = ()
    elif layout.compression in DEFLATES:
        packed = (imagecodecs.Deflate(),)
    elif layout.compression == LZW:
        packed = (imagecodecs.Lzw(),)
    else:
        packed = (ZstdCodec(),)
    order: Literal["big", "little"] = "big" if layout.byte_order == ">" else "little"
    return {
        "filters": (imagecodecs.Delta(),) if layout.predictor == HORIZONTAL else (),
        "serializer": BytesCodec(endian=order if layout.dtype.itemsize > 1 else None),
        "compressors": packed,
    }


class ReferenceWriter:
    """Writes kerchunk's references in Parquet, of Zarr format 2.

    fsspec's own writer takes one reference at a time, and the Parquet engine of pandas that it
    needs is deprecated.

    Parameters
    ----------
    place : Path
        A folder that is not there.
    """

    def __init__(self, place: Path) -> None:
        with _needed():
            import pyarrow as pa  # noqa: PLC0415 - an optional extra
        self._place = place
        self._meta: dict[str, Any] = {".zgroup": _GROUP}
        fields = {"path": pa.string(), "offset": pa.int64(), "size": pa.int64(), "raw": pa.binary()}
        self._schema = pa.schema(list(fields.items()))
        place.mkdir()

    def add(self, group: Group) -> None:
        """Write one group.

        Parameters
        ----------
        group : Group
            Wherever its files lie.
        """
        steps = group.path.split("/")
        for step in range(1, len(steps) + 1):
            self._meta[f"{'/'.join(steps[:step])}/.zgroup"] = _GROUP
        self._meta[f"{group.path}/.zattrs"] = group.attrs
        for name, (dims, values, attrs) in group.coords.items():
            path = f"{group.path}/{name}"
            self._meta[f"{path}/.zarray"] = _array(values.shape, values.shape, values.dtype)
            self._meta[f"{path}/.zattrs"] = {**attrs, _DIMS: dims}
            self._write(path, {"raw": np.array([values.tobytes()], dtype=object)})
        for name, variable in group.variables.items():
            path, layout = f"{group.path}/{name}", variable.layout
            packing = {"fill_value": variable.fill, **_filters(layout)}
            plain = _array(variable.shape, variable.chunks, layout.dtype)
            self._meta[f"{path}/.zarray"] = plain | packing
            self._meta[f"{path}/.zattrs"] = {**variable.attrs, _DIMS: ("time", "y", "x")}
            self._write(path, _table(variable))

    def _write(self, path: str, columns: dict[str, np.ndarray]) -> None:
        """Write an array's references, in files of so many rows."""
        import pyarrow as pa  # noqa: PLC0415 - an optional extra
        import pyarrow.parquet as pq  # noqa: PLC0415

        folder = self._place / path
        folder.mkdir(parents=True)
        number = len(next(iter(columns.values())))
        empty = {"path": None, "offset": 0, "size": 0, "raw": None}
        whole = {name: np.full(number, value) for name, value in empty.items()} | columns
        table = pa.table({name: values.tolist() for name, values in whole.items()}, self._schema)
        for record, first in enumerate(range(0, number, _RECORD_REFS)):
            rows = table.slice(first, _RECORD_REFS)
            pq.write_table(rows, folder / f"refs.{record}.parq", compression="zstd")

    def close(self) -> None:
        """Write what describes all groups."""
        told = {"metadata": self._meta, "record_size": _RECORD_REFS}
        (self._place / ".zmetadata").write_text(json.dumps(told), "utf-8")


def _table(variable: Variable) -> dict[str, np.ndarray]:
    """Lay a variable's references in the order of its chunks."""
    grid = variable.layout.counts.shape
    paths = np.full((len(variable.parts), *grid), None, dtype=object)
    offsets, sizes = (np.zeros(paths.shape, dtype=np.int64) for _ in range(2))
    for month, part in enumerate(variable.parts):
        if part is not None:
            offsets[month], sizes[month] = part.layout.offsets, part.layout.counts
            paths[month][part.layout.counts > 0] = part.url
    return {"path": paths.ravel(), "offset": offsets.ravel(), "size": sizes.ravel()}


def _array(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    plain = {"order": "C", "compressor": None, "filters": None, "fill_value": None}
    return {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype.str, **plain}


def _filters(layout: Layout) -> dict[str, Any]:
    """Say how to unpack a block, in Zarr format 2."""
    if layout.compression in DEFLATES:
        compressor: dict[str, Any] | None = {"id": "zlib", "level": 6}
    elif layout.compression == LZW:
        compressor = {"id": "imagecodecs_lzw"}
    else:
        compressor = None if layout.compression == NONE else {"id": "zstd"}
    filters = None
    if layout.predictor == HORIZONTAL:
        sides = [1, layout.block_height, layout.block_width]
        delta = {"id": "imagecodecs_delta", "shape": sides, "dtype": layout.dtype.str}
        filters = [{**delta, "axis": -1, "dist": 1}]
    for codec in (compressor, *(filters or ())):
        _check_codec(codec)
    return {"compressor": compressor, "filters": filters}


def _check_codec(config: dict[str, Any] | None) -> None:
    import numcodecs  # noqa: PLC0415 - an optional extra

    try:
        if config is not None:
            numcodecs.get_codec(config)
    except ValueError as exc:
        msg = f"the archive's files need the codec {config}, which is not there ({_INSTALL})."
        raise ExportError(msg) from exc


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        is_old = exc.name == "icechunk" and sys.version_info < (3, 12)
        how = (
            "Python 3.12 or newer; a name that ends in .parquet needs neither"
            if is_old
            else _INSTALL
        )
        msg = f"a virtual store of this kind needs {exc.name} ({how})."
        raise ImportError(msg) from exc
