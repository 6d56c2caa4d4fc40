"""The array that users get: coordinates, attributes, laziness, everyday operations."""

from __future__ import annotations

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr

import s2l3a_xr
from s2l3a_xr import (
    AoiWarning,
    MissingError,
    MissingWarning,
    S2L3AWarning,
    SelectionError,
    open_l3a,
    save_archive,
    search_l3a,
)
from s2l3a_xr._sample import SAMPLE_AOI, Fault, SampleServer

AOI = (11.68, 51.94, 11.74, 51.98)


def tif_requests(server):
    return [entry for entry in server.log if entry.path.endswith(".tif")]


@pytest.fixture
def da(server):
    return open_l3a(AOI, time="2021-04/2021-06", bands=["B2", "red", "B8"], archive=server.url)


def test_nothing_is_read_before_indexing(server):
    server.clear_log()
    fresh = s2l3a_xr.Transport(max_attempts=7)  # a session that has seen no block yet
    da = open_l3a(AOI, years=2021, months=[4, 5], archive=server.url, transport=fresh)
    repr(da), da.sizes, da.isel(time=0), da.rio.crs, da.attrs
    da.chunk({"x": 100}).mean("time")
    assert not tif_requests(server)
    da.isel(time=0, band=0, y=200, x=200).compute()
    assert tif_requests(server)


def test_dims_coordinates_and_attributes(da):
    assert da.dims == ("time", "band", "y", "x")
    assert da.dtype == np.int16
    assert da.name == "s2_l3a"
    assert list(da.band.values) == ["B2", "red", "B8"]
    assert list(da.common_name.values) == ["blue", "red", "nir"]
    assert list(da.native_name.values) == ["B2", "B4", "B8"]
    assert da.time.dtype == "datetime64[ns]"
    assert list(da.time.dt.strftime("%Y-%m-%d").values) == [
        "2021-04-15",
        "2021-05-15",
        "2021-06-15",
    ]
    assert da.rio.crs.to_epsg() == 32632
    assert da.rio.nodata == -10000 == da.attrs["_FillValue"]
    assert (np.diff(da.x) == 10).all()
    assert (np.diff(da.y) == -10).all()
    assert da.rio.bounds() == da.rio.bounds(recalc=True)
    for value in da.attrs.values():
        assert isinstance(value, (str, int, float, np.number, list))


def test_x_and_y_are_pixel_centres(da):
    left, _, _, top = da.rio.bounds()
    assert (float(da.x[0]), float(da.y[0])) == (left + 5, top - 5)
    assert left % 10 == top % 10 == 0


def test_a_20_m_band_alone_stays_on_its_grid(server):
    da = open_l3a(AOI, time="2021-05", bands=["B5", "B11"], archive=server.url)
    assert da.rio.resolution() == (20, -20)


def test_20_m_bands_are_replicated_beside_10_m_bands(server):
    both = open_l3a(AOI, time="2021-05", bands=["B4", "B5"], archive=server.url, clip=False)
    alone = open_l3a(AOI, time="2021-05", bands=["B5"], archive=server.url, clip=False)
    wide = both.sel(band="B5").squeeze()
    same = alone.sel(band="B5").squeeze().sel(x=wide.x, y=wide.y, method="nearest")
    np.testing.assert_array_equal(wide, same)


def test_clip_and_its_absence(server):
    options = {"time": "2021-05", "bands": "B4", "archive": server.url}
    clipped = open_l3a(SAMPLE_AOI, **options)
    whole = open_l3a(SAMPLE_AOI, clip=False, **options)
    touched = open_l3a(SAMPLE_AOI, all_touched=True, **options)
    assert clipped.shape == whole.shape == touched.shape
    inside = (clipped != -10000).to_numpy()
    np.testing.assert_array_equal(clipped.to_numpy()[inside], whole.to_numpy()[inside])
    counts = [int((array != -10000).sum()) for array in (clipped, touched, whole)]
    assert counts[0] < counts[1] < counts[2]


def test_chunks(server):
    options = {"time": "2021-04/2021-06", "bands": ["B2", "B4"], "archive": server.url}
    assert open_l3a(AOI, **options).data.numblocks == (1, 1, 1, 1)
    assert open_l3a(AOI, chunks={"time": 1}, **options).data.numblocks == (3, 1, 1, 1)
    assert open_l3a(AOI, chunks=(1, 1, -1, -1), **options).data.numblocks == (3, 2, 1, 1)
    assert open_l3a(AOI, chunks={}, **options).data.numblocks == (1, 1, 1, 1)
    assert open_l3a(AOI, chunks=-1, **options).data.numblocks == (1, 1, 1, 1)
    lazy = open_l3a(AOI, chunks=None, **options)
    assert lazy.chunks is None
    np.testing.assert_array_equal(lazy, open_l3a(AOI, **options))


@pytest.mark.parametrize("chunks", ["much", {"lon": 5}, (1, 2), 1.5])
def test_chunks_that_can_t_be(server, chunks):
    with pytest.raises(SelectionError, match="chunks"):
        open_l3a(AOI, time="2021-05", archive=server.url, chunks=chunks)


def test_differently_chunked_arrays_do_not_meet_in_one_graph(server):
    options = {"time": "2021-04/2021-05", "bands": "B4", "archive": server.url}
    fine = open_l3a(AOI, chunks={"time": 1, "y": 50}, **options)
    coarse = open_l3a(AOI, **options)
    assert not (fine - coarse).any()


def test_one_task_for_each_chunk(server):
    da = open_l3a(AOI, time="2021-04/2021-06", archive=server.url, chunks={"time": 1, "y": 64})
    assert len(da.__dask_graph__()) <= da.data.npartitions + 1


def test_everyday_operations(da):
    reference = da.compute()
    for change in (
        lambda a: a.isel(time=[2, 0], band=-1),
        lambda a: a.isel(y=slice(None, None, -3), x=[5, 1, 9]),
        lambda a: a.sel(band="red", time="2021-05"),
        lambda a: a.sel(x=a.x[7], y=a.y[3], method="nearest"),
        lambda a: a.groupby("time.month").max(),
        lambda a: a.rio.clip_box(*a.rio.bounds()[:2], float(a.x[20]), float(a.y[30])),
        lambda a: a.coarsen(x=2, y=2, boundary="trim").max(),
        lambda a: a.isel(
            x=xr.DataArray([1, 2, 3], dims="point"), y=xr.DataArray([3, 2, 1], dims="point")
        ),
    ):
        xr.testing.assert_identical(change(da).compute(), change(reference))


def test_mask_and_scale(server):
    options = {"time": "2021-05", "bands": ["B4", "B8"], "archive": server.url}
    raw = open_l3a(SAMPLE_AOI, **options)
    scaled = open_l3a(SAMPLE_AOI, mask_and_scale=True, **options)
    assert scaled.dtype == np.float32
    assert "_FillValue" not in scaled.attrs
    np.testing.assert_allclose(scaled, raw.where(raw != -10000) / 10000, rtol=1e-6)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_round_trip_through_files(server, tmp_path, kind, scale):
    da = open_l3a(
        SAMPLE_AOI, time="2021-04/2021-05", bands=["B4"], archive=server.url, mask_and_scale=scale
    )
    path = tmp_path / f"cube.{kind}"
    if kind == "netcdf":
        da.to_netcdf(path)
        back = xr.open_dataset(path, decode_coords="all", mask_and_scale=scale, chunks={})["s2_l3a"]
    else:
        da.to_zarr(path)
        back = xr.open_zarr(path, decode_coords="all", mask_and_scale=scale)["s2_l3a"]
    np.testing.assert_allclose(back, da, rtol=1e-6)
    assert back.rio.crs == da.rio.crs
    back.close()


def test_missing_months_policy(server):
    options = {"time": "2021-06/2021-08", "bands": "B4", "archive": server.url}
    with pytest.warns(MissingWarning, match="nothing in 2021-07"):
        da = open_l3a(AOI, **options)
    assert list(da.time.dt.month.values) == [6, 8]
    kept = open_l3a(AOI, missing="keep", **options)
    assert list(kept.time.dt.month.values) == [6, 7, 8]
    assert (kept.sel(time="2021-07") == -10000).all()
    with pytest.raises(MissingError, match="2021-07"):
        open_l3a(AOI, missing="raise", **options)
    with pytest.raises(SelectionError, match="'warn', 'keep', 'raise'"):
        open_l3a(AOI, missing="maybe", **options)


def test_inventory_in_hand_lists_nothing_again(server):
    inventory = s2l3a_xr.search_l3a(AOI, time="2021-05", archive=server.url)
    server.clear_log()
    da = open_l3a(inventory=inventory)
    assert not server.log
    assert da.shape[:2] == (1, 4)


@pytest.mark.parametrize("options", [{}, {"aoi": AOI, "inventory": "both"}])
def test_either_an_aoi_or_an_inventory(options):
    with pytest.raises(SelectionError, match="either"):
        open_l3a(**options)


def test_two_tiles_of_one_zone(server):
    strip = gpd.GeoSeries([shapely.box(695000, 5756000, 718000, 5759000)], crs=32632)
    da = open_l3a(strip, time="2021-05", bands="B4", archive=server.url)
    assert da.attrs["tiles"] == ["32UPC", "32UQC"]
    assert da.shape[2:] == (300, 2300)
    server.clear_log()
    da.compute()
    ranges = [(entry.path, entry.range) for entry in tif_requests(server)]
    assert len(ranges) == len(set(ranges))


def test_time_is_the_same_under_any_pandas(da):
    assert pd.Timestamp(da.time.to_numpy()[0]) == pd.Timestamp("2021-04-15")


def test_import_is_light():
    code = (
        "import sys, xarray; before = set(sys.modules); import s2l3a_xr; "
        "heavy = {'rasterio', 'geopandas', 'scipy', 'tifffile', 'aiohttp', 'distributed', "
        "'matplotlib', 'imagecodecs', 'rioxarray'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    shown = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_gone_files_are_told(fresh_server):
    da = open_l3a(AOI, time="2021-04/2021-05", bands="B4", archive=fresh_server.url)
    fresh_server.faults = [Fault(match=r"202104.*\.tif", kind="status", status=404)]
    with pytest.warns(MissingWarning, match="gone"):
        values = da.compute()
    assert (values[0] == -10000).all()
    assert (values[1] != -10000).any()
    strict = open_l3a(
        AOI, time="2021-04/2021-05", bands="B4", archive=fresh_server.url, missing="raise"
    )
    with pytest.raises(s2l3a_xr.GoneError) as caught:
        strict.compute()
    assert caught.value.month == "2021-04"
    fresh_server.faults = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (da.compute()[0] != -10000).any()


def test_bands_that_are_no_names(server):
    with pytest.raises(SelectionError, match="bands=5 must be"):
        open_l3a(AOI, time="2021-05", bands=5, archive=server.url)


def planned_and_fetched(server, da):
    plan = da.l3a.plan()
    server.clear_log()
    da.compute()
    fetched = {
        (entry.path, span.start, span.stop)
        for entry in tif_requests(server)
        for span in entry.ranges
    }
    names = {url.removeprefix(server.origin) for url in plan["url"]}
    assert {path for path, _, _ in fetched} == names
    spans = zip(plan["url"], plan["start"], plan["stop"], strict=True)
    return {(url.removeprefix(server.origin), a, b) for url, a, b in spans}, fetched


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize(
    "select",
    [
        lambda da: da,
        lambda da: da.isel(time=0, band=1, y=slice(100, 200)),
        lambda da: da.isel(x=slice(None, None, 7)),
        lambda da: (da.isel(band=[0]) / 2).mean("time"),
    ],
    ids=["all", "window", "thinned", "computed"],
)
@pytest.mark.parametrize("chunks", ["auto", {"time": 1}, None])
def test_plan_is_what_the_server_sees(fresh_server, chunks, select, many):
    fresh_server.many_ranges = many
    da = open_l3a(
        AOI, time="2021-04/2021-05", bands=["B4", "B8"], archive=fresh_server.url, chunks=chunks
    )
    chosen = select(da)
    if chunks is None and chosen.variable._in_memory:
        with pytest.raises(SelectionError, match="nothing to plan"):
            chosen.l3a.plan()
        return
    planned, fetched = planned_and_fetched(fresh_server, chosen)
    assert planned == fetched
    assert planned


def test_plan_counts_a_block_that_two_chunks_share_once(fresh_server):
    da = open_l3a(AOI, time="2021-05", bands="B4", archive=fresh_server.url, chunks={"y": 100})
    plan = da.l3a.plan()
    whole = open_l3a(AOI, time="2021-05", bands="B4", archive=fresh_server.url).l3a.plan()
    assert plan["blocks"].sum() == whole["blocks"].sum()
    assert plan.attrs["summary"].endswith(f"in {whole['blocks'].sum()} blocks")


def test_nothing_to_plan(da):
    with pytest.raises(SelectionError, match="nothing to plan"):
        da.compute().l3a.plan()


def test_many_ranges_come_in_one_request_where_the_host_does_that(fresh_server):
    few = s2l3a_xr.Transport(max_connections=6)  # more would share the ranges of six files
    options = {"time": "2021-04/2021-06", "bands": ["B2", "B4"], "transport": few}
    options["archive"] = fresh_server.url
    expected = open_l3a(AOI, **options).compute()
    files = [entry for entry in tif_requests(fresh_server) if len(entry.ranges) > 1]
    assert len(tif_requests(fresh_server)) == 2 * 6
    assert len(files) >= 6
    with SampleServer(fresh_server.root, many_ranges=False) as single:
        xr.testing.assert_equal(open_l3a(AOI, **options | {"archive": single.url}), expected)
        refused = [entry for entry in tif_requests(single) if entry.status == 200]
        assert len(refused) == 1


@pytest.mark.parametrize("resolution", [40, 80])
def test_coarse_grids_come_from_overviews(server, sample_root, resolution):
    tile = gpd.GeoSeries([shapely.box(600000, 5690220, 709800, 5800020)], crs=32632)
    options = {"time": "2021-05", "bands": "B4", "archive": server.url}
    da = open_l3a(tile, resolution=resolution, **options)
    ours = da.compute().squeeze().to_numpy()
    fetched = sum(entry.bytes_sent for entry in tif_requests(server))
    url = s2l3a_xr.search_l3a(tile, **options).to_dataframe()["url"][0]
    path = sample_root / url.removeprefix(server.origin + "/")
    with rasterio.open(path, overview_level=resolution // 40) as file:
        overview = file.read(1)
        steps = np.abs(np.array(file.res))
    overview[overview < 0] = -10000
    index = np.floor((np.arange(ours.shape[0]) + 0.5) * resolution / steps[0]).astype(int)
    np.testing.assert_array_equal(ours, overview[np.ix_(index, index)])
    assert fetched < path.stat().st_size / (3 if resolution == 40 else 8)
    assert "no statistics" in da.attrs["comment"]


def test_coarse_grids_without_overviews_take_single_pixels(server):
    options = {"time": "2021-05", "bands": "B4", "archive": server.url, "clip": False}
    coarse = open_l3a(AOI, resolution=40, use_overviews=False, **options).squeeze()
    fine = open_l3a(AOI, **options).squeeze()
    inner = coarse.isel(x=slice(1, -1), y=slice(1, -1))
    # The centre of a 40 m pixel is a corner of 10 m pixels: the one south-east of it is taken.
    near = fine.sel(x=inner.x + 5, y=inner.y - 5)
    np.testing.assert_array_equal(inner, near)


@pytest.mark.parametrize("resolution", [0, -10, 15, True])
def test_resolutions_that_can_t_be(server, resolution):
    with pytest.raises(SelectionError, match="multiple of 10"):
        open_l3a(AOI, time="2021-05", archive=server.url, resolution=resolution)


def test_a_cache_folder_serves_without_the_network(fresh_server, tmp_path):
    transport = s2l3a_xr.Transport(cache_dir=str(tmp_path))
    inventory = s2l3a_xr.search_l3a(
        AOI, time="2021-04/2021-05", bands=["B4", "B5"], archive=fresh_server.url
    )
    first = open_l3a(inventory=inventory, transport=transport).compute()
    fresh_server.clear_log()
    # Other settings have another session: as another process, it knows only what is on disk.
    later = s2l3a_xr.Transport(cache_dir=str(tmp_path), max_connections=3)
    da = open_l3a(inventory=inventory, transport=later)
    assert da.l3a.plan().empty
    np.testing.assert_array_equal(da, first)
    assert not fresh_server.log
    smaller = s2l3a_xr.Transport(cache_dir=str(tmp_path), cache_bytes=200_000)
    for path in tmp_path.glob("*/*.header"):
        path.write_bytes(b"spoilt")
    np.testing.assert_array_equal(open_l3a(inventory=inventory, transport=smaller), first)
    assert fresh_server.log


def test_names_follow_the_blocks_that_auto_means(server):
    options = {"time": "2021-05", "bands": "B4", "archive": server.url}
    chunks = {"x": "auto", "y": "auto"}
    whole = open_l3a(AOI, chunks=chunks, **options)
    with dask.config.set({"array.chunk-size": "64KiB"}):
        fine = open_l3a(AOI, chunks=chunks, **options)
    assert whole.chunks != fine.chunks
    sums = dask.compute(whole.astype("int64").sum(), fine.astype("int64").sum())
    assert sums[0] == sums[1]


@pytest.mark.parametrize("chunks", [0, True, {"x": 0}, {"x": -5}, {"x": 2.5}, {"x": (100, 100)}])
def test_chunks_that_hold_no_pixels(server, chunks):
    with pytest.raises(SelectionError, match="chunks="):
        open_l3a(AOI, time="2021-05", archive=server.url, chunks=chunks)


def test_two_tasks_at_once_fetch_each_block_once(fresh_server):
    options = {"time": "2021-05", "bands": ["B4", "B8"], "archive": fresh_server.url}
    arrays = [open_l3a(AOI, chunks=chunks, **options) for chunks in ("auto", {"band": 1})]
    arrays += [open_l3a(AOI, chunks=None, **options)] * 2
    expected = arrays[0].to_numpy()
    alone = sum(span.stop - span.start for e in tif_requests(fresh_server) for span in e.ranges)
    with SampleServer(fresh_server.root, latency_s=0.05) as slow:
        options["archive"] = slow.url
        again = [open_l3a(AOI, chunks=array.chunks, **options) for array in arrays]
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(lambda array: array.to_numpy(), again):
                np.testing.assert_array_equal(found, expected)
        together = sum(span.stop - span.start for e in tif_requests(slow) for span in e.ranges)
    assert together == alone


@pytest.mark.parametrize(
    "also",
    [
        {"years": 2020},
        {"bands": ["red"]},
        {"archive": "/nope"},
        {"time": "2021-05"},
        {"verify": False},
    ],
)
def test_an_inventory_settles_the_request(server, also):
    inventory = s2l3a_xr.search_l3a(AOI, time="2021-05", archive=server.url)
    with pytest.raises(SelectionError, match=f"settles {next(iter(also))} already"):
        open_l3a(inventory=inventory, **also)


def test_masks_say_what_they_are(server):
    flags = open_l3a(AOI, time="2021-05", bands="FLG", archive=server.url)
    assert flags.dtype == np.uint8
    assert "class of the pixel" in flags.attrs["long_name"]


def test_attrs_tell_no_password(server):
    url = server.url.replace("//", "//me:secret@")
    da = open_l3a((11.68, 51.94, 11.70, 51.96), time="2021-05", bands="B4", archive=url)
    assert da.attrs["source"] == server.url


def test_nothing_but_empty_months_is_an_error(server, tmp_path):
    aoi = (11.70, 51.95, 11.72, 51.96)
    found = search_l3a(aoi, years=2021, months=[5, 6], bands=["B4"], archive=server.url)
    save_archive(found, tmp_path, progress=False)
    with pytest.raises(
        MissingError, match=r"0 of 2 files: nothing in 2021-05, 2021-06 \(bands B11"
    ):
        open_l3a(aoi, years=2021, months=[5, 6], bands=["B11"], archive=tmp_path)
    kept = open_l3a(aoi, years=2021, months=[5, 6], bands=["B11"], archive=tmp_path, missing="keep")
    assert (kept == -10000).all()


def test_warnings_name_the_line_of_the_user(server):
    aoi = (11.70, 51.95, 16.0, 51.96)
    with pytest.warns(S2L3AWarning) as caught:
        open_l3a(aoi, years=2021, months=[6, 7], bands=["B4"], archive=server.url)
    assert {warning.category for warning in caught} == {AoiWarning, MissingWarning}
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    "wish",
    [
        {"resolution": 15},
        {"crs": "EPSG:99999"},
        {"crs": "EPSG:4326"},
        {"crs": "EPSG:4326", "resolution": 10},
        {"resampling": "lanczos"},
        {"resampling": {"B99": "cubic"}},
    ],
)
def test_wishes_that_can_not_be_are_refused_before_the_archive_is_asked(fresh_server, wish):
    with pytest.raises(SelectionError):
        open_l3a(AOI, years=2021, archive=fresh_server.url, **wish)
    assert not fresh_server.log


def test_the_environment_names_the_archive(server, sample_root, monkeypatch):
    area, may = (11.68, 51.94, 11.70, 51.96), {"time": "2021-05", "bands": "B4"}
    expected = s2l3a_xr.open_l3a(area, archive=server.url, **may)
    monkeypatch.setenv("S2L3A_ARCHIVE", server.url)
    xr.testing.assert_identical(s2l3a_xr.open_l3a(area, **may), expected)
    ds = xr.open_dataset(area, engine="s2l3a", **may)
    assert ds.attrs["source"] == expected.attrs["source"]
    folder = str(sample_root / "S2_L3A_WASP" / "files")
    assert s2l3a_xr.search_l3a(area, archive=folder, **may).archive_url.startswith(folder)
    monkeypatch.setenv("S2L3A_ARCHIVE", "")
    assert s2l3a_xr._stac.open_place(None).url == s2l3a_xr._archive.DLR_FILES


def test_the_grid_of_a_file_is_to_be_opened_first(tmp_path):
    for path in ("x.tif", tmp_path / "x.tif"):
        with pytest.raises(SelectionError, match=r"like=rioxarray\.open_rasterio\(path\)"):
            open_l3a(like=path, time="2021-05")
