"""xarray's engine "s2l3a": by xarray's rules, the same pixels as `open_l3a`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import json
import os
import pickle
import subprocess
import sys

import distributed
import geopandas as gpd
import numpy as np
import pytest
import rioxarray  # noqa: F401 - for .rio
import shapely
import xarray as xr

import s2l3a_xr
from s2l3a_xr import (
    ReadError,
    ReadFailedWarning,
    SelectionError,
    Transport,
    open_l3a,
    search_l3a,
)
from s2l3a_xr._backend import L3ABackendEntrypoint
from s2l3a_xr._rehearsal import find_array, find_origin
from s2l3a_xr._sample import Fault

AOI = (11.68, 51.94, 11.70, 51.96)
ASKED = {"years": 2021, "months": [5, 6], "bands": ["B4", "nir"]}


@pytest.fixture
def opened(server):
    def ds(place=AOI, **options):
        return xr.open_dataset(place, engine="s2l3a", archive=server.url, **(ASKED | options))

    return ds


@pytest.fixture
def array(server):
    return lambda **options: open_l3a(AOI, archive=server.url, **(ASKED | options))


def test_the_engine_is_registered():
    (entry,) = importlib.metadata.entry_points(group="xarray.backends", name="s2l3a")
    assert entry.load() is L3ABackendEntrypoint
    engine = xr.backends.list_engines()["s2l3a"]
    assert engine.description
    assert engine.url.startswith("https://")


def test_parameters_are_those_of_open_l3a_and_of_decode_cf():
    ours = {*L3ABackendEntrypoint.open_dataset_parameters} - {"filename_or_obj"}
    theirs = {*inspect.signature(open_l3a).parameters} | {
        *inspect.signature(xr.decode_cf).parameters
    }
    assert ours == theirs - {"aoi", "inventory", "chunks", "obj"}
    assert not {"chunks", "cache"} & ours


def test_raw_pixels_are_those_of_the_array(opened, array):
    ds, da = opened(mask_and_scale=False), array()
    assert list(ds) == ["B4", "nir"]
    for name, band in ds.items():
        assert band.dims == ("time", "y", "x")
        assert band.dtype == np.int16
        assert band.attrs["_FillValue"] == -10000
        assert band.attrs["request"] == da.attrs["request"]
        expected = da.sel(band=name)
        np.testing.assert_array_equal(band, expected)
        for dim in band.dims:
            np.testing.assert_array_equal(band[dim], expected[dim])
    assert (ds["B4"] != -10000).any()
    assert ds.rio.crs == da.rio.crs
    assert ds["B4"].attrs["common_name"] == "red"
    assert ds["nir"].attrs["native_name"] == "B8"


def test_pixels_are_reflectance_by_default(opened, array):
    ds, da = opened(), array(mask_and_scale=True)
    for name, band in ds.items():
        assert band.dtype == np.float32
        assert band.attrs["units"] == "1"
        np.testing.assert_allclose(band, da.sel(band=name), rtol=2e-7, atol=0, equal_nan=True)
        assert band.encoding["dtype"] == np.int16
        assert band.encoding["_FillValue"] == -10000
    assert 0 < float(ds["B4"].mean()) < 1


def test_decoders_are_xarrays(opened):
    raw = opened(decode_cf=False)
    assert raw["time"].dtype == np.int64
    assert raw["time"].attrs["units"] == "days since 1970-01-01"
    assert raw["B4"].attrs["scale_factor"] == np.float32(1e-4)
    xr.testing.assert_identical(xr.decode_cf(raw), opened())
    assert opened(decode_times=False)["time"].dtype == np.int64
    assert opened()["time"].dtype == "datetime64[ns]"
    by_band = opened(mask_and_scale={"B4": False})
    assert (by_band["B4"].dtype, by_band["nir"].dtype) == (np.int16, np.float32)
    assert list(opened(drop_variables="B4")) == ["nir"]
    assert list(opened(drop_variables=["B4"])) == ["nir"]
    for coords in (True, False, "all"):
        assert opened(decode_coords=coords)["B4"].rio.crs == "EPSG:32632"


def test_masks_stay_integers(opened, array):
    ds = opened(bands=["B4", "FLG", "WGT"])
    assert [str(band.dtype) for band in ds.values()] == ["float32", "uint8", "int16"]
    alone = array(bands=["FLG"]).sel(band="FLG")
    np.testing.assert_array_equal(ds["FLG"], alone)
    np.testing.assert_array_equal(ds["WGT"], array(bands=["WGT"]).sel(band="WGT"))
    assert ds["FLG"].attrs["flag_meanings"] == "nodata cloud snow water land"
    assert ds["FLG"].attrs["_FillValue"] == 255


def test_written_and_read_again(opened, tmp_path):
    ds = opened(bands=["B4", "FLG"]).load()
    ds.to_netcdf(tmp_path / "cube.nc")
    with xr.open_dataset(tmp_path / "cube.nc", mask_and_scale=False) as back:
        np.testing.assert_array_equal(back["B4"], opened(mask_and_scale=False)["B4"])
    with xr.open_dataset(tmp_path / "cube.nc", decode_coords="all") as back:
        np.testing.assert_array_equal(back["B4"], ds["B4"])
        assert back["B4"].dtype == np.float32
        assert back.rio.crs == ds.rio.crs
    ds.to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "cube.zarr") as back:
        np.testing.assert_allclose(back["B4"], ds["B4"], rtol=2e-7)


def test_nothing_is_read_before_it_is_asked_for(fresh_server):
    ds = xr.open_dataset(AOI, engine="s2l3a", archive=fresh_server.url, **ASKED)
    assert not [entry for entry in fresh_server.log if entry.path.endswith(".tif")]
    assert ds["B4"].chunks is None
    plane = ds["B4"].isel(time=0, y=slice(0, 9)).load()
    assert plane.shape == (9, ds.sizes["x"])
    read = {entry.path for entry in fresh_server.log if entry.path.endswith(".tif")}
    assert [path[-7:] for path in read] == ["_B4.tif"]


@pytest.mark.parametrize("chunks", [{}, "auto", -1, {"time": 1}, {"y": 64, "x": 100}, 50])
def test_chunks_are_xarrays(opened, chunks):
    ds = opened(chunks=chunks, mask_and_scale=False)
    assert ds["B4"].chunks
    if chunks == {"time": 1}:
        assert ds.chunks["time"] == (1, 1)
    xr.testing.assert_equal(ds.compute(), opened(mask_and_scale=False))


def test_preferred_chunks_follow_dasks_setting(server):
    import dask  # noqa: PLC0415

    options = {"archive": server.url, "years": 2021, "bands": "B4", "chunks": {}}
    with dask.config.set({"array.chunk-size": "100 kiB"}):
        with pytest.warns(s2l3a_xr.MissingWarning):
            ds = xr.open_dataset(AOI, engine="s2l3a", **options)
        assert ds.chunks["time"] == (1,) * ds.sizes["time"]
        assert len(ds.chunks["y"]) == 1


def test_areas_in_every_form(opened, tmp_path):
    expected = opened()
    box = shapely.box(*AOI)
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(box)), "utf-8")
    frame = gpd.GeoDataFrame(geometry=[box], crs="EPSG:4326")
    for place in (path, str(path), box, frame, frame.geometry, shapely.geometry.mapping(box)):
        xr.testing.assert_identical(opened(place).drop_encoding(), expected.drop_encoding())
        assert opened(place, chunks={})["B4"].chunks
    assert opened(path).encoding["source"] == str(path)
    other = xr.open_dataset(None, engine="s2l3a", like=expected, time="2021-05", bands="B4",
                            archive=opened.__closure__[0].cell_contents.url)  # fmt: skip
    np.testing.assert_array_equal(other["x"], expected["x"])


def test_a_relative_path(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = shapely.geometry.mapping(shapely.box(*AOI))
    (tmp_path / "aoi.geojson").write_text(json.dumps(box), "utf-8")
    assert opened("aoi.geojson").sizes == opened().sizes


def test_one_band_is_a_dataarray(server):
    options = {"engine": "s2l3a", "time": "2021-05", "archive": server.url}
    da = xr.open_dataarray(AOI, bands="red", **options)
    assert da.name == "red"
    with pytest.raises(ValueError, match="more than one data variable"):
        xr.open_dataarray(AOI, bands=["red", "nir"], **options)


def test_many_requests_as_one(opened, tmp_path):
    paths = [opened(months=month).l3a.save_request(tmp_path / f"{month}.json") for month in (5, 6)]
    ds = xr.open_mfdataset(paths, engine="s2l3a", mask_and_scale=False)
    xr.testing.assert_equal(ds.compute(), opened(mask_and_scale=False).load())


def test_warnings_name_the_users_line(opened):
    with pytest.warns(s2l3a_xr.MissingWarning) as caught:
        opened(months=None)
    assert [warning.filename for warning in caught] == [__file__]


def test_errors_are_ours(opened):
    with pytest.raises(SelectionError, match="no such band"):
        opened(bands="B99")
    with pytest.raises(TypeError, match="nonsense"):
        opened(nonsense=1)
    with pytest.raises(s2l3a_xr.AoiError):
        opened("nowhere.geojson")


def test_guesses_only_what_is_ours(opened, server, tmp_path):
    guess = L3ABackendEntrypoint().guess_can_open
    found = search_l3a(AOI, archive=server.url, **ASKED)
    inventory = found.save(tmp_path / "inventory.json")
    request = opened().l3a.save_request(tmp_path / "request.geojson")
    assert guess(inventory)
    assert guess(str(request))
    assert list(xr.open_dataset(request)) == ["B4", "nir"]  # no engine named
    (tmp_path / "aoi.geojson").write_text('{"type": "FeatureCollection", "features": []}', "utf-8")
    (tmp_path / "bytes.json").write_bytes(bytes(range(256)))
    (tmp_path / "other.txt").write_bytes(inventory.read_bytes())
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for path in [*tmp_path.iterdir()]:
        assert guess(path) == (path in (inventory, request)), path
    for place in (AOI, None, 1, b"inventory.json", "https://example.org/a.json", "a\0.json",
                  "x" * 5000 + ".json", shapely.box(*AOI), "~nobody/x.json"):  # fmt: skip
        assert guess(place) is False


def test_loading_the_engine_is_quick():
    code = (
        "import sys, xarray; before = set(sys.modules); xarray.backends.list_engines()\n"
        "import s2l3a_xr._backend\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    ours = {name for name in done.stdout.split() if name.startswith("s2l3a_xr")}
    assert "s2l3a_xr._backend" in ours
    assert not {"s2l3a_xr._dataset", "s2l3a_xr._transport", "s2l3a_xr._aoi"} & ours
    assert len(ours) <= 9, ours


@pytest.mark.parametrize("chunks", [None, {}])
def test_pickled(opened, chunks):
    ds = opened(chunks=chunks)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds)).load(), ds.load())


@pytest.mark.parametrize("scaled", [False, True])
def test_bands_are_read_at_once_where_they_may(fresh_server, scaled):
    """`load` goes from variable to variable, `load_async` does not."""
    ds = xr.open_dataset(
        AOI, engine="s2l3a", archive=fresh_server.url, mask_and_scale=scaled, **ASKED
    )
    fresh_server.latency_s = 0.2
    done = asyncio.run(ds.load_async())
    asked = [entry for entry in fresh_server.log if entry.path.endswith(".tif")]
    first = [next(e.path[-6:-4] for e in asked[i:]) for i in range(4)]
    assert {"B4", "B8"} == set(first)  # headers of both before blocks of either
    again = xr.open_dataset(
        AOI, engine="s2l3a", archive=fresh_server.url, mask_and_scale=scaled, **ASKED
    )
    xr.testing.assert_identical(done, again.load())


def test_plan_and_dataset_methods(opened, array, server, tmp_path):
    da = array()
    for chunks in (None, {}):
        ds = opened(chunks=chunks, mask_and_scale=False)
        whole = da.l3a.plan()
        assert ds.l3a.plan().attrs["summary"] == whole.attrs["summary"]
        assert ds["B4"].l3a.plan()["bytes"].sum() == whole[whole["band"] == "B4"]["bytes"].sum()
        joined = ds.l3a.to_dataarray()
        assert joined.chunks
        assert find_array(joined).token == da.attrs["request"]
        xr.testing.assert_equal(joined.compute(), da.compute())
    files = ds.l3a.to_geotiff(tmp_path / "ds", progress=False)
    others = s2l3a_xr.to_geotiff(da, tmp_path / "da", progress=False)
    assert [path.name for path in files] == [path.name for path in others]
    server.clear_log()
    assert ds.l3a.to_geotiff(tmp_path / "da", progress=False)  # known as the same: skipped
    assert server.log == []


def test_bands_of_several_types_are_no_array(fresh_server):
    asked = ASKED | {"bands": ["B4", "FLG"]}
    ds = xr.open_dataset(AOI, engine="s2l3a", archive=fresh_server.url, **asked)
    with pytest.raises(SelectionError, match="B4 float32, FLG uint8"):
        ds.l3a.to_dataarray()
    assert set(ds.l3a.plan()["band"]) == {"B4", "FLG"}
    with pytest.raises(SelectionError, match="no bands"):
        xr.Dataset({"a": 1}).l3a.to_dataarray()


def test_decoded_pixels_are_not_taken_for_raw_ones(opened, array):
    """What xarray decodes where it reads changes pixels, though it leaves no step in the graph."""
    raw, scaled = (
        opened(chunks={}, mask_and_scale=wish).l3a.to_dataarray() for wish in (False, True)
    )
    origin = find_origin(raw)
    np.testing.assert_array_equal(origin.bands, [[0, 1]] * 2)
    np.testing.assert_array_equal(origin.planes(), array())
    assert find_origin(scaled) is None
    assert find_origin(raw[:, ::-1, 3:9, 5:]).bands.tolist() == [[1, 0]] * 2


def test_rehearsing_changes_nothing(opened):
    for chunks in (None, {}):
        ds = opened(chunks=chunks)
        assert len(ds.l3a.plan()) >= 0
        assert find_array(ds["B4"].chunk(-1)).probe is None
        xr.testing.assert_identical(ds.load(), opened().load())


BROKEN = Fault(match="0515.*_B4", kind="status", status=500, min_start=1)


@pytest.mark.parametrize("chunks", [None, {}])
def test_failures_are_told(fresh_server, chunks):
    fresh_server.faults = [BROKEN]
    transport = Transport(max_attempts=2, idle_timeout_s=1)
    options = {"archive": fresh_server.url, "transport": transport, "fail_on_error": False}
    ds = xr.open_dataset(AOI, engine="s2l3a", chunks=chunks, **(ASKED | options))
    with pytest.warns(ReadFailedWarning):
        done = ds.compute()
    assert done["B4"][0].isnull().all()
    assert not done["nir"][0].isnull().all()
    for told in (ds.l3a.failures(), done.l3a.failures(), done["B4"].l3a.failures()):
        assert set(told["band"]) == {"B4"}
        assert set(told["status"]) == {"failed"}
    with pytest.raises(ReadError, match="B4"):
        xr.open_dataset(AOI, engine="s2l3a", **(ASKED | options | {"fail_on_error": True})).load()


def test_on_a_cluster_of_processes(fresh_server):
    fresh_server.faults = [BROKEN]
    transport = Transport(max_attempts=2, idle_timeout_s=1)
    options = {"archive": fresh_server.url, "transport": transport, "fail_on_error": False}
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        ds = xr.open_dataset(AOI, engine="s2l3a", chunks={}, **(ASKED | options))
        with pytest.warns(ReadFailedWarning):
            done = ds.compute()
        assert set(ds.l3a.failures()["band"]) == {"B4"}
    fresh_server.faults = []
    expected = xr.open_dataset(AOI, engine="s2l3a", **(ASKED | options)).load()
    xr.testing.assert_equal(done["nir"], expected["nir"])
    xr.testing.assert_equal(done["B4"][1], expected["B4"][1])


def test_inventories_open_too(server, tmp_path):
    found = search_l3a(AOI, archive=server.url, **ASKED)
    expected = open_l3a(inventory=found).compute()
    for ending in ("json", "parquet"):
        path = found.save(tmp_path / f"inventory.{ending}")
        for place in (path, str(path), found):
            ds = xr.open_dataset(place, engine="s2l3a", mask_and_scale=False)
            for name, band in ds.items():
                np.testing.assert_array_equal(band, expected.sel(band=name))
    text = json.loads((tmp_path / "inventory.json").read_text("utf-8"))
    again = tmp_path / "sorted.json"
    again.write_text(json.dumps(text, sort_keys=True, indent=2), "utf-8")
    assert not L3ABackendEntrypoint().guess_can_open(again)
    assert list(xr.open_dataset(again, engine="s2l3a")) == ["B4", "nir"]
    with pytest.raises(SelectionError, match="settles"):
        xr.open_dataset(again, engine="s2l3a", years=2021)
