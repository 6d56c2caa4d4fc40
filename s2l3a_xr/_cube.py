"""The lazy array: a request that reads its pixels when it is indexed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
import xarray as xr
from dask.base import tokenize
from dask.blockwise import Blockwise
from dask.utils import parse_bytes
from xarray.backends import BackendArray
from xarray.core import indexing

from s2l3a_xr._archive import band_resolution
from s2l3a_xr._errors import GoneError, MissingWarning
from s2l3a_xr._grid import Grid
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._loop import gather
from s2l3a_xr._mosaic import inside
from s2l3a_xr._product import BANDS, NODATA, Product
from s2l3a_xr._read import Window, read_plane
from s2l3a_xr._selection import Month
from s2l3a_xr._source import Source
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Session, Transport, run_with_session

_UNCUT_PX = 8192
"""Planes up to so many pixels a side are never cut by automatic chunks."""

_CUT_PX = 512
"""Larger planes are cut on multiples of this, counted from the tiles' corner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that reading needs to know; small, picklable, without connections.

    Parameters
    ----------
    grid : Grid
        The lattice.
    archive_url : str
        Where the archive's files begin.
    months : tuple of Month
        Along time.
    bands : tuple of str
        Native names, along band.
    products : tuple of tuple of (Product and tuple of bool)
        For each month the products in cover order, and which bands each has.
    area : bytes or None
        The geometries in pixels of the grid (WKB), None for no clip.
    all_touched : bool
        Whether pixels count that the area only touches.
    missing : {"warn", "keep", "raise"}
        What to do about a listed file that is gone.
    transport : Transport
        How the network is used.
    """

    grid: Grid
    archive_url: str
    months: tuple[Month, ...]
    bands: tuple[str, ...]
    products: tuple[tuple[tuple[Product, tuple[bool, ...]], ...], ...]
    area: bytes | None
    all_touched: bool
    missing: str
    transport: Transport

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``."""
        return len(self.months), len(self.bands), *self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16; uint8 where all bands are FLG."""
        return np.dtype("uint8" if set(self.bands) == {"FLG"} else "int16")

    @property
    def fill(self) -> int:
        """Value of pixels outside: -10000, or 255 where all bands are FLG."""
        return 255 if self.dtype == np.uint8 else NODATA

    def sources(self, time: int, band: int) -> list[Source]:
        """Name the files of one plane.

        Parameters
        ----------
        time, band : int
            Positions along the axes.

        Returns
        -------
        list of Source
            In cover order.
        """
        layer = BANDS[self.bands[band]]
        year, month = self.months[time]
        resolution_m = band_resolution(layer, int(self.grid.resolution))
        return [
            Source(
                url=self.archive_url + product.file(layer, resolution_m),
                item=product.name,
                band=layer.native,
                month=f"{year:04}-{month:02}",
                tile=tile_named(product.tile),
                resolution_m=resolution_m,
                dtype="uint8" if layer.kind == "flag" else "int16",
            )
            for product, has in self.products[time]
            if has[band]
        ]

    def plane(self, month: Month, band: str) -> tuple[str, ...]:
        """Tell one plane from others by the files that it comes from.

        Parameters
        ----------
        month : Month
            Year and month.
        band : str
            Native name.

        Returns
        -------
        tuple of str
            URLs in cover order.
        """
        sources = self.sources(self.months.index(month), self.bands.index(band))
        return tuple(source.url for source in sources)


def make_request(
    inventory: Inventory,
    months: Sequence[Month],
    area: bytes | None,
    *,
    all_touched: bool,
    missing: str,
    transport: Transport,
) -> Request:
    """Boil an inventory down to what reading needs.

    Parameters
    ----------
    inventory : Inventory
        What the archive has.
    months : sequence of Month
        Along time.
    area : bytes or None
        See `Request`.
    all_touched : bool
        See `Request`.
    missing : str
        See `Request`.
    transport : Transport
        See `Request`.

    Returns
    -------
    Request
        Ready to be read.
    """
    by_month: dict[Month, list[tuple[Product, tuple[bool, ...]]]] = {m: [] for m in months}
    for cell in inventory.cells:
        if cell.product is not None and cell.month in by_month:
            by_month[cell.month].append((cell.product, cell.has))
    return Request(
        grid=inventory.grid,
        archive_url=inventory.archive_url,
        months=tuple(months),
        bands=tuple(layer.native for layer in inventory.layers),
        products=tuple(tuple(by_month[month]) for month in months),
        area=area,
        all_touched=all_touched,
        missing=missing,
        transport=transport,
    )


@dataclass(eq=False)
class L3AArray(BackendArray):
    """Array over (time, band, y, x) that reads what it is indexed for.

    It holds the request alone: no connection, no lock; it may be pickled and sent anywhere.

    Parameters
    ----------
    request : Request
        What to read.
    """

    request: Request
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
        pixels, gone = run_with_session(
            self.request.transport, lambda session: read_request(session, self.request, axes)
        )
        if gone:
            self._tell(gone)
        scalars = tuple(
            0 if np.ndim(i) == 0 and not isinstance(i, slice) else slice(None) for i in key
        )
        return pixels[scalars]

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


async def read_request(
    session: Session, request: Request, axes: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[GoneError]]:
    """Read a part of the cube, every plane of it at once.

    Parameters
    ----------
    session : Session
        This process's connections.
    request : Request
        What is asked for.
    axes : sequence of ndarray of int, ascending
        Positions along time, band, y and x.

    Returns
    -------
    pixels : ndarray, shape (time, band, y, x)
        Nodata where nothing is.
    gone : list of GoneError
        Listed files that the archive has not got.

    Raises
    ------
    ReadError
        A file can't be read.
    """
    times, bands, rows, columns = axes
    pixels = np.full([len(axis) for axis in axes], request.fill, dtype=request.dtype)
    if not pixels.size:
        return pixels, []
    mask = None
    if request.area is not None:
        features = shapely.from_wkb(request.area).geoms
        mask = inside(features, rows, columns, all_touched=request.all_touched)
        if not mask.any():
            return pixels, []
    window = Window(
        grid=request.grid,
        rows=rows,
        columns=columns,
        mask=None if mask is None or mask.all() else mask,
    )
    planes = [
        read_plane(session, sources, window, pixels[i, j])
        for i, time in enumerate(times.tolist())
        for j, band in enumerate(bands.tolist())
        if (sources := request.sources(time, band))
    ]
    gone = [error for errors in await gather(planes) for error in errors]
    return pixels, gone


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
    return tuple(cuts + [rest] if rest else cuts)


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
