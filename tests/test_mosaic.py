"""Clip and merge, against rasterio."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import rasterio.mask
import shapely
from hypothesis import HealthCheck, assume, given, settings
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from s2l3a_xr import _mosaic
from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._grid import Grid, grid_around
from s2l3a_xr._mosaic import NOBODY, inside, share_out, to_pixels
from s2l3a_xr._plan import Axis
from s2l3a_xr._tiles import tile_named

TILE = tile_named("32UPC")


@pytest.fixture(scope="module")
def tile_file():
    """Write a whole tile of ones."""
    transform = from_origin(TILE.left, TILE.top, 10, 10)
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=10980, height=10980, count=1, dtype="uint8", crs=TILE.crs,
            transform=transform, nodata=0, tiled=True, blockxsize=512, blockysize=512,
            compress="DEFLATE",
        ) as file:  # fmt: skip
            file.write(np.ones((10980, 10980), "uint8"), 1)
        with rasterio.open(memory.name) as file:
            yield file


@st.composite
def polygons(draw):
    """Crooked rings, some of their corners on edges and centres of pixels."""
    step = draw(st.sampled_from([5.0, 2.5, 0.1, 0.001]))
    centre = np.array([TILE.left + 50_000, TILE.top - 40_000]) + draw(st.integers(0, 20)) * step
    number = draw(st.integers(3, 12))
    radii = draw(st.lists(st.integers(3, 400), min_size=number, max_size=number))
    angles = np.linspace(0, 2 * math.pi, number, endpoint=False)
    corners = centre + np.column_stack([np.cos(angles), np.sin(angles)]) * np.array(radii)[:, None]
    ring = shapely.Polygon(np.round(corners / step) * step)
    assume(ring.is_valid and ring.area > 0)
    return ring


FEATURES = st.lists(polygons(), min_size=1, max_size=3)


@pytest.mark.parametrize("all_touched", [False, True])
@given(features=FEATURES, data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_clip_is_rasterios_whatever_the_window(tile_file, features, all_touched, data):
    aoi = read_aoi(gpd.GeoSeries(features, crs=TILE.crs))
    grid = grid_around(aoi, [TILE], 10)
    masked, transform = rasterio.mask.mask(
        tile_file, aoi.to_crs(TILE.crs).features, crop=True, all_touched=all_touched
    )
    expected = masked[0].astype(bool)
    assert (grid.transform, grid.shape) == (transform, expected.shape)
    pixels = to_pixels(aoi.to_crs(TILE.crs).features, grid)
    rows, columns = np.arange(grid.height), np.arange(grid.width)
    whole = inside(pixels, grid.shape, rows, columns, all_touched=all_touched)
    np.testing.assert_array_equal(whole, expected)
    some = [
        np.sort(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
        for n in grid.shape
    ]
    cut = [np.arange(axis[0], axis[-1] + 1) for axis in some]
    for axes in (some, cut):
        part = inside(pixels, grid.shape, *axes, all_touched=all_touched)
        np.testing.assert_array_equal(part, expected[np.ix_(*axes)])


def test_positions_may_repeat():
    pixels = [shapely.Polygon([(0, 0), (9, 0), (0, -9)])]
    whole = inside(pixels, (9, 9), np.arange(9), np.arange(9), all_touched=False)
    for rows in ([3, 3, 4], [3, 3, 5], [2, 2, 2]):
        part = inside(pixels, (9, 9), np.array(rows), np.arange(9), all_touched=False)
        np.testing.assert_array_equal(part, whole[rows])


def test_touched_pixels_stay_inside_their_memory():
    """GDAL 3.10 spoils the heap where a geometry reaches past the raster; ask another process."""
    code = """
import numpy as np, shapely
from s2l3a_xr._mosaic import inside
rng = np.random.default_rng(1)
for _ in range(3000):
    angles = np.linspace(0, 2 * np.pi, rng.integers(4, 10))
    radii = rng.integers(1, 40, len(angles))[:, None]
    ring = shapely.Polygon(np.column_stack([np.cos(angles), np.sin(angles)]) * radii + [40, -40])
    top, left = rng.integers(0, 75, 2)
    height, width = rng.integers(1, 20, 2)
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    inside([ring], (80, 70), rows, columns, all_touched=True)
print("sound")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert done.stdout == "sound\n", done.stderr


def test_threads_leave_the_warning_filters_alone():
    pixels = [shapely.box(0, -5, 5, 0)]
    every = np.arange(90), np.arange(90)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(inside, pixels, (90, 90), *every, all_touched=bool(i % 2))
            for i in range(500)
        ]
    assert {job.result().sum() for job in jobs} <= {25, 36}
    assert warnings.filters == before


@pytest.mark.parametrize("all_touched", [False, True])
def test_many_vertices_are_cut_to_the_window_without_a_trace(all_touched, monkeypatch):
    angles = np.linspace(0, 2 * math.pi, 7000, endpoint=False)
    radii = 400 + 60 * np.sin(40 * angles)
    corners = np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])
    ring = shapely.Polygon(corners + np.array([500, -500]))
    everything = np.arange(1000), np.arange(1000)
    steps = [np.arange(first, first + 100) for first in range(0, 1000, 100)]
    cut = [
        [inside([ring], (1000, 1000), rows, columns, all_touched=all_touched) for columns in steps]
        for rows in steps
    ]
    monkeypatch.setattr(_mosaic, "_MANY_VERTICES", 10**9)
    whole = inside([ring], (1000, 1000), *everything, all_touched=all_touched)
    np.testing.assert_array_equal(np.block(cut), whole)


def test_a_window_far_from_the_area_is_empty():
    pixels = [shapely.box(0, -10, 10, 0)]
    assert not inside(pixels, (60, 60), np.arange(50, 60), np.arange(5), all_touched=True).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
        min_size=1, max_size=4,
    ),
    st.booleans(),
)  # fmt: skip
def test_each_pixel_has_one_owner_the_first_that_covers_it(boxes, is_masked):
    layers = [
        (
            Axis(pixels=np.arange(h), first=r, reach=(0, h)),
            Axis(pixels=np.arange(w), first=c, reach=(0, w)),
        )
        for r, h, c, w in boxes
    ]
    mask = np.indices((20, 20)).sum(0) % 3 > 0 if is_masked else None
    owner = share_out((20, 20), layers, mask)
    for y, x in np.ndindex(20, 20):
        over = [i for i, (r, h, c, w) in enumerate(boxes) if r <= y < r + h and c <= x < c + w]
        hidden = mask is not None and not mask[y, x]
        assert owner[y, x] == (NOBODY if hidden or not over else over[0])


def test_pixels_of_a_grid_are_whole_numbers_at_its_corners():
    grid = Grid(crs="EPSG:32632", left=600000, top=5800020, resolution=10, width=9, height=9)
    (box,) = to_pixels([shapely.box(600010, 5800000, 600030, 5800010)], grid)
    assert box.bounds == (1, -2, 3, -1)
