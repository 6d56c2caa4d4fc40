"""Exports whose workers are killed: right in the end, or an error, and nothing partial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from distributed import Client, LocalCluster
from noise import AREA, lay_noise, square

import s2l3a_xr
from s2l3a_xr._sample import SampleServer

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def geotiff(da, folder):
    s2l3a_xr.to_geotiff(da, folder, piece_px=512, progress=False)
    with rasterio.open(folder / "s2_l3a_20210515_red.tif") as file:
        return file.read(1)


def store(da, folder):
    with dask.config.set({"array.chunk-size": "512 KiB"}):
        s2l3a_xr.to_zarr(da, folder / "a.zarr", chunks={"y": 512, "x": 512}, progress=False)
    with xr.open_zarr(folder / "a.zarr", mask_and_scale=False) as ds:
        assert "status" not in ds.attrs
        return ds["s2_l3a"].to_numpy()[0, 0]


PIECES, REGIONS = ".s2_l3a_20210515_red.tif.pieces/*.tif", "a.zarr/l3a_journal/regions/[0-9]*"


@posix
@pytest.mark.parametrize(("export", "parts"), [(geotiff, PIECES), (store, REGIONS)])
def test_a_worker_that_is_killed_is_replaced(tmp_path, lay_file, export, parts):
    noise = lay_noise(tmp_path / "site", lay_file)[0, 0]
    folder = tmp_path / "out"
    killed = []

    def kill_one(client):
        until = time.monotonic() + 180
        while len(list(folder.glob(parts))) < 4 and time.monotonic() < until:
            time.sleep(0.002)
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)
        killed.append(len(list(folder.glob(parts))))

    with (
        SampleServer(tmp_path / "site", latency_s=0.1) as server,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        da = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4"], archive=server.url)
        killer = threading.Thread(target=kill_one, args=(client,))
        killer.start()
        written = export(da, folder)
        killer.join()
    assert 4 <= killed[0] < 16
    np.testing.assert_array_equal(written, noise)


READING = r"""
import json, re, sys
from pathlib import Path
import dask, geopandas as gpd
import s2l3a_xr
def peak_kb():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
url, area, out, how, size = sys.argv[1:]
dask.config.set({"scheduler": "synchronous", "array.chunk-size": int(size) ** 2 * 2})
da = s2l3a_xr.open_l3a(gpd.read_file(area), archive=url, time="2021-05", bands=["B4"])
before = peak_kb()
if how == "zarr":
    s2l3a_xr.to_zarr(da, out, chunks={"y": 256, "x": 256}, progress=False)
else:
    s2l3a_xr.to_geotiff(da, out, profile=how, piece_px=int(size), progress=False)
print(json.dumps((peak_kb() - before) / 1024))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is told by /proc")
@pytest.mark.parametrize("how", ["compressed", "zarr"])
def test_reading_and_writing_takes_less_than_the_plane(tmp_path, lay_file, how):
    side = 8192
    pixels = np.random.default_rng(1).integers(0, 4000, (side, side), "int16")
    lay_file(tmp_path / "site", pixels, month=5, zlevel=1)
    square(0, side).to_file(tmp_path / "area.gpkg")
    out = tmp_path / "out"
    with SampleServer(tmp_path / "site") as server:
        args = [server.url, tmp_path / "area.gpkg", out, how, 1024]
        done = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-c", READING, *map(str, args)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert json.loads(done.stdout) < 0.75 * pixels.nbytes / 2**20
    if how == "zarr":
        written = xr.open_zarr(out, mask_and_scale=False)["s2_l3a"].to_numpy()[0, 0]
    else:
        with rasterio.open(out / "s2_l3a_20210515_red.tif") as file:
            written = file.read(1)
    np.testing.assert_array_equal(written, pixels)
