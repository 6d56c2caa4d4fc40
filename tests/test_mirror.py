"""Mirrors: sparse copies of files that hold what an area touches, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import tifffile

import s2l3a_xr
from s2l3a_xr import (
    AoiWarning,
    ExportError,
    Inventory,
    MissingWarning,
    SelectionError,
    open_l3a,
    save_archive,
    search_l3a,
)
from s2l3a_xr._aoi import Aoi
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._tiles import tile_named

AOI = (11.68, 51.94, 11.76, 51.99)
CROOKED = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[11.68, 51.94], [11.82, 51.95], [11.70, 51.97], [11.68, 51.94]]],
        [[[11.60, 51.90], [11.601, 51.90], [11.601, 51.901], [11.60, 51.90]]],
    ],
}


def mirror(found, folder, **options):
    return save_archive(found, folder, progress=False, **options)


def files(folder):
    return sorted(folder.rglob("*.tif"))


@pytest.fixture
def found(server):
    return search_l3a(CROOKED, years=2021, months=[5, 6], bands=["B4", "B11"], archive=server.url)


@pytest.fixture
def original(sample_root):
    """Return a function that finds the original of a mirror's file."""
    root = sample_root / "S2_L3A_WASP" / "files"
    return lambda path: root / path.relative_to(path.parents[5])


@pytest.mark.parametrize("bands", [["B4", "B11"], ["FLG"], ["B8", "FLG", "WGT", "DTS"], ["B5"]])
def test_the_same_pixels_offline(sample_root, tmp_path, bands):
    with SampleServer(sample_root) as server:
        found = search_l3a(CROOKED, time="2021-05/2021-06", bands=bands, archive=server.url)
        expected = open_l3a(inventory=found).load()
        there = mirror(found, tmp_path / "mirror")
    asked = {"time": "2021-05/2021-06", "bands": bands}
    local = open_l3a(CROOKED, archive=tmp_path / "mirror", **asked)
    np.testing.assert_array_equal(local, expected)
    np.testing.assert_array_equal(open_l3a(inventory=there), expected)
    assert (expected != expected.attrs["_FillValue"]).any()
    for name in ("x", "y", "time", "band"):
        np.testing.assert_array_equal(local[name], expected[name])


@pytest.mark.parametrize("grid", [{}, {"crs": 3035}, {"crs": 32633, "resolution": 60}])
@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic", "average"])
def test_the_same_pixels_on_other_grids(sample_root, tmp_path, grid, kernel):
    """The area ends at the edge of a block: its last pixels are made of the next block's too."""
    tile = tile_named("32UPC")
    left, top = tile.left + 32 * 2560, tile.top - 16 * 2560
    area = shapely.box(left + 1, top - 2559, left + 2559, top - 1)
    aoi = gpd.GeoSeries([area], crs="EPSG:32632")
    asked = {"time": "2021-05", "bands": ["B4", "B11"]}
    options = {**asked, **grid, "resampling": kernel, "use_overviews": False}
    with SampleServer(sample_root) as server:
        mirror(search_l3a(aoi, archive=server.url, **asked), tmp_path)
        expected = open_l3a(aoi, archive=server.url, **options).load()
    np.testing.assert_array_equal(open_l3a(aoi, archive=tmp_path, **options), expected)
    assert (expected != -10000).mean() > 0.5


def test_only_blocks_that_the_area_touches_and_those_byte_for_byte(found, tmp_path, original):
    mirror(found, tmp_path)
    assert len(files(tmp_path)) == 4
    area = found.aoi.to_crs("EPSG:32632").union
    for path in files(tmp_path):
        with tifffile.TiffFile(path) as copy, tifffile.TiffFile(original(path)) as source:
            mine, theirs = copy.pages[0], source.pages[0]
            for tag in (256, 257, 258, 259, 277, 284, 317, 322, 323, 339, 42113, 33550, 33922,
                        34735, 34737):  # fmt: skip
                assert mine.tags.valueof(tag) == theirs.tags.valueof(tag), tag
            assert len(copy.pages) == 1
            step = 109800 / mine.imagewidth * mine.tilewidth
            tile = tile_named("32UPC")
            columns = -(-mine.imagewidth // mine.tilewidth)
            written = 0
            for index, (offset, count) in enumerate(
                zip(mine.dataoffsets, mine.databytecounts, strict=True)
            ):
                row, column = divmod(index, columns)
                left, top = tile.left + column * step, tile.top - row * step
                block = shapely.box(left, top - step, left + step, top)
                touched = area.intersects(block.buffer(200, join_style="mitre"))
                assert (count > 0) == (touched and theirs.databytecounts[index] > 0)
                assert (offset > 0) == (count > 0)
                if count:
                    written += 1
                    data = path.read_bytes()[offset : offset + count]
                    source.filehandle.seek(theirs.dataoffsets[index])
                    assert data == source.filehandle.read(count)
            assert 1 < written < 30
            assert path.stat().st_size < 40_000 + sum(mine.databytecounts)


def test_gdal_opens_the_files(found, tmp_path, original):
    mirror(found, tmp_path)
    area = [shapely.geometry.mapping(f) for f in found.aoi.to_crs("EPSG:32632").features]
    for path in files(tmp_path):
        with rasterio.open(path) as copy, rasterio.open(original(path)) as source:
            for name in ("crs", "transform", "shape", "nodata", "dtypes", "block_shapes",
                         "compression", "driver"):  # fmt: skip
                assert getattr(copy, name) == getattr(source, name), name
            mine, _ = rasterio.mask.mask(copy, area, crop=True)
            theirs, _ = rasterio.mask.mask(source, area, crop=True)
            np.testing.assert_array_equal(mine, theirs)
            assert copy.read(1, window=((0, 100), (0, 100))).max() == -10000
            assert copy.tags()["TIFFTAG_IMAGEDESCRIPTION"].startswith("s2l3a_xr: some blocks of")


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "LZW", "predictor": 2},
        {"compress": "ZSTD", "blockxsize": 512, "blockysize": 512},
        {"compress": None},
        {"tiled": False, "blockysize": 64},
        {"BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG", "predictor": 2},
    ],
)
@pytest.mark.parametrize("band", ["B4", "FLG"])
def test_any_layout(tmp_path, lay_file, options, band):
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 5 if band == "FLG" else 9000, (800, 900))
    pixels = pixels.astype("uint8" if band == "FLG" else "int16")
    lay_file(tmp_path, pixels, at=(300, 400), band=band, **options)
    tile = tile_named("32UPC")
    left, top = tile.left + 4200, tile.top - 3300
    aoi = Aoi(features=(shapely.box(left, top - 2000, left + 3000, top),), crs=tile.crs)
    asked = {"time": "2021-03", "bands": [band]}
    source = tmp_path / "S2_L3A_WASP" / "files"
    expected = open_l3a(aoi, archive=source, **asked).load()
    mirror(search_l3a(aoi, archive=source, **asked), tmp_path / "mirror")
    np.testing.assert_array_equal(open_l3a(aoi, archive=tmp_path / "mirror", **asked), expected)
    (path,) = files(tmp_path / "mirror")
    with rasterio.open(path) as copy:
        np.testing.assert_array_equal(copy.read(1, window=((330, 530), (420, 720))), expected[0, 0])


def test_holes_filled_from_another_tile(tmp_path, lay_file):
    """Where 32UPC holds nodata, 32UQC gives the pixels: both must be there."""
    overlap = np.full((600, 900), 500, "int16")
    overlap[100:500, 100:300] = -10000
    deep = tile_named("32UQC").left - tile_named("32UPC").left
    lay_file(tmp_path, overlap, at=(2000, deep // 10 + 20))
    lay_file(tmp_path, np.full((600, 900), 700, "int16"), at=(2000, 20), tile="32UQC")
    left, top = tile_named("32UQC").left - 3000, tile_named("32UPC").top - 20000
    aoi = Aoi(features=(shapely.box(left, top - 6000, left + 15000, top),), crs="EPSG:32632")
    source = tmp_path / "S2_L3A_WASP" / "files"
    found = search_l3a(aoi, time="2021-03", bands="B4", archive=source)
    assert found.tiles == ("32UPC", "32UQC")
    expected = open_l3a(inventory=found).load()
    assert {500, 700} <= set(np.unique(expected))
    mirror(found, tmp_path / "mirror")
    local = open_l3a(aoi, time="2021-03", bands="B4", archive=tmp_path / "mirror")
    np.testing.assert_array_equal(local, expected)


def test_the_bounding_box_on_request(found, tmp_path):
    expected = open_l3a(inventory=found, clip=False).load()
    there = mirror(found, tmp_path, clip=False)
    np.testing.assert_array_equal(open_l3a(inventory=there, clip=False), expected)


def test_what_was_asked_is_kept_beside(found, server, tmp_path):
    mirror(found, tmp_path)
    assert Inventory.load(tmp_path / "inventory.json").cells == found.cells
    mirror(found, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 1
    mirror(search_l3a(AOI, time="2021-05", archive=server.url), tmp_path)
    assert Inventory.load(tmp_path / "inventory-2.json").bands == ("B2", "B3", "B4", "B8")
    assert not list(tmp_path.rglob("*.part"))


def test_a_larger_area_than_was_copied_is_told(found, tmp_path):
    mirror(found, tmp_path)
    asked = {"time": "2021-05", "bands": "B4", "archive": tmp_path}
    part = (11.69, 51.945, 11.70, 51.95)
    search_l3a(part, **asked)  # warnings are errors here
    search_l3a(CROOKED, **asked)
    with pytest.warns(AoiWarning, match=r"\d\d\.\d% of the AOI lies outside the areas .* copied"):
        search_l3a(AOI, **asked)


def test_an_area_whose_tile_was_copied_elsewhere_only_is_told(tmp_path, lay_file):
    """Each half was copied from another tile; both together come from one."""
    for tile, column in (("32UPC", 9996), ("32UQC", 0)):
        lay_file(tmp_path / "site", np.ones((10, 980), "int16"), tile=tile, at=(5000, column))
    top = tile_named("32UPC").top - 50_000
    west = shapely.box(699_000, top - 100, 702_000, top)  # begins before 32UQC
    east = shapely.box(702_000, top - 100, 709_500, top)
    east = shapely.union(east, shapely.box(709_700, top - 100, 710_000, top))  # behind 32UPC
    asked = {"time": "2021-03", "bands": "B4"}
    with SampleServer(tmp_path / "site") as server:
        for part in (west, east):
            aoi = gpd.GeoSeries([part], crs="EPSG:32632")
            mirror(search_l3a(aoi, archive=server.url, **asked), tmp_path / "mirror")
    both = gpd.GeoSeries([shapely.box(699_000, top - 100, 709_000, top)], crs="EPSG:32632")
    with pytest.warns(AoiWarning, match="70.0% of the AOI lies outside the areas"):
        da = open_l3a(both, archive=tmp_path / "mirror", **asked)
    assert da.attrs["tiles"] == ["32UPC"]


def test_the_terms_come_along(found, tmp_path):
    other = replace(found.origin, license="CC-BY-NC-4.0", references="https://doi.org/10.1/x")
    mirror(replace(found, origin=other), tmp_path)
    asked = {"time": "2021-05", "bands": "B4", "archive": tmp_path}
    assert open_l3a(CROOKED, **asked).attrs["license"] == "CC-BY-NC-4.0"
    assert search_l3a(CROOKED, **asked).origin.references == "https://doi.org/10.1/x"
    mirror(found, tmp_path)  # now with two
    assert open_l3a(CROOKED, **asked).attrs["license"] == "CC-BY-4.0 AND CC-BY-NC-4.0"


def test_run_again_it_reads_and_writes_nothing(found, server, tmp_path):
    mirror(found, tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(tmp_path)}
    server.clear_log()
    mirror(found, tmp_path)
    assert [entry for entry in server.log if entry.path.endswith(".tif")] == []
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files(tmp_path)} == before


def test_a_second_area_joins_the_first(found, server, tmp_path):
    mirror(found, tmp_path / "both")
    first = {path: path.stat().st_size for path in files(tmp_path / "both")}
    asked = {"years": 2021, "months": [5, 6], "bands": ["B4", "B11"]}
    other = search_l3a((11.0, 51.6, 11.05, 51.65), archive=server.url, **asked)
    fetched = len(server.log)
    mirror(other, tmp_path / "both")
    assert len(server.log) > fetched
    assert all(path.stat().st_size > first[path] for path in first)
    for area in (CROOKED, (11.0, 51.6, 11.05, 51.65)):
        expected = open_l3a(area, archive=server.url, **asked)
        local = open_l3a(area, archive=tmp_path / "both", **asked)
        np.testing.assert_array_equal(local, expected)
    mirror(other, tmp_path / "other way")
    mirror(found, tmp_path / "other way")
    for path in files(tmp_path / "both"):  # the order does not matter
        twin = tmp_path / "other way" / path.relative_to(tmp_path / "both")
        assert path.read_bytes() == twin.read_bytes()


def test_a_new_original_replaces_all_blocks(tmp_path, lay_file):
    tile = tile_named("32UPC")
    boxes = [shapely.box(x, tile.top - 4000, x + 900, tile.top - 3000) for x in (600500, 605000)]
    one, two = (Aoi(features=(box,), crs=tile.crs) for box in boxes)
    source, asked = tmp_path / "S2_L3A_WASP" / "files", {"time": "2021-03", "bands": "B4"}
    for value, aoi in ((100, one), (200, two)):
        path = lay_file(tmp_path, np.full((900, 900), value, "int16"))
        with rasterio.open(path, "r+") as file:  # another time, and other sizes of blocks
            file.update_tags(value="x" * value)
        transport = s2l3a_xr.Transport(idle_timeout_s=value)  # nothing is remembered
        found = search_l3a(aoi, archive=source, transport=transport, **asked)
        mirror(found, tmp_path / "mirror", transport=transport)
    for aoi in (one, two):
        local = open_l3a(aoi, archive=tmp_path / "mirror", **asked)
        assert set(np.unique(local)) == {200}


def test_files_that_are_gone(sample_root, tmp_path):
    with SampleServer(sample_root) as server:
        found = search_l3a(AOI, time="2021-05", bands=["B4", "B8"], archive=server.url)
        server.faults = [Fault(match="_FRC_B8", kind="status", status=404)]
        with pytest.warns(MissingWarning, match=r"1 listed file.*gone.*_FRC_B8"):
            there = mirror(found, tmp_path)
    assert there.cells[0].status == ("available", "gone")
    assert len(files(tmp_path)) == 1
    with pytest.warns(MissingWarning):
        local = open_l3a(AOI, time="2021-05", bands=["B4", "B8"], archive=tmp_path)
    assert (local[0, 0] != -10000).any()
    assert (local[0, 1] == -10000).all()


def test_a_failure_leaves_nothing_half_written(sample_root, tmp_path):
    with SampleServer(sample_root) as server:
        found = search_l3a(AOI, time="2021-05", bands=["B4"], archive=server.url)
        server.faults = [Fault(match="_FRC_B4", kind="status", status=403, skip=1)]
        with pytest.raises(s2l3a_xr.ReadError, match="HTTP status 403"):
            mirror(found, tmp_path)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_no_room(found, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExportError, match=r"has 10 kB free, the next files need \d+ kB"):
        mirror(found, tmp_path)
    assert files(tmp_path) == []


def test_other_files_in_the_place(found, tmp_path, original):
    mirror(found, tmp_path)
    first, second, *_ = files(tmp_path)
    whole = shutil.copyfile(original(first), first)  # has all that is needed
    size = whole.stat().st_size
    mirror(found, tmp_path)
    assert first.stat().st_size == size
    second.write_bytes(b"something else")
    with pytest.raises(ExportError, match=r"can't be read .*remove it"):
        mirror(found, tmp_path)
    with rasterio.open(original(first)) as source:
        profile = source.profile
    with rasterio.open(second, "w", **profile | {"sparse_ok": True}):
        pass
    with pytest.raises(ExportError, match="no file of a mirror"):
        mirror(found, tmp_path)


def test_folders_that_can_not_be(found, tmp_path, sample_root):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ExportError, match="is no folder"):
        mirror(found, tmp_path / "file")
    root = sample_root / "S2_L3A_WASP" / "files"
    local = search_l3a(AOI, time="2021-05", archive=root)
    with pytest.raises(SelectionError, match="is the archive itself"):
        mirror(local, root)


def test_a_saved_inventory_will_do(found, tmp_path):
    path = found.save(tmp_path / "pin.parquet")
    there = mirror(path, tmp_path / "mirror")
    assert there.tiles == found.tiles
    assert there.archive_url == (tmp_path / "mirror").as_posix() + "/"


def test_a_mirror_that_has_been_read_may_grow(server, tmp_path):
    small, large = (11.70, 51.95, 11.72, 51.96), (11.68, 51.94, 11.76, 51.99)
    for area, month in ((small, 5), (large, 5), (large, 6)):
        asked = {"years": 2021, "months": month, "bands": ["B4"]}
        mirror(search_l3a(area, archive=server.url, **asked), tmp_path)
        local = open_l3a(area, archive=tmp_path, **asked)
        np.testing.assert_array_equal(local, open_l3a(area, archive=server.url, **asked))
