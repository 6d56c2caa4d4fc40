"""Real pixels: what the original script wrote comes out again, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import s2l3a_xr
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import SampleServer
from s2l3a_xr._tiles import SIDE_M, tile_named

REGIONS = {"coastal_landscape": "32UME", "magdeburger_boerde": "32UPC"}
NATIVE = {band.common: band for band in BANDS.values()}
SIDE = SIDE_M // 10


def put_back(crop: Path, tile_name: str, root: Path) -> None:
    """Lay a clipped file at its true place into a full-size tile, with noise around it."""
    tile = tile_named(tile_name)
    _, _, day, common = crop.stem.split("_")
    product = Product(tile=tile_name, year=int(day[:4]), month=int(day[4:6]))
    with rasterio.open(crop) as file:
        pixels, corner, crs = file.read(1), file.transform, file.crs
    row, column = round((tile.top - corner.f) / 10), round((corner.c - tile.left) / 10)
    rng = np.random.default_rng(row + product.month)
    around = 600
    top, left = max(0, row - around), max(0, column - around)
    height, width = (
        min(SIDE, a + n + around) for a, n in zip((row, column), pixels.shape, strict=True)
    )
    full = rng.integers(0, 4000, (height - top, width - left)).astype("int16")
    inner = full[row - top :, column - left :][: pixels.shape[0], : pixels.shape[1]]
    inner[pixels != -10000] = pixels[pixels != -10000]
    target = root / "S2_L3A_WASP" / "files" / product.file(NATIVE[common], 10)
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        target, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="int16", crs=crs,
        transform=from_origin(tile.left, tile.top, 10, 10), nodata=-10000, tiled=True,
        blockxsize=256, blockysize=256, compress="DEFLATE", zlevel=1, sparse_ok=True,
    ) as file:  # fmt: skip
        file.write(full, 1, window=rasterio.windows.Window(left, top, *full.shape[::-1]))


@pytest.fixture(scope="module", params=REGIONS)
def region(request, shared_data, tmp_path_factory):
    """Give a region's golden folder, and a server with its tile."""
    folder = shared_data / "wasp_2021" / request.param
    if not folder.is_dir():
        pytest.skip(f"no golden files: {folder} is missing")
    root = tmp_path_factory.mktemp(request.param)
    for crop in sorted(folder.glob("*.tif")):
        put_back(crop, REGIONS[request.param], root)
    with SampleServer(root) as server:
        yield folder, server


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
@pytest.mark.parametrize("profile", ["compressed", "plain", "cog"])
def test_every_golden_file_comes_out_again(region, tmp_path, profile):
    folder, server = region
    da = s2l3a_xr.open_l3a(
        folder / "aoi.geojson", years=[2021], months=range(3, 11), archive=server.url
    )
    written = s2l3a_xr.to_geotiff(da, tmp_path, profile=profile, progress=False)
    expected = sorted(folder.glob("*.tif"))
    assert [path.name for path in sorted(written)] == [path.name for path in expected]
    for path in expected:
        with rasterio.open(path) as golden, rasterio.open(tmp_path / path.name) as ours:
            np.testing.assert_array_equal(ours.read(1), golden.read(1), err_msg=path.name)
            for fact in ("shape", "transform", "crs", "nodata", "dtypes", "count"):
                assert getattr(ours, fact) == getattr(golden, fact), (path.name, fact)


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
def test_the_cover_is_the_script_s_tile(region):
    folder, server = region
    inventory = s2l3a_xr.search_l3a(folder / "aoi.geojson", years=2021, archive=server.url)
    assert inventory.tiles == (REGIONS[folder.name],)
    assert inventory.available == len(list(folder.glob("*.tif")))
