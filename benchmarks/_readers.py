"""The ways of reading the same pixels: one function each (``contenders.py`` names them).

Each gets a job (a plain dict, see ``_cases.job_for``), imports and prepares what its
users would have at hand (items, an inventory), and returns a function without arguments: that
is what the clock covers, from opening lazily to pixels in memory. Results are int16 arrays
(time, band, y, x); coarse or exporting cases say otherwise.

Nothing here is imported before it is needed: the file is loaded by three interpreters that
share no packages but numpy.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

Job = Mapping[str, Any]
Run = Callable[[], Any]

NODATA = -10000


# -- ours --------------------------------------------------------------------------------


def aoi(job: Job) -> Any:
    """Make the job's area a GeoDataFrame in its own CRS."""
    import geopandas as gpd  # noqa: PLC0415 - see the module's docstring
    import shapely  # noqa: PLC0415

    rings = job["fields"]
    shapes = [shapely.Polygon(ring) for ring in rings] if rings else [shapely.box(*job["bounds"])]
    return gpd.GeoDataFrame(geometry=shapes, crs=job["aoi_epsg"])


def _selection(job: Job) -> dict[str, Any]:
    return {
        "years": job["years"],
        "months": job["months"],
        "bands": job["bands"],
        "archive": job["archive"],
    }


def search_ours(job: Job) -> Run:
    """Write the inventory of the job to ``job["inventory"]``."""
    from s2l3a_xr import search_l3a  # noqa: PLC0415

    keywords = {"aoi": aoi(job), **_selection(job)}

    def run() -> None:
        inventory = search_l3a(**keywords)
        Path(job["inventory"]).write_bytes(pickle.dumps(inventory))

    return run


def ours(job: Job, *, chunks: str | None, listing: bool) -> Run:
    """``open_l3a`` with an inventory in hand, or with the listing in the clock."""
    from s2l3a_xr import open_l3a  # noqa: PLC0415

    keywords = ours_keywords(job, listing=listing)

    def run() -> Any:
        return open_l3a(chunks=chunks, **keywords).to_numpy()

    return run


def ours_keywords(job: Job, *, listing: bool) -> dict[str, Any]:
    """Say what ``open_l3a`` is called with: the selection, or the inventory that holds it."""
    keywords = dict(job["options"])
    if "transport" in keywords:
        from s2l3a_xr import Transport  # noqa: PLC0415

        keywords["transport"] = Transport(**keywords["transport"])
    if listing:
        return {"aoi": aoi(job), **_selection(job), **keywords}
    return {"inventory": pickle.loads(Path(job["inventory"]).read_bytes()), **keywords}


# -- tools that take STAC items ----------------------------------------------------------


def stac_items(job: Job) -> list[dict[str, Any]]:
    """Items with every metadata field that any of the tools can make use of."""
    from pyproj import Transformer  # noqa: PLC0415

    to_lonlat = {
        epsg: Transformer.from_crs(epsg, 4326, always_xy=True).transform
        for epsg in {tile["epsg"] for tile in job["tiles"].values()}
    }
    items: dict[tuple[str, int, int], dict[str, Any]] = {}
    for file in job["files"]:
        tile = job["tiles"][file["tile"]]
        key = (file["tile"], file["year"], file["month"])
        if key not in items:
            items[key] = _stac_item(file, tile, to_lonlat[tile["epsg"]])
        items[key]["assets"][file["band"]] = _stac_asset(file, tile)
    return list(items.values())


def _stac_item(file: Job, tile: Job, to_lonlat: Callable[..., Any]) -> dict[str, Any]:
    left, top, size = tile["left"], tile["top"], tile["side"] * 10
    corners = [
        (left, top),
        (left, top - size),
        (left + size, top - size),
        (left + size, top),
        (left, top),
    ]
    ring = [list(to_lonlat(x, y)) for x, y in corners]
    lon, lat = zip(*ring, strict=True)
    taken = datetime(file["year"], file["month"], 15, tzinfo=UTC)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
        ],
        "id": f"{file['tile']}_{file['year']}{file['month']:02d}",
        "collection": "S2_L3A_WASP",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(lon), min(lat), max(lon), max(lat)],
        "properties": {
            "datetime": taken.isoformat().replace("+00:00", "Z"),
            "proj:epsg": tile["epsg"],
            "proj:shape": [tile["side"], tile["side"]],
            "proj:transform": _transform(tile),
        },
        "assets": {},
        "links": [],
    }


def _stac_asset(file: Job, tile: Job) -> dict[str, Any]:
    return {
        "href": file["url"],
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "proj:epsg": tile["epsg"],
        "proj:shape": [tile["side"], tile["side"]],
        "proj:transform": _transform(tile),
        "eo:bands": [{"name": file["band"]}],
        "raster:bands": [{"data_type": "int16", "nodata": NODATA, "spatial_resolution": 10}],
    }


def _transform(tile: Job) -> list[float]:
    return [10.0, 0.0, float(tile["left"]), 0.0, -10.0, float(tile["top"])]


def odc_stac(job: Job, *, cloud_defaults: bool, **load_keywords: Any) -> Run:
    """``odc.stac.load`` onto the very grid of the job."""
    import odc.stac  # noqa: PLC0415
    import pystac  # noqa: PLC0415
    from affine import Affine  # noqa: PLC0415
    from odc.geo.geobox import GeoBox  # noqa: PLC0415

    items = [pystac.Item.from_dict(item) for item in stac_items(job)]
    left, _, _, top = job["bounds"]
    step = job["resolution"]
    geobox = GeoBox(job["shape"], Affine(step, 0, left, 0, -step, top), f"EPSG:{job['epsg']}")

    def run() -> Any:
        if cloud_defaults:
            odc.stac.configure_rio(cloud_defaults=True)
        cube = odc.stac.load(items, bands=job["bands"], geobox=geobox, **load_keywords)
        cube = cube.compute()
        return np.stack([cube[band].to_numpy() for band in job["bands"]], axis=1)

    return run


def stackstac(job: Job, **stack_keywords: Any) -> Run:
    """``stackstac.stack``, and its own mosaic where two tiles meet."""
    import stackstac as stac  # noqa: PLC0415

    items = stac_items(job)
    two_tiles = len(job["tiles"]) > 1

    def run() -> Any:
        cube = stac.stack(
            items,
            assets=job["bands"],
            epsg=job["epsg"],
            resolution=job["resolution"],
            bounds=job["bounds"],
            snap_bounds=False,
            **stack_keywords,
        )
        if two_tiles:
            cube = cube.groupby("time").map(stac.mosaic, nodata=NODATA)
        return cube.to_numpy().astype(np.int16, copy=False)

    return run


def lazycogs(job: Job, **open_keywords: Any) -> Run:
    """``lazycogs.open`` from a geoparquet file of the same items."""
    import asyncio  # noqa: PLC0415

    import lazycogs as cogs  # noqa: PLC0415
    import rustac  # noqa: PLC0415
    from obstore.store import from_url  # noqa: PLC0415

    client = rustac.DuckdbClient(
        extension_directory=_duckdb_extensions(Path(job["scratch"])), install_extensions=False
    )
    table = str(Path(job["scratch"]) / "items.parquet")

    async def write() -> None:
        await rustac.write(table, stac_items(job))

    asyncio.run(write())
    server = urlsplit(job["archive"])
    root = f"{server.scheme}://{server.netloc}"
    store = from_url(root, client_options={"allow_http": True})  # store_for fails on HTTP

    def run() -> Any:
        cube = cogs.open(
            table,
            bbox=tuple(job["bounds"]),
            crs=f"EPSG:{job['epsg']}",
            resolution=job["resolution"],
            bands=job["bands"],
            time_period="P1M",
            duckdb_client=client,
            store=store,
            **open_keywords,
        )
        return cube.compute().transpose("time", "band", "y", "x").to_numpy()

    return run


def _duckdb_extensions(scratch: Path) -> Path:
    """Lay DuckDB's extensions, which come as packages here, as DuckDB wants to find them."""
    import importlib.util  # noqa: PLC0415

    import duckdb  # noqa: PLC0415

    row = duckdb.sql("PRAGMA platform").fetchone()
    folder = scratch / f"v{duckdb.__version__}" / (row[0] if row else "")
    folder.mkdir(parents=True)
    for name in ("icu", "json", "parquet", "spatial"):
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        for place in (package.submodule_search_locations or []) if package else []:
            for source in Path(place).rglob("*.duckdb_extension"):
                shutil.copy(source, folder)
    return scratch


# -- rasterio and rioxarray --------------------------------------------------------------


def rioxarray(job: Job, **open_keywords: Any) -> Run:
    """``open_rasterio`` per file, ``clip_box``, ``concat``."""
    import rioxarray as rio  # noqa: PLC0415
    import xarray as xr  # noqa: PLC0415

    del rio.__version__

    def one(file: Job) -> Any:
        opened = rio.open_rasterio(file["url"], **open_keywords)
        return opened.rio.clip_box(*job["bounds"]).squeeze("band", drop=True)

    def run() -> Any:
        planes = [
            xr.concat(
                [one(file) for file in job["files"] if file["month"] == month], "band", join="exact"
            )
            for month in job["months"]
        ]
        return xr.concat(planes, "time", join="exact").to_numpy()

    return run


def rasterio_pool(job: Job, *, threads: int) -> Run:
    """One window per file in a pool of threads, first valid pixel where tiles overlap."""
    import rasterio  # noqa: PLC0415
    from rasterio.windows import Window  # noqa: PLC0415

    def read(file: Job) -> tuple[tuple[slice, slice], Any]:
        (row, col, height, width), target = _part(job, job["tiles"][file["tile"]])
        with rasterio.open(file["url"]) as source:
            return target, source.read(1, window=Window(col, row, width, height))

    def run() -> Any:
        cube = _empty(job)
        with ThreadPoolExecutor(threads) as pool:
            for file, (target, pixels) in zip(
                job["files"], pool.map(read, job["files"]), strict=True
            ):
                plane = cube[_time(job, file), _band(job, file)][target]
                np.copyto(plane, pixels, where=plane == NODATA)
        return cube

    return run


def rasterio_fields(job: Job, *, threads: int) -> Run:
    """One window per field, grouped so that each thread opens each file once."""
    import rasterio  # noqa: PLC0415
    from rasterio.features import geometry_mask, geometry_window  # noqa: PLC0415

    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in job["fields"]]
    groups = [shapes[start::threads] for start in range(threads)]

    def read(file: Job, group: Iterable[Job]) -> list[tuple[Any, Any]]:
        parts = []
        with rasterio.open(file["url"]) as source:
            for shape in group:
                window = geometry_window(source, [shape])
                pixels = source.read(1, window=window)
                transform = source.window_transform(window)
                outside = geometry_mask([shape], pixels.shape, transform)
                pixels[outside] = NODATA
                parts.append((transform, pixels))
        return parts

    def run() -> Any:
        cube = _empty(job)
        tasks = [(file, group) for file in job["files"] for group in groups]
        left, _, _, top = job["bounds"]
        with ThreadPoolExecutor(threads) as pool:
            for (file, _), parts in zip(
                tasks, pool.map(lambda task: read(*task), tasks), strict=True
            ):
                plane = cube[_time(job, file), _band(job, file)]
                for transform, pixels in parts:
                    row, col = round((top - transform.f) / 10), round((transform.c - left) / 10)
                    target = plane[row : row + pixels.shape[0], col : col + pixels.shape[1]]
                    np.copyto(target, pixels, where=pixels != NODATA)
        return cube

    return run


def _empty(job: Job) -> Any:
    shape = (len(job["months"]), len(job["bands"]), *job["shape"])
    return np.full(shape, NODATA, np.int16)


def _time(job: Job, file: Job) -> int:
    return int(job["months"].index(file["month"]))


def _band(job: Job, file: Job) -> int:
    return int(job["bands"].index(file["band"]))


def _part(job: Job, tile: Job) -> tuple[tuple[int, int, int, int], tuple[slice, slice]]:
    """Row, column, height and width of the box within a tile, and its place in the box."""
    left, bottom, right, top = job["bounds"]
    size = tile["side"] * 10
    west, east = max(left, tile["left"]), min(right, tile["left"] + size)
    north, south = min(top, tile["top"]), max(bottom, tile["top"] - size)
    row, col = round((tile["top"] - north) / 10), round((west - tile["left"]) / 10)
    height, width = round((north - south) / 10), round((east - west) / 10)
    down, right_by = round((top - north) / 10), round((west - left) / 10)
    target = (slice(down, down + height), slice(right_by, right_by + width))
    return (row, col, height, width), target


# -- the original script's way -----------------------------------------------------------


def original_script(job: Job) -> Run:
    """Download one whole file, merge, write, mask, write; the caller multiplies by files."""
    import rasterio  # noqa: PLC0415
    from rasterio.mask import mask  # noqa: PLC0415
    from rasterio.merge import merge  # noqa: PLC0415

    left, bottom, right, top = job["bounds"]
    ring = [[left, bottom], [left, top], [right, top], [right, bottom], [left, bottom]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    url = job["files"][0]["url"]
    folder = Path(job["scratch"])

    def run() -> Any:
        whole, merged, clipped = (folder / name for name in ("whole.tif", "merged.tif", "clip.tif"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=300) as response, whole.open("wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        with rasterio.open(whole) as source:
            mosaic, transform = merge([source])
            meta = {**source.meta, "driver": "GTiff", "transform": transform}
            meta.update(height=mosaic.shape[1], width=mosaic.shape[2])
            with rasterio.open(merged, "w", **meta) as target:
                target.write(mosaic)
        with rasterio.open(merged) as source:
            pixels, transform = mask(source, [shape], crop=True)
            meta.update(height=pixels.shape[1], width=pixels.shape[2], transform=transform)
        with rasterio.open(clipped, "w", **meta) as target:
            target.write(pixels)
        return pixels[None]

    return run


# -- the trivial client and the oracle ---------------------------------------------------


def trivial_client(job: Job) -> Run:
    """Fetch the ranges of a perfect plan and throw the bytes away: what the server can do."""
    import http.client  # noqa: PLC0415

    host = urlsplit(job["archive"]).netloc
    connections = job["options"].get("connections", 16)

    def work(
        connection: http.client.HTTPConnection, ranges: Iterable[tuple[str, int, int]]
    ) -> None:
        buffer = bytearray(1 << 20)
        for path, start, stop in ranges:
            connection.request("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
            response = connection.getresponse()
            while response.readinto(buffer):
                pass

    def run() -> None:
        lines = [http.client.HTTPConnection(host) for _ in range(connections)]
        with ThreadPoolExecutor(connections) as pool:
            for stage in ("headers", "data"):
                shares = [job["plan"][stage][start::connections] for start in range(connections)]
                list(pool.map(work, lines, shares))

    return run


def oracle(job: Job) -> Run:
    """Read the expected pixels from the files on disk with rasterio."""
    local = {**job, "files": [{**file, "url": file["local"]} for file in job["files"]]}
    if not job["fields"]:
        return rasterio_pool(local, threads=2)
    return partial(_oracle_clipped, local)


def _oracle_clipped(job: Job) -> Any:
    from affine import Affine  # noqa: PLC0415
    from rasterio.features import geometry_mask  # noqa: PLC0415

    cube = rasterio_pool(job, threads=2)()
    left, _, _, top = job["bounds"]
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in job["fields"]]
    cube[..., geometry_mask(shapes, cube.shape[2:], Affine(10, 0, left, 0, -10, top))] = NODATA
    return cube


def digest(shape: Sequence[int], planes: Iterable[Any]) -> str:
    """Fingerprint of a shape and its int16 values, given in parts or whole."""
    fingerprint = hashlib.blake2b(str(tuple(shape)).encode(), digest_size=12)
    for plane in planes:
        if plane.dtype != np.int16:
            raise TypeError(f"pixels are {plane.dtype}, not int16")
        fingerprint.update(np.ascontiguousarray(plane))
    return fingerprint.hexdigest()
