"""The sample archive and its server are what the tests and the demo take them for."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import struct
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
import shapely
import tifffile
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.windows import Window

from s2l3a_xr import _sample
from s2l3a_xr._sample import (
    SAMPLE_AOI,
    SAMPLE_MISSING_MONTH,
    SAMPLE_MONTHS,
    SAMPLE_TILES,
    CogSpec,
    Fault,
    SampleServer,
    write_cog,
)
from s2l3a_xr._sample import _archive as archive
from s2l3a_xr._sample._landscape import paint
from s2l3a_xr._sample._listing import format_size
from s2l3a_xr._sample._port import listen
from s2l3a_xr._sample._season import BANDS, LEVELS, VARIANTS, Cover, reflectances
from s2l3a_xr._sample._strip import strip_of
from s2l3a_xr._sample._utm import Points, utm_to_lonlat, utm_to_utm

NODATA = -10000
WEST, EAST, OTHER = SAMPLE_TILES
PRODUCT = re.compile(r"SENTINEL2[ABX]_2021(\d\d)15-000000-000_L3A_T(3[23]U..)_C_V1-2")


def spec_of(**changes) -> CogSpec:
    given = {
        "width": 700,
        "height": 650,
        "epsg": 32632,
        "left": 600000,
        "top": 5800020,
        "resolution_m": 10,
        "nodata": NODATA,
    }
    return CogSpec(**{**given, **changes})


def noise(rows: int, cols: int, dtype: str = "int16") -> np.ndarray:
    low, high = (0, 255) if dtype == "uint8" else (-300, 4000)
    return np.random.default_rng(rows * cols).integers(low, high, (rows, cols)).astype(dtype)


def whole(pixels: np.ndarray, spec: CogSpec) -> np.ndarray:
    raster = np.full((spec.height, spec.width), spec.background, pixels.dtype)
    rows, cols = pixels.shape
    raster[spec.row_offset : spec.row_offset + rows, spec.col_offset : spec.col_offset + cols] = (
        pixels
    )
    return raster


# --- the layout ----------------------------------------------------------------------------


def write_with_gdal(path: Path, pixels: np.ndarray, nodata: int | None) -> None:
    """Go the steps of WASP's --cog: plain file, gdaladdo, a copy that keeps the overviews."""
    profile = {
        "driver": "GTiff",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "count": 1,
        "dtype": pixels.dtype,
        "crs": "EPSG:32632",
        "transform": rasterio.Affine(10, 0, 600000, 0, -10, 5800020),
        "tiled": True,
        "compress": "deflate",
    }
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(plain, "w", **profile) as dataset:
        dataset.write(pixels, 1)
    with rasterio.open(plain, "r+") as dataset:
        dataset.build_overviews([2, 4, 8, 16, 32], Resampling.average)
    if nodata is not None:
        with rasterio.open(plain, "r+") as dataset:
            dataset.nodata = nodata
    rasterio.shutil.copy(
        plain, path, driver="GTiff", tiled=True, copy_src_overviews=True, compress="deflate"
    )


@dataclass(frozen=True, kw_only=True)
class Ifd:
    tags: dict
    offsets: tuple[int, ...]


def read_ifds(path: Path) -> list[Ifd]:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.byteorder == "<"
        assert not tiff.is_bigtiff
        places = [page.offset for page in tiff.pages]
        assert places == sorted(places)
        assert places[-1] < min(min(page.dataoffsets) for page in tiff.pages)
        return [
            Ifd(
                tags={
                    tag.code: (int(tag.dtype), tag.count, tag.value)
                    for tag in page.tags.values()
                    if tag.code not in (324, 325)
                },
                offsets=page.dataoffsets,
            )
            for page in tiff.pages
        ]


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
@pytest.mark.parametrize("shape", [(1024, 1536), (1098, 999)])
def test_layout_is_that_of_gdal(tmp_path, dtype, shape):
    nodata = NODATA if dtype == "int16" else None
    pixels = noise(*shape, dtype)
    if nodata is not None:
        pixels[300:600, 200:700] = nodata
    write_with_gdal(tmp_path / "gdal.tif", pixels, nodata)
    spec = spec_of(width=shape[1], height=shape[0], nodata=nodata, ghost=True)
    write_cog(tmp_path / "ours.tif", pixels, spec)

    ours, gdal = read_ifds(tmp_path / "ours.tif"), read_ifds(tmp_path / "gdal.tif")
    assert [ifd.tags for ifd in ours] == [ifd.tags for ifd in gdal]
    assert [list(ifd.tags) for ifd in ours] == [list(ifd.tags) for ifd in gdal]
    for ifds in (ours, gdal):  # the blocks: smallest overview first, by rows
        order = [offset for ifd in reversed(ifds) for offset in ifd.offsets]
        assert order == sorted(order)
    head = (tmp_path / "ours.tif").read_bytes()[8:192]
    assert head == (tmp_path / "gdal.tif").read_bytes()[8:192]
    for level in (None, 0, 1, 2, 3, 4):
        options = {} if level is None else {"overview_level": level}
        with (
            rasterio.open(tmp_path / "ours.tif", **options) as left,
            rasterio.open(tmp_path / "gdal.tif", **options) as right,
        ):
            assert left.profile == right.profile
            assert left.tags() == right.tags()
            assert left.overviews(1) == right.overviews(1)
            mine, theirs = left.read(1), right.read(1)
        if level is None:
            assert (mine == theirs).all()
            assert (mine == pixels).all()
        elif shape == (1024, 1536):  # GDAL weighs the odd rest otherwise
            assert np.abs(mine.astype(int) - theirs).max() <= level + 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"predictor": 2},
        {"compression": "none"},
        {"compression": "none", "ghost": True},
        {"compression": "lzw", "predictor": 2, "block_size": 512},
        {"compression": "zstd", "block_size": 128, "overviews": (2, 4)},
        {"ghost": True, "predictor": 2},
        {"overviews": ()},
        {"nodata": None, "fill": 7},
        {"row_offset": 300, "col_offset": 257},
        {"row_offset": 651 - 257, "col_offset": 701 - 333, "ghost": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16"])
def test_gdal_reads_what_was_written(tmp_path, changes, dtype):
    nodata = changes.get("nodata", NODATA if dtype == "int16" else 0)
    spec = spec_of(**{**changes, "nodata": nodata})
    pixels = np.abs(noise(256, 332)).astype(dtype)
    path = tmp_path / "part.tif"
    assert write_cog(path, pixels, spec) == path.stat().st_size
    with rasterio.open(path) as dataset:
        assert (dataset.read(1) == whole(pixels, spec)).all()
        assert dataset.nodata == nodata
        assert dataset.crs.to_epsg() == 32632
        assert dataset.transform == rasterio.Affine(10, 0, 600000, 0, -10, 5800020)
        assert dataset.tags()["AREA_OR_POINT"] == "Area"
        assert dataset.block_shapes == [(spec.block_size, spec.block_size)]
        assert dataset.overviews(1) == list(spec.overviews)
        assert dataset.interleaving is None or dataset.interleaving.name == "band"


def test_blocks_of_fill_share_their_bytes(tmp_path):
    spec = spec_of(width=10980, height=10980, row_offset=3000, col_offset=5000)
    write_cog(tmp_path / "sparse.tif", noise(100, 100), spec)
    main = read_ifds(tmp_path / "sparse.tif")[0]
    assert len(main.offsets) == 43 * 43
    assert len(set(main.offsets)) == 3  # the fill, and two blocks that the array touches
    assert (tmp_path / "sparse.tif").stat().st_size < 80_000


def test_ghost_frames_every_block(tmp_path):
    path = tmp_path / "ghost.tif"
    write_cog(path, noise(650, 700), spec_of(ghost=True))
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                assert struct.unpack_from("<I", content, offset - 4) == (count,)
                end = offset + count
                assert content[end : end + 4] == content[end - 4 : end]
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize(
    "changes",
    [
        {"block_size": 100},
        {"block_size": 0},
        {"overviews": (2, 8)},
        {"overviews": (4,)},
        {"epsg": 4326},
        {"row_offset": 600},
        {"col_offset": -1},
    ],
    ids=str,
)
def test_what_cannot_be_laid_is_refused(tmp_path, changes):
    with pytest.raises(ValueError, match=r"must be|does not lie"):
        write_cog(tmp_path / "never.tif", noise(100, 100), spec_of(**changes))


# --- the landscape -------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "to"), [(33, 32), (32, 33)])
def test_zones_change_as_in_proj(zone, to):
    x, y = np.meshgrid(np.linspace(250000, 760000, 9), np.linspace(5.2e6, 6.1e6, 9))
    ours = utm_to_utm(Points(x, y), from_zone=zone, to_zone=to)
    proj = pyproj.Transformer.from_crs(32600 + zone, 32600 + to, always_xy=True)
    assert np.abs(np.subtract(ours, proj.transform(x, y))).max() < 1e-4
    degrees = utm_to_lonlat(Points(x, y), zone)
    proj = pyproj.Transformer.from_crs(32600 + zone, 4326, always_xy=True)
    assert np.abs(np.subtract(degrees, proj.transform(x, y))).max() < 1e-9


def test_landscape_belongs_to_the_place():
    """However it is cut into strips, the same ground comes out."""
    place = {"left": 683000, "top": 5766000, "zone": 32}
    once = paint(strip_of(**place, rows=160, cols=240))
    again = paint(strip_of(**place, rows=160, cols=240))
    assert (once == again).all()
    part = paint(strip_of(left=683000 + 800, top=5766000 - 800, zone=32, rows=80, cols=160))
    assert (once[80:, 80:] == part).mean() > 0.999  # 32-bit floats of another lattice
    assert len(np.unique(once // (LEVELS * VARIANTS))) > 5


def test_seasons_turn():
    value = {
        month: dict(zip(BANDS, reflectances(month).mean(axis=(2, 3)), strict=True))
        for month in SAMPLE_MONTHS
    }

    def ndvi(month: int, cover: Cover) -> float:
        red, nir = value[month]["B4"][cover], value[month]["B8"][cover]
        return (nir - red) / (nir + red)

    assert ndvi(3, Cover.WHEAT) < 0.65
    assert ndvi(5, Cover.WHEAT) > 0.8
    assert ndvi(7, Cover.WHEAT) < 0.4
    assert ndvi(5, Cover.MAIZE) < 0.3
    assert ndvi(8, Cover.MAIZE) > 0.7
    assert ndvi(6, Cover.BROADLEAF) > ndvi(3, Cover.BROADLEAF) + 0.3
    assert max(value[month]["B8"][Cover.WATER] for month in SAMPLE_MONTHS) < 200
    rape = {band: value[5][band][Cover.RAPE] for band in ("B2", "B3", "B4")}
    assert rape["B3"] > 2.2 * rape["B2"]  # yellow: much green and red, little blue
    assert rape["B4"] > 1.8 * rape["B2"]


# --- the archive ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sample_root() -> Path:
    return _sample.build_sample_archive()


def file_of(root: Path, tile: _sample.SampleTile, month: int, layer: str) -> Path:
    name = tile.product(month)
    folder = root / "S2_L3A_WASP" / "files" / tile.folder / "2021" / name
    return (folder / "MASKS" if layer[:3] in ("FLG", "WGT", "DTS") else folder) / (
        f"{name}_{layer}.tif"
    )


def land_of(root: Path, tile: _sample.SampleTile, month: int, layer: str) -> np.ndarray:
    """Read a tile's landscape, 3000 x 3000 or 1500 x 1500."""
    with rasterio.open(file_of(root, tile, month, layer)) as dataset:
        coarse = round(dataset.res[0]) // 10
        window = Window(tile.col // coarse, tile.row // coarse, 3000 // coarse, 3000 // coarse)
        return dataset.read(1, window=window)


def test_archive_is_small(sample_root, record_property, capsys):
    size = sum(path.stat().st_size for path in sample_root.rglob("*") if path.is_file())
    built = json.loads((sample_root / ".complete").read_text())
    record_property("size_mb", round(size / 1e6))
    record_property("seconds", built["seconds"])
    with capsys.disabled():
        sys.stderr.write(f" sample archive: {size / 1e6:.0f} MB, built in {built['seconds']} s ")
    assert size < 300e6


def test_archive_is_reused(sample_root):
    started = time.monotonic()
    assert _sample.build_sample_archive() == sample_root
    assert time.monotonic() - started < 1


def test_tree_is_that_of_dlr(sample_root):
    files = sample_root / "S2_L3A_WASP" / "files"
    months = {tile.name: set() for tile in SAMPLE_TILES}
    platforms = []
    for tile in SAMPLE_TILES:
        for product in (files / tile.folder / "2021").iterdir():
            found = PRODUCT.fullmatch(product.name)
            assert found
            assert found[2] == tile.name
            months[tile.name].add(int(found[1]))
            platforms.append(product.name[8:10])
            names = {path.relative_to(product).as_posix() for path in product.rglob("*.*")}
            name = product.name
            masks = {f"{kind}_{res}" for kind in ("FLG", "WGT", "DTS") for res in ("R1", "R2")}
            assert names == {
                *(f"{name}_FRC_{band}.tif" for band in BANDS),
                *(f"MASKS/{name}_{mask}.tif" for mask in masks),
                f"DATA/{name}_IPP_ALL.xml",
                f"{name}_MTD_ALL.xml",
                f"{name}_QKL_ALL.jpg",
            }
    every = set(SAMPLE_MONTHS)
    assert months["32UPC"] == months["32UQC"] == every - {SAMPLE_MISSING_MONTH}
    assert SAMPLE_MISSING_MONTH in months["33UUT"]
    assert len(months["33UUT"]) == 7
    assert platforms.count("2A") == platforms.count("2B") == 1


@pytest.mark.parametrize("tile", SAMPLE_TILES, ids=lambda tile: tile.name)
def test_files_have_the_geometry_of_their_tile(sample_root, tile):
    for layer in (*(f"FRC_{band}" for band in BANDS), "FLG_R1", "FLG_R2", "WGT_R1", "DTS_R2"):
        fine = layer in ("FRC_B2", "FRC_B3", "FRC_B4", "FRC_B8") or layer.endswith("R1")
        side, step = (10980, 10) if fine else (5490, 20)
        with rasterio.open(file_of(sample_root, tile, 4, layer)) as dataset:
            assert dataset.shape == (side, side)
            assert dataset.transform == rasterio.Affine(step, 0, tile.left, 0, -step, tile.top)
            assert dataset.crs.to_epsg() == tile.epsg
            flags = layer.startswith("FLG")
            assert dataset.dtypes == (("uint8",) if flags else ("int16",))
            assert dataset.nodata == (None if flags else NODATA)
            assert dataset.overviews(1) == [2, 4, 8, 16, 32]
            assert dataset.block_shapes == [(256, 256)]
            assert dataset.compression.name == "deflate"
            row, col = tile.row * 10 // step, tile.col * 10 // step
            around = dataset.read(1, window=Window(0, row - 64, side, 64))
            assert (around == (0 if flags else NODATA)).all()
            inside = dataset.read(1, window=Window(col, row, 3000 * 10 // step, 256))
            assert (inside != (0 if flags else NODATA)).mean() > 0.5


def test_layers_of_a_product_agree(sample_root):
    seen = set()
    for month in (3, 4, 6):
        flag = land_of(sample_root, WEST, month, "FLG_R1")
        seen |= set(np.unique(flag))
        for band in ("B2", "B8"):
            values = land_of(sample_root, WEST, month, f"FRC_{band}")
            assert ((values == NODATA) == (flag == 0)).all()
            assert values.max() < 10000
            assert (values[values != NODATA] > 0).all()
        weight = land_of(sample_root, WEST, month, "WGT_R1")
        assert ((weight == NODATA) == (flag == 0)).all()
        assert ((weight == 0) >= (flag == 1)).all()
        day = land_of(sample_root, WEST, month, "DTS_R1")
        assert ((day == NODATA) == (flag == 0)).all()
        middle = time.strptime(f"2021-{month}-15", "%Y-%m-%d").tm_yday - 1
        assert np.abs(day[flag != 0] - middle).max() <= 15
        for layer in ("FLG", "WGT", "DTS"):
            fine, coarse = (land_of(sample_root, WEST, month, f"{layer}_R{r}") for r in (1, 2))
            assert (fine[::2, ::2] == coarse).all()
        assert (
            (land_of(sample_root, WEST, month, "FRC_B11") == NODATA) == (flag[::2, ::2] == 0)
        ).all()
    assert seen == {0, 1, 2, 3, 4}


def test_tiles_of_a_zone_show_the_same_ground(sample_root):
    first, last = EAST.left - WEST.left - 10 * WEST.col, 3000
    assert 0 < first // 10 < last
    for month, layer in ((5, "FRC_B4"), (9, "FRC_B12")):
        coarse = 2 if layer == "FRC_B12" else 1
        west = land_of(sample_root, WEST, month, layer)[:, first // 10 // coarse :]
        east = land_of(sample_root, EAST, month, layer)[:, : west.shape[1]]
        both = (west != NODATA) & (east != NODATA)
        assert both.mean() > 0.5
        assert (west[both] // 4 == east[both] // 4).all()
        assert (west[both] % 4 == WEST.mark).all()
        assert (east[both] % 4 == EAST.mark).all()
        # Each fills a hole of the other.
        assert ((west == NODATA) & (east != NODATA)).mean() > 0.02
        assert ((east == NODATA) & (west != NODATA)).mean() > 0.02


def test_tiles_of_two_zones_show_the_same_ground(sample_root):
    row, col = np.mgrid[0:3000:7, 0:3000:7]
    proj = pyproj.Transformer.from_crs(OTHER.epsg, EAST.epsg, always_xy=True)
    x, y = proj.transform(OTHER.left + 10 * col + 5, OTHER.top - 10 * (OTHER.row + row) - 5)
    to_col, to_row = (x - EAST.left) // 10, (EAST.top - y) // 10 - EAST.row
    met = (to_col >= 0) & (to_col < 3000) & (to_row >= 0) & (to_row < 3000)
    assert met.mean() > 0.5
    other = land_of(sample_root, OTHER, 6, "FRC_B8")[row[met], col[met]]
    east = land_of(sample_root, EAST, 6, "FRC_B8")[to_row[met].astype(int), to_col[met].astype(int)]
    both = (other != NODATA) & (east != NODATA)
    assert both.mean() > 0.9
    assert (other[both] // 4 == east[both] // 4).mean() > 0.9


def test_region_lies_in_one_tile_and_shows_the_year(sample_root):
    proj = pyproj.Transformer.from_crs(4326, WEST.epsg, always_xy=True)
    region = shapely.transform(
        shapely.from_geojson(json.dumps(SAMPLE_AOI)), proj.transform, interleaved=False
    )
    assert region.is_valid
    assert region.area == pytest.approx(85e6, rel=0.02)
    left, top = WEST.left + 10 * WEST.col, WEST.top - 10 * WEST.row
    square = shapely.box(left, top - 30000, left + 30000, top)
    assert square.buffer(-2000).contains(region)
    assert region.bounds[2] < EAST.left
    outside = geometry_mask([region], (3000, 3000), rasterio.Affine(10, 0, left, 0, -10, top))
    ndvi, flags = {}, {}
    for month in WEST.months:
        red, nir, flag = (
            land_of(sample_root, WEST, month, layer)[~outside].astype(float)
            for layer in ("FRC_B4", "FRC_B8", "FLG_R1")
        )
        clear = flag >= 3
        flags[month] = set(flag.astype(int))
        assert clear.mean() > 0.9
        ndvi[month] = float(((nir - red) / (nir + red))[clear].mean())
    assert max(ndvi, key=lambda month: ndvi[month]) in (5, 6)
    assert ndvi[5] > ndvi[3] + 0.1
    assert ndvi[6] > ndvi[8] + 0.1
    assert 2 in flags[3]
    assert {0, 1} <= flags[6] | flags[10]
    assert set().union(*flags.values()) == {0, 1, 2, 3, 4}


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a sample archive"):
        _sample.build_sample_archive(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    places = {
        "linux": ("XDG_CACHE_HOME", tmp_path / "s2l3a_xr"),
        "win32": ("LOCALAPPDATA", tmp_path / "s2l3a_xr"),
        "darwin": ("HOME", tmp_path / "Library" / "Caches" / "s2l3a_xr"),
    }
    for platform, (variable, place) in places.items():
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setenv(variable, str(tmp_path))
        assert archive.user_cache_dir() == place


def stamped(folder: Path, digest: str) -> Path:
    folder.mkdir()
    (folder / ".complete").write_text(json.dumps({"digest": digest, "seconds": 1}))
    return folder


def test_the_slower_of_two_builders_gives_way(tmp_path):
    target = stamped(tmp_path / "sample-1", "new")
    (target / "first").touch()
    part = stamped(tmp_path / "sample-1.part-x", "new")
    archive._put_in_place(part, target, "new")
    assert (target / "first").exists()


def test_an_old_archive_is_replaced(tmp_path):
    target = stamped(tmp_path / "sample-1", "old")
    part = stamped(tmp_path / "sample-1.part-x", "new")
    archive._put_in_place(part, target, "new")
    assert archive._is_complete(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["sample-1"]


def test_only_what_nobody_uses_is_pruned(tmp_path):
    month = time.time() - 40 * 86400
    used = stamped(tmp_path / "sample-used", "a")
    old = stamped(tmp_path / "sample-old", "b")
    os.utime(old / ".complete", (month, month))
    running = tmp_path / "sample-a.part-1"
    running.mkdir()
    dead = tmp_path / "sample-a.part-2"
    dead.mkdir()
    os.utime(dead, (month, month))
    foreign = tmp_path / "sample-foreign"
    foreign.mkdir()
    os.utime(foreign, (month, month))
    archive._prune(tmp_path)
    assert set(tmp_path.iterdir()) == {used, running, foreign}


# --- the server ----------------------------------------------------------------------------

NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
FOLDER = f"/S2_L3A_WASP/files/32/U/PC/2021/{NAME}/"
FILE = f"{FOLDER}{NAME}_FRC_B2.tif"
CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@pytest.fixture(scope="module")
def small_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("served")
    folder = root / FOLDER.strip("/")
    (folder / "MASKS").mkdir(parents=True)
    (folder / "DATA").mkdir()
    (root / FILE.strip("/")).write_bytes(CONTENT)
    (folder / f"{NAME}_MTD_ALL.xml").write_text("<a/>")
    (folder / "a b&c#.txt").write_text("odd")
    (folder / ".hidden").write_text("never shown")
    when = 1619590500.25
    for path in folder.iterdir():
        os.utime(path, (when, when))
    return root


@pytest.fixture
def server(small_root):
    with SampleServer(small_root) as running:
        yield running


def ask(server: SampleServer, path: str, method: str = "GET", **headers: str) -> Reply:
    port = urlsplit(server.origin).port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return Reply(status=response.status, headers=response.headers, body=response.read())


def links(page: str) -> list[str]:
    return re.findall(r'<a href="([^"]*)">', page)


@pytest.mark.parametrize("form", ["table", "pre"])
def test_listing_is_apaches(server, form):
    server.listing = form
    reply = ask(server, FOLDER)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html;charset=UTF-8"
    page = reply.body.decode()
    assert ("<pre>" in page) == (form == "pre")
    assert ("<table>" in page) == (form == "table")
    assert links(page) == [
        "?C=N;O=D",
        "?C=M;O=A",
        "?C=S;O=A",
        "?C=D;O=A",
        "/S2_L3A_WASP/files/32/U/PC/2021/",
        "DATA/",
        "MASKS/",
        f"{NAME}_FRC_B2.tif",
        f"{NAME}_MTD_ALL.xml",
        "a%20b%26c%23.txt",
    ]
    assert "2021-04-28 06:15" in page
    assert "250K" in page
    assert "hidden" not in page
    assert ("SENTINEL2X_20210315-..&gt;" in page) == (form == "pre")


def test_listing_equals_the_constructed_sample(shared_data, tmp_path):
    """The page that was put together from the facts, and ours of the same folder."""
    sample = (shared_data / "dlr_samples" / "constructed" / "listing_product.html").read_text()
    folder = tmp_path / FOLDER.strip("/")
    for name, size in re.findall(
        r'<a href="(\w[^"]*)">.*? *(\w*|-) *</td><td>&nbsp;</td></tr>', sample
    ):
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            unit = {"K": 2**10, "M": 2**20}[size[-1]]
            with path.open("wb") as file:  # sparse
                file.truncate(int(size[:-1]) * unit)
        os.utime(path, (1619590500, 1619590500))
    with SampleServer(tmp_path) as server:
        assert ask(server, FOLDER).body.decode().split() == sample.split()


def test_sort_links_sort(server):
    names = links(ask(server, FOLDER + "?C=N;O=D").body.decode())
    assert names[0] == "?C=N;O=A"
    assert names[5] == "a%20b%26c%23.txt"
    assert names[-1] == "DATA/"
    assert links(ask(server, FOLDER + "?C=S;O=D").body.decode())[5] == f"{NAME}_FRC_B2.tif"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "  0 "), (972, "972 "), (1024, "1.0K"), (12 * 1024, " 12K"), (9.9 * 2**20, "9.9M"),
     (55 * 2**20, " 55M"), (240 * 2**20, "240M"), (1.2 * 2**30, "1.2G")],
)  # fmt: skip
def test_sizes_are_rounded_as_apache_does(size, text):
    assert format_size(int(size)) == text


def test_folder_without_slash_redirects(server):
    reply = ask(server, FOLDER.rstrip("/"))
    assert reply.status == 301
    assert reply.headers["Location"] == urljoin(server.origin, FOLDER)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=500-1499", slice(500, 1500)),
        ("bytes=-7", slice(SIZE - 7, SIZE)),
        (f"bytes={SIZE - 3}-", slice(SIZE - 3, SIZE)),
        (f"bytes={SIZE - 3}-{SIZE + 500}", slice(SIZE - 3, SIZE)),
    ],
)
def test_ranges(server, asked, part):
    reply = ask(server, FILE, Range=asked)
    assert reply.status == 206
    assert reply.body == CONTENT[part]
    assert reply.headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/{SIZE}"
    assert reply.headers["Content-Length"] == str(part.stop - part.start)
    assert reply.headers["Accept-Ranges"] == "bytes"
    [logged] = server.log
    assert (logged.method, logged.path, logged.status) == ("GET", FILE, 206)
    assert logged.range == (part.start, part.stop)
    assert logged.bytes_sent == part.stop - part.start
    assert logged.peer_port > 0


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=-", "lines=1-2", ""])
def test_what_is_no_single_range_gets_the_whole_file(server, asked):
    reply = ask(server, FILE, Range=asked)
    assert reply.status == 200
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(CONTENT).digest()


def test_several_ranges_come_in_parts_unless_that_is_switched_off(server):
    reply = ask(server, FILE, Range="bytes=0-1,5-9")
    kind = reply.headers["Content-Type"]
    assert (reply.status, kind.partition(";")[0]) == (206, "multipart/byteranges")
    parts = reply.body.split(b"--" + kind.partition("boundary=")[2].encode())
    heads, bodies = zip(*(part.split(b"\r\n\r\n", 1) for part in parts[1:-1]), strict=True)
    assert [body[:-2] for body in bodies] == [CONTENT[0:2], CONTENT[5:10]]
    assert b"Content-range: bytes 5-9/%d" % SIZE in heads[1]
    assert [tuple(r) for r in server.log[-1].ranges] == [(0, 2), (5, 10)]
    server.many_ranges = False
    assert ask(server, FILE, Range="bytes=0-1,5-9").status == 200


def test_range_behind_the_end_is_416(server):
    reply = ask(server, FILE, Range=f"bytes={SIZE}-")
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"


def test_head_and_validators(server):
    head, get = ask(server, FILE, "HEAD"), ask(server, FILE)
    assert head.body == b""
    assert head.headers["Content-Length"] == str(SIZE)
    assert head.headers["ETag"] == get.headers["ETag"] == f'"{SIZE:x}-{1619590500250000:x}"'
    assert head.headers["Last-Modified"] == "Wed, 28 Apr 2021 06:15:00 GMT"
    assert head.headers["Content-Type"] == "image/tiff"
    etag = get.headers["ETag"]
    assert ask(server, FILE, Range="bytes=0-1", If_Range=etag).status == 206
    assert ask(server, FILE, Range="bytes=0-1", If_Range='"other"').status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        FILE + "/",
        FILE[:-1],
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/S2_L3A_WASP/..%2f..%2fetc/passwd",
        "/S2_L3A_WASP/%5c..%5cx",
        "/C:/x",
        "/a%00b",
    ],
)
def test_what_is_not_there_is_404(server, path):
    reply = ask(server, path)
    assert reply.status == 404
    assert reply.headers["Content-Type"].startswith("text/html")


def test_only_get_and_head(server):
    assert ask(server, FILE, "POST").status == 405


def test_latency_and_link_speed(server):
    def seconds() -> float:
        started = time.monotonic()
        ask(server, FILE)
        return time.monotonic() - started

    assert seconds() < 0.2
    server.latency_s = 0.3
    assert 0.3 <= seconds() < 0.6
    server.latency_s = 0.0
    server.bytes_per_s = SIZE / 0.3
    assert 0.3 <= seconds() < 0.6


def test_log_is_kept_cleared_or_never_begun(server, small_root):
    ask(server, FOLDER)
    assert [(item.path, item.status, item.range) for item in server.log] == [(FOLDER, 200, None)]
    server.clear_log()
    assert server.log == []
    with SampleServer(small_root, log=False) as silent:
        ask(silent, FOLDER)
        assert silent.log == []


def test_two_servers_at_once_and_none_after(small_root):
    with SampleServer(small_root) as first, SampleServer(small_root) as second:
        assert first.origin != second.origin
        assert first.url == first.origin + "/S2_L3A_WASP/files/"
        assert ask(first, "/").status == ask(second, "/").status == 200
        origin = first.origin
    with pytest.raises(RuntimeError, match="not running"):
        _ = first.origin
    with (
        pytest.raises(OSError, match=r".*"),
        closing(
            http.client.HTTPConnection(*urlsplit(origin).netloc.split(":"), timeout=2)
        ) as connection,
    ):
        connection.request("GET", "/")


def test_no_free_port_is_had_twice():
    """Else a test sees what was remembered of another test's server (it happened)."""
    ports = []
    for _ in range(1000):
        with listen() as listener:
            ports.append(listener.getsockname()[1])
    assert len(set(ports)) == 1000
    with listen(ports[0]) as listener:  # who asks for one gets it
        assert listener.getsockname()[1] == ports[0]


def test_port_in_use_is_an_error(server, small_root):
    port = urlsplit(server.origin).port
    with pytest.raises(OSError, match="address"):
        SampleServer(small_root, port=port).start()


# --- the faults ----------------------------------------------------------------------------

ASKED = "bytes=512-1023"
PART = CONTENT[512:1024]


def test_fault_counts_skips_and_ends(server):
    server.faults = [Fault(match=r"_B2\.tif$", kind="status", status=503, count=2, skip=1)]
    assert [ask(server, FILE).status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert ask(server, FOLDER).status == 200
    server.faults = [Fault(match="B2", kind="status", status=429, headers={"Retry-After": "6"})]
    reply = ask(server, FILE)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "6")
    server.faults.clear()
    assert ask(server, FILE).status == 200


def test_fault_for_each_range_and_for_some(server):
    server.faults = [Fault(match="tif$", kind="status", count=1, each=True, min_start=100)]
    asked = ["bytes=0-9", "bytes=100-109", "bytes=100-109", "bytes=200-209", "bytes=200-209"]
    assert [ask(server, FILE, Range=a).status for a in asked] == [206, 503, 206, 503, 206]
    server.faults = [Fault(match="tif$", kind="status", max_start=100, method="GET")]
    assert ask(server, FILE, Range="bytes=0-9").status == 503
    assert ask(server, FILE, Range="bytes=100-109").status == 206
    assert ask(server, FILE, "HEAD").status == 200


def test_fault_by_chance_repeats(server):
    runs = []
    for _ in range(2):
        server.faults = [Fault(match="tif$", kind="status", probability=0.5, seed=4)]
        runs.append([ask(server, FILE, Range="bytes=0-9").status for _ in range(20)])
    assert runs[0] == runs[1]
    assert 3 < runs[0].count(503) < 17


def test_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        Fault(match="x", kind="gremlin")
    with pytest.raises(re.error):
        Fault(match="(", kind="status")


@pytest.mark.parametrize(
    ("kind", "status", "label", "body"),
    [
        ("ignore_range", 200, None, CONTENT),
        ("wrong_range", 206, f"bytes 528-1039/{SIZE}", CONTENT[528:1040]),
        ("lying_range", 206, f"bytes 512-1023/{SIZE}", CONTENT[528:1040]),
        ("short", 206, f"bytes 512-1023/{SIZE}", PART[:256]),
        ("short_range", 206, f"bytes 512-767/{SIZE}", PART[:256]),
        ("wrong_total", 206, f"bytes 512-1023/{SIZE + 1}", PART),
        ("no_content_range", 206, None, PART),
        ("zeros", 206, f"bytes 512-1023/{SIZE}", bytes(512)),
        ("flip", 206, f"bytes 512-1023/{SIZE}", PART[:256] + b"\x10" + PART[257:]),
        ("extra", 206, f"bytes 512-1023/{SIZE}", PART),
    ],
)
def test_fault_in_a_range(server, kind, status, label, body):
    server.faults = [Fault(match="tif$", kind=kind, count=1)]
    reply = ask(server, FILE, Range=ASKED)
    assert (reply.status, reply.headers["Content-Range"]) == (status, label)
    assert reply.body == body
    assert server.log[0].bytes_sent == len(body) + (16 if kind == "extra" else 0)
    assert ask(server, FILE, Range=ASKED).body == PART


@pytest.mark.parametrize("kind", ["html", "html_range"])
def test_fault_html(server, kind):
    server.faults = [Fault(match="tif$", kind=kind)]
    reply = ask(server, FILE, Range=ASKED)
    assert reply.status == (200 if kind == "html" else 206)
    assert reply.headers["Content-Type"] == "text/html;charset=UTF-8"
    assert reply.body.startswith(b"<!DOCTYPE html>")
    assert kind == "html" or len(reply.body) == 512


def test_fault_redirect_and_etag(server):
    server.faults = [Fault(match="tif$", kind="redirect", location="http://x.invalid/y", count=1)]
    reply = ask(server, FILE)
    assert (reply.status, reply.headers["Location"]) == (302, "http://x.invalid/y")
    server.faults = [Fault(match="tif$", kind="etag", count=1)]
    assert ask(server, FILE).headers["ETag"] != ask(server, FILE).headers["ETag"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", ConnectionResetError),
        ("close", http.client.RemoteDisconnected),
        ("truncate", http.client.IncompleteRead),
        ("reset_mid", ConnectionResetError),
    ],
)
def test_fault_in_the_connection(server, kind, error):
    server.faults = [Fault(match="tif$", kind=kind, count=1)]
    with pytest.raises(error) as caught:
        ask(server, FILE, Range=ASKED)
    if kind == "truncate":
        assert caught.value.partial == PART[:256]
    [logged] = server.log
    assert logged.status == (0 if kind in ("reset", "close") else 206)
    assert ask(server, FILE, Range=ASKED).body == PART


@pytest.mark.parametrize("kind", ["stall", "stall_mid", "drip"])
def test_fault_in_time(server, kind):
    seconds = 0.03 if kind == "drip" else 0.3
    server.faults = [Fault(match="tif$", kind=kind, seconds=seconds, count=1)]
    started = time.monotonic()
    assert ask(server, FILE, Range="bytes=512-522").body == PART[:11]
    assert 0.28 <= time.monotonic() - started < 2


def test_a_stalled_request_does_not_hold_up_the_end(small_root):
    with SampleServer(small_root) as server:
        server.faults = [Fault(match="tif$", kind="stall", seconds=600)]
        port = urlsplit(server.origin).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", FILE)
        while not server.log:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    connection.close()
