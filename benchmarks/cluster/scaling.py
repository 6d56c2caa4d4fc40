"""Worker processes on a load bound by latency, and the cluster beside threads.

    python benchmarks/cluster/scaling.py [--years 5] [--repeat 7] [--only workers,overhead]

**workers**: the same chunks, one file each, read by 1, 2, 4 and 8 worker processes of one thread,
from a server that answers after 200 ms; then from the same server behind a link that eight
workers fill. **overhead**: case A of ``make bench`` by threads in this process and by one warm
worker process, in turn, each time from a server that nobody has asked yet.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[0] = str(HERE.parent)
    sys.path.append(str(HERE.parent.parent))

import _data  # noqa: E402 - after the path of the checkout is known
import distributed  # noqa: E402
import geopandas as gpd  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
import shapely  # noqa: E402
import xarray as xr  # noqa: E402
from _cases import LATENCY_S, MAGDEBURG, Bounds  # noqa: E402
from _listing import index_page  # noqa: E402
from _server import Server, Traffic  # noqa: E402

from cluster.processes import cluster  # noqa: E402
from s2l3a_xr import open_l3a, search_l3a  # noqa: E402

WORKERS = (1, 2, 4, 8)
SLOW_S = 0.2
LINK_MBIT = 40.0
GOAL_SHARE = 0.8
GOAL_OVERHEAD = 1.3
FIELD: Bounds = (654990, 5779150, 657550, 5781710)
"""256 x 256 pixels, inside four blocks: a chunk costs a worker milliseconds of its CPU."""


def many_years(root: Path, target: Path, count: int) -> list[int]:
    """Lay the files of the bench's archive under several years.

    Parameters
    ----------
    root, target : pathlib.Path
        The bench's archive, and a folder on the same disk.
    count : int
        Years; 32 files each.

    Returns
    -------
    list of int
        The years.
    """
    years = list(range(_data.YEAR - count + 1, _data.YEAR + 1))
    for year in years:
        for month in _data.MONTHS:
            for band in _data.BANDS:
                path = target / _data.asset_path("32UPC", year, month, band)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.hardlink_to(_data.seed_path(root, "32UPC", month, band))
    for folder in [path for path in target.rglob("*") if path.is_dir()]:
        entries = [
            (path.name + "/", None) if path.is_dir() else (path.name, path.stat().st_size)
            for path in sorted(folder.iterdir())
        ]
        page = index_page(f"/{folder.relative_to(target).as_posix()}/", entries)
        (folder / "index.html").write_text(page)
    return years


def opened(server: Server, bounds: Bounds, years: list[int], **options: Any) -> xr.DataArray:
    """Open an area from a server; its listings are read before any clock starts."""
    area = gpd.GeoSeries([shapely.box(*bounds)], crs=_data.EPSG)
    archive = f"{server.url}/{_data.FILES_ROOT}/"
    asked = {"years": years, "months": list(_data.MONTHS), "bands": _data.BANDS}
    return open_l3a(inventory=search_l3a(area, archive=archive, **asked), **options)


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Take the wall seconds of a call, and what it gives."""
    begun = time.perf_counter()
    value = compute()
    return time.perf_counter() - begun, value


def warm(client: distributed.Client, root: Path) -> None:
    """Have every worker read something, so that it has imported all it will need."""
    with Server(root) as server:
        server.shape(latency_s=0, mbit=0)
        da = opened(server, FIELD, [_data.YEAR], chunks={"time": 1, "band": 1})
        planes = da.stack(plane=("time", "band"))  # each worker its own: none takes another's
        for number, worker in enumerate(client.scheduler_info(n_workers=-1)["workers"]):
            client.compute(planes[..., number].sum(), workers=[worker]).result(60)


def workers(root: Path, options: argparse.Namespace) -> bool:
    """Read the same chunks with each number of workers, and print how wall time falls."""
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        years = many_years(root, Path(folder), options.years)
        chunks = len(years) * len(_data.MONTHS) * len(_data.BANDS)
        print(f"Workers: {chunks} chunks, a file each, {SLOW_S * 1000:.0f} ms a request\n")
        print("| link | processes | wall s | share of linear | Mbit/s | requests | CPU s | busy |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        one, right, fast = 0.0, set(), True
        for mbit, count in [*((0.0, count) for count in WORKERS), (LINK_MBIT, 4), (LINK_MBIT, 8)]:
            wall_s, traffic, cpu_s, busy, sums = _read_all(root, Path(folder), years, count, mbit)
            right.add(sums.tobytes())
            one = one or wall_s
            share = one / wall_s / count
            fast &= bool(mbit) or share >= GOAL_SHARE
            link = f"{mbit:.0f} Mbit/s" if mbit else "no cap"
            rate = traffic.sent * 8e-6 / wall_s
            print(
                f"| {link} | {count} | {wall_s:.2f} | {share:.2f} | {rate:.0f} "
                f"| {len(traffic.records)} | {cpu_s:.1f} | {busy:.0%} |",
                flush=True,
            )
        print(f"\nGoal: share of linear >= {GOAL_SHARE} without a cap: {_verdict(fast)}")
    return len(right) == 1 and fast


def _read_all(
    root: Path, folder: Path, years: list[int], count: int, mbit: float
) -> tuple[float, Traffic, float, float, np.ndarray]:
    """Read every chunk once, from a server that nobody has asked for a file yet."""
    with cluster(count) as client, Server(folder) as server:
        warm(client, root)
        server.shape(latency_s=0, mbit=0)
        da = opened(server, FIELD, years, chunks={"time": 1, "band": 1})
        sums = da.sum(("y", "x"), dtype="int64")
        server.shape(latency_s=SLOW_S, mbit=mbit)
        server.reset()
        cpu_s, before = _cpu_s(client), psutil.cpu_times()
        wall_s, value = timed(lambda: client.compute(sums).result(600))
        after = psutil.cpu_times()
        idle = after.idle + after.iowait - before.idle - before.iowait
        busy = 1 - idle / (wall_s * (psutil.cpu_count() or 1))
        traffic = server.traffic()
        cpu_s = _cpu_s(client) + traffic.server_cpu_s - cpu_s
        return wall_s, traffic, cpu_s, busy, value.to_numpy()


def _cpu_s(client: distributed.Client) -> float:
    """CPU seconds of workers, scheduler and client; what the machine does besides is not in it."""
    told = client.run(time.process_time).values()
    return sum(told) + client.run_on_scheduler(time.process_time) + time.process_time()


def overhead(root: Path, options: argparse.Namespace) -> bool:
    """Read case A by threads and by a warm worker in turn, and print what the cluster costs.

    A client fetches results through the scheduler unless it is told to ask the workers.
    """
    print(
        f"\nOverhead: case A, 32 files, one chunk of 67 MB, {LATENCY_S * 1000:.0f} ms a request\n"
    )
    pixels = set()
    with cluster(1, threads=2) as client:
        direct = distributed.Client(
            client.scheduler.address, direct_to_workers=True, set_as_default=False
        )
        cold_s, _ = _case_a(root, lambda da: client.compute(da).result(300))
        ways: dict[str, Callable[[xr.DataArray], Any]] = {
            "threads": lambda da: da.compute(scheduler="threads"),
            "cluster": lambda da: client.compute(da).result(300),
            "cluster, direct_to_workers": lambda da: direct.compute(da).result(300),
        }
        walls: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.repeat + 1):
            for name, way in ways.items():
                wall_s, value = _case_a(root, way)
                pixels.add(hashlib.sha256(value.to_numpy().tobytes()).hexdigest())
                if turn:  # the first of each warms up
                    walls[name].append(wall_s)
        direct.close()
    medians = {name: statistics.median(found) for name, found in walls.items()}
    print("| by | median s | range | over threads |\n| --- | --- | --- | --- |")
    for name, found in walls.items():
        ratio = medians[name] / medians["threads"]
        print(
            f"| {name} | {medians[name]:.2f} | {min(found):.2f}..{max(found):.2f} | {ratio:.2f} |"
        )
    print(f"| cluster, cold worker | {cold_s:.2f} | one run | {cold_s / medians['threads']:.2f} |")
    is_reached = medians["cluster"] <= GOAL_OVERHEAD * medians["threads"]
    print(f"\nGoal: cluster over threads <= {GOAL_OVERHEAD}: {_verdict(is_reached)}", flush=True)
    return len(pixels) == 1 and is_reached


def _case_a(root: Path, way: Callable[[xr.DataArray], Any]) -> tuple[float, Any]:
    """Open and read from a new server: no header and no connection is known."""
    with Server(root) as server:
        server.shape(latency_s=0, mbit=0)
        da = opened(server, MAGDEBURG, [_data.YEAR])
        server.shape(latency_s=LATENCY_S, mbit=0)
        return timed(lambda: way(da))


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "missed"


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=5, help="32 chunks each")
    parser.add_argument("--repeat", type=int, default=7, help="runs of each in `overhead`")
    parser.add_argument("--only", default="workers,overhead")
    options = parser.parse_args()
    root = _data.build_archive(_data.cache_folder())
    parts = {"workers": workers, "overhead": overhead}
    reached = [parts[name](root, options) for name in options.only.split(",")]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
