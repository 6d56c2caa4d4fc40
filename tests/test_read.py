"""From files to pixels: merge, what is fetched how often, failures and their names."""

from __future__ import annotations

import os
import pickle
import threading
import time
import warnings
from collections import Counter

import dask
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.mask
import rasterio.merge
import shapely

from s2l3a_xr import open_l3a
from s2l3a_xr._errors import (
    FileChangedError,
    FormatError,
    GoneError,
    MissingWarning,
    ReadError,
    TransportError,
)
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._tiff import SparseBytes, parse_header
from s2l3a_xr._transport import Transport

LATER = {"Last-Modified": "Tue, 01 Jun 2021 00:00:00 GMT"}
AT = {"32UPC": (5000, 9600), "32UQC": (5000, 0)}
SHAPE = (600, 1380)
ACROSS = shapely.Polygon(
    [(697_010, 5_749_000), (704_003, 5_749_907), (712_995, 5_747_500), (703_000, 5_744_107)]
)
WITHIN = shapely.Polygon(
    [(697_010, 5_749_000), (699_003, 5_749_907), (699_900, 5_746_500), (698_000, 5_744_507)]
)


def pixels_of(tile, *, holes=0.0):
    rng = np.random.default_rng(len(tile) * ord(tile[3]))
    pixels = rng.integers(0, 3000, SHAPE).astype("int16")
    pixels[rng.random(SHAPE) < holes] = -10000
    return pixels


@pytest.fixture
def site(tmp_path):
    with SampleServer(tmp_path) as server:
        yield server


def open_area(site, area, **options):
    options = {"time": "2021-03", "bands": "B4", **options}
    aoi = gpd.GeoSeries([area], crs="EPSG:32632")
    return open_l3a(aoi, archive=site.url, **options)


def tif_log(site):
    return [r for r in site.log if r.path.endswith(".tif")]


def layout_of(path):
    content = path.read_bytes()
    file = SparseBytes(len(content))
    file.add(0, content)
    return parse_header(file, str(path))


def times_fetched(site, path):
    """Count for each block of a file how many answers held all of it."""
    layout = layout_of(path)
    asked = [r for r in tif_log(site) if r.path.endswith(path.name) and r.status == 206]
    data = [part for r in asked for part in r.ranges if part.start > 0]
    times = np.zeros(layout.counts.shape, int)
    for block in np.argwhere(layout.counts):
        start, count = layout.offsets[tuple(block)], layout.counts[tuple(block)]
        times[tuple(block)] = sum(p.start <= start and start + count <= p.stop for p in data)
    return times


def blocks_touched(layout, area, path):
    """Find the blocks that hold a pixel whose centre lies in the area."""
    with rasterio.open(path) as file:
        mask = rasterio.features.geometry_mask([area], file.shape, file.transform, invert=True)
    touched = np.zeros(layout.counts.shape, bool)
    rows, columns = np.nonzero(mask)
    touched[rows // layout.block_height, columns // layout.block_width] = True
    return touched


def merged(paths, area):
    """Merge and clip as the original script does."""
    files = [rasterio.open(path) for path in paths]
    bounds = area.bounds
    left, top = np.floor(bounds[0] / 10) * 10, np.ceil(bounds[3] / 10) * 10
    right, bottom = np.ceil(bounds[2] / 10) * 10, np.floor(bounds[1] / 10) * 10
    array, transform = rasterio.merge.merge(
        files, bounds=(left, bottom, right, top), method="first", nodata=-10000
    )
    for file in files:
        file.close()
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=array.shape[2], height=array.shape[1], count=1, dtype="int16",
            crs="EPSG:32632", transform=transform, nodata=-10000,
        ) as file:  # fmt: skip
            file.write(array)
        with memory.open() as file:
            return rasterio.mask.mask(file, [area], crop=True)[0][0]


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("blocks", [256, 512])
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_two_tiles_are_merged_as_rasterio_does(site, tmp_path, lay_file, holes, blocks, clip):
    paths = {
        tile: lay_file(
            tmp_path, pixels_of(tile, holes=holes), tile=tile, at=at, blockxsize=blocks,
            blockysize=blocks,
        )
        for tile, at in AT.items()
    }  # fmt: skip
    da = open_area(site, ACROSS, clip=clip)
    order = list(da.attrs["tiles"])
    value = da.values[0, 0]
    # The cover's order is the mosaic's; it is not told, but one of the two it must be.
    area = ACROSS if clip else shapely.box(697_010, 5_744_100, 713_000, 5_749_910)
    results = [merged([paths[t] for t in tiles], area) for tiles in (order, order[::-1])]
    matches = [np.array_equal(value, result) for result in results]
    assert any(matches)
    first, second = order if matches[0] else order[::-1]
    for path in paths.values():
        assert times_fetched(site, path).max() == 1
    if holes == 0:
        assert sum(matches) == 1
        seconds = times_fetched(site, paths[second])
        firsts_box = rasterio.open(paths[first]).bounds
        layout = layout_of(paths[second])
        rest = area.difference(shapely.box(*firsts_box))
        np.testing.assert_array_equal(
            seconds > 0, blocks_touched(layout, rest, paths[second]) & (layout.counts > 0)
        )


def test_a_block_of_the_second_tile_comes_once_though_asked_for_twice(site, tmp_path, lay_file):
    """Part of it lies beside the first tile, part of it fills a hole of the first."""
    for tile, at in AT.items():
        pixels = pixels_of(tile)
        if tile == "32UPC":
            pixels[:, 1300:] = -10000
        lay_file(tmp_path, pixels, tile=tile, at=at)
    open_area(site, ACROSS).load()
    for path in tmp_path.rglob("*.tif"):
        assert times_fetched(site, path).max() == 1


def test_only_blocks_that_the_area_touches_are_fetched(site, tmp_path, lay_file):
    path = lay_file(tmp_path, pixels_of("32UPC"), at=AT["32UPC"])
    layout = layout_of(path)
    da = open_area(site, WITHIN)
    assert not tif_log(site)
    da.load()
    times = times_fetched(site, path)
    touched = blocks_touched(layout, WITHIN, path)
    np.testing.assert_array_equal(times[touched], 1)
    gap_free = layout.counts[times > 0].sum()
    assert gap_free <= 1.05 * layout.counts[touched].sum()


def test_requests_and_bytes_are_as_few_as_promised(site, tmp_path, lay_file):
    """One header and at most one request a row of blocks for each file."""
    months = (3, 4, 5)
    bands = ("B2", "B3", "B4", "B8")
    pixels = pixels_of("32UPC")
    paths = [
        lay_file(tmp_path, pixels, at=AT["32UPC"], month=month, band=band)
        for month in months
        for band in bands
    ]
    site.latency_s = 0.03
    da = open_area(site, WITHIN, time="2021-03/2021-05", bands=bands)
    da.load()
    layout = layout_of(paths[0])
    touched = blocks_touched(layout, WITHIN, paths[0])
    rows = np.any(touched, axis=1).sum()
    by_file = Counter(r.path for r in tif_log(site))
    assert len(by_file) == len(paths)
    assert max(by_file.values()) <= 1 + rows
    needed = len(paths) * (32 * 1024 + layout.counts[touched].sum())
    assert sum(r.bytes_sent for r in tif_log(site)) <= 1.05 * needed


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("blocks", [256, 512])
def test_chunks_that_share_blocks_fetch_each_once(site, tmp_path, lay_file, blocks, scheduler):
    path = lay_file(
        tmp_path, pixels_of("32UPC"), at=AT["32UPC"], blockxsize=blocks, blockysize=blocks
    )
    whole = open_area(site, WITHIN, clip=False).values
    site.clear_log()
    site.latency_s = 0.02
    da = open_area(
        site, WITHIN, clip=False, chunks={"y": 37, "x": 41}, transport=Transport(max_connections=7)
    )
    with dask.config.set(scheduler=scheduler, num_workers=8):
        np.testing.assert_array_equal(da.values, whole)
    assert times_fetched(site, path).max() == 1
    assert most_at_once(tif_log(site)) <= 7


def test_threads_that_index_at_the_same_time_fetch_each_block_once(site, tmp_path, lay_file):
    path = lay_file(tmp_path, pixels_of("32UPC"), at=AT["32UPC"])
    site.latency_s = 0.05
    da = open_area(site, WITHIN, clip=False, chunks=None)
    parts = [
        (slice(top, top + 181), slice(left, left + 101))
        for top in range(0, da.sizes["y"], 181)
        for left in range(0, da.sizes["x"], 101)
    ]
    found = {}

    def read(i):
        found[i] = da.isel(y=parts[i][0], x=parts[i][1]).values

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times_fetched(site, path).max() == 1
    whole = da.values
    for i, (rows, columns) in enumerate(parts):
        np.testing.assert_array_equal(found[i], whole[..., rows, columns])


def most_at_once(log):
    events = sorted(e for r in log for e in ((r.started, 1), (r.finished, -1)))
    return int(max(np.cumsum([step for _, step in events])))


def test_masks_that_were_never_written_are_class_0(site, tmp_path, lay_file):
    pixels = np.full((100, 100), 4, "uint8")
    lay_file(tmp_path, pixels, at=(5200, 9750), band="FLG", resolution_m=10)
    flags = open_area(site, WITHIN, bands="FLG").values[0, 0]
    assert set(np.unique(flags)) == {0, 4, 255}


NAMES = {
    "503": (Fault(match="B4", kind="status"), TransportError, "answered 503"),
    "403": (Fault(match="B4", kind="status", status=403), TransportError, "answered 403"),
    "html": (Fault(match="B4", kind="html_range"), TransportError, "text/html"),
    "stall": (Fault(match="B4", kind="stall", seconds=2), TransportError, "no byte came"),
    "zeros": (Fault(match="B4", kind="zeros", min_start=1), FormatError, "the block"),
    "lying": (Fault(match="B4", kind="lying_range", min_start=1), FormatError, "the block"),
    "flip": (Fault(match="B4", kind="flip", min_start=1), FormatError, "the block"),
    "zeros at the begin": (Fault(match="B4", kind="zeros"), FormatError, "no TIFF"),
    "etag": (
        Fault(match="B4", kind="etag", min_start=1, headers=LATER),
        FileChangedError,
        "was replaced",
    ),
    "total": (Fault(match="B4", kind="wrong_total", min_start=1), ReadError, "replaced"),
}


@pytest.mark.parametrize(("fault", "kind", "text"), NAMES.values(), ids=NAMES)
def test_an_error_names_the_place_and_is_not_remembered(
    site, tmp_path, lay_file, fault, kind, text
):
    site.many_ranges = False
    pixels = pixels_of("32UPC")
    lay_file(tmp_path, pixels, at=AT["32UPC"])
    transport = Transport(idle_timeout_s=0.2, max_attempts=2)
    da = open_area(site, WITHIN, transport=transport)
    site.faults = [fault]
    with pytest.raises(kind, match=text) as caught:
        da.compute()
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.url.startswith(site.url)
    assert error.url.endswith("_FRC_B4.tif")
    assert (error.band, error.month) == ("B4", "2021-03")
    assert error.item == "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
    if kind is TransportError:
        assert error.byte_range is not None
    if text == "the block":
        assert error.block is not None
    site.faults = []
    assert (da.values != -10000).any()


@pytest.mark.parametrize("missing", ["warn", "keep", "raise"])
def test_a_listed_file_that_is_gone_is_a_fact(site, tmp_path, lay_file, missing):
    for band in ("B3", "B4"):
        lay_file(tmp_path, pixels_of("32UPC"), at=AT["32UPC"], band=band)
    da = open_area(site, WITHIN, bands=["B3", "B4"], missing=missing)
    site.faults = [Fault(match="B4", kind="status", status=404)]
    if missing == "raise":
        with pytest.raises(GoneError) as caught:
            da.compute()
        assert (caught.value.band, caught.value.month) == ("B4", "2021-03")
    elif missing == "warn":
        with pytest.warns(MissingWarning, match="1 listed file"):
            value = da.values
        assert (value[0, 0] != -10000).any()
        assert (value[0, 1] == -10000).all()
    else:
        with warnings.catch_warnings():
            assert (da.values[0, 1] == -10000).all()
    site.faults = []
    assert (da.values[0, 1] != -10000).any()


def test_what_is_gone_from_the_first_tile_comes_from_the_second(site, tmp_path, lay_file):
    paths = {tile: lay_file(tmp_path, pixels_of(tile), tile=tile, at=at) for tile, at in AT.items()}
    da = open_area(site, ACROSS, missing="keep")
    for tile, other in (("32UPC", "32UQC"), ("32UQC", "32UPC")):
        site.faults = [Fault(match=rf"T{tile}.*tif$", kind="status", status=404)]
        with rasterio.open(paths[other]) as file:
            reach = shapely.box(*file.bounds)
        value = da.sel(x=slice(reach.bounds[0], reach.bounds[2])).values[0, 0]
        expected = merged([paths[other]], ACROSS)
        columns = np.isin(da.x, da.sel(x=slice(reach.bounds[0], reach.bounds[2])).x)
        np.testing.assert_array_equal(value, expected[:, columns])
        fresh = Transport(max_attempts=2 if tile == "32UPC" else 3)
        da = open_area(site, ACROSS, missing="keep", transport=fresh)


def test_a_replaced_file_is_told_and_read_when_opened_anew(site, tmp_path, lay_file):
    old, new = pixels_of("32UPC"), pixels_of("32UPC")[::-1].copy()
    path = lay_file(tmp_path, old, at=AT["32UPC"])
    da = open_area(site, WITHIN, chunks=None)
    _ = da.isel(y=slice(0, 5)).values
    lay_file(tmp_path, new, at=AT["32UPC"])
    os.utime(path, (time.time() + 5, time.time() + 5))
    for _ in range(2):
        with pytest.raises(FileChangedError, match="open it again") as caught:
            _ = da.values
        assert (caught.value.band, caught.value.month) == ("B4", "2021-03")
    da = open_area(site, WITHIN, chunks=None)
    np.testing.assert_array_equal(da.values[0, 0], merged([path], WITHIN))
