"""Requests on disk: the very same request, or a clear error."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import shapely
import xarray as xr

import s2l3a_xr
from s2l3a_xr import ExportError, SelectionError, Transport, open_l3a

AOI = (11.68, 51.94, 11.70, 51.96)
TRIANGLE = shapely.Polygon([(11.68, 51.94), (11.7012345678901, 51.95), (11.69, 51.96)])


@pytest.fixture
def opened(server):
    asked = {"time": "2021-05/2021-06", "bands": ["red", "B8"], "archive": server.url}
    return lambda aoi=TRIANGLE, **options: open_l3a(aoi, **(asked | options))


def reopened(path, **options):
    return xr.open_dataset(path, engine="s2l3a", mask_and_scale=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": False},
        {"all_touched": True},
        {"crs": "EPSG:3035", "resolution": 25, "resampling": "bilinear"},
        {"crs": "EPSG:4326", "resolution": 1e-4},
        {"resolution": 80},
        {"resolution": 80, "use_overviews": False},
        {"mask": ("cloud", "snow")},
        {"mask": "cloud", "flag_encoding": "bits"},
        {"bands": ["B11", "WGT"], "resampling": {"B11": "cubic"}},
        {"bands": "FLG"},
        {"missing": "keep", "time": "2021-06/2021-07"},
        {"fail_on_error": False},
        {"aoi": (11.95, 51.95, 12.1, 51.96)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::s2l3a_xr.S2L3AWarning")
def test_the_same_request_and_the_same_pixels(opened, tmp_path, server, options):
    da = opened(**options)
    path = da.l3a.save_request(tmp_path / "request.json")
    assert list(tmp_path.iterdir()) == [path]
    server.clear_log()
    ds = reopened(path)
    assert server.log == []  # nothing is listed, nothing is read
    tokens = {band.attrs["request"] for band in ds.values()}
    assert tokens == {da.attrs["request"]}
    assert list(ds) == da["band"].values.tolist()
    for name, band in ds.items():
        expected = da.sel(band=name)
        assert band.dtype == expected.dtype
        np.testing.assert_array_equal(band, expected)
        for dim in band.dims:
            np.testing.assert_array_equal(band[dim], expected[dim])
    assert ds.rio.crs == da.rio.crs
    assert {k: v for k, v in da.attrs.items() if k in ds.attrs} == ds.attrs


def test_from_a_part_of_the_array(opened, tmp_path):
    da = opened()
    part = da.sel(band="red")[:1, 3:5] * 2
    path = part.l3a.save_request(tmp_path / "request.json")
    ds = reopened(path)
    assert list(ds) == ["red", "B8"] or list(ds) == ["red", "nir"]
    assert ds["red"].attrs["request"] == da.attrs["request"]
    renamed = da.assign_coords(band=["a", "b"])
    assert list(reopened(renamed.l3a.save_request(path))) == ["B4", "B8"]
    assert list(reopened(da.chunk(10).l3a.save_request(path))) == ["red", "B8"]
    lazy = opened(chunks=None)
    assert list(reopened(lazy.l3a.save_request(path))) == ["red", "B8"]


def test_saved_from_a_dataset(server, tmp_path):
    ds = xr.open_dataset(
        AOI, engine="s2l3a", time="2021-05", bands=["nir", "FLG"], archive=server.url
    )
    again = xr.open_dataset(ds.l3a.save_request(tmp_path / "request.json"), engine="s2l3a")
    xr.testing.assert_identical(again.load(), ds.load())


def test_settings_that_decide_no_pixels(opened, tmp_path):
    path = opened().l3a.save_request(tmp_path / "request.json")
    ds = reopened(path, missing="keep", fail_on_error=False, transport=Transport(max_connections=2))
    assert ds.sizes["time"] == 2
    with pytest.raises(SelectionError, match=r"settles clip, years already"):
        reopened(path, years=2021, clip=False)
    with pytest.raises(SelectionError, match=r"missing='never' must be one of"):
        reopened(path, missing="never")


def test_computed_pixels_have_no_request(opened, tmp_path):
    with pytest.raises(SelectionError, match="no request to save"):
        opened().compute().l3a.save_request(tmp_path / "request.json")
    with pytest.raises(SelectionError, match="no request to save"):
        xr.DataArray([1]).l3a.save_request(tmp_path / "request.json")
    for name in ("request", "request.parquet"):
        with pytest.raises(ExportError, match=r"must end in \.json or \.geojson"):
            opened().l3a.save_request(tmp_path / name)
    with pytest.raises(ExportError, match="can't be written"):
        opened().l3a.save_request(tmp_path / "no" / "request.json")


def test_passwords_stay_at_home(server, tmp_path):
    secret = server.url.replace("http://", "http://me:secret@")
    da = open_l3a(AOI, time="2021-05", bands="B4", archive=secret)
    path = da.l3a.save_request(tmp_path / "request.json")
    assert "secret" not in path.read_text("utf-8")


def test_an_inventory_is_no_request_and_the_other_way(opened, tmp_path):
    path = opened().l3a.save_request(tmp_path / "request.json")
    with pytest.raises(SelectionError, match=r"its format is 's2l3a_xr request'"):
        open_l3a(inventory=path)


def change(document, place, value):
    """Put something else in the place of a member."""
    *steps, last = place
    for step in steps:
        document = document[step]
    if value is KeyError:
        del document[last]
    else:
        document[last] = value


HEAD = "s2l3a_xr"
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, -1], [0, 0]]]}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((HEAD, "version"), 2),
        ((HEAD, "format"), "other"),
        *[((HEAD, name), KeyError) for name in (
            "archive", "bands", "listed", "months", "native_m", "grid", "resampling", "mask",
            "all_touched", "use_overviews", "flag_encoding", "missing", "fail_on_error", "area",
            "license", "references", "catalogue",
        )],
        ((HEAD, "archive"), "simplecache::http://example.org/"),
        ((HEAD, "archive"), "github://x"),
        ((HEAD, "archive"), "/etc/"),
        ((HEAD, "bands"), ["B99"]),
        ((HEAD, "bands"), ["red", "B4"]),
        ((HEAD, "bands"), []),
        ((HEAD, "bands"), 3),
        ((HEAD, "listed"), ["red"]),
        ((HEAD, "months"), []),
        ((HEAD, "months"), ["2021-06", "2021-05"]),
        ((HEAD, "months"), ["2021-05"]),
        ((HEAD, "months"), ["2021-13", "2021-14"]),
        ((HEAD, "native_m"), 0),
        ((HEAD, "native_m"), True),
        ((HEAD, "grid", "width"), 2**40),
        ((HEAD, "grid", "resolution"), 0),
        ((HEAD, "grid", "resolution"), -10),
        ((HEAD, "grid", "left"), 1e300),
        ((HEAD, "grid", "crs"), "nonsense"),
        ((HEAD, "resampling"), ["nearest"]),
        ((HEAD, "resampling"), ["nearest", "lanczos"]),
        ((HEAD, "all_touched"), 1),
        ((HEAD, "use_overviews"), "yes"),
        ((HEAD, "mask"), ["smoke"]),
        ((HEAD, "flag_encoding"), "other"),
        ((HEAD, "missing"), "ignore"),
        ((HEAD, "fail_on_error"), None),
        ((HEAD, "area"), []),
        ((HEAD, "area"), [SQUARE | {"type": "Point"}]),
        ((HEAD, "area"), [{"type": "Point", "coordinates": [0, 0]}]),
        ((HEAD, "area"), [{"type": "GeometryCollection", "geometries": [SQUARE]}]),
        *[((HEAD, "area"), [{"type": "Polygon", "coordinates": [[[0, 0], [x, 0], [1, 1], [0, 0]]]}])
          for x in (1e300, float("nan"), float("inf"), "x", None)],
        ((HEAD, "catalogue"), 7),
        (("features", 0, "properties", "url"), ["http://elsewhere.example/x.tif", ""]),
        (("features", 0, "properties", "url"), ["file:///etc/passwd", ""]),
        (("features", 0, "properties", "url"), [""]),
        (("features", 0, "properties", "product"), "../../x"),
        (("features", 0, "properties", "tile"), "33UUT"),
        (("features", 0, "properties", "month"), "2021-07"),
        (("features",), 5),
        (("features",), [{}]),
    ],
    ids=str,
)  # fmt: skip
def test_foreign_files_are_checked(opened, tmp_path, place, value):
    path = opened().l3a.save_request(tmp_path / "request.json")
    document = json.loads(path.read_text("utf-8"))
    change(document, place, copy.deepcopy(value))
    path.write_text(json.dumps(document), "utf-8")
    if value == "/etc/":  # a place like any other, and no file of it is named
        assert reopened(path).attrs["source"] == value
        return
    with pytest.raises(SelectionError, match=r"can't be read as an? (request|inventory) \("):
        reopened(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_truncated_files(opened, tmp_path, share):
    path = opened().l3a.save_request(tmp_path / "request.json")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(s2l3a_xr.S2L3AError, match=r"request\.json"):
        reopened(path)
