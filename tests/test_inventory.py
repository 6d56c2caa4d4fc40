"""What the archive has for a request: searched on a server, counted and printed."""

from __future__ import annotations

import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shapely

import s2l3a_xr
from s2l3a_xr import AoiWarning, ArchiveError, MissingError, SelectionError, Transport, search_l3a
from s2l3a_xr import _discover as discover
from s2l3a_xr._aoi import Aoi
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import (
    SAMPLE_AOI,
    SAMPLE_MISSING_MONTH,
    SAMPLE_MONTHS,
    Fault,
    SampleServer,
)
from s2l3a_xr._selection import month_text
from s2l3a_xr._tiles import tile_named

BOUNDS = (11.68, 51.94, 11.76, 51.99)
FULL = [month for month in SAMPLE_MONTHS if month != SAMPLE_MISSING_MONTH]
UTM = "EPSG:32632"


def box(left, bottom, right, top, crs=UTM):
    return Aoi(features=(shapely.box(left, bottom, right, top),), crs=crs)


IN_PC = box(650000, 5740000, 651000, 5741000)
IN_BOTH = box(702000, 5740000, 703000, 5741000)  # deeper in 32UPC
OVER_BOTH = box(690000, 5740000, 720000, 5741000)


class Tree:
    """A folder in DLR's layout that a test fills, and a server for it."""

    def __init__(self, root):
        self.root = root
        self.server = SampleServer(root)

    def lay(self, tile, *months, year=2021, platform="2X", version="1-2", bands=BANDS):
        for month in months:
            product = Product(tile=tile, year=year, month=month, platform=platform, version=version)
            for name in bands:
                for resolution_m in (10, 20):
                    file = self.root / product.file(BANDS[name], resolution_m)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(b"x" * 500)
        return self

    def search(self, aoi=IN_PC, **asked):
        return search_l3a(aoi, archive=self.server.origin, **{"bands": ["B4", "B8"], **asked})


@pytest.fixture
def tree(tmp_path):
    tree = Tree(tmp_path)
    with tree.server:
        yield tree


def cells(inventory):
    return [(cell.tile, cell.month) for cell in inventory.cells]


# the sample archive


def test_the_main_job(server):
    found = search_l3a(SAMPLE_AOI, years=2021, months="3-10", archive=server.url)
    assert found.tiles == ("32UPC",)
    assert (found.available, len(found)) == (28, 32)
    assert found.months == tuple((2021, month) for month in SAMPLE_MONTHS)
    assert found.missing_months == ((2021, SAMPLE_MISSING_MONTH),)
    assert found.cover.uncovered == 0
    assert found.grid.crs == UTM
    assert found.grid.resolution == 10
    assert 0 < found.read_bytes < found.whole_bytes / 20


def test_nothing_but_listings_is_asked_for(fresh_server):
    search_l3a(SAMPLE_AOI, years=2021, archive=fresh_server.url)
    assert fresh_server.log
    assert all(request.path.endswith("/") for request in fresh_server.log)
    assert {request.method for request in fresh_server.log} == {"GET"}


@pytest.mark.parametrize("form", ["table", "pre"])
def test_the_table(fresh_server, form):
    fresh_server.listing = form
    found = search_l3a(
        BOUNDS, years=2021, months=[5, 7, 8], bands=["red", "B11", "FLG"], archive=fresh_server.url
    )
    table = found.to_dataframe()
    assert list(table.columns) == (
        ["tile", "month", "band", "status", "platform", "version", "size", "url"]
    )
    assert len(table) == len(found) == 9
    assert set(table["tile"]) == {"32UPC"}
    assert table["month"].dtype == "period[M]"
    assert table["month"].dt.strftime("%Y-%m").tolist() == (
        ["2021-05"] * 3 + ["2021-07"] * 3 + ["2021-08"] * 3
    )
    assert table["band"].tolist() == ["red", "B11", "FLG"] * 3
    assert table["status"].tolist() == ["available"] * 3 + ["missing"] * 3 + ["available"] * 3
    assert table["platform"].dropna().tolist() == ["2A"] * 3 + ["2B"] * 3
    assert table["size"].dtype == np.float64
    gaps = table["status"] == "missing"
    assert table.loc[gaps, ["platform", "version", "size", "url"]].isna().all(axis=None)
    assert (table.loc[~gaps, "size"] > 1000).all()
    folder = f"{fresh_server.url}32/U/PC/2021/"
    name = "SENTINEL2A_20210515-000000-000_L3A_T32UPC_C_V1-2"
    assert table["url"].tolist()[:3] == [
        f"{folder}{name}/{name}_FRC_B4.tif",
        f"{folder}{name}/{name}_FRC_B11.tif",
        f"{folder}{name}/MASKS/{name}_FLG_R1.tif",
    ]


def test_every_url_of_the_table_is_a_file(server, sample_root):
    bands = list(BANDS)
    found = search_l3a(BOUNDS, years=2021, bands=bands, archive=server.url).to_dataframe()
    urls = found.loc[found["status"] == "available", "url"]
    assert len(urls) == len(bands) * len(FULL)
    for url in urls:
        assert (sample_root / url.removeprefix(server.origin).lstrip("/")).is_file()


def test_listed_sizes_are_about_those_of_the_files(server, sample_root):
    found = search_l3a(BOUNDS, years=2021, months=3, archive=server.url).to_dataframe()
    for row in found.itertuples():
        path = sample_root / row.url.removeprefix(server.origin).lstrip("/")
        assert row.size == pytest.approx(path.stat().st_size, rel=0.06)


def test_a_folder_gives_the_same_as_its_server(server, sample_root):
    asked = {"years": 2021, "bands": ["B4", "FLG"]}
    remote = search_l3a(BOUNDS, archive=server.url, **asked)
    local = search_l3a(BOUNDS, archive=sample_root / "S2_L3A_WASP/files", **asked)
    columns = ["tile", "month", "band", "status", "platform", "version"]
    pd.testing.assert_frame_equal(remote.to_dataframe()[columns], local.to_dataframe()[columns])
    sizes = local.to_dataframe()["size"].dropna()
    assert local.whole_bytes == sizes.sum()


def test_terminal_and_notebook_say_the_same(server):
    found = search_l3a(SAMPLE_AOI, years=2021, months="3-10", archive=server.url)
    text, page = repr(found), found._repr_html_()
    for words in (
        "s2l3a_xr.Inventory",
        f"tiles 32UPC of {server.url}",
        "bands B2, B3, B4, B8",
        "months 2021-03 to 2021-10, 8 asked for",
        "28 of 32 files are available (88%)",
        "whole files ",
        "to be read",
        "nothing in 2021-07",
        "2021-05",
        "4/4",
        "0/4",
        "2A",
        "2B",
    ):
        assert words in text
        assert words in page
    assert text == str(found)
    assert re.search(r"whole files \d+(\.\d+)? [MG]B, roughly \d+(\.\d+)? [kM]B to be read", text)
    assert "<table" in page
    assert page.startswith("<div>")


def test_counts_licence_and_citation(server):
    lines = search_l3a(SAMPLE_AOI, years=2021, months="3-10", archive=server.url).summary()
    assert "file status: 28 available, 4 missing" in lines
    assert "versions 1-2 (7)" in lines
    assert "platforms 2A (1), 2B (1), 2X (5)" in lines
    assert "licence CC-BY-4.0, cite https://doi.org/10.15489/4hcq6dgkj648" in lines


def test_a_long_table_is_cut(tree):
    for year in range(2016, 2021):
        tree.lay("32UPC", *range(1, 13), year=year, bands=["B4"])
    found = tree.search(years="2016-2020", bands="B4", verify=False)
    assert repr(found).count("32UPC") == 41
    assert len(found.to_dataframe()) == 60


def test_footprints(tree, tmp_path):
    tree.lay("32UPC", 3, 4, 6).lay("32UQC", 5).lay("32UPC", 7, bands=["B4"])
    found = tree.search(IN_BOTH, years=2021, months="3-8")
    table = found.to_geodataframe()
    assert table.crs == "EPSG:4326"
    assert list(zip(table["month"], table["tile"], table["status"], strict=True)) == [
        ("2021-03", "32UPC", "available"),
        ("2021-04", "32UPC", "available"),
        ("2021-05", "32UQC", "available"),
        ("2021-06", "32UPC", "available"),
        ("2021-07", "32UPC", "partial"),
        ("2021-08", "32UPC", "missing"),
    ]
    assert table["files"].tolist() == [2, 2, 2, 2, 1, 0]
    assert table["is_chosen"].tolist() == [True, True, False, True, True, True]
    box = table.geometry[0].bounds
    assert box == pytest.approx((10.4361206, 51.3245234, 12.0777579, 52.3413551), abs=1e-6)
    table.to_file(tmp_path / "tiles.gpkg")


def test_maps(tree):
    tree.lay("32UPC", 3, 4).lay("32UQC", 5)
    found = tree.search(IN_BOTH, years=2021, months="3-5")
    axes = found.plot()
    assert {text.get_text() for text in axes.texts} == {"32UPC\n4/4", "32UQC\n2/2"}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "area", "chosen for the area", "helps in months that lack one",
    ]  # fmt: skip
    assert found.plot(ax=axes) is axes
    plt.close(axes.figure)
    page = found.explore(tiles=None).get_root().render()
    assert "32UQC" in page
    assert "chosen for the area" in page


def test_extras_that_are_absent_are_named(tree, monkeypatch):
    tree.lay("32UPC", 3)
    found = tree.search(years=2021, months=3)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "s2l3a_xr\[plot\]"'):
        found.plot()
    monkeypatch.setitem(sys.modules, "folium", None)
    with pytest.raises(ImportError, match=r'pip install "s2l3a_xr\[explore\]"'):
        found.explore()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(s2l3a_xr.ExportError, match=r'pip install "s2l3a_xr\[io\]"'):
        found.save("pin.parquet")


def test_what_is_printed_is_harmless(tmp_path):
    root = tmp_path / "<b>&bold"
    Tree(root).lay("32UPC", 3)
    found = search_l3a(IN_PC, years=2021, months=3, archive=root)
    assert "<b>&bold" in repr(found)
    assert "<b>&bold" not in found._repr_html_()
    assert "&lt;b&gt;&amp;bold" in found._repr_html_()


def test_passwords_are_not_printed(tree):
    tree.lay("32UPC", 3)
    url = tree.server.origin.replace("//", "//me:secret@")
    found = search_l3a(IN_PC, years=2021, months=3, bands="B4", archive=url)
    assert "secret" not in repr(found) + found._repr_html_()


# platforms, versions, gaps


def test_all_platforms_and_the_newest_versions(tree):
    tree.lay("32UPC", 3, platform="2A").lay("32UPC", 4, platform="2B").lay("32UPC", 5)
    tree.lay("32UPC", 5, version="1-1").lay("32UPC", 4, platform="2X", version="1-10")
    found = tree.search(years=2021, months="3-5").to_dataframe()
    assert found["platform"].tolist() == ["2A", "2A", "2X", "2X", "2X", "2X"]
    assert found["version"].tolist() == ["1-2", "1-2", "1-10", "1-10", "1-2", "1-2"]
    assert found["status"].unique() == ["available"]
    assert found["url"][2].endswith("_V1-10_FRC_B4.tif")
    assert "SENTINEL2X_20210415" in found["url"][2]


def test_missing_files_of_a_product(tree):
    tree.lay("32UPC", 3, bands=["B4"]).lay("32UPC", 4)
    found = tree.search(years=2021, months=[3, 4, 5], bands=["B4", "B8", "WGT"])
    assert [cell.has for cell in found.cells] == [(True, False, False), (True,) * 3, (False,) * 3]
    assert found.available == 4
    assert found.missing_months == ((2021, 5),)
    assert found.to_dataframe()["status"].tolist() == (
        ["available", "missing", "missing"] + ["available"] * 3 + ["missing"] * 3
    )
    assert found.whole_bytes == 4 * 500


def test_masks_come_in_the_resolution_asked_for(tree):
    tree.lay("32UPC", 3)
    asked = {"years": 2021, "months": 3}
    fine = tree.search(bands=["B4", "FLG"], **asked)
    assert fine.url(fine.cells[0], 1).endswith("_FLG_R1.tif")
    coarse = tree.search(bands=["B11", "FLG"], **asked)
    assert coarse.grid.resolution == 20
    assert coarse.url(coarse.cells[0], 1).endswith("_FLG_R2.tif")
    assert tree.search(bands=["FLG"], **asked).grid.resolution == 10


def test_without_years_all_that_the_archive_has(tree):
    tree.lay("32UPC", 3, year=2019).lay("32UPC", 3, 4, year=2021)
    found = tree.search(months=[3, 4])
    assert found.months == ((2019, 3), (2019, 4), (2021, 3), (2021, 4))
    assert found.missing_months == ((2019, 4),)


def test_a_year_that_is_missing(tree):
    tree.lay("32UPC", 3, year=2021)
    found = tree.search(years=[2020, 2021], months=3)
    assert found.missing_months == ((2020, 3),)
    assert found.available == 2


def test_months_over_the_turn_of_the_year(tree):
    tree.lay("32UPC", 12, year=2020).lay("32UPC", 1, year=2021)
    found = tree.search(time="2020-12/2021-01")
    assert cells(found) == [("32UPC", (2020, 12)), ("32UPC", (2021, 1))]
    assert found.available == 4


def test_many_products_are_not_listed_one_by_one(tree, monkeypatch):
    tree.lay("32UPC", 3, 4, bands=["B4"])
    monkeypatch.setattr(discover, "_LISTED_PRODUCTS", 1)
    found = tree.search(years=2021, months=[3, 4, 5])
    assert found.to_dataframe()["status"].tolist() == ["unverified"] * 4 + ["missing"] * 2
    assert found.available == 4
    assert found.whole_bytes == 2 * (200 + 240) * 10**6  # as the original script reckons
    assert not [request for request in tree.server.log if "SENTINEL2" in request.path]


def test_verifying_is_for_the_user_to_choose(tree):
    tree.lay("32UPC", 3, 4, bands=["B4"])
    asked = {"years": 2021, "months": [3, 4, 5]}
    loose = tree.search(verify=False, **asked)
    assert loose.to_dataframe()["status"].tolist() == ["unverified"] * 4 + ["missing"] * 2
    strict = tree.search(verify=True, **asked)
    assert (
        strict.to_dataframe()["status"].tolist() == ["available", "missing"] * 2 + ["missing"] * 2
    )
    with pytest.raises(SelectionError, match="must be True, False or 'auto'"):
        tree.search(verify="yes", **asked)


def test_a_product_without_files_is_gone(tree):
    tree.lay("32UPC", 3, 4)
    for path in (tree.root / "32/U/PC/2021").glob("*20210315*/*.tif"):
        path.unlink()
    found = tree.search(years=2021, months=[3, 4])
    assert found.to_dataframe()["status"].tolist() == ["gone"] * 2 + ["available"] * 2
    assert found.missing_months == ((2021, 3),)
    assert "file status: 2 available, 2 gone" in found.summary()


# tiles


def test_the_deeper_tile_unless_it_lacks_more_months(tree):
    tree.lay("32UPC", 3, 4).lay("32UQC", 3, 4)
    assert tree.search(IN_BOTH, years=2021, months=[3, 4]).tiles == ("32UPC",)
    tree.lay("32UQC", 5)
    session = Transport(idle_timeout_s=11)  # what was listed is remembered
    found = tree.search(IN_BOTH, years=2021, months=[3, 4, 5], transport=session)
    assert found.tiles == ("32UQC",)
    assert found.available == len(found)


def test_another_tile_helps_out_in_a_month(tree):
    tree.lay("32UPC", 3, 4, 6).lay("32UQC", 5)
    found = tree.search(IN_BOTH, years=2021, months="3-6")
    assert found.tiles == ("32UPC",)
    assert cells(found) == [
        ("32UPC", (2021, 3)),
        ("32UPC", (2021, 4)),
        ("32UQC", (2021, 5)),
        ("32UPC", (2021, 6)),
    ]
    assert found.available == len(found) == 8
    assert "where a chosen tile lacks the month: 2021-05 32UQC" in found.summary()


def test_a_month_that_has_one_of_two_tiles_lacks_the_other(tree):
    tree.lay("32UPC", 3, 4).lay("32UQC", 3)
    found = tree.search(OVER_BOTH, years=2021, months=[3, 4])
    assert found.tiles == ("32UPC", "32UQC")
    assert (found.available, len(found)) == (6, 8)
    assert found.missing_months == ()
    table = found.to_dataframe()
    assert table.loc[table["status"] == "missing", "tile"].tolist() == ["32UQC", "32UQC"]


def test_a_tile_that_helps_in_part_is_read_and_the_other_missed(tree):
    most = box(690000, 5740000, 705000, 5741000)  # a third of it in 32UQC
    tree.lay("32UPC", 3).lay("32UQC", 3, 4)
    found = tree.search(most, years=2021, months=[3, 4])
    assert found.tiles == ("32UPC",)
    assert cells(found) == [
        ("32UPC", (2021, 3)),
        ("32UPC", (2021, 4)),
        ("32UQC", (2021, 4)),
    ]
    assert [any(cell.has) for cell in found.cells] == [True, False, True]
    assert found.grid.width == 1500
    assert "66.4% of the area is nodata in 2021-04" in found.summary()  # 690 000 to 699 960


def test_tiles_that_are_not_offered_do_not_count(tree):
    tree.lay("32UPC", 3)
    with pytest.warns(AoiWarning, match=r"3\d\.\d% of the AOI lies outside the tiles"):
        found = tree.search(OVER_BOTH, years=2021, months=3)
    assert found.tiles == ("32UPC",)
    assert found.grid.width == 1980  # cut at the tile's border
    assert "34.0% of the area lies outside the offered tiles" in repr(found)


def test_the_zone_in_which_the_area_lies_deeper(tree):
    """The overlap of zones: 100 km of 32UQC, the western border of 33UUT."""
    tree.lay("32UQC", 3).lay("33UUT", 3)
    left, _, _, top = tile_named("33UUT").bounds
    deep = box(left + 70000, top - 60000, left + 71000, top - 59000, "EPSG:32633")
    assert tree.search(deep, years=2021, months=3).tiles[0][:2] == "33"
    shallow = box(left + 3000, top - 60000, left + 4000, top - 59000, "EPSG:32633")
    assert tree.search(shallow, years=2021, months=3).tiles == ("32UQC",)


def test_areas_over_two_zones_lie_on_the_grid_of_the_one_that_has_most(tree):
    tree.lay("32UPC", 3).lay("33UUT", 3)
    area = box(650000, 5740000, 760000, 5741000)
    with pytest.warns(AoiWarning, match=r"3\.8% of the AOI"):  # a sliver between the zones
        found = tree.search(area, years=2021, months=3)
    assert found.tiles == ("32UPC", "33UUT")
    assert found.grid.crs == "EPSG:32632"
    assert (found.grid.left, found.grid.width) == (650000, 11000)


def test_another_zone_stands_in_for_a_month(tree):
    """In the overlap of 32UQC and 33UUT: its own zone first, the other where that has nothing."""
    tree.lay("32UQC", 3).lay("32UQC", 4).lay("33UUT", 3).lay("33UUT", 5)
    area = box(760000, 5740000, 761000, 5741000)
    found = tree.search(area, years=2021, months=[3, 4, 5])
    home = found.tiles[0]
    tiles = {cell.month[1]: cell.tile for cell in found.cells}
    assert tiles == {3: home, 4: "32UQC", 5: "33UUT"}
    assert found.grid.crs == tile_named(home).crs


# nothing there


def test_the_error_says_which_years_there_are(tree):
    tree.lay("32UPC", 3, year=2019).lay("32UPC", 3, year=2021).lay("32UQC", 3, year=2020)
    with pytest.raises(MissingError) as caught:
        tree.search(IN_BOTH, years=[2022, 2023], months="3-5")
    text = str(caught.value)
    assert "nothing for 2022-03, 2022-04, 2022-05, … at lon 11" in text
    assert tree.server.origin in text
    assert "32UPC has 2019, 2021; 32UQC has 2020. Ask for other years or months." in text


def test_the_error_says_that_no_tile_is_offered(tree):
    with pytest.raises(
        MissingError,
        match=r"no product tile is offered at lon .*covers Germany, lon 5\.7 to 15\.2, lat .*CRS",
    ):
        tree.lay("32UPC", 3).search((2.3, 48.8, 2.4, 48.9), years=2021)
    with pytest.raises(MissingError, match=r"looked for 32UPC\)"):
        search_l3a(IN_PC, archive=tree.server.origin + "/empty")


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"years": 2021, "bands": "B9"}, SelectionError, "no such band"),
        ({"years": 2021, "months": 13}, SelectionError, "not in 1 to 12"),
        ({"years": 2021, "time": "2021"}, SelectionError, "not both"),
        ({"aoi": (0, -10, 1, -9), "years": 2021}, s2l3a_xr.AoiError, "covers Germany"),
        ({"aoi": "no.gpkg", "years": 2021}, s2l3a_xr.AoiError, "no such AOI file"),
    ],
)
def test_wrong_requests_ask_the_server_nothing(tree, asked, error, words):
    with pytest.raises(error, match=words):
        tree.search(**asked)
    assert not tree.server.log


def test_a_listing_that_fails_fails_the_search(tree):
    tree.lay("32UPC", 3).lay("32UQC", 3)
    tree.server.faults = [Fault(match="/QC/", kind="status", status=403)]
    with pytest.raises(ArchiveError, match=r"listing can't be read: .*32/U/QC/2021/"):
        tree.search(IN_BOTH, years=2021)


# how the server is asked


def overlap(requests):
    """Whether all of them were under way at one moment."""
    return max(request.started for request in requests) < min(
        request.finished for request in requests
    )


def test_all_listings_of_a_kind_run_at_once(tree):
    for year in (2019, 2020, 2021):
        tree.lay("32UPC", 3, 4, year=year, bands=["B4"]).lay("32UQC", 3, year=year, bands=["B4"])
    tree.server.latency_s = 0.3
    tree.search(OVER_BOTH, years="2019-2021", months="3-4", bands=["B4"])
    years = [r for r in tree.server.log if re.fullmatch(r"/\d\d/./../\d{4}/", r.path)]
    products = [r for r in tree.server.log if "SENTINEL" in r.path]
    assert len(years) == 9  # of 33UUT too, which reaches there and is not offered
    assert len(products) == 9
    assert overlap(years)
    assert overlap(products)
    assert len(tree.server.log) == 19  # and what the address leads to
    assert max(r.finished for r in tree.server.log) - min(r.started for r in years) < 1.2


def test_connections_are_bounded(tree):
    for year in range(2015, 2021):
        tree.lay("32UPC", 3, year=year, bands=["B4"])
    tree.server.latency_s = 0.02
    tree.search(years="2015-2020", months=3, bands="B4", transport=Transport(max_connections=3))
    assert len({request.peer_port for request in tree.server.log}) <= 3


def test_listings_are_remembered(tree):
    tree.lay("32UPC", 3, 4)
    first = tree.search(years=2021, months=3)
    tree.server.clear_log()
    assert tree.search(years=2021, months=3).to_dataframe().equals(first.to_dataframe())
    assert tree.server.log == []
    tree.search(years=2021, months=[3, 4])
    assert len(tree.server.log) == 1  # the product that was not listed before


def test_words():
    assert month_text((2021, 3)) == "2021-03"
