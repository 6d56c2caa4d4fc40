"""Cloud-optimised GeoTIFFs through odc-geo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import tifffile
from distributed import Client, LocalCluster
from noise import AREA, lay_noise, tif_bytes

import s2l3a_xr
from s2l3a_xr import ExportError, to_cog, to_geotiff
from s2l3a_xr import _disk as disk
from s2l3a_xr._sample import Fault, SampleServer

AOI = (11.62, 51.92, 11.76, 51.99)
ASKED = {"time": "2021-04/2021-05", "bands": ["B4", "B5"]}
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)


def read(path, band=1, level=None):
    with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
        return file.read(band)


def within(pixels, plane):
    """Cut away what odc-geo pads with, which is nodata and less than 512 pixels."""
    height, width = plane.shape
    assert (pixels[height:] == -10000).all()
    assert (pixels[:, width:] == -10000).all()
    assert max(pixels.shape[0] - height, pixels.shape[1] - width) < 512
    return pixels[:height, :width]


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da,
        lambda da: da.compute(),
        lambda da: da.chunk({"x": 100, "y": 90}),
        lambda da: da.isel(y=slice(None, None, -1), x=slice(3, None)),
        lambda da: da.isel(y=slice(None, 60), x=slice(None, 50)),
    ],
    ids=["opened", "computed", "rechunked", "turned", "small"],
)
def test_a_file_for_each_month_and_band(da, tmp_path, change):
    changed = change(da)
    paths = to_cog(changed, tmp_path, progress=False)
    plain = to_geotiff(changed, tmp_path / "plain", progress=False)
    assert [path.name for path in paths] == [path.name for path in plain]
    for path, expected in zip(paths, plain, strict=True):
        np.testing.assert_array_equal(within(read(path), read(expected)), read(expected))
        np.testing.assert_array_equal(tifffile.imread(path, level=0), read(path))
        with rasterio.open(path) as file, rasterio.open(expected) as other:
            assert (file.crs, file.transform, file.nodata) == (
                other.crs, other.transform, other.nodata
            )  # fmt: skip
            assert file.descriptions == other.descriptions
            assert file.profile["blockxsize"] == 512
    assert {path.name for path in tmp_path.iterdir()} == {"plain", *(path.name for path in paths)}


def test_all_bands_together(da, tmp_path):
    paths = to_cog(da, tmp_path, together=True, progress=False)
    assert [path.name for path in paths] == ["s2_l3a_20210415.tif", "s2_l3a_20210515.tif"]
    for path, month in zip(paths, da.compute(), strict=True):
        for band in (1, 2):
            plane = month[band - 1].to_numpy()
            np.testing.assert_array_equal(within(read(path, band), plane), plane)
        with rasterio.open(path) as file:
            assert file.descriptions == ("red", "rededge1")
            assert file.overviews(1) == file.overviews(2) != []


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("bands", "height", "width"),
    [(1, 1, 1), (4, 1, 40), (2, 40, 1), (4, 3, 3), (3, 5, 3), (4, 4, 4), (2, 2, 2), (4, 63, 64)],
)
def test_small_planes_are_not_taken_for_others(server, tmp_path, bands, height, width, together):
    """odc-geo takes (band, y, 3 or 4) for the colours of y pixels, and divides by no rows."""
    names = ["B2", "B3", "B4", "B8"][:bands]
    da = s2l3a_xr.open_l3a(AOI, archive=server.url, time="2021-05", bands=names)
    da = da.isel(y=slice(100, 100 + height), x=slice(50, 50 + width))
    paths = to_cog(da, tmp_path, together=together, progress=False)
    planes = [read(path, band=None) for path in paths]
    found, expected = np.concatenate(planes), da[0].to_numpy()
    assert len(np.unique(expected)) > 1 or expected.size == 1
    assert found.shape[0] == bands
    for pixels, plane in zip(found, expected, strict=True):
        np.testing.assert_array_equal(within(pixels, plane), plane)
    with rasterio.open(paths[0]) as file:
        assert file.transform == da.rio.transform()


def test_overviews_keep_nodata_and_data_apart(da, tmp_path):
    triangle = da.isel(time=[0], band=[0]).compute()
    rows, columns = np.indices(triangle.shape[2:])
    triangle = triangle.where(rows > columns, -10000).where(rows <= columns, 1000).astype("int16")
    triangle.attrs["_FillValue"] = np.int16(-10000)
    (path,) = to_cog(triangle, tmp_path, progress=False)
    with rasterio.open(path) as file:
        levels = len(file.overviews(1))
    assert levels
    for level in range(levels):
        assert set(np.unique(read(path, level=level))) == {-10000, 1000}


def test_reflectance_has_nodata_for_nan(server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, archive=server.url, mask_and_scale=True, **ASKED)
    da = da.isel(time=[0], band=[0]).where(lambda a: a > 0.05)
    (path,) = to_cog(da, tmp_path, progress=False)
    plane = da[0, 0].to_numpy()
    pixels = within(read(path), plane)
    assert (pixels[np.isnan(plane)] == -10000).all()
    np.testing.assert_array_equal(pixels[~np.isnan(plane)], plane[~np.isnan(plane)])


@pytest.mark.parametrize("together", [False, True])
def test_complete_files_are_skipped(da, server, tmp_path, together):
    options = {"together": together, "progress": False}
    paths = to_cog(da, tmp_path, **options)
    stamps = [path.stat().st_mtime_ns for path in paths]
    server.clear_log()
    assert to_cog(da, tmp_path, **options) == paths
    assert tif_bytes(server) == (0, 0)
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    with pytest.raises(ExportError, match="made of something else"):
        to_cog(da + 1, tmp_path, **options)
    with paths[0].open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"rotten" * 10)
    to_cog(da, tmp_path, overwrite=True, **options)
    now = [path.stat().st_mtime_ns for path in paths]
    assert now[0] != stamps[0]
    assert now[1:] == stamps[1:]
    plane = da[0, 0].to_numpy()
    np.testing.assert_array_equal(within(read(paths[0]), plane), plane)


@pytest.mark.parametrize(
    "change",
    [lambda da: da, lambda da: da.compute(), lambda da: da + 0],
    ids=["opened", "computed", "changed"],
)
def test_nothing_is_read_twice(tmp_path, lay_file, change):
    pixels = lay_noise(tmp_path / "site", lay_file)
    with SampleServer(tmp_path / "site") as server:
        da = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4"], archive=server.url)
        (path,) = to_cog(change(da), tmp_path, progress=False)
        _, sent = tif_bytes(server)
    assert sent < 1.1 * pixels.nbytes
    np.testing.assert_array_equal(read(path), pixels[0, 0])


@pytest.mark.parametrize(
    ("write", "name"),
    [(to_geotiff, "s2_l3a_20210415_red.tif"), (to_cog, "s2_l3a_20210415_red.tif")],
)
def test_foreign_files_that_lie_nowhere_are_no_warning(da, tmp_path, write, name):
    with tifffile.TiffWriter(tmp_path / name) as foreign:
        foreign.write(np.zeros((16, 16), "uint8"))
    with pytest.raises(ExportError, match=r"made of something else"):
        write(da, tmp_path, progress=False)
    assert tmp_path / name in write(da, tmp_path, overwrite=True, progress=False)
    assert read(tmp_path / name).shape > (16, 16)


def test_foreign_files_stay(da, tmp_path):
    (tmp_path / "s2_l3a_20210415_red.tif").write_text("my thesis")
    to_geotiff(da.isel(time=[1]), tmp_path, progress=False)
    with pytest.raises(ExportError, match=r"made of something else"):
        to_cog(da, tmp_path, progress=False)
    assert (tmp_path / "s2_l3a_20210415_red.tif").read_text() == "my thesis"


def test_a_hole_is_not_complete(fresh_server, tmp_path):
    asked = {"time": "2021-05", "bands": ["B4"], "archive": fresh_server.url}
    da = s2l3a_xr.open_l3a(AOI, **asked, fail_on_error=False)
    fresh_server.faults = [Fault(match=r"FRC_B4.*\.tif", kind="status", status=403, count=2)]
    with pytest.warns(s2l3a_xr.ReadFailedWarning):
        to_cog(da, tmp_path, progress=False)
    fresh_server.faults = []
    (path,) = to_cog(da, tmp_path, progress=False)
    plane = s2l3a_xr.open_l3a(AOI, **asked)[0, 0].to_numpy()
    np.testing.assert_array_equal(within(read(path), plane), plane)


def test_a_failed_read_leaves_nothing(fresh_server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", bands=["B4"], archive=fresh_server.url)
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=403)]
    with pytest.raises(s2l3a_xr.ReadError):
        to_cog(da, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


EXPORT = """
import sys
import geopandas as gpd
import s2l3a_xr
url, area, folder = sys.argv[1:]
da = s2l3a_xr.open_l3a(gpd.read_file(area), archive=url, time="2021-04/2021-06", bands=["B4"])
for month in range(3):
    s2l3a_xr.to_cog(da.isel(time=[month]), folder, progress=False)
"""


@posix
def test_a_killed_export_keeps_whole_files(tmp_path, lay_file):
    noise = lay_noise(tmp_path / "site", lay_file, months=(4, 5, 6))
    AREA.to_file(tmp_path / "area.gpkg")
    folder = tmp_path / "killed"
    second = folder / "s2_l3a_20210515_red.tif"
    with SampleServer(tmp_path / "site", latency_s=0.02) as server:
        args = [server.url, tmp_path / "area.gpkg", folder]
        with subprocess.Popen([sys.executable, "-c", EXPORT, *map(str, args)]) as child:  # noqa: S603
            until = time.monotonic() + 180
            while not second.exists() and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(0.1)
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
    whole = sorted(folder.glob("*.tif"))
    assert len(whole) == 2
    for path, plane in zip(whole, noise[:, 0], strict=False):
        np.testing.assert_array_equal(read(path), plane)
    disk._swept.clear()
    with SampleServer(tmp_path / "site") as server:
        da = s2l3a_xr.open_l3a(AREA, time="2021-04/2021-06", bands=["B4"], archive=server.url)
        paths = to_cog(da, folder, progress=False)
        asked = {entry.path for entry in server.log if entry.path.endswith(".tif")}
    assert len(asked) == 1  # the third month's file alone
    for path, plane in zip(paths, noise[:, 0], strict=True):
        np.testing.assert_array_equal(read(path), plane)
    assert sorted(folder.iterdir()) == paths


def test_on_a_cluster_of_processes(da, tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        paths = to_cog(da, tmp_path, progress=False)
    for path, plane in zip(paths, da.to_numpy().reshape(4, *da.shape[2:]), strict=True):
        np.testing.assert_array_equal(within(read(path), plane), plane)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
