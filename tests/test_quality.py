"""Statistics of the masks: equal to counting in the files."""

from __future__ import annotations

import warnings

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.mask
import shapely

from s2l3a_xr import (
    GoneError,
    MaskedWarning,
    MissingWarning,
    SelectionError,
    open_l3a,
    save_archive,
    search_l3a,
)
from s2l3a_xr._sample import SAMPLE_AOI, Fault

CLASSES = ["nodata", "cloud", "snow", "water", "land"]
COLUMNS = [*CLASSES, "pixels", "mean_weight", "first_date", "last_date"]
MONTHS = (3, 4, 5, 6, 8, 9, 10)
TWO_TILES = (11.9, 51.95, 12.1, 52.0)


def count_in_files(root, month, resolution="R1"):
    """Clip the raw masks of one month with rasterio, and count."""
    (folder,) = root.glob(f"S2_L3A_WASP/files/32/U/PC/2021/*_2021{month:02}15-*/MASKS")
    area = gpd.GeoSeries([shapely.geometry.shape(SAMPLE_AOI)], crs=4326).to_crs(32632)
    layers = {}
    for name in ("FLG", "WGT", "DTS"):
        (path,) = folder.glob(f"*_{name}_{resolution}.tif")
        with rasterio.open(path) as file:
            nothing = 255 if name == "FLG" else -10000
            layers[name], _ = rasterio.mask.mask(file, area, crop=True, nodata=nothing)
    inside = layers["FLG"] != 255
    flags, weights, days = (layers[name][inside] for name in ("FLG", "WGT", "DTS"))
    weights, days = weights[weights != -10000], days[days != -10000]
    begin = pd.Timestamp("2021-01-01")
    return {
        **{name: np.mean(flags == value) for value, name in enumerate(CLASSES)},
        "pixels": int(inside.sum()),
        "mean_weight": weights.mean() / 1000,
        "first_date": begin + pd.Timedelta(days=int(days.min())),
        "last_date": begin + pd.Timedelta(days=int(days.max())),
    }


@pytest.fixture
def da(server):
    keywords = {"years": 2021, "months": MONTHS, "archive": server.url}
    return open_l3a(SAMPLE_AOI, bands=["B4", "B8"], **keywords)


@pytest.fixture
def table(da):
    return da.l3a.quality()


def test_shares_are_those_of_the_files(table, da, sample_root):
    assert table.columns.tolist() == COLUMNS
    assert table.index.name == "time"
    np.testing.assert_array_equal(table.index, da.time)
    np.testing.assert_allclose(table[CLASSES].sum(axis=1), 1, rtol=0, atol=1e-12)
    for month, (_, row) in zip(MONTHS, table.iterrows(), strict=True):
        for name, value in count_in_files(sample_root, month).items():
            if name in ("pixels", "first_date", "last_date"):
                assert row[name] == value, (month, name)
            else:
                assert row[name] == pytest.approx(value, abs=1e-12), (month, name)


def test_the_masks_alone_are_read_at_full_resolution(fresh_server):
    da = open_l3a(SAMPLE_AOI, time="2021-04", bands="B4", archive=fresh_server.url)
    fresh_server.clear_log()
    da.l3a.quality()
    paths = [entry.path for entry in fresh_server.log]
    assert {path[-10:] for path in paths} == {f"{name}_R1.tif" for name in ("FLG", "WGT", "DTS")}
    exact = sum(entry.bytes_sent for entry in fresh_server.log)
    fresh_server.clear_log()
    da.l3a.quality(approximate=True)
    assert {entry.path[-6:] for entry in fresh_server.log} == {"R2.tif"}
    assert sum(entry.bytes_sent for entry in fresh_server.log) < exact


def test_approximate_shares_are_near(da, table):
    near = da.l3a.quality(approximate=True)
    np.testing.assert_allclose(near[CLASSES], table[CLASSES], atol=0.002)
    np.testing.assert_allclose(near["pixels"] * 4, table["pixels"], rtol=0.01)
    np.testing.assert_allclose(near[CLASSES].sum(axis=1), 1)


def test_bands_of_20_m_use_the_masks_of_20_m(server, sample_root):
    da = open_l3a(SAMPLE_AOI, time="2021-04", bands="B11", archive=server.url)
    row, counted = da.l3a.quality().iloc[0], count_in_files(sample_root, 4, "R2")
    assert row["pixels"] == counted["pixels"]
    assert row["cloud"] == pytest.approx(counted["cloud"])


def test_quality_of_a_part_is_that_of_its_pixels(da):
    part = da.isel(time=[3, 0], x=slice(100, 300), y=slice(50, 400))
    flags = part.l3a.flags().compute()
    table = part.l3a.quality()
    np.testing.assert_array_equal(table.index, part.time)
    for (_, row), month in zip(table.iterrows(), flags, strict=True):
        inside = month != 255
        assert row["pixels"] == inside.sum()
        for value, name in enumerate(CLASSES):
            assert row[name] == pytest.approx(float((month == value).sum() / inside.sum()))


def test_quality_of_reflectance_means_and_reversed_rows(da, server, table):
    scaled = open_l3a(
        SAMPLE_AOI, years=2021, months=MONTHS, archive=server.url, mask_and_scale=True
    )
    for same in (scaled, da.l3a.masked(), da.sel(band="B4", drop=True), da[:, :, ::-1]):
        pd.testing.assert_frame_equal(same.l3a.quality(), table)
    no_dask = open_l3a(
        SAMPLE_AOI, years=2021, months=MONTHS, archive=server.url, chunks=None, mask="cloud"
    )
    pd.testing.assert_frame_equal(no_dask.l3a.quality(), table)


def test_it_does_not_matter_how_the_work_is_cut(da, table):
    with dask.config.set({"array.chunk-size": "2MiB"}):
        pd.testing.assert_frame_equal(da.l3a.quality(), table)
    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(da.l3a.quality(), table)


def test_where_tiles_overlap_and_end(server):
    da = open_l3a(TWO_TILES, time="2021-05", bands=["B4", "FLG"], archive=server.url)
    pixels = da.compute()
    table = da.l3a.quality()
    flags = pixels.sel(band="FLG")
    inside = flags != -10000
    assert table["pixels"].iloc[0] == inside.sum()
    assert table["cloud"].iloc[0] == pytest.approx(float((flags == 1).sum() / inside.sum()))


def test_a_month_that_is_missing_is_nodata(server):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingWarning)
        da = open_l3a(
            SAMPLE_AOI, time="2021-06/2021-08", bands="B4", archive=server.url, missing="keep"
        )
    table = da.l3a.quality()
    assert table["nodata"].tolist()[1] == 1
    assert len({*table["pixels"]}) == 1
    assert np.isnan(table["mean_weight"].iloc[1])
    assert pd.isna(table["first_date"].iloc[1])


def test_a_mask_that_is_gone_is_an_error_and_no_nodata(fresh_server, tmp_path):
    da = open_l3a(SAMPLE_AOI, time="2021-04", archive=fresh_server.url, missing="keep")
    fresh_server.faults = [Fault(match=r"FLG_R\d\.tif$", kind="status", status=404)]
    with pytest.raises(
        GoneError, match=r"FLG_R1.*; without it .* a mirror has the masks that"
    ) as told:
        da.l3a.quality()
    assert "missing='warn'" not in str(told.value)  # it does not help here
    with pytest.warns(MissingWarning, match="don't say how much is masked"):
        da.l3a.quicklook(tmp_path / "month.png")


def test_a_computed_or_coarsened_array_does_not_know(da):
    with pytest.raises(SelectionError, match="ask the array that was opened"):
        da.isel(time=[0]).compute().l3a.quality()
    with pytest.raises(SelectionError, match="coarsened"):
        da.coarsen(x=2, y=2, boundary="trim").mean().l3a.quality()


def test_nothing_to_count_is_told(da):
    with pytest.raises(SelectionError, match="no pixels to count"):
        da.isel(y=slice(0)).l3a.quality()
    with pytest.raises(SelectionError, match="no pixels to count"):
        da.isel(time=slice(0)).l3a.select_clear(0.2)
    for timeless in (da.isel(time=0, drop=True), da.mean("time")):
        with pytest.raises(SelectionError, match="no time"):
            timeless.l3a.quality()
        with pytest.raises(SelectionError, match="no time"):
            timeless.l3a.flags()


def test_months_that_are_not_clear_are_left_out_and_told(da, table):
    masked = table[["nodata", "cloud", "snow"]].sum(axis=1)
    limit = masked.median()
    with pytest.warns(MaskedWarning) as told:
        clear = da.l3a.select_clear(limit)
    np.testing.assert_array_equal(clear.time, table.index[masked <= limit])
    (text,) = [str(item.message) for item in told]
    for when, share in masked.items():
        assert (f"{when:%Y-%m} ({share:.1%})" in text) == (share > limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert da.l3a.select_clear(1).sizes == da.sizes
    least = table[["nodata", "water"]].sum(axis=1).min()
    with pytest.warns(MaskedWarning, match=r"nodata, water"):
        assert 0 < da.l3a.select_clear(least, mask="water").sizes["time"] < len(MONTHS)


def test_open_leaves_out_months_and_says_why(server, table):
    masked = table[["nodata", "cloud", "snow"]].sum(axis=1)
    limit = float(masked.median())
    keywords = {"years": 2021, "months": MONTHS, "bands": ["B4"], "archive": server.url}
    with pytest.warns(MaskedWarning, match=r"nodata, cloud, snow") as told:
        da = open_l3a(SAMPLE_AOI, max_masked=limit, **keywords)
    assert told[0].filename == __file__
    assert list(da.band.values) == ["B4"]
    np.testing.assert_array_equal(da.time, table.index[masked <= limit])
    plain = open_l3a(SAMPLE_AOI, **keywords).sel(time=da.time)
    np.testing.assert_array_equal(da, plain)
    with pytest.raises(SelectionError, match=r"no month.*2021-04 \("):
        open_l3a(SAMPLE_AOI, max_masked=0, mask="land", **keywords)


def test_a_limit_is_met_by_what_equals_it(tmp_path, lay_file):
    """9/28 + 18/28 + 1/28 is more than 1 in floating point."""
    flags = np.repeat(np.array([0, 1, 2], np.uint8), (9, 18, 1)).reshape(4, 7)
    shorts = np.full((4, 7), 1, np.int16)
    for band, pixels in {"FLG": flags, "WGT": shorts, "DTS": shorts, "B4": shorts}.items():
        lay_file(tmp_path, pixels, band=band, resolution_m=10)
    area = gpd.GeoSeries([shapely.box(600_000, 5_799_980, 600_070, 5_800_020)], crs=32632)
    archive = tmp_path / "S2_L3A_WASP" / "files"
    da = open_l3a(area, time="2021-03", bands="B4", archive=archive, max_masked=1)
    assert sum(da.l3a.quality().iloc[0][["nodata", "cloud", "snow"]]) > 1
    assert da.l3a.select_clear(1).sizes["time"] == 1


@pytest.mark.parametrize("share", [-0.1, 20, "0.2", True, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(SelectionError, match="0 to 1"):
        open_l3a(SAMPLE_AOI, time="2021-05", max_masked=share)


def test_quality_on_a_cluster(da, table):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster) as client:
        pd.testing.assert_frame_equal(da.l3a.quality(), table)
        seen = client.run(lambda: "s2l3a_xr._quality" in __import__("sys").modules)
        assert any(seen.values())


def test_a_mirror_with_masks_of_one_size_is_enough(server, tmp_path):
    asked = {"time": "2021-04", "bands": ["B2", "B3", "B4"]}
    masks = {"bands": [*asked["bands"], "FLG", "WGT", "DTS"]}
    found = search_l3a(SAMPLE_AOI, archive=server.url, **asked | masks)
    save_archive(found, tmp_path / "mirror", progress=False)
    da = open_l3a(SAMPLE_AOI, archive=tmp_path / "mirror", **asked)
    exact, rough = da.l3a.quality(), da.l3a.quality(approximate=True)
    pd.testing.assert_frame_equal(rough[["cloud", "land"]], exact[["cloud", "land"]], atol=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        da.l3a.quicklook(tmp_path / "month.png")
