"""Everybody who takes part: who reads, in which interpreter, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import _ours
import _readers
import numpy as np
from _readers import Job, Run

GDAL_TUNED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_CACHEMAX": "512",
    "VSI_CACHE": "TRUE",
}
"""What GDAL's documentation recommends for COGs behind HTTP, kept where it measured better.

``CPL_VSIL_CURL_USE_HEAD=NO`` is not among them: GDAL then begins to fetch the whole file to
learn its size, which doubles the bytes and saves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way of reading."""

    name: str
    environment: str
    """Interpreter that runs it: ``ours``, ``peers`` or ``lazycogs``."""
    prepare: Callable[[Job], Run]
    gives: str = "box"
    """``box``: every pixel of the bounding box; ``clip``: nodata outside the geometry."""
    settings: str = ""
    """What was set, for the table's footnote."""
    environ: Mapping[str, str] = field(default_factory=dict)
    scaled_files: bool = False
    """Whether one file is measured and multiplied by the number of files."""


_STACKSTAC: dict[str, Any] = {
    "dtype": "int16",
    "fill_value": np.int16(_readers.NODATA),
    "rescale": False,
    "chunksize": 2048,
}

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender(
            name="s2l3a_xr",
            environment="ours",
            prepare=partial(_readers.ours, chunks="auto", listing=False),
            gives="clip",
            settings="defaults, inventory in hand",
        ),
        Contender(
            name="s2l3a_xr, chunks=None",
            environment="ours",
            prepare=partial(_readers.ours, chunks=None, listing=False),
            gives="clip",
            settings="chunks=None, inventory in hand",
        ),
        Contender(
            name="s2l3a_xr, with listing",
            environment="ours",
            prepare=partial(_readers.ours, chunks="auto", listing=True),
            gives="clip",
            settings="defaults, listing within the clock",
        ),
        Contender(
            name="odc-stac dask",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=True, chunks={"x": 2048, "y": 2048}),
            settings="configure_rio(cloud_defaults=True), chunks 2048",
        ),
        Contender(
            name="odc-stac dask, chunks 512",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=True, chunks={"x": 512, "y": 512}),
            settings="configure_rio(cloud_defaults=True), chunks 512",
        ),
        Contender(
            name="odc-stac pool=2",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=True, pool=2),
            settings="configure_rio(cloud_defaults=True), pool=2 as dask's threads",
        ),
        Contender(
            name="odc-stac pool=16",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=True, pool=16),
            settings="configure_rio(cloud_defaults=True), pool=16",
        ),
        Contender(
            name="odc-stac defaults",
            environment="peers",
            prepare=partial(_readers.odc_stac, cloud_defaults=False),
            settings="nothing set",
        ),
        Contender(
            name="stackstac",
            environment="peers",
            prepare=partial(_readers.stackstac, **_STACKSTAC),
            settings="int16, rescale=False, chunksize=2048, its own GDAL options",
        ),
        Contender(
            name="stackstac, chunks 512",
            environment="peers",
            prepare=partial(_readers.stackstac, **{**_STACKSTAC, "chunksize": 512}),
            settings="as stackstac, with chunksize=512",
        ),
        Contender(
            name="stackstac defaults",
            environment="peers",
            prepare=_readers.stackstac,
            settings="float64, chunksize 1024",
        ),
        Contender(
            name="rioxarray",
            environment="peers",
            prepare=partial(_readers.rioxarray, chunks={"x": 2048, "y": 2048}, lock=False),
            settings="chunks 2048, lock=False, tuned GDAL options",
            environ=GDAL_TUNED,
        ),
        Contender(
            name="rioxarray defaults",
            environment="peers",
            prepare=partial(_readers.rioxarray, chunks=True),
            settings="chunks=True",
        ),
        *(
            Contender(
                name=f"rasterio pool {threads}",
                environment="peers",
                prepare=partial(_readers.rasterio_pool, threads=threads),
                settings="tuned GDAL options, one window a file",
                environ=GDAL_TUNED,
            )
            for threads in (2, 16, 32)
        ),
        Contender(
            name="rasterio defaults",
            environment="peers",
            prepare=partial(_readers.rasterio_pool, threads=2),
            settings="no GDAL options, two threads",
        ),
        Contender(
            name="rasterio by field, pool 16",
            environment="peers",
            prepare=partial(_readers.rasterio_fields, threads=16),
            gives="clip",
            settings="tuned GDAL options, a window per field",
            environ=GDAL_TUNED,
        ),
        Contender(
            name="lazycogs",
            environment="lazycogs",
            prepare=_readers.lazycogs,
            settings="no dask (its default), 32 reads at once (its default)",
        ),
        Contender(
            name="lazycogs dask",
            environment="lazycogs",
            prepare=partial(_readers.lazycogs, chunks={"time": 1}),
            settings="chunks by month",
        ),
        Contender(
            name="original script",
            environment="peers",
            prepare=_readers.original_script,
            settings="whole file, merge, mask: one file measured, times the number of files",
            scaled_files=True,
        ),
        Contender(
            name="trivial client", environment="ours", prepare=_readers.trivial_client, gives=""
        ),
        Contender(name="oracle", environment="peers", prepare=_readers.oracle, gives="clip"),
        Contender(name="search", environment="ours", prepare=_readers.search_ours, gives=""),
        Contender(name="second look", environment="ours", prepare=_ours.second_look, gives=""),
        Contender(
            name="s2l3a_xr to_geotiff",
            environment="ours",
            prepare=_ours.to_geotiff,
            settings="defaults, inventory in hand",
        ),
        Contender(
            name="rasterio to GeoTIFF, 16 threads",
            environment="peers",
            prepare=partial(_ours.gdal_to_geotiff, threads=16),
            settings="tuned GDAL options, strips of rows, the same file layout as ours",
            environ=GDAL_TUNED,
        ),
        Contender(
            name="s2l3a_xr extract_l3a",
            environment="ours",
            prepare=_ours.extract,
            gives="",
            settings="defaults, inventory in hand",
        ),
        Contender(
            name="s2l3a_xr extract_l3a, exact",
            environment="ours",
            prepare=partial(_ours.extract, method="exact"),
            gives="",
            settings='method="exact", inventory in hand',
        ),
        Contender(
            name="s2l3a_xr, blocks alone",
            environment="ours",
            prepare=_ours.blocks_alone,
            gives="",
            settings="headers, then the blocks that fields touch, unpacked and thrown away",
        ),
        Contender(name="coarse oracle", environment="peers", prepare=_ours.coarse_oracle),
        Contender(name="save Germany", environment="ours", prepare=_ours.save_germany, gives=""),
        Contender(
            name="s2l3a_xr, from listings",
            environment="ours",
            prepare=partial(_ours.open_germany, saved=False),
            gives="",
        ),
        Contender(
            name="s2l3a_xr, from a saved inventory",
            environment="ours",
            prepare=partial(_ours.open_germany, saved=True),
            gives="",
        ),
        Contender(name="odc-stac", environment="peers", prepare=_ours.odc_germany, gives=""),
        Contender(
            name="stackstac graph", environment="peers", prepare=_ours.stackstac_germany, gives=""
        ),
    )
}
