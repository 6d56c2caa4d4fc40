"""Inventories on disk, in both forms: the very same request, or a clear error."""

from __future__ import annotations

import dataclasses
import json
import zipfile

import geopandas as gpd
import numpy as np
import pytest
import shapely

import s2l3a_xr
from s2l3a_xr import ExportError, Inventory, SelectionError, open_l3a, search_l3a
from s2l3a_xr._aoi import Aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._cells import Cell
from s2l3a_xr._cover import Cover
from s2l3a_xr._grid import Grid
from s2l3a_xr._pin import read_pin
from s2l3a_xr._product import Product, resolve_bands
from s2l3a_xr._tiles import tile_named

AOI = (11.681234567890123, 51.94, 11.70, 51.96)
ENDINGS = ["json", "geojson", "parquet", "geoparquet"]


@pytest.fixture
def found(server):
    asked = {"years": 2021, "months": "6-8", "bands": ["red", "FLG"]}
    return search_l3a(AOI, archive=server.url, **asked)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_field_comes_back(found, tmp_path, ending):
    path = found.save(tmp_path / f"pin.{ending}")
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary is left
    back = Inventory.load(str(path))
    assert read_pin(path).keys() == {field.name for field in dataclasses.fields(Inventory)}
    for field in dataclasses.fields(Inventory):
        assert getattr(back, field.name) == getattr(found, field.name), field.name
    assert repr(back) == repr(found)


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_the_same_request_and_the_same_pixels(found, tmp_path, server, ending):
    path = found.save(tmp_path / f"pin.{ending}")
    with pytest.warns(s2l3a_xr.MissingWarning):
        expected = open_l3a(inventory=found)
    server.clear_log()
    for pinned in (path, str(path), Inventory.load(path)):
        with pytest.warns(s2l3a_xr.MissingWarning):
            da = open_l3a(inventory=pinned)
        assert server.log == []
        assert da.attrs["request"] == expected.attrs["request"]
        assert da.data.name == expected.data.name
    np.testing.assert_array_equal(da, expected)
    assert (expected != -10000).any()


def test_an_area_in_its_own_crs_with_holes_and_parts(server, tmp_path):
    ring = shapely.Point(685000, 5759000.123456789).buffer(900, 7)
    parts = shapely.MultiPolygon([ring - ring.centroid.buffer(200), shapely.box(2e2, 0, 3e2, 1)])
    shape = shapely.union_all([parts.geoms[0], shapely.box(687000, 5759000, 687100.7, 5759500)])
    area = gpd.GeoSeries([shape, ring], crs="EPSG:25832")
    found = search_l3a(area, time="2021-05", archive=server.url)
    for ending in ("json", "parquet"):
        back = Inventory.load(found.save(tmp_path / f"pin.{ending}"))
        assert back.aoi == found.aoi
        assert (
            open_l3a(inventory=back).attrs["request"] == open_l3a(inventory=found).attrs["request"]
        )


def test_gis_can_read_both_forms(found, tmp_path):
    for ending, read in (("geojson", gpd.read_file), ("parquet", gpd.read_parquet)):
        table = read(found.save(tmp_path / f"pin.{ending}"))
        assert table.crs == "EPSG:4326" or table.crs.equals("OGC:CRS84")
        assert table["tile"].tolist() == ["32UPC"] * 3
        assert table["month"].astype(str).str[:7].tolist() == ["2021-06", "2021-07", "2021-08"]
        assert table.geometry[0].contains(shapely.box(*AOI))


def test_json_is_for_people(found, tmp_path):
    text = found.save(tmp_path / "pin.json").read_text("utf-8")
    lines = text.splitlines()
    assert ' "license": "CC-BY-4.0",' in lines
    assert ' "references": "https://doi.org/10.15489/4hcq6dgkj648",' in lines
    assert sum("SENTINEL2" in line for line in lines) == 2  # a line for each product
    assert all(len(line) < 1500 for line in lines)


def test_passwords_stay_at_home(found, tmp_path):
    secret = dataclasses.replace(found, archive_url="https://me:secret@example.org/files/")
    text = secret.save(tmp_path / "pin.json").read_text("utf-8")
    assert "secret" not in text
    assert '"https://example.org/files/"' in text


def test_a_file_that_was_there_is_replaced_whole(found, tmp_path):
    path = tmp_path / "pin.json"
    found.save(path)
    path.write_text(path.read_text("utf-8") + "something", "utf-8")
    found.save(path)
    assert Inventory.load(path).tiles == found.tiles
    with pytest.raises(ExportError, match="can't be written"):
        found.save(tmp_path / "no" / "such" / "pin.json")


@pytest.mark.parametrize("name", ["pin", "pin.csv", "pin.json.gz"])
def test_endings_that_are_not_known(found, tmp_path, name):
    with pytest.raises(ExportError, match=r"must end in one of \.geojson, .*got 'pin"):
        found.save(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SelectionError, match="must end in one of"):
        Inventory.load(tmp_path / name)


def test_no_such_file(tmp_path):
    with pytest.raises(SelectionError, match=r"there is no inventory .*nothing\.json"):
        open_l3a(inventory=tmp_path / "nothing.json")


@pytest.mark.parametrize("ending", ["json", "parquet"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_truncated_files(found, tmp_path, ending, share):
    path = found.save(tmp_path / f"pin.{ending}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SelectionError, match=rf"pin\.{ending} can't be read as an inventory"):
        Inventory.load(path)


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "{}", '{"type": "FeatureCollection", "features": []}', "[" * 100000, "\xff",
     '{"s2l3a_xr": [], "features": []}', '{"s2l3a_xr": {}, "features": {}}'],
)  # fmt: skip
def test_other_json(tmp_path, text):
    path = tmp_path / "pin.json"
    path.write_text(text, "latin-1")
    with pytest.raises(SelectionError, match="can't be read as an inventory"):
        Inventory.load(path)


def test_other_parquet(tmp_path):
    path = tmp_path / "pin.parquet"
    gpd.GeoDataFrame({"tile": ["32UPC"]}, geometry=[shapely.Point(0, 0)]).to_parquet(path)
    with pytest.raises(SelectionError, match="no inventory of this package"):
        Inventory.load(path)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a", "b")
    with pytest.raises(SelectionError, match="can't be read as an inventory"):
        Inventory.load(path)


def change(document, *steps, to):
    *before, last = steps
    for step in before:
        document = document[step]
    document[last] = to


HEAD, ROW = ("s2l3a_xr",), ("features", 0, "properties")
NAME = "SENTINEL2X_20210615-000000-000_L3A_T32UPC_C_V1-2"


@pytest.mark.parametrize(
    ("steps", "value", "words"),
    [
        ((*HEAD, "version"), 2, "version 2; this package reads version 1"),
        ((*HEAD, "format"), "other", "its format is 'other'"),
        ((*HEAD, "archive"), "github://me:repo@/", "no place that an inventory may name"),
        ((*HEAD, "archive"), "filecache::https://x/", "no place that an inventory may name"),
        ((*HEAD, "archive"), "zip://a::zip://b::c", "no place that an inventory may name"),
        ((*HEAD, "archive"), "zip://a::sftp://c/d", "no place that an inventory may name"),
        ((*HEAD, "archive"), "https://x/\nHost: y", "no text that can stand there"),
        ((*HEAD, "archive"), None, "no text that can stand there"),
        ((*HEAD, "bands"), ["B4"], "not one entry for each band"),
        ((*HEAD, "bands"), ["B4", "B99"], "no such band"),
        ((*HEAD, "bands"), 7, "not iterable"),
        ((*HEAD, "cover", "tiles"), [], "no tiles"),
        ((*HEAD, "cover", "tiles"), ["../PC"], "is no tile"),
        ((*HEAD, "cover", "uncovered"), 2, "no number from 0 to 1"),
        ((*HEAD, "grid", "width"), 10**12, "no number from 1"),
        ((*HEAD, "grid", "left"), "0", "no number"),
        ((*HEAD, "grid", "left"), float("nan"), "no number"),
        ((*HEAD, "grid", "crs"), "EPSG:0", "Invalid projection"),
        ((*HEAD, "aoi", "geometries"), [], "empty"),
        ((*HEAD, "aoi", "geometries", 0, "coordinates"), [[[0, 0], [1]]], "inventory"),
        ((*HEAD, "aoi", "crs"), "nonsense", "Invalid projection"),
        ((*ROW, "tile"), "32UPC/../..", "is no tile"),
        ((*ROW, "tile"), "99XXX", "no MGRS tile"),
        ((*ROW, "month"), "2021-13", "has no month"),
        ((*ROW, "month"), "2021-08", "a tile and month twice|names"),
        ((*ROW, "product"), NAME.replace("32UPC", "32UQC"), "names 'SENTINEL2X"),
        ((*ROW, "product"), f"../{NAME}", "names '../SENTINEL2X"),
        ((*ROW, "product"), None, "files of no product"),
        ((*ROW, "product"), 5, "no text"),
        ((*ROW, "status"), ["available", "stolen"], "available/stolen"),
        ((*ROW, "status"), [{}, []], "unhashable"),
        ((*ROW, "size"), [-1, None], "no number from 0"),
        ((*ROW, "size"), [1], "not one entry for each band"),
        ((*ROW, "url"), ["file:///etc/passwd", ""], "neither on https nor in its archive"),
        ((*ROW, "url"), ["http://169.254.169.254/", ""], "neither on https nor in its archive"),
        (("features", 0), {}, "it lacks 'properties'"),
        (("features",), [], "no tiles"),
    ],
)
def test_what_can_not_be(found, tmp_path, steps, value, words):
    path = found.save(tmp_path / "pin.json")
    document = json.loads(path.read_text("utf-8"))
    change(document, *steps, to=value)
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SelectionError, match=words) as caught:
        Inventory.load(path)
    assert "can't be read as an inventory" in str(caught.value)


def test_who_told_of_the_files_and_their_terms(found, tmp_path):
    origin = Origin(catalogue="https://example.org/stac", license="other", references="")
    for ending in ("json", "parquet"):
        path = dataclasses.replace(found, origin=origin).save(tmp_path / f"pin.{ending}")
        assert Inventory.load(path).origin == origin


def test_files_of_their_own_places(found, tmp_path):
    """As a catalogue gives them: on https anywhere, or on the archive's own server."""
    server = found.archive_url.partition("/S2")[0]
    urls = ("https://elsewhere.example/a.tif", f"{server}/other/b.tif")
    cells = (dataclasses.replace(found.cells[0], urls=urls), *found.cells[1:])
    path = dataclasses.replace(found, cells=cells).save(tmp_path / "pin.parquet")
    assert Inventory.load(path).cells[0].urls == urls


def germany(count=64, months=96):
    """Make an inventory as large as all of Germany's, of a block of tiles in one zone."""
    names = [f"32U{column}{row}" for row in "ABCDEFGU" for column in "LMNPQ"][:count]
    names += [f"32T{column}{row}" for row in "TSRQP" for column in "LMNPQ"][: count - len(names)]
    bands = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
    tiles = tuple(tile_named(name) for name in sorted(names))
    area = shapely.union_all([tile.box.buffer(-100, join_style="mitre") for tile in tiles])
    left, _, _, top = area.bounds
    return Inventory(
        archive_url="https://example.org/files/",
        aoi=Aoi(features=(shapely.segmentize(area, 500),), crs="EPSG:32632"),
        bands=bands,
        cover=Cover(tiles=tiles, uncovered=0.0),
        grid=Grid(crs="EPSG:32632", left=left, top=top, resolution=10, width=60000, height=90000),
        cells=tuple(
            Cell(
                tile=tile.name,
                month=(2017 + month // 12, month % 12 + 1),
                product=Product(tile=tile.name, year=2017 + month // 12, month=month % 12 + 1),
                status=("unverified",) * len(bands),
                sizes=(None,) * len(bands),
                urls=("",) * len(bands),
            )
            for month in range(months)
            for tile in tiles
        ),
        layers=resolve_bands(bands),
    )


def test_all_of_germany_is_small_on_disk_and_as_a_graph(tmp_path):
    import cloudpickle  # noqa: PLC0415

    whole = germany()
    path = whole.save(tmp_path / "germany.parquet")
    assert path.stat().st_size < 2e6
    da = open_l3a(inventory=path)
    chunks = int(np.prod(da.data.numblocks))
    assert chunks > 50_000
    assert len(da.__dask_graph__()) <= chunks + 10
    assert len(cloudpickle.dumps(da.__dask_graph__())) < 2e6
    assert da.attrs["request"] == open_l3a(inventory=whole).attrs["request"]
