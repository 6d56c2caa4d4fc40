"""Files for eCognition: names, pixels, layouts, and what may be in the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from distributed import Client, LocalCluster

import s2l3a_xr
from s2l3a_xr import ExportError, to_geotiff
from s2l3a_xr._rehearsal import nodata_becomes
from s2l3a_xr._sample import Fault, SampleServer

AOI = (11.68, 51.94, 11.74, 51.98)


@pytest.fixture
def da(server):
    return s2l3a_xr.open_l3a(AOI, time="2021-04/2021-05", bands=["B4", "B5"], archive=server.url)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def requests_to_tif(server):
    return [entry for entry in server.log if entry.path.endswith(".tif")]


def test_names_and_pixels(da, tmp_path):
    paths = to_geotiff(da, tmp_path / "new" / "folder", progress=False)
    assert [path.name for path in paths] == [
        "s2_l3a_20210415_red.tif",
        "s2_l3a_20210415_rededge1.tif",
        "s2_l3a_20210515_red.tif",
        "s2_l3a_20210515_rededge1.tif",
    ]
    expected = da.to_numpy().reshape(4, *da.shape[2:])
    for path, plane in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(read(path), plane)
        with rasterio.open(path) as file:
            assert (file.nodata, file.dtypes[0], file.crs.to_epsg()) == (-10000, "int16", 32632)
            assert file.transform == da.rio.transform()
    assert {path.name for path in paths} == {path.name for path in paths[0].parent.iterdir()}


@pytest.mark.parametrize("profile", ["compressed", "plain", "cog"])
def test_profiles(da, tmp_path, profile):
    (path, *_) = to_geotiff(da, tmp_path, profile=profile, progress=False)
    with rasterio.open(path) as file:
        assert file.profile["tiled"] == (profile != "plain")
        assert file.compression == (
            None if profile == "plain" else rasterio.enums.Compression.deflate
        )
        assert file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == (
            "COG" if profile == "cog" else None
        )


def test_unknown_profile(da, tmp_path):
    with pytest.raises(ExportError, match="'compressed', 'plain', 'cog'"):
        to_geotiff(da, tmp_path, profile="png")


def test_complete_files_are_skipped_without_a_request(da, server, tmp_path):
    paths = to_geotiff(da, tmp_path, progress=False)
    before = {path: path.stat().st_mtime_ns for path in paths}
    server.clear_log()
    assert to_geotiff(da, tmp_path, progress=False) == paths
    assert not requests_to_tif(server)
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_a_longer_request_keeps_the_files_of_a_shorter_one(da, server, tmp_path):
    first = to_geotiff(da.isel(time=[0]), tmp_path, progress=False)
    stamp = first[0].stat().st_mtime_ns
    longer = s2l3a_xr.open_l3a(
        AOI, time="2021-03/2021-05", bands=["B4", "B5"], archive=server.url, chunks=None
    )
    assert len(to_geotiff(longer, tmp_path, progress=False)) == 6
    assert first[0].stat().st_mtime_ns == stamp


@pytest.mark.filterwarnings("ignore:pixels without data")
def test_what_holds_something_else_is_an_error_unless_overwritten(da, tmp_path):
    (path, *_) = to_geotiff(da, tmp_path, progress=False)
    brighter = da + 1
    with pytest.raises(ExportError, match="overwrite=True"):
        to_geotiff(brighter, tmp_path, progress=False)
    to_geotiff(brighter, tmp_path, overwrite=True, progress=False)
    np.testing.assert_array_equal(read(path), brighter[0, 0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda da: da.isel(x=slice(0, 49)), r"columns and rows are \(50, \d+\), not \(49, "),
        (lambda da: da.isel(x=slice(1, 51)), r"corner is \("),
        (lambda da: da.astype("float32"), "dtype is int16, not float32"),
        (lambda da: da.rio.write_nodata(-1), r"nodata is -10000\.0, not -1"),
        (lambda da: da.rio.write_crs(25832), "CRS is EPSG:32632, not EPSG:25832"),
        (lambda da: da.copy(data=da.data + 1), "other source files, profile or computation"),
    ],
)
def test_what_is_something_else_is_named(da, tmp_path, change, named):
    da = da.isel(x=slice(0, 51))
    (path, *_) = to_geotiff(da.isel(x=slice(0, 50)), tmp_path, progress=False)
    other = change(da if "corner" in named else da.isel(x=slice(0, 50)))
    with pytest.raises(ExportError, match=rf"made of something else: .*{named}"):
        to_geotiff(other, tmp_path, progress=False)
    with rasterio.open(path, "r+") as file:
        file.update_tags(S2L3A="", S2L3A_CONTENT="")
    with pytest.raises(ExportError, match="another program wrote it"):
        to_geotiff(da.isel(x=slice(0, 50)), tmp_path, progress=False)


def test_a_foreign_file_in_the_way_is_kept(da, tmp_path):
    foreign = tmp_path / "s2_l3a_20210415_red.tif"
    foreign.write_text("my thesis")
    with pytest.raises(ExportError, match=r"red\.tif is there already .* no TIFF, or its header"):
        to_geotiff(da, tmp_path, progress=False)
    assert foreign.read_text() == "my thesis"


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da.compute(),
        lambda da: da.isel(time=0),
        lambda da: da.sel(band="B4"),
        lambda da: da.isel(y=slice(None, None, -1)),
        lambda da: da.isel(x=slice(None, None, -1)),
        lambda da: da.transpose("x", "y", "band", "time"),
        lambda da: da.rename("mine"),
        lambda da: da.chunk({"x": 64, "y": 33}),
        lambda da: da.isel(y=slice(10, 60), x=slice(5, 6)),
        lambda da: da.to_dataset("band")["B4"],
    ],
    ids=[
        "computed",
        "month",
        "band",
        "south_up",
        "mirrored",
        "transposed",
        "renamed",
        "rechunked",
        "thin",
        "from_dataset",
    ],
)
def test_changed_arrays_are_written_right(da, tmp_path, change):
    changed = change(da)
    paths = to_geotiff(changed, tmp_path, progress=False)
    written = rioxarray.open_rasterio(paths[0]).squeeze("band", drop=True)
    band = "B4"
    expected = da.sel(time="2021-04-15", band=band).sel(x=written.x, y=written.y)
    np.testing.assert_array_equal(written, expected)
    assert written.shape == (changed.sizes["y"], changed.sizes["x"])


def test_nan_becomes_nodata(da, tmp_path):
    masked = da.l3a.masked().isel(time=[0], band=[0])
    masked = masked.where(masked > 500)
    (path,) = to_geotiff(masked, tmp_path, progress=False)
    pixels = read(path)
    with rasterio.open(path) as file:
        assert (file.nodata, file.dtypes[0]) == (-10000, "float32")
    holes = np.isnan(masked.to_numpy()[0, 0])
    assert holes.any()
    assert (pixels[holes] == -10000).all()
    np.testing.assert_array_equal(pixels[~holes], masked.to_numpy()[0, 0][~holes])


def test_reflectance_is_written_as_it_is(server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", bands="B8", archive=server.url, mask_and_scale=True)
    (path,) = to_geotiff(da, tmp_path, progress=False)
    pixels = read(path)
    assert 0 < np.median(pixels[pixels >= 0]) < 1
    assert da.dtype == pixels.dtype == np.float32


def _raw_ndvi(da):
    red, nir = (da.sel(band=name, drop=True) for name in ("B4", "B5"))
    return ((nir - red) / (nir + red)).assign_coords(band="ndvi")


@pytest.mark.parametrize("write", [to_geotiff, s2l3a_xr.to_cog, s2l3a_xr.to_zarr])
@pytest.mark.parametrize(
    ("change", "number"),
    [(_raw_ndvi, 0), (lambda da: da / 10000, -1), (lambda da: da + 1, -9999)],
)
def test_nodata_that_became_a_number_is_told(da, server, tmp_path, write, change, number):
    changed = change(da)
    server.clear_log()
    assert nodata_becomes(changed) == (-10000, number)
    assert not server.log
    told = rf"pixels without data will hold -?{abs(number)}: -10000 took part .*masked\(\)"
    with pytest.warns(s2l3a_xr.S2L3AWarning, match=told):
        write(changed, tmp_path / "out", progress=False)
    outside = (da == -10000).isel(band=0, time=0).to_numpy()
    assert outside.any()
    assert (changed.isel(time=0).to_numpy()[..., outside] == number).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da.astype("float32"),
        lambda da: (da / 10000).rio.write_nodata(-1, encoded=True),
        lambda da: da.where(da > 0) / 10000,
        lambda da: da.l3a.masked() / 10000,
        lambda da: (da > 500).isel(x=slice(5, None)),
        lambda da: (da > 500).astype("uint8"),
        lambda da: (da / 10000).compute(),
        lambda da: da.isel(band=[1, 0], y=slice(None, None, -1)),
    ],
    ids=["cast", "own", "where", "masked", "bool", "uint8", "computed", "chosen"],
)
def test_nothing_is_told_of_nodata_that_stays_nodata(da, tmp_path, change):
    assert len(to_geotiff(change(da), tmp_path, progress=False)) == 4


@pytest.mark.filterwarnings("ignore:pixels without data")
def test_own_layers_keep_their_names(da, tmp_path):
    ndvi = (da.sel(band="B5") - da.sel(band="B4")).assign_coords(band="ndvi")
    paths = to_geotiff(ndvi, tmp_path, progress=False)
    assert paths[0].name == "s2_l3a_20210415_ndvi.tif"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda da: da.to_dataset("band"), "to_dataarray"),
        (lambda da: da.drop_vars("time"), "no 'time' coordinate"),
        (lambda da: da.drop_vars("band"), "no 'band' coordinate"),
        (lambda da: da.drop_vars("spatial_ref"), "no CRS"),
        (lambda da: da.assign_coords(time=["a", "b"]), "datetime64"),
        (lambda da: da.expand_dims(run=2), "more dimensions .* run"),
        (lambda da: da.isel(x=[0, 1, 3]), "not evenly spaced"),
        (lambda da: da.isel(x=slice(0, 0)), "empty"),
        (lambda da: da.assign_coords(band=["../../etc", "b"]), "can't be part of a file name"),
        (lambda da: xr.concat([da, da], "time"), "several time steps on one day"),
        (lambda da: xr.concat([da, da], "band"), "several bands of one name"),
        (lambda da: da.astype(complex), "complex128 can't be written"),
    ],
)
def test_arrays_that_do_not_say_enough(da, tmp_path, change, words):
    with pytest.raises(ExportError, match=words):
        to_geotiff(change(da), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_t_be_made(da, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        to_geotiff(da, tmp_path / "file" / "below", progress=False)


def test_progress_goes_to_stderr(da, tmp_path, capsys):
    to_geotiff(da, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "4/4" in shown.err
    assert not shown.out


def test_on_a_cluster_of_processes(da, tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        paths = to_geotiff(da, tmp_path, progress=False)
    expected = da.to_numpy().reshape(4, *da.shape[2:])
    for path, plane in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(read(path), plane)


def _export(url, folder):
    da = s2l3a_xr.open_l3a(AOI, time="2021-04/2021-06", archive=url)
    while True:
        to_geotiff(da, folder, progress=False, overwrite=True)


def test_a_killed_export_leaves_only_whole_files(server, tmp_path):
    expected = s2l3a_xr.open_l3a(AOI, time="2021-04/2021-06", archive=server.url).compute()
    planes = {
        f"s2_l3a_2021{month:02}15_{name}.tif": expected[i, j].to_numpy()
        for i, month in enumerate((4, 5, 6))
        for j, name in enumerate(("blue", "green", "red", "nir"))
    }
    spawn = multiprocessing.get_context("spawn")
    for round_ in range(3):
        child = spawn.Process(target=_export, args=(server.url, tmp_path), daemon=True)
        child.start()
        until = time.monotonic() + 60
        while not list(tmp_path.glob("*.tif")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05 + 0.11 * round_)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        whole = list(tmp_path.glob("s2_l3a_*.tif"))
        assert whole
        for path in whole:
            np.testing.assert_array_equal(read(path), planes[path.name])


@pytest.mark.parametrize(
    "relabel",
    [
        lambda da: da.assign_coords(time=da.time.values[::-1]),
        lambda da: da.assign_coords(
            band=da.band.values[::-1], native_name=("band", da.native_name.values[::-1])
        ),
        lambda da: da.isel(x=slice(1, None)).assign_coords(x=da.x[:-1].values),
    ],
    ids=["months", "bands", "columns"],
)
def test_labels_do_not_decide_what_a_file_holds(da, tmp_path, relabel):
    moved = relabel(da)
    to_geotiff(moved, tmp_path, progress=False)
    right = da.isel(x=slice(0, moved.sizes["x"]))
    with pytest.raises(ExportError, match="something else"):
        to_geotiff(right, tmp_path, progress=False)
    paths = to_geotiff(right, tmp_path, overwrite=True, progress=False)
    expected = right.to_numpy().reshape(4, *right.shape[2:])
    for path, plane in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(read(path), plane)


def test_months_that_the_request_has_not_got_are_named_as_told(da, tmp_path):
    later = da.assign_coords(time=da.time.values + np.timedelta64(400, "D"))
    paths = to_geotiff(later, tmp_path, progress=False)
    assert paths[0].name == "s2_l3a_20220520_red.tif"


def test_overviews_and_single_pixels_are_two_things(server, tmp_path):
    options = {"time": "2021-05", "bands": "B4", "archive": server.url, "resolution": 40}
    to_geotiff(s2l3a_xr.open_l3a(AOI, **options), tmp_path, progress=False)
    with pytest.raises(ExportError, match="something else"):
        to_geotiff(s2l3a_xr.open_l3a(AOI, use_overviews=False, **options), tmp_path, progress=False)


def test_a_file_that_was_gone_for_now_is_made_anew(fresh_server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-05", bands="B4", archive=fresh_server.url)
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=404)]
    with pytest.warns(s2l3a_xr.MissingWarning, match="gone"):
        (path,) = to_geotiff(da, tmp_path, progress=False)
    assert (read(path) == -10000).all()
    fresh_server.faults = []
    to_geotiff(da, tmp_path, progress=False)
    assert (read(path) != -10000).any()


def test_overwriting_spares_what_is_right(da, tmp_path):
    paths = to_geotiff(da, tmp_path, progress=False)
    stamps = [path.stat().st_mtime_ns for path in paths]
    to_geotiff(da, tmp_path, overwrite=True, progress=False)
    assert [path.stat().st_mtime_ns for path in paths] == stamps


def test_the_same_product_from_another_place_is_the_same(da, sample_root, tmp_path):
    paths = to_geotiff(da, tmp_path, progress=False)
    stamps = [path.stat().st_mtime_ns for path in paths]
    folder = sample_root / "S2_L3A_WASP" / "files"
    local = s2l3a_xr.open_l3a(AOI, time="2021-04/2021-05", bands=["red", "B5"], archive=folder)
    to_geotiff(local, tmp_path, progress=False)
    assert [path.stat().st_mtime_ns for path in paths] == stamps


def test_a_chunk_is_read_at_once_for_all_of_its_files(fresh_server, tmp_path):
    da = s2l3a_xr.open_l3a(AOI, time="2021-03/2021-06", archive=fresh_server.url)
    fresh_server.latency_s = 0.2
    begun = time.monotonic()
    da.compute()
    computed_s = time.monotonic() - begun
    with SampleServer(fresh_server.root, latency_s=0.2) as other:
        da = s2l3a_xr.open_l3a(AOI, time="2021-03/2021-06", archive=other.url)
        other.clear_log()
        to_geotiff(da, tmp_path, progress=False)
        log = other.log
    # Not 16 files one after the other: every request begins within the time of one compute.
    assert log[-1].started - log[0].started < 2 * computed_s


@pytest.mark.parametrize("chunks", ["auto", {"time": 1, "band": 1}, {"y": 100}, None])
def test_only_files_that_lack_are_read(da, server, tmp_path, chunks):
    options = {"time": "2021-03/2021-06", "bands": ["B3", "B4", "B8"], "archive": server.url}
    da = s2l3a_xr.open_l3a(AOI, chunks=chunks, **options)
    paths = to_geotiff(da, tmp_path, progress=False)
    lost = ["s2_l3a_20210315_green.tif", "s2_l3a_20210415_nir.tif", "s2_l3a_20210615_red.tif"]
    for name in lost:
        (tmp_path / name).unlink()
    again = s2l3a_xr.open_l3a(AOI, chunks=chunks, **options)
    server.clear_log()
    assert to_geotiff(again, tmp_path, progress=False) == paths
    asked = {entry.path.rsplit("/", 1)[1][:-4] for entry in requests_to_tif(server)}
    assert {(name[13:19], name.rsplit("_", 1)[1]) for name in asked} == {
        ("210315", "B3"), ("210415", "B8"), ("210615", "B4"),
    }  # fmt: skip
    for path, plane in zip(paths, da.to_numpy().reshape(12, *da.shape[2:]), strict=True):
        np.testing.assert_array_equal(read(path), plane)


def test_files_are_written_and_counted_while_others_are_read(fresh_server, tmp_path, capsys):
    transport = s2l3a_xr.Transport(max_connections=2)
    da = s2l3a_xr.open_l3a(
        AOI, time="2021-03/2021-06", archive=fresh_server.url, transport=transport
    )
    fresh_server.clear_log()
    fresh_server.latency_s = 0.2
    seen = []

    def look():
        while not seen:
            if list(tmp_path.glob("s2_l3a_*.tif")):
                seen.append(len(fresh_server.log))
            time.sleep(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    paths = to_geotiff(da, tmp_path)
    watcher.join()
    assert seen[0] < len(fresh_server.log) - 4
    shown = capsys.readouterr().err
    assert any(f" {count}/{len(paths)} " in shown for count in range(1, len(paths)))
    assert f" {len(paths)}/{len(paths)} " in shown


def test_what_fails_takes_only_its_own_file_along(fresh_server, tmp_path):
    options = {"time": "2021-03/2021-06", "archive": fresh_server.url, "missing": "keep"}
    fresh_server.faults = [Fault(match=r"210415.*B4\.tif", kind="status", status=404)]
    to_geotiff(s2l3a_xr.open_l3a(AOI, **options), tmp_path, progress=False)
    fresh_server.faults = []
    again = s2l3a_xr.open_l3a(AOI, **options)
    fresh_server.clear_log()
    paths = to_geotiff(again, tmp_path, progress=False)
    asked = {entry.path for entry in requests_to_tif(fresh_server)}
    assert asked
    assert all("210415" in path and path.endswith("B4.tif") for path in asked)
    for path, plane in zip(paths, again.to_numpy().reshape(16, *again.shape[2:]), strict=True):
        np.testing.assert_array_equal(read(path), plane)


def test_planes_that_are_turned_and_repeated_are_written_as_they_are(da, tmp_path):
    turned = da.isel(y=slice(None, None, -1), x=[3, 3, 1, 0]).assign_coords(x=da.x[:4].values)
    paths = to_geotiff(turned, tmp_path, progress=False)
    north_up = turned.to_numpy().reshape(4, *turned.shape[2:])[:, ::-1]
    for path, plane in zip(paths, north_up, strict=True):
        np.testing.assert_array_equal(read(path), plane)
