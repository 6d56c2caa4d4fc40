"""Months: which are opened, from which tiles, and what becomes of those that lack something."""

from __future__ import annotations

import re
import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr

from s2l3a_xr import MissingError, MissingWarning, Transport, open_l3a, search_l3a
from s2l3a_xr._sample import Fault, SampleServer

AT = {"32UPC": (5000, 9600), "32UQC": (5000, 0)}
IN_BOTH = shapely.box(702_000, 5_745_000, 703_000, 5_746_000)  # 32UPC and 32UQC have all of it
OVER_BOTH = shapely.box(697_000, 5_745_000, 712_000, 5_746_000)  # it takes both
LEVEL = {"32UPC": 1000, "32UQC": 2000}
"""Value of each tile's pixels, so that they tell where they come from; plus month and band."""


@pytest.fixture
def site(tmp_path):
    with SampleServer(tmp_path) as server:
        yield server


@pytest.fixture
def lay(tmp_path, lay_file):
    def lay_products(tile, *months, bands=("B4", "B8")):
        for month in months:
            for band in bands:
                value = LEVEL[tile] + 10 * month + int(band[1:])
                pixels = np.full((600, 1380), value, "int16")
                lay_file(tmp_path, pixels, tile=tile, at=AT[tile], month=month, band=band)

    return lay_products


def asked(area, **options):
    aoi = gpd.GeoSeries([area], crs="EPSG:32632")
    return aoi, {"time": "2021-03/2021-05", "bands": ["B4", "B8"], **options}


def open_area(site, area, **options):
    aoi, options = asked(area, **options)
    return open_l3a(aoi, archive=site.url, **options)


def tiles_by_month(site, area, **options):
    aoi, options = asked(area, **options)
    cells = search_l3a(aoi, archive=site.url, **options).cells
    return {
        month: [(cell.tile, cell.has) for cell in cells if cell.month[1] == month]
        for month in sorted({cell.month[1] for cell in cells})
    }


def levels(plane):
    """Name the tiles that a plane's pixels come from, -10 for nodata."""
    return set(np.unique(plane // 1000).tolist())


def test_a_month_that_one_of_two_needed_tiles_lacks_is_half_there(site, lay):
    lay("32UPC", 3, 4, 5)
    lay("32UQC", 3, 5)
    with pytest.warns(MissingWarning, match="10 of 12 files: .* B4 of 32UQC in 2021-04"):
        da = open_area(site, OVER_BOTH)
    assert da.sizes["time"] == 3
    value = da.to_numpy()
    assert levels(value[0]) == {1, 2}
    assert levels(value[1]) == {1, -10}
    assert levels(value[2]) == {1, 2}
    with pytest.raises(MissingError, match="B4 of 32UQC in 2021-04"):
        open_area(site, OVER_BOTH, missing="raise")


def share_told(record):
    [warning] = [w for w in record if w.category is MissingWarning]
    share, where = re.search(
        r"(\d+\.\d)% of the area is nodata in (.*)\.$", str(warning.message)
    ).groups()
    return float(share) / 100, where


def test_it_is_told_how_much_of_the_area_a_month_lacks(site, lay):
    lay("32UPC", 3, 4, 5)
    lay("32UQC", 3, 5)
    with pytest.warns(MissingWarning, match=r"; \d+\.\d% of the area") as record:
        da = open_area(site, OVER_BOTH)
    share, where = share_told(record)
    assert where == "2021-04"
    april = da.sel(time="2021-04").to_numpy()
    assert share == pytest.approx((april == -10000).mean(), abs=2e-3)
    aoi, options = asked(OVER_BOTH, archive=site.url)
    assert f"{share:.1%} of the area is nodata in 2021-04\n" in search_l3a(aoi, **options).summary()


def test_the_band_is_told_that_lacks_most(site, lay):
    lay("32UPC", 3, 4)
    lay("32UQC", 4)
    lay("32UPC", 5, bands=["B4"])
    lay("32UQC", 5)
    lay("32UQC", 3, bands=["B8"])
    with pytest.warns(MissingWarning) as record:
        da = open_area(site, OVER_BOTH)
    share, where = share_told(record)
    assert where == "B8 of 2021-05 (and no more than that in other months: 1)"
    lost = (da == -10000).mean(["y", "x"]).to_numpy()
    assert share == pytest.approx(lost.max(), abs=2e-3)
    assert np.unravel_index(lost.argmax(), lost.shape) == (2, 1)
    assert (lost > 0).sum() == 2


def test_little_is_not_nothing(site, lay):
    """A few metres of 15 km are beyond 32UPC, and lost in April."""
    area = shapely.box(694_803, 5_745_000, 709_803, 5_746_000)
    lay("32UPC", 3, 4, 5)
    lay("32UQC", 3, 5)
    with pytest.warns(MissingWarning, match=r"less than 0\.1% of the area is nodata in 2021-04\."):
        open_area(site, area)


def test_where_no_tile_has_all_bands_the_loss_is_told(site, lay):
    lay("32UPC", 3, 5)
    lay("32UPC", 4, bands=["B4"])
    lay("32UQC", 4, bands=["B8"])
    with pytest.warns(MissingWarning) as record:
        da = open_area(site, IN_BOTH)
    assert share_told(record) == (1, "B8 of 2021-04")
    assert (da.sel(time="2021-04", band="B8") == -10000).all()


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
@pytest.mark.parametrize("months", [["2021-06"], ["2021-07"], ["2021-08", "2021-10"]])
@pytest.mark.parametrize("place", ["url", "stac_url"])
def test_months_opened_one_by_one_lie_on_one_grid(server, months, place):
    """In July two tiles of zone 32 lack, and one of zone 33 has half of the area."""
    area, archive = (11.85, 51.90, 12.30, 52.00), getattr(server, place)
    together = open_l3a(area, time="2021-03/2021-10", bands="B6", archive=archive)
    alone = open_l3a(area, time="/".join(months), bands="B6", archive=archive)
    span = slice(months[0], months[-1])
    xr.testing.assert_equal(alone, together.sel(time=span))
    assert alone.rio.crs == together.rio.crs == "EPSG:32632"


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
@pytest.mark.parametrize("options", [{}, {"resolution": 40}, {"resolution": 100}])
def test_the_lattice_does_not_follow_the_months(site, lay, options):
    """Corners of tiles are multiples of 60 m: of 40 and 100 m pixels each would have its own."""
    lay("32UPC", 3)
    lay("32UQC", 5)
    together = open_area(site, IN_BOTH, **options)
    for month in ("2021-03", "2021-05"):
        alone = open_area(site, IN_BOTH, time=month, **options)
        xr.testing.assert_equal(alone, together.sel(time=alone["time"]))


@pytest.mark.filterwarnings("ignore::s2l3a_xr.MissingWarning")
def test_one_zone_for_an_area_that_two_have_whatever_months_are_asked_for(server):
    """32UQC lacks July, which is then made of 33UUT."""
    area, options = (12.20, 51.94, 12.24, 51.96), {"bands": "B6", "archive": server.url}
    together = open_l3a(area, time="2021-03/2021-10", **options)
    for month in range(3, 11):
        alone = open_l3a(area, years=2021, months=month, **options)
        xr.testing.assert_equal(alone, together.sel(time=alone["time"]))
        assert alone.rio.crs == together.rio.crs


@pytest.mark.parametrize("zone", [32, 33])
def test_with_a_crs_the_tiles_of_its_zone_come_first(server, zone):
    """They have all of it, so that its pixels are copies."""
    asked = {"time": "2021-06", "bands": "B6", "archive": server.url}
    area, crs = (12.20, 51.94, 12.24, 51.96), f"EPSG:326{zone}"
    given = open_l3a(area, crs=crs, **asked)
    assert {tile[:2] for tile in given.l3a.plan()["tile"]} == {str(zone)}
    like = open_l3a(area, like=given, **asked)
    np.testing.assert_array_equal(like, given)


def test_a_tile_stands_in_for_one_that_lacks_the_month(site, lay):
    lay("32UPC", 3, 5)
    lay("32UQC", 4)
    with warnings.catch_warnings():
        value = open_area(site, IN_BOTH).to_numpy()
    assert [levels(plane) for plane in value] == [{1}, {2}, {1}]


def test_a_tile_stands_in_for_one_that_lacks_a_band(site, lay):
    """All bands of the month come from it: no month mixes tiles without need."""
    lay("32UPC", 3, 5)
    lay("32UPC", 4, bands=["B4"])
    lay("32UQC", 3, 4)
    assert tiles_by_month(site, IN_BOTH) == {
        3: [("32UPC", (True, True))],
        4: [("32UQC", (True, True))],
        5: [("32UPC", (True, True))],
    }
    with warnings.catch_warnings():
        value = open_area(site, IN_BOTH).to_numpy()
    assert [levels(plane) for plane in value] == [{1}, {2}, {1}]


def test_a_tile_helps_where_it_can_with_a_band(site, lay):
    """The chosen tile has most of the area, and lacks B8 of April."""
    most = shapely.box(697_000, 5_745_000, 708_000, 5_746_000)
    lay("32UPC", 3, 5)
    lay("32UPC", 4, bands=["B4"])
    lay("32UQC", 4)
    assert tiles_by_month(site, most)[4] == [("32UPC", (True, False)), ("32UQC", (True, True))]
    with pytest.warns(MissingWarning, match="7 of 8 files: .* B8 of 32UPC in 2021-04"):
        april = open_area(site, most).sel(time="2021-04").to_numpy()[0]
    assert levels(april[0]) == {1}  # 32UPC has all of it, and comes first
    assert levels(april[1]) == {2, -10}


def test_a_tile_with_fewer_bands_is_kept_where_no_other_has_more(site, lay):
    lay("32UPC", 3)
    lay("32UQC", 3, 5)
    lay("32UQC", 4, bands=["B8"])
    lay("32UPC", 5, bands=["B4"])
    found = tiles_by_month(site, IN_BOTH)
    assert found[4] == [("32UQC", (False, True))]
    assert found[5] == [("32UQC", (True, True))]


def test_a_file_that_is_gone_when_read_comes_from_the_other_tile(site, lay):
    """Of the cover: where both tiles have a pixel, it is not lost."""
    lay("32UPC", 3)
    lay("32UQC", 3)
    for tile, other in (("32UPC", 2), ("32UQC", 1)):
        site.faults = [Fault(match=f"T{tile}.*_B4", kind="status", status=404)]
        site.clear_log()
        transport = Transport(max_attempts=other)  # nothing is remembered
        da = open_area(site, OVER_BOTH, time="2021-03", missing="keep", transport=transport)
        value = da.isel(time=0, band=0).compute()
        assert levels(value.to_numpy()) == {other, -10}
        assert levels(value.sel(x=slice(701_000, 705_000)).to_numpy()) == {other}
        asked_for = [entry for entry in site.log if f"T{tile}" in entry.path]
        assert sum("_B4.tif" in entry.path for entry in asked_for) == 1
        assert value.l3a.failures()["tile"].tolist() == [tile]


@pytest.mark.parametrize(
    ("missing", "months"), [("warn", [3, 5]), ("keep", [3, 4, 5]), ("raise", None)]
)
def test_a_month_with_nothing_at_all(site, lay, missing, months):
    lay("32UPC", 3, 5)
    if months is None:
        with pytest.raises(MissingError, match="nothing in 2021-04"):
            open_area(site, IN_BOTH, missing=missing)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        da = open_area(site, IN_BOTH, missing=missing)
    assert da["time.month"].to_numpy().tolist() == months
    told = [str(w.message) for w in caught if w.category is MissingWarning]
    if missing == "warn":
        (text,) = told
        assert "nothing in 2021-04" in text
        assert "left out" in text
    else:
        assert not told
        assert levels(da.to_numpy()[1]) == {-10}


@pytest.mark.parametrize("missing", ["warn", "raise"])
def test_products_without_any_file_asked_for(site, lay, missing):
    lay("32UPC", 3)
    with pytest.raises(MissingError, match=r"0 of 1 files: nothing in 2021-03"):
        open_area(site, IN_BOTH, time="2021-03", bands="B12", missing=missing)
    da = open_area(site, IN_BOTH, time="2021-03", bands="B12", missing="keep")
    assert levels(da.to_numpy()) == {-10}


@pytest.mark.parametrize(
    ("time", "months"),
    [
        ("2021-04/..", [4, 5, 6, 7]),
        ("../2021-05", [3, 4, 5]),
        (slice(None, None), [3, 4, 5, 6, 7]),
        (slice("2021-02", None), [2, 3, 4, 5, 6, 7]),
        (None, [3, 4, 5, 6, 7]),
    ],
    ids=str,
)
def test_open_ends_reach_as_far_as_the_archive(site, lay, time, months):
    """What is said is held to: February is missing where it was named."""
    lay("32UPC", 3, 5, 7)
    aoi, _ = asked(IN_BOTH)
    found = search_l3a(aoi, time=time, bands="B4", archive=site.url)
    assert [month for _, month in found.months] == months
    assert {month for _, month in found.missing_months} == set(months) - {3, 5, 7}


@pytest.mark.parametrize("time", ["2022-01/..", "../2020-12", "2021-04", "2020"])
def test_where_there_is_nothing_the_error_says_what_there_is(site, lay, time):
    lay("32UPC", 3, 5)
    with pytest.raises(MissingError, match=r"nothing for .* 32UPC has 2021"):
        open_area(site, IN_BOTH, time=time)
