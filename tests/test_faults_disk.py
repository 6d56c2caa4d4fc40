"""What disks do to files: full, forbidden, killed in the middle, rotten (FAULTS rows 88-92)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import ExportError, Inventory, MissingWarning, SelectionError, Transport, to_geotiff
from s2l3a_xr import _disk as disk
from s2l3a_xr._cli import _report, main
from s2l3a_xr._geotiff import is_sound, write_geotiff
from s2l3a_xr._plot import quicklook
from s2l3a_xr._raster import as_cube, raster_of
from s2l3a_xr._store import KeptHeader, Store

AOI = (11.68, 51.94, 11.74, 51.98)
ASKED = {"time": "2021-04/2021-05", "bands": ["B4", "B5"]}
PROFILES = ("compressed", "plain", "cog")
ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")


@pytest.fixture(autouse=True)
def _sweep_each_time():
    disk._swept.clear()


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)


def noise(months=1, side=400):
    """Make an array that packs badly."""
    pixels = np.random.default_rng(1).normal(1500, 300, (months, 1, side, side)).astype("int16")
    places = np.arange(side) * 10.0
    coords = {
        "time": np.arange("2021-01", "2021-12", dtype="datetime64[M]")[:months].astype("M8[ns]"),
        "band": ["B4"], "y": 5_800_000 - places, "x": 600_000 + places,
    }  # fmt: skip
    da = xr.DataArray(
        pixels, coords, ("time", "band", "y", "x"), attrs={"_FillValue": np.int16(-10000)}
    )
    return da.rio.write_crs("EPSG:32632").chunk({"time": 1})


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def left_over(folder):
    """Name what is there besides files under final names."""
    return [path for path in folder.rglob("*") if ".part-" in path.name]


def mount(folder, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("small disks are mounted on Linux alone")
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603 - ours
        pytest.skip("mounting a small disk is not permitted here")


def unmount(folder):
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 - ours


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a disk of so many bytes."""
    folder, mounted = tmp_path / "disk", []
    folder.mkdir()

    def make(size):
        mount(folder, f"size={size // 4096 * 4}k")
        mounted.append(folder)
        return folder

    yield make
    for path in mounted:
        unmount(path)


# 88: full


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_full_disk_is_an_error_and_leaves_nothing(small_disk, tmp_path, profile, share):
    cube = as_cube(noise())
    raster, pixels = raster_of(cube), cube[0, 0].to_numpy()

    def write(path):
        write_geotiff(path, pixels, raster, profile, name="red", content="it")

    write(tmp_path / "whole.tif")
    size = (tmp_path / "whole.tif").stat().st_size
    folder = small_disk(max(4096, int(size * share)))
    if not share:
        (folder / "fill").write_bytes(bytes(4096))
    with pytest.raises(ExportError, match=r"red\.tif can't be written: .*No space left"):
        write(folder / "red.tif")
    assert [path.name for path in folder.iterdir()] == ([] if share else ["fill"])


def test_a_disk_that_fills_up_keeps_the_files_that_are_whole(small_disk, tmp_path):
    da = noise(months=4)
    sizes = [path.stat().st_size for path in to_geotiff(da, tmp_path / "all", progress=False)]
    folder = small_disk(int(sum(sizes) * 0.7))
    with pytest.raises(ExportError, match="No space left"):
        to_geotiff(da, folder, progress=False)
    until, quiet = time.monotonic() + 20, 0
    while quiet < 20 and time.monotonic() < until:
        time.sleep(0.05)  # the other thread was at a file of its own, or about to begin one
        quiet = 0 if left_over(folder) else quiet + 1
    assert 1 <= len(list(folder.iterdir())) < 4
    assert all(is_sound(path) for path in folder.iterdir())


@pytest.mark.parametrize("profile", PROFILES)
def test_too_little_space_is_told_with_both_numbers_before_anything_is_read(
    small_disk, server, profile
):
    da = s2l3a_xr.open_l3a(AOI, archive=server.url, **ASKED)
    folder = small_disk(100_000)
    server.clear_log()
    plane = da[0, 0].nbytes
    needed = {"plain": 4 * plane}.get(profile, plane)
    words = rf"98\.3 kB free, 4 files of .* need {needed / 1e3:.3g}|{needed / 1e6:.3g} MB at the"
    with pytest.raises(ExportError, match=words):
        to_geotiff(da, folder, profile=profile, progress=False)
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]
    assert not list(folder.iterdir())


def test_what_packs_well_is_not_refused(small_disk):
    """Eight times more pixels than there is space for, and all of them nodata."""
    da = xr.full_like(noise(months=8), -10000)
    folder = small_disk(int(da[0].nbytes * 1.2))
    with pytest.warns(MissingWarning, match="8 of 8 files hold nodata alone: s2_l3a_20210101_red"):
        assert len(to_geotiff(da, folder, progress=False)) == 8


def test_other_files_are_whole_or_not_there_as_well(small_disk, server):
    da = s2l3a_xr.open_l3a(AOI, archive=server.url, time="2021-05", bands=["B4", "B3", "B2"])
    found = s2l3a_xr.search_l3a(AOI, archive=server.url, time="2021-05", bands=["B4"])
    folder = small_disk(8192)
    (folder / "fill").write_bytes(bytes(8192))
    for write in (
        lambda: found.save(folder / "inventory.json"),
        lambda: found.save(folder / "inventory.parquet"),
        lambda: quicklook(da, folder / "picture.png"),
        lambda: s2l3a_xr.save_archive(found, folder, progress=False),
    ):
        with pytest.raises(
            ExportError, match=r"can't be written|0 bytes free, the next files need"
        ):
            write()
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["fill"]
        assert not left_over(folder)


@posix
def test_a_limit_on_files_is_an_error_too(tmp_path):
    import resource  # noqa: PLC0415 - of POSIX

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(ExportError, match=r"can't be written: .*File too large"):
            to_geotiff(noise(), tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# 89: forbidden, missing, too long, in other scripts


def test_a_folder_that_is_only_read_is_told_before_anything_is_read(da, server, tmp_path):
    folder = tmp_path / "read"
    folder.mkdir()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root:
        mount(folder, "ro,size=1m")
    else:
        folder.chmod(0o500)
    server.clear_log()
    try:
        with pytest.raises(ExportError, match="can't be written"):
            to_geotiff(da, folder, progress=False)
        found = s2l3a_xr.search_l3a(AOI, archive=server.url, **ASKED)
        with pytest.raises(ExportError, match="can't be written"):
            s2l3a_xr.save_archive(found, folder, progress=False)
        for place, words in (
            (folder, r"aoi\.geojson can't be written: .*; see who may write there, or choose"),
            (folder / "demo", r"the folder .*demo can't be made: .*; choose another place\."),
        ):
            shown = CliRunner().invoke(main, ["demo", str(place)])
            assert shown.exit_code == 2
            assert re.fullmatch(rf"Error: .*{words}.*\n", shown.stderr), shown.stderr
        assert not [entry for entry in server.log if entry.path.endswith(".tif")]
    finally:
        unmount(folder) if is_root else folder.chmod(0o700)


def test_names_that_are_too_long_are_told_before_anything_is_read(da, server, tmp_path):
    server.clear_log()
    with pytest.raises(ExportError, match="File name too long; choose another"):
        to_geotiff(da, tmp_path / ("x" * 300), progress=False)
    with pytest.raises(ExportError, match="can't be written"):
        to_geotiff(da.assign_coords(band=["a", "b" * 250]), tmp_path, progress=False)
    assert not [entry for entry in server.log if entry.path.endswith(".tif")]
    assert not list(tmp_path.iterdir())


def test_an_inventory_needs_its_folder(server, tmp_path):
    found = s2l3a_xr.search_l3a(AOI, archive=server.url, **ASKED)
    with pytest.raises(ExportError, match="can't be written"):
        found.save(tmp_path / "missing" / "inventory.json")


def test_folders_in_any_script(da, server, tmp_path):
    folder = tmp_path / "Äcker 地図 é"
    expected = da.to_numpy().reshape(4, *da.shape[2:])
    for path, plane in zip(to_geotiff(da, folder, progress=False), expected, strict=True):
        np.testing.assert_array_equal(read(path), plane)
    found = s2l3a_xr.search_l3a(AOI, archive=server.url, **ASKED)
    mirror = s2l3a_xr.save_archive(found, folder / "Spiegel", progress=False)
    np.testing.assert_array_equal(s2l3a_xr.open_l3a(inventory=mirror), da)


# 90: killed in the middle


@posix
def test_kills_leave_nothing_partial_and_the_next_run_cleans_up():
    script = ROOT / "benchmarks" / "faults" / "kills.py"
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(script), "--kills", "5", "--signals", "SIGKILL,SIGTERM"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (told["kills"], told["partial"], told["left_over"]) == (5, 0, 0)
    assert told["whole"] > 0


HOLD = """
import sys, time
from pathlib import Path
from s2l3a_xr._disk import whole_file
with whole_file(Path(sys.argv[1])) as place:
    place.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@posix
def test_what_the_dead_left_is_removed_and_the_living_are_spared(tmp_path):
    child = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-c", HOLD, str(tmp_path / "a.bin")], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "writing\n"
        (part,) = left_over(tmp_path)
        with disk.whole_file(tmp_path / "b.bin") as place:
            place.write_bytes(b"whole")
        assert left_over(tmp_path) == [part]
        child.kill()
        child.wait()
    assert not (tmp_path / "a.bin").exists()
    disk._swept.clear()
    with disk.whole_file(tmp_path / "b.bin") as place:
        place.write_bytes(b"anew")
    assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]


def test_what_other_machines_left_is_removed_when_it_is_old(tmp_path):
    names = [f".s2l3a-00000000-1.part-{digit * 32}" for digit in "ab"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.tif").write_bytes(b"half")
    long_ago = time.time() - 2 * 86_400
    os.utime(tmp_path / names[0], (long_ago, long_ago))
    os.utime(tmp_path / names[1], (long_ago, long_ago))
    os.utime(tmp_path / names[0] / "half.tif", (long_ago, long_ago))
    disk.try_name(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == [names[1]]  # its file was just written


def test_links_are_never_written_through(da, tmp_path):
    victim = tmp_path / "victim.tif"
    victim.write_text("my thesis")
    folder = tmp_path / "out"
    folder.mkdir()
    link = folder / "s2_l3a_20210415_red.tif"
    try:
        link.symlink_to(victim)
        (folder / "s2_l3a_20210415_rededge1.tif").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("links are not permitted here")
    with pytest.raises(ExportError, match="something else"):
        to_geotiff(da, folder, progress=False)
    to_geotiff(da, folder, progress=False, overwrite=True)
    assert victim.read_text() == "my thesis"
    assert not (tmp_path / "nowhere").exists()
    assert not any(path.is_symlink() for path in folder.iterdir())
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / f".s2l3a-{disk._machine()}-999999.part-{'a' * 32}").symlink_to(outside)
    (outside / "kept").write_text("x")
    disk._swept.clear()
    disk.try_name(folder / "x")
    assert (outside / "kept").exists()


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("fsync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (seen.append("name"), replace(a, b)))
    with disk.whole_file(tmp_path / "a") as place:
        place.write_bytes(b"a")
    assert seen == (["fsync", "name", "fsync"] if os.name == "posix" else ["fsync", "name"])


# 91: what is there


def test_whoever_reads_while_a_file_is_replaced_sees_a_whole_one(tmp_path):
    cubes = [noise(), noise() + 1]
    right = {cube.to_numpy()[0, 0].tobytes() for cube in cubes}
    (path,) = to_geotiff(cubes[0], tmp_path, progress=False)
    seen, done = [], threading.Event()

    def look():
        while not done.is_set():
            seen.append(read(path).tobytes() in right)

    thread = threading.Thread(target=look)
    thread.start()
    for turn in range(6):
        to_geotiff(cubes[(turn + 1) % 2], tmp_path, overwrite=True, progress=False)
    done.set()
    thread.join()
    assert len(seen) > 5
    assert all(seen)


# 92: found again


def rot(path, how):
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) * 2 // 3]
    elif how == "flipped":
        data[len(data) // 2] ^= 4
    elif how == "zeros":
        data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("how", ["cut", "flipped", "zeros"])
def test_damaged_files_are_found_and_made_anew(tmp_path, profile, how, caplog):
    da = noise(months=2)
    paths = to_geotiff(da, tmp_path, profile=profile, progress=False)
    right, kept = paths[0].read_bytes(), paths[1].stat().st_mtime_ns
    rot(paths[0], how)
    to_geotiff(da, tmp_path, profile=profile, progress=False)
    np.testing.assert_array_equal(read(paths[0]), da.to_numpy()[0, 0])
    assert len(right) == paths[0].stat().st_size
    assert paths[1].stat().st_mtime_ns == kept
    assert f"{paths[0].name} is damaged" in caplog.text


def test_a_file_whose_header_is_damaged_could_be_anybody_s(tmp_path):
    (path,) = to_geotiff(noise(), tmp_path, progress=False)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ExportError, match=r"header is damaged; pass overwrite=True"):
        to_geotiff(noise(), tmp_path, progress=False)
    to_geotiff(noise(), tmp_path, overwrite=True, progress=False)
    assert is_sound(path)


def test_overviews_that_a_user_added_are_no_damage(tmp_path):
    (path,) = to_geotiff(noise(), tmp_path, progress=False)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    stamp = path.stat().st_mtime_ns
    to_geotiff(noise(), tmp_path, progress=False)
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("how", ["cut", "flipped", "zeros"])
def test_damaged_files_of_a_mirror_are_made_anew(server, tmp_path, how):
    found = s2l3a_xr.search_l3a(AOI, archive=server.url, **ASKED)
    s2l3a_xr.save_archive(found, tmp_path, progress=False)
    paths = sorted(tmp_path.rglob("*.tif"))
    before = [path.read_bytes() for path in paths]
    rot(paths[1], how)
    server.clear_log()
    s2l3a_xr.save_archive(found, tmp_path, progress=False)
    assert [path.read_bytes() for path in paths] == before
    asked = {Path(entry.path).name for entry in server.log if entry.status == 206}
    assert asked <= {paths[1].name}
    assert not left_over(tmp_path)


def test_a_cut_inventory_is_told(server, tmp_path):
    path = s2l3a_xr.search_l3a(AOI, archive=server.url, **ASKED).save(tmp_path / "pin.json")
    rot(path, "cut")
    with pytest.raises(SelectionError, match="can't be read as an inventory"):
        Inventory.load(path)


def test_rotten_entries_of_the_cache_are_read_anew(tmp_path):
    store = Store(tmp_path, 10**6)
    pixels = np.arange(100, dtype="i2").reshape(10, 10)
    header = KeptHeader(total=9, stamp=("a",), pieces=((0, b"II*\0"),))
    store.keep_block("key", pixels)
    store.keep_header("url", header)
    np.testing.assert_array_equal(store.block("key", pixels.dtype, pixels.shape), pixels)
    assert store.header("url") == header
    for path in tmp_path.glob("??/*"):
        rot(path, "flipped")
    assert store.block("key", pixels.dtype, pixels.shape) is None
    assert store.header("url") is None
    assert not store.has_block("key")


def test_a_cache_full_of_zeros_changes_no_pixel(server, tmp_path):
    asked = {"archive": server.url, **ASKED}
    transport = Transport(cache_dir=str(tmp_path))
    expected = s2l3a_xr.open_l3a(AOI, transport=transport, **asked).to_numpy()
    blocks = list(tmp_path.glob("??/*.block"))
    assert blocks
    for path in blocks:
        path.write_bytes(bytes(path.stat().st_size))
    later = Transport(cache_dir=str(tmp_path), max_connections=3)
    np.testing.assert_array_equal(s2l3a_xr.open_l3a(AOI, transport=later, **asked), expected)


def test_a_cache_that_can_not_be_written_is_told_once_and_changes_no_pixel(
    server, tmp_path, caplog
):
    (tmp_path / "file").touch()
    asked = {"archive": server.url, **ASKED}
    nowhere = Transport(cache_dir=str(tmp_path / "file" / "cache"))
    found = s2l3a_xr.open_l3a(AOI, transport=nowhere, **asked).to_numpy()
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == 1
    assert f"the cache folder {tmp_path / 'file' / 'cache'} can't be written" in told[0]
    np.testing.assert_array_equal(found, s2l3a_xr.open_l3a(AOI, **asked))


def test_a_header_of_a_time_to_come_is_not_believed(tmp_path):
    """The clock leapt back: nobody knows how old it is."""
    store = Store(tmp_path, 10**6)
    store.keep_header("url", KeptHeader(total=9, stamp=(), pieces=((0, b"II"),)))
    (path,) = tmp_path.glob("??/*")
    ahead = time.time() + 40 * 86_400
    os.utime(path, (ahead, ahead))
    assert store.header("url") is None


def test_the_list_of_failures_is_whole_or_the_one_before(small_disk, server):
    """What is asked for a list that can't be written keeps its error, and leaves no half of one."""
    from datetime import UTC, datetime  # noqa: PLC0415 - for this one

    from s2l3a_xr._sample import Fault  # noqa: PLC0415 - for this one

    folder = small_disk(8192)
    (folder / "fill").write_bytes(bytes(8192))
    da = s2l3a_xr.open_l3a(
        AOI, archive=server.url, fail_on_error=False, missing="keep",
        transport=Transport(max_attempts=1), **ASKED,
    )  # fmt: skip
    server.faults = [Fault(match="0415.*_B4", kind="status", status=404)]
    began = datetime.now(UTC)
    da.compute()
    with pytest.raises(ExportError, match="can't be written"):
        _report(da, began, folder / "s2_l3a_failures.json")
    assert [path.name for path in folder.iterdir()] == ["fill"]


# Larger exports: pieces, stores and COGs of odc-geo


def once_it_has_space(small_disk, tmp_path, export, share):
    """Export to a disk that is too small, make space, and export again; give both folders."""
    export(tmp_path / "whole")
    size = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    folder = small_disk(int(size * (1 + share)))
    (folder / "fill").write_bytes(bytes(size))
    with pytest.raises(ExportError, match="No space left"):
        export(folder / "out")
    assert not list((folder / "out").glob("*.tif"))
    (folder / "fill").unlink()
    subprocess.run(  # noqa: S603 - ours
        ["mount", "-o", f"remount,size={4 * size // 1024}k", str(folder)],  # noqa: S607
        check=True,
    )
    disk._swept.clear()
    export(folder / "out")
    return folder / "out"


@pytest.fixture
def _others_fill_the_disk(monkeypatch):
    """Let the look at free space be over before they begin to."""
    for module in ("_export", "_cog"):
        monkeypatch.setattr(f"s2l3a_xr.{module}.check_folder", lambda *_, **__: None)


@pytest.mark.usefixtures("_others_fill_the_disk")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("share", [0.5, 1.2])
def test_pieces_on_a_full_disk(small_disk, tmp_path, profile, share):
    """The disk fills up while pieces are written, or when they are put together."""
    da = noise(side=1024)

    def export(folder):
        to_geotiff(da, folder, profile=profile, piece_px=256, progress=False)

    folder = once_it_has_space(small_disk, tmp_path, export, share)
    np.testing.assert_array_equal(read(folder / "s2_l3a_20210101_red.tif"), da[0, 0])
    assert [path.name for path in folder.iterdir()] == ["s2_l3a_20210101_red.tif"]


def test_a_store_on_a_full_disk(small_disk, tmp_path):
    da = noise(months=2, side=600)
    chunks = {"time": 1, "y": 200, "x": 200}

    def export(folder):
        with dask.config.set({"array.chunk-size": "80 kB"}):
            s2l3a_xr.to_zarr(da, folder, chunks=chunks, progress=False)

    store = once_it_has_space(small_disk, tmp_path, export, 0.5)
    ds = xr.open_zarr(store, mask_and_scale=False)
    np.testing.assert_array_equal(ds["s2_l3a"], da)
    assert "status" not in ds.attrs


@pytest.mark.usefixtures("_others_fill_the_disk")
def test_a_cog_of_odc_geo_on_a_full_disk(small_disk, tmp_path):
    da = noise(side=1024)
    folder = once_it_has_space(
        small_disk, tmp_path, lambda folder: s2l3a_xr.to_cog(da, folder, progress=False), 0.5
    )
    np.testing.assert_array_equal(read(folder / "s2_l3a_20210101_red.tif"), da[0, 0])
    assert [path.name for path in folder.iterdir()] == ["s2_l3a_20210101_red.tif"]
