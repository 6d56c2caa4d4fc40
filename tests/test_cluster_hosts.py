"""Scheduler, workers, client and archive on hosts of their own: one network namespace each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import s2l3a_xr

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

AOI = (11.68, 51.94, 11.74, 51.98)
TIME, BANDS = "2021-03/2021-10", ["B4", "B5", "B8"]
HOSTS = ("client", "scheduler", "first", "second", "archive")
NETS = {"cluster": 1, "data": 2}
"""The cluster talks on one network, the archive is on another: either can be cut alone."""
LIMIT_S = 100

ARCHIVE = """
import sys
from pathlib import Path
from s2l3a_xr._sample import SampleServer, _server
_server.HOST = sys.argv[1]
with SampleServer(Path(sys.argv[2]), port=8000, latency_s=0.1) as server:
    print(server.url, flush=True)
    while line := sys.stdin.readline():
        print(sum(item.path.endswith(".tif") for item in server.log), flush=True)
"""

CLIENT = """
import json, sys
import numpy as np
from distributed import Client
from s2l3a_xr import Transport, open_l3a
area, time, bands, archive, scheduler, target, retries = json.loads(sys.argv[1])
with Client(scheduler, timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    da = open_l3a(area, time=time, bands=bands, archive=archive, missing="keep",
                  chunks={"time": 1, "band": 1}, transport=Transport(give_up_s=4))
    print("opened", flush=True)
    sys.stdin.readline()
    future = client.compute(da, retries=retries)
    print("computing", flush=True)
    try:
        pixels = future.result(timeout=90)
    except Exception as exc:
        print(type(exc).__module__.split(".")[0], type(exc).__name__, exc, flush=True)
    else:
        np.save(target, pixels.to_numpy())
        print("right?", flush=True)
"""


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if check and done.returncode:
        msg = f"ip {' '.join(words)}: {done.stderr.strip()}"
        raise OSError(msg)


class Hosts:
    """Five hosts on two networks, made of namespaces; nothing is left of them afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"l3a{os.getpid()}-"
        self.spaces = ["switch", *HOSTS]
        self.processes: list[subprocess.Popen] = []

    def __enter__(self):
        sweep()
        try:
            for space in self.spaces:
                ip("netns", "add", self.mark + space)
                self.link(space, "lo", "up")
            for net in NETS:
                self.ip("switch", "link", "add", net, "type", "bridge")
                self.link("switch", net, "up")
            for number, host in enumerate(HOSTS, 1):
                for net, subnet in NETS.items():
                    self.plug(host, net, f"10.213.{subnet}.{number}")
        except OSError as exc:
            self.__exit__()
            pytest.skip(f"no network namespaces here: {exc}")
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.communicate(timeout=20)
        for space in self.spaces:
            ip("netns", "del", self.mark + space, check=False)

    def ip(self, space, *words):
        ip("-n", self.mark + space, *words)

    def link(self, space, device, state):
        self.ip(space, "link", "set", device, state)

    def plug(self, host, net, address):
        """Lay a cable from a host to the switch; its far end has the host's name."""
        far = f"{net[:4]}-{host}"
        self.ip("switch", "link", "add", far, "type", "veth", "peer", "name", net, "netns",
                self.mark + host)  # fmt: skip
        self.ip("switch", "link", "set", far, "master", net)
        self.link("switch", far, "up")
        self.ip(host, "addr", "add", f"{address}/24", "dev", net)
        self.link(host, net, "up")

    def cut(self, host, net, *, at="switch"):
        """Pull the cable: at the switch packets vanish, at the host there is no network."""
        self.link(*(("switch", f"{net[:4]}-{host}") if at == "switch" else (host, net)), "down")

    def start(self, host, *command, **environ):
        log = (self.folder / f"{host}.log").open("w")
        process = subprocess.Popen(  # noqa: S603 - ours
            ["ip", "netns", "exec", self.mark + host, sys.executable, *map(str, command)],  # noqa: S607
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | {"PYTHONWARNINGS": "default"} | environ,
        )  # fmt: skip
        log.close()
        self.processes.append(process)
        return process

    def logs(self):
        return "\n".join(f"{p.stem}: {p.read_text()[-1500:]}" for p in self.folder.glob("*.log"))


def hear(process):
    """Wait for a line, but not for ever; nothing else is in the pipe."""
    ready, _, _ = select.select([process.stdout], [], [], LIMIT_S)
    return process.stdout.readline().strip() if ready else f"silent for {LIMIT_S} s"


def say(process, word="go"):
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return hear(process)


def sweep():
    """Remove what a test run that was killed left behind."""
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=False)  # noqa: S607
    for space, pid in re.findall(r"^(l3a(\d+)-\w+)", listed.stdout, re.MULTILINE):
        if not Path(f"/proc/{pid}").exists():
            ip("netns", "del", space, check=False)


@pytest.fixture
def hosts(tmp_path):
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and `ip` of iproute2")
    with Hosts(tmp_path) as running:
        yield running


class Cluster:
    """Everything started, the area opened by the client, nothing computed."""

    def __init__(self, hosts, root, *, retries=0):
        self.hosts, self.target = hosts, hosts.folder / "pixels.npy"
        # How long distributed believes in a host that is silent: 30 s by default.
        quick = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}
        self.archive = hosts.start("archive", "-c", ARCHIVE, "10.213.2.5", root)
        url = hear(self.archive)
        scheduler = "tcp://10.213.1.2:8786"
        hosts.start("scheduler", "-m", "dask", "scheduler", "--host", "10.213.1.2", "--port",
                    "8786", "--no-dashboard", "--idle-timeout", "200s", **quick)  # fmt: skip
        for number, name in ((3, "first"), (4, "second")):
            folder = hosts.folder / name
            folder.mkdir()
            hosts.start(
                name, "-m", "dask", "worker", scheduler, "--host", f"10.213.1.{number}",
                "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
                "--death-timeout", "30", "--local-directory", folder, **quick,
            )  # fmt: skip
        asked = json.dumps([AOI, TIME, BANDS, url, scheduler, str(self.target), retries])
        self.client = hosts.start("client", "-c", CLIENT, asked)
        assert hear(self.client) == "opened", hosts.logs()

    def compute(self):
        assert say(self.client) == "computing", self.hosts.logs()

    def wait_for_reads(self, count):
        until = time.monotonic() + LIMIT_S
        while int(say(self.archive, "how many")) < count:
            assert time.monotonic() < until, self.hosts.logs()
            time.sleep(0.05)

    def outcome(self):
        out, _ = self.client.communicate(timeout=LIMIT_S)
        assert out.strip(), self.hosts.logs()
        return out.strip()


@pytest.fixture(scope="module")
def expected(sample_root):
    archive = sample_root / "S2_L3A_WASP" / "files"
    return s2l3a_xr.open_l3a(
        AOI, time=TIME, bands=BANDS, archive=archive, missing="keep"
    ).to_numpy()


def test_pixels_are_right_and_the_client_needs_no_archive(hosts, sample_root, expected):
    cluster = Cluster(hosts, sample_root)
    hosts.cut("client", "data", at="client")
    hosts.cut("scheduler", "data", at="scheduler")
    cluster.compute()
    assert cluster.outcome() == "right?", hosts.logs()
    np.testing.assert_array_equal(np.load(cluster.target), expected)


@pytest.mark.parametrize(("at", "retries"), [("switch", 0), ("second", 10)])
def test_a_worker_without_the_archive_gives_right_pixels_or_says_so(
    hosts, sample_root, expected, at, retries
):
    cluster = Cluster(hosts, sample_root, retries=retries)
    hosts.cut("second", "data", at=at)
    cluster.compute()
    assert_right_or_clear(cluster, expected)


def test_a_worker_may_lose_the_archive_in_the_middle(hosts, sample_root, expected):
    cluster = Cluster(hosts, sample_root, retries=10)
    cluster.compute()
    cluster.wait_for_reads(4)
    hosts.cut("second", "data")
    assert_right_or_clear(cluster, expected)


def test_a_worker_may_lose_the_cluster_in_the_middle(hosts, sample_root, expected):
    cluster = Cluster(hosts, sample_root)
    cluster.compute()
    cluster.wait_for_reads(4)
    hosts.cut("second", "cluster")
    assert cluster.outcome() == "right?", hosts.logs()
    np.testing.assert_array_equal(np.load(cluster.target), expected)


def assert_right_or_clear(cluster, expected):
    told = cluster.outcome()
    if told == "right?":
        np.testing.assert_array_equal(np.load(cluster.target), expected)
    else:
        assert re.match(r"s2l3a_xr (Read|Transport)Error ", told), told
        assert "http://10.213.2.5:8000" in told


def test_nothing_is_left_of_the_hosts(tmp_path):
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and `ip` of iproute2")
    with contextlib.suppress(KeyError), Hosts(tmp_path) as hosts:
        mark = hosts.mark
        process = hosts.start("first", "-c", "import time; time.sleep(600)")
        raise KeyError
    assert process.poll() is not None
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)  # noqa: S607
    assert mark not in left.stdout
