"""Tiles of several zones and other grids: against rasterio's warp of the merged files."""

from __future__ import annotations

import pickle

import dask
import geopandas as gpd
import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import rasterio.merge
import shapely
from hypothesis import HealthCheck, given, settings
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from s2l3a_xr import open_l3a, search_l3a, to_geotiff
from s2l3a_xr._cube import find_array
from s2l3a_xr._sample import SampleServer

# Pixels of the noise in each tile at 10 m: 32UQC's eastern border, and what of 33UUT lies under
# it and beyond; 32UPC's and 32UQC's overlap.
PLACES = {"32UQC": ((5000, 10280), (900, 700)), "33UUT": ((4560, 8900), (1500, 1700))}
EAST = 809_760
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


@pytest.fixture(scope="module")
def site(tmp_path_factory, lay_file):
    """Serve an archive of two tiles in two zones that overlap."""
    root = tmp_path_factory.mktemp("zones")
    for tile, (at, (height, width)) in PLACES.items():
        lay_file(root, noise(tile), tile=tile, at=at)
        lay_file(root, noise(tile, "B8", holes=0), tile=tile, at=at, band="B8")
        half = tuple(i // 2 for i in at)
        coarse = noise(tile, "B11", shape=(height // 2, width // 2))
        lay_file(root, coarse, tile=tile, at=half, band="B11")
        flags = noise(tile, "FLG", shape=(height, width))
        lay_file(root, flags, tile=tile, at=at, band="FLG", resolution_m=10)
    with SampleServer(root) as server:
        server.root = root
        yield server


def open_area(site, area=ACROSS, crs="EPSG:32632", **options):
    options = {"time": MONTH, "bands": "B4", **options}
    return open_l3a(gpd.GeoSeries([area], crs=crs), archive=site.url, **options)


def file_of(site, tile, band, month=3):
    """Find a band's file."""
    name = {"FLG": "FLG_R1"}.get(band, f"FRC_{band}")
    return next(site.root.rglob(f"*2021{month:02}15*T{tile}*_{name}.tif"))


def warped(da, paths, kernel, scale=1.0):
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
                nodata=nodata, XSCALE=scale, YSCALE=scale,
            ) as result,
        ):  # fmt: skip
            return result.read(1)


def expected(site, da, band="B4", kernel="nearest", *, area=None, crs="EPSG:32632", scale=1.0):
    """The grid's own zone, then the other one where that has no data; clipped."""
    zones = sorted({tile[:2] for tile in da.attrs["tiles"]})
    home = str(da.rio.crs.to_epsg())[-2:]
    zones.sort(key=lambda zone: zone != home)
    planes = [
        warped(
            da,
            [file_of(site, t, band) for t in da.attrs["tiles"] if t[:2] == zone],
            kernel,
            scale,
        )
        for zone in zones
    ]
    nodata = 255 if planes[0].dtype == np.uint8 else -10000
    result = planes[0]
    for plane in planes[1:]:
        empty = (result == nodata) | ((result == 0) & (band == "FLG") & (plane != nodata))
        result = np.where(empty, plane, result)
    if area is not None:
        shapes = gpd.GeoSeries([area], crs=crs).to_crs(da.rio.crs)
        outside = rasterio.features.geometry_mask(shapes, da.shape[2:], da.rio.transform(recalc=True))
        result = np.where(outside, nodata, result)
    return result


KERNELS = ["nearest", "bilinear", "cubic", "average"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_area_over_two_zones(site, kernel):
    da = open_area(site, WIDE, resampling=kernel)
    assert set(da.attrs["tiles"]) == {"32UQC", "33UUT"}
    part = da.isel(x=slice(-900, None))
    value = part.values[0, 0]
    np.testing.assert_array_equal(value, expected(site, part, kernel=kernel, area=WIDE))
    beyond = value[:, part.x.values > EAST]
    assert (beyond != -10000).sum() > 10_000
