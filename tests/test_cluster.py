"""A cluster of real processes: the same pixels, what comes back, what dies, and politeness."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr

import s2l3a_xr
from s2l3a_xr import (
    MissingWarning,
    S2L3AError,
    Transport,
    TransportError,
    check_cluster,
    to_geotiff,
)
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._sample import Fault

distributed = pytest.importorskip("distributed")

AOI = (11.66, 51.92, 11.78, 52.0)
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
pytestmark = [pytest.mark.slow]

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "s2l3a_xr":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""
OLDER = "import s2l3a_xr; s2l3a_xr.__version__ = '0.0.9'\n"


LEASES = "DASK_DISTRIBUTED__SCHEDULER__LOCKS__LEASE_"


def start(*args, path=None, **environment):
    """Start a dask process from the command line, with nothing of ours in its environment."""
    # Or slots of a killed worker would come free after half a minute.
    soon = {f"{LEASES}TIMEOUT": "4s", f"{LEASES}VALIDATION_INTERVAL": "1s"}
    environment = {**os.environ, **soon, **environment}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-m", "dask", *map(str, args), "--host", "127.0.0.1", "--no-dashboard"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextlib.contextmanager
def processes(
    folder, workers=2, *, scheduler_path=None, scheduler_settings=(), worker_path=None,
    options=(), first=(),
):  # fmt: skip
    """Run a scheduler and workers from the command line; give a client and the workers."""
    file = folder / "scheduler.json"
    started = [
        start("scheduler", "--port", 0, "--scheduler-file", file, path=scheduler_path,
              **dict(scheduler_settings)),
        *(
            start("worker", "--scheduler-file", file, "--nthreads", 1, "--name", i, *options,
                 path=worker_path, **(dict(first) if i == 0 else {}))
            for i in range(workers)
        ),
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            yield client, started[1:]
    finally:
        for process in started:
            with contextlib.suppress(OSError, AttributeError):
                process.send_signal(signal.SIGCONT)
            process.kill()
        for process in started:
            process.wait(30)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    with processes(tmp_path_factory.mktemp("line"), 3) as (client, _):
        yield client


def open_area(url, **options):
    asked = {"time": "2021-04/2021-06", "bands": ["B4", "B5", "B8"]}
    options = {"chunks": {"time": 1, "band": 1}, **asked, **options}
    return s2l3a_xr.open_l3a(AOI, archive=url, **options)


def tiffs(server):
    return [entry for entry in server.log if entry.path.endswith(".tif")]


def most_at_once(entries):
    """Count requests on their way; of a server that answers slowly this is what it bears."""
    turns = sorted(
        [(entry.started, 1) for entry in entries] + [(entry.finished, -1) for entry in entries]
    )
    return max(np.cumsum([step for _, step in turns]))


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


# 1: the same


def test_pixels_are_those_of_threads_and_all_requests_come_from_workers(line, server):
    expected = open_area(server.url, transport=Transport(max_connections=5)).compute(
        scheduler="threads"
    )
    transport = Transport(max_connections=6, max_attempts=3)  # nobody has read with these
    da = open_area(server.url, transport=transport)
    server.clear_log()
    got = da.compute()
    np.testing.assert_array_equal(got, expected)
    table = got.l3a.requests()
    workers = set(line.scheduler_info(n_workers=-1)["workers"])
    assert set(table["process"]) <= workers
    assert len(table) >= 2
    assert table["requests"].sum() == len(tiffs(server))
    assert table["bytes"].sum() == sum(entry.bytes_sent for entry in tiffs(server))
    assert table["connections"].sum() == len({entry.peer_port for entry in tiffs(server)})
    assert set(table["retries"]) == {0}
    held = line.run(_held())
    assert all(transport in found for found in held.values())


def _held():
    def settings():  # sent whole: workers know nothing of this module
        from s2l3a_xr._transport import _session  # noqa: PLC0415 - runs on workers

        return list(_session._sessions)

    return settings


@pytest.mark.usefixtures("line")
def test_warnings_failures_and_counts_come_back(server):
    server.faults = [
        Fault(match="0415.*_B4", kind="status", status=404),
        Fault(match="0515.*_B5", kind="status", status=503, count=1),
    ]
    da = open_area(server.url, transport=Transport(max_attempts=4, max_connections=7))
    with pytest.warns(MissingWarning, match="gone"):
        got = da.compute()
    assert set(got.l3a.failures()["status"]) == {"gone"}
    assert got.l3a.requests()["retries"].sum() == 1


def test_threads_are_counted_too(server):
    da = open_area(server.url, transport=Transport(max_connections=8))
    assert da.l3a.requests().empty
    server.clear_log()
    got = da.compute(scheduler="threads")
    table = got.l3a.requests()
    assert len(table) == 1
    assert table["requests"].sum() == len(tiffs(server)) > 0
    assert table["bytes"].sum() == sum(entry.bytes_sent for entry in tiffs(server))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_forked_and_spawned_read_the_same(server, method):
    if method == "fork" and sys.platform != "linux":
        pytest.skip("forks of Linux")
    da = open_area(server.url, bands=["B4"])
    expected = da.compute(scheduler="threads").to_numpy()  # a loop that is not carried over
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs=50,
        )  # fmt: skip
        with cluster, distributed.Client(cluster) as client:
            np.testing.assert_array_equal(da.compute(), expected)
            kept = client.persist(da)
            np.testing.assert_array_equal(kept.compute(), expected)
            cluster.adapt(minimum=1, maximum=2)
            np.testing.assert_array_equal((da + 1).compute(), expected + 1)
            assert len(check_cluster(client)) >= 2


@pytest.mark.parametrize(
    "path", [pytest.param(BLOCKER, id="none"), pytest.param(OLDER, id="older")]
)
def test_a_scheduler_without_the_package_is_told_what_to_do(server, tmp_path, path):
    (tmp_path / "sitecustomize.py").write_text(path)
    before = open_area(server.url, bands=["B4"])
    text = r"scheduler at tcp://\S+ .*install the same version of s2l3a_xr"
    with processes(tmp_path, 1, scheduler_path=tmp_path) as (client, _):
        with pytest.raises(S2L3AError, match=text):
            open_area(server.url)
        with pytest.raises(S2L3AError, match=r"client on .* has s2l3a_xr .*scheduler.*install"):
            check_cluster(client)
        with pytest.raises(Exception, match=r".") as caught:
            before.compute()
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert any("install the same version of s2l3a_xr" in text for text in chain), chain


def test_a_worker_of_another_version_is_told(server, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(OLDER)
    with processes(tmp_path, 1, worker_path=tmp_path) as (client, _):
        da = open_area(server.url, bands=["B4"])
        with pytest.raises(S2L3AError, match=r"s2l3a_xr 0\.1\.0 on .*is 0\.0\.9; install"):
            da.compute()
        with pytest.raises(S2L3AError, match=r"worker tcp://.*: 0\.0\.9; install"):
            check_cluster(client)


def test_a_pickle_of_another_version_is_refused_before_its_request_is_looked_at(server):
    da = open_area(server.url, bands=["B4"], chunks=None)
    array = da.variable._data.array
    assert isinstance(array, L3AArray)
    assert pickle.loads(pickle.dumps(array)).token == array.token
    unpack, (_, *rest) = array.__reduce__()
    rest[1] = b"no pickle"
    with pytest.raises(S2L3AError, match=r"s2l3a_xr 9\.9 on .*same version"):
        unpack("9.9", *rest)[0]


# 2: what dies


@posix
@pytest.mark.parametrize(
    "what",
    ["SIGKILL", "SIGSTOP", "restart"],
)
def test_an_export_survives_its_workers(fresh_server, tmp_path, what):
    expected = open_area(fresh_server.url).compute(scheduler="threads")
    fresh_server.latency_s = 0.2
    with processes(tmp_path, 2, options=("--death-timeout", 30)) as (client, _):
        da = open_area(fresh_server.url, transport=Transport(cluster_connections=4))
        fresh_server.clear_log()
        writing = in_thread(lambda: to_geotiff(da, tmp_path / "out", progress=False))
        wait_until(lambda: tiffs(fresh_server))
        pid = next(iter(client.run(os.getpid).values())) if what != "restart" else 0
        if what == "restart":
            client.restart_workers(list(client.scheduler_info(n_workers=-1)["workers"])[:1])
        else:
            os.kill(pid, getattr(signal, what))
            if what == "SIGSTOP":
                time.sleep(3)
                _only_whole(tmp_path / "out")
                os.kill(pid, signal.SIGCONT)
        paths = writing.result(60)
    assert len(paths) == 9
    _only_whole(tmp_path / "out")
    planes = expected.to_numpy().reshape(9, *expected.shape[2:])
    for path, plane in zip(paths, planes, strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), plane, err_msg=path.name)


def test_what_is_spilled_comes_back_right(server, tmp_path):
    da = open_area(server.url, bands=["B4", "B8", "B3", "B2"], time="2021-03/2021-06")
    expected = da.compute(scheduler="threads")
    few = {"distributed.worker.memory.target": 0.001, "distributed.worker.memory.spill": False}
    with (
        dask.config.set(few),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="1GiB",
            dashboard_address=":0",
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        kept = client.persist(da)
        distributed.wait(kept)
        (spilled,) = client.run(lambda dask_worker: len(dask_worker.data.slow)).values()
        assert spilled > 8
        xr.testing.assert_identical(kept.compute(), expected)


@pytest.mark.filterwarnings("ignore::s2l3a_xr.S2L3AWarning")
def test_a_worker_cut_off_from_the_archive_gives_no_wrong_pixel(server, tmp_path):
    expected = open_area(server.url).compute(scheduler="threads")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        cut = {"http_proxy": dead, "no_proxy": ""}
        with processes(tmp_path, 2, first=cut):
            with pytest.raises(TransportError, match=r"proxy.*B[458]"):
                open_area(server.url).compute()
            filled = open_area(server.url, fail_on_error=False).compute()
            lost = filled.l3a.failures()
    assert 0 < len(lost) < 9
    assert lost["cause"].str.contains("proxy").all()
    planes = {(row.month, row.band) for row in lost.itertuples()}
    for time_, band in np.ndindex(3, 3):
        plane = filled[time_, band]
        name = str(plane["time"].dt.strftime("%Y-%m").item()), str(plane["band"].item())
        want = -10000 if name in planes else expected[time_, band]
        np.testing.assert_array_equal(plane, np.broadcast_to(want, plane.shape))


def in_thread(work):
    return ThreadPoolExecutor(1).submit(work)


def _only_whole(folder):
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as file:
            assert file.read(1).size


# 5: polite


def test_the_limit_of_a_cluster_is_never_exceeded(line, fresh_server):
    fresh_server.many_ranges = False
    fresh_server.latency_s = 0.1

    def read(limit):
        da = open_area(fresh_server.url, transport=Transport(cluster_connections=limit))
        fresh_server.clear_log()
        processes_seen = da.compute().l3a.requests()["process"].nunique()
        assert processes_seen == len(line.scheduler_info(n_workers=-1)["workers"])
        return most_at_once(tiffs(fresh_server))

    assert read(None) > 5
    assert 4 <= read(5) <= 5
    assert read(40) > 5


def test_without_a_cluster_the_limit_is_that_of_the_process(fresh_server):
    fresh_server.many_ranges = False
    fresh_server.latency_s = 0.05
    da = open_area(fresh_server.url, transport=Transport(cluster_connections=3))
    fresh_server.clear_log()
    da.compute(scheduler="threads")
    assert most_at_once(tiffs(fresh_server)) == 3


@pytest.mark.usefixtures("line")
@pytest.mark.parametrize("status", [429, 503])
def test_an_announced_wait_holds_all_workers_back(fresh_server, status):
    fresh_server.many_ranges, fresh_server.latency_s = False, 0.05
    fresh_server.faults = [
        Fault(match=r"\.tif$", kind="status", status=status, headers={"Retry-After": "3"},
              count=1, skip=12)
    ]  # fmt: skip
    da = open_area(fresh_server.url, transport=Transport(max_connections=3))
    fresh_server.clear_log()
    table = da.compute().l3a.requests()
    (refused,) = (entry for entry in tiffs(fresh_server) if entry.status == status)
    later = sorted(entry.started - refused.finished for entry in tiffs(fresh_server))
    assert len(table) == 3, "all workers read"
    assert not [s for s in later if 0.5 < s < 2.9], later
    assert len([s for s in later if s >= 2.9]) >= 6, later


def test_a_worker_that_never_asked_a_host_hears_of_its_announced_wait(line, fresh_server):
    da = open_area(fresh_server.url)
    fresh_server.clear_log()
    begin = time.monotonic()
    host = fresh_server.origin.partition("://")[2]
    line.set_metadata([f"s2l3a_xr-wait-{host}"], (time.time(), 2.0))
    da.compute()
    assert min(entry.started for entry in tiffs(fresh_server)) - begin > 1.9
