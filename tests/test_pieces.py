"""Planes larger than a piece: the same files, in bounded memory, resumed piece by piece."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import tifffile
import xarray as xr
from distributed import Client, LocalCluster
from noise import AREA, lay_noise, tif_bytes

import s2l3a_xr
from s2l3a_xr import ExportError, MissingWarning, Transport, open_l3a, to_geotiff
from s2l3a_xr import _disk as disk
from s2l3a_xr._geotiff import blank_geotiff
from s2l3a_xr._pieces import _with_tables
from s2l3a_xr._raster import as_cube, raster_of
from s2l3a_xr._sample import Fault, SampleServer

AOI = (11.62, 51.92, 11.76, 51.99)
ASKED = {"time": "2021-04/2021-05", "bands": ["B4", "B5"]}
PIECE = 256
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _sweep_each_time():
    disk._swept.clear()


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)


def read(path, level=None):
    with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
        return file.read(1)


def said(path):
    """Tell all that a file says besides its pixels."""
    with rasterio.open(path) as file:
        return (
            file.tags(), file.tags(1), file.tags(ns="IMAGE_STRUCTURE"), file.descriptions,
            dict(file.profile), file.overviews(1), file.crs.to_wkt(),
        )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def image(dtype="int16", height=700, width=1100):
    rng = np.random.default_rng(7)
    pixels = rng.normal(1500, 400, (1, 1, height, width)).astype(dtype)
    pixels[..., :200, 100:500] = 0
    coords = {
        "time": np.array(["2021-05-15"], "M8[ns]"), "band": ["B4"],
        "y": 5_800_000 - np.arange(height) * 10.0, "x": 600_000 + np.arange(width) * 10.0,
    }  # fmt: skip
    da = xr.DataArray(pixels, coords, ("time", "band", "y", "x"), attrs={"_FillValue": 0})
    return da.rio.write_crs("EPSG:32632")


@pytest.mark.parametrize("profile", ["compressed", "plain", "cog"])
def test_a_cut_file_is_the_same_as_a_whole_one(da, tmp_path, profile):
    assert min(da.shape[2:]) > 2 * PIECE
    options = {"profile": profile, "progress": False}
    whole = to_geotiff(da, tmp_path / "whole", **options)
    cut = to_geotiff(da, tmp_path / "cut", piece_px=PIECE, **options)
    assert names(tmp_path / "whole") == names(tmp_path / "cut")
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(read(other), read(one))
        assert said(other) == said(one)
        for level in range(len(said(one)[5])):
            np.testing.assert_array_equal(read(other, level), read(one, level))
        np.testing.assert_array_equal(tifffile.imread(other, level=0), read(one))
    stamps = [path.stat().st_mtime_ns for path in cut]
    to_geotiff(da, tmp_path / "cut", **options)
    assert [path.stat().st_mtime_ns for path in cut] == stamps


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("profile", ["compressed", "plain", "cog"])
def test_all_types_and_sizes(tmp_path, dtype, profile):
    for height, width in ((700, 1100), (257, 1025), (513, 256)):
        da = image(dtype, height, width)
        (path,) = to_geotiff(
            da, tmp_path, profile=profile, piece_px=256, overwrite=True, progress=False
        )
        np.testing.assert_array_equal(read(path), da[0, 0])
        np.testing.assert_array_equal(tifffile.imread(path, level=0), da[0, 0])


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da.chunk({"x": 100, "y": 333}),
        lambda da: da.compute(),
        lambda da: da.isel(y=slice(None, None, -1), x=slice(3, None)),
        lambda da: da.l3a.masked(),
        lambda da: da + 1,
    ],
    ids=["rechunked", "computed", "turned", "masked", "changed"],
)
@pytest.mark.filterwarnings("ignore:pixels without data")
def test_arrays_cut_in_other_ways(da, tmp_path, change):
    changed = change(da)
    whole = to_geotiff(changed, tmp_path / "whole", progress=False)
    cut = to_geotiff(changed, tmp_path / "cut", piece_px=512, progress=False)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(read(other), read(one))
        assert said(other) == said(one)


def test_a_header_of_more_than_4_gb():
    """BigTIFF: places beyond 32 bits stand where GDAL and tifffile look for them."""
    raster = raster_of(as_cube(image()))
    head, _ = blank_geotiff(raster, "compressed", name="red", content="x", checksum=1, big=True)
    lengths = np.full(15, 2**30)
    patched = _with_tables(head, lengths, len(head))
    with rasterio.MemoryFile(patched) as memory, memory.open() as file:
        told = int(file.get_tag_item("BLOCK_OFFSET_4_2", "TIFF", bidx=1))
    assert told == len(head) + 14 * 2**30
    small, _ = blank_geotiff(raster, "compressed", name="red", content="x", checksum=1, big=False)
    with pytest.raises(ExportError, match="can't hold"):
        _with_tables(small, lengths, len(small))


@pytest.mark.parametrize("size", [0, 255, 300, -256])
def test_pieces_are_whole_tiles(da, tmp_path, size):
    with pytest.raises(ExportError, match="multiple of 256"):
        to_geotiff(da, tmp_path / "none", piece_px=size, progress=False)
    assert not (tmp_path / "none").exists()


EXPORT = """
import sys
import dask, geopandas as gpd
import s2l3a_xr
url, area, folder, profile, piece = sys.argv[1:]
dask.config.set(scheduler="synchronous")
da = s2l3a_xr.open_l3a(gpd.read_file(area), archive=url, time="2021-05", bands=["B4"])
s2l3a_xr.to_geotiff(da, folder, profile=profile, piece_px=int(piece), progress=False)
"""


def killed_when(seen, *args):
    """Run an export and kill it as soon as something is seen."""
    with subprocess.Popen([sys.executable, "-c", EXPORT, *map(str, args)]) as child:  # noqa: S603
        until = time.monotonic() + 180
        while not seen() and time.monotonic() < until and child.poll() is None:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


@pytest.fixture
def noise(tmp_path, lay_file):
    """Lay a plane of 4 x 4 pieces of 512 pixels that lie on whole blocks."""
    AREA.to_file(tmp_path / "area.gpkg")
    return lay_noise(tmp_path / "site", lay_file)[0, 0]


def export_noise(tmp_path, folder, **options):
    """Export from a server of its own, of which nothing is cached; tell the bytes read."""
    with SampleServer(tmp_path / "site") as server:
        da = s2l3a_xr.open_l3a(AREA, time="2021-05", bands=["B4"], archive=server.url)
        (path,) = to_geotiff(da, folder, piece_px=512, progress=False, **options)
        return path, tif_bytes(server)


@posix
@pytest.mark.parametrize("profile", ["compressed", "plain", "cog"])
def test_a_killed_export_goes_on_from_its_pieces(noise, tmp_path, profile):
    whole, (_, in_all) = export_noise(tmp_path, tmp_path / "whole", profile=profile)
    np.testing.assert_array_equal(read(whole), noise)
    folder = tmp_path / "killed"
    pieces = folder / ".s2_l3a_20210515_red.tif.pieces"
    with SampleServer(tmp_path / "site", latency_s=0.05) as server:
        killed_when(
            lambda: len(list(pieces.glob("*.tif"))) >= 6,
            server.url, tmp_path / "area.gpkg", folder, profile, 512,
        )  # fmt: skip
    kept = len(list(pieces.glob("*.tif")))
    assert 6 <= kept < 16
    assert not list(folder.glob("*.tif"))
    path, (_, again) = export_noise(tmp_path, folder, profile=profile)
    assert 0 < again < in_all * (16 - kept) / 16 + 100_000
    np.testing.assert_array_equal(read(path), noise)
    assert said(path) == said(whole)
    assert names(folder) == [path.name]


@posix
def test_killed_while_it_is_put_together(noise, tmp_path):
    """All pieces are there: nothing is asked of the server again."""
    folder = tmp_path / "killed"
    pieces = folder / ".s2_l3a_20210515_red.tif.pieces"
    with SampleServer(tmp_path / "site") as server:
        killed_when(
            lambda: len(list(pieces.glob("*.tif"))) == 16,
            server.url, tmp_path / "area.gpkg", folder, "cog", 512,
        )  # fmt: skip
    assert not list(folder.glob("*.tif"))
    assert len(list(pieces.glob("*.tif"))) == 16
    path, asked = export_noise(tmp_path, folder, profile="cog")
    assert asked == (0, 0)
    np.testing.assert_array_equal(read(path), noise)
    disk._swept.clear()
    export_noise(tmp_path, folder, profile="cog")
    assert names(folder) == [path.name]


def test_rotten_pieces_are_made_anew(fresh_server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", bands=["B4"], archive=fresh_server.url)
    expected = da.compute()
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=403)]
    da = s2l3a_xr.open_l3a(
        AOI, time="2021-05", bands=["B4"], archive=fresh_server.url,
        transport=Transport(max_connections=7),
    )  # fmt: skip
    with pytest.raises(s2l3a_xr.ReadError):
        to_geotiff(da, tmp_path, piece_px=PIECE, progress=False)
    assert not list(tmp_path.rglob("*.tif"))
    fresh_server.faults = []
    killed = tmp_path / ".s2_l3a_20210515_red.tif.pieces"
    killed.mkdir()
    (killed / "0_0.tif").write_bytes(b"II*\0 rotten")
    (path,) = to_geotiff(da, tmp_path, piece_px=PIECE, progress=False)
    np.testing.assert_array_equal(read(path), expected[0, 0])
    assert names(tmp_path) == [path.name]


def test_a_hole_is_not_complete(fresh_server, tmp_path):
    asked = {"time": "2021-05", "bands": ["B4"], "archive": fresh_server.url}
    da = s2l3a_xr.open_l3a(AOI, **asked, fail_on_error=False)
    fresh_server.faults = [Fault(match=r"FRC_B4.*\.tif", kind="status", status=403, count=2)]
    with pytest.warns(s2l3a_xr.ReadFailedWarning):
        (path,) = to_geotiff(da, tmp_path, piece_px=PIECE, progress=False)
    assert len(da.l3a.failures()) > 0
    assert "S2L3A_CONTENT" not in said(path)[0]
    assert names(tmp_path) == [path.name]
    fresh_server.faults = []
    to_geotiff(da, tmp_path, piece_px=PIECE, progress=False)
    np.testing.assert_array_equal(read(path), s2l3a_xr.open_l3a(AOI, **asked)[0, 0])
    assert "S2L3A_CONTENT" in said(path)[0]


def test_pieces_on_a_cluster_of_processes(da, tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        paths = to_geotiff(da, tmp_path, piece_px=512, progress=False)
    expected = da.to_numpy().reshape(4, *da.shape[2:])
    for path, plane in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(read(path), plane)
    assert names(tmp_path) == sorted(path.name for path in paths)


MEMORY = r"""
import json, re, sys
import dask, dask.array, numpy as np, xarray as xr, rioxarray
import s2l3a_xr
def peak_kb():  # getrusage would tell that of the parent, where it is more
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
side, piece, folder, profile = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def noise(block_info=None):
    (rows, columns) = block_info[None]["chunk-shape"][2:]
    return np.random.default_rng(1).integers(0, 4000, (1, 1, rows, columns), "int16")
pixels = dask.array.map_blocks(noise, dtype="int16",
    chunks=((1,), (1,), *dask.array.core.normalize_chunks((512, 512), (side, side))))
places = np.arange(side) * 10.0
coords = {"time": np.array(["2021-05-15"], "M8[ns]"), "band": ["B4"], "y": -places, "x": places}
da = xr.DataArray(pixels, coords, ("time", "band", "y", "x"),
                  attrs={"_FillValue": np.int16(-10000)}).rio.write_crs("EPSG:32632")
tiny = da.isel(x=slice(600), y=slice(600))
dask.config.set(scheduler="synchronous")
s2l3a_xr.to_geotiff(tiny, folder + "/tiny", profile=profile, piece_px=256, progress=False)
before = peak_kb()
s2l3a_xr.to_geotiff(da, folder, profile=profile, piece_px=piece, progress=False)
print(json.dumps([before, peak_kb()]))
"""


@pytest.mark.parametrize("profile", ["compressed", "cog"])
def test_what_holds_nothing_is_told(server, tmp_path, profile):
    """The sample's pixels end within its tiles."""
    da = open_l3a((11.0, 51.9, 11.02, 51.91), time="2021-05", bands="B4", archive=server.url)
    for piece_px in (256, 8192):
        with pytest.warns(MissingWarning, match=r"1 of 1 files hold nodata alone: s2_l3a_2021051"):
            to_geotiff(da, tmp_path / str(piece_px), profile=profile, piece_px=piece_px)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is told by /proc")
def test_memory_does_not_grow_with_the_plane(tmp_path):
    def peak_mb(side, piece):
        done = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-c", MEMORY, str(side), str(piece), str(tmp_path / f"{side}{piece}"),
             "compressed"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        before, after = json.loads(done.stdout)
        return (after - before) / 1024

    plane_mb = 6144**2 * 2 / 2**20
    small, large = peak_mb(2048, 1024), peak_mb(6144, 1024)
    assert large < small + 0.5 * plane_mb
    assert large < plane_mb
    assert peak_mb(6144, 8192) > plane_mb  # in one piece, it takes the plane at least
