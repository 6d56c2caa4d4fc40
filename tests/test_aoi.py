"""Areas in every form that users have them in, and what is wrong with the others."""

from __future__ import annotations

import json
import re
import zipfile

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.geometry import mapping

from s2l3a_xr._aoi import Aoi, read_aoi
from s2l3a_xr._errors import AoiError, AoiWarning

SQUARE = shapely.box(11.7, 51.9, 11.8, 52.0)
NEXT = shapely.box(11.75, 51.95, 11.9, 52.1)
FRAME = gpd.GeoDataFrame({"name": ["a"]}, geometry=[SQUARE], crs=4326)
UTM = FRAME.to_crs(32632)


class Shape:
    """Something of another library that knows the geo interface."""

    __geo_interface__ = mapping(SQUARE)


def feature(geometry, **more):
    return {"type": "Feature", "properties": {}, "geometry": geometry, **more}


def collection(*geometries, **more):
    return {"type": "FeatureCollection", "features": [feature(g) for g in geometries], **more}


def old_crs(name):
    return {"crs": {"type": "name", "properties": {"name": name}}}


def same_area(aoi, expected=SQUARE):
    """Whether an AOI is the expected lon/lat area, but for the noise of reprojection."""
    return aoi.to_crs("EPSG:4326").union.symmetric_difference(expected).area < 1e-8


def write(frame, path):
    # GeoPandas does not know KML by its name and would write a folder of Shapefiles.
    frame.to_file(path, driver="KML" if path.suffix == ".kml" else None)


FORMS = {
    "polygon": SQUARE,
    "multipolygon": shapely.MultiPolygon([SQUARE]),
    "with height": shapely.force_3d(SQUARE, 80.0),
    "with unknown height": shapely.from_wkt(
        "POLYGON Z ((11.7 51.9 nan, 11.8 51.9 nan, 11.8 52 nan, 11.7 52 nan, 11.7 51.9 nan))"
    ),
    "collection": shapely.GeometryCollection([SQUARE]),
    "GeoSeries": FRAME.geometry,
    "GeoSeries without CRS": gpd.GeoSeries([SQUARE]),
    "GeoSeries with a null": gpd.GeoSeries([None, SQUARE, shapely.Polygon()], crs=4326),
    "GeoDataFrame": FRAME,
    "GeoDataFrame in UTM": UTM,
    "GeoDataFrame in LAEA": FRAME.to_crs(3035),
    "GeoDataFrame in Gauss-Krueger": FRAME.to_crs(31468),
    "GeoDataFrame in ETRS89": FRAME.to_crs(4258),
    "GeoDataFrame, other name": FRAME.rename_geometry("shape"),
    "geometry mapping": mapping(SQUARE),
    "Feature": feature(mapping(SQUARE)),
    "FeatureCollection": collection(mapping(SQUARE)),
    "FeatureCollection with a null": collection(None, mapping(SQUARE)),
    "crs member": {**mapping(UTM.geometry[0]), **old_crs("urn:ogc:def:crs:EPSG::32632")},
    "crs member of a collection": collection(mapping(UTM.geometry[0]), **old_crs("EPSG:32632")),
    "crs member CRS84": {**mapping(SQUARE), **old_crs("urn:ogc:def:crs:OGC:1.3:CRS84")},
    "crs member null": {**mapping(SQUARE), "crs": None},
    "geo interface": Shape(),
    "bounds": (11.7, 51.9, 11.8, 52.0),
    "bounds in a list": [11.7, 51.9, 11.8, 52.0],
    "bounds in an array": np.array([11.7, 51.9, 11.8, 52.0]),
    "bounds of geopandas": FRAME.total_bounds,
    "Aoi": Aoi(features=(SQUARE,), crs="EPSG:4326"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_in_memory(form):
    aoi = read_aoi(form)
    assert same_area(aoi)
    assert not shapely.has_z(aoi.features).any()
    assert shapely.is_valid(aoi.features).all()


def test_a_form_keeps_its_crs_and_coordinates():
    aoi = read_aoi(UTM)
    assert aoi.crs == "EPSG:32632"
    assert aoi.features[0].equals_exact(UTM.geometry[0])
    assert aoi.to_crs("EPSG:32632") is aoi


def test_a_crs_without_code_stays_what_it_is():
    odd = "+proj=laea +lat_0=51 +lon_0=11 +ellps=GRS80 +units=m"
    assert same_area(read_aoi(FRAME.to_crs(odd)))


@pytest.mark.parametrize(
    "name", ["a.geojson", "a.gpkg", "a.shp", "a.kml", "a.fgb", "Fläche 1.geojson"]
)
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_files(tmp_path, name, kind):
    write(FRAME, tmp_path / name)
    assert same_area(read_aoi(kind(tmp_path / name)))


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson"])
def test_files_in_another_crs(tmp_path, name):
    UTM.to_file(tmp_path / name)
    assert read_aoi(tmp_path / name).crs == "EPSG:32632"
    assert same_area(read_aoi(tmp_path / name))


def test_a_file_in_the_working_directory(tmp_path, monkeypatch):
    FRAME.to_file(tmp_path / "a.geojson")
    monkeypatch.chdir(tmp_path)
    assert same_area(read_aoi("a.geojson"))


def test_a_file_at_home(tmp_path, monkeypatch):
    FRAME.to_file(tmp_path / "a.geojson")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert same_area(read_aoi("~/a.geojson"))


@pytest.mark.parametrize("folder", ["", "export/shapes/"])
@pytest.mark.parametrize("name", ["a.shp", "a.gpkg", "a.geojson", "a.kml"])
def test_zipped_files(tmp_path, name, folder):
    write(FRAME, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "it is (1).ZIP", "w") as packed:
        packed.writestr("readme.txt", "shapes")
        packed.writestr(f"__MACOSX/{folder}._{name}", "resource fork")
        for path in tmp_path.glob("a.*"):
            packed.write(path, folder + path.name)
    assert same_area(read_aoi(tmp_path / "it is (1).ZIP"))


def test_a_shapefile_without_prj_is_lonlat(tmp_path):
    FRAME.to_file(tmp_path / "a.shp")
    (tmp_path / "a.prj").unlink()
    assert same_area(read_aoi(tmp_path / "a.shp"))


def test_all_layers_count_each_in_its_crs(tmp_path):
    FRAME.to_file(tmp_path / "a.gpkg", layer="one")
    FRAME.set_geometry([NEXT]).to_crs(25833).to_file(tmp_path / "a.gpkg", layer="two")
    with pytest.warns(AoiWarning, match=r"2 layers, .*one, two; .*layer=…"):
        assert same_area(read_aoi(tmp_path / "a.gpkg"), SQUARE | NEXT)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("bare", ["a", "z"])
def test_a_layer_without_crs_is_lonlat(tmp_path, bare):
    FRAME.to_file(tmp_path / "a.gpkg", layer="m")
    FRAME.set_geometry([NEXT]).set_crs(None, allow_override=True).to_file(
        tmp_path / "a.gpkg", layer=bare
    )
    with pytest.warns(AoiWarning, match="2 layers"):
        assert same_area(read_aoi(tmp_path / "a.gpkg"), SQUARE | NEXT)


def test_overlapping_and_multipart_features_are_united():
    far = shapely.box(12.5, 51.0, 12.6, 51.1)
    aoi = read_aoi(gpd.GeoSeries([SQUARE, shapely.MultiPolygon([NEXT, far])], crs=4326))
    assert len(aoi.features) == 2
    assert same_area(aoi, shapely.union_all([SQUARE, NEXT, far]))
    assert aoi.bounds == (11.7, 51.0, 12.6, 52.1)
    assert aoi.box().features[0].equals(shapely.box(11.7, 51.0, 12.6, 52.1))
    assert aoi.describe() == "lon 11.700 to 12.600, lat 51.000 to 52.100"


def test_holes_stay():
    holed = SQUARE - shapely.box(11.73, 51.93, 11.76, 51.96)
    assert len(read_aoi(holed).features[0].interiors) == 1
    assert same_area(read_aoi(holed), holed)


def test_rings_that_cross_themselves_are_repaired():
    bow = shapely.Polygon([(11, 52), (12, 53), (12, 52), (11, 53)])
    with pytest.warns(AoiWarning, match=r"1 AOI geometry is invalid and repaired.*Self-inter"):
        aoi = read_aoi(gpd.GeoSeries([bow, SQUARE], crs=4326))
    assert shapely.is_valid(aoi.features).all()
    assert aoi.features[0].area == pytest.approx(0.5)
    with pytest.warns(AoiWarning, match="2 AOI geometries are invalid"):
        read_aoi(gpd.GeoSeries([bow, bow], crs=4326))


def test_an_overlapping_multipolygon_is_repaired_to_its_union():
    with pytest.warns(AoiWarning, match="repaired"):
        aoi = read_aoi(shapely.MultiPolygon([SQUARE, NEXT]))
    assert same_area(aoi, SQUARE | NEXT)


def test_lines_and_points_are_left_out():
    with pytest.warns(AoiWarning, match="1 of 2 AOI geometries are no polygons: left out"):
        aoi = read_aoi(gpd.GeoSeries([SQUARE, shapely.Point(11, 52)], crs=4326))
    assert same_area(aoi)


def test_of_collections_only_polygons_are_kept():
    line = shapely.LineString([(11, 52), (12, 52)])
    nested = shapely.GeometryCollection(
        [shapely.GeometryCollection([SQUARE, line]), shapely.Point(1, 1), NEXT]
    )
    aoi = read_aoi(nested)
    assert aoi.features[0].geom_type == "Polygon"
    assert same_area(aoi, SQUARE | NEXT)


def error_of(aoi):
    with pytest.raises(AoiError) as caught:
        read_aoi(aoi)
    return str(caught.value)


TRIANGLE = [[11, 52], [12, 52], [11, 53]]
WRONG = {
    "empty polygon": (shapely.Polygon(), "the AOI is empty: .* at least one polygon"),
    "empty series": (gpd.GeoSeries([], crs=4326), "the AOI is empty"),
    "only null": (gpd.GeoSeries([None], crs=4326), "the AOI is empty"),
    "empty frame": (FRAME.iloc[:0], "the AOI is empty"),
    "empty mapping": ({}, "the AOI is empty"),
    "null feature": (feature(None), "the AOI is empty"),
    "no features": (collection(), "the AOI is empty"),
    "point": (shapely.Point(11, 52), "no polygon, only Point; buffer points and lines first"),
    "lines": (
        gpd.GeoSeries([shapely.Point(11, 52), shapely.LineString([(11, 52), (12, 52)])]),
        "no polygon, only LineString, Point; buffer",
    ),
    "infinite": (shapely.Polygon([(11, 52), (np.inf, 52), (11, 53)]), r"not finite .*correct"),
    "NaN mapping": (
        {"type": "MultiPoint", "coordinates": [[11.0, 52.0], [float("nan"), 52.0]]},
        "not finite",
    ),
    "NaN bounds": ((np.nan, 51.9, 11.8, 52.0), "four finite numbers"),
    "three bounds": ((11.7, 51.9, 11.8), r"four finite numbers \(minx, miny, maxx, maxy\)"),
    "words as bounds": (("a", "b", "c", "d"), r"four numbers .*got \('a'"),
    "turned bounds": ((11.8, 51.9, 11.7, 52.0), "are empty: the order is"),
    "flat bounds": ((11.7, 51.9, 11.8, 51.9), "are empty"),
    "metres": ((600000, 5690000, 610000, 5700000), "no degrees of lon/lat; if they are metres"),
    "metres in a polygon": (UTM.geometry[0], "if they are metres, give the AOI with its CRS"),
    "swapped bounds": ((51.9, 11.7, 52.0, 11.8), "lon and lat swapped .*: swap them"),
    "swapped polygon": (shapely.box(51.9, 11.7, 52.0, 11.8), "x is longitude"),
    "no AOI": (None, "can't be a NoneType; give a path"),
    "number": (7, "can't be a int; give a path"),
    "unknown mapping": ({"type": "Topology"}, "mapping of type 'Topology' is no GeoJSON"),
    "two corners": (
        {"type": "Polygon", "coordinates": [TRIANGLE[:2]]},
        "'Polygon' is no GeoJSON .*at least",
    ),
    "text coordinates": (
        {"type": "Polygon", "coordinates": [[["a", "b"], *TRIANGLE]]},
        "'Polygon' is no GeoJSON",
    ),
    "no coordinates": ({"type": "Polygon", "coordinates": 5}, "'Polygon' is no GeoJSON"),
    "features null": ({"type": "FeatureCollection", "features": None}, "is no GeoJSON"),
    "features missing": ({"type": "FeatureCollection"}, "is no GeoJSON"),
    "features of text": ({"type": "FeatureCollection", "features": ["a"]}, "is no GeoJSON"),
    "unknown crs": ({**mapping(SQUARE), **old_crs("EPSG:999999")}, "crs member names no known"),
    "URL": ("https://example.org/a.geojson", "from a local file, not from .*download it first"),
    "GDAL's network": ("/vsicurl/https://example.org/a.geojson", "download it first"),
    "missing file": ("no/such.gpkg", r"no such AOI file: 'no/such.gpkg' \(looked in .*check"),
    "no path": ("", "no such AOI file: ''"),
    "bounds in text": ("11.68,51.94,11.76,51.99", r"\(minx, miny, maxx, maxy\)"),
    "frame without geometry": (gpd.GeoDataFrame({"a": [1]}), "no active geometry column"),
}


@pytest.mark.parametrize(("aoi", "words"), WRONG.values(), ids=WRONG)
def test_wrong_areas_are_explained(aoi, words):
    assert re.search(words, error_of(aoi))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # GEOS
def test_nan_in_a_polygon():
    assert "not finite" in error_of(shapely.Polygon([(11, 52), (np.nan, 52), (12, 53)]))


def test_a_ring_without_area():
    with pytest.warns(AoiWarning, match="invalid"):
        assert "no polygon" in error_of(shapely.Polygon([(11, 52), (12, 52), (11, 52)]))


CORRUPT = {
    "cut.geojson": b'{"type": "FeatureColl',
    "not.gpkg": b"SQLite format 3\0 and then nothing",
    "not.shp": b"xx",
    "not.kml": b"<kml",
    "not.zip": b"PKxx",
    "note.txt": b"hello",
    "page.geojson": b"<!DOCTYPE html><html><body>404</body></html>",
    "empty.geojson": b"",
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(CORRUPT[name])
    text = error_of(tmp_path / name)
    assert text.startswith(str(tmp_path / name))
    assert "can't be read as a vector file (GeoJSON, GPKG, Shapefile, KML)" in text
    assert text.endswith("see that it is whole, or export it anew.")
    assert "driver explicitly" not in text


def test_a_shapefile_without_its_other_files(tmp_path):
    FRAME.to_file(tmp_path / "a.shp")
    (tmp_path / "a.shx").unlink()
    assert "a.shx" in error_of(tmp_path / "a.shp")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Non closed ring:RuntimeWarning")  # GDAL says it too
def test_a_file_with_an_open_ring(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[*TRIANGLE, [11.2, 52.5]]]}))
    assert "do not form a closed linestring" in error_of(path)


def test_files_without_polygons(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert "no layer with geometries" in error_of(tmp_path / "a.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("readme.txt", "nothing here")
    assert "no layer with geometries; give a file of polygons" in error_of(tmp_path / "a.zip")
    FRAME.set_geometry([shapely.Point(11, 52)]).to_file(tmp_path / "p.gpkg")
    assert "only Point; buffer" in error_of(tmp_path / "p.gpkg")
    (tmp_path / "n.geojson").write_text(json.dumps(collection(None)))
    assert "the AOI is empty" in error_of(tmp_path / "n.geojson")


def test_what_has_no_place_in_a_crs():
    aoi = read_aoi(gpd.GeoSeries([shapely.box(1e12, 1e12, 2e12, 2e12)], crs=25832))
    with pytest.raises(AoiError, match=r"from ETRS89 / UTM zone 32N to WGS 84; check its"):
        aoi.to_crs("EPSG:4326")


def test_metres_without_a_crs_are_read_as_the_message_says(tmp_path):
    path = tmp_path / "metres.geojson"
    UTM.to_crs(25832).set_crs(4326, allow_override=True).to_file(path)
    with pytest.raises(AoiError, match=r"set_crs\(25832, allow_override=True\)"):
        read_aoi(path)
    meant = gpd.read_file(path).set_crs(25832, allow_override=True)
    assert read_aoi(meant).crs == "EPSG:25832"
