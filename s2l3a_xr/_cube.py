"""The lazy array: a request that reads its pixels when it is indexed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from dask._task_spec import DataNode, Task
from dask.base import optimize, tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import parse_bytes
from xarray.backends import BackendArray
from xarray.core import indexing

from s2l3a_xr._errors import GoneError, MissingWarning, ReadError
from s2l3a_xr._request import Request, read_request
from s2l3a_xr._transport import run_with_session

_UNCUT_PX = 8192
"""Planes up to so many pixels a side are never cut by automatic chunks."""

_CUT_PX = 512
"""Larger planes are cut on multiples of this, counted from the tiles' corner."""


@dataclass(eq=False)
class L3AArray(BackendArray):
    """Array over (time, band, y, x) that reads what it is indexed for.

    It holds the request alone: no connection, no lock; it may be pickled and sent anywhere.

    Parameters
    ----------
    request : Request
        What to read.
    recorded : list, optional
        Where to note the positions of each reading instead of reading: for planning.
    """

    request: Request
    recorded: list[list[np.ndarray]] | None = None
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = self.request.shape
        self.dtype = self.request.dtype

    @cached_property
    def token(self) -> str:
        """Hash of the request; equal requests have equal ones, in every process."""
        return str(tokenize(self.request))

    def __reduce__(self) -> tuple[type[L3AArray], tuple[Request]]:
        return type(self), (self.request,)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return type(self).__name__, self.token

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(  # type: ignore[no-any-return]
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        axes = [
            np.atleast_1d(np.arange(size)[index])
            for index, size in zip(key, self.shape, strict=True)
        ]
        if self.recorded is not None:
            self.recorded.append(axes)
            nothing = np.array(self.request.fill, self.dtype)
            pixels = np.broadcast_to(nothing, [len(axis) for axis in axes])
        else:
            pixels, gone = self._read_now(axes)
            if gone:
                self._tell(gone)
        scalars = tuple(
            0 if np.ndim(i) == 0 and not isinstance(i, slice) else slice(None) for i in key
        )
        return pixels[scalars]

    def _read_now(self, axes: list[np.ndarray]) -> tuple[np.ndarray, list[GoneError]]:
        try:
            return run_with_session(
                self.request.transport, lambda session: read_request(session, self.request, axes)
            )
        except ReadError as exc:
            # Errors of other libraries in the chain may not survive the way from a worker, and
            # would take this one along; what they say is in its message.
            exc.__cause__ = exc.__context__ = None
            raise

    def _tell(self, gone: list[GoneError]) -> None:
        if self.request.missing == "raise":
            raise gone[0]
        if self.request.missing == "warn":
            warnings.warn(
                f"{len(gone)} listed file(s) are gone from the archive and count as nodata, "
                f"first {gone[0].url}; missing='raise' makes this an error.",
                MissingWarning,
                stacklevel=2,
            )


def auto_chunks(shape: Sequence[int], dtype: np.dtype[Any], limit: str | int) -> tuple[Any, ...]:
    """Choose chunks: time is split first, then band, then space.

    Many requests in flight decide how fast pixels come, so chunks are as large as dask's
    ``array.chunk-size`` allows, and a plane is cut only beyond 8192 pixels a side.

    Parameters
    ----------
    shape : sequence of int
        ``(time, band, y, x)``.
    dtype : numpy.dtype
        Of the pixels.
    limit : str or int
        Bytes of a chunk, such as ``"128 MiB"``.

    Returns
    -------
    tuple
        Chunk sizes along (time, band, y, x).

    Examples
    --------
    >>> auto_chunks((8, 4, 1000, 1000), np.dtype("int16"), "128MiB")
    (8, 4, 1000, 1000)
    >>> auto_chunks((96, 10, 4096, 4096), np.dtype("int16"), "128MiB")
    (1, 4, 4096, 4096)
    """
    times, bands, height, width = shape
    height, width = min(height, _UNCUT_PX), min(width, _UNCUT_PX)
    planes = max(1, parse_bytes(limit) // (height * width * dtype.itemsize))
    if planes >= bands:
        return min(times, planes // bands), bands, height, width
    return 1, min(bands, planes), height, width


def cut_from_corner(size: int, chunk: int, offset: int) -> int | tuple[int, ...]:
    """Cut a long axis where blocks end, counted from the tiles' corner.

    Parameters
    ----------
    size : int
        Pixels of the axis.
    chunk : int
        Longest chunk.
    offset : int
        Pixels between the tiles' corner and the axis' begin.

    Returns
    -------
    int or tuple of int
        Chunk sizes.

    Examples
    --------
    >>> cut_from_corner(10000, 8192, 100)
    (8092, 1908)
    """
    if size <= chunk:
        return size
    first = chunk - offset % _CUT_PX
    cuts = [first, *([chunk] * ((size - first) // chunk))]
    rest = size - sum(cuts)
    return tuple([*cuts, rest] if rest else cuts)


def find_array(da: xr.DataArray) -> L3AArray | None:
    """Find the lazy array that a DataArray's pixels come from.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from it by lazy steps.

    Returns
    -------
    L3AArray or None
        None where the pixels have been computed, or come from elsewhere or from several.
    """
    graph = da.__dask_graph__() or {}
    found = {}
    for layer in getattr(graph, "layers", {"": graph}).values():
        if not isinstance(layer, Blockwise):
            for node in layer.values():
                array = _unwrap(node)
                if array is not None:
                    found[array.token] = array
    return next(iter(found.values())) if len(found) == 1 else None


def _unwrap(node: object) -> L3AArray | None:
    """Look through the adapters that xarray lays around a backend's array."""
    while node is not None and not isinstance(node, L3AArray):
        node = getattr(node, "array", None)
    return node


def record_reads(da: xr.DataArray) -> tuple[Request, list[list[np.ndarray]]] | None:
    """Find out which parts of a request computing an array would read, without reading.

    The tasks that read are run on an array that only notes what it is asked for.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from it by lazy steps.

    Returns
    -------
    tuple of Request and list, or None
        For each reading the positions along time, band, y and x; None where the pixels
        have been computed, or come from elsewhere or from several requests.
    """
    array = find_array(da)
    if array is None:
        return None
    recorded: list[list[np.ndarray]] = []
    (optimized,) = optimize(_spied(da.data, recorded))
    tasks = dict(optimized.__dask_graph__())
    values = {key: node.value for key, node in tasks.items() if isinstance(node, DataNode)}
    for task in tasks.values():
        # The others work on what these give: nothing is read for them.
        if isinstance(task, Task) and task.dependencies <= values.keys():
            task(values)
    return array.request, recorded


def _spied(data: Any, recorded: list[list[np.ndarray]]) -> Any:  # noqa: ANN401 - dask is untyped
    """Rebuild a dask array around lazy arrays that only record."""
    graph = data.__dask_graph__()
    layers = dict(graph.layers)
    for name, layer in layers.items():
        if not isinstance(layer, Blockwise) and any(_unwrap(node) for node in layer.values()):
            spies = {key: _spy(node, recorded) for key, node in layer.items()}
            layers[name] = MaterializedLayer(spies)
    spied = HighLevelGraph(layers, graph.dependencies)
    return dask.array.Array(spied, data.name, data.chunks, meta=data._meta)  # noqa: SLF001


def _spy(node: object, recorded: list[list[np.ndarray]]) -> object:
    """Copy a lazy array's adapters around an array that only records."""
    spy = copy.deepcopy(node)
    array = _unwrap(spy)
    if array is not None:
        array.recorded = recorded
    return spy
