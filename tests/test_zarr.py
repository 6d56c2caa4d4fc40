"""Zarr stores: the same pixels, resumed region by region, and nothing foreign replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import warnings

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from noise import AREA, lay_noise, tif_bytes

import s2l3a_xr
from s2l3a_xr import ExportError, to_zarr
from s2l3a_xr._sample import Fault, SampleServer

AOI = (11.62, 51.92, 11.76, 51.99)
ASKED = {"time": "2021-04/2021-05", "bands": ["B4", "B5"]}
SMALL = {"time": 1, "band": 1, "y": 256, "x": 256}
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)


def back(store, **options):
    options = {"decode_coords": "all", "mask_and_scale": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also those that the suite lets pass
        with xr.open_zarr(store, **options) as ds:
            (name,) = ds.data_vars
            return ds[name].load()


def write(da, store, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "pixels without data")  # test_export.py has them
        to_zarr(da, store, progress=False, **options)


def test_the_same_array_comes_back(da, tmp_path):
    write(da, tmp_path / "a.zarr")
    there = back(tmp_path / "a.zarr")
    xr.testing.assert_equal(there, da.compute())
    assert there.dtype == np.int16
    assert there.attrs == {**da.attrs, "_FillValue": -10000}
    assert there.rio.crs == da.rio.crs
    assert there.rio.transform() == da.rio.transform()
    assert there.rio.nodata == -10000
    masked = back(tmp_path / "a.zarr", mask_and_scale=True)
    xr.testing.assert_equal(masked, da.l3a.masked().compute())
    assert "status" not in zarr.open_group(tmp_path / "a.zarr", mode="r").attrs


def test_gdal_reads_it(da, tmp_path):
    write(da, tmp_path / "a.zarr")
    path = f'ZARR:"{tmp_path / "a.zarr"}":/s2_l3a:1:0'
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), da[1, 0])
        assert file.nodata == -10000
        assert file.transform == da.rio.transform()


def test_reflectance_is_stored_as_the_same_integers(server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, archive=server.url, mask_and_scale=True, **ASKED)
    raw = s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)
    write(da, tmp_path / "a.zarr")
    np.testing.assert_array_equal(back(tmp_path / "a.zarr"), raw)
    there = back(tmp_path / "a.zarr", mask_and_scale=True)
    np.testing.assert_allclose(there, da, rtol=1e-6)
    assert there.rio.crs == da.rio.crs


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da.compute(),
        lambda da: da.isel(time=0),
        lambda da: da.sel(band="B4"),
        lambda da: da.isel(y=slice(None, None, -1)),
        lambda da: da.transpose("x", "y", "band", "time"),
        lambda da: da.chunk({"x": 64, "y": 33}),
        lambda da: da.l3a.masked(),
        lambda da: da > 500,
        lambda da: da.rename("mine") * 2,
        lambda da: da.drop_vars("spatial_ref"),
        lambda da: (da.sel(band="B5") / 7.0).assign_coords(band="ratio"),
        lambda da: da.isel(y=slice(5, 6), x=slice(7, 9)),
    ],
    ids=[
        "computed", "month", "band", "south_up", "transposed", "rechunked", "masked", "bool",
        "doubled", "no_crs", "float64", "tiny",
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunks", [None, SMALL])
def test_changed_arrays_are_stored_right(da, tmp_path, change, chunks):
    changed = change(da)
    write(changed, tmp_path / "a.zarr", chunks=chunks)
    there = back(tmp_path / "a.zarr", mask_and_scale=changed.dtype.kind == "f")
    assert there.dims == ("time", "band", "y", "x")
    assert there.dtype == changed.dtype
    for dim in ("time", "band"):
        if dim not in changed.dims:
            changed = changed.expand_dims(dim)
    expected = changed.compute().transpose(*there.dims).sortby("y", ascending=False)
    np.testing.assert_array_equal(there, expected)
    for name in ("time", "band", "y", "x"):
        np.testing.assert_array_equal(there[name], expected[name])


def test_chunks_are_even_and_regions_are_whole_chunks(da, tmp_path):
    for size in ("100 kB", "1 MiB"):
        store = tmp_path / f"{size}.zarr"
        with dask.config.set({"array.chunk-size": size}):
            write(da, store, chunks={"time": 1, "band": 1, "y": 100, "x": 128})
        array = zarr.open_array(store, path="s2_l3a", mode="r")
        assert array.chunks == (1, 1, 100, 128)
        np.testing.assert_array_equal(back(store), da)


def test_nothing_is_read_again_of_a_complete_store(da, server, tmp_path):
    write(da, tmp_path / "a.zarr", chunks=SMALL)
    server.clear_log()
    write(da, tmp_path / "a.zarr", chunks=SMALL)
    assert tif_bytes(server) == (0, 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda da: da.isel(time=[0]), "shape .*; time "),
        (lambda da: da.copy(data=da.data + 1), "pixels "),
        (lambda da: da.isel(x=slice(1, None)), "shape .*; x "),
        (lambda da: da.l3a.masked(), "dtype "),
        (lambda da: da.assign_coords(band=["a", "b"]), r"band \(\['B4', 'B5'\], not \['a', 'b'\]"),
    ],
)
def test_something_else_in_the_place_is_named(da, tmp_path, change, named):
    write(da, tmp_path / "a.zarr")
    other = change(da)
    with pytest.raises(ExportError, match=rf"made of something else: {named}"):
        write(other, tmp_path / "a.zarr")
    np.testing.assert_array_equal(back(tmp_path / "a.zarr"), da)
    write(other, tmp_path / "a.zarr", overwrite=True)
    scale = other.dtype.kind == "f"
    np.testing.assert_array_equal(back(tmp_path / "a.zarr", mask_and_scale=scale), other)


def test_other_chunks_are_named(da, tmp_path):
    write(da, tmp_path / "a.zarr")
    with pytest.raises(ExportError, match=r"something else: chunks \(\["):
        write(da, tmp_path / "a.zarr", chunks=SMALL)


def test_what_is_foreign_stays(da, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "their.zarr", zarr_format=2)
    for overwrite in (False, True):
        for name in ("folder", "file"):
            with pytest.raises(ExportError, match="no Zarr store"):
                write(da, tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ExportError, match="not made by to_zarr"):
        write(da, tmp_path / "their.zarr")
    assert xr.open_zarr(tmp_path / "their.zarr")["a"].values.tolist() == [1, 2]
    write(da, tmp_path / "their.zarr", overwrite=True)
    np.testing.assert_array_equal(back(tmp_path / "their.zarr"), da)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunks": {"z": 1}}, "no dimension 'z'"),
        ({"chunks": {"x": 0}}, "at least one pixel"),
        ({"chunks": {"x": 1.5}}, "at least one pixel"),
        ({"max_bytes": 1000}, "more than 1 kB"),
    ],
)
def test_what_can_t_be_done_is_told_first(da, server, tmp_path, options, words):
    server.clear_log()
    with pytest.raises(ExportError, match=words):
        write(da, tmp_path / "a.zarr", **options)
    assert not list(tmp_path.iterdir())
    assert tif_bytes(server) == (0, 0)


def test_urls_and_stores(da, tmp_path):
    expected = da.compute()
    url = f"memory://{uuid.uuid4().hex}/a.zarr"
    stores = {
        "memory": zarr.storage.MemoryStore(),
        "local": zarr.storage.LocalStore(tmp_path / "b.zarr"),
        "file": f"file://{tmp_path}/c.zarr",
        "url": url,
    }
    for store in stores.values():
        write(da, store, chunks=SMALL)
        np.testing.assert_array_equal(back(store), expected)
        write(da, store, chunks=SMALL)
        with pytest.raises(ExportError, match="something else"):
            write(da.isel(time=[0]), store, chunks=SMALL)


def test_a_damaged_region_is_written_anew(da, tmp_path):
    store = tmp_path / "a.zarr"
    write(da, store, chunks=SMALL)
    next((store / "s2_l3a").glob("0.0.*")).unlink()
    (store / "s2_l3a" / "1.1.1.1").write_bytes(b"rotten")
    array = zarr.open_array(store, path="s2_l3a", mode="r+")
    array[0, 1, 300, 300] = 12345
    write(da, store, chunks=SMALL)
    np.testing.assert_array_equal(back(store), da)


def test_a_hole_is_not_complete(fresh_server, tmp_path):
    asked = {"time": "2021-05", "bands": ["B4", "B8"], "archive": fresh_server.url}
    da = s2l3a_xr.open_l3a(AOI, **asked, fail_on_error=False)
    fresh_server.faults = [Fault(match=r"FRC_B4.*\.tif", kind="status", status=403, count=2)]
    with pytest.warns(s2l3a_xr.ReadFailedWarning):
        to_zarr(da, tmp_path / "a.zarr", progress=False)
    assert len(da.l3a.failures()) > 0
    assert "status" in zarr.open_group(tmp_path / "a.zarr", mode="r").attrs
    fresh_server.faults = []
    to_zarr(da, tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(back(tmp_path / "a.zarr"), s2l3a_xr.open_l3a(AOI, **asked))
    assert "status" not in zarr.open_group(tmp_path / "a.zarr", mode="r").attrs


EXPORT = """
import json, sys
import dask, geopandas as gpd
import s2l3a_xr
url, area, store, options = sys.argv[1:]
dask.config.set({"scheduler": "synchronous", "array.chunk-size": "512 KiB"})
options = json.loads(options)
da = s2l3a_xr.open_l3a(gpd.read_file(area), archive=url, time="2021-05", bands=["B4"], **options)
s2l3a_xr.to_zarr(da, store, chunks={"x": 512, "y": 512}, progress=False)
"""


@pytest.fixture
def noise(tmp_path, lay_file):
    """Lay a plane of 4 x 4 regions that lie on whole blocks."""
    AREA.to_file(tmp_path / "area.gpkg")
    return lay_noise(tmp_path / "site", lay_file)[0, 0]


@pytest.fixture
def site(tmp_path):
    """Serve it: what a killed child has read of it is not cached here."""
    with SampleServer(tmp_path / "site") as server:
        yield server


def export_noise(server, store, **options):
    """Tell the bytes read by an export."""
    with dask.config.set({"array.chunk-size": "512 KiB"}):
        da = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4"], archive=server.url, **options)
        server.clear_log()
        write(da, store, chunks={"x": 512, "y": 512})
        return tif_bytes(server)


def killed_when(seen, server, area, store, **options):
    """Run an export and kill it as soon as something is seen; tell the bytes read."""
    server.clear_log()
    args = [server.url, area, store, json.dumps(options)]
    with subprocess.Popen([sys.executable, "-c", EXPORT, *map(str, args)]) as child:  # noqa: S603
        until = time.monotonic() + 180
        while not seen() and time.monotonic() < until and child.poll() is None:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    return tif_bytes(server)


@posix
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": None}, {"mask_and_scale": True, "chunks": {"y": 512, "x": 512}}],
    ids=["native", "no_dask", "scaled"],
)
def test_a_killed_export_goes_on(noise, site, tmp_path, options):
    with SampleServer(tmp_path / "site") as other:
        _, in_all = export_noise(other, tmp_path / "whole.zarr", **options)
    np.testing.assert_array_equal(back(tmp_path / "whole.zarr")[0, 0], noise)
    store = tmp_path / "killed.zarr"
    noted = store / "l3a_journal" / "regions"
    site.latency_s = 0.05
    killed_when(
        lambda: len(list(noted.glob("[0-9]*"))) >= 6,
        site, tmp_path / "area.gpkg", store, **options,
    )  # fmt: skip
    site.latency_s = 0
    kept = len(list(noted.glob("[0-9]*")))
    assert 6 <= kept < 16
    half = xr.open_zarr(store, mask_and_scale=False)
    assert "unfinished" in half.attrs["status"]
    pixels = half["s2_l3a"].to_numpy()[0, 0]
    assert ((pixels == noise) | (pixels == -10000)).all()
    _, again = export_noise(site, store, **options)
    # and perhaps a region whose note was being written
    assert 0 < again < in_all * (16 - kept + 1) / 16 + 100_000
    np.testing.assert_array_equal(back(store)[0, 0], noise)
    assert export_noise(site, store, **options) == (0, 0)


@posix
@pytest.mark.parametrize("seen", [
    "", ".zgroup", "l3a_journal/.zgroup", "l3a_journal/regions/.zarray", "l3a_journal/.zattrs",
    "s2_l3a/.zarray", ".zmetadata", "s2_l3a/0.0.0.0",
])  # fmt: skip
def test_killed_at_any_step(noise, site, tmp_path, seen):
    store = tmp_path / "killed.zarr"
    site.latency_s = 0.02
    killed_when((store / seen).exists, site, tmp_path / "area.gpkg", store)
    assert (store / seen).exists()
    export_noise(site, store)
    np.testing.assert_array_equal(back(store)[0, 0], noise)


def test_on_a_cluster_of_processes(da, tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster),
        dask.config.set({"array.chunk-size": "300 KiB"}),
    ):
        to_zarr(da, tmp_path / "a.zarr", chunks=SMALL, progress=False)
    np.testing.assert_array_equal(back(tmp_path / "a.zarr"), da)
