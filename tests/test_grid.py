"""The target lattice against `rasterio.mask.mask(crop=True)`."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.mask
import shapely
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._grid import Grid, grid_around
from s2l3a_xr._tiles import tile_named

UPC, UQC = tile_named("32UPC"), tile_named("32UQC")
AROUND_1_5 = tuple(map(int, rasterio.__version__.split(".")[:2])) >= (1, 5)


@pytest.fixture(scope="module")
def masked():
    """Give rasterio's answer on a raster that spans tiles, made once for each size.

    The raster holds nothing: a sparse file costs no memory.
    """
    files = {}

    def mask(tiles, resolution, shapes):
        left = min(tile.bounds[0] for tile in tiles)
        top = max(tile.bounds[3] for tile in tiles)
        right = max(tile.bounds[2] for tile in tiles)
        bottom = min(tile.bounds[1] for tile in tiles)
        key = (left, bottom, right, top, resolution)
        if key not in files:
            memory = MemoryFile()
            with memory.open(
                driver="GTiff",
                width=round((right - left) / resolution),
                height=round((top - bottom) / resolution),
                count=1,
                dtype="uint8",
                crs=tiles[0].crs,
                transform=Affine(resolution, 0, left, 0, -resolution, top),
                tiled=True,
                sparse_ok=True,
            ):
                pass
            files[key] = memory.open()
        pixels, transform = rasterio.mask.mask(files[key], shapes, crop=True)
        return pixels.shape[1:], transform

    yield mask
    for dataset in files.values():
        dataset.close()


def check(masked, tiles, resolution, shapes):
    grid = grid_around(Aoi(features=tuple(shapes), crs=tiles[0].crs), tiles, resolution)
    shape, transform = masked(tiles, resolution, shapes)
    assert grid.transform == transform
    _, bottom, right, _ = shapely.total_bounds(shapes)
    rows, columns = grid.shape
    # rasterio 1.5 rounds up to another one, of nodata alone, where a vertex is on a pixel's edge.
    more_rows = AROUND_1_5 and grid.top - rows * resolution == bottom
    more_columns = AROUND_1_5 and grid.left + columns * resolution == right
    assert shape[0] in {rows, rows + more_rows}
    assert shape[1] in {columns, columns + more_columns}
    return grid


def metres(resolution):
    """Offsets in metres: any, and those on pixel edges or a rounding error beside one."""
    edges = st.integers(0, 20000 // resolution).map(lambda count: float(count * resolution))
    beside = st.builds(lambda at, ulps: at * (1 + ulps * 2.0**-52), edges, st.integers(-4, 4))
    return st.one_of(st.floats(0, 20000), edges, beside)


@st.composite
def polygons(draw, left, top, resolution):
    corners = draw(st.lists(st.tuples(metres(resolution), metres(resolution)), min_size=3))
    hull = shapely.MultiPoint([(left + x, top - y) for x, y in corners]).convex_hull
    assume(hull.geom_type == "Polygon" and hull.area > 0)
    return hull


@pytest.mark.parametrize("resolution", [10, 20])
@pytest.mark.parametrize("tiles", [(UPC,), (UPC, UQC)], ids=["one tile", "two tiles"])
@settings(max_examples=50)
@given(data=st.data())
def test_random_polygons(masked, tiles, resolution, data):
    """Inside, over the outer border, and (from -5 km) beyond it."""
    at = st.sampled_from([-5000.0, 0.0, 30000.0, 95000.0])
    left, top = tiles[0].left + data.draw(at), tiles[0].top - data.draw(at)
    shapes = data.draw(st.lists(polygons(left, top, resolution), min_size=1, max_size=3))
    outside = tiles[0].left, tiles[0].bounds[1], tiles[-1].bounds[2], tiles[0].top
    assume(shapely.union_all(shapes).intersection(shapely.box(*outside)).area > 2)
    check(masked, tiles, resolution, shapes)


@pytest.mark.parametrize("resolution", [10, 20])
def test_vertices_on_pixel_edges_take_no_pixel_more(masked, resolution):
    box = shapely.box(650000, 5750000, 650000 + 400, 5750000 + 200)
    grid = check(masked, (UPC,), resolution, [box])
    assert grid.shape == (200 // resolution, 400 // resolution)
    assert (grid.left, grid.top) == (650000, 5750200)


def test_a_vertex_just_behind_an_edge_takes_one_more(masked):
    box = shapely.box(650000 - 1e-6, 5750000 - 1e-6, 650400 + 1e-6, 5750200 + 1e-6)
    assert check(masked, (UPC,), 10, [box]).shape == (22, 42)


def test_the_whole_tile(masked):
    assert check(masked, (UPC,), 20, [UPC.box]).shape == (5490, 5490)
    grid = check(masked, (UPC, UQC), 20, [UPC.box, UQC.box])
    assert grid.shape == (5490, (UQC.bounds[2] - UPC.left) // 20)


def test_an_area_in_lonlat_is_laid_by_its_vertices(masked):
    corners = [(11.66783, 51.99551), (11.81297, 51.98674), (11.74908, 51.93069)]
    aoi = Aoi(features=(shapely.Polygon(corners),), crs="EPSG:4326")
    grid = grid_around(aoi, (UPC,), 10)
    shape, transform = masked((UPC,), 10, aoi.to_crs(UPC.crs).features)
    assert (grid.shape, grid.transform) == (shape, transform)


def test_coordinates_are_pixel_centres():
    grid = Grid(crs="EPSG:32632", left=600000.0, top=5800020.0, resolution=20.0, width=3, height=2)
    assert grid.x.tolist() == [600010.0, 600030.0, 600050.0]
    assert grid.y.tolist() == [5800010.0, 5799990.0]
    assert grid.x.dtype == grid.y.dtype == np.float64
    assert grid.shape == (2, 3)
    assert grid.transform * (0, 0) == (600000.0, 5800020.0)


@pytest.mark.parametrize("offset", [(-500, 0), (0, 500), (-100, 0)])
def test_areas_beside_the_tiles(offset):
    x, y = UPC.left + offset[0], UPC.top + offset[1]
    aoi = Aoi(features=(shapely.box(x, y - 100, x + 100, y),), crs=UPC.crs)
    with pytest.raises(AoiError, match=r"the AOI \(lon .*\) shares no pixel with .* 32UPC"):
        grid_around(aoi, (UPC,), 10)


def test_a_vertex_on_an_edge_of_an_area_past_the_tile(masked):
    corners = [(595010, 5793975), (595001, 5805020), (604060, 5804914)]
    assert check(masked, (UPC,), 10, [shapely.Polygon(corners)]).shape == (605, 406)
