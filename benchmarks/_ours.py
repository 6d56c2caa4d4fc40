"""What only this package is asked: second looks, coarse looks, export, all of Germany.

The functions are contenders as those of ``_readers.py``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import _readers
from _readers import Job, Run


def second_look(job: Job) -> Run:
    """Make the same request twice in one process, the listing included each time."""
    from _server import Record, control  # noqa: PLC0415 - not for the peers' interpreters

    from s2l3a_xr import open_l3a  # noqa: PLC0415

    keywords = _readers.ours_keywords(job, listing=True)
    server = job["archive"].partition("/S2_L3A_WASP")[0]

    def look() -> float:
        begun = time.perf_counter()
        open_l3a(**keywords).to_numpy()
        return time.perf_counter() - begun

    def run() -> dict[str, Any]:
        first_s = look()
        control(server, "reset")
        second_s = look()
        records = [Record(**record) for record in control(server, "log")["records"]]
        tif = [record for record in records if record.path.endswith(".tif")]
        return {
            "first_s": first_s,
            "second_s": second_s,
            "second_listings": len(records) - len(tif),
            "second_headers": sum(
                (record.parts[0][0] if record.parts else record.start) == 0 for record in tif
            ),
            "second_requests": len(tif),
        }

    return run


def to_geotiff(job: Job) -> Run:
    """``open_l3a`` and ``to_geotiff`` with its defaults."""
    from s2l3a_xr import open_l3a, to_geotiff  # noqa: PLC0415

    keywords = _readers.ours_keywords(job, listing=False)
    folder = _emptied(job)

    def run() -> Callable[[], dict[str, Any]]:
        paths = to_geotiff(open_l3a(**keywords), folder, progress=False)
        return lambda: describe(job, sorted(paths, key=lambda path: _rank(job, path)))

    return run


def _rank(job: Job, path: Path) -> tuple[str, int]:
    names = {"B2": "blue", "B3": "green", "B4": "red", "B8": "nir"}
    *_, day, name = path.stem.split("_")
    return day, [names[band] for band in job["bands"]].index(name)


def _emptied(job: Job) -> Path:
    folder = Path(job["output"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def describe(job: Job, paths: Sequence[Path]) -> dict[str, Any]:
    """Digest, size and layout of the written files."""
    import rasterio  # noqa: PLC0415

    def planes() -> Iterator[Any]:
        for path in paths:
            with rasterio.open(path) as source:
                yield source.read(1)

    shape = (len(job["months"]), len(job["bands"]), *job["shape"])
    with rasterio.open(paths[0]) as source:
        structure = source.tags(ns="IMAGE_STRUCTURE")
        layout = {
            "compress": structure.get("COMPRESSION", "NONE"),
            "predictor": int(structure.get("PREDICTOR", 1)),
            "tiled": source.profile.get("tiled", False),
            "blockxsize": source.profile.get("blockxsize", source.width),
            "blockysize": source.profile.get("blockysize", 1),
        }
    return {
        "digest": _readers.digest(shape, planes()),
        "written_mb": sum(path.stat().st_size for path in paths) / 1e6,
        "layout": layout,
    }


def gdal_to_geotiff(job: Job, *, threads: int) -> Run:
    """Do the same by rasterio: strips read in a pool, each file written as they come."""
    import threading  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    import rasterio  # noqa: PLC0415
    from rasterio.windows import Window  # noqa: PLC0415

    folder, layout = _emptied(job), job["layout"]
    rows_of_strip = max(layout["blockysize"], 256)
    opened = threading.local()

    def read(url: str, window: Any) -> Any:
        sources = opened.__dict__.setdefault("sources", {})
        if url not in sources:
            sources[url] = rasterio.open(url)
        return sources[url].read(1, window=window)

    def copy(file: Job, pool: ThreadPoolExecutor) -> Path:
        target = folder / f"{file['month']:02d}_{file['band']}.tif"
        with rasterio.open(file["url"]) as source:
            profile = {**source.profile, **layout, "num_threads": "all_cpus"}
            height, width = source.shape
        strips = [
            Window(0, row, width, min(rows_of_strip, height - row))
            for row in range(0, height, rows_of_strip)
        ]
        with rasterio.open(target, "w", **profile) as sink:
            pixels = pool.map(lambda window: read(file["url"], window), strips)
            for window, strip in zip(strips, pixels, strict=True):
                sink.write(strip, 1, window=window)
        return target

    def run() -> Callable[[], dict[str, Any]]:
        files = job["files"]
        with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(len(files)) as writers:
            paths = list(writers.map(lambda file: copy(file, pool), files))
        return lambda: describe(job, paths)

    return run


def coarse_oracle(job: Job) -> Run:
    """Give what a coarse look must: the overview itself at 40 m, GDAL's nearest warp at 80 m."""
    import numpy as np  # noqa: PLC0415
    import rasterio  # noqa: PLC0415
    from affine import Affine  # noqa: PLC0415
    from rasterio.warp import Resampling, reproject  # noqa: PLC0415

    step = job["resolution"]
    level = {40: 1, 80: 2}[step]
    height, width = job["shape"]
    left, _, _, top = job["bounds"]

    def run() -> Any:
        cube = np.empty((len(job["months"]), len(job["bands"]), height, width), np.int16)
        planes = cube.reshape(-1, height, width)
        for file, plane in zip(job["files"], planes, strict=True):
            with rasterio.open(file["local"], overview_level=level) as source:
                pixels = source.read(1)
                reproject(
                    pixels,
                    plane,
                    src_transform=source.transform,
                    src_crs=source.crs,
                    dst_transform=Affine(step, 0, left, 0, -step, top),
                    dst_crs=source.crs,
                    src_nodata=_readers.NODATA,
                    dst_nodata=_readers.NODATA,
                    resampling=Resampling.nearest,
                )
        return cube

    return run


def open_germany(job: Job, *, saved: bool) -> Run:
    """Open everything there is: from listings, or from an inventory on disk."""
    from s2l3a_xr import open_l3a  # noqa: PLC0415

    selection = _readers.ours_keywords(job, listing=True)

    def run() -> Callable[[], dict[str, Any]]:
        keywords = {"inventory": job["inventory"], **job["options"]} if saved else selection
        cube = open_l3a(**keywords)
        return lambda: graph_figures(cube)

    return run


def save_germany(job: Job) -> Run:
    """Write the inventory that ``open_germany(saved=True)`` begins with."""
    from s2l3a_xr import search_l3a  # noqa: PLC0415

    selection = _readers.ours_keywords(job, listing=True)

    def run() -> dict[str, Any]:
        inventory = search_l3a(**selection)
        inventory.save(job["inventory"])
        return {"files": len(inventory)}

    return run


def graph_figures(cube: Any) -> dict[str, Any]:
    """Chunks and tasks of a dask-backed object, and what travels to a scheduler."""
    import cloudpickle  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    arrays = list(cube.data_vars.values()) if hasattr(cube, "data_vars") else [cube]
    chunks = sum(int(np.prod(array.data.numblocks)) for array in arrays)
    begun = time.perf_counter()
    graph = cube.__dask_graph__()  # as it goes to a scheduler, which unfolds it
    pickled = len(cloudpickle.dumps(graph))
    return {
        "chunks": chunks,
        "tasks": len(graph),
        "pickled_mb": pickled / 1e6,
        "pickle_s": time.perf_counter() - begun,
        "shape": list(arrays[0].shape),
    }


def odc_germany(job: Job) -> Run:
    """Build odc-stac's graph for some of it."""
    import odc.stac  # noqa: PLC0415
    import pystac  # noqa: PLC0415

    items = [pystac.Item.from_dict(item) for item in _readers.stac_items(job)]

    def run() -> Callable[[], dict[str, Any]]:
        cube = odc.stac.load(
            items,
            bands=job["bands"],
            crs=f"EPSG:{job['epsg']}",
            resolution=10,
            chunks={"x": 2048, "y": 2048},
        )
        return lambda: graph_figures(cube)

    return run


def stackstac_germany(job: Job) -> Run:
    """Build stackstac's graph for less of it."""
    import stackstac  # noqa: PLC0415

    items = _readers.stac_items(job)

    def run() -> Callable[[], dict[str, Any]]:
        cube = stackstac.stack(
            items, assets=job["bands"], epsg=job["epsg"], resolution=10, chunksize=2048
        )
        return lambda: graph_figures(cube)

    return run


def extract(job: Job, **keywords: Any) -> Run:
    """``extract_l3a`` with its default statistics."""
    from s2l3a_xr import extract_l3a  # noqa: PLC0415 - not for the peers' interpreters

    fields = _readers.aoi(job)
    told = _readers.ours_keywords(job, listing=False)

    def run() -> None:
        extract_l3a(fields, progress=False, **told, **keywords)

    return run


def blocks_alone(job: Job) -> Run:
    """Fetch and unpack the blocks that are known to be needed, and throw the pixels away."""
    from s2l3a_xr import open_l3a  # noqa: PLC0415
    from s2l3a_xr._fetch import BlockReader  # noqa: PLC0415
    from s2l3a_xr._loop import gather  # noqa: PLC0415
    from s2l3a_xr._plan import Target  # noqa: PLC0415
    from s2l3a_xr._rehearsal import find_array  # noqa: PLC0415
    from s2l3a_xr._source import Source, read_header  # noqa: PLC0415
    from s2l3a_xr._transport import Session, run_with_session  # noqa: PLC0415

    told = _readers.ours_keywords(job, listing=False)
    nothing = slice(0, 0)
    targets = [
        Target(block=tuple(block), output=(nothing, nothing), source=(nothing, nothing),
               is_whole=True, is_shared=False)
        for block in job["touched"]
    ]  # fmt: skip

    async def one(session: Session, source: Source) -> None:
        header = await read_header(session, source)
        reader = BlockReader(
            session=session, url=source.url, header=header, image=header.layout, requests=1,
            put=lambda *_: None,
        )  # fmt: skip
        await reader.bring(targets)

    def run() -> None:
        array = find_array(open_l3a(**told, clip=False))
        request = array.request
        times, bands = request.shape[:2]
        sources = [s for i in range(times) for j in range(bands) for s in request.sources(i, j)]
        run_with_session(
            request.transport, lambda session: gather(one(session, source) for source in sources)
        )

    return run
