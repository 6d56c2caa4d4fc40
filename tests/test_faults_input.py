"""Input faults, numbered as in the list of faults (80-87): each says what, where and what to do."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner
from shapely.geometry import mapping

from s2l3a_xr import (
    AoiError,
    AoiWarning,
    ExportError,
    InputError,
    MissingError,
    SelectionError,
    open_l3a,
    search_l3a,
    to_geotiff,
)
from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._archive import Listed
from s2l3a_xr._cli import main
from s2l3a_xr._cover import least_cover
from s2l3a_xr._product import Product
from s2l3a_xr._tiles import tiles_over

BOX = shapely.box(11.7, 51.9, 11.8, 52.0)
AOI = (11.68, 51.94, 11.76, 51.99)
GERMANY = (5.87, 47.27, 15.04, 55.06)
NEXT_YEAR = dt.datetime.now(dt.UTC).year + 1


@pytest.fixture
def silence():
    """Give an archive's address where nobody may come."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/S2_L3A_WASP/files/"
        with pytest.raises(TimeoutError):
            listener.accept()


def cli(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def check_refusal(shown, words):
    """One line on stderr, exit code 2, no traceback."""
    assert shown.exit_code == 2, shown.output
    assert re.search(words, shown.stderr), shown.stderr
    assert "Traceback" not in shown.output
    assert shown.stdout == ""


def refused(aoi, words):
    with pytest.raises(AoiError) as caught:
        read_aoi(aoi)
    assert re.search(words, str(caught.value)), caught.value
    return str(caught.value)


# 80: nothing there

POLYGON = {"type": "Polygon", "coordinates": []}
EMPTY = {
    "no bytes": ("", "can't be read as a vector file .* whole"),
    "no object": ("{}", "can't be read as a vector file"),
    "no features": ('{"type": "FeatureCollection", "features": []}', "the AOI is empty|no layer"),
    "null geometry": (
        '{"type": "Feature", "properties": {}, "geometry": null}', "the AOI is empty: .* polygon",
    ),
    "empty polygon": (json.dumps(POLYGON), "the AOI is empty: .* at least one polygon"),
    "empty collection": (
        '{"type": "GeometryCollection", "geometries": []}', "the AOI is empty: .* polygon",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), EMPTY.values(), ids=EMPTY)
def test_80_an_area_of_nothing(tmp_path, silence, text, words):
    path = tmp_path / "a.geojson"
    path.write_text(text, "utf-8")
    refused(path, words)
    check_refusal(cli("search", path, "--archive", silence), words)


@pytest.mark.parametrize(
    "aoi",
    [
        shapely.Polygon(), shapely.MultiPolygon(), shapely.GeometryCollection(),
        gpd.GeoSeries([None], crs=4326), gpd.GeoDataFrame(geometry=[], crs=4326), {}, POLYGON,
        {"type": "Feature", "geometry": None}, {"type": "FeatureCollection", "features": []},
    ],
)  # fmt: skip
def test_80_nothing_in_memory(aoi):
    refused(aoi, "^the AOI is empty: it has no geometry; give at least one polygon")


# 81: more than a polygon

HOLED = BOX - shapely.box(11.73, 51.93, 11.76, 51.96)
FORMS = {
    "3D": (shapely.force_3d(BOX, 99.0), BOX),
    "multi": (shapely.MultiPolygon([BOX, shapely.box(12, 51, 12.1, 51.1)]), None),
    "collection": (shapely.GeometryCollection([BOX, shapely.Point(11, 52)]), BOX),
    "nested": (shapely.GeometryCollection([shapely.GeometryCollection([HOLED])]), HOLED),
    "holes": (HOLED, HOLED),
    "3D holes": (shapely.force_3d(shapely.MultiPolygon([HOLED]), 5.0), HOLED),
}


@pytest.mark.parametrize(("shape", "expected"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("suffix", [None, ".geojson", ".gpkg", ".kml"])
def test_81_other_forms_keep_their_area(tmp_path, shape, expected, suffix):
    if suffix is None:
        aoi = read_aoi(shape)
    else:
        path = tmp_path / f"a{suffix}"
        frame = gpd.GeoDataFrame(geometry=[shape], crs=4326)
        frame.to_file(path, driver="KML" if suffix == ".kml" else None)
        aoi = read_aoi(path)
    expected = shapely.force_2d(shape) if expected is None else expected
    assert aoi.union.symmetric_difference(expected).area < 1e-12
    assert not shapely.has_z(aoi.features).any()


# 82: rings that cross themselves

BOW = shapely.Polygon([(11, 52), (12, 53), (12, 52), (11, 53)])
SPIKE = shapely.Polygon([(11, 52), (12, 52), (12, 53), (13, 54), (12, 53), (11, 53)])
OVERLAP = shapely.MultiPolygon([BOX, shapely.box(11.75, 51.95, 11.9, 52.1)])
TWICE = shapely.Polygon([*BOX.exterior.coords, *BOX.exterior.coords])


@pytest.mark.parametrize(
    ("shape", "area"),
    [(BOW, 0.5), (SPIKE, 1.0), (OVERLAP, 0.01 + 0.0225 - 0.0025), (TWICE, 0.01)],
    ids=["bow", "spike", "overlap", "twice"],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_82_an_invalid_area_is_repaired_and_told(tmp_path, shape, area, as_file):
    aoi = shape
    if as_file:
        aoi = tmp_path / "a.geojson"
        aoi.write_text(json.dumps(mapping(shape)), "utf-8")
    with pytest.warns(AoiWarning, match="invalid and repaired with shapely.make_valid.*check the"):
        repaired = read_aoi(aoi)
    assert shapely.is_valid(repaired.features).all()
    assert repaired.union.area == pytest.approx(area)


def test_82_a_valid_area_is_not_touched():
    assert read_aoi(BOX).features[0].equals_exact(BOX)


def test_82_an_open_ring_in_a_file_is_an_error(tmp_path):
    ring = [[11, 52], [12, 52], [12, 53], [11, 53]]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}), "utf-8")
    with pytest.warns((RuntimeWarning, pytest.PytestUnraisableExceptionWarning)):
        refused(path, "closed linestring.*whole")


# 83: coordinates of another kind

UTM = gpd.GeoSeries([BOX], crs=4326).to_crs(32632)
KINDS = {
    "metres as degrees": (
        UTM.iloc[0], r"no degrees of lon/lat; if they are metres.* its CRS: .*set_crs.*ogr2ogr",
    ),
    "metres labelled degrees": (
        UTM.set_crs(4326, allow_override=True), "no degrees of lon/lat; if they are metres",
    ),
    "degrees labelled metres": (
        gpd.GeoSeries([BOX], crs=32632),
        r"degrees of Germany, but its CRS is WGS 84 / UTM .*set_crs\('EPSG:4326'",
    ),
    "lat before lon": ((51.9, 11.7, 52.0, 11.8), "lon and lat swapped .* in Germany: swap them"),
    "lat before lon, polygon": (
        shapely.box(51.9, 11.7, 52.0, 11.8), "at lon 51.900 to 52.000, lat 11.700 .*swap",
    ),
    "northing before easting": (
        gpd.GeoSeries(shapely.transform(UTM.to_numpy(), lambda xy: xy[:, ::-1]), crs=32632),
        "with x and y swapped it lies in Germany: swap them",
    ),
    "unknown CRS": (
        {**mapping(BOX), "crs": {"type": "name", "properties": {"name": "EPSG:999999"}}},
        "crs member names no known CRS.*remove it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("aoi", "words"), KINDS.values(), ids=KINDS)
def test_83_coordinates_of_another_kind(aoi, words, silence):
    refused(aoi, words)
    with pytest.raises(AoiError, match=words):
        open_l3a(aoi, years=2021, archive=silence)


def test_83_on_the_command_line(silence):
    check_refusal(cli("search", "51.9,11.7,52.0,11.8", "--archive", silence), "swap")
    metres = "600000,5750000,610000,5760000"
    check_refusal(cli("search", metres, "--archive", silence), "no degrees of lon/lat")


@pytest.mark.parametrize(
    "crs", [25832, 31467, 3035, 4258, 3857, "+proj=laea +lat_0=51.9 +lon_0=11.7"]
)
def test_83_right_ones_pass(crs):
    aoi = read_aoi(gpd.GeoSeries([BOX], crs=4326).to_crs(crs))
    assert aoi.to_crs("EPSG:4326").union.symmetric_difference(BOX).area < 1e-6


# 84: places without tiles

ELSEWHERE = {
    "Kenya": ((36.0, 1.0, 37.0, 2.0), MissingError),
    "sea": ((-30.0, 40.0, -29.0, 41.0), MissingError),
    "antimeridian": (
        shapely.MultiPolygon([shapely.box(179, 50, 180, 51), shapely.box(-180, 50, -179, 51)]),
        AoiError,
    ),
    "world": ((-180.0, -90.0, 180.0, 90.0), AoiError),
    "northern half": ((-179.9, 0.1, 179.9, 83.9), AoiError),
    "north pole": ((-180.0, 85.0, 180.0, 90.0), AoiError),
    "south pole": ((-180.0, -90.0, 180.0, -85.0), AoiError),
    "southern": ((11.0, -35.0, 12.0, -34.0), AoiError),
}


@pytest.mark.parametrize(("aoi", "error"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_84_an_area_without_tiles_is_told_with_its_place(aoi, error, server):
    with pytest.raises(error, match=r"lon -?\d.* lat -?\d") as caught:
        search_l3a(aoi, years=2021, archive=server.url)
    assert "Germany" in str(caught.value)
    assert re.search("no (product )?tile", str(caught.value))
    assert len(server.log) < 20


# 85: all Germany


class Everything:
    """An archive that has every tile, so that nothing is asked of anybody."""

    url = "https://nowhere.invalid/files/"

    async def products(self, _, tile, year):
        return tuple(Product(tile=tile, year=year, month=month) for month in range(3, 11))

    async def files(self, _, __, bands, ___):
        return {band.native: Listed(size=2 * 10**8) for band in bands}

    async def years(self, *_):
        return (2021,)


def test_85_all_germany_opens_and_is_not_written_unasked(tmp_path):
    da = open_l3a(GERMANY, years=2021, months="3-10", archive=Everything())
    assert da.sizes["y"] > 80_000
    began = time.monotonic()
    words = r"32 files of \d+ x \d+ pixels, unpacked, are 3\d\d GB.*max_bytes=None \(--yes\)"
    with pytest.raises(ExportError, match=words):
        to_geotiff(da, tmp_path / "out", progress=False)
    with pytest.raises(ExportError, match=words):
        da.l3a.to_geotiff(tmp_path / "out", progress=False)
    assert time.monotonic() - began < 20
    assert not [*(tmp_path / "out").rglob("*.tif")]


def test_85_the_limit_is_the_users(server, tmp_path):
    da = open_l3a(AOI, time="2021-04/2021-05", bands="B4", archive=server.url)
    size = da.nbytes
    with pytest.raises(ExportError, match="2 files of"):
        to_geotiff(da, tmp_path, progress=False, max_bytes=size - 1)
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]
    assert len(to_geotiff(da, tmp_path, progress=False, max_bytes=size)) == 2
    # What is there already does not count.
    assert len(to_geotiff(da, tmp_path, progress=False, max_bytes=1)) == 2
    assert len(to_geotiff(da, tmp_path, overwrite=True, progress=False, max_bytes=None)) == 2


def test_85_the_command_line_shows_and_refuses(server, tmp_path, monkeypatch):
    monkeypatch.setattr("s2l3a_xr._volume.MAX_BYTES", 1000)
    bounds = ",".join(map(str, AOI))
    shown = cli("download", bounds, tmp_path, "--time", "2021-04/2021-05", "--archive", server.url)
    check_refusal(shown, r"8 files of \d+ x \d+ pixels, unpacked, are .* MB.*--yes")
    assert re.search("whole files .*, roughly .* to be read", shown.stderr)
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]


SMALL_LIMIT = (
    "import s2l3a_xr._volume as volume; volume.MAX_BYTES = 1000\n"
    "from s2l3a_xr._cli import main; main()"
)


@pytest.mark.parametrize(
    ("answer", "more", "code"), [("n", [], 1), ("y", [], 0), ("", ["--yes"], 0)]
)
def test_85_at_a_terminal_it_asks(server, tmp_path, answer, more, code):
    bounds = ",".join(map(str, AOI))
    words = ["download", bounds, tmp_path, "--time", "2021-05", "--bands", "B4", "--quiet"]
    command = [sys.executable, "-c", SMALL_LIMIT, *words, "--archive", server.url, *more]
    leader, follower = pytest.importorskip("pty").openpty()
    try:
        os.write(leader, f"{answer}\n".encode())
        done = subprocess.run(  # noqa: S603 - our own code
            [str(word) for word in command],
            stdin=follower, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == code, done.stderr
    assert ("Go on?" in done.stderr) == (not more)
    assert len([*tmp_path.glob("*.tif")]) == (code == 0)


def test_85_a_mirror_is_asked_about_too(server, tmp_path, monkeypatch):
    monkeypatch.setattr("s2l3a_xr._volume.MAX_BYTES", 1000)
    bounds = ",".join(map(str, AOI))
    words = ["download", bounds, "--mirror", tmp_path / "m", "--time", "2021-05", "--bands", "B4"]
    shown = cli(*words, "--archive", server.url)
    check_refusal(shown, "the blocks to be copied are .*--yes")
    assert not (tmp_path / "m").exists()
    shown = cli(*words, "--archive", server.url, "--yes")
    assert shown.exit_code == 0, shown.output


# 86: sizes

VERTICES = 10**6


def rough_circle(count):
    """Draw a coast of that many vertices around Magdeburg."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = 0.3 * (1 + 0.1 * np.sin(5000 * angle))
    return np.c_[11.7 + radius * np.cos(angle), 51.9 + 0.6 * radius * np.sin(angle)]


def test_86_a_million_vertices_are_quick_and_right(tmp_path):
    path = tmp_path / "big.geojson"
    coast = shapely.Polygon(rough_circle(VERTICES))
    path.write_text(shapely.to_geojson(coast), "utf-8")
    assert path.stat().st_size > 35e6
    expected = coast.area
    began = time.monotonic()
    aoi = read_aoi(path)
    tiles = least_cover(aoi, tiles_over(aoi), {}).tiles
    took_s = time.monotonic() - began
    assert aoi.union.area == pytest.approx(expected)
    assert [tile.name for tile in tiles] == ["32UPC"]
    assert took_s < 60  # 5 on a quiet machine


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # GEOS
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_86_coordinates_that_are_not_finite(tmp_path, silence, value):
    ring = [(11, 52), (12, 52), (12, value), (11, 53), (11, 52)]
    refused(shapely.Polygon(ring), "not finite .*correct or drop")
    refused((11.0, 51.0, value, 52.0), "four finite numbers|are empty")
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}), "utf-8")
    with pytest.raises(AoiError):
        read_aoi(path)
    check_refusal(cli("search", f"11,51,{value},52", "--archive", silence), "finite|empty")


@pytest.mark.parametrize(
    ("aoi", "words"),
    [
        ((11.7, 51.9, 11.7, 52.0), "are empty: the order is"),
        (shapely.LineString([(11, 52), (12, 52)]), "no polygon, only LineString; buffer"),
        (shapely.Point(11, 52), "no polygon, only Point; buffer"),
    ],
)
def test_86_no_area(aoi, words):
    refused(aoi, words)


def test_86_a_flat_ring():
    with pytest.warns(AoiWarning, match="invalid"):
        refused(shapely.Polygon([(11, 52), (12, 52), (11, 52)]), "no polygon")


def test_86_one_pixel(server):
    x, y = 685_015.0, 5_760_005.0  # a centre
    for side, all_touched in ((9.0, False), (1.0, True)):
        inner = shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        aoi = gpd.GeoSeries([inner], crs=32632)
        da = open_l3a(aoi, time="2021-05", bands="B4", archive=server.url, all_touched=all_touched)
        values = da.to_numpy()
        assert (values != -10000).sum() == 1
        whole = open_l3a(aoi.buffer(50), time="2021-05", bands="B4", archive=server.url)
        assert values.max() == int(whole.sel(x=x, y=y).squeeze())


def test_86_an_area_between_centres_is_told(server):
    x, y = 685_011.0, 5_760_001.0
    aoi = gpd.GeoSeries([shapely.box(x, y, x + 2, y + 2)], crs=32632)
    with pytest.warns(AoiWarning, match="no pixel's centre lies in it: all is nodata.*all_touched"):
        da = open_l3a(aoi, time="2021-05", bands="B4", archive=server.url)
    assert (da == -10000).all()


# 87: what can't be asked for

WISHES = {
    "band": ({"bands": "B99"}, "no such band: 'B99'.*choose from B2"),
    "band in other letters": ({"bands": ["b04"]}, r"no such band: 'b04' \(perhaps 'B4'\)"),
    "no band": ({"bands": []}, "bands is empty; choose from"),
    "band twice": ({"bands": ["B4", "red"]}, "more than once"),
    "month 13": ({"years": 2021, "months": 13}, "13 is not in 1 to 12"),
    "month 0": ({"years": 2021, "months": 0}, "0 is not in 1 to 12"),
    "no months": ({"years": 2021, "months": []}, "selects nothing"),
    "months turned": ({"years": 2021, "months": "10-3"}, "from the smaller to the larger"),
    "year 1999": ({"years": 1999}, "product begins in 2015"),
    "years turned": ({"years": "2021-2019"}, "from the smaller to the larger"),
    "year to come": ({"years": NEXT_YEAR}, "lies in the future: today is 20.*earlier ones"),
    "month to come": ({"time": f"{NEXT_YEAR}-12"}, "lies in the future"),
    "span to come": ({"time": f"{NEXT_YEAR}-03/{NEXT_YEAR}-05"}, "lies in the future"),
    "open span to come": ({"time": f"{NEXT_YEAR}-03/.."}, "lies in the future"),
    "end before start": ({"time": "2021-10/2021-03"}, "ends before it begins"),
    "no date": ({"time": "2021-13"}, "'2021-13' is no month; write"),
    "no word": ({"time": "soon"}, "'soon' is no month; write"),
    "time and years": ({"time": "2021-03", "years": 2021}, "not both"),
    "resolution 0": ({"resolution": 0}, "resolution"),
    "negative resolution": ({"resolution": -10}, "resolution"),
    "resolution NaN": ({"resolution": float("nan")}, "resolution"),
    "endless resolution": ({"resolution": float("inf")}, "resolution"),
    "resolution of 15 m": ({"resolution": 15}, "multiple of 10"),
    "resolution in words": ({"resolution": "fine"}, "resolution"),
    "CRS": ({"crs": "EPSG:999999"}, "crs"),
    "degrees without size": ({"crs": "EPSG:4326"}, "resolution"),
    "kernel": ({"resampling": "lanczos"}, "resampling"),
    "policy": ({"missing": "ignore"}, "missing='ignore' must be one of"),
    "verify": ({"verify": "maybe"}, "verify='maybe' must be"),
}


@pytest.mark.parametrize(("wish", "words"), WISHES.values(), ids=WISHES)
def test_87_is_refused_before_anything_is_asked(silence, wish, words):
    with pytest.raises(SelectionError, match=words) as caught:
        open_l3a(AOI, archive=silence, **wish)
    assert isinstance(caught.value, InputError)


def test_87_months_that_reach_into_the_future_are_missing(server):
    this_year = dt.datetime.now(dt.UTC).year
    found = search_l3a(AOI, years=[2021, this_year, NEXT_YEAR], months=5, archive=server.url)
    assert found.missing_months[-1] == (NEXT_YEAR, 5)


COMMANDS = {
    "band": (["--bands", "B99"], "no such band: 'B99'"),
    "no band": (["--bands", ""], "no such band: ''"),
    "month": (["--years", "2021", "--months", "13"], "13 is not in 1 to 12"),
    "months turned": (["--years", "2021", "--months", "10-3"], "smaller to the larger"),
    "year": (["--years", "1999"], "product begins in 2015"),
    "year in words": (["--years", "last"], "is no number"),
    "to come": (["--years", str(NEXT_YEAR)], "lies in the future"),
    "end before start": (["--time", "2021-10/2021-03"], "ends before it begins"),
    "no date": (["--time", "2021-13"], "is no month"),
    "connections": (["--max-connections", "0"], "0 is not in the range"),
    "unknown option": (["--nonsense"], "No such option"),
}
GRIDS = {
    "resolution": (["--resolution", "-10"], "resolution"),
    "resolution in words": (["--resolution", "fine"], "'fine' is not a valid float"),
    "resolution of 15 m": (["--resolution", "15"], "multiple of 10"),
    "resolution NaN": (["--resolution", "nan"], "resolution"),
    "CRS": (["--crs", "nonsense"], "crs"),
    "kernel": (["--resampling", "lanczos"], "resampling"),
    "policy": (["--missing", "ignore"], "'ignore' is not one of"),
    "like": (["--like", "no/such.tif"], "does not exist"),
}


@pytest.mark.parametrize(("words", "told"), COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("command", ["search", "download"])
def test_87_on_the_command_line_it_is_exit_code_2(silence, tmp_path, command, words, told):
    out = [tmp_path / "out"] if command == "download" else []
    bounds = ",".join(map(str, AOI))
    check_refusal(cli(command, bounds, *out, *words, "--archive", silence), told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "told"), GRIDS.values(), ids=GRIDS)
def test_87_so_are_impossible_grids(silence, tmp_path, words, told):
    bounds = ",".join(map(str, AOI))
    check_refusal(cli("download", bounds, tmp_path / "out", *words, "--archive", silence), told)
    assert not (tmp_path / "out").exists()


def test_87_nor_is_there_a_traceback_in_a_process_of_its_own(silence):
    command = [sys.executable, "-m", "s2l3a_xr._cli", "search", "1,2,3", "--archive", silence]
    done = subprocess.run(  # noqa: S603 - our own code
        command, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "minx,miny,maxx,maxy" in done.stderr


# AOI files that send GDAL elsewhere


@pytest.fixture
def watched():
    """Give an address of this machine, and the lines that come to it."""
    came = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        over = threading.Event()

        def take():
            while not over.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                came.append(peer.recv(100))
                peer.close()

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
        over.set()
        thread.join()
    assert came == []


@pytest.mark.parametrize(
    "place",
    [
        "{}/a.geojson", "/vsicurl/{}/a.geojson", "/vsizip//vsicurl/{}/a.zip", "zip+{}/a.zip",
        "/vsigzip//vsicurl/{}/a", "WFS:{}/wfs", "OAPIF:{}/", "/vsistdin/", "s3://bucket/a.gpkg",
    ],
)  # fmt: skip
def test_aoi_paths_into_the_network_are_refused(watched, place):
    url, _ = watched
    refused(place.format(url), "local file, not from .*download it first")
    refused(place.format(url.partition("://")[2]) + "x.geojson", "download it first|no such AOI")


def pointers(url, secret):
    """Files that GDAL would follow somewhere else."""
    layer = "<OGRVRTLayer name='a'><SrcDataSource>{}</SrcDataSource></OGRVRTLayer>"
    vrt = f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>"
    step = {"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {secret}"}
    return {
        "vrt.geojson": vrt.format(f"/vsicurl/{url}/a.geojson"),
        "vrt.kml": f"\n<?xml version='1.0'?>\n{vrt.format(secret)}",
        "a.vrt": vrt.format(secret),
        "wfs.xml": f"<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>",
        "steps.gdalg.json": json.dumps(step),
        "steps.geojson": json.dumps(step),
    }


@pytest.mark.parametrize("name", sorted(pointers("", "")))
@pytest.mark.parametrize("zipped", [False, True])
def test_aoi_files_that_point_elsewhere_are_refused(tmp_path, watched, name, zipped):
    url, _ = watched
    secret = tmp_path / "secret.geojson"
    gpd.GeoSeries([BOX], crs=4326).to_file(secret)
    path = tmp_path / name
    path.write_text(pointers(url, secret)[name], "utf-8")
    if zipped:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.write(path, f"{path.stem}.geojson")
        path = tmp_path / "a.zip"
    refused(path, "tells GDAL to fetch them elsewhere .*export it as GeoJSON or GPKG first")


def test_gdal_would_follow_them(tmp_path):
    """The fault is real: without our look at the file it would be read."""
    secret = tmp_path / "secret.geojson"
    gpd.GeoSeries([BOX], crs=4326).to_file(secret)
    path = tmp_path / "vrt.geojson"
    text = pointers("", secret)["vrt.kml"].replace("name='a'", "name='secret'").lstrip()
    path.write_text(text, "utf-8")
    assert len(pyogrio.read_dataframe(path)) == 1


def test_no_schema_of_a_gml_file_is_fetched(tmp_path, watched):
    url, came = watched
    ring = " ".join(f"{x} {y}" for x, y in BOX.exterior.coords)
    where = f"{url}/wfs?service=WFS&amp;request=DescribeFeatureType&amp;typename=a:b"
    path = tmp_path / "a.gml"
    path.write_text(
        '<?xml version="1.0"?><wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs/2.0" '
        'xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:a="http://a.example" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="http://a.example {where}"><wfs:member><a:b gml:id="b.1"><a:g>'
        '<gml:Polygon gml:id="p" srsName="urn:ogc:def:crs:OGC:1.3:CRS84"><gml:exterior>'
        f"<gml:LinearRing><gml:posList>{ring}</gml:posList></gml:LinearRing></gml:exterior>"
        "</gml:Polygon></a:g></a:b></wfs:member></wfs:FeatureCollection>",
        "utf-8",
    )
    assert read_aoi(path).union.equals(BOX)
    assert came == []


def test_entities_of_a_kml_file_are_not_unfolded(tmp_path):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    path = tmp_path / "a.kml"
    path.write_text(
        f'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY e0 "x">{entities}]><kml xmlns='
        '"http://www.opengis.net/kml/2.2"><Placemark><name>&e8;</name></Placemark></kml>',
        "utf-8",
    )
    began = time.monotonic()
    with pytest.raises(AoiError):
        read_aoi(path)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "name", ["../evil.geojson", "../../evil.geojson", "/etc/evil.geojson", "a/../../b.geojson"]
)
def test_names_in_a_zip_lead_nowhere(tmp_path, name):
    """Nothing is unpacked to the disk, and GDAL reads what is in the zip or nothing."""
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    for outside in (tmp_path / "evil.geojson", path.parent / "b.geojson"):
        outside.write_text(json.dumps(mapping(BOW.convex_hull)), "utf-8")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(name, json.dumps(mapping(BOX)))
    before = sorted(tmp_path.rglob("*"))
    with contextlib.suppress(AoiError):
        assert read_aoi(path).union.equals(BOX)
    assert sorted(tmp_path.rglob("*")) == before
