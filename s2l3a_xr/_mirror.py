"""Part of an archive as a folder of its own: the blocks that an area touches, byte for byte."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry
from tqdm.auto import tqdm

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin, band_resolution
from s2l3a_xr._cells import GONE
from s2l3a_xr._copy import Copy, plan_file, write_copy
from s2l3a_xr._disk import make_folder, publish_new, set_aside, try_name
from s2l3a_xr._errors import (
    AoiWarning,
    ExportError,
    GoneError,
    MissingWarning,
    ReadError,
    SelectionError,
    warn_user,
)
from s2l3a_xr._grid import outline
from s2l3a_xr._help import knows_keywords
from s2l3a_xr._inventory import Inventory, volume_text
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._paths import take_path
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._selection import month_text
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import Layout
from s2l3a_xr._tiles import SIDE_M, Tile, tile_named
from s2l3a_xr._transport import Session, Transport, run_with_session

_AT_ONCE = 128
"""Files whose block tables are held, and that are written, at once."""

_MARGIN_M = 200.0
"""Around the area: on other grids its edges bend, and pixels are made of those around them."""

_ROUNDING_M, _ROUNDING_SHARE = 0.01, 1e-6
_SEGMENT_M = 2000.0
_MOST_RECORDS = 1000
_RECORD = "inventory.json"


@knows_keywords
def save_archive(
    inventory: Inventory | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    clip: bool = True,
    progress: bool = True,
    transport: Transport | None = None,
) -> Inventory:
    """Copy what an area touches of the archive's files, to work offline or to hand on.

    The folder is an archive in DLR's layout: ``open_l3a(aoi, archive=directory)`` gives the
    same pixels as the original, also with ``crs=…`` and ``resampling=…`` where pixels are no
    larger than 60 m. Every file is a TIFF of the tile's full size; of its blocks only those are
    there that the area touches, or comes within 200 m of, packed as they were. Overviews are
    not copied.
    What was asked for is kept beside the files as ``inventory.json``.

    Run again, files that have all that is needed are left alone, and others grow: a folder
    may hold several areas.

    Parameters
    ----------
    inventory : Inventory or path
        From `search_l3a`, or a file that `Inventory.save` wrote.
    directory : str or path
        Made when it is not there.
    clip : bool, default True
        False copies what the area's bounding box touches, for ``open_l3a(clip=False)``.
    progress : bool, default True
        Show a bar on stderr.
    transport : Transport, optional
        How the network is used.

    Returns
    -------
    Inventory
        The same, of the files in the folder: ``open_l3a(inventory=…)`` reads them.

    Raises
    ------
    SelectionError
        There is no such inventory, or the folder is the archive itself.
    ReadError
        A file of the archive can't be read.
    ExportError
        The folder can't be written, has too little space, or has other files in the place.

    Warns
    -----
    MissingWarning
        Files that the archive lists are gone.

    Examples
    --------
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> from s2l3a_xr import open_l3a, search_l3a
    >>> aoi = (11.68, 51.94, 11.70, 51.96)
    >>> found = search_l3a(aoi, time="2021-05", bands=["B4"], archive=archive)
    >>> mirror = save_archive(found, "mirror", progress=False)
    >>> da = open_l3a(aoi, time="2021-05", bands=["B4"], archive="mirror")
    """
    if not isinstance(inventory, Inventory):
        inventory = Inventory.load(inventory)
    root = take_path(directory, "directory", ExportError)
    if root.exists() and not root.is_dir():
        msg = f"{root} is no folder; give the folder that the mirror goes to."
        raise ExportError(msg)
    if inventory.archive_url.partition("::")[0].rstrip("/") == root.as_posix():
        msg = f"{root} is the archive itself; give another folder."
        raise SelectionError(msg)
    make_folder(root)
    try_name(root / _RECORD)
    settings = inventory.origin.settings(transport or Transport())
    sources = sources_of(inventory)
    area = _Area(inventory, clip=clip)
    with tqdm(total=len(sources), unit="file", disable=not progress, file=sys.stderr) as bar:
        gone = run_with_session(
            settings, lambda session: _save(session, sources, root, area, bar.update)
        )
    if gone:
        warn_user(
            f"{len(gone)} listed file(s) are gone from the archive, first {gone[0].url}; the "
            "mirror lacks them. Search again for what is there now.",
            MissingWarning,
        )
    _record(inventory, root)
    return _at(inventory, root)


def sources_of(inventory: Inventory) -> list[Source]:
    """Name the files that an inventory says are there.

    Parameters
    ----------
    inventory : Inventory
        What the archive has.

    Returns
    -------
    list of Source
        By month, tile and band.
    """
    native_m = int(inventory.grid.resolution)
    return [
        Source(
            url=inventory.url(cell, band) or "",
            item=cell.product.name,
            band=layer.native,
            month=month_text(cell.month),
            tile=tile_named(cell.tile),
            resolution_m=band_resolution(layer, native_m),
            dtype="uint8" if layer.kind == "flag" else "int16",
        )
        for cell in inventory.cells
        for band, layer in enumerate(inventory.layers)
        if cell.product is not None and cell.has[band]
    ]


class _Area:
    """Which blocks of a tile's image an area touches."""

    def __init__(self, inventory: Inventory, *, clip: bool) -> None:
        self._crs = inventory.grid.crs
        aoi = inventory.aoi.to_crs(self._crs)
        # Straight lines of the grid's zone are not straight in another one.
        shape = shapely.segmentize((aoi if clip else aoi.box()).union, _SEGMENT_M)
        self._aoi = Aoi(features=(shape,), crs=self._crs)
        self._known: dict[tuple[object, ...], np.ndarray] = {}

    def blocks(self, tile: Tile, image: Layout) -> np.ndarray:
        """Tell for each block, bool of shape (block rows, block columns)."""
        key = (tile, image.width, image.block_width, image.block_height)
        if key not in self._known:
            step = SIDE_M / image.width
            rows, columns = image.counts.shape
            lefts = tile.left + np.arange(columns) * image.block_width * step
            tops = tile.top - np.arange(rows) * image.block_height * step
            left, top = np.meshgrid(lefts, tops)
            right = np.minimum(left + image.block_width * step, tile.left + SIDE_M)
            bottom = np.maximum(top - image.block_height * step, tile.top - SIDE_M)
            boxes = shapely.box(
                left - _MARGIN_M, bottom - _MARGIN_M, right + _MARGIN_M, top + _MARGIN_M
            )
            area = self._aoi.to_crs(tile.crs).union
            shapely.prepare(area)
            self._known[key] = shapely.intersects(area, boxes)
        return self._known[key]


async def _save(
    session: Session,
    sources: Sequence[Source],
    root: Path,
    area: _Area,
    tick: Callable[[], object],
) -> list[GoneError]:
    """Copy file by file, some at once; return those that are gone."""
    gone: list[GoneError] = []

    async def prepare(source: Source) -> Copy | None:
        try:
            header = await read_header(session, source)
        except GoneError as exc:
            gone.append(exc)
            return None
        except ReadError as exc:
            raise exc.at(**source.place) from exc.__cause__
        layer, product = BANDS[source.band], Product.parse(source.item)
        path = root / product.file(layer, source.resolution_m) if product else root
        wanted = area.blocks(source.tile, header.layout) & (header.layout.counts > 0)
        return await in_thread(plan_file, source, header, path, wanted)

    async def write(copy: Copy) -> None:
        try:
            await write_copy(session, copy, max(1, session.transport.max_connections // count))
        except ReadError as exc:
            raise exc.at(**copy.source.place) from exc.__cause__
        tick()

    for first in range(0, len(sources), _AT_ONCE):
        batch = sources[first : first + _AT_ONCE]
        copies = [copy for copy in await gather(map(prepare, batch)) if copy is not None]
        count = max(1, len(copies))
        _check_space(root, sum(copy.head.total for copy in copies))
        for _ in range(len(batch) - len(copies)):
            tick()
        await gather(map(write, copies))
    return gone


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        msg = (
            f"{root} has {volume_text(free)} free, the next files need {volume_text(needed)}; "
            "make room, or ask for a smaller area, fewer months or bands."
        )
        raise ExportError(msg)


def _record(inventory: Inventory, root: Path) -> None:
    """Keep what was asked for beside the files, and what was asked for before."""
    with set_aside(root) as folder:
        fresh = inventory.save(folder / _RECORD)
        told = fresh.read_bytes()
        for number in range(1, _MOST_RECORDS):
            path = root / (_RECORD if number == 1 else f"inventory-{number}.json")
            if publish_new(fresh, path) or path.read_bytes() == told:
                return


def ask_records(inventory: Inventory) -> Inventory:
    """Take the terms of what was copied to a mirror, and warn where it has not got the area.

    Parameters
    ----------
    inventory : Inventory
        Of a folder that may be a mirror.

    Returns
    -------
    Inventory
        The same, with the licence under which the files were copied.

    Warns
    -----
    AoiWarning
        Part of the area was not copied: it would be nodata there.
    """
    root = Path(inventory.archive_url)
    records = []
    for path in root.glob("inventory*.json") if root.is_dir() else ():
        with contextlib.suppress(SelectionError):  # something else of that name
            records.append(Inventory.load(path))
    if not records:
        return inventory
    area = inventory.aoi.to_crs(inventory.grid.crs).union
    parts = [_not_copied(inventory, area, tile, records) for tile in _used(inventory)]
    rest = shapely.union_all(parts).area / area.area
    if rest > _ROUNDING_SHARE:
        warn_user(
            f"{rest:.1%} of the AOI lies outside the areas that were copied to "
            f"the mirror {root}; where it has no blocks pixels are nodata. Copy it too: "
            "save_archive into the same folder.",
            AoiWarning,
        )
    told = [record.origin for record in records]
    terms = Origin(
        license=" AND ".join(sorted({origin.license for origin in told})),
        references=" ".join(sorted({origin.references for origin in told})),
    )
    return replace(inventory, origin=terms)


def _used(inventory: Inventory) -> set[str]:
    return {cell.tile for cell in inventory.cells if any(cell.has)}


def _not_copied(
    inventory: Inventory, area: BaseGeometry, tile: str, records: Sequence[Inventory]
) -> BaseGeometry:
    """Give the part of an area that a tile has to give and that was not copied of it."""
    crs = inventory.grid.crs
    box = outline(Aoi(features=(tile_named(tile).box,), crs=tile_named(tile).crs)).to_crs(crs)
    copied = [r.aoi.to_crs(crs).union for r in records if tile in _used(r)]
    return area.intersection(box.union).difference(shapely.union_all(copied).buffer(_ROUNDING_M))


def _at(inventory: Inventory, root: Path) -> Inventory:
    """Say the same of the files in the mirror."""
    moved = replace(inventory, archive_url=f"{root.as_posix()}/")
    cells = []
    for cell in inventory.cells:
        bare = replace(cell, urls=("",) * len(cell.urls))
        paths = [Path(moved.url(bare, band) or root) for band in range(len(cell.status))]
        sizes = [path.stat().st_size if path.is_file() else None for path in paths]
        status = [
            GONE if has and size is None else known
            for has, size, known in zip(cell.has, sizes, cell.status, strict=True)
        ]
        cells.append(replace(bare, sizes=tuple(sizes), status=tuple(status)))
    return replace(moved, cells=tuple(cells))
