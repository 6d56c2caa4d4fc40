"""A Zarr store whose chunks are the blocks of the archive's own files."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyproj
from tqdm.auto import tqdm

from s2l3a_xr._disk import set_aside
from s2l3a_xr._errors import (
    ExportError,
    GoneError,
    MissingWarning,
    SelectionError,
    warn_user,
)
from s2l3a_xr._flags import flag_attrs
from s2l3a_xr._grid import Grid
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._loop import gather
from s2l3a_xr._mirror import sources_of
from s2l3a_xr._paths import take_path
from s2l3a_xr._pin import without_password
from s2l3a_xr._product import NODATA, Band, Product
from s2l3a_xr._references import Group, IcechunkWriter, Part, ReferenceWriter, Variable, Writer
from s2l3a_xr._source import Header, Source, read_header
from s2l3a_xr._texts import redact
from s2l3a_xr._tiff import HORIZONTAL, NO_PREDICTOR, Layout
from s2l3a_xr._tiles import SIDE_M, Tile
from s2l3a_xr._transport import Session, Transport, is_http, run_with_session

_ICECHUNK, _PARQUET = ".icechunk", ".parquet"
_FLAG_FILL = 255


@knows_keywords
def to_virtual(
    inventory: Inventory | str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    progress: bool = True,
    transport: Transport | None = None,
) -> Path:
    """Write a Zarr store that holds no pixels, but where they lie in the archive's files.

    Whoever has it opens the archive with ``xarray.open_zarr``, without this package. Each tile
    is a group (``32UPC``), whole and as its files are: nothing is clipped, mosaicked or
    resampled. A group has a variable for each band, dims (time, y, x), a chunk for each TIFF
    block. Where bands of 10 and 20 m were asked for, ``32UPC/10m`` and ``32UPC/20m``.
    Headers are read for it, pixels are not.

    Parameters
    ----------
    inventory : Inventory or path
        From `search_l3a`, or a file that `Inventory.save` wrote.
    store : str or path
        A new folder whose name ends in ``.icechunk`` (Python 3.12 or newer) or ``.parquet``
        (kerchunk's references).
    progress : bool, default True
        Show a bar on stderr.
    transport : Transport, optional
        How the network is used.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ReadError
        A file's header can't be read.
    ExportError
        The store can't be written, or files are packed in a way that Zarr can't read.
    SelectionError
        Files lie where other readers can't go, or their addresses hold secrets.
    ImportError
        A library is not there (``pip install "s2l3a_xr[virtual]"``).

    Warns
    -----
    MissingWarning
        Files that the archive lists are gone; their chunks are nodata.

    References
    ----------
    https://icechunk.io, https://fsspec.github.io/kerchunk/spec.html

    Examples
    --------
    >>> import xarray as xr
    >>> from s2l3a_xr import search_l3a
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> aoi = (11.68, 51.94, 11.70, 51.96)
    >>> found = search_l3a(aoi, time="2021-05", bands=["B4"], archive=archive)
    >>> refs = to_virtual(found, "refs.parquet", progress=False)
    >>> options = {
    ...     "fo": str(refs), "remote_protocol": "http", "remote_options": {"asynchronous": True}
    ... }
    >>> ds = xr.open_zarr("reference://", group="32UPC", storage_options=options)
    >>> dict(ds.sizes)
    {'time': 1, 'y': 10980, 'x': 10980}
    """
    if not isinstance(inventory, Inventory):
        inventory = Inventory.load(inventory)
    target = take_path(store, "the store", ExportError)
    if target.suffix.lower() not in {_ICECHUNK, _PARQUET}:
        msg = f"a virtual store's name must end in {_ICECHUNK} or {_PARQUET}, got {target.name!r}."
        raise ExportError(msg)
    if os.path.lexists(target):
        msg = f"{target} is there already; remove it, or choose another name."
        raise ExportError(msg)
    sources = sources_of(inventory)
    prefixes = _prefixes([_address(source.url) for source in sources], inventory.archive_url)
    settings = inventory.origin.settings(transport or Transport())
    try:
        with set_aside(target.parent) as folder:
            place = folder / target.name
            writer: Writer = (
                IcechunkWriter(place, prefixes)
                if target.suffix.lower() == _ICECHUNK
                else ReferenceWriter(place)
            )
            gone = _write(writer, sources, inventory, settings, progress=progress)
            writer.close()
            place.rename(target)
    except OSError as exc:
        msg = f"{target} can't be written: {exc}; see the disk, and who may write there."
        raise ExportError(msg) from exc
    if gone:
        warn_user(
            f"{len(gone)} listed file(s) are gone from the archive; they are nodata in {target}. "
            "Search again for what is there now, and make the store anew.",
            MissingWarning,
        )
    return target


def _address(url: str) -> str:
    """Give the address that other readers need, without secrets."""
    if "::" in url or ("://" in url and not is_http(url)):
        msg = (
            f"{redact(url)} can't be in a virtual store, only files on http(s) and on disk can; "
            "make a mirror with save_archive, and the store of that."
        )
        raise SelectionError(msg)
    if not is_http(url):
        return Path(url).absolute().as_posix()
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        msg = (
            f"the address of {redact(url)} goes on behind a question mark, perhaps with a secret; "
            "a store that is handed on can't hold it. Make a mirror with save_archive, and the "
            "store of that."
        )
        raise SelectionError(msg)
    return without_password(url)


def _prefixes(addresses: Collection[str], archive: str) -> list[str]:
    """Name places, as few as can be, below which all files lie."""
    base = without_password(archive) if is_http(archive) else Path(archive).absolute().as_posix()
    base = base.rstrip("/") + "/"
    found = {
        base if address.startswith(base) else "{}://{}/".format(*urlsplit(address)[:2])
        for address in addresses
    }
    return sorted(found)


def _write(
    writer: Writer,
    sources: Sequence[Source],
    inventory: Inventory,
    transport: Transport,
    *,
    progress: bool,
) -> list[GoneError]:
    """Read headers tile by tile, and write each tile's groups; return what is gone."""
    gone: list[GoneError] = []
    by_tile: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_tile[source.tile.name].append(source)
    with tqdm(total=len(sources), unit="file", disable=not progress, file=sys.stderr) as bar:

        async def read(session: Session, source: Source) -> tuple[Source, Header] | None:
            try:
                header = await read_header(session, source)
            except GoneError as exc:
                gone.append(exc)
                return None
            finally:
                bar.update()
            return source, header

        for tile in sorted(by_tile):
            files = by_tile[tile]

            async def read_all(session: Session, files: Sequence[Source] = files) -> list[Any]:
                return await gather(read(session, file) for file in files)

            found = run_with_session(transport, read_all)
            for group in _groups(inventory, [pair for pair in found if pair is not None]):
                writer.add(group)
    return gone


def _groups(inventory: Inventory, files: Sequence[tuple[Source, Header]]) -> Iterator[Group]:
    """Sort one tile's files into groups of one pixel size."""
    sizes = sorted({source.resolution_m for source, _ in files})
    names = {
        layer.native: name for layer, name in zip(inventory.layers, inventory.bands, strict=True)
    }
    for size in sizes:
        part = [(source, header) for source, header in files if source.resolution_m == size]
        tile = part[0][0].tile
        months = sorted({source.month for source, _ in part})
        bands = [
            layer for layer in inventory.layers if any(s.band == layer.native for s, _ in part)
        ]
        yield Group(
            path=tile.name if len(sizes) == 1 else f"{tile.name}/{size}m",
            attrs={
                "title": "Sentinel-2 L3A monthly cloud-free mosaic (WASP, Germany)",
                "institution": "German Aerospace Center (DLR), Earth Observation Center",
                "source": redact(inventory.archive_url),
                "references": inventory.origin.references,
                "license": inventory.origin.license,
                "attribution": "DLR; contains modified Copernicus Sentinel data",
                "tile": tile.name,
                "Conventions": "CF-1.11",
                # xarray's own way to tell which variables are coordinates
                "coordinates": "spatial_ref",
            },
            coords=_coords(tile, size, part, months),
            variables={names[layer.native]: _variable(layer, part, months) for layer in bands},
        )


def _coords(
    tile: Tile, resolution_m: int, files: Sequence[tuple[Source, Header]], months: Sequence[str]
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
    side = SIDE_M // resolution_m
    grid = Grid(
        crs=tile.crs, left=tile.left, top=tile.top, resolution=resolution_m,
        width=side, height=side,
    )  # fmt: skip
    products = {source.month: Product.parse(source.item) for source, _ in files}
    dates = [f"{month}-{getattr(products[month], 'day', 15):02}" for month in months]
    days = np.array(dates, "datetime64[D]").astype("<i8")
    corners = f"{grid.left} {grid.resolution} 0.0 {grid.top} 0.0 {-grid.resolution}"
    told = {**pyproj.CRS(tile.crs).to_cf(), "GeoTransform": corners}
    place = {"units": "metre"}
    return {
        "time": (("time",), days, {"units": "days since 1970-01-01", "calendar": "standard"}),
        "y": (("y",), grid.y.astype("<f8"), {**place, "standard_name": "projection_y_coordinate"}),
        "x": (("x",), grid.x.astype("<f8"), {**place, "standard_name": "projection_x_coordinate"}),
        "spatial_ref": ((), np.array(0, "<i8"), told),
    }


def _variable(
    layer: Band, files: Sequence[tuple[Source, Header]], months: Sequence[str]
) -> Variable:
    found = {
        source.month: Part(url=_address(source.url), layout=header.layout, stamp=header.stamp)
        for source, header in files
        if source.band == layer.native
    }
    for source, header in files:
        if source.band == layer.native:
            _check_packing(source, header.layout, next(iter(found.values())).layout)
    fill = _FLAG_FILL if layer.kind == "flag" else NODATA
    attrs: dict[str, Any] = {
        "long_name": f"Sentinel-2 L3A WASP {layer.title}",
        "_FillValue": fill,
        "grid_mapping": "spatial_ref",
        "native_name": layer.native,
        "common_name": layer.common,
    }
    if layer.kind == "reflectance":
        attrs["units"] = "1e-4"
    if layer.kind == "flag":
        flags = flag_attrs("classes")
        attrs |= {"flag_values": flags["flag_values"].tolist()}
        attrs |= {"flag_meanings": flags["flag_meanings"]}
    return Variable(fill=fill, attrs=attrs, parts=tuple(found.get(month) for month in months))


def _check_packing(source: Source, layout: Layout, first: Layout) -> None:
    """Refuse what one Zarr array can't say: several packings, shorter last strips."""
    if (told := _packing(layout)) != (other := _packing(first)):
        msg = (
            f"the files of {source.band} in {source.tile.name} are packed in several ways, which "
            f"no Zarr array can say: {told} in {source.month}, elsewhere {other}; ask for fewer "
            "months."
        )
        raise ExportError(msg)
    if not layout.is_tiled and layout.height % layout.block_height:
        msg = (
            f"the last strip of {source.band} in {source.tile.name}, {source.month}, is shorter "
            f"than its {layout.block_height} rows, which no Zarr array can say; leave the band out."
        )
        raise ExportError(msg)
    if layout.predictor not in {NO_PREDICTOR, HORIZONTAL}:
        msg = (
            f"the predictor {layout.predictor} of {source.band} in {source.tile.name} has no codec "
            "of Zarr's; leave the band out."
        )
        raise ExportError(msg)


def _packing(layout: Layout) -> str:
    return (
        f"blocks of {layout.block_width} x {layout.block_height} {layout.dtype.str}, compression "
        f"{layout.compression}, predictor {layout.predictor}"
    )
