"""All of Germany on a real scheduler: ``python benchmarks/cluster/germany.py``.

64 tiles, eight years, twelve months, opened from a server that only lists; then each chunk goes
through a scheduler and worker processes, with readers that give a constant. What is measured is
what the graph costs: client, scheduler, transitions. Prints a table, or JSON with ``--json``.

    python benchmarks/cluster/germany.py [--bands 10] [--years 8] [--workers 2] [--crs EPSG:3035]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[0] = str(HERE.parent)
    sys.path.append(str(HERE.parent.parent))

import _germany  # noqa: E402 - after the path of the checkout is known
import geopandas as gpd  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from _ours import graph_figures  # noqa: E402
from _server import Server  # noqa: E402

from cluster.constant import VALUE, corner, read_nothing  # noqa: E402
from cluster.processes import cluster, memory_mb, scheduler_state  # noqa: E402
from s2l3a_xr import Inventory, open_l3a, search_l3a  # noqa: E402
from s2l3a_xr._tiles import tile_named  # noqa: E402

BANDS = ("B4", "B8", "B3", "B2", "B5", "B6", "B7", "B8A", "B11", "B12")


def germany() -> gpd.GeoSeries:
    """Draw the area: every tile, without its outermost 100 m.

    Returns
    -------
    geopandas.GeoSeries
        A polygon for each tile, lon/lat.
    """
    tiles = [tile_named(name) for name in _germany.TILES]
    boxes = [gpd.GeoSeries([tile.box.buffer(-100)], crs=tile.crs).to_crs(4326) for tile in tiles]
    return gpd.GeoSeries([box.iloc[0] for box in boxes], crs=4326)


def opened(options: argparse.Namespace) -> tuple[xr.DataArray, dict[str, float]]:
    """Open it from listings, and again from a saved inventory.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command line.

    Returns
    -------
    da : xarray.DataArray
        As `open_l3a` gives it.
    figures : dict
        Seconds, listings, chunks, tasks, bytes.
    """
    aoi = germany()
    asked = {"years": list(_germany.YEARS[: options.years]), "bands": BANDS[: options.bands]}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        server.shape(latency_s=options.latency_s, mbit=0)
        archive = server.url + _germany.PREFIX
        begun = time.perf_counter()
        inventory = search_l3a(aoi, archive=archive, **asked)
        searched_s = time.perf_counter() - begun
        listings = len(server.traffic().records)
        file = Path(folder) / "germany.parquet"
        inventory.save(file)
        begun = time.perf_counter()
        da = open_l3a(inventory=Inventory.load(file), crs=options.crs)
        opened_s = time.perf_counter() - begun
    figures = graph_figures(da)
    return da, {
        "search_s": searched_s,
        "listings": listings,
        "open_s": opened_s,
        "tiles": len(inventory.tiles),
        **figures,
    }


def driven(da: xr.DataArray, workers: int) -> dict[str, float]:
    """Send every chunk through a real scheduler.

    Parameters
    ----------
    da : xarray.DataArray
        As opened.
    workers : int
        Processes, of one thread each.

    Returns
    -------
    dict
        Seconds, transitions, memory.
    """
    read_nothing(da)
    ones = tuple((1,) * count for count in da.data.numblocks)
    total = da.data.map_blocks(corner, dtype="int64", chunks=ones).sum()
    with cluster(workers) as client:
        before = client.run_on_scheduler(scheduler_state)
        own_before = memory_mb()
        begun = time.perf_counter()
        future = client.compute(total)
        sent_s = time.perf_counter() - begun
        value = int(future.result(timeout=3600))
        wall_s = time.perf_counter() - begun
        after = client.run_on_scheduler(scheduler_state)
        peaks = client.run(memory_mb)
    transitions = after["transitions"] - before["transitions"]
    return {
        "right": value == VALUE * int(np.prod(da.data.numblocks)),
        "sent_s": sent_s,
        "wall_s": wall_s,
        "transitions": transitions,
        "transitions_per_s": transitions / wall_s,
        "scheduler_before_mb": before["now_mb"],
        "scheduler_peak_mb": after["peak_mb"],
        "client_before_mb": own_before["now_mb"],
        "client_peak_mb": memory_mb()["peak_mb"],
        "worker_peak_mb": max(peak["peak_mb"] for peak in peaks.values()),
    }


def main() -> int:
    """Run and print."""
    options = _parser().parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        da, figures = opened(options)
        figures |= driven(da, options.workers) if options.workers else {"right": True}
    if options.json:
        print(json.dumps(figures))
    else:
        print(_table(figures))
    return 0 if figures["right"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bands", type=int, default=10, help="10 are 112 320 chunks, 4 are 44 928")
    parser.add_argument("--years", type=int, default=len(_germany.YEARS))
    parser.add_argument("--workers", type=int, default=2, help="0 opens alone")
    parser.add_argument("--crs", default=None)
    parser.add_argument("--latency-s", type=float, default=0.0, help="of each listing")
    parser.add_argument("--json", action="store_true")
    return parser


def _table(figures: dict[str, Any]) -> str:
    return "\n".join(
        f"{name:22} {value:.2f}" if isinstance(value, float) else f"{name:22} {value}"
        for name, value in figures.items()
    )


if __name__ == "__main__":
    sys.exit(main())
