"""Masks: what FLG hides, whose FLG decides, and what the layers' numbers mean."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr

from s2l3a_xr import (
    FormatError,
    MissingError,
    MissingWarning,
    ReadFailedWarning,
    SelectionError,
    extract_l3a,
    open_l3a,
    search_l3a,
    to_geotiff,
)
from s2l3a_xr._flags import CLASSES, class_table, decode_days, hiding_table, read_classes
from s2l3a_xr._sample import SAMPLE_AOI, Fault

AOI = (11.68, 51.94, 11.74, 51.98)
TWO_ZONES = (11.95, 51.95, 12.3, 52.0)
MONTHS = "2021-03/2021-05"


def hide(plain, flags, classes=(1, 2)):
    """Do to whole arrays what `mask=` does while reading."""
    return xr.where(np.isin(flags, classes), np.int16(-10000), plain)


@pytest.mark.parametrize(
    ("mask", "numbers"),
    [
        (None, ()), (False, ()), ("cloud", (1,)), (4, (4,)), (("snow", 1), (1, 2)),
        ({"Water", " cloud "}, (1, 3)), (np.array([2, 1]), (1, 2)), (range(5), (0, 1, 2, 3, 4)),
    ],
)  # fmt: skip
def test_classes_by_name_or_number(mask, numbers):
    assert read_classes(mask) == numbers


@pytest.mark.parametrize(
    "mask", [True, "clouds", 5, -1, (), ("cloud", "shadow"), 1.5, "cloud,snow"]
)
def test_unknown_classes_are_told_with_the_list(mask):
    with pytest.raises(SelectionError, match="0 'nodata', 1 'cloud', 2 'snow', 3 'water'"):
        open_l3a(AOI, time="2021-05", mask=mask)


def test_a_strange_encoding_is_refused():
    with pytest.raises(SelectionError, match=r"'classes'.*'bits'"):
        open_l3a(AOI, time="2021-05", flag_encoding="enum")


@pytest.mark.parametrize("classes", [("cloud", "snow"), "water", 4])
def test_masked_pixels_are_nodata_and_all_others_as_they_are(server, classes):
    bands = ["B4", "B11"]
    keywords = {"time": MONTHS, "archive": server.url}
    plain = open_l3a(SAMPLE_AOI, bands=bands, **keywords).compute()
    flags = open_l3a(SAMPLE_AOI, bands="FLG", **keywords).compute().to_numpy()
    masked = open_l3a(SAMPLE_AOI, bands=bands, mask=classes, **keywords)
    assert list(masked.band.values) == bands
    expected = hide(plain, flags, read_classes(classes))
    assert (expected != plain).any()
    np.testing.assert_array_equal(masked, expected)


def test_nothing_is_read_when_it_is_opened_and_flg_once_for_all_bands(fresh_server):
    da = open_l3a(AOI, time="2021-04", mask="cloud", archive=fresh_server.url)
    assert not [entry for entry in fresh_server.log if entry.path.endswith(".tif")]
    told = da.l3a.plan()
    assert (told.groupby("band")["blocks"].sum() == told["blocks"].sum() / 5).all()
    fresh_server.clear_log()
    da.compute()
    of_flags = [entry for entry in fresh_server.log if "_FLG_R1" in entry.path]
    assert len(of_flags) == 1  # its header was read for the plan


def test_a_grid_of_20_m_is_masked_by_the_masks_of_20_m(server):
    da = open_l3a(AOI, time="2021-04", bands=["B11"], mask="cloud", archive=server.url)
    assert set(da.l3a.plan()["url"].str[-10:]) == {"FRC_B11.tif"[-10:], "FLG_R2.tif"}
    plain = open_l3a(AOI, time="2021-04", bands=["B11", "FLG"], archive=server.url).compute()
    np.testing.assert_array_equal(da[:, 0], hide(plain[:, 0], plain[:, 1].to_numpy(), (1,)))


@pytest.fixture
def two_zones(fresh_server):
    """Serve the archive without 32UQC, which has all of the area: 32UPC and 33UUT are left."""
    fresh_server.faults = [Fault(match="/32/U/QC/", kind="status", status=404)]
    return fresh_server


_BETWEEN_THEM = pytest.mark.filterwarnings("ignore:.*lies outside the tiles")


@pytest.mark.parametrize(
    "grid",
    [
        {},
        {"crs": "EPSG:32632"},
        {"crs": "EPSG:3035"},
        {"crs": "EPSG:3035", "resolution": 60, "use_overviews": False},
    ],
)
@_BETWEEN_THEM
def test_masks_of_areas_over_two_zones(two_zones, grid):
    keywords = {"time": "2021-04", "archive": two_zones.url, **grid}
    plain = open_l3a(TWO_ZONES, bands=["B4", "FLG"], **keywords).compute()
    masked = open_l3a(TWO_ZONES, bands=["B4"], mask=("cloud", "snow"), **keywords)
    assert masked.attrs["tiles"] == ["32UPC", "33UUT"]
    expected = hide(plain[:, 0], plain[:, 1].to_numpy())
    assert 0.001 < float((expected != plain[:, 0]).mean()) < 0.5
    np.testing.assert_array_equal(masked[:, 0], expected)
    row = masked.l3a.quality().iloc[0]
    counts = [int((plain[0, 1] == value).sum()) for value in range(1, 5)]
    np.testing.assert_allclose((row[list(CLASSES[1:])] * row["pixels"]).astype(float), counts)
    between = row["nodata"] * row["pixels"] - int((plain[0, 1] == 0).sum())
    assert between == pytest.approx(0.095 * row["pixels"], rel=0.05)  # the tiles: nodata as well


def test_means_leave_out_what_is_masked(server):
    keywords = {"time": "2021-04", "bands": "B4", "mask": "cloud", "archive": server.url}
    fine = open_l3a(AOI, clip=False, **keywords).compute()
    coarse = open_l3a(AOI, clip=False, resolution=50, resampling="average", **keywords).compute()
    inner = {"x": slice(coarse.x[2], coarse.x[-3]), "y": slice(coarse.y[2], coarse.y[-3])}
    coarse = coarse.sel(inner)
    low, high = coarse.x[0] - 25, coarse.x[-1] + 25
    fine = fine.sel(x=slice(low, high), y=slice(coarse.y[0] + 25, coarse.y[-1] - 25)).l3a.masked()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        means = fine.coarsen(x=5, y=5).mean().to_numpy()
    assert np.isnan(means).any()
    made = coarse.l3a.masked().to_numpy()
    np.testing.assert_array_equal(np.isnan(made), np.isnan(means))
    assert np.nanmax(np.abs(made - means)) <= 0.51


@_BETWEEN_THEM
def test_masks_do_not_depend_on_chunks(two_zones):
    keywords = {"time": "2021-04", "bands": "B4", "mask": "cloud", "archive": two_zones.url}
    whole = open_l3a(TWO_ZONES, **keywords)
    cut = open_l3a(TWO_ZONES, chunks={"x": 700, "y": 333}, **keywords)
    np.testing.assert_array_equal(cut, whole)
    no_dask = open_l3a(TWO_ZONES, chunks=None, **keywords)
    np.testing.assert_array_equal(no_dask[:, :, 5:90, 3], whole[:, :, 5:90, 3])


def test_overviews_are_not_read_where_pixels_are_masked(server):
    keywords = {"time": "2021-04", "bands": "B4", "archive": server.url, "resolution": 80}
    coarse = open_l3a(AOI, mask="cloud", **keywords)
    plain = open_l3a(AOI, use_overviews=False, **keywords)
    assert "comment" not in coarse.attrs
    assert coarse.attrs["masked_classes"] == ["cloud"]
    assert np.isin(coarse.to_numpy(), [*np.unique(plain), -10000]).all()


def test_a_pixel_is_judged_by_the_flg_of_its_own_tile(tmp_path, lay_file):
    # The tiles' left columns overlap; 32UPC comes first, and lacks pixels that 32UQC has.
    # 32UQC begins 9996 pixels east of 32UPC's corner.
    pixels = {"32UPC": np.full((8, 8), 400, np.int16), "32UQC": np.full((8, 8), 500, np.int16)}
    flags = {"32UPC": np.full((8, 8), 4, np.uint8), "32UQC": np.full((8, 8), 4, np.uint8)}
    pixels["32UPC"][:4] = -10000
    flags["32UPC"][:4] = 1  # says cloud of pixels that it has not got
    flags["32UQC"][0:2] = 1  # of its own
    flags["32UQC"][6:] = 1  # of pixels that the first tile gives
    flags["32UPC"][4] = 2
    for tile, column in (("32UPC", 10000), ("32UQC", 4)):
        lay_file(tmp_path, pixels[tile], tile=tile, at=(16, column))
        lay_file(tmp_path, flags[tile], tile=tile, at=(16, column), band="FLG", resolution_m=10)
    archive = tmp_path / "S2_L3A_WASP" / "files"
    aoi = _pixels_of_upc(16, 10000, 8, reach=1000)
    da = open_l3a(aoi, time="2021-03", bands="B4", archive=archive, mask=("cloud", "snow"))
    assert len(da.attrs["tiles"]) == 2
    left, top = 600000 + 100000, 5800020 - 160
    window = da.sel(x=slice(left, left + 80), y=slice(top, top - 80))[0, 0].to_numpy()
    expected = np.repeat([[-10000], [-10000], [500], [500], [-10000], [400], [400], [400]], 8, 1)
    np.testing.assert_array_equal(window, expected)


def _pixels_of_upc(row, column, size, reach=0):
    """Give an area around some pixels of 32UPC, so wide to the east and west."""
    import geopandas as gpd  # noqa: PLC0415
    import shapely  # noqa: PLC0415

    left, top = 600000 + 10 * column, 5800020 - 10 * row
    box = shapely.box(left - reach, top - 10 * size, left + 10 * size + 10 * reach, top)
    return gpd.GeoSeries([box], crs=32632)


@pytest.fixture
def small(tmp_path, lay_file):
    """Lay one tile and month, of which FLG is given."""

    def lay(flags, **more):
        layers = {"B4": np.full(flags.shape, 1234, np.int16), "FLG": flags, **more}
        for band, pixels in layers.items():
            lay_file(tmp_path, pixels, at=(1000, 1000), band=band, resolution_m=10)
        return tmp_path / "S2_L3A_WASP" / "files"

    return lay


def test_a_value_that_is_no_class_is_an_error_that_names_the_other_encoding(small):
    archive = small(np.array([[4, 4], [4, 8]], np.uint8))
    keywords = {"time": "2021-03", "archive": archive}
    area = _pixels_of_upc(1000, 1000, 2)
    with pytest.raises(FormatError, match=r"holds 8.*bitwise.*flag_encoding='bits'.*FLG_R1"):
        open_l3a(area, bands="B4", mask="cloud", **keywords).compute()
    with pytest.raises(FormatError, match="holds 8"):
        open_l3a(area, bands="FLG", **keywords).compute()
    assert (open_l3a(area, bands="B4", **keywords) == 1234).all()
    da = open_l3a(area, bands="B4", mask="cloud", fail_on_error=False, **keywords)
    with pytest.warns(ReadFailedWarning, match="holds 8"):
        assert (da.compute() == -10000).all()
    assert da.l3a.failures()["band"].tolist() == ["FLG"]


def test_flg_as_bits(small):
    shorts = np.array([[70, -10000]], np.int16)
    archive = small(np.array([[16, 18], [4, 1], [8, 0]], np.uint8), WGT=shorts, DTS=shorts)
    keywords = {"time": "2021-03", "archive": archive, "flag_encoding": "bits"}
    area = _pixels_of_upc(1000, 1000, 3).clip_by_rect(0, 0, 610020, 1e7)
    flags = open_l3a(area, bands="FLG", **keywords)
    assert flags.attrs["flag_masks"].tolist() == [1, 2, 4, 8, 16]
    assert "flag_values" not in flags.attrs
    np.testing.assert_array_equal(flags[0, 0], [[16, 18], [4, 1], [8, 0]])
    da = open_l3a(area, bands="B4", mask=("cloud", "snow"), **keywords)
    np.testing.assert_array_equal(da[0, 0] == 1234, [[True, False], [False, True], [True, True]])
    shares = da.l3a.quality().iloc[0]
    assert [round(shares[name] * 6) for name in ("nodata", "cloud", "snow", "water", "land")] == [
        2, 1, 1, 1, 1,
    ]  # fmt: skip
    small(np.array([[32]], np.uint8))
    again = open_l3a(_pixels_of_upc(1000, 1000, 1), bands="FLG", **keywords)
    with pytest.raises(FormatError, match="holds 32; as bits"):
        again.compute()


def test_tables_of_bits_and_classes_say_the_same_of_single_bits():
    for number in range(5):
        assert class_table("classes")[number] == class_table("bits")[1 << number] == number
        for hidden in range(5):
            is_hidden = hiding_table((hidden,), "classes")[number]
            assert hiding_table((hidden,), "bits")[1 << number] == is_hidden == (hidden == number)
    assert hiding_table((), "classes")[255]


def test_what_can_not_be_judged_is_nodata_and_told(fresh_server, tmp_path):
    da = open_l3a(AOI, time="2021-04", bands=["B4"], mask="cloud", archive=fresh_server.url)
    fresh_server.faults = [Fault(match=r"FLG_R1\.tif$", kind="status", status=404)]
    with pytest.warns(MissingWarning, match="FLG_R1"):
        (path,) = to_geotiff(da, tmp_path, progress=False)
    with rasterio.open(path) as file:
        assert (file.read() == -10000).all()
    fresh_server.faults = []
    again = open_l3a(AOI, time="2021-04", bands=["B4"], mask="cloud", archive=fresh_server.url)
    to_geotiff(again, tmp_path, progress=False)
    with rasterio.open(path) as file:
        assert (file.read() != -10000).any()


@pytest.fixture
def partly_judged(tmp_path, lay_file):
    """March has FLG, April has none."""
    for month in (3, 4):
        lay_file(tmp_path, np.full((2, 2), 1234, np.int16), at=(1000, 1000), month=month)
    flags = np.full((2, 2), 4, np.uint8)
    lay_file(tmp_path, flags, at=(1000, 1000), band="FLG", resolution_m=10)
    return {"bands": "B4", "archive": tmp_path / "S2_L3A_WASP" / "files"}


@pytest.mark.parametrize("wish", [{"mask": "cloud"}, {"max_masked": 0.5}])
def test_a_month_without_flg_is_left_out_and_told(partly_judged, wish):
    area = _pixels_of_upc(1000, 1000, 2)
    asked = {"time": "2021-03/2021-04", **partly_judged, **wish}
    told = r"FLG of 32UPC in 2021-04\. Months without FLG to judge by are left out: 2021-04\.$"
    with pytest.warns(MissingWarning, match=told):
        da = open_l3a(area, **asked)
    assert da["time"].dt.month.values.tolist() == [3]
    assert (da == 1234).all()
    with pytest.raises(MissingError, match="FLG of 32UPC in 2021-04"):
        open_l3a(area, **asked, missing="raise")


def test_a_month_without_flg_is_nodata_where_it_is_to_be_kept(partly_judged):
    asked = {"time": "2021-03/2021-04", "mask": "cloud", "missing": "keep", **partly_judged}
    da = open_l3a(_pixels_of_upc(1000, 1000, 2), **asked)
    assert [np.unique(month).tolist() for month in da] == [[1234], [-10000]]


def test_flg_and_bands_of_other_tiles_do_not_judge_each_other(tmp_path, lay_file):
    """In May one tile has B4 and the other FLG; in June the second has both."""
    for month in (3, 5):
        lay_file(tmp_path, np.full((600, 1380), 7, np.int16), at=(5000, 9600), month=month)
    east = {"tile": "32UQC", "at": (5000, 0)}
    for month in (3, 6):
        lay_file(tmp_path, np.full((600, 1380), 8, np.int16), month=month, **east)
    clear = np.full((600, 1380), 4, np.uint8)
    lay_file(tmp_path, clear, at=(5000, 9600), band="FLG", resolution_m=10)
    for month in (3, 5, 6):
        lay_file(tmp_path, clear, month=month, band="FLG", resolution_m=10, **east)
    area = gpd.GeoSeries([shapely.box(697_000, 5_745_000, 712_000, 5_746_000)], crs="EPSG:32632")
    asked = {"time": "2021-03/2021-06", "bands": "B4", "mask": "cloud"}
    archive = tmp_path / "S2_L3A_WASP" / "files"
    told = (
        r"nothing in 2021-04; .* (\S+)% of the area is nodata in 2021-06\. .*left out: 2021-05\.$"
    )
    with pytest.warns(MissingWarning, match=told) as record:
        da = open_l3a(area, archive=archive, **asked)
    assert da["time"].dt.month.values.tolist() == [3, 6]
    share = float(re.search(told, str(record[0].message))[1]) / 100
    assert float((da[1] == -10000).mean()) == pytest.approx(share, abs=2e-3)


def test_where_no_month_has_flg_it_is_an_error(partly_judged):
    area = _pixels_of_upc(1000, 1000, 2)
    asked = {"time": "2021-04", **partly_judged}
    for ask in (open_l3a, extract_l3a):
        with pytest.raises(MissingError, match=r"judge by FLG, which no product has.*'FLG'"):
            ask(area, mask="cloud", **asked)
    assert (open_l3a(area, **asked) == 1234).all()


@pytest.mark.parametrize("time", ["2021-03/2021-04", "2021-04"])
def test_an_inventory_that_was_not_asked_for_flg_is_no_way_round(partly_judged, time, tmp_path):
    found = search_l3a(_pixels_of_upc(1000, 1000, 2), time=time, **partly_judged)
    for inventory in (found, found.save(tmp_path / "found.json")):
        if time == "2021-04":
            for ask in (open_l3a, lambda **o: extract_l3a(_pixels_of_upc(1000, 1000, 1), **o)):
                with pytest.raises(MissingError, match="judge by FLG, which no product has"):
                    ask(inventory=inventory, mask="cloud")
            continue
        with pytest.warns(MissingWarning, match=r"left out: 2021-04\."):
            da = open_l3a(inventory=inventory, mask="cloud")
        assert da["time"].dt.month.values.tolist() == [3]
        assert da["band"].values.tolist() == ["B4"]
        assert (da == 1234).all()


def test_the_mean_of_a_field_leaves_months_without_flg_out(partly_judged):
    asked = {"time": "2021-03/2021-04", "mask": "cloud", **partly_judged}
    with pytest.warns(MissingWarning, match="Months without FLG"):
        table = extract_l3a(_pixels_of_upc(1000, 1000, 2), "mean", progress=False, **asked)
    assert table["time"].dt.month.values.tolist() == [3]


def test_a_masked_export_is_no_plain_one(server, tmp_path):
    keywords = {"time": "2021-04", "bands": ["B4"], "archive": server.url}
    masked = open_l3a(AOI, mask="cloud", **keywords)
    (path,) = to_geotiff(masked, tmp_path, progress=False)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), masked[0, 0])
    stamp = path.stat().st_mtime_ns
    to_geotiff(open_l3a(AOI, mask=[1], **keywords), tmp_path, progress=False)
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="something else"):
        to_geotiff(open_l3a(AOI, **keywords), tmp_path, progress=False)


def test_masks_through_stac_and_inventories(server):
    keywords = {"time": "2021-04", "bands": ["B4"]}
    plain = open_l3a(AOI, mask="cloud", archive=server.url, **keywords)
    found = open_l3a(AOI, mask="cloud", archive=server.stac_url, **keywords)
    assert list(found.band.values) == ["B4"]
    np.testing.assert_array_equal(found, plain)
    inventory = search_l3a(AOI, archive=server.url, **keywords)
    np.testing.assert_array_equal(open_l3a(inventory=inventory, mask="cloud"), plain)


def test_a_catalogue_of_odd_places_must_be_asked_for_flg(server):
    inventory = search_l3a(AOI, time="2021-04", bands=["B4"], archive=server.url)
    cells = (replace(cell, urls=("https://example.org/odd.tif",)) for cell in inventory.cells)
    odd = replace(inventory, cells=tuple(cells))
    with pytest.raises(SelectionError, match=r"FLG.*bands="):
        open_l3a(inventory=odd, mask="cloud")
    with pytest.raises(SelectionError, match="FLG, WGT, DTS"):
        open_l3a(inventory=odd).l3a.quality()


def test_flags_have_cf_attributes_that_survive_files(server, tmp_path):
    da = open_l3a(AOI, time="2021-04", bands=["FLG"], archive=server.url)
    assert da.attrs["flag_meanings"].split() == ["nodata", "cloud", "snow", "water", "land"]
    assert da.attrs["flag_values"].dtype == da.dtype == np.uint8
    da.to_netcdf(tmp_path / "flags.nc")
    with xr.open_dataset(tmp_path / "flags.nc", mask_and_scale=False) as read:
        np.testing.assert_array_equal(read["s2_l3a"].attrs["flag_values"], range(5))
        np.testing.assert_array_equal(read["s2_l3a"], da)
    da.to_zarr(tmp_path / "flags.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "flags.zarr", mask_and_scale=False) as read:
        assert list(read["s2_l3a"].attrs["flag_values"]) == [0, 1, 2, 3, 4]


def test_layers_beside_an_array_are_those_of_it(server):
    keywords = {"time": MONTHS, "archive": server.url}
    layers = open_l3a(AOI, bands=["B4", "FLG", "WGT", "DTS"], **keywords).compute()
    da = open_l3a(AOI, bands=["B4"], mask="cloud", **keywords).isel(time=[0, 2], x=slice(30, 90))
    part = layers.isel(time=[0, 2], x=slice(30, 90))
    flags = da.l3a.flags()
    assert flags.chunks is not None
    assert flags.dims == ("time", "y", "x")
    assert flags.rio.crs == da.rio.crs
    expected = part.sel(band="FLG")
    np.testing.assert_array_equal(flags, expected.where(expected != -10000, 255))
    np.testing.assert_array_equal(part.l3a.flags(), flags)
    weights = da.l3a.weights()
    assert (weights.dtype, weights.attrs["units"]) == (np.float32, "1")
    stored = part.sel(band="WGT")
    np.testing.assert_allclose(weights, stored.where(stored != -10000) / 1000, rtol=1e-6)
    dates = da.l3a.dates()
    stored = part.sel(band="DTS").to_numpy()
    begin = np.datetime64("2021-01-01")
    expected = np.where(stored == -10000, np.datetime64("NaT", "D"), begin + stored.astype("m8[D]"))
    np.testing.assert_array_equal(dates, expected)
    assert dates.dtype == "datetime64[ns]"
    np.testing.assert_array_equal(dates.time, da.time)


def test_layers_have_no_value_where_there_is_none(server):
    da = open_l3a(SAMPLE_AOI, time="2021-06", bands=["WGT", "DTS", "FLG"], archive=server.url)
    is_nothing = (da.sel(band="WGT") == -10000).to_numpy()
    assert 0 < is_nothing.mean() < 1
    np.testing.assert_array_equal(da.l3a.weights().isnull(), is_nothing)
    np.testing.assert_array_equal(da.l3a.dates().isnull(), is_nothing)
    assert (da.l3a.flags().to_numpy()[is_nothing] % 255 == 0).all()


@pytest.mark.parametrize(
    ("day", "when", "expected"),
    [
        (0, "2021-01-15", "2021-01-01"),
        (364, "2021-01-15", "2020-12-30"),  # 2020 had 366 days
        (365, "2021-01-15", "2020-12-31"),
        (364, "2022-01-15", "2021-12-31"),
        (3, "2021-12-15", "2022-01-04"),
        (348, "2021-12-15", "2021-12-15"),
        (59, "2020-03-15", "2020-02-29"),
        (59, "2021-03-15", "2021-03-01"),
        (166, "2021-06-15", "2021-06-16"),
    ],
)
def test_days_lie_in_the_year_nearest_to_the_mosaic(day, when, expected):
    found = decode_days(np.array([day, -10000], np.int16), np.datetime64(when, "ns"))
    assert found.dtype == "datetime64[ns]"
    assert found[0] == np.datetime64(expected)
    assert np.isnat(found[1])


@pytest.mark.parametrize("day", [-1, 367, 10000])
def test_what_is_no_day_is_refused(day):
    with pytest.raises(SelectionError, match=f"DTS holds {day}"):
        decode_days(np.array([5, day], np.int16), np.datetime64("2021-06-15"))
