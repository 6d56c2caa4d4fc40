"""Who reads: each at its defaults, in the interpreter that has it.

Like ``contenders.py`` of the other benchmarks, whose readers are used where they have no settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import _readers
import numpy as np
from _readers import NODATA, Job, Run

OURS = "s2l3a_xr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One way of reading."""

    name: str
    environment: str
    """Interpreter that runs it: ``ours``, ``peers`` or ``lazycogs``."""
    prepare: Callable[[Job], Run]
    settings: str
    environ: Mapping[str, str] = field(default_factory=dict)
    cubes: bool = True
    """Whether it stacks months and bands by itself."""
    catalogue: bool = True
    """Whether it knows items and bands, not only URLs."""


def ours(job: Job) -> Run:
    """``open_l3a`` with an inventory in hand, or with the items of a catalogue."""
    if "inventory" in job:
        return _readers.ours(job, chunks="auto", listing=False)
    items = {"type": "FeatureCollection", "features": _readers.stac_items(job)}
    return _readers.ours({**job, "archive": items}, chunks="auto", listing=True)


def fsspec_tifffile(job: Job) -> Run:
    """Open the file with fsspec, and unpack with tifffile the blocks that the window touches."""
    import fsspec  # noqa: PLC0415 - as in ``_readers``
    import tifffile  # noqa: PLC0415

    def one(file: Job) -> Any:
        row, col, height, width = _window(job)
        with fsspec.open(file["url"]) as opened, tifffile.TiffFile(opened) as tiff:
            page = tiff.pages.first
            result = np.full((height, width), NODATA, np.int16)
            for number in _touched(page, (row, col, height, width)):
                offset, count = page.dataoffsets[number], page.databytecounts[number]
                opened.seek(offset)
                data = opened.read(count)
                block, (*_, top, left, _), _ = page.decode(data or None, number)
                if block is not None:
                    _paste(result, block[0, :, :, 0], top - row, left - col)
        return result

    return partial(_stack, job, one)


def async_geotiff(job: Job) -> Run:
    """``GeoTIFF.open`` and ``read`` of one window, through an obstore ``HTTPStore``."""
    import asyncio  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    from async_geotiff import GeoTIFF, Window  # noqa: PLC0415
    from obstore.store import HTTPStore  # noqa: PLC0415

    row, col, height, width = _window(job)
    place = urlsplit(job["archive"])
    root = f"{place.scheme}://{place.netloc}"

    async def one(file: Job) -> Any:
        store = HTTPStore.from_url(root, client_options={"allow_http": True})
        tiff = await GeoTIFF.open(urlsplit(file["url"]).path.lstrip("/"), store=store)
        return (await tiff.read(window=Window(col, row, width, height))).data[0]

    return partial(_stack, job, lambda file: asyncio.run(one(file)))


def _stack(job: Job, one: Callable[[Job], Any]) -> Any:
    shape = (len(job["months"]), len(job["bands"]), *job["shape"])
    return np.array([one(file) for file in job["files"]]).reshape(shape)


def _window(job: Job) -> tuple[int, int, int, int]:
    """Row, column, height and width of the box in the one tile."""
    (tile,) = job["tiles"].values()
    left, bottom, right, top = job["bounds"]
    row, col = (tile["top"] - top) // 10, (left - tile["left"]) // 10
    return row, col, (top - bottom) // 10, (right - left) // 10


def _touched(page: Any, window: tuple[int, int, int, int]) -> list[int]:
    row, col, height, width = window
    across = -(-page.imagewidth // page.tilewidth)
    return [
        y * across + x
        for y in range(row // page.tilelength, -(-(row + height) // page.tilelength))
        for x in range(col // page.tilewidth, -(-(col + width) // page.tilewidth))
    ]


def _paste(target: Any, block: Any, top: int, left: int) -> None:
    part = target[max(top, 0) :, max(left, 0) :]
    block = block[max(-top, 0) :, max(-left, 0) :]
    height, width = (min(a, b) for a, b in zip(part.shape, block.shape, strict=True))
    part[:height, :width] = block[:height, :width]


_STACKSTAC: dict[str, Any] = {"dtype": "int16", "fill_value": np.int16(NODATA), "rescale": False}

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader(
            name=OURS,
            environment="ours",
            prepare=ours,
            settings="defaults, inventory in hand",
        ),
        Reader(
            name="lazycogs",
            environment="lazycogs",
            prepare=_readers.lazycogs,
            settings="defaults",
        ),
        Reader(
            name="odc-stac",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=False),
            settings="defaults",
        ),
        Reader(
            name="odc-stac, fail_on_error=False",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=False, fail_on_error=False),
            settings="fail_on_error=False",
        ),
        Reader(
            name="stackstac",
            environment="peers",
            prepare=partial(_readers.stackstac, **_STACKSTAC),
            settings="int16 without rescaling",
        ),
        Reader(
            name="rioxarray",
            environment="peers",
            prepare=partial(_readers.rioxarray, chunks=True),
            settings="chunks=True",
            catalogue=False,
        ),
        Reader(
            name="rasterio",
            environment="peers",
            prepare=partial(_readers.rasterio_pool, threads=2),
            settings="one window a file, two threads",
            cubes=False,
            catalogue=False,
        ),
        Reader(
            name="rasterio, GDAL_NUM_THREADS",
            environment="peers",
            prepare=partial(_readers.rasterio_pool, threads=2),
            settings="the same with GDAL_NUM_THREADS=ALL_CPUS",
            environ={"GDAL_NUM_THREADS": "ALL_CPUS"},
            cubes=False,
            catalogue=False,
        ),
        Reader(
            name="async-geotiff",
            environment="lazycogs",
            prepare=async_geotiff,
            settings="one window, obstore's HTTPStore",
            cubes=False,
            catalogue=False,
        ),
        Reader(
            name="fsspec + tifffile",
            environment="ours",
            prepare=fsspec_tifffile,
            settings="fsspec.open, the blocks of a window unpacked by tifffile",
            cubes=False,
            catalogue=False,
        ),
    )
}

QUICK = (OURS, "lazycogs", "odc-stac", "stackstac", "rasterio, GDAL_NUM_THREADS")
"""Who takes part in a quick run."""
