"""The long matrix: every kind of fault, everywhere, once, for ever and by chance (`make faults`).

Pixels are right or there is a typed error, and where each request fails by chance they are right.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from faultkinds import SPOILERS
from faultserver import FaultServer

import s2l3a_xr
from s2l3a_xr import MissingError, S2L3AError, Transport

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("S2L3A_FAULTS"), reason="long; make faults runs it"),
    pytest.mark.filterwarnings("ignore::s2l3a_xr.S2L3AWarning"),
]

FILES = "S2_L3A_WASP/files/"
AOI = (11.68, 51.94, 11.74, 51.98)
STATUSES = (400, 401, 403, 404, 408, 410, 416, 425, 429, 451, 500, 502, 503, 504, 522, 524)
SLOW = {"drip": "drip:0.0001", "slow": "slow:200000"}
DRIP = "drip:0.02"
KINDS = (
    *(SLOW.get(kind, kind) for kind in SPOILERS),
    DRIP,
    *(f"s{status}" for status in STATUSES),
    *("s429ra:1", "s503ra:date1", "s503ra:past", "s503ra:garbage", "s429ra:86400", "s404once"),
)
MIX = "s500+s502+s503+s504+s429+reset0+closemid+resetmid"
PASSING = {
    *("none", "reset0", "close0", "closemid", "resetmid", "stall", "stall0", "keepalive-close"),
    *("short_cl", "short_chunked", "short_nocl", "shift_honest", "short_honest", "html200"),
    *("mirror_etag", "http10", *SLOW.values(), DRIP),
    *(kind for kind in KINDS if kind[:4] in {"s408", "s425", "s429", "s500", "s502", "s503"}),
    *("s504", "s522", "s524"),
}
"""What must leave no trace where it strikes once."""


def opened(url, **options):
    transport = Transport(
        max_attempts=options.pop("attempts", 14), idle_timeout_s=options.pop("idle_s", 0.5),
        max_retry_after_s=2,
    )  # fmt: skip
    asked = {"time": "2021-04/2021-05", "bands": ["B4", "B5"], "missing": "raise"}
    return s2l3a_xr.open_l3a(AOI, archive=url, transport=transport, **{**asked, **options})


@pytest.fixture
def site(sample_root):
    with FaultServer(sample_root) as running:
        yield running


@pytest.fixture(scope="module")
def expected(sample_root):
    with FaultServer(sample_root) as running:
        return opened(running.url(path=FILES)).to_numpy()


def outcome(url, expected):
    """Read it, and tell whether it came right or which error it was."""
    try:
        value = opened(url, attempts=4).to_numpy()
    except S2L3AError as exc:
        return exc
    np.testing.assert_array_equal(value, expected)
    return None


@pytest.mark.parametrize("many", [False, True], ids=["single", "parts"])
@pytest.mark.parametrize("amount", [{"count": 1}, {"count": float("inf")}, {"p": 0.3}], ids=str)
@pytest.mark.parametrize("scope", ["header", "tile", "listing"])
@pytest.mark.parametrize("kind", KINDS)
def test_right_or_an_error(site, expected, kind, scope, amount, many):
    if scope == "listing" and kind in {"zeros", "flip"}:
        pytest.skip("a listing carries no checksum")
    site.many = many
    url = site.url(kind, scope=scope, path=FILES, **amount)
    started = time.monotonic()
    error = outcome(url, expected)
    assert time.monotonic() - started < 30
    if error is not None:
        assert isinstance(error, S2L3AError)
        assert "http://127.0.0.1" in str(error) or "localhost" in str(error)
        assert scope != "listing" or not isinstance(error, MissingError) or kind[:4] in {
            "s404", "s410", "s451",
        }  # fmt: skip
    if amount == {"count": 1} and kind in PASSING:
        assert error is None, repr(error)
    site.heal(url)
    assert outcome(url, expected) is None, "a failure was remembered"


MONTHS = "2021-03/2021-10"
BANDS = ["B2", "B3", "B4", "B8", "B5", "B8A"]


@pytest.mark.parametrize("many", [False, True], ids=["single", "parts"])
@pytest.mark.parametrize("p", [0.05, 0.2, 0.4])
def test_ten_cubes_where_each_request_fails_by_chance(sample_root, p, many):
    """Section 2b: 42 files, all pixels right in ten runs of ten."""
    chosen = {"time": MONTHS, "bands": BANDS, "missing": "warn", "idle_s": 2}
    with FaultServer(sample_root, many=many) as site:
        started = time.monotonic()
        right = opened(site.url(path=FILES), **chosen).to_numpy()
        alone = time.monotonic() - started
    assert (right != -10000).any(axis=(2, 3)).sum() >= 36
    taken, struck, asked = [], 0, 0
    for run in range(10):
        with FaultServer(sample_root, many=many) as site:
            url = site.url(MIX, p=p, path=FILES, token=f"run{run}")
            started = time.monotonic()
            np.testing.assert_array_equal(opened(url, **chosen).to_numpy(), right)
            taken.append(time.monotonic() - started)
            struck += sum(entry.kind is not None for entry in site.log(url))
            asked += len(site.log(url))
    assert struck > asked * p / 2
    print(  # noqa: T201 - figures for whoever runs it with -s
        f"p={p:.0%} many={many}: 10 of 10 right, {struck} of {asked} requests struck, "
        f"median {np.median(taken):.2f} s, longest {max(taken):.2f} s, without faults {alone:.2f} s"
    )
