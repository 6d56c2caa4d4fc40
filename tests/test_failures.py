"""What was gone or failed: nodata where that was allowed, and listed wherever it was read."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from click.testing import CliRunner

import s2l3a_xr
from s2l3a_xr import (
    FormatError,
    GoneError,
    MissingWarning,
    ReadFailedWarning,
    SelectionError,
    Transport,
    TransportError,
    to_geotiff,
)
from s2l3a_xr._cli import main
from s2l3a_xr._failures import _clean_up, home_folder, report
from s2l3a_xr._mosaic import inside
from s2l3a_xr._sample import Fault

LATER = {"Last-Modified": "Tue, 01 Jun 2021 00:00:00 GMT"}
AOI = (11.68, 51.94, 11.74, 51.98)
BOUNDS = ",".join(map(str, AOI))
GONE = Fault(match="0415.*_B4", kind="status", status=404)
BROKEN = Fault(match="0515.*_B5", kind="status", status=500, min_start=1)
COLUMNS = [
    "month", "band", "tile", "http_status", "attempts", "item", "url", "when", "block", "start",
    "stop", "status", "cause",
]  # fmt: skip


def open_area(server, **options):
    """Open two months of two bands, giving up soon."""
    asked = {"time": "2021-04/2021-05", "bands": ["B4", "B5"], "fail_on_error": False}
    transport = Transport(max_attempts=2, idle_timeout_s=1)
    return s2l3a_xr.open_l3a(
        AOI, archive=server.url, **{"transport": transport, **asked, **options}
    )


def caught_while(work):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    ours = [w for w in caught if issubclass(w.category, s2l3a_xr.S2L3AWarning)]
    return result, ours


def whole(server):
    """Give the right pixels."""
    return open_area(server, transport=Transport()).to_numpy()


def tif_requests(server, part):
    return [entry for entry in server.log if part in entry.path and entry.path.endswith(".tif")]


# gone


def test_a_gone_file_is_asked_for_once_and_told_once(fresh_server):
    da = open_area(fresh_server, chunks={"y": 150, "time": 1, "band": 1}, fail_on_error=True)
    assert da.data.numblocks[2] > 1
    fresh_server.faults = [GONE]
    fresh_server.clear_log()
    with dask.config.set(scheduler="synchronous"):
        value, caught = caught_while(da.compute)
    (warning,) = caught
    assert warning.category is MissingWarning
    assert "0415" in str(warning.message)
    assert "_FRC_B4.tif" in str(warning.message)
    assert (value[0, 0] == -10000).all()
    assert (value[0, 1] != -10000).any()
    assert (
        len(tif_requests(fresh_server, "0415-000000-000_L3A_T32UPC_C_V1-2_FRC_B4"))
        == (
            da.data.numblocks[2]  # once for each chunk: no retry, and no memory of it
        )
    )
    (row,) = da.l3a.failures().itertuples()
    assert (row.status, row.month, row.band, row.tile) == ("gone", "2021-04", "B4", "32UPC")
    assert (row.http_status, row.attempts) == (404, 1)
    assert row.url.endswith("_FRC_B4.tif")
    assert row.item == row.url.split("/")[-2]
    assert pd.isna(row.start)


@pytest.mark.parametrize("status", [404, 410])
def test_policies_for_what_is_gone(fresh_server, status):
    fresh_server.faults = [Fault(match="0415.*_B4", kind="status", status=status)]
    with pytest.raises(GoneError) as caught:
        open_area(fresh_server, missing="raise").compute()
    error = caught.value
    assert (error.tile, error.month, error.band, error.status) == (
        "32UPC", "2021-04", "B4", status,
    )  # fmt: skip
    kept = open_area(fresh_server, missing="keep")
    value, warned = caught_while(kept.compute)
    assert not warned
    assert (value[0, 0] == -10000).all()
    assert kept.l3a.failures()["http_status"].tolist() == [status]


def test_gone_for_now_is_not_gone_for_ever(fresh_server):
    expected = whole(fresh_server)
    da = open_area(fresh_server, missing="keep")
    fresh_server.faults = [GONE]
    assert (da.to_numpy()[0, 0] == -10000).all()
    fresh_server.faults = []
    np.testing.assert_array_equal(da.to_numpy(), expected)


def test_no_file_is_made_and_nothing_is_listed_when_all_goes_well(fresh_server):
    before = set(Path(home_folder()).glob("*.jsonl"))  # of other tests' children
    da = open_area(fresh_server)
    for array in (da, da.compute(), da.isel(time=0), da.mean("time")):
        table = array.l3a.failures()
        assert table.columns.tolist() == COLUMNS
        assert table.empty
    assert set(Path(home_folder()).glob("*.jsonl")) == before


# failed


def test_a_failed_read_raises_by_default(fresh_server):
    fresh_server.faults = [BROKEN]
    da = open_area(fresh_server, fail_on_error=True)
    with pytest.raises(TransportError, match="answered 500") as caught:
        da.compute()
    error = caught.value
    assert (error.tile, error.month, error.band) == ("32UPC", "2021-05", "B5")
    assert error.item in error.url
    assert (error.status, error.attempts) == (500, 2)
    assert error.byte_range[0] > 0
    assert da.l3a.failures().empty


@pytest.mark.parametrize("many_ranges", [True, False])
def test_only_the_range_that_fails_is_lost(fresh_server, many_ranges):
    """A server that chokes on one range of a file spoils no other."""
    expected = whole(fresh_server)
    probe = open_area(fresh_server, time="2021-05", bands="B4", transport=Transport(max_attempts=3))
    starts = probe.l3a.plan()["start"].tolist()
    assert len(starts) > 1
    fresh_server.many_ranges = many_ranges
    fresh_server.faults = [
        Fault(match="0515.*_B4", kind="status", status=500, min_start=s, max_start=s + 1)
        for s in starts[:1]
    ]
    da = open_area(fresh_server)
    value, (warning,) = caught_while(da.to_numpy)
    assert warning.category is ReadFailedWarning
    assert "answered 500" in str(warning.message)
    np.testing.assert_array_equal(value[0], expected[0])
    np.testing.assert_array_equal(value[1, 1], expected[1, 1])
    lost = value[1, 0] != expected[1, 0]
    assert lost.any()
    assert (value[1, 0][lost] == -10000).all()
    assert not lost[-1].any()  # the first range is the first row of blocks
    (row,) = da.l3a.failures().itertuples()
    assert (row.status, row.start, row.http_status, row.attempts) == ("failed", starts[0], 500, 2)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(match="0515.*_B5", kind="zeros", min_start=1), "block"),
        (Fault(match="0515.*_B5", kind="etag", min_start=1, headers=LATER), "range"),
        (Fault(match="0515.*_B5", kind="truncate", min_start=1), "range"),
        (Fault(match="0515.*_B5", kind="status", status=403), "file"),
        (Fault(match="0515.*_B5", kind="zeros"), "file"),
        (Fault(match="0515.*_B5", kind="stall", seconds=3), "file"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else value,
)
def test_any_fault_leaves_nodata_and_a_row_and_is_not_remembered(fresh_server, fault, kind):
    expected = whole(fresh_server)
    transport = Transport(max_attempts=2, idle_timeout_s=0.2)
    da = open_area(fresh_server, transport=transport, chunks={"y": 150})
    fresh_server.faults = [fault]
    value, (warning,) = caught_while(da.to_numpy)
    assert warning.category is ReadFailedWarning
    assert (value[1, 1] == -10000).all()
    np.testing.assert_array_equal(value[0], expected[0])
    np.testing.assert_array_equal(value[1, 0], expected[1, 0])
    table = da.l3a.failures()
    assert set(table["status"]) == {"failed"}
    assert set(table["band"]) == {"B5"}
    assert not table.duplicated(["url", "block", "start", "stop"]).any()
    if kind == "block":
        assert all(len(block) == 2 for block in table["block"])
    else:
        assert table["block"].isna().all()
        assert (table["start"].fillna(0) > 0).all() == (kind == "range")
    fresh_server.faults = []
    np.testing.assert_array_equal(da.to_numpy(), expected)


def test_every_array_of_the_request_can_be_asked(fresh_server):
    da = open_area(fresh_server, missing="keep")
    fresh_server.faults = [GONE]
    computed = da.compute()
    for array in (
        da, da.isel(time=1), da.l3a.masked(), da.persist(), computed, computed.isel(time=0),
        open_area(fresh_server, missing="keep", chunks=None),
    ):  # fmt: skip
        assert array.l3a.failures()["band"].tolist() == ["B4"]
    with pytest.raises(SelectionError, match="does not say which request"):
        computed.drop_attrs().l3a.failures()


def test_what_was_put_together_is_not_said_to_be_whole(fresh_server):
    """Its attrs are those of its first part, where nothing failed."""
    whole = open_area(fresh_server, time="2021-03", fail_on_error=False)
    fresh_server.faults = [Fault(match=r"202104.*_B4\.tif$", kind="status", status=403)]
    broken = open_area(fresh_server, time="2021-04", fail_on_error=False)
    how = dict.fromkeys(("compat", "join", "combine_attrs"), "override")
    joined = xr.concat([whole, broken], "time", coords="minimal", **how)
    with pytest.warns(ReadFailedWarning):
        computed = joined.compute()
    assert set(joined.l3a.failures()["month"]) == {"2021-04"}
    with pytest.raises(SelectionError, match="put together of several requests"):
        computed.l3a.failures()
    assert len(computed.sel(time=["2021-03-15"]).l3a.failures()) == 0


def test_bands_that_were_put_together_are_not_said_to_be_whole(fresh_server):
    fresh_server.faults = [Fault(match=r"_B8\.tif$", kind="status", status=403)]
    parts = [open_area(fresh_server, bands=name) for name in ("B4", "B8")]
    how = dict.fromkeys(("compat", "join", "combine_attrs"), "override")
    joined = xr.concat(parts, "band", coords="minimal", **how)
    with pytest.warns(ReadFailedWarning):
        computed = joined.compute()
    with pytest.raises(SelectionError, match="put together of several requests"):
        computed.l3a.failures()


@pytest.mark.parametrize(
    "change",
    [
        lambda da: da.resample(time="QS").mean(),
        lambda da: da.reindex(time=np.array(["2021-01-31", "NaT"], "M8[ns]")),
        lambda da: da.assign_coords(band=["a", "b"]),
        lambda da: da.mean("time").sel(band="B4"),
    ],
    ids=["resampled", "reindexed", "renamed", "mean"],
)
def test_other_labels_are_not_another_request(fresh_server, change):
    fresh_server.faults = [Fault(match=r"_B5\.tif$", kind="status", status=403)]
    da = open_area(fresh_server)
    with pytest.warns(ReadFailedWarning):
        computed = da.compute()
    assert len(change(computed).l3a.failures()) == len(da.l3a.failures()) > 0


def test_secrets_are_nowhere(fresh_server):
    url = fresh_server.url.replace("//", "//me:secret@")
    da = s2l3a_xr.open_l3a(
        AOI, time="2021-04", bands="B4", archive=url, fail_on_error=False,
        transport=Transport(max_attempts=1),
    )  # fmt: skip
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=500)]
    _, (warning,) = caught_while(da.compute)
    assert "secret" not in str(warning.message) + da.l3a.failures().to_json(date_format="iso")


# other processes


def check_both(da, server, expected):
    """Compute with one file gone and one broken: pixels, warnings and rows."""
    server.faults = [GONE, BROKEN]
    value, caught = caught_while(da.compute)
    for i, j in ((0, 1), (1, 0)):
        np.testing.assert_array_equal(value[i, j], expected[i, j])
    assert (value[0, 0] == -10000).all()
    assert (value[1, 1] == -10000).all()
    table = value.l3a.failures()
    assert table.columns.tolist() == COLUMNS
    assert set(zip(table["month"], table["band"], table["status"], strict=True)) == {
        ("2021-04", "B4", "gone"),
        ("2021-05", "B5", "failed"),
    }
    assert (table["status"] == "gone").sum() == 1
    assert set(table["http_status"]) == {404, 500}
    return table, [w.category for w in caught]


def test_from_threads(fresh_server):
    expected = whole(fresh_server)
    da = open_area(fresh_server, chunks={"time": 1, "band": 1, "y": 150})
    _, categories = check_both(da, fresh_server, expected)
    assert sorted(c.__name__ for c in categories) == ["MissingWarning", "ReadFailedWarning"]


def test_no_warning_is_lost_while_others_burn_masks():
    """Rasterio hides a warning meanwhile, for the whole process."""
    area, pixels = [shapely.Polygon([(1, 1), (300, 20), (100, 280)])], np.arange(300)
    done = threading.Event()

    def burn():
        while not done.is_set():
            inside(area, (300, 300), pixels, pixels, all_touched=False)

    def tell():
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(burn) for _ in range(2)]
            for number in range(100):
                gone = GoneError("no such file", url=f"http://localhost/{number}")
                report("some request", [gone], home=None, quiet=False)
            done.set()
            for task in tasks:
                task.result()

    _, caught = caught_while(tell)
    assert len(caught) == 100


def test_from_the_processes_scheduler(fresh_server, tmp_path):
    expected = whole(fresh_server)
    da = open_area(fresh_server, chunks={"time": 1, "band": 1})
    with dask.config.set(scheduler="processes", num_workers=2):
        table, _ = check_both(da, fresh_server, expected)
        paths = to_geotiff(da, tmp_path, progress=False)
        assert {path.name for path in paths if not is_complete(path)} == LEFT_OPEN
    again = da.l3a.failures()
    assert len(again) == len(table)
    home = Path(home_folder())
    assert home.stat().st_mode & 0o077 == 0
    _clean_up()
    assert not home.exists()


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as running:  # fmt: skip
        yield running


@pytest.mark.parametrize("opened_first", [True, False])
def test_from_a_cluster(fresh_server, cluster, opened_first):
    from distributed import Client  # noqa: PLC0415 - an optional extra

    expected = whole(fresh_server)
    options = {"chunks": {"time": 1, "band": 1, "y": 150}}
    da = open_area(fresh_server, **options) if opened_first else None
    with Client(cluster) as client:
        da = open_area(fresh_server, **options) if da is None else da
        table, categories = check_both(da, fresh_server, expected)
        assert sorted(c.__name__ for c in categories) == ["MissingWarning", "ReadFailedWarning"]
        if opened_first:
            client.restart()  # what dead workers told is not lost
        assert len(da.l3a.failures()) == len(table)
    assert len(da.l3a.failures()) == len(table)  # nor what a closed client heard


def test_from_workers_that_are_threads_of_this_process(fresh_server):
    distributed = pytest.importorskip("distributed")
    expected = whole(fresh_server)
    here = distributed.LocalCluster(processes=False, n_workers=1, dashboard_address=":0")
    with here, distributed.Client(here):
        da = open_area(fresh_server, chunks={"time": 1, "band": 1, "y": 150})
        _, categories = check_both(da, fresh_server, expected)
    assert sorted(c.__name__ for c in categories) == ["MissingWarning", "ReadFailedWarning"]


def test_failures_of_others_are_not_mine(fresh_server, cluster):
    from distributed import Client  # noqa: PLC0415 - an optional extra

    fresh_server.faults = [GONE]
    with Client(cluster):
        with pytest.warns(MissingWarning):
            open_area(fresh_server).compute()
        assert open_area(fresh_server, time="2021-05").compute().l3a.failures().empty


# files


LEFT_OPEN = {"s2_l3a_20210415_red.tif", "s2_l3a_20210515_rededge1.tif"}


def is_complete(path):
    with rasterio.open(path) as file:
        return "S2L3A_CONTENT" in file.tags()


def export_twice(da, server, folder, expected):
    """Export while something fails, and once more when all is well."""
    server.faults = [GONE, Fault(match="0515.*_B5", kind="zeros", min_start=1, count=2)]
    paths, _ = caught_while(lambda: to_geotiff(da, folder, progress=False))
    assert {path.name for path in paths if not is_complete(path)} == LEFT_OPEN
    stamps = {path.name: path.stat().st_mtime_ns for path in paths}
    server.faults = []
    to_geotiff(da, folder, progress=False)
    assert all(map(is_complete, paths))
    assert {p.name for p in paths if p.stat().st_mtime_ns != stamps[p.name]} == LEFT_OPEN
    for path, plane in zip(paths, expected.reshape(4, *expected.shape[2:]), strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), plane)
    with warnings.catch_warnings():
        to_geotiff(da, folder, progress=False)  # complete: nothing is in the way


def test_a_file_with_holes_does_not_count_as_complete(fresh_server, tmp_path):
    expected = whole(fresh_server)
    export_twice(open_area(fresh_server, chunks={"y": 150}), fresh_server, tmp_path, expected)


def test_nor_does_it_on_a_cluster(fresh_server, cluster, tmp_path):
    from distributed import Client  # noqa: PLC0415 - an optional extra

    expected = whole(fresh_server)
    with Client(cluster):
        da = open_area(fresh_server, chunks={"time": 1, "band": 1})
        export_twice(da, fresh_server, tmp_path, expected)


@pytest.mark.parametrize(
    "change", [lambda da: da.l3a.masked(), lambda da: da.compute()], ids=["masked", "computed"]
)
def test_nor_do_files_of_what_was_made_of_it(fresh_server, tmp_path, change):
    da = open_area(fresh_server, missing="keep")
    fresh_server.faults = [GONE]
    paths = to_geotiff(change(da), tmp_path, progress=False)
    assert not any(map(is_complete, paths))  # it can't be told which are right
    fresh_server.faults = []
    if change(da).chunks:
        to_geotiff(change(da), tmp_path, progress=False)
        assert all(map(is_complete, paths))


# the command line


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_keep_going(fresh_server, tmp_path):
    report = tmp_path / "s2_l3a_failures.json"
    words = ("download", BOUNDS, tmp_path, "--time", "2021-04/2021-05", "--bands", "B4,B5",
             "--archive", fresh_server.url, "--quiet")  # fmt: skip
    fresh_server.faults = [GONE, Fault(match="0515.*_B5", kind="zeros", min_start=1)]
    stopped = run(*words)
    assert stopped.exit_code == 1
    assert "does not unpack" in stopped.stderr
    shown = run(*words, "--keep-going")
    assert shown.exit_code == 3, shown.output
    assert len(shown.stdout.split()) == 4
    assert str(report) in shown.stderr
    rows = json.loads(report.read_text("utf-8"))
    assert {(row["month"], row["band"], row["status"]) for row in rows} == {
        ("2021-04", "B4", "gone"),
        ("2021-05", "B5", "failed"),
    }
    fresh_server.faults = [GONE]
    gone = run(*words, "--keep-going")
    assert gone.exit_code == 0
    assert [row["status"] for row in json.loads(report.read_text("utf-8"))] == ["gone"]
    fresh_server.faults = []
    healed = run(*words, "--keep-going")
    assert healed.exit_code == 0
    assert not report.exists()
    assert all(map(is_complete, tmp_path.glob("*.tif")))


def test_broken_blocks_that_chunks_share_are_not_remembered(fresh_server):
    """Bytes that do not unpack must not wait in memory for the next chunk."""
    expected = whole(fresh_server)
    da = open_area(fresh_server, fail_on_error=True, chunks={"y": 50})
    fresh_server.faults = [Fault(match=r"\.tif", kind="zeros", min_start=1)]
    with pytest.raises(FormatError):
        da.compute()
    fresh_server.faults = []
    np.testing.assert_array_equal(da.to_numpy(), expected)
