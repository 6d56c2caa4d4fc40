"""STAC as an archive, against an API with the oddities of DLR's."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import time
import urllib.request
import warnings

import numpy as np
import pystac
import pystac_client
import pytest

from s2l3a_xr import (
    ArchiveError,
    MissingError,
    MissingWarning,
    SelectionError,
    StacArchive,
    Transport,
    open_l3a,
    search_l3a,
)
from s2l3a_xr._archive import Origin
from s2l3a_xr._sample import SAMPLE_AOI, Fault, SampleServer, StacSite
from s2l3a_xr._sample._answers import Answer
from s2l3a_xr._stac._api import _spans
from s2l3a_xr._stac._items import Findings, make_archive
from s2l3a_xr._stac._links import Links
from s2l3a_xr._transport import Session

OVER_TWO = (11.75, 51.94, 12.0, 51.99)
"""Reaches from 32UPC into 32UQC."""
LOCAL = Transport(allowed_hosts=("127.0.0.1",))


def table(inventory):
    return inventory.to_dataframe().drop(columns="size")


def searches(server):
    return [r for r in server.log if r.path.endswith("/search")]


def first_page(server, **body):
    """Ask as anybody would, without our code."""
    request = urllib.request.Request(  # noqa: S310
        server.stac_url + "/search", json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture
def stac(fresh_server):
    return fresh_server


# the same as by listing


@pytest.mark.parametrize(
    "asked",
    [
        {"aoi": SAMPLE_AOI, "years": 2021, "months": "3-10"},
        {"aoi": SAMPLE_AOI, "bands": ["red", "B8A", "FLG", "WGT", "DTS"]},
        {"aoi": OVER_TWO, "time": "2021-05/2021-09", "bands": "B4"},
        {"aoi": SAMPLE_AOI, "years": 2021, "months": [3, 9], "bands": ["B5", "FLG"]},
    ],
)
def test_listing_and_stac_give_the_same_inventory(stac, asked):
    stac.stac.page = 3
    by_list = search_l3a(**asked, archive=stac.url)
    by_stac = search_l3a(**asked, archive=stac.stac_url)
    assert table(by_stac).equals(table(by_list))
    assert (by_stac.archive_url, by_stac.tiles) == (by_list.archive_url, by_list.tiles)
    assert by_stac.grid == by_list.grid
    assert {url for cell in by_stac.cells for url in cell.urls} == {""}


def test_listing_and_stac_give_the_same_pixels(stac):
    asked = {"years": 2021, "months": [5, 6], "bands": ["B4", "B8A", "FLG"]}
    by_list = open_l3a(SAMPLE_AOI, **asked, archive=stac.url)
    by_stac = open_l3a(SAMPLE_AOI, **asked, archive=stac.stac_url)
    assert (by_stac.to_numpy() == by_list.to_numpy()).all()
    assert by_stac.indexes["time"].equals(by_list.indexes["time"])


def test_a_pickled_array_reads_on(stac):
    da = open_l3a(SAMPLE_AOI, years=2021, months=4, bands="B4", archive=stac.stac_url)
    copy = pickle.loads(pickle.dumps(da))
    code = (
        "import sys, pickle; da = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps(da.to_numpy()))"
    )
    other = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], input=pickle.dumps(da), capture_output=True, check=True
    )
    assert (copy.to_numpy() == da.to_numpy()).all()
    assert (pickle.loads(other.stdout) == da.to_numpy()).all()


def test_the_catalogue_and_its_terms_are_told(stac):
    inventory = search_l3a(SAMPLE_AOI, years=2021, months=4, archive=stac.stac_url)
    told = f"found in {stac.stac_url}/collections/S2_L3A_WASP, licence CC-BY-4.0"
    assert told in repr(inventory)
    da = open_l3a(inventory=inventory)
    assert da.attrs["license"] == "CC-BY-4.0"
    assert da.attrs["source"] == stac.url
    assert da.attrs["catalogue"] == f"{stac.stac_url}/collections/S2_L3A_WASP"


# searching


def test_one_search_serves_an_area_and_all_its_tiles(stac):
    search_l3a(OVER_TWO, years=2021, months="3-10", archive=stac.stac_url)
    (asked,) = searches(stac)
    assert json.loads(asked.body) == {
        "bbox": list(OVER_TWO),
        "collections": ["S2_L3A_WASP"],
        "datetime": "2021-03-01T00:00:00Z/2021-10-31T23:59:59Z",
        "limit": 250,
    }
    assert not [r for r in stac.log if r.path.startswith("/S2_L3A_WASP")]


def test_no_connection_is_opened_ahead_for_files(stac, monkeypatch):
    ahead = []

    async def note(_, url, count):
        ahead.append((url, count))

    monkeypatch.setattr(Session, "warm", note)
    search_l3a(
        SAMPLE_AOI, time="2021-05", archive=stac.stac_url, transport=Transport(max_attempts=6)
    )
    search_l3a(SAMPLE_AOI, time="2021-05", archive=stac.url, transport=Transport(max_attempts=6))
    (_, by_catalogue), (_, by_listing) = ahead
    assert by_catalogue == 0
    assert by_listing > 0


@pytest.mark.parametrize(
    ("months", "spans"),
    [
        (None, (None,)),
        ([(2021, 3), (2021, 4)], ("2021-03/2021-04",)),
        ([(2020, 11), (2021, 1)], ("2020-11/2021-01",)),
        ([(2020, 10), (2021, 3), (2021, 6)], ("2020-10/2020-10", "2021-03/2021-06")),
    ],
)
def test_months_far_apart_are_searched_apart(months, spans):
    assert _spans(months) == spans


def test_neighbouring_months_come_along_and_are_left_out(stac):
    page = first_page(
        stac, bbox=[11.7, 51.9, 11.8, 52.0], datetime="2021-05-01T00:00:00Z/2021-05-31T23:59:59Z"
    )
    assert {item["id"][15:17] for item in page["features"]} == {"04", "05", "06"}
    inventory = search_l3a(SAMPLE_AOI, years=2021, months=5, archive=stac.stac_url)
    assert inventory.months == ((2021, 5),)


@pytest.mark.parametrize(("page", "cap"), [(20, 100), (1, 1), (5, 4)])
def test_all_pages_are_read_whatever_their_size(stac, page, cap):
    stac.stac.page, stac.stac.cap = page, cap
    inventory = search_l3a(SAMPLE_AOI, years=2021, bands="B4", archive=stac.stac_url)
    assert inventory.available == 7
    pages = [json.loads(r.body) for r in searches(stac)]
    assert len(pages) == -(-7 // cap)
    assert {tuple(body["collections"]) for body in pages} == {("S2_L3A_WASP",)}  # merged
    assert {r.status for r in searches(stac)} == {200}


def test_an_api_without_post_is_asked_by_get(stac):
    def without_post(document):
        links = [link for link in document["links"] if link.get("method") != "POST"]
        return {**document, "links": links}

    stac.stac.edit, stac.stac.cap = without_post, 4
    inventory = search_l3a(SAMPLE_AOI, years=2021, bands="B4", archive=stac.stac_url)
    assert inventory.available == 7
    assert {r.method for r in searches(stac)} == {"GET"}
    assert len(searches(stac)) == 2


def test_the_cookie_that_throttles_comes_back(stac):
    mine = Transport(max_connections=3)  # without the cookies of other tests
    search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url, transport=mine)
    first, *later = [r.cookie for r in stac.log]
    assert (first, set(later)) == ("", {"GS_FLOW_CONTROL=GS_CFLOW_0:197e:-5876"})


def test_what_was_searched_is_remembered(stac):
    for _ in range(2):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)
    assert len(stac.log) == 3  # landing page, collection, search


def test_passing_faults_are_tried_again_with_post_too(stac):
    stac.faults = [Fault(match="/search", kind="status", status=503, count=2)]
    search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)
    assert [r.status for r in searches(stac)] == [503, 503, 200]
    assert len({r.body for r in searches(stac)}) == 1


@pytest.mark.parametrize("packs", [True, False])
def test_answers_may_come_compressed(stac, packs):
    stac.stac.packs = packs
    assert len(search_l3a(SAMPLE_AOI, years=2021, months=4, archive=stac.stac_url)) == 4


class FixedSite(StacSite):
    """Gives one answer to every search, or to everything."""

    fixed: Answer
    only_searches: bool

    def answer(self, *args):
        is_search = args[2].endswith("/search")
        return self.fixed if is_search or not self.only_searches else super().answer(*args)


def answer_always(server, fixed, *, only_searches=False):
    site = FixedSite()
    site.fixed, site.only_searches = fixed, only_searches
    server.stac = site


def test_a_compressed_bomb_is_not_unpacked(stac):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = gzip.compress(bytes(80 * 2**20))
    answer_always(stac, Answer(status=200, headers=headers, content=bomb))
    with pytest.raises(ArchiveError, match="larger than 67108864 bytes"):
        search_l3a(SAMPLE_AOI, years=2021, archive=StacArchive(stac.stac_url))
    assert len(stac.log) == 1


# other answers


def test_a_wrong_collection_is_answered_by_those_that_exist(stac):
    with pytest.raises(ArchiveError, match=r"no collection 'S2_L3A_WAPS'; it has S2_L3A_WASP, S2"):
        search_l3a(SAMPLE_AOI, archive=StacArchive(stac.stac_url, collection="S2_L3A_WAPS"))


def test_a_collection_can_be_named_by_its_address(stac):
    asked = {"years": 2021, "months": 4}
    by_address = search_l3a(
        SAMPLE_AOI, **asked, archive=f"{stac.stac_url}/collections/S2_L3A_WASP?f=json"
    )
    assert table(by_address).equals(table(search_l3a(SAMPLE_AOI, **asked, archive=stac.url)))


@pytest.mark.parametrize("status", [403, 404])
def test_a_folder_whose_top_is_not_shown_stays_a_folder(stac, status):
    stac.faults = [Fault(match="/files/$", kind="status", status=status)]
    inventory = search_l3a(SAMPLE_AOI, years=2021, months=4, archive=stac.url)
    assert (inventory.available, inventory.origin.catalogue) == (4, "")


def test_an_empty_collection_is_named(stac):
    with pytest.raises(MissingError, match=r"collection S2_L3A_WASP_V2 of http://127.*has no file"):
        search_l3a(SAMPLE_AOI, archive=StacArchive(stac.stac_url, "S2_L3A_WASP_V2"))


def test_the_other_collection_has_its_own_terms(tmp_path, lay_file):
    pixels = np.full((8, 8), 7, "int16")
    path = lay_file(tmp_path, pixels)
    other = path.parent.with_name(path.parent.name.replace("V1-2", "V2-0"))
    other.mkdir()
    path.rename(other / path.name.replace("V1-2", "V2-0"))
    with SampleServer(tmp_path) as server:
        archive = StacArchive(server.stac_url, collection="S2_L3A_WASP_V2")
        da = open_l3a(SAMPLE_AOI, years=2021, months=3, bands="B4", archive=archive)
    assert da.attrs["license"] == "other"
    assert da.attrs["product_versions"] == ["2-0"]


def test_the_newest_version_of_a_month_is_taken(tmp_path, lay_file):
    path = lay_file(tmp_path, np.full((8, 8), 7, "int16"))
    newer = path.parent.with_name(path.parent.name.replace("V1-2", "V1-10"))
    newer.mkdir()
    (newer / path.name.replace("V1-2", "V1-10")).write_bytes(path.read_bytes())
    with SampleServer(tmp_path) as server:
        items = first_page(server)["features"]
        inventory = search_l3a(
            SAMPLE_AOI, years=2021, bands="B4", months=3, archive=server.stac_url
        )
    assert len({item["id"] for item in items}) == 1  # they can't tell
    assert inventory.to_dataframe()["version"].dropna().to_list() == ["1-10"]


def test_other_months_are_named_where_there_is_nothing(stac):
    with pytest.raises(MissingError, match=r"nothing for 2020-06 .*32UPC has 2021. Ask for other"):
        search_l3a(SAMPLE_AOI, time="2020-06", archive=stac.stac_url)
    with pytest.raises(MissingError, match=r"S2_L3A_WASP of .* has no file of the product at"):
        search_l3a((9.0, 48.0, 9.1, 48.1), years=2021, archive=stac.stac_url)


def test_errors_say_what_the_api_says(stac):
    told = json.dumps({"code": "InvalidParameterValue", "description": "the sky has fallen"})
    headers = {"Content-Type": "application/json"}
    answer = Answer(status=400, headers=headers, content=told.encode())
    answer_always(stac, answer, only_searches=True)
    with pytest.raises(ArchiveError, match=r"answered 400 Bad Request: the sky has fallen \["):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)
    assert len(searches(stac)) == 1


def test_pages_that_go_in_circles_end(stac):
    def circle(document):
        for link in document.get("links", []):
            if link["rel"] == "next" and link["body"]["startIndex"] == 4:
                link["body"]["startIndex"] = 0
        return document

    stac.stac.edit, stac.stac.cap = circle, 2
    with pytest.raises(ArchiveError, match="in circles"):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)
    assert len(searches(stac)) == 3


def test_an_api_that_gives_less_than_it_says_is_told_of(stac):
    def cut(document):
        links = [link for link in document.get("links", []) if link["rel"] != "next"]
        return {**document, "links": links}

    stac.stac.edit, stac.stac.cap = cut, 4
    with pytest.warns(MissingWarning, match="7 items match, and gave 4"):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)


@pytest.mark.parametrize(
    "page",
    [
        {"features": 5},
        {"features": [1], "links": [{"rel": "next"}]},
        {"features": [1], "links": [{"href": 3}]},
    ],
)
def test_answers_that_make_no_sense_are_errors(stac, page):
    answer = Answer(status=200, content=json.dumps(page).encode())
    answer_always(stac, answer, only_searches=True)
    with pytest.raises(ArchiveError, match="STAC"):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)


@pytest.mark.parametrize("text", [b"{", b"[" * 50_000, b'{"a":' * 50_000, b"{\xff}"])
def test_broken_json_is_an_error(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_bytes(text)
    with pytest.raises(ArchiveError, match=r"a.json is no JSON that can be read"):
        search_l3a(SAMPLE_AOI, archive=file)


def test_a_server_that_is_not_there_is_named_once():
    with pytest.raises(ArchiveError, match="can't be reached: no connection"):
        search_l3a(SAMPLE_AOI, archive="http://127.0.0.1:9/stac/v1")


@pytest.mark.skipif(sys.platform == "win32", reason="signals go to the whole console there")
def test_an_interrupt_ends_a_search_at_once(stac):
    stac.faults = [Fault(match="/search", kind="stall", seconds=20)]
    code = (
        "import os, signal, threading, time, s2l3a_xr\n"
        # a background job inherits deafness
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "began = time.monotonic()\n"
        "try:\n"
        f"    s2l3a_xr.search_l3a({SAMPLE_AOI!r}, years=2021, archive={stac.stac_url!r})\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', time.monotonic() - began)\n"
    )
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split()[0], done.stderr) == ("interrupted", "")
    assert float(done.stdout.split()[1]) < 3
    assert time.monotonic() - began < 15  # nor does the process wait for the answer at its end


def test_what_is_no_api_is_refused_where_one_is_named(stac):
    with pytest.raises(ArchiveError, match="no JSON"):
        search_l3a(SAMPLE_AOI, archive=StacArchive(stac.url))
    with pytest.raises(ArchiveError, match="no STAC API that can be searched"):
        search_l3a(SAMPLE_AOI, archive=StacArchive(f"{stac.stac_url}/collections/S2_L3A_WASP"))
    with pytest.raises(ArchiveError, match="can't be searched: the server has no such document"):
        search_l3a(SAMPLE_AOI, archive=StacArchive(f"{stac.origin}/nowhere"))
    with pytest.raises(SelectionError, match="needs the http"):
        StacArchive("/tmp")  # noqa: S108 - no file is made


def test_pystac_client_is_asked_for_where_it_lacks(stac, monkeypatch):
    monkeypatch.delitem(sys.modules, "s2l3a_xr._stac._client", raising=False)
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(ArchiveError, match=r'pip install "s2l3a_xr\[stac\]"'):
        search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)


def test_importing_the_package_leaves_pystac_alone():
    code = "import sys, s2l3a_xr; s2l3a_xr.StacArchive(); print('pystac' in sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "False"


# items


def edited(server, change):
    """Let a function change each asset of each item."""

    def edit(document):
        for item in document.get("features", []):
            item["assets"] = {
                key: new
                for key, asset in item["assets"].items()
                if (new := change(item, key, asset)) is not None
            }
        return document

    server.stac.edit = edit


def test_a_file_elsewhere_carries_its_own_address(stac):
    def move(item, key, asset):
        path = asset["href"].replace(stac.url, f"{stac.origin}/./S2_L3A_WASP//files/")
        return {**asset, "href": path} if key == "FRC_B4" and "32UPC" in item["id"] else asset

    edited(stac, move)
    asked = {"years": 2021, "months": 4, "bands": ["B3", "B4"]}
    by_stac = open_l3a(SAMPLE_AOI, **asked, archive=stac.stac_url)
    inventory = search_l3a(SAMPLE_AOI, **asked, archive=stac.stac_url)
    assert [url[len(stac.origin) :][:14] for url in inventory.cells[0].urls] == [
        "",
        "/./S2_L3A_WASP",
    ]
    expected = open_l3a(SAMPLE_AOI, **asked, archive=stac.url)
    assert (by_stac.to_numpy() == expected.to_numpy()).all()


def without_red_in_april(item, key, asset):
    return None if (key, item["id"][15:17]) == ("FRC_B4", "04") else asset


def test_files_that_items_lack_are_missing(stac):
    edited(
        stac, lambda item, key, asset: None if key == "FRC_B4" and "0415" in item["id"] else asset
    )
    with pytest.warns(MissingWarning, match="first B4 of 32UPC in 2021-04"):
        da = open_l3a(
            SAMPLE_AOI, years=2021, months=[4, 5], bands=["B3", "B4"], archive=stac.stac_url
        )
    assert da.sizes["time"] == 2


@pytest.mark.parametrize("href", [None, 7, "", "B4.tif", "http://[", "https://x.org/a/?b=c"])
def test_an_asset_that_names_no_file_is_told_of(stac, href):
    edited(stac, lambda _, key, asset: {**asset, "href": href} if key == "FRC_B4" else asset)
    with pytest.warns(MissingWarning, match=r"7 STAC items or assets .* FRC_B4 names no file"):
        inventory = search_l3a(SAMPLE_AOI, years=2021, bands=["B3", "B4"], archive=stac.stac_url)
    assert inventory.available == 7


def test_the_files_name_outweighs_the_assets_key(stac):
    def swap(document):
        for item in document.get("features", []):
            assets = item["assets"]
            assets["FRC_B4"], assets["FRC_B8"] = assets["FRC_B8"], assets["FRC_B4"]
        return document

    stac.stac.edit = swap
    asked = {"years": 2021, "months": 4, "bands": ["B4"]}
    by_stac, by_list = (
        search_l3a(SAMPLE_AOI, **asked, archive=a) for a in (stac.stac_url, stac.url)
    )
    assert table(by_stac).equals(table(by_list))


def test_oddities_of_recorded_items_do_no_harm(shared_data):
    links = Links(named="https://geoservice.dlr.de/eoc/ogc/stac/v1")
    samples = shared_data / "dlr_samples"
    found = Findings()
    for name in ("2025/search_post_empty_first2_features", "2022/majaOne"):
        for item in json.loads((samples / f"{name}.json").read_text("utf-8"))["features"]:
            found.take(item, links.named, links)
    for name in ("item_D4H_2025-07-09", "item_S5P_CF_2025-08-25"):
        item = json.loads((samples / f"2025/{name}.json").read_text("utf-8"))
        found.take(item, links.named, links)
    assert (found.files, found.refused, found.unclear) == ([], [], [])


def test_an_item_as_dlr_has_it(shared_data):
    file = shared_data / "dlr_samples/constructed/wasp_item_T32UPC_202103.json"
    item = json.loads(file.read_text("utf-8"))
    bands = ["B2", "B12", "FLG", "WGT", "DTS"]
    aoi = (11.68, 51.94, 11.76, 51.99)
    inventory = search_l3a(aoi, years=2021, months=3, bands=bands, archive=item)
    assert inventory.available == 5
    assert inventory.archive_url == "https://download.geoservice.dlr.de/S2_L3A_WASP/files/"
    assert set(inventory.cells[0].urls) == {""}
    assert inventory.cells[0].product.name == "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
    assert (inventory.origin.catalogue, inventory.origin.license) == (
        "STAC items in memory",
        "CC-BY-4.0",
    )


@pytest.mark.parametrize("item", [None, 5, "x", {}, {"assets": []}, {"assets": {"FRC_B4": None}}])
def test_anything_may_stand_for_an_item(item):
    findings = Findings()
    findings.take(item, "", Links(named=""))
    assert findings.files == []
    assert len(findings.unclear) == 1
    assert make_archive(findings, Origin(catalogue="nowhere")).found == {}


def test_many_products_stay_as_exact_as_few(stac, monkeypatch):
    monkeypatch.setattr("s2l3a_xr._discover._LISTED_PRODUCTS", 2)
    by_stac = search_l3a(SAMPLE_AOI, years=2021, archive=stac.stac_url)
    assert set(by_stac.to_dataframe()["status"]) == {"available", "missing"}


# static catalogues and collections of items


@pytest.fixture
def features(stac):
    return first_page(stac, limit=100)


ASKED = {"years": 2021, "months": [4, 5], "bands": ["B4", "FLG"]}


@pytest.fixture
def by_list(stac):
    return table(search_l3a(SAMPLE_AOI, **ASKED, archive=stac.url))


def test_items_in_memory_in_every_form(features, by_list):
    items = [pystac.Item.from_dict(item) for item in features["features"]]
    catalogue = pystac.Catalog("c", "of items")
    catalogue.add_items(item.clone() for item in items)
    outer = pystac.Catalog("o", "of catalogues")
    outer.add_child(catalogue)
    for form in (
        features,
        features["features"],
        pystac.ItemCollection(items),
        items,
        iter(items),
        outer,
    ):
        found = search_l3a(SAMPLE_AOI, **ASKED, archive=form, transport=LOCAL)
        assert table(found).equals(by_list)
        assert found.origin.catalogue == "STAC items in memory"
    one = next(item for item in items if "20210415" in item.id and "32UPC" in item.id)
    with pytest.warns(MissingWarning):
        da = open_l3a(SAMPLE_AOI, **ASKED, archive=one, transport=LOCAL)
    assert da.sizes["time"] == 1


def test_pixels_of_items_in_memory(stac, features):
    da = open_l3a(SAMPLE_AOI, **ASKED, archive=features, transport=LOCAL)
    expected = open_l3a(SAMPLE_AOI, **ASKED, archive=stac.url)
    assert (da.to_numpy() == expected.to_numpy()).all()


def test_items_of_a_foreign_private_host_need_leave(features):
    with (
        pytest.warns(MissingWarning, match=r"not followed.*allowed_hosts=\('127.0.0.1',\)"),
        pytest.raises(MissingError, match="in memory of STAC has no file of the product at"),
    ):
        search_l3a(SAMPLE_AOI, **ASKED, archive=features)


def test_a_client_stands_for_its_api(stac, by_list):
    client = pystac_client.Client.open(stac.stac_url)
    found = search_l3a(SAMPLE_AOI, **ASKED, archive=client)
    assert table(found).equals(by_list)
    assert found.origin.catalogue == f"{stac.stac_url}/collections/S2_L3A_WASP"


def test_a_file_of_items(features, by_list, tmp_path):
    file = tmp_path / "items.json"
    file.write_text(json.dumps(features), "utf-8")
    for form in (file, str(file)):
        found = search_l3a(SAMPLE_AOI, **ASKED, archive=form, transport=LOCAL)
        assert table(found).equals(by_list)
        assert found.origin.catalogue == str(file)
    assert found.origin.license == "CC-BY-4.0"


def save_catalogue(features, folder, edit=lambda item: item):
    catalogue = pystac.Catalog("c", "of items")
    collection = pystac.Collection(
        "S2_L3A_WASP",
        "of items",
        extent=pystac.Extent(
            pystac.SpatialExtent([[5, 46, 16, 56]]), pystac.TemporalExtent([[None, None]])
        ),
        license="CC-BY-4.0",
    )
    catalogue.add_child(collection)
    for item in features["features"]:
        item = edit({**item, "links": []})  # noqa: PLW2901
        collection.add_item(pystac.Item.from_dict(item))
    catalogue.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def test_a_static_catalogue_on_disk(features, by_list, tmp_path):
    file = save_catalogue(features, tmp_path)
    collection = tmp_path / "S2_L3A_WASP" / "collection.json"
    for form in (file, collection, pystac.Catalog.from_file(str(file))):
        found = search_l3a(SAMPLE_AOI, **ASKED, archive=form, transport=LOCAL)
        assert table(found).equals(by_list)


def test_a_static_catalogue_on_a_server(stac, features, sample_root, tmp_path):
    def localise(item):
        text = json.dumps(item["assets"]).replace(stac.origin, "http://127.0.0.1:PORT")
        return {**item, "assets": json.loads(text)}

    (tmp_path / "S2_L3A_WASP").symlink_to(sample_root / "S2_L3A_WASP", target_is_directory=True)
    with SampleServer(tmp_path) as server:
        port = server.origin.rpartition(":")[2]
        save_catalogue(features, tmp_path / "stac", localise)
        for file in (tmp_path / "stac").rglob("*.json"):
            file.write_text(file.read_text("utf-8").replace("PORT", port), "utf-8")
        da = open_l3a(SAMPLE_AOI, **ASKED, archive=f"{server.origin}/stac/catalog.json")
        expected = open_l3a(SAMPLE_AOI, **ASKED, archive=server.url)
        assert (da.to_numpy() == expected.to_numpy()).all()
        assert da.attrs["source"] == server.url


def test_a_local_catalogue_of_local_files(stac, features, sample_root, tmp_path):
    for item in features["features"]:
        for asset in item["assets"].values():
            asset["href"] = asset["href"].replace(stac.url, "./S2_L3A_WASP/files/")
    (tmp_path / "S2_L3A_WASP").symlink_to(sample_root / "S2_L3A_WASP", target_is_directory=True)
    file = tmp_path / "items.json"
    file.write_text(json.dumps(features), "utf-8")
    da = open_l3a(SAMPLE_AOI, **ASKED, archive=file)
    expected = open_l3a(SAMPLE_AOI, **ASKED, archive=stac.url)
    assert (da.to_numpy() == expected.to_numpy()).all()
    assert da.attrs["source"] == f"{tmp_path.as_posix()}/S2_L3A_WASP/files/"


def test_one_page_of_a_search_is_told_of(stac):
    page = first_page(stac, limit=5)
    with pytest.warns(MissingWarning, match="one page of a longer search"):
        search_l3a(SAMPLE_AOI, archive=page, transport=LOCAL)
    stac.stac.cap = 5
    by_get = f"{stac.stac_url}/collections/S2_L3A_WASP/items"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search_l3a(SAMPLE_AOI, years=2021, bands="B4", archive=by_get)
    assert found.available == 7


def test_catalogues_may_lead_back_to_themselves(features, tmp_path):
    file = save_catalogue(features, tmp_path)
    catalogue = json.loads(file.read_text("utf-8"))
    catalogue["links"].append({"rel": "child", "href": "./catalog.json"})
    file.write_text(json.dumps(catalogue), "utf-8")
    assert len(search_l3a(SAMPLE_AOI, **ASKED, archive=file, transport=LOCAL)) == 4


def test_items_of_other_places_are_no_help(features):
    with pytest.raises(MissingError, match="no file of the product at lon 9"):
        search_l3a((9.0, 48.0, 9.1, 48.1), archive=features, transport=LOCAL)


@pytest.mark.parametrize("archive", [5, object(), [5], [b"x"]])
def test_what_is_nothing_of_stac_is_refused(archive):
    with pytest.raises(SelectionError, match="nothing of STAC"):
        search_l3a(SAMPLE_AOI, archive=archive)


def test_a_dict_that_is_nothing_of_stac_is_refused():
    with pytest.raises(ArchiveError, match="is no STAC object: its type is 'Topology'"):
        search_l3a(SAMPLE_AOI, archive={"type": "Topology"})


def test_a_gone_document_is_named(features, tmp_path):
    file = save_catalogue(features, tmp_path)
    next((tmp_path / "S2_L3A_WASP").rglob("*/*.json")).unlink()
    with pytest.raises(ArchiveError, match=r"the STAC file .* can't be read"):
        search_l3a(SAMPLE_AOI, **ASKED, archive=file, transport=LOCAL)
