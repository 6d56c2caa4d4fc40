"""Tables that print what they amount to."""

from __future__ import annotations

import pickle

import pandas as pd
import pytest

from s2l3a_xr import open_l3a
from s2l3a_xr._tables import Table, summed_up

AOI = (11.68, 51.94, 11.74, 51.98)


def rows(count):
    return pd.DataFrame({"file": [f"{n}.tif" for n in range(count)], "bytes": range(count)})


def test_the_line_stands_above_the_rows():
    told = summed_up(rows(2), "2 files, 1 < 2 bytes")
    assert repr(told) == f"2 files, 1 < 2 bytes\n{rows(2)!r}"
    shown = told._repr_html_()
    assert shown.startswith("<div>2 files, 1 &lt; 2 bytes<div>")
    assert "1.tif" in shown


def test_an_empty_table_is_its_line():
    told = summed_up(rows(0), "nothing failed")
    assert repr(told) == "nothing failed"
    assert told._repr_html_() == "<div>nothing failed</div>"


def test_a_table_without_a_line_prints_as_ever():
    assert repr(Table(rows(1))) == repr(rows(1))


def test_plain_text_stays_plain_in_a_notebook():
    with pd.option_context("display.notebook_repr_html", False):
        assert summed_up(rows(1), "one")._repr_html_() is None


def test_what_is_made_from_it_is_plain_and_it_travels():
    told = summed_up(rows(3), "3 files")
    for made in (told[told["bytes"] > 0], told.sort_values("bytes"), told.head(1)):
        assert type(made) is pd.DataFrame
    again = pickle.loads(pickle.dumps(told))
    assert repr(again) == repr(told)
    pd.testing.assert_frame_equal(pd.DataFrame(again), rows(3), check_flags=False)


def test_tables_of_an_array_say_what_they_amount_to(fresh_server):
    da = open_l3a(AOI, time="2021-05", bands=["B4", "B8"], archive=fresh_server.url)
    plan = da.l3a.plan()
    assert repr(plan).startswith(f"2 files, {len(plan)} ranges, ")
    assert repr(da.l3a.requests()) == "nothing was asked of any host"
    da = da.compute()
    asked = da.l3a.requests()
    assert f"\n{pd.DataFrame(asked)!r}" in repr(asked)
    size = asked["bytes"].sum() / 1e3
    assert repr(asked).startswith(f"{asked['requests'].sum()} requests, {size:.3g} kB; 0 had to be")
    assert repr(da.l3a.failures()) == "nothing failed in what was computed"


@pytest.mark.filterwarnings("ignore::s2l3a_xr.ReadFailedWarning", "ignore::s2l3a_xr.MissingWarning")
def test_failures_are_counted_by_kind(fresh_server):
    from s2l3a_xr._sample import Fault  # noqa: PLC0415

    fresh_server.faults = [
        Fault(match=r"_B4\.tif$", kind="status", status=403),
        Fault(match=r"_B8\.tif$", kind="status", status=404),
    ]
    da = open_l3a(
        AOI, time="2021-05", bands=["B4", "B8"], archive=fresh_server.url, fail_on_error=False
    )
    told = da.compute().l3a.failures()
    gone, failed = ((told["status"] == kind).sum() for kind in ("gone", "failed"))
    assert (gone, failed) == (1, len(told) - 1)
    assert failed
    summary = f"{gone} listed file(s) gone, {failed} part(s) not read: nodata stands there\n"
    assert repr(told).startswith(summary)
