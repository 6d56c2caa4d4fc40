"""What computing an array reads, found by rehearsing it: no pixel is read here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from dask._task_spec import DataNode, Task
from dask.base import optimize, tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.local import get_sync
from dask.utils import key_split
from xarray.core import indexing

from s2l3a_xr._agreement import Versions
from s2l3a_xr._cube import L3AArray, auto_chunks
from s2l3a_xr._request import Request

_CHOOSING_STEPS = frozenset(
    {"open_l3a", "original", "xarray", "xarray-<this-array>", "getitem", "transpose"}
    | {"rechunk", "rechunk-merge", "rechunk-split", "stack"}
)
"""dask steps that choose pixels and change none."""

_ARITHMETIC = frozenset({"add", "sub", "mul", "truediv", "floordiv", "pow", "neg", "abs", "astype"})
"""Steps that are quick, and take nodata for a number."""


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
    found = _arrays_of(da)
    return next(iter(found.values())) if len(found) == 1 else None


def tokens_to_read(da: xr.DataArray) -> tuple[str, ...]:
    """Name the requests that computing an array will read.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from such arrays by lazy steps.

    Returns
    -------
    tuple of str
        Empty where the pixels have been computed, or come from elsewhere.
    """
    return tuple(_arrays_of(da))


def _arrays_of(da: xr.DataArray) -> dict[str, L3AArray]:
    """Find the lazy arrays in a dask graph, by the token of their request."""
    graph = da.__dask_graph__() or {}
    found = {}
    for layer in getattr(graph, "layers", {"": graph}).values():
        if not isinstance(layer, Blockwise):
            for node in layer.values():
                array = _unwrap(node)
                if array is not None:
                    found[array.token] = array
    return found


def _reads(layer: Any) -> bool:  # noqa: ANN401 - dask is untyped
    return not isinstance(layer, Blockwise) and any(_unwrap(node) for node in layer.values())


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
    nothing = np.array(array.request.fill, array.dtype)

    def note(axes: list[np.ndarray]) -> np.ndarray:
        recorded.append(axes)
        return np.broadcast_to(nothing, [len(axis) for axis in axes])

    (optimized,) = optimize(_probed(da.data, note))
    tasks = dict(optimized.__dask_graph__())
    values = {key: node.value for key, node in tasks.items() if isinstance(node, DataNode)}
    for task in tasks.values():
        # The others work on what these give: nothing is read for them.
        if isinstance(task, Task) and task.dependencies <= values.keys():
            task(values)
    return array.request, recorded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """Where in a request an array's pixels come from, whatever its labels say.

    Parameters
    ----------
    request : Request
        The request.
    versions : Versions
        Of the files that were read for the array.
    times, bands : ndarray of int, shape (time, band)
        Positions of each plane.
    rows, columns : ndarray of int
        Positions along y and x.
    """

    request: Request
    versions: Versions
    times: np.ndarray
    bands: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def array(self) -> L3AArray:
        """Give the lazy array of the whole request.

        Returns
        -------
        L3AArray
            One that reads the same versions of files.
        """
        return L3AArray(self.request, versions=self.versions)

    def planes(self, side: int | None = None) -> dask.array.Array | None:
        """Choose the same pixels anew, in chunks of whole planes or of large squares.

        However the array is cut, its planes are then read in as few tasks as
        ``array.chunk-size`` allows, and none is put together from parts.

        Parameters
        ----------
        side : int, optional
            Pixels of squares, each a chunk; whole planes by default.

        Returns
        -------
        dask.array.Array or None
            Dims (time, band, y, x); None where bands come from different months.
        """
        if side is not None:
            return self.reopened((1, 1, side, side))
        limit = dask.config.get("array.chunk-size")
        shape = (*self.times.shape, self.rows.size, self.columns.size)
        return self.reopened((*auto_chunks(shape, self.request.dtype, limit)[:2], -1, -1))

    def reopened(self, sizes: tuple[int, ...]) -> dask.array.Array | None:
        """Choose the same pixels anew, in other chunks.

        Parameters
        ----------
        sizes : tuple of int
            Of chunks along (time, band, y, x), -1 for all.

        Returns
        -------
        dask.array.Array or None
            Dims (time, band, y, x); None where bands come from different months.
        """
        times, bands = self.times[:, 0], self.bands[0]
        if (self.times != times[:, None]).any() or (self.bands != bands).any():
            return None
        array = self.array()
        key = tuple(as_run(index) for index in (times, bands, self.rows, self.columns))
        lazy = indexing.LazilyIndexedArray(array, indexing.OuterIndexer(key))
        name = f"planes-{tokenize(array.token, key, sizes)}"
        variable = xr.Variable(("time", "band", "y", "x"), lazy)
        chunked = variable.chunk(dict(zip(variable.dims, sizes, strict=True)), name=name)
        planes: dask.array.Array = chunked.data
        return planes

    def source(self, time: int, band: int) -> tuple[str, str]:
        """Tell which month and native band one plane is.

        Parameters
        ----------
        time, band : int
            Positions in the array.

        Returns
        -------
        tuple of str
            ``YYYY-MM`` and band.
        """
        year, month = self.request.months[int(self.times[time, band])]
        return f"{year:04}-{month:02}", self.request.bands[int(self.bands[time, band])]


def as_run(index: np.ndarray) -> slice | np.ndarray:
    """Make a slice of positions that follow each other: choosing by it copies nothing.

    Parameters
    ----------
    index : ndarray of int
        Positions along an axis.

    Returns
    -------
    slice or ndarray
        The same positions.
    """
    if index.size and np.all(np.diff(index) == 1):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def find_origin(da: xr.DataArray) -> Origin | None:
    """Find out which pixels of a request an array holds, where it only chose among them.

    The same choice is made among positions instead of pixels.

    Parameters
    ----------
    da : xarray.DataArray
        Four dimensions, dask-backed.

    Returns
    -------
    Origin or None
        None where pixels may have been changed, or come from elsewhere.
    """
    array = find_array(da)
    # xarray may decode where it reads: that changes the type
    if array is None or da.dtype != array.dtype or not _steps_of(da) <= _CHOOSING_STEPS:
        return None
    every = slice(None)
    return Origin(
        request=array.request,
        versions=array.versions,
        times=_positions(da, 0, (every, every, 0, 0)),
        bands=_positions(da, 1, (every, every, 0, 0)),
        rows=_positions(da, 2, (0, 0, every, 0)),
        columns=_positions(da, 3, (0, 0, 0, every)),
    )


def _steps_of(da: xr.DataArray) -> set[str]:
    """Name the steps after reading; xarray names what it reads as users do."""
    layers = da.__dask_graph__().layers
    read = {name for name, layer in layers.items() if _reads(layer)}
    return {key_split(name) for name in layers if not {name, f"original-{name}"} & read}


def nodata_becomes(da: xr.DataArray) -> tuple[float, float] | None:
    """Tell what plain arithmetic makes of pixels without data.

    Parameters
    ----------
    da : xarray.DataArray
        Dask-backed.

    Returns
    -------
    tuple of float, or None
        Nodata, and what becomes of it; None where nothing was computed, or by more than arithmetic.
    """
    array = find_array(da)
    if array is None or not da.size:
        return None
    steps = _steps_of(da)
    if steps <= _CHOOSING_STEPS or not steps <= _CHOOSING_STEPS | _ARITHMETIC:
        return None
    nothing = np.array(array.request.fill, array.dtype)

    def give(axes: list[np.ndarray]) -> np.ndarray:
        return np.broadcast_to(nothing, [len(axes[0]), len(axes[1]), 1, 1])  # one pixel will do

    try:
        with np.errstate(all="ignore"):
            found = _probed(da.data, give)[(0,) * da.ndim].compute(scheduler=get_sync)
    except (IndexError, ValueError):  # other pixels than the first are chosen
        return None
    return float(nothing), float(found)


def _positions(da: xr.DataArray, axis: int, part: tuple[Any, ...]) -> np.ndarray:
    """Ask where along one axis of the request a part of an array comes from."""

    def give(axes: list[np.ndarray]) -> np.ndarray:
        return np.broadcast_to(np.ix_(*axes)[axis], [len(positions) for positions in axes])

    # Here and now: on a cluster these tasks would be taken for the ones that read. By the function,
    # as older dask warns of "synchronous" beside a client.
    found = _probed(da.data, give)[part].compute(scheduler=get_sync)
    return np.asarray(found, dtype=np.int64)


def _probed(data: Any, probe: Callable[[list[np.ndarray]], np.ndarray]) -> Any:  # noqa: ANN401
    """Rebuild a dask array around lazy arrays that ask a probe instead of reading."""
    graph = data.__dask_graph__()
    layers = dict(graph.layers)
    for name, layer in layers.items():
        if _reads(layer):
            copies = {key: _with_probe(node, probe) for key, node in layer.items()}
            layers[name] = MaterializedLayer(copies)
    probed = HighLevelGraph(layers, graph.dependencies)
    return dask.array.Array(probed, data.name, data.chunks, meta=data._meta)  # noqa: SLF001


def _with_probe(node: Any, probe: Callable[[list[np.ndarray]], np.ndarray]) -> Any:  # noqa: ANN401
    """Copy the adapters that xarray lays around a lazy array, and set the copy's probe.

    One by one: some of them say that a deep copy of them goes on sharing what is in them.
    """
    if _unwrap(node) is None:
        return node
    copied = copy.copy(node)
    if isinstance(copied, L3AArray):
        copied.probe = probe
    else:
        copied.array = _with_probe(node.array, probe)
    return copied
