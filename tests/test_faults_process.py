"""Processes, threads and loops that end, fork, or are many (FAULTS rows 93-103)."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import psutil
import pytest
import rasterio

import s2l3a_xr
from s2l3a_xr import ReadError, S2L3AError, Transport, TransportError, to_geotiff
from s2l3a_xr._loop import background_loop, cancel_all, run
from s2l3a_xr._sample import Fault
from s2l3a_xr._transport import _session, run_with_session

AOI = (11.68, 51.94, 11.74, 51.98)
ASKED = {"time": "2021-04/2021-05", "bands": ["B4", "B5"]}
SECRET = "wasp-s3cret"  # noqa: S105 - of nobody
posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")
long = pytest.mark.skipif(not os.environ.get("S2L3A_FAULTS"), reason="long; make faults runs it")


def open_area(server, **options):
    asked = {"archive": server.url, "chunks": {"time": 1, "band": 1}, **ASKED}
    return s2l3a_xr.open_l3a(AOI, **asked | options)


def spawn(code, *args):
    """Start Python with a script, deaf to no signal."""
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-W", "default", "-c", hear + code, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def sessions():
    return list(_session._sessions.values())


# 93: one folder


EXPORT = """
import sys
import s2l3a_xr
da = s2l3a_xr.open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-04/2021-05", bands=["B4", "B5"],
                       archive=sys.argv[1])
print("go", flush=True); input_ = sys.stdin
s2l3a_xr.to_geotiff(da, sys.argv[2], progress=False)
print("done")
"""


def test_two_processes_may_write_to_one_folder(server, tmp_path):
    expected = open_area(server).to_numpy().reshape(4, *open_area(server).shape[2:])
    server.latency_s = 0.1
    both = [spawn(EXPORT, server.url, tmp_path) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert out.split() == ["go", "done"], err
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 4
    for path, plane in zip(paths, expected, strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), plane)


# 94, 95: workers and clusters that die


CHAOS = ("sys.exit", "graceful", "segfault")


def at_length(value):
    return pytest.param(value, marks=long)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["SIGKILL", *(at_length(m) for m in CHAOS)])
def test_a_worker_killed_in_the_middle_changes_no_pixel_and_no_report(fresh_server, tmp_path, mode):
    distributed = pytest.importorskip("distributed")
    chaos = pytest.importorskip("distributed.chaos")
    expected = open_area(fresh_server, bands=["B4", "B5", "B8"]).to_numpy()
    transport = Transport(max_attempts=2)
    da = open_area(
        fresh_server, bands=["B4", "B5", "B8"], fail_on_error=False, missing="keep",
        transport=transport,
    )  # fmt: skip
    fresh_server.faults = [Fault(match="0415.*_B4", kind="status", status=404)]
    fresh_server.latency_s = 0.3
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh_server.clear_log()
        future = client.compute(da)
        while not any(entry.path.endswith(".tif") for entry in fresh_server.log):
            time.sleep(0.01)
        first = {worker.pid for worker in cluster.workers.values()}
        if mode == "SIGKILL":
            os.kill(min(first), signal.SIGTERM if os.name == "nt" else 9)
        else:
            client.register_plugin(chaos.KillWorker(delay=0.2, mode=mode), name="kill")
            while first <= {worker.pid for worker in cluster.workers.values()}:
                time.sleep(0.05)
            client.unregister_worker_plugin("kill")
            cluster.scale(4)  # the nannies of some take it for the end
        value = future.result(timeout=60)
        rows = da.l3a.failures()
        paths = to_geotiff(da, tmp_path, progress=False)
    expected[0, 0] = -10000
    np.testing.assert_array_equal(value, expected)
    assert rows[["month", "band", "status"]].to_numpy().tolist() == [["2021-04", "B4", "gone"]]
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}


ON_CLUSTER = """
import sys, warnings
import s2l3a_xr
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster):
            da = s2l3a_xr.open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-04/2021-05",
                                   bands=["B4", "B5"], archive=sys.argv[1])
            s2l3a_xr.to_geotiff(da, sys.argv[2], progress=False)
"""


@pytest.mark.slow
@posix
def test_a_lost_client_leaves_whole_files_and_the_next_run_cleans_up(server, tmp_path):
    """The client is killed, with it the scheduler in its process; nannies end their workers."""
    pytest.importorskip("distributed")
    script = tmp_path / "main.py"
    script.write_text(ON_CLUSTER)
    folder = tmp_path / "out"
    server.latency_s = 0.3
    process = subprocess.Popen([sys.executable, str(script), server.url, str(folder)],  # noqa: S603
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + 60
    while not any(e.path.endswith(".tif") for e in server.log) and time.monotonic() < until:
        time.sleep(0.01)
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.wait()
    psutil.wait_procs(family[1:], timeout=30)
    server.latency_s = 0
    da = open_area(server)
    paths = to_geotiff(da, folder, progress=False)
    expected = da.to_numpy().reshape(4, *da.shape[2:])
    for path, plane in zip(paths, expected, strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), plane)
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}


# 96: forks


CHILDREN = """
import multiprocessing, sys, time
import dask, s2l3a_xr
from s2l3a_xr import open_l3a  # imports take a second, and are no reading
def open_area(url):
    return open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-04/2021-05", bands=["B4", "B5"],
                    archive=url, chunks=None)
def total(url):
    began = time.monotonic()
    value = int(open_area(url).values.astype("int64").sum())
    return value, time.monotonic() - began
if __name__ == "__main__":
    url, method = sys.argv[1:]
    want, _ = total(url)  # the loop and its connections live
    if method == "processes":
        with dask.config.set(scheduler="processes", num_workers=2):
            da = open_area(url).chunk({"time": 1})
            assert int(da.astype("int64").sum().compute()) == want
    else:
        with multiprocessing.get_context(method).Pool(1) as pool:
            got, took = pool.apply(total, (url,))
            assert (got, took < 2) == (want, True), (got, want, took)
    got, took = total(url)
    assert (got, took < 2) == (want, True), (got, want, took)
    print("right")
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "processes"])
def test_children_of_a_process_that_reads(server, tmp_path, method):
    if method in {"fork", "forkserver"} and os.name != "posix":
        pytest.skip("no fork on this platform")
    script = tmp_path / "main.py"
    script.write_text(CHILDREN)
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-W", "ignore", str(script), server.url, method],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("right", "")


# 97: Ctrl-C


BEGIN = """
import sys, dask, s2l3a_xr
da = s2l3a_xr.open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-04/2021-05", bands=["B4", "B5"],
                       archive=sys.argv[1], chunks={"time": 1, "band": 1})
print("go", flush=True)
"""
JOBS = {
    "compute": "da.compute()",
    "one_thread": "da.compute(scheduler='synchronous')",
    "export": "s2l3a_xr.to_geotiff(da, sys.argv[2], progress=False)",
    "mirror": "s2l3a_xr.save_archive(s2l3a_xr.search_l3a((11.68, 51.94, 11.74, 51.98), "
    "time='2021-05', archive=sys.argv[1]), sys.argv[2], progress=False)",
}


@posix
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(match=r"\.tif", kind="stall", seconds=9),
        Fault(match=r"\.tif", kind="status", status=503),
    ],
    ids=["stalled", "retrying"],
)  # fmt: skip
def test_ctrl_c_ends_the_process_within_a_second(fresh_server, tmp_path, job, fault):
    if (job, fault.kind) == ("mirror", "status"):
        pytest.skip("as the others")
    folder = tmp_path / "out"
    process = spawn(BEGIN + JOBS[job], fresh_server.url, folder)
    fresh_server.faults = [fault]
    assert process.stdout.readline() == "go\n"
    while not any(entry.path.endswith(".tif") for entry in fresh_server.log):
        time.sleep(0.01)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2  # a second, and the interpreter's end on a loaded machine
    assert "KeyboardInterrupt" in err
    for word in ("destroyed", "never retrieved", "Unclosed", "never awaited", "ResourceWarning"):
        assert word not in err, err
    assert not folder.exists() or not [p for p in folder.rglob("*") if not p.is_dir()]


@posix
def test_ctrl_c_says_that_a_download_can_go_on(fresh_server, tmp_path):
    out = tmp_path / "out"
    words = ["download", "11.68,51.94,11.74,51.98", str(out), "--time", "2021-05", "--yes"]
    script = f"from s2l3a_xr._cli import main; main({words!r} + ['--archive', sys.argv[1]])"
    fresh_server.faults = [Fault(match=r"B8\.tif", kind="stall", seconds=9)]
    process = spawn(f"import sys; print('go', flush=True); {script}", fresh_server.url, out)
    while len(list(out.glob("*.tif"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"What is complete in {out} stays: the same command goes on." in err
    assert "Traceback" not in err
    assert len(list(out.glob("*.tif"))) == 3


def _acquired(session):
    """Name connections in use; an aiohttp without this name fails the test."""
    clients = session.http.client._clients.values()
    return [used for client in clients for used in client.connector._acquired]


@posix
def test_ctrl_c_in_an_export_leaves_a_notebook_nothing_that_reads_on(fresh_server, tmp_path):
    transport = Transport(max_connections=5)
    da = open_area(fresh_server, transport=transport)
    fresh_server.faults = [Fault(match=r"\.tif", kind="stall", seconds=30)]
    hearing = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    try:
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            to_geotiff(da, tmp_path, progress=False)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, hearing)
    assert time.monotonic() - began < 2
    session = _session._sessions[transport]
    assert wait_for(lambda: not _acquired(session), 1)
    assert wait_for(lambda: session.slots._value == 2 * transport.max_connections, 1)
    assert not list(tmp_path.iterdir())


# 98: loops that run


def test_inside_a_running_loop(server):
    """As in Jupyter: the cell's code runs within a coroutine."""
    expected = open_area(server).to_numpy()

    async def cell():
        da = open_area(server)
        inner = dask.delayed(lambda: da.compute(scheduler="threads"))()
        return da.compute(), inner.compute()

    for value in asyncio.run(cell()):
        np.testing.assert_array_equal(value, expected)


UVLOOP = """
import asyncio, sys, uvloop, s2l3a_xr
uvloop.install()
da = s2l3a_xr.open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-05", bands="B4",
                       archive=sys.argv[1])
async def cell():
    return da.compute()
assert (asyncio.run(cell()) == da.compute()).all()
from s2l3a_xr._loop import background_loop
print(type(background_loop()).__module__)
"""


def test_with_uvloop(server):
    pytest.importorskip("uvloop")
    out, err = spawn(UVLOOP, server.url).communicate(timeout=60)
    lines = [line for line in err.splitlines() if "uvloop.install" not in line]
    assert out.strip() == "uvloop", lines


# 99: threads, and a loop that dies


def test_32_threads_share_one_session(fresh_server):
    transport = Transport(max_connections=7)
    expected = open_area(fresh_server).to_numpy()
    da = open_area(
        fresh_server, transport=transport, chunks={"time": 1, "band": 1, "y": 60, "x": 90}
    )
    before = len(sessions())
    with dask.config.set(pool=ThreadPoolExecutor(32)):
        np.testing.assert_array_equal(da.compute(scheduler="threads"), expected)
    assert len(sessions()) == before  # opening made it


def test_a_loop_that_dies_is_restarted(fresh_server):
    expected = open_area(fresh_server).to_numpy()
    loop = background_loop()
    waits = ThreadPoolExecutor(1).submit(run, asyncio.sleep(60))
    time.sleep(0.2)
    loop.call_soon_threadsafe(loop.stop)
    with pytest.raises(S2L3AError, match="background loop ended"):
        waits.result(timeout=5)
    assert background_loop() is not loop
    assert wait_for(loop.is_closed)
    np.testing.assert_array_equal(open_area(fresh_server), expected)


# 100: pickles


def test_a_pickle_after_use_holds_no_connection_and_reads_the_same(server):
    da = open_area(server)
    expected = da.to_numpy()
    for pack in (pickle.dumps, cloudpickle.dumps):
        data = pack(da)
        assert not re.search(rb"aiohttp|socket|Session|asyncio|_thread", data)
        np.testing.assert_array_equal(pickle.loads(data), expected)


def test_credentials_travel_in_pickles_alone(fresh_server, caplog):
    """Workers need them to read; nobody else gets to see them."""
    caplog.set_level("DEBUG")
    url = fresh_server.url.replace("//", f"//me:{SECRET}@")
    da = open_area(fresh_server, archive=url, transport=Transport(max_attempts=1))
    found = s2l3a_xr.search_l3a(AOI, archive=url, **ASKED)
    assert SECRET.encode() in pickle.dumps(da)
    assert SECRET.encode() not in pickle.dumps(open_area(fresh_server))
    graph = da.__dask_graph__()
    shown = [
        repr(da), da._repr_html_(), str(da.attrs), repr(da.data), da.data._repr_html_(),
        str(list(graph.keys())), str(list(graph.layers)), repr(found), found._repr_html_(),
        repr(open_area(fresh_server, archive=url, chunks=None)),
    ]  # fmt: skip
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=500)]
    with pytest.raises(ReadError) as caught:
        da.compute()
    shown += [str(caught.value), repr(caught.value), str(vars(caught.value)), caplog.text]
    leaks = [text for text in shown if SECRET in text]
    assert not leaks


def test_not_even_the_objects_in_the_graph_show_them(fresh_server):
    """Workers of a cluster log the arguments of a task that fails."""
    url = fresh_server.url.replace("//", f"//me:{SECRET}@")
    graph = open_area(fresh_server, archive=url).__dask_graph__()
    assert SECRET not in "".join(map(repr, dict(graph).values()))


@pytest.mark.parametrize("scheduler", ["threads", "processes", "distributed"])
def test_errors_are_the_same_from_everywhere(fresh_server, scheduler):
    da = open_area(fresh_server, transport=Transport(max_attempts=2))
    fresh_server.faults = [Fault(match="0515.*_B5", kind="status", status=500, min_start=1)]
    if scheduler == "distributed":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=":0", silence_logs=50
        )
        with cluster, distributed.Client(cluster), pytest.raises(TransportError) as caught:
            da.compute()
    else:
        with dask.config.set(scheduler=scheduler), pytest.raises(TransportError) as caught:
            da.compute()
    error = caught.value
    assert type(error) is TransportError
    assert (error.tile, error.month, error.band, error.status, error.attempts) == (
        "32UPC", "2021-05", "B5", 500, 2,
    )  # fmt: skip
    assert error.item in error.url
    assert error.byte_range[0] > 0
    assert error.url in str(error)


# 101: what is cancelled


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def test_what_is_cancelled_gives_back_its_connections_and_slots(fresh_server):
    transport = Transport(max_connections=3)
    da = open_area(fresh_server, transport=transport)
    expected = open_area(fresh_server).to_numpy()
    fresh_server.faults = [Fault(match=r"\.tif", kind="stall", seconds=30)]
    fresh_server.clear_log()
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(da.isel(time=i, band=j).to_numpy) for i in (0, 1) for j in (0, 1)]
        assert wait_for(lambda: sum(e.path.endswith(".tif") for e in fresh_server.log) >= 3)
        cancel_all()
        for future in work:
            with pytest.raises(CancelledError):
                future.result(timeout=5)
    session = _session._sessions[transport]
    assert wait_for(lambda: session.slots._value == 2 * transport.max_connections)
    assert wait_for(lambda: not _acquired(session))
    fresh_server.faults = []
    np.testing.assert_array_equal(da, expected)


# 102: many chunks


def flat_over(server, rounds, per_round, side):
    """Read many small chunks and tell how memory, descriptors, threads and tasks grow."""
    da = open_area(server, chunks={"time": 1, "band": 1, "y": side, "x": side})
    tasks = da.data.npartitions
    me, told = psutil.Process(), []
    for _ in range(rounds):
        for _ in range(-(-per_round // tasks)):
            da.compute()

        async def count(_session):
            return len(asyncio.all_tasks())

        files = me.num_fds() if os.name == "posix" else me.num_handles()
        told.append((me.memory_info().rss, files, threading.active_count(),
                     run_with_session(Transport(), count)))  # fmt: skip
    return np.array(told)


def check_flat(told):
    first, last = told[0], told[-1]
    assert last[0] - first[0] < 40 * 2**20
    assert last[1] - first[1] <= 4
    assert last[2] - first[2] <= 2
    assert last[3] <= 1 + 16  # connections that wait for their next request have none


def test_many_chunks_leave_nothing_behind(fresh_server):
    check_flat(flat_over(fresh_server, 4, 200, 64))


@pytest.mark.slow
@long
def test_10000_chunks_leave_nothing_behind(fresh_server):
    told = flat_over(fresh_server, 5, 2000, 16)
    sys.stderr.write(f"\nRSS, descriptors, threads, tasks:\n{told}\n")
    check_flat(told)


# 103: clocks


LEAP = """
import sys, time
began = time.monotonic()
real, leaps = time.time, iter(range(10**9))
time.time = lambda: real() + (-1) ** next(leaps) * 10**8
import s2l3a_xr
da = s2l3a_xr.open_l3a((11.68, 51.94, 11.74, 51.98), time="2021-05", bands="B4",
                       archive=sys.argv[1])
print(int(da.astype("int64").sum()))
print(time.monotonic() - began < 30)
"""


def test_a_clock_that_leaps_changes_nothing(fresh_server):
    want = int(open_area(fresh_server, time="2021-05", bands="B4").astype("int64").sum())
    fresh_server.faults = [Fault(match=r"\.tif", kind="status", status=503, count=3)]
    out, err = spawn(LEAP, fresh_server.url).communicate(timeout=60)
    assert out.split() == [str(want), "True"], err


def test_only_ages_of_files_and_reports_ask_the_wall_clock():
    package = Path(s2l3a_xr.__file__).parent
    asking = {
        path.stem
        for path in package.rglob("*.py")
        if "_sample" not in path.parts
        and re.search(r"\btime\.time\(|datetime\.now\(", path.read_text("utf-8"))
    }
    ages = {"_cells", "_checks", "_discover", "_selection"}  # of inventories, certificates, months
    # _polite tells other machines of a wait, and bounds what it makes of their clocks
    assert asking <= ages | {"_store", "_disk", "_failures", "_cli", "_answer", "_polite"}
