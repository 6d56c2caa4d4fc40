"""Months, in all the forms that users write them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._selection import select_months

YEAR = tuple((2021, month) for month in range(1, 13))


def months_of(year, *months):
    return tuple((year, month) for month in months)


@pytest.mark.parametrize(
    "years",
    [
        2021,
        "2021",
        [2021],
        (2021, 2021),
        {2021},
        range(2021, 2022),
        np.int64(2021),
        np.array([2021], "i2"),
        pd.Index([2021]),
        pd.Series([2021]),
        np.array(2021),
        xr.DataArray(2021),
        frozenset({np.uint16(2021)}),
        pytest.param(iter([2021]), id="iterator"),
    ],
    ids=repr,
)
def test_one_year_in_any_form(years):
    assert select_months(years, 3, None).listed == ((2021, 3),)


@pytest.mark.parametrize(
    ("months", "expected"),
    [
        (None, tuple(range(1, 13))),
        (3, (3,)),
        ("3-5", (3, 4, 5)),
        ("5,3,7-9", (3, 5, 7, 8, 9)),
        (" 3 - 4 , 10", (3, 4, 10)),
        (range(3, 11), (3, 4, 5, 6, 7, 8, 9, 10)),
        ([10, 3, 3], (3, 10)),
        (("10", "3"), (3, 10)),
        ({7, 3}, (3, 7)),
        ("3,4,7-9", (3, 4, 7, 8, 9)),
        ("3\u20135", (3, 4, 5)),  # as text processors write it
        (np.arange(1, 3), (1, 2)),
        (np.int8(3), (3,)),
        ((month for month in (4, 3)), (3, 4)),
    ],
)
def test_months_are_sorted_and_unique(months, expected):
    selection = select_months(2021, months, None)
    assert selection.listed == months_of(2021, *expected)
    assert selection.within([1999]) == selection.listed
    assert selection.years == (2021,)


def test_months_of_each_year():
    assert select_months("2020-2021", [1, 12], None).listed == (
        (2020, 1),
        (2020, 12),
        (2021, 1),
        (2021, 12),
    )


def test_without_years_those_of_the_archive():
    selection = select_months(None, [5, 6], None)
    assert selection.years is None
    assert selection.within([2020, 2018, 2020]) == (
        *months_of(2018, 5, 6),
        *months_of(2020, 5, 6),
    )
    assert select_months(None, None, None).within([2021]) == YEAR


@pytest.mark.parametrize(
    "time",
    [
        "2021-03",
        "2021-3",
        " 2021-03 ",
        "2021-03-31",
        "2021-03-31T23:59:00Z",
        " 2021-03 / 2021-03 ",
        "2021-03-01/2021-03-20",
        dt.date(2021, 3, 31),
        dt.datetime(2021, 3, 31, 23, 59, tzinfo=dt.UTC),
        np.datetime64("2021-03-15"),
        np.datetime64("2021-03"),
        np.array("2021-03", "M8[M]"),
        np.array(["2021-03-15"], "M8[ns]"),
        pd.Timestamp("2021-03-15", tz="Europe/Berlin"),
        pd.Period("2021-03"),
        pd.Period("2021-03-07"),
        pd.DatetimeIndex(["2021-03-01", "2021-03-31"]),
        pd.PeriodIndex(["2021-03"], freq="M"),
        pd.Series(pd.to_datetime(["2021-03-15"])),
        xr.DataArray(np.array(["2021-03-15"], "M8[ns]"), dims="time"),
        xr.DataArray(np.array(["2021-03-15"], "M8[ns]"), dims="time")[0],
        ["2021-03", "2021-03-15", pd.Period("2021-03")],
        slice("2021-03", "2021-03"),
        slice(dt.date(2021, 3, 1), dt.date(2021, 3, 31)),
        slice(np.datetime64("2021-03"), pd.Timestamp("2021-03-31")),
        {"2021-03"},
        pd.Index(["2021-03"]),
        (pd.Timestamp("2021-03-01"), dt.date(2021, 3, 2)),
    ],
    ids=repr,
)
def test_one_month_in_any_form(time):
    assert select_months(None, None, time).listed == ((2021, 3),)


@pytest.mark.parametrize(
    "time",
    [
        "2021",
        "2021/2021",
        slice("2021", "2021"),
        pd.Period("2021"),
        "2021-01/2021-12",
        ["2021"],
        np.datetime64("2021"),
        np.array(["2021"], "M8[Y]"),
        ["2021Q1", "2021-Q2", "2021-q3", pd.Period("2021Q4")],
        "2021Q1/2021Q4",
        pd.period_range("2021", periods=4, freq="Q"),
        pd.period_range("2021", periods=12, freq="M"),
    ],
    ids=repr,
)
def test_whole_years_and_quarters(time):
    assert select_months(None, None, time).listed == YEAR


def test_spans_hold_both_ends_and_cross_years():
    expected = ((2020, 11), (2020, 12), (2021, 1))
    assert select_months(None, None, "2020-11/2021-01").listed == expected
    assert select_months(None, None, slice("2020-11-30", "2021-01-01")).listed == expected
    assert select_months(None, None, ["2021-01", "2020-11/2020-12"]).listed == expected


@pytest.mark.parametrize(
    ("time", "first", "last"),
    [
        ("2021-03/..", (2021, 3), None),
        ("2021-03/", (2021, 3), None),
        ("../2021", None, (2021, 12)),
        ("2021/..", (2021, 1), None),
        (slice("2021-03", None), (2021, 3), None),
        (slice(None, pd.Period("2021Q2")), None, (2021, 6)),
        (slice(np.datetime64("2021-03-15"), None), (2021, 3), None),
        ("../..", None, None),
        (slice(None), None, None),
    ],
    ids=repr,
)
def test_at_an_open_end_the_archive_decides(time, first, last):
    selection = select_months(None, None, time)
    assert (selection.listed, selection.first, selection.last) == (None, first, last)
    asked = selection.within([2020, 2021, 2022])
    assert asked[0] == (first or (2020, 1))
    assert asked[-1] == (last or (2022, 12))
    there = selection.among(asked, [(2021, 4), (2021, 6)])
    assert there[0] == (first or (2021, 4))
    assert there[-1] == (last or (2021, 6))


@given(
    st.tuples(st.integers(2015, 2025), st.integers(1, 12)),  # later ones would lie in the future
    st.tuples(st.integers(2015, 2099), st.integers(1, 12)),
)
def test_a_span_is_every_month_between(one, other):
    first, last = sorted((one, other))
    text = "{:04}-{:02}/{:04}-{:02}".format(*first, *last)
    every = [(year, month) for year in range(2015, 2100) for month in range(1, 13)]
    expected = tuple(month for month in every if first <= month <= last)
    assert select_months(None, None, text).listed == expected


@pytest.mark.parametrize(
    ("years", "months", "words"),
    [
        (2014, None, "years=2014: 2014 is not in 2015 to 2099 .the product begins in 2015"),
        ([], None, r"years=\[\] selects nothing; give numbers of 2015 to 2099"),
        (range(2021, 2021), None, "selects nothing"),
        ("2021/2022", None, "is no number"),
        (2021, [], r"months=\[\] selects nothing; give numbers of 1 to 12"),
        (2021, 13, "months=13: 13 is not in 1 to 12"),
        (2021, 0, "months=0: 0 is not in 1 to 12"),
        (2021, "10-3", "months='10-3' selects nothing; .* to the larger .'10-12,1-3' for winter"),
        (2021, "March", "months='March' is no number, list of numbers or text such as '3-10'"),
        (2021, "3-", "months='3-' is no number"),
        (2021, "", "months='' is no number"),
        (2021, 3.0, "months=3.0 is no number"),
        (2021, [3.5], "is no number"),
        (2021, ["3-4"], "is no number"),
        (2021, True, "months=True is no number"),
        (2021, [None], "is no number"),
    ],
)
def test_wrong_numbers(years, months, words):
    with pytest.raises(SelectionError, match=words):
        select_months(years, months, None)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (["2021-03/.."], "'2021-03/..' has an open end and can't stand in a list"),
        ("2014-12/..", "the product begins in 2015"),
        ("", "'' is no month"),
        ("03", "'03' is no month"),  # pandas takes it for a day of the year 1
        ("03/2021", "'03' is no month"),
        ("2021/03", "'03' is no month; write '2021-03'.* A slash stands between two ends"),
        ("now", "'now' is no month"),
        ("2021-03/2021-10/2", "is no month"),
        ("2021-05/2021-03", "ends before it begins"),
        ("2014-12/2021-01", "the product begins in 2015"),
        ("spring", "'spring' is no month; write '2021-03', '2021-03/2021-10'"),
        ("2021-13", "'2021-13' is no month"),
        ("2021-03/P2M", "'P2M' is no month"),
        (2021, "2021 is no month.* years=2021"),
        (2021.0, "is no month"),
        (np.int64(2021), "is no month"),
        ([2021, 2022], "is no month"),
        ([], "selects nothing"),
        (np.array([], "M8[ns]"), "selects nothing"),
        (slice("2021-03", "2021-08", 2), "has no step"),
        (np.datetime64("NaT", "D"), "is no month"),
        (pd.NaT, "is no month"),
    ],
    ids=repr,
)
def test_wrong_times(time, words):
    with pytest.raises(SelectionError, match=words):
        select_months(None, None, time)


@pytest.mark.parametrize("others", [{"years": 2021}, {"months": 3}])
def test_time_or_years_and_months(others):
    with pytest.raises(SelectionError, match="not both"):
        select_months(**{"years": None, "months": None, **others}, time="2021-03")
