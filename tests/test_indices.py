"""Indices: numpy's own arithmetic on reflectance, nodata as NaN, names and units."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import rasterio

from s2l3a_xr import SelectionError, open_l3a, to_geotiff
from s2l3a_xr._sample import SAMPLE_AOI

spyndex = pytest.importorskip("spyndex")

BANDS = ["blue", "B3", "B4", "B5", "B8", "B8A", "B11", "B12"]


@pytest.fixture
def da(server):
    return open_l3a(SAMPLE_AOI, time="2021-05/2021-06", bands=BANDS, archive=server.url)


@pytest.fixture
def bands(da):
    pixels = da.to_numpy().astype(float)
    pixels[pixels == -10000] = np.nan
    return dict(zip(da.native_name.to_numpy(), pixels.swapaxes(0, 1) / 10000, strict=True))


def test_ndvi(da, bands):
    ndvi = da.l3a.ndvi()
    assert ndvi.chunks is not None
    assert (ndvi.name, ndvi.dims, ndvi.dtype) == ("ndvi", ("time", "y", "x"), np.float32)
    assert ndvi.attrs["units"] == "1"
    assert ndvi.attrs["long_name"] == "Normalized Difference Vegetation Index"
    assert ndvi.rio.crs == da.rio.crs
    expected = (bands["B8"] - bands["B4"]) / (bands["B8"] + bands["B4"])
    assert np.isnan(expected).any()
    np.testing.assert_allclose(ndvi, expected, rtol=1e-5, atol=1e-6)


def test_ndvi_is_spyndex_ndvi(da):
    np.testing.assert_allclose(da.l3a.ndvi(), da.l3a.index("NDVI"), rtol=1e-5, atol=1e-6)


def test_evi_is_of_reflectance(da, bands):
    evi = da.l3a.index("EVI")
    nir, red, blue = bands["B8"], bands["B4"], bands["B2"]
    expected = 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)
    np.testing.assert_allclose(evi, expected, rtol=1e-4, atol=1e-5)
    assert evi.attrs["long_name"] == "Enhanced Vegetation Index"
    assert (evi.attrs["units"], evi.attrs["C1"], evi.attrs["g"]) == ("1", 6.0, 2.5)
    assert evi.attrs["references"].startswith("https://doi.org/")


def test_bands_of_20_m_constants_and_any_case(da, bands):
    moisture = (bands["B8"] - bands["B11"]) / (bands["B8"] + bands["B11"])
    np.testing.assert_allclose(da.l3a.index("ndmi"), moisture, rtol=1e-5, atol=1e-6)
    savi = da.l3a.index("SAVI", L=0.25)
    nir, red = bands["B8"], bands["B4"]
    np.testing.assert_allclose(savi, 1.25 * (nir - red) / (nir + red + 0.25), rtol=1e-4, atol=1e-5)
    assert savi.attrs["L"] == 0.25


def test_all_ways_to_the_same_index(server, da):
    expected = da.l3a.index("EVI").compute()
    scaled = open_l3a(
        SAMPLE_AOI, time="2021-05/2021-06", bands=BANDS, archive=server.url, mask_and_scale=True
    )
    for same in (scaled, da.l3a.masked(), da.compute()):
        np.testing.assert_allclose(same.l3a.index("EVI"), expected, rtol=1e-4, atol=1e-6)


def test_what_is_masked_has_no_index(server):
    keywords = {"time": "2021-04", "bands": ["B4", "B8"], "archive": server.url}
    masked = open_l3a(SAMPLE_AOI, mask="cloud", **keywords)
    is_cloud = (masked.l3a.flags() == 1).to_numpy()
    assert is_cloud.any()
    assert masked.l3a.ndvi().isnull().to_numpy()[is_cloud].all()


def test_zero_by_zero_has_no_value(da):
    zero = da.isel(time=[0], x=slice(500, 502), y=slice(500, 502)).compute() * 0
    assert zero.l3a.ndvi().isnull().all()
    assert zero.l3a.index("CIG").isnull().all()


def test_indices_can_be_exported(da, tmp_path):
    ndvi = da.isel(time=[0]).l3a.ndvi()
    (path,) = to_geotiff(ndvi, tmp_path, progress=False)
    assert path.name == "s2_l3a_20210515_ndvi.tif"
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1, masked=True).filled(np.nan), ndvi[0])


@pytest.mark.parametrize(
    ("name", "constants", "told"),
    [
        ("EVY", {}, "no index 'EVY' .perhaps .*EVI"),
        ("kNDVI", {}, "needs kNN, kNR"),
        ("NDVI", {"L": 1}, "no constant 'L'; it has none"),
        ("SAVI", {"L": "much"}, "L='much' of SAVI must be a number"),
        (5, {}, "no index 5"),
        ("EVI", {"q": 1}, "no constant 'q'; it has g, C1, C2, L"),
        ("IRECI", {}, "has not got B7, B6; open it with bands="),
    ],
)
def test_what_can_not_be_computed_is_told(da, name, constants, told):
    with pytest.raises(SelectionError, match=told):
        da.l3a.index(name, **constants)


def test_ndvi_without_its_bands(server):
    da = open_l3a(SAMPLE_AOI, time="2021-05", bands=["B4", "FLG"], archive=server.url)
    with pytest.raises(SelectionError, match=r"has not got B8; .*'B4', 'FLG', 'B8'"):
        da.l3a.ndvi()


def test_indices_by_name_without_spyndex(da, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "spyndex":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"s2l3a_xr\[indices\]"):
        da.l3a.index("EVI")
    da.l3a.ndvi()
