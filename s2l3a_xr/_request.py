"""A request: all that reading needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from s2l3a_xr._archive import band_resolution
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._flags import FlagEncoding
from s2l3a_xr._grid import Grid, ground_m
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._patchwork import Manner
from s2l3a_xr._places import locate
from s2l3a_xr._product import BANDS, NODATA, Band, Product
from s2l3a_xr._selection import Month
from s2l3a_xr._source import Source
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Transport

Files = tuple[tuple[Product, tuple[str | None, ...]], ...]
"""Products of a month in cover order, and where the files of each are."""


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
    listed : tuple of str
        Native names of the layers that the inventory knows: the bands, and FLG perhaps.
    products : tuple of tuple of (Product and tuple of (str or None))
        For each month the products in cover order, and per listed layer where the file is: empty
        where that follows from archive, product and layer, None where there is no file.
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
    hidden : tuple of int, default none
        Classes of FLG whose pixels become nodata in reflectances.
    flag_encoding : {"classes", "bits"}, default "classes"
        What the numbers in FLG mean.
    """

    grid: Grid
    archive_url: str
    native_m: int
    months: tuple[Month, ...]
    bands: tuple[str, ...]
    resampling: tuple[str, ...]
    listed: tuple[str, ...]
    products: tuple[Files, ...]
    area: bytes | None
    all_touched: bool
    use_overviews: bool
    missing: str
    fail_on_error: bool
    transport: Transport
    hidden: tuple[int, ...] = ()
    flag_encoding: FlagEncoding = "classes"

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
        return [self._source(time, *files, layer) for files in self._files(time, band)]

    def flags(self, time: int, band: int) -> list[Source]:
        """Name the FLG files that say which pixels of a plane are hidden.

        Parameters
        ----------
        time, band : int
            Positions along the axes.

        Returns
        -------
        list of Source
            For each of `sources` that of the same product; empty where nothing is hidden.
        """
        if not self._hides(band):
            return []
        return [self._source(time, *files, BANDS["FLG"]) for files in self._files(time, band)]

    def _files(self, time: int, band: int) -> list[tuple[Product, tuple[str | None, ...]]]:
        """Choose the products that have a band, and what hides pixels of it."""
        needed = [self.bands[band], *(["FLG"] if self._hides(band) else [])]
        columns = [self.listed.index(name) for name in needed if name in self.listed]
        return [
            (product, urls)
            for product, urls in self.products[time]
            if all(urls[column] is not None for column in columns)
        ]

    def _hides(self, band: int) -> bool:
        return bool(self.hidden) and not BANDS[self.bands[band]].is_mask

    def _source(
        self, time: int, product: Product, urls: tuple[str | None, ...], layer: Band
    ) -> Source:
        url = urls[self.listed.index(layer.native)] if layer.native in self.listed else ""
        year, month = self.months[time]
        resolution_m = band_resolution(layer, self.native_m)
        return Source(
            url=url or locate(self.archive_url, product.file(layer, resolution_m)),
            item=product.name,
            band=layer.native,
            month=f"{year:04}-{month:02}",
            tile=tile_named(product.tile),
            resolution_m=resolution_m,
            dtype="uint8" if layer.kind == "flag" else "int16",
            flag_encoding=self.flag_encoding,
        )

    @property
    def is_named(self) -> bool:
        """Whether all places follow from names, also those of layers that were not asked for."""
        return not any(url for files in self.products for _, urls in files for url in urls)

    def check_layers(self, *names: str) -> None:
        """Refuse layers of which nobody said where their files are.

        Parameters
        ----------
        *names : str
            Native names.

        Raises
        ------
        SelectionError
            A catalogue gave the places of files, and was not asked for these.
        """
        absent = [name for name in names if name not in self.listed]
        if absent and not self.is_named:
            msg = (
                f"where the files of {', '.join(absent)} are does not follow from their names in "
                f"this archive; name them in bands=… when searching or opening."
            )
            raise SelectionError(msg)

    def of_layers(self, *names: str) -> Request:
        """Ask for other layers in the same place, as they are.

        Parameters
        ----------
        *names : str
            Native names of mask layers.

        Returns
        -------
        Request
            Nothing is hidden.

        Raises
        ------
        SelectionError
            See `check_layers`.
        """
        self.check_layers(*names)
        return replace(self, bands=names, resampling=("nearest",) * len(names), hidden=())

    def manner(self, band: int) -> Manner:
        """Say how files become pixels.

        Reduced images of masks mean nothing, and who asks for a way of resampling does not want
        what was resampled already. Nor do they serve where pixels are hidden: they are means over
        hidden ones too.

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
        reduced = self.use_overviews and is_coarse and self.resampling[band] == "nearest"
        return Manner(
            kernel=self.resampling[band],
            overviews=reduced and not layer.is_mask and not self._hides(band),
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
        how = [self.resampling[band]]
        if self._hides(band):
            how.append(f"without {self.hidden} as {self.flag_encoding}")
        return (*(place.removeprefix(folder) for place in places), *how)

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
    bands: Sequence[str] | None = None,
    hidden: tuple[int, ...] = (),
    flag_encoding: FlagEncoding = "classes",
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
    bands : sequence of str, optional
        Native names of the bands that the array has; all of the inventory's by default.
    hidden : tuple of int
        See `Request`.
    flag_encoding : str
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
    listed = tuple(layer.native for layer in inventory.layers)
    return Request(
        grid=grid,
        archive_url=inventory.archive_url,
        native_m=int(inventory.grid.resolution),
        months=tuple(months),
        bands=listed if bands is None else tuple(bands),
        resampling=tuple(resampling),
        listed=listed,
        products=tuple(tuple(by_month[month]) for month in months),
        area=area,
        all_touched=all_touched,
        use_overviews=use_overviews,
        missing=missing,
        fail_on_error=fail_on_error,
        transport=transport,
        hidden=hidden,
        flag_encoding=flag_encoding,
    )
