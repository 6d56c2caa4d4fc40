"""Kill an export at random times and look at what is there then.

    python benchmarks/faults/kills.py [--what ours] [--kills 100] [--seed 0] [--signals SIGKILL]

A child process writes the same months and bands again and again, by turns of two arrays, over the
files that are there. Each time it is killed somewhere in between, and every file under a final
name is compared with the two planes that it may hold. Prints one line of JSON; exits with 1 where
a file is partial, or where the next export does not clean up what was left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr

from s2l3a_xr import to_geotiff

SIDE_PX, MONTHS, BANDS = 900, 2, ("B4", "B8")
MOST_S = 1.5
"""Latest kill, counted from the child's begin: some rounds of writing."""


def make_cube(turn: int) -> xr.DataArray:
    """Make an array of noise that packs badly, another one for each turn."""
    noise = np.random.default_rng(turn).normal(1500, 300, (MONTHS, len(BANDS), SIDE_PX, SIDE_PX))
    places = np.arange(SIDE_PX) * 10.0 + 5
    da = xr.DataArray(
        noise.astype("int16"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(["2021-03-15", "2021-04-15"], dtype="datetime64[ns]")[:MONTHS],
            "band": list(BANDS),
            "y": 5_800_000 - places,
            "x": 600_000 + places,
        },
        attrs={"_FillValue": np.int16(-10000)},
    )
    return da.rio.write_crs("EPSG:32632").chunk({"time": 1, "band": 1})


def write_ours(da: xr.DataArray, folder: Path) -> None:
    """Write with to_geotiff."""
    to_geotiff(da, folder, overwrite=True, progress=False)


def write_rioxarray(da: xr.DataArray, folder: Path) -> None:
    """Write as rioxarray's users do."""
    for time_step in da.time.values:
        for band in da.band.values:
            name = f"{str(time_step)[:10]}_{band}.tif"
            plane = da.sel(time=time_step, band=band)
            plane.rio.to_raster(folder / name, compress="deflate", tiled=True)


WRITERS: dict[str, Callable[[xr.DataArray, Path], None]] = {
    "ours": write_ours,
    "rioxarray": write_rioxarray,
}


def kill_exports(
    what: str,
    kills: int,
    folder: Path,
    *,
    seed: int = 0,
    how: Sequence[signal.Signals] = (signal.SIGKILL,),
) -> dict[str, Any]:
    """Kill exports and tell what was there under final names.

    Parameters
    ----------
    what : str
        One of `WRITERS`.
    kills : int
        How often.
    folder : Path
        Where the files go.
    seed : int
        Of the times.
    how : sequence of signal.Signals
        With which signals, by turns.

    Returns
    -------
    dict
        ``kills``; ``in_the_middle`` (kills that left something unfinished), ``partial_kills``
        (kills that left a partial file under a final name), ``whole`` and ``partial`` files
        seen, ``left_over`` after the next export.
    """
    times = random.Random(seed)
    cubes = [make_cube(turn) for turn in (1, 2)]
    with dask.config.set(
        scheduler="synchronous"
    ):  # a pool of threads would be dead in the children
        planes = [cube.to_numpy().reshape(-1, SIDE_PX, SIDE_PX) for cube in cubes]
    right = {plane.tobytes() for plane in np.concatenate(planes)}
    tally = {"what": what, "kills": kills, "in_the_middle": 0, "partial_kills": 0, "whole": 0,
             "partial": 0}  # fmt: skip
    for number in range(kills):
        child = os.fork()
        if child == 0:
            _write_for_ever(what, cubes, folder)
        time.sleep(times.uniform(0.05, MOST_S))
        os.kill(child, how[number % len(how)])
        os.waitpid(child, 0)
        files = list(folder.glob("*.tif"))
        broken = [path for path in files if not _holds(path, right)]
        tally["whole"] += len(files) - len(broken)
        tally["partial"] += len(broken)
        tally["partial_kills"] += bool(broken)
        tally["in_the_middle"] += any(path.name.startswith(".") for path in folder.iterdir())
    last = os.fork()
    if last == 0:
        WRITERS[what](cubes[0], folder)
        os._exit(0)
    os.waitpid(last, 0)
    names = {path.name for path in folder.iterdir()}
    tally["left_over"] = sum(not name.endswith(".tif") for name in names)
    return tally


def _write_for_ever(what: str, cubes: list[xr.DataArray], folder: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        for cube in cubes:
            WRITERS[what](cube, folder)


def _holds(path: Path, planes: set[bytes]) -> bool:
    try:
        with rasterio.open(path) as file:
            return file.read(1).tobytes() in planes
    except rasterio.errors.RasterioError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=sorted(WRITERS), default="ours")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", default="SIGKILL", help="such as SIGKILL,SIGTERM, by turns")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        tally = kill_exports(
            options.what, options.kills, Path(folder),
            seed=options.seed, how=[signal.Signals[name] for name in options.signals.split(",")],
        )  # fmt: skip
    sys.stdout.write(json.dumps(tally) + "\n")
    return int(tally["partial"] > 0 or (options.what == "ours" and tally["left_over"] > 0))


if __name__ == "__main__":
    sys.exit(main())
