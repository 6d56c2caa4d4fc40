"""One version of each file in one array: in every chunk, thread, process and worker."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array
import geopandas as gpd
import numpy as np
import pytest
import shapely
from test_cluster import start, wait_until

from s2l3a_xr import FileChangedError, S2L3AError, _agreement, open_l3a, to_geotiff
from s2l3a_xr._sample import SampleServer

AT = {"32UPC": (5000, 9600), "32UQC": (5000, 0)}
SHAPE = (600, 1380)
AREA = shapely.box(696_400, 5_744_400, 714_000, 5_749_900)
NODATA = -10_000


def pixels_of(tile, shift=0):
    """Positive pixels of even (old) or odd (new) numbers."""
    rng = np.random.default_rng(ord(tile[3]))
    return (2 * rng.integers(1, 3000, SHAPE) + shift).astype("int16")


@pytest.fixture
def site(tmp_path):
    with SampleServer(tmp_path) as server:
        yield server


class Files:
    """Two files, which become others under the same names."""

    def __init__(self, lay_file, root):
        self._lay, self._root = lay_file, root
        self.turn(0)

    def turn(self, shift):
        for tile, at in AT.items():
            path = self._lay(self._root, pixels_of(tile, shift), tile=tile, at=at)
            os.utime(path, (time.time() + 5 * shift,) * 2)


@pytest.fixture
def files(lay_file, tmp_path):
    return Files(lay_file, tmp_path)


def opened(site, **options):
    options = {"time": "2021-03", "bands": "B4", "chunks": {"x": 256, "y": 256}, **options}
    aoi = gpd.GeoSeries([AREA], crs="EPSG:32632")
    return open_l3a(aoi, archive=site.url, **options)


def kinds(pixels):
    """Tell which versions pixels are of."""
    pixels = np.asarray(pixels)
    return {("old", "new")[odd] for odd in np.unique(pixels[pixels != NODATA] % 2).tolist()}


def first(da):
    return da.isel(x=slice(0, 256), y=slice(0, 256))


def other(da):
    """Other blocks of the same file as `first`."""
    return da.isel(x=slice(256, 768), y=slice(0, 256))


def test_chunks_of_a_replaced_file_are_refused_for_ever(site, files):
    da = opened(site)
    assert kinds(first(da)) == {"old"}
    files.turn(1)
    for _ in range(3):
        with pytest.raises(FileChangedError, match="replaced") as caught:
            other(da).compute(scheduler="threads")
        assert (caught.value.band, caught.value.month) == ("B4", "2021-03")
        assert "open it again" in str(caught.value)
        assert caught.value.byte_range is not None
    assert kinds(opened(site)) == {"new"}
    with pytest.raises(FileChangedError):
        da.compute()


def test_a_refused_file_costs_its_header_alone(site, files):
    da = opened(site)
    first(da).compute()
    files.turn(1)
    for _ in range(2):
        with pytest.raises(FileChangedError):
            other(da).compute(scheduler="synchronous")
    before = len(site.log)
    with pytest.raises(FileChangedError):
        other(da).compute(scheduler="synchronous")
    asked = [part for r in site.log[before:] for part in r.ranges]
    assert len(asked) <= 1
    assert all(part.start == 0 for part in asked)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("after", [2, 5, 9])
def test_going_on_leaves_nodata_never_the_other_version(site, files, scheduler, after):
    da = opened(site, fail_on_error=False)
    done = []

    class Turn(dask.callbacks.Callback):
        def _posttask(self, *_):
            done.append(1)
            if len(done) == after:
                files.turn(1)

    with Turn(), warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        pixels = da.compute(scheduler=scheduler).to_numpy()
    assert len(kinds(pixels[..., :1400])) == 1 or scheduler == "threads"
    for tile in AT:
        assert len(kinds(part_of(pixels, da, tile))) <= 1
    assert (pixels[0, 0] == NODATA).mean() > 0.05
    table = da.l3a.failures()
    assert len(table)
    assert table["cause"].str.contains("replaced").all()


def part_of(pixels, da, tile):
    """Cut out what one file alone can give: the other one has none of it."""
    edge = {"32UPC": da.x < 699_000, "32UQC": da.x > 711_000}[tile]
    return pixels[..., np.flatnonzero(edge)]


def test_an_array_that_gave_no_pixel_takes_the_new_version(site, files):
    da = opened(site)
    da.l3a.plan()
    files.turn(1)
    assert kinds(da) == {"new"}


def test_others_of_the_same_request_are_not_concerned(site, files):
    before = opened(site)
    assert kinds(first(before)) == {"old"}
    files.turn(1)
    after = opened(site)
    for _ in range(2):
        with pytest.raises(FileChangedError):
            other(before).compute()
        assert kinds(other(after)) == {"new"}
    assert kinds(after) == {"new"}


def test_copies_and_what_is_made_of_an_array_are_the_array(site, files, tmp_path_factory):
    da = opened(site)
    assert kinds(first(da)) == {"old"}
    files.turn(1)
    for same in (da.copy(deep=True), pickle.loads(pickle.dumps(da)), da.astype(float)):
        with pytest.raises(FileChangedError):
            same.compute(scheduler="synchronous")
    with pytest.raises(FileChangedError):
        to_geotiff(da, tmp_path_factory.mktemp("out"), progress=False)


def test_lazy_arrays_without_dask_too(site, files):
    da = opened(site, chunks=None)
    assert kinds(first(da).load()) == {"old"}
    files.turn(1)
    with pytest.raises(FileChangedError):
        other(da).load()


CHILD = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
da = pickle.load(open(sys.argv[1], "rb"))
start = int(sys.argv[2])
try:
    found = da[..., start : start + 256].compute(scheduler="synchronous").values
except Exception as exc:
    found = exc
pickle.dump(found, open(sys.argv[3], "wb"))
"""


def in_process(folder, start):
    """Read some columns in a process that knows the array from a file alone."""
    out = folder / "found.pkl"
    there = folder / "array.pkl"
    subprocess.run([sys.executable, "-c", CHILD, there, str(start), out], check=True)  # noqa: S603
    return pickle.loads(out.read_bytes())


@pytest.mark.parametrize("who", ["parent", "child"])
def test_processes_with_one_array_agree(site, files, tmp_path_factory, who):
    folder = tmp_path_factory.mktemp("pickled")
    da = opened(site)
    if who == "parent":
        assert kinds(first(da)) == {"old"}
    (folder / "array.pkl").write_bytes(pickle.dumps(da))
    if who == "child":
        assert kinds(in_process(folder, 0)) == {"old"}
    files.turn(1)
    assert isinstance(in_process(folder, 256), FileChangedError)
    with pytest.raises(FileChangedError):
        other(da).compute()


def test_processes_that_begin_at_once_agree(site, files):
    da = opened(site, chunks={"x": 128, "y": 128}, fail_on_error=False)
    with (
        warnings.catch_warnings(record=True),
        ThreadPoolExecutor(1) as pool,
    ):
        warnings.simplefilter("always")
        job = pool.submit(da.compute, scheduler="processes", num_workers=2)
        for shift in range(1, 40):
            time.sleep(0.1)
            files.turn(shift)
            if job.done():
                break
        pixels = job.result().to_numpy()
    for tile in AT:
        assert len(kinds(part_of(pixels, da, tile))) <= 1


def _report(pipe, da):
    try:
        pipe.send(kinds(other(da).compute(scheduler="synchronous")))
    except FileChangedError as exc:
        pipe.send(str(exc))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_agrees_too(site, files):
    da = opened(site)
    there, here = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    children = []
    for shift in (0, 1):
        files.turn(shift)
        child = context.Process(target=_report, args=(here, da))
        child.start()
        children.append(child)
        said = there.recv() if there.poll(30) else None
        assert said == {"old"} if shift == 0 else "replaced" in said
    for child in children:
        child.join(10)


def forgotten(client):
    """Wait until results are gone that dask would give to equal requests."""

    def empty(dask_scheduler):
        return not dask_scheduler.tasks

    wait_until(lambda: client.run_on_scheduler(empty))


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["worker", "client"])
def test_workers_of_a_cluster_agree(site, files, reader):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        one, two = client.scheduler_info()["workers"]
        da = opened(site)
        assert kinds(client.compute(first(da), workers=[one]).result()) == {"old"}
        files.turn(1)
        if reader == "worker":
            future = client.compute(other(da), workers=[two])
            with pytest.raises(FileChangedError, match="replaced"):
                future.result()
            future.release()
            forgotten(client)
        else:
            with pytest.raises(FileChangedError, match="replaced"):
                other(da).compute(scheduler="synchronous")
        assert kinds(client.compute(opened(site), workers=[two]).result()) == {"new"}
        forgotten(client)
        with contextlib.suppress(FileChangedError):
            assert kinds(client.compute(da).result()) == {"old"}


@contextlib.contextmanager
def cluster_of(workers=1):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def refused(read):
    with pytest.raises(FileChangedError, match="replaced"):
        read()


@pytest.mark.slow
def test_what_workers_took_counts_when_they_are_gone(site, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickled")
    da = opened(site)
    with cluster_of() as client:
        assert kinds(client.compute(first(da)).result()) == {"old"}
        files.turn(1)
        (folder / "array.pkl").write_bytes(pickle.dumps(da))
        assert isinstance(in_process(folder, 256), FileChangedError)
        client.restart()
        refused(lambda: other(da).compute())
    refused(lambda: other(da).compute(scheduler="synchronous"))
    refused(lambda: other(da).compute(scheduler="processes", num_workers=1))
    with cluster_of():
        refused(lambda: other(da).compute())
    assert kinds(opened(site)) == {"new"}


def _read_in_a_fork(pipe, da, part):
    pipe.send(kinds(part(da).compute(scheduler="synchronous")))


def _fork_again(pipe, da):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_read_in_a_fork, args=(pipe, da, first))
    child.start()
    child.join(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_of_a_fork_agrees_with_the_first(site, files):
    da = opened(site)
    there, here = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_fork_again, args=(here, da))
    child.start()
    assert there.poll(30)
    assert there.recv() == {"old"}
    child.join(30)
    files.turn(1)
    refused(lambda: other(da).compute(scheduler="synchronous"))


FORKS = """
import os, pickle, sys, warnings
warnings.simplefilter("ignore")
da = pickle.load(open(sys.argv[1], "rb"))
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
print(da[..., :256].compute(scheduler="synchronous").values.max() % 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_forks_still_agrees(site, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("pickled") / "array.pkl"
    da = opened(site)
    path.write_bytes(pickle.dumps(da))
    said = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", FORKS, path], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "0"
    files.turn(1)
    refused(lambda: other(da).compute(scheduler="synchronous"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.usefixtures("files")
def test_a_frozen_scheduler_hangs_nobody_and_a_dead_one_hinders_nobody(site, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(_agreement, "_PATIENCE_S", 2.0)
    place = tmp_path / "scheduler.json"
    scheduler = start("scheduler", "--port", 0, "--scheduler-file", place)
    try:
        wait_until(lambda: place.exists() and place.read_text())
        with (
            dask.config.set(scheduler="threads"),  # taken back at the end, by a lost client not
            distributed.Client(scheduler_file=str(place), timeout=30) as client,
        ):
            da = opened(site)
            pickle.dumps(da)
            os.kill(scheduler.pid, signal.SIGSTOP)
            with pytest.raises(S2L3AError, match="can't tell which version"):
                first(da).compute(scheduler="synchronous")
            os.kill(scheduler.pid, signal.SIGCONT)
            assert kinds(first(da).compute(scheduler="synchronous")) == {"old"}
            scheduler.kill()
            scheduler.wait(30)
            assert kinds(other(da).compute(scheduler="synchronous")) == {"old"}
            client.close(timeout=1)
    finally:
        scheduler.kill()
        scheduler.wait(30)
