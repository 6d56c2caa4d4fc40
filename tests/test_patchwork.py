"""Tiles of several zones and other grids: against rasterio's warp of the merged files."""

from __future__ import annotations

import itertools
import pickle

import geopandas as gpd
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.merge
import shapely
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from s2l3a_xr import Transport, _reading, open_l3a, to_geotiff
from s2l3a_xr._errors import AoiError, SelectionError
from s2l3a_xr._rehearsal import find_array
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._tiff import SparseBytes, parse_header
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._warp import Warp, _scales, zone_grid

# Pixels of the noise in each tile at 10 m: 32UQC's eastern border, and what of 33UUT lies under
# it and beyond; 32UPC's and 32UQC's overlap.
PLACES = {"32UQC": ((5000, 10280), (700, 700)), "33UUT": ((5850, 9400), (700, 650))}
ACROSS = shapely.Polygon(
    [(805_600, 5_747_900), (809_000, 5_748_950), (813_400, 5_747_500), (808_000, 5_744_000)]
)
WIDE = shapely.union(ACROSS, shapely.box(708_000, 5_746_000, 708_100, 5_746_100))
"""With a corner that zone 33 has not got: both zones are needed."""
MONTH = "2021-03"


def noise(tile, band="B4", *, holes=0.15, shape=None):
    """Give reflectances with holes: single pixels and squares, or classes for FLG."""
    rng = np.random.default_rng([ord(letter) for letter in tile + band])
    height, width = shape or PLACES[tile][1]
    if band == "FLG":
        return rng.integers(0, 5, (height, width)).astype("uint8")
    pixels = rng.integers(1, 4000, (height, width)).astype("int16")
    pixels[rng.random(pixels.shape) < holes / 10] = -10000
    for top, left in rng.integers(0, (height, width), (int(holes * 400), 2)):
        pixels[top : top + 20, left : left + 20] = -10000
    return pixels


def open_area(site, area=ACROSS, **options):
    options = {"time": MONTH, "bands": "B4", **options}
    return open_l3a(gpd.GeoSeries([area], crs="EPSG:32632"), archive=site.url, **options)


def file_of(root, tile, band, month=3):
    """Find a band's file."""
    name = {"FLG": "FLG_R1"}.get(band, f"FRC_{band}")
    return next(root.rglob(f"*2021{month:02}15*T{tile}*_{name}.tif"))


def warped(da, paths, kernel, *, x_scale=1.0, y_scale=1.0):
    """Merge the files of one zone around an array, and let GDAL warp them as exactly as it can."""
    files = [rasterio.open(path) for path in paths]
    crs, step = files[0].crs, files[0].res[0]
    around = transform_bounds(da.rio.crs, crs, *da.rio.bounds(recalc=True), densify_pts=51)
    left, bottom = (np.floor(edge / step) * step - 40 * step for edge in around[:2])
    right, top = (np.ceil(edge / step) * step + 40 * step for edge in around[2:])
    nodata = 255 if files[0].dtypes[0] == "uint8" else -10000
    pixels, transform = rasterio.merge.merge(
        files, bounds=(left, bottom, right, top), method="first", nodata=nodata
    )
    for file in files:
        file.close()
    height, width = pixels.shape[1:]
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=1, dtype=pixels.dtype, crs=crs,
            transform=transform, nodata=nodata,
        ) as file:  # fmt: skip
            file.write(pixels)
        # GDAL measures the scale on each call's extent; it is told the true one.
        with (
            memory.open() as file,
            WarpedVRT(
                file, crs=da.rio.crs, transform=da.rio.transform(recalc=True), width=da.sizes["x"],
                height=da.sizes["y"], resampling=Resampling[kernel], tolerance=1e-7,
                nodata=nodata, XSCALE=x_scale, YSCALE=y_scale,
            ) as result,
        ):  # fmt: skip
            return result.read(1)


def on_tiles(da, tiles):
    """Tell which pixels have their centre on one of some tiles of a zone."""
    to_zone = pyproj.Transformer.from_crs(da.rio.crs, tile_named(tiles[0]).crs, always_xy=True)
    x, y = to_zone.transform(*np.meshgrid(da.x.values, da.y.values))
    boxes = [tile_named(tile).bounds for tile in tiles]
    inside = [(x >= b[0]) & (x < b[2]) & (y > b[1]) & (y <= b[3]) for b in boxes]
    return np.any(inside, axis=0)


def expected(root, da, band="B4", kernel="nearest", *, area=None, month=3, **options):
    """Take the grid's own zone, then the other one where that has no data, and clip."""
    zones = sorted({tile[:2] for tile in da.attrs["tiles"]})
    home = str(da.rio.crs.to_epsg())[-2:]
    zones.sort(key=lambda zone: zone != home)
    result = None
    for zone in zones:
        tiles = [tile for tile in da.attrs["tiles"] if tile[:2] == zone]
        paths = [file_of(root, tile, band, month) for tile in tiles]
        plane = warped(da, paths, kernel, **options)
        nodata = 255 if plane.dtype == np.uint8 else -10000
        if kernel == "average":  # GDAL gives pixels whose rim alone lies on the tile
            plane = np.where(on_tiles(da, tiles), plane, nodata)
        if result is None:
            result = plane
            continue
        empty = (result == nodata) | ((result == 0) & (band == "FLG") & (plane != nodata))
        result = np.where(empty, plane, result)
    if area is not None:
        shapes = gpd.GeoSeries([area], crs="EPSG:32632").to_crs(da.rio.crs)
        transform = da.rio.transform(recalc=True)
        outside = rasterio.features.geometry_mask(shapes, da.shape[2:], transform)
        result = np.where(outside, nodata, result)
    return result


def assert_same(ours, gdals):
    """Alike but for roundings of a half and places on the edge of two pixels, one in a million."""
    off = np.abs(ours.astype(int) - gdals) != 0
    assert off.mean() <= 2e-5 if ours.size > 100_000 else off.sum() <= 1


KERNELS = ["nearest", "bilinear", "cubic", "average"]


@pytest.fixture(scope="module")
def site(tmp_path_factory, lay_file):
    """Serve an archive of two tiles in two zones that overlap."""
    root = tmp_path_factory.mktemp("zones")
    for tile, (at, (height, width)) in PLACES.items():
        lay_file(root, noise(tile), tile=tile, at=at)
        half = tuple(i // 2 for i in at)
        coarse = noise(tile, "B11", shape=(height // 2, width // 2))
        lay_file(root, coarse, tile=tile, at=half, band="B11")
        flags = noise(tile, "FLG", shape=(height, width))
        lay_file(root, flags, tile=tile, at=at, band="FLG", resolution_m=10)
    with SampleServer(root) as server:
        server.root = root
        yield server


def eastern(da):
    """Cut off the hundred kilometres between the parts of `WIDE`."""
    return da.isel(x=slice(-900, None))


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_area_over_two_zones(site, kernel):
    da = open_area(site, WIDE, resampling=kernel)
    assert set(da.attrs["tiles"]) == {"32UQC", "33UUT"}
    assert da.rio.crs == "EPSG:32633"  # whose tile holds most of it
    part = eastern(da)
    value = part.values[0, 0]
    np.testing.assert_array_equal(value, expected(site.root, part, kernel=kernel, area=WIDE))
    own = warped(part, [file_of(site.root, "33UUT", "B4")], "nearest")
    assert ((value != -10000) & (own == -10000)).sum() > 10_000  # the other zone's


@pytest.mark.parametrize("bands", ["FLG", ["FLG", "B4"]])
def test_masks_of_two_zones(site, bands):
    """Class 0 of the first zone is filled from the other; what neither has is 0 or nodata."""
    part = eastern(open_area(site, WIDE, bands=bands, resampling="cubic"))
    value = part.values[0, 0]
    flags = expected(site.root, part, "FLG", area=WIDE)
    if len(bands) == 2:
        flags = np.where(flags == 255, -10000, flags.astype("int16"))
    np.testing.assert_array_equal(value, flags)
    assert value.dtype == flags.dtype


GRIDS = {
    "laea": {"crs": "EPSG:3035"},
    "degrees": {"crs": 4326, "resolution": 0.00013},
    "the other zone": {"crs": pyproj.CRS(32633)},
    "coarse": {"crs": "EPSG:3035", "resolution": 60, "use_overviews": False},
    "fine": {"crs": "EPSG:32632", "resolution": 8},
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_other_grids(site, grid, kernel):
    da = open_area(site, resampling=kernel, **grid)
    warp = Warp(grid=find_array(da).request.grid, native=zone_grid("EPSG:32633", 10), kernel="")
    scale = dict(zip(("x_scale", "y_scale"), _scales(warp), strict=True))
    value = da.values[0, 0]
    assert_same(value, expected(site.root, da, kernel=kernel, area=ACROSS, **scale))
    assert (value != -10000).mean() > 0.2


def test_coordinates_of_a_geographic_grid(site, tmp_path):
    da = open_area(site, crs="EPSG:4326", resolution=0.0002)
    assert (da.x.attrs["standard_name"], da.y.attrs["standard_name"]) == ("longitude", "latitude")
    assert da.x.attrs["units"] == "degrees_east"
    assert da.rio.crs == "EPSG:4326"
    assert da.rio.transform().almost_equals(da.rio.transform(recalc=True))
    assert da.y.values[0] > da.y.values[-1]
    (path,) = to_geotiff(da, tmp_path, progress=False)
    with rasterio.open(path) as file:
        assert file.crs == "EPSG:4326"
        assert file.transform.almost_equals(da.rio.transform())
        np.testing.assert_array_equal(file.read(1), da.values[0, 0])


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_chunks_can_t_be_seen(site, data):
    kernel = data.draw(st.sampled_from(KERNELS))
    grid = data.draw(st.sampled_from([{"crs": "EPSG:3035"}, {"crs": 4326, "resolution": 3e-4}, {}]))
    area = WIDE if not grid else ACROSS
    whole = open_area(site, area, resampling=kernel, chunks=None, **grid)
    sizes = {dim: data.draw(st.integers(250, 900)) for dim in ("y", "x")}
    cut = open_area(site, area, resampling=kernel, chunks=sizes, **grid)
    if not grid:
        whole, cut = eastern(whole), eastern(cut)
    rows = data.draw(st.slices(whole.sizes["y"]))
    columns = data.draw(st.slices(whole.sizes["x"]))
    all_pixels = whole.values
    np.testing.assert_array_equal(cut.values, all_pixels)
    np.testing.assert_array_equal(
        whole.isel(y=rows, x=columns).values, all_pixels[..., rows, columns]
    )


@pytest.mark.parametrize("kernel", ["nearest", "cubic"])
def test_only_needed_blocks_are_fetched_each_once_and_as_planned(site, kernel):
    with SampleServer(site.root) as server:
        parts = [shapely.box(x, y, x + 300, y + 200) for x, y in ((806e3, 5745e3), (812e3, 5748e3))]
        area = shapely.MultiPolygon(parts)
        da = open_area(server, area, crs="EPSG:32632", resampling=kernel)
        planned = da.l3a.plan()
        server.clear_log()
        value = da.values[0, 0]
        log = [r for r in server.log if r.path.endswith(".tif") and r.status == 206]
        fetched = sorted((r.path[-60:], part.start, part.stop) for r in log for part in r.ranges)
    rows = planned[["url", "start", "stop"]].itertuples(index=False)
    assert fetched == sorted((url[-60:], start, stop) for url, start, stop in rows)
    assert (value != -10000).sum() > 300
    (path,) = {file_of(site.root, tile, "B4") for tile in da.attrs["tiles"]}
    content = path.read_bytes()
    file = SparseBytes(len(content))
    file.add(0, content)
    layout = parse_header(file, str(path))
    tile = tile_named(da.attrs["tiles"][0])
    to_tile = pyproj.Transformer.from_crs(32632, tile.crs, always_xy=True)
    inside = ~rasterio.features.geometry_mask(parts, da.shape[2:], da.rio.transform())
    x, y = to_tile.transform(*(grid[inside] for grid in np.meshgrid(da.x.values, da.y.values)))
    needed = {
        (int(r), int(c))
        for r, c in zip((tile.top - y) // 2560, (x - tile.left) // 2560, strict=True)
    }
    needed = {block for block in needed if layout.counts[block]}
    of_offset = {int(layout.offsets[block]): block for block in np.ndindex(*layout.counts.shape)}
    got = {
        of_offset[offset]
        for _, start, stop in fetched
        for offset in of_offset
        if offset > 0 and start <= offset < stop
    }
    assert needed <= got
    assert len(got) <= len(needed) + (0 if kernel == "nearest" else 2)


def test_chunks_of_other_grids_share_blocks(site):
    with SampleServer(site.root) as server:
        chunks = {"y": 100, "x": 130}
        da = open_area(server, crs="EPSG:32632", resampling="bilinear", chunks=chunks)
        _ = da.values
        log = [r for r in server.log if r.path.endswith(".tif") and r.status == 206]
        parts = sorted((r.path, p.start, p.stop) for r in log for p in r.ranges if p.start > 0)
    for before, after in itertools.pairwise(parts):
        assert before[0] != after[0] or before[2] <= after[1]


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
def test_a_gone_file_of_a_zone_is_asked_for_once(site):
    """Though zones come twice: for what only they have, and for holes of others."""
    with SampleServer(site.root) as server:
        da = eastern(open_area(server, WIDE, crs=32632))
        server.faults = [Fault(match="T33UUT.*_B4", kind="status", status=404)]
        server.clear_log()
        value = da.values[0, 0]
        assert [entry.status for entry in server.log if "T33UUT" in entry.path] == [404]
    rows = da.l3a.failures()
    assert rows[["tile", "status"]].to_numpy().tolist() == [["33UUT", "gone"]]
    other = warped(da, [file_of(site.root, "32UQC", "B4")], "nearest")
    transform = da.rio.transform(recalc=True)
    inside = rasterio.features.geometry_mask([WIDE], da.shape[2:], transform, invert=True)
    np.testing.assert_array_equal(value, np.where(inside, other, -10000))


@pytest.mark.filterwarnings("ignore::s2l3a_xr.ReadFailedWarning")
def test_what_fails_in_a_second_look_at_a_zone_is_listed_too(site):
    with SampleServer(site.root) as server:
        asked = {"fail_on_error": False, "transport": Transport(max_attempts=1)}
        da = eastern(open_area(server, WIDE, crs=32632, **asked))
        da.l3a.plan()  # reads the headers
        server.faults = [Fault(match="T33UUT.*_B4", kind="status", status=500)]
        server.clear_log()
        _ = da.values
        failed = {(p.start, p.stop) for r in server.log if r.status == 500 for p in r.ranges}
    assert len(failed) > 1
    rows = da.l3a.failures()[["start", "stop"]]
    assert {*rows.itertuples(index=False, name=None)} == failed


def test_the_sample_s_july_is_of_the_other_zone(server, sample_root):
    """Zone 32 lacks it: 33UUT gives it, on the grid of zone 32."""
    aoi = gpd.GeoSeries([shapely.box(716e3, 5756e3, 719e3, 5759e3)], crs="EPSG:32632")
    da = open_l3a(aoi, time=["2021-06", "2021-07", "2021-09"], bands="B4", archive=server.url)
    assert da.rio.crs == "EPSG:32632"
    july = da.isel(time=1).values[0]
    gdals = warped(da, [file_of(sample_root, "33UUT", "B4", 7)], "nearest")
    np.testing.assert_array_equal(july, gdals)
    assert (july != -10000).mean() > 0.9


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_areas_of_the_sample(server, sample_root, data):
    """Both zones' tiles, to zones, LAEA and degrees."""
    corner = st.tuples(st.integers(0, 4000), st.integers(0, 4000))
    left = data.draw(st.sampled_from([690_000, 704_000, 714_000]))
    points = data.draw(st.lists(corner, min_size=3, max_size=6, unique=True))
    area = shapely.MultiPoint([(left + x, 5_757_000 + y) for x, y in points]).convex_hull
    hypothesis.assume(area.geom_type == "Polygon" and area.area > 10_000)
    band = data.draw(st.sampled_from(["B4", "B11"]))
    kernel = data.draw(st.sampled_from(["nearest", "bilinear", "cubic"]))
    grid = data.draw(
        st.sampled_from(
            [{"crs": 32633}, {"crs": 32632}, {"crs": 3035}, {"crs": 4326, "resolution": 1.5e-4}]
        )
    )
    step = 10 if band == "B4" else 20
    aoi = gpd.GeoSeries([area], crs="EPSG:32632")
    da = open_l3a(aoi, time="2021-05", bands=band, archive=server.url, resampling=kernel, **grid)
    target = find_array(da).request.grid
    tiles = da.attrs["tiles"]
    native = zone_grid(tile_named(tiles[0]).crs, step)
    scales = dict(
        zip(
            ("x_scale", "y_scale"),
            _scales(Warp(grid=target, native=native, kernel="")),
            strict=True,
        )
    )
    value = da.values[0, 0]
    gdals = expected(sample_root, da, band, kernel, area=area, month=5, **scales)
    assert_same(value, gdals)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_areas_over_both_zones(site, data):
    """With holes in either: pixels are made of one zone where the other has none."""
    corner = st.tuples(st.integers(0, 8000), st.integers(0, 4000))
    points = data.draw(st.lists(corner, min_size=3, max_size=6, unique=True))
    hull = shapely.MultiPoint([(803_000 + x, 5_745_000 + y) for x, y in points]).convex_hull
    hypothesis.assume(hull.geom_type == "Polygon" and hull.area > 10_000)
    ends = [shapely.box(x, 5_746_000, x + 100, 5_746_100) for x in (708_000, 812_000)]
    area = shapely.union_all([hull, *ends])  # one in zone 32 alone, one in 33
    band = data.draw(st.sampled_from(["B4", "B11", "FLG"]))
    kernel = data.draw(st.sampled_from(KERNELS)) if band != "FLG" else "nearest"
    chunks = data.draw(st.sampled_from(["auto", {"y": 173, "x": 1000}, None]))
    crs = data.draw(st.sampled_from([32632, 32633]))
    da = open_area(site, area, bands=band, crs=crs, resampling=kernel, chunks=chunks)
    assert set(da.attrs["tiles"]) == {"32UQC", "33UUT"}
    part = eastern(da)
    value = part.values[0, 0]
    assert_same(value, expected(site.root, part, band, kernel, area=area))


@pytest.mark.parametrize("kernel", ["bilinear", "cubic", "average"])
def test_20_m_bands_on_a_10_m_grid(site, kernel):
    da = open_area(site, bands=["B4", "B11"], resampling={"swir16": kernel})
    assert da.rio.resolution() == (10, -10)
    fine, coarse = da.values[0]
    np.testing.assert_array_equal(fine, expected(site.root, da, area=ACROSS))
    scales = {"x_scale": 2, "y_scale": 2}
    gdals = expected(site.root, da, "B11", kernel, area=ACROSS, **scales)
    np.testing.assert_array_equal(coarse, gdals)


def test_average_is_the_mean_of_blocks(site):
    """10 m bands on a 20 m grid: of four pixels, or of those that are not nodata."""
    aoi = gpd.GeoSeries([shapely.box(395_000, 5_739_000, 398_000, 5_741_000)], crs="EPSG:32633")
    options = {"time": MONTH, "bands": "B4", "archive": site.url, "clip": False}
    fine = open_l3a(aoi, **options).values[0, 0].astype(float)
    coarse = open_l3a(aoi, resolution=20, resampling="average", **options)
    fine[fine == -10000] = np.nan
    blocks = fine.reshape(fine.shape[0] // 2, 2, -1, 2).swapaxes(1, 2).reshape(*coarse.shape[2:], 4)
    none = np.isnan(blocks).all(axis=-1)
    means = np.nanmean(np.where(none[..., None], 0, blocks), axis=-1)
    value = np.where(none, -10000, np.floor(means + 0.5))
    np.testing.assert_array_equal(coarse.values[0, 0], value)
    assert np.isnan(blocks).any(axis=-1).sum() > none.sum() > 0
    nearest = open_l3a(aoi, resolution=20, **options).values[0, 0]
    filled = np.where(np.isnan(fine), -10000, fine)
    np.testing.assert_array_equal(nearest, filled[1::2, 1::2])


def test_like_an_array(site):
    first = open_area(site, crs="EPSG:4326", resolution=0.00015)
    second = open_area(site, WIDE, like=first.isel(x=slice(3, -2), y=slice(7, None)))
    np.testing.assert_array_equal(second.x, first.x[3:-2])
    np.testing.assert_array_equal(second.y, first.y[7:])
    xr.align(first.isel(x=slice(3, -2), y=slice(7, None)), second, join="exact")
    utm = open_area(site, resolution=20)
    again = open_area(site, like=utm)
    np.testing.assert_array_equal(again, utm)
    assert find_array(again).request.grid == find_array(utm).request.grid
    whole = open_l3a(like=utm, time=MONTH, bands="B4", archive=site.url)
    assert whole.shape == utm.shape
    inside = utm.values != -10000
    np.testing.assert_array_equal(whole.values[inside], utm.values[inside])


def test_a_geobox(site):
    box = GeoBox.from_bbox((4558000, 3190000, 4564000, 3193500), crs="EPSG:3035", resolution=20)
    da = open_l3a(geobox=box, time=MONTH, bands="B4", archive=site.url)
    assert (da.rio.crs, da.rio.transform(), da.shape[2:]) == (box.crs, box.affine, box.shape)
    np.testing.assert_array_equal(da.values[0, 0], expected(site.root, da))
    assert (da.values != -10000).any()


def test_a_grid_that_lies_elsewhere(site):
    box = GeoBox.from_bbox((4000000, 2700000, 4001000, 2701000), crs="EPSG:3035", resolution=10)
    with pytest.raises(AoiError, match="shares no pixel with the grid"):
        open_area(site, geobox=box)


REFUSED = {
    "kernel": ({"resampling": "lanczos3"}, "must be one of 'nearest'"),
    "band": ({"resampling": {"B99": "cubic"}}, "no such band"),
    "crs": ({"crs": "EPSG:nonsense"}, "is no CRS"),
    "geocentric": ({"crs": 4978}, "must have two axes"),
    "degrees": ({"crs": 4326}, "resolution=0.0001 degrees"),
    "negative": ({"crs": 3035, "resolution": -10}, "greater than 0"),
    "both": ({"like": xr.DataArray(), "geobox": 3}, "one of the two"),
    "no array": ({"like": 3}, "not a int"),
    "no crs": ({"like": xr.DataArray()}, "no CRS"),
    "no geobox": ({"geobox": 3}, "must be an odc"),
    "settled": (
        {"geobox": GeoBox.from_bbox((0, 0, 1, 1), resolution=0.1), "resolution": 3},
        "settle crs and resolution",
    ),
    "oblong": (
        {"geobox": GeoBox((3, 3), Affine(1, 0, 0, 0, -2, 0), "EPSG:3035")},
        "square pixels with north up",
    ),
    "south up": (
        {"geobox": GeoBox((3, 3), Affine(1, 0, 0, 0, 1, 0), "EPSG:3035")},
        "sortby",
    ),
}


@pytest.mark.parametrize(("options", "text"), REFUSED.values(), ids=REFUSED)
def test_grids_that_can_t_be(site, options, text):
    with pytest.raises(SelectionError, match=text):
        open_area(site, **options)


def test_arrays_over_two_zones_travel(site, tmp_path):
    da = eastern(open_area(site, WIDE, bands=["B4", "B11"], chunks={"y": 300, "x": 1000}))
    copied = pickle.loads(pickle.dumps(da))
    np.testing.assert_array_equal(copied.values, da.values)
    paths = to_geotiff(da, tmp_path, progress=False)
    with rasterio.open(paths[0]) as file:
        np.testing.assert_array_equal(file.read(1), da.values[0, 0])
        assert file.crs == "EPSG:32633"


def test_large_windows_are_read_in_parts(site, monkeypatch):
    whole = open_area(site, crs="EPSG:3035", resampling="cubic").values
    monkeypatch.setattr(_reading, "_MOST_PX", 200_000)
    with SampleServer(site.root) as server:
        da = open_area(server, crs="EPSG:3035", resampling="cubic")
        np.testing.assert_array_equal(da.values, whole)
        log = [r for r in server.log if r.path.endswith(".tif") and r.status == 206]
        parts = [(r.path, p.start, p.stop) for r in log for p in r.ranges if p.start > 0]
    assert len(parts) == len(set(parts))


def test_a_coarse_grid_in_another_crs_reads_overviews(server, sample_root):
    aoi = gpd.GeoSeries([shapely.box(682e3, 5746e3, 708e3, 5772e3)], crs="EPSG:32632")
    options = {"time": "2021-05", "bands": "B4", "archive": server.url, "crs": 3035}
    coarse = open_l3a(aoi, resolution=100, **options)
    exact = open_l3a(aoi, resolution=100, use_overviews=False, **options)
    volume = [int(da.l3a.plan()["bytes"].sum()) for da in (coarse, exact)]
    assert volume[0] < volume[1] / 3
    assert "overviews" in coarse.attrs["comment"]
    ours, single = (da.l3a.masked().values for da in (coarse, exact))
    both = np.isfinite(ours) & np.isfinite(single)
    assert both.mean() > 0.5
    assert abs(ours[both].mean() / single[both].mean() - 1) < 0.05
    np.testing.assert_array_equal(
        exact.values[0, 0],
        expected(sample_root, exact, month=5, area=aoi.geometry[0]),
    )
