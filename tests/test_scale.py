"""A whole country: the graph stays small, and the client with it (benchmarks/cluster)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")
BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "cluster" / "germany.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]


@pytest.fixture(scope="module")
def figures():
    """Open one year of all Germany, and send its 5 616 chunks through a real scheduler."""
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(BENCHMARK), "--years", "1", "--bands", "4", "--json"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_country_is_opened_as_one_task_a_chunk(figures):
    assert figures["tiles"] > 60
    assert figures["chunks"] > 5000
    assert figures["tasks"] <= figures["chunks"] + 10
    assert figures["pickled_mb"] < 0.2
    assert figures["listings"] <= 2 * 64  # a tile's year each, also of tiles that are not there


def test_every_chunk_passes_the_scheduler_and_none_the_client(figures):
    assert figures["right"]
    assert figures["transitions"] < 8 * figures["chunks"]
    assert figures["client_peak_mb"] - figures["client_before_mb"] < 100
    assert figures["client_peak_mb"] < 700
    assert figures["scheduler_peak_mb"] < 700


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:32633"])
def test_another_grid_costs_no_more_tasks(crs):
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(BENCHMARK), "--years", "1", "--bands", "4", "--json", "--crs", crs,
         "--workers", "0"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["tasks"] <= found["chunks"] + 10
    assert found["pickled_mb"] < 0.2
