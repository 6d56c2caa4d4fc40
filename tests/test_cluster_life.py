"""A cluster whose workers come and go, and hosts that ask all of them for less."""

from __future__ import annotations

import logging.handlers
import os
import signal
import time

import numpy as np
import pytest
from faultserver import FaultServer
from test_cluster import in_thread, open_area, posix, processes, start, tiffs, wait_until

from s2l3a_xr import S2L3AError, Transport
from s2l3a_xr._sample import Fault

distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.slow]


def local_cluster(**options):
    return distributed.LocalCluster(
        threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50, **options
    )


def addresses(client):
    return set(client.scheduler_info(n_workers=-1)["workers"])


@posix
def test_a_nanny_brings_a_killed_worker_back(fresh_server):
    expected = open_area(fresh_server.url).compute(scheduler="threads")
    fresh_server.latency_s = 0.2
    with local_cluster(n_workers=2) as cluster, distributed.Client(cluster) as client:
        before = set(client.run(os.getpid).values())
        fresh_server.clear_log()
        reading = in_thread(open_area(fresh_server.url).compute)
        wait_until(lambda: tiffs(fresh_server))
        os.kill(min(before), signal.SIGKILL)
        np.testing.assert_array_equal(reading.result(60), expected)
        wait_until(lambda: len(addresses(client)) == 2)
        (new,) = set(client.run(os.getpid).values()) - before
        (address,) = (a for a, pid in client.run(os.getpid).items() if pid == new)
        again = client.compute(open_area(fresh_server.url), workers=[address])
        np.testing.assert_array_equal(again.result(timeout=60), expected)


@posix
def test_what_a_frozen_worker_held_is_read_by_others_once_it_is_given_up(fresh_server, tmp_path):
    expected = open_area(fresh_server.url).compute(scheduler="threads")
    fresh_server.latency_s = 0.3
    # Sooner, and a worker that is only slow is given up with the frozen one.
    soon = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "6s"}
    with processes(tmp_path, 2, scheduler_settings=soon, options=("--no-nanny",)) as (
        client,
        workers,
    ):
        pids = set(client.run(os.getpid).values())
        assert {worker.pid for worker in workers} == pids
        fresh_server.clear_log()
        reading = in_thread(open_area(fresh_server.url).compute)
        wait_until(lambda: tiffs(fresh_server))
        os.kill(min(pids), signal.SIGSTOP)
        try:
            np.testing.assert_array_equal(reading.result(90), expected)
            assert len(addresses(client)) == 1
        finally:
            os.kill(min(pids), signal.SIGCONT)


def test_workers_that_come_and_go_as_there_is_work(fresh_server):
    expected = open_area(fresh_server.url).compute(scheduler="threads")
    fresh_server.latency_s = 0.5
    one_by_one = Transport(max_connections=1)
    with local_cluster(n_workers=0) as cluster, distributed.Client(cluster) as client:
        cluster.adapt(minimum=0, maximum=3, interval="100ms", wait_count=3, target_duration="500ms")
        seen = []
        for _ in range(2):
            read = open_area(fresh_server.url, transport=one_by_one).compute()
            np.testing.assert_array_equal(read, expected)
            seen.append(set(read.l3a.requests()["process"]))
            wait_until(lambda: not addresses(client), 60)
        assert len(seen[0]) >= 2
        assert seen[1] - seen[0], "the second time others read"


def test_what_is_persisted_stays_and_is_read_once(fresh_server):
    with local_cluster(n_workers=2) as cluster, distributed.Client(cluster) as client:
        da = open_area(fresh_server.url)
        kept = client.persist(da)
        distributed.wait(kept)
        asked = len(tiffs(fresh_server))
        assert asked
        part = kept.isel(x=slice(10, 90), y=slice(5, 60)).mean(("x", "y")).compute()
        whole = kept.compute()
        assert len(tiffs(fresh_server)) == asked
        np.testing.assert_array_equal(whole, da.compute(scheduler="threads"))
        np.testing.assert_allclose(
            part, whole.isel(x=slice(10, 90), y=slice(5, 60)).mean(("x", "y"))
        )


@posix
def test_a_worker_that_joins_later_leaves_a_host_alone_that_asked_for_it(fresh_server, tmp_path):
    fresh_server.many_ranges = False
    fresh_server.faults = [
        Fault(match=r"\.tif$", kind="status", status=429, headers={"Retry-After": "8"},
              count=1, skip=4)
    ]  # fmt: skip
    expected = open_area(fresh_server.url, transport=Transport(max_attempts=13))
    with processes(tmp_path, 1, options=("--no-nanny",)) as (client, _):
        fresh_server.clear_log()
        reading = in_thread(open_area(fresh_server.url).compute)
        wait_until(lambda: any(entry.status == 429 for entry in tiffs(fresh_server)))
        late = start("worker", "--scheduler-file", tmp_path / "scheduler.json", "--nthreads", 1,
                     "--no-nanny")  # fmt: skip
        try:
            client.wait_for_workers(2, timeout=60)
            joined = time.monotonic()
            read = reading.result(60)
            np.testing.assert_array_equal(read, expected.compute(scheduler="threads"))
        finally:
            late.kill()
            late.wait(30)
    (refused,) = (entry for entry in tiffs(fresh_server) if entry.status == 429)
    assert joined < refused.finished + 6, "it joined too late to tell"
    assert len(read.l3a.requests()) == 2, "both read"
    later = sorted(entry.started - refused.finished for entry in tiffs(fresh_server))
    assert not [s for s in later if 0.5 < s < 7.9], later


def test_refusals_without_a_time_slow_all_workers_down(sample_root):
    """Three workers of sixteen connections each would ask hundreds of times a second."""
    with FaultServer(sample_root) as site, local_cluster(n_workers=3) as cluster:
        url = site.url("s429", count=float("inf"), scope="tile", path="S2_L3A_WASP/files/")
        expected = open_area(site.url(path="S2_L3A_WASP/files/")).compute(scheduler="threads")
        with distributed.Client(cluster):
            reading = in_thread(open_area(url).compute)
            wait_until(lambda: any(entry.status == 429 for entry in site.log(url)))
            time.sleep(4)
            site.heal(url)
            np.testing.assert_array_equal(reading.result(60), expected)
    refused = [entry.received for entry in site.log(url) if entry.status == 429]
    late = [moment for moment in refused if moment > refused[0] + 1]
    assert len({entry.peer_port for entry in site.log(url)}) >= 3
    assert len(late) < 90, len(late)


def test_a_scheduler_that_can_t_tell_of_waits_stops_no_reading(fresh_server, tmp_path):
    def forget_waits(dask_scheduler=None):
        get = dask_scheduler.handlers["get_metadata"]

        def fail(keys, **options):
            if keys[0].startswith("s2l3a_xr-wait-"):
                raise RuntimeError("no news")
            return get(keys=keys, **options)

        dask_scheduler.handlers["get_metadata"] = fail

    def keep_log():
        logging.getLogger("s2l3a_xr").addHandler(logging.handlers.BufferingHandler(10_000))

    def kept_log():
        ours = logging.getLogger("s2l3a_xr")
        kept = [h for h in ours.handlers if isinstance(h, logging.handlers.BufferingHandler)]
        for handler in kept:
            ours.removeHandler(handler)
        return [record.getMessage() for handler in kept for record in handler.buffer]

    expected = open_area(fresh_server.url).compute(scheduler="threads")
    fresh_server.latency_s = 0.1  # or one of them reads it all
    with processes(tmp_path, 2, options=("--no-nanny",)) as (client, _):
        client.run_on_scheduler(forget_waits)
        client.run(keep_log)
        da = open_area(fresh_server.url, transport=Transport(cluster_connections=4))
        np.testing.assert_array_equal(da.compute(), expected)
        told = client.run(kept_log)
    assert len(told) == 2
    assert all(
        any("can't tell whether 127.0.0.1" in text and "no news" in text for text in said)
        for said in told.values()
    ), told


def _forget_how(dask_worker):
    async def none(**_):
        raise RuntimeError("no news")

    dask_worker.scheduler.set_metadata = none


def test_a_scheduler_that_agrees_on_no_version_is_told_of(fresh_server):
    with local_cluster(n_workers=1) as cluster, distributed.Client(cluster) as client:
        client.run(_forget_how)
        with pytest.raises(S2L3AError, match=r"can't tell which version .*no news; see its log"):
            open_area(fresh_server.url, bands=["B4"]).compute()
