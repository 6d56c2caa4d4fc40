"""A request: all that reading needs to know, and the reading of any part of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from s2l3a_xr._archive import band_resolution
from s2l3a_xr._errors import GoneError, ReadError
from s2l3a_xr._grid import Grid, ground_m
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._mosaic import inside
from s2l3a_xr._patchwork import Manner, Patch, Patchwork, lay_patches
from s2l3a_xr._places import locate
from s2l3a_xr._plan import Range, merge_ranges
from s2l3a_xr._product import BANDS, NODATA, Product
from s2l3a_xr._read import Plane
from s2l3a_xr._selection import Month
from s2l3a_xr._share import Share, Window, share_window
from s2l3a_xr._source import Source
from s2l3a_xr._tiles import SIDE_M, Tile, tile_named
from s2l3a_xr._transport import Session, Transport

_MOST_PX = 2**27
"""Pixels of files that are held at once to make others of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that reading needs to know; small, picklable, without connections.

    Parameters
    ----------
    grid : Grid
        The lattice.
    archive_url : str
        Where the archive's files begin.
    native_m : int
        Pixel size in metres that masks are read at.
    months : tuple of Month
        Along time.
    bands : tuple of str
        Native names, along band.
    resampling : tuple of str
        Per band how pixels are made that don't coincide with the files'.
    products : tuple of tuple of (Product and tuple of (str or None))
        For each month the products in cover order, and per band where the file is: empty
        where that follows from archive, product and band, None where there is no file.
    area : bytes or None
        The geometries in pixels of the grid (WKB), None for no clip.
    all_touched : bool
        Whether pixels count that the area only touches.
    use_overviews : bool
        Whether grids coarser than 20 m are read from the files' overviews.
    missing : {"warn", "keep", "raise"}
        What to do about a listed file that is gone.
    fail_on_error : bool
        Whether a failed read raises, or leaves nodata and is reported.
    transport : Transport
        How the network is used.
    """

    grid: Grid
    archive_url: str
    native_m: int
    months: tuple[Month, ...]
    bands: tuple[str, ...]
    resampling: tuple[str, ...]
    products: tuple[tuple[tuple[Product, tuple[str | None, ...]], ...], ...]
    area: bytes | None
    all_touched: bool
    use_overviews: bool
    missing: str
    fail_on_error: bool
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
        resolution_m = band_resolution(layer, self.native_m)
        return [
            Source(
                url=urls[band] or locate(self.archive_url, product.file(layer, resolution_m)),
                item=product.name,
                band=layer.native,
                month=f"{year:04}-{month:02}",
                tile=tile_named(product.tile),
                resolution_m=resolution_m,
                dtype="uint8" if layer.kind == "flag" else "int16",
            )
            for product, urls in self.products[time]
            if urls[band] is not None
        ]

    def manner(self, band: int) -> Manner:
        """Say how files become pixels.

        Reduced images of masks mean nothing, and who asks for a way of resampling does not want
        what was resampled already.

        Parameters
        ----------
        band : int
            Position along the axis.

        Returns
        -------
        Manner
            With overviews for the nearest reflectance on a grid coarser than any file's.
        """
        layer = BANDS[self.bands[band]]
        is_coarse = ground_m(self.grid) > max(other.resolution_m for other in BANDS.values())
        nearest = self.resampling[band] == "nearest"
        return Manner(
            kernel=self.resampling[band],
            overviews=self.use_overviews and is_coarse and nearest and not layer.is_mask,
            resolution_m=band_resolution(layer, self.native_m),
        )

    def plane(self, time: int, band: int) -> tuple[str, ...]:
        """Tell one plane from others by the files that it comes from.

        Parameters
        ----------
        time, band : int
            Positions along the axes.

        Returns
        -------
        tuple of str
            Paths below the archive in cover order, and how they become pixels: the same product
            from another place is the same.
        """
        folder = self.archive_url.partition("::")[0]
        places = (source.url.partition("::")[0] for source in self.sources(time, band))
        return (*(place.removeprefix(folder) for place in places), self.resampling[band])

    @property
    def pixels_of_a_plane(self) -> tuple[object, ...]:
        """What else than its files decides the pixels of a plane."""
        return self.grid, self.area, self.all_touched, self.use_overviews, str(self.dtype)


def make_request(  # noqa: PLR0913 - one for each thing that reading needs to know
    inventory: Inventory,
    grid: Grid,
    months: Sequence[Month],
    area: bytes | None,
    *,
    resampling: Sequence[str],
    all_touched: bool,
    use_overviews: bool,
    missing: str,
    fail_on_error: bool,
    transport: Transport,
) -> Request:
    """Boil an inventory down to what reading needs.

    Parameters
    ----------
    inventory : Inventory
        What the archive has.
    grid : Grid
        The lattice, the inventory's own or another.
    months : sequence of Month
        Along time.
    area : bytes or None
        See `Request`.
    resampling : sequence of str
        See `Request`.
    all_touched : bool
        See `Request`.
    use_overviews : bool
        See `Request`.
    missing : str
        See `Request`.
    fail_on_error : bool
        See `Request`.
    transport : Transport
        See `Request`.

    Returns
    -------
    Request
        Ready to be read.
    """
    by_month: dict[Month, list[tuple[Product, tuple[str | None, ...]]]] = {m: [] for m in months}
    for cell in inventory.cells:
        if cell.product is not None and cell.month in by_month:
            urls = (url if has else None for url, has in zip(cell.urls, cell.has, strict=True))
            by_month[cell.month].append((cell.product, tuple(urls)))
    return Request(
        grid=grid,
        archive_url=inventory.archive_url,
        native_m=int(inventory.grid.resolution),
        months=tuple(months),
        bands=tuple(layer.native for layer in inventory.layers),
        resampling=tuple(resampling),
        products=tuple(tuple(by_month[month]) for month in months),
        area=area,
        all_touched=all_touched,
        use_overviews=use_overviews,
        missing=missing,
        fail_on_error=fail_on_error,
        transport=transport,
    )


async def read_request(
    session: Session, request: Request, axes: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[ReadError]]:
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
    errors : list of ReadError
        Listed files that are gone, and what else failed where that is allowed.

    Raises
    ------
    ReadError
        A file can't be read.
    """
    pixels = np.empty([len(axis) for axis in axes], dtype=request.dtype)
    found: list[ReadError] = []
    for rows, part in _parts(request, axes):
        planes = await _planes(session, request, part)
        for i, j in {*np.ndindex(pixels.shape[:2])} - {(i, j) for i, j, _ in planes}:
            pixels[i, j, rows] = request.fill
        told = await gather(
            plane.read(session, pixels[i, j, rows], request.fill) for i, j, plane in planes
        )
        found += [error for errors in told for error in errors]
    once = {error.url if isinstance(error, GoneError) else id(error): error for error in found}
    return pixels, list(once.values())


async def plan_request(
    session: Session, request: Request, reads: Sequence[Sequence[np.ndarray]]
) -> list[tuple[Source, Range]]:
    """Say which ranges reading parts of the cube will fetch; headers are read for it.

    Parameters
    ----------
    session : Session
        This process's connections.
    request : Request
        What is asked for.
    reads : sequence of sequence of ndarray of int, ascending
        For each part the positions along time, band, y and x.

    Returns
    -------
    list of tuple of Source and Range
        By part, month, band and file; a block that several parts need is in the first.

    Raises
    ------
    ReadError
        A header can't be read.
    """
    known: set[tuple[str, tuple[int, int]]] = set()
    found: list[tuple[Source, Range]] = []
    for _, part in (item for axes in reads for item in _parts(request, axes)):
        planes = await _planes(session, request, part)
        files = await gather(plane.plan(session) for _, _, plane in planes)
        for source, image, targets in (item for items in files for item in items):
            fresh = [t for t in targets if (source.url, t.block) not in known]
            known.update((source.url, target.block) for target in targets if target.is_shared)
            found += [(source, together) for together in merge_ranges(fresh, image)]
    return found


def _parts(
    request: Request, axes: Sequence[np.ndarray]
) -> Iterator[tuple[slice, Sequence[np.ndarray]]]:
    """Cut a reading whose files' own pixels would not fit in memory, as if it were several."""
    times, bands, rows, columns = axes
    if not all(len(axis) for axis in axes):
        return
    most = 1
    tiles = {p.tile for time in times.tolist() for p, _ in request.products[time]}
    manners = [request.manner(band) for band in bands.tolist()]
    if not all(manner.copies(request.grid, [*map(tile_named, tiles)]) for manner in manners):
        span = int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1)
        finest = min(manner.step_m(request.grid) for manner in manners)
        pixels = span * (ground_m(request.grid) / finest) ** 2 * len(times) * len(bands)
        most = min(len(rows), math.ceil(pixels / _MOST_PX))
    edges = np.linspace(0, len(rows), most + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop), (times, bands, rows[start:stop], columns)


async def _planes(
    session: Session, request: Request, axes: Sequence[np.ndarray]
) -> list[tuple[int, int, Plane | Patchwork]]:
    """Prepare every plane: masks and shares are made once for all that have the same tiles."""
    times, bands, rows, columns = axes
    mask = await in_thread(_mask, request, rows, columns)
    if mask is not None and not mask.any():
        return []
    whole = mask is None or bool(mask.all())
    window = Window(grid=request.grid, rows=rows, columns=columns, mask=None if whole else mask)
    found = [
        (i, j, tuple(sources))
        for i, time in enumerate(times.tolist())
        for j, band in enumerate(bands.tolist())
        if (sources := request.sources(time, band))
    ]
    count = max(1, sum(len(files) for _, _, files in found))
    requests = max(1, session.transport.max_connections // count)
    laid: dict[tuple[object, ...], Share | tuple[Patch, ...]] = {}
    planes: list[tuple[int, int, Plane | Patchwork]] = []
    for i, j, files in found:
        manner = request.manner(int(bands[j]))
        tiles = tuple(source.tile for source in files)
        key = (manner, tiles)
        if key not in laid:
            laid[key] = await in_thread(_lay, window, tiles, manner)
        ground = laid[key]
        if isinstance(ground, Share):
            plane = Plane(
                sources=files,
                share=ground,
                overviews=manner.overviews,
                requests=requests,
                keep_going=not request.fail_on_error,
            )
            planes.append((i, j, plane))
        else:
            patchwork = Patchwork(
                window=window,
                patches=ground,
                sources=files,
                manner=manner,
                requests=requests,
                keep_going=not request.fail_on_error,
            )
            planes.append((i, j, patchwork))
    return planes


def _lay(window: Window, tiles: tuple[Tile, ...], manner: Manner) -> Share | tuple[Patch, ...]:
    if manner.copies(window.grid, tiles):
        return share_window(window, tiles, SIDE_M // manner.resolution_m)
    return lay_patches(window, tiles, manner)


def _mask(request: Request, rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    if request.area is None:
        return None
    features = shapely.from_wkb(request.area).geoms
    return inside(features, request.grid.shape, rows, columns, all_touched=request.all_touched)
