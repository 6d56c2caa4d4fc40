"""Which months are asked for, in the forms that users write."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from s2l3a_xr._errors import SelectionError

Month: TypeAlias = tuple[int, int]
"""Year and month."""

Numbers: TypeAlias = "int | str | Iterable[int]"
"""``2021``, ``[2020, 2021]``, ``range(3, 11)``, ``"3-10"`` or ``"3,5,7-9"``."""

_YEARS = range(2015, 2100)
_BEGIN, _END = (_YEARS[0], 1), (_YEARS[-1], 12)
_OPEN = (None, "", "..")
_TEXT = re.compile(r"\d{4}(-?Q[1-4]|-\d{1,2}|-\d\d-\d\d([T ].*)?)?", re.IGNORECASE)
_DASHES = str.maketrans("\u2013\u2014", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Months of some years.

    Parameters
    ----------
    listed : tuple of Month or None
        The very months, ascending; None where the archive decides, between its first and last.
    of_year : tuple of int
        Months of each year, where ``listed`` is None.
    first, last : Month or None
        Where ``listed`` is None, the earliest and the latest that count; None for an open end.
    """

    listed: tuple[Month, ...] | None
    of_year: tuple[int, ...] = tuple(range(1, 13))
    first: Month | None = None
    last: Month | None = None

    @property
    def years(self) -> tuple[int, ...] | None:
        """The years, ascending, or None for all that the archive has."""
        return None if self.listed is None else tuple(sorted({year for year, _ in self.listed}))

    def within(self, years: Iterable[int]) -> tuple[Month, ...]:
        """Name the months.

        Parameters
        ----------
        years : iterable of int
            Years that the archive has; used where none were asked for.

        Returns
        -------
        tuple of Month
            Ascending.
        """
        if self.listed is not None:
            return self.listed
        every = [(year, month) for year in sorted(set(years)) for month in self.of_year]
        first, last = self.first or _BEGIN, self.last or _END
        return tuple(month for month in every if first <= month <= last)

    def among(self, asked: Iterable[Month], present: Iterable[Month]) -> tuple[Month, ...]:
        """Drop what lies before or behind all that the archive has, at ends that are open.

        Parameters
        ----------
        asked : iterable of Month
            From `within`.
        present : iterable of Month
            What the archive has; at least one.

        Returns
        -------
        tuple of Month
            Those asked for, gaps between them included.
        """
        if self.listed is not None:
            return tuple(asked)
        there = set(present)
        first, last = self.first or min(there), self.last or max(there)
        return tuple(month for month in asked if first <= month <= last)


def select_months(years: Numbers | None, months: Numbers | None, time: Any) -> Selection:  # noqa: ANN401 - many forms
    """Understand what months a user asks for.

    Parameters
    ----------
    years, months : int, str or iterable of int, optional
        Every one of ``months`` in every one of ``years``.
    time : str, slice, date, datetime64, Period or sequence of those, optional
        ``"2021-03/2021-10"``, ``slice("2021-03", "2021-10")``, ``["2021-03", "2021-05"]``,
        ``"2021"``, ``"2021Q2"``; the end is included. ``"2021-03/.."`` is open.

    Returns
    -------
    Selection
        The months.

    Raises
    ------
    SelectionError
        Nothing is selected, something that is no month, or only months to come.

    Examples
    --------
    >>> select_months(2021, "3-5", None).listed
    ((2021, 3), (2021, 4), (2021, 5))
    >>> select_months(None, None, "2020-12/2021-01").listed
    ((2020, 12), (2021, 1))
    """
    if time is not None:
        if years is not None or months is not None:
            msg = "give either time=… or years=… and months=…, not both."
            raise SelectionError(msg)
        chosen = _read_open(time) or Selection(listed=tuple(sorted(set(_read_time(time)))))
        return _begun(chosen, f"time={time!r}")
    of_year = _read_numbers(months, "months", range(1, 13)) if months is not None else range(1, 13)
    if years is None:
        return Selection(listed=None, of_year=tuple(of_year))
    every = _read_numbers(years, "years", _YEARS)
    listed = tuple((year, month) for year in every for month in of_year)
    return _begun(Selection(listed=listed), f"years={years!r}, months={months!r}")


def _begun(selection: Selection, said: str) -> Selection:
    """Refuse what lies in the future as a whole; what only ends there may be a habit."""
    first = selection.listed[0] if selection.listed else selection.first
    today = dt.datetime.now(dt.UTC)
    if first is not None and first > (today.year, today.month):
        msg = (
            f"{said} lies in the future: today is {today:%Y-%m-%d} (by this machine's clock), and "
            "mosaics are of months that are over; ask for earlier ones."
        )
        raise SelectionError(msg)
    return selection


def _read_numbers(given: Numbers, name: str, allowed: range) -> list[int]:
    try:
        numbers = _parse_numbers(given) if isinstance(given, str) else _as_integers(given)
    except (TypeError, ValueError) as exc:
        msg = (
            f"{name}={given!r} is no number, list of numbers or text such as "
            f"{'2019-2021' if allowed is _YEARS else '3-10'!r} ({allowed[0]} to {allowed[-1]})."
        )
        raise SelectionError(msg) from exc
    if not numbers:
        msg = (
            f"{name}={given!r} selects nothing; give numbers of {allowed[0]} to {allowed[-1]}, a "
            "range from the smaller to the larger ('10-12,1-3' for winter), or None for all that "
            "the archive has."
        )
        raise SelectionError(msg)
    strange = sorted(set(numbers) - set(allowed))
    if strange:
        begins = " (the product begins in 2015)" if allowed is _YEARS else ""
        msg = (
            f"{name}={given!r}: {strange[0]} is not in {allowed[0]} to {allowed[-1]}{begins}; give "
            "numbers of those."
        )
        raise SelectionError(msg)
    return sorted(set(numbers))


def _parse_numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.translate(_DASHES).split(","):
        first, dash, last = part.partition("-")
        numbers += range(int(first), int(last) + 1) if dash else [int(first)]
    return numbers


def _as_integers(given: int | Iterable[int]) -> list[int]:
    given = np.asarray(given) if hasattr(given, "__array__") else given
    is_one = isinstance(given, int) or getattr(given, "ndim", 1) == 0
    values = np.asarray([given] if is_one else list(given))  # type: ignore[arg-type]
    if values.dtype.kind == "U":
        values = values.astype(int)
    if values.size and values.dtype.kind not in "iu":
        msg = "not integers"
        raise TypeError(msg)
    return [int(value) for value in values.ravel()]


def _plain(time: Any) -> Any:  # noqa: ANN401 - many forms
    """Make NumPy's, pandas' and xarray's into arrays, and those of no dimension into scalars."""
    return np.asarray(time)[()] if hasattr(time, "__array__") else time


def _ends(time: Any) -> tuple[Any, Any] | None:  # noqa: ANN401 - many forms
    """Give both ends of what is a span by its form."""
    if isinstance(time, str) and "/" in time:
        first, _, last = time.partition("/")
        return first.strip(), last.strip()
    if isinstance(time, slice):
        if time.step is not None:
            msg = f"time={time!r}: a slice of months has no step; leave it out."
            raise SelectionError(msg)
        return _plain(time.start), _plain(time.stop)
    return None


def _is_open(end: Any) -> bool:  # noqa: ANN401 - many forms
    return end is None or (isinstance(end, str) and end in _OPEN)


def _read_open(time: Any) -> Selection | None:  # noqa: ANN401 - many forms
    """Understand a span with an open end, where the archive decides."""
    first, last = _ends(time) or ("", "")
    if _ends(time) is None or not (_is_open(first) or _is_open(last)):
        return None
    begin = None if _is_open(first) else _month(first, time, "start")
    end = None if _is_open(last) else _month(last, time, "end")
    return Selection(listed=None, first=begin, last=end)


def _read_time(time: Any) -> list[Month]:  # noqa: ANN401 - many forms
    time = _plain(time)
    ends = _ends(time)
    if ends is not None:
        if any(map(_is_open, ends)):
            msg = f"time={time!r} has an open end and can't stand in a list; give both ends."
            raise SelectionError(msg)
        return _span(*ends, time)
    if isinstance(time, str) or not isinstance(time, Iterable):
        return _span(time, time, time)
    found = [month for part in time for month in _read_time(part)]
    if not found:
        msg = f"time={time!r} selects nothing; write '2021-03', '2021-03/2021-10' or '2021-03/..'."
        raise SelectionError(msg)
    return found


def _span(first: Any, last: Any, whole: Any) -> list[Month]:  # noqa: ANN401 - many forms
    begin, end = _month(first, whole, "start"), _month(last, whole, "end")
    if end < begin:
        msg = f"time={whole!r} ends before it begins; write the earlier month first."
        raise SelectionError(msg)
    years = range(begin[0], end[0] + 1)
    return [(y, m) for y in years for m in range(1, 13) if begin <= (y, m) <= end]


def _month(value: Any, whole: Any, side: str) -> Month:  # noqa: ANN401 - many forms
    """Give the first or the last month of a month, quarter, year or moment."""
    try:
        period = _period(value, side)
    except (TypeError, ValueError) as exc:
        hint = " For whole years write years=2021." if isinstance(value, int | np.integer) else ""
        if isinstance(whole, str) and re.fullmatch(r"\d{4}/\d{1,2}", whole):
            hint = " A slash stands between two ends."
        msg = (
            f"time={whole!r}: {value!r} is no month; write '2021-03', '2021-03/2021-10', "
            f"'2021-03/..', a date, datetime64 or pandas Period.{hint}"
        )
        raise SelectionError(msg) from exc
    if period.year not in _YEARS:
        msg = f"time={whole!r}: the product begins in {_YEARS[0]}; ask for later months."
        raise SelectionError(msg)
    return period.year, period.month


def _period(value: Any, side: str) -> pd.Period:  # noqa: ANN401 - many forms
    if isinstance(value, str):
        value = value.strip()
        if not _TEXT.fullmatch(value):  # pandas would guess: "03" is a day of the year 1
            msg = "no month of ISO 8601"
            raise ValueError(msg)
        if len(value) < len("2021-03-01"):
            value = pd.Period(value)
    elif isinstance(value, np.datetime64) and np.datetime_data(value)[0] == "Y":
        value = pd.Period(str(value), freq="Y")
    if isinstance(value, pd.Period):
        return value.asfreq("M", how=side)
    if isinstance(value, int | float | np.number) or pd.isna(value):
        msg = "a bare number or no time"
        raise TypeError(msg)
    return pd.Timestamp(value).tz_localize(None).to_period("M")


def month_text(month: Month) -> str:
    """Write a month as people do.

    Parameters
    ----------
    month : Month
        Year and month.

    Returns
    -------
    str
        ``YYYY-MM``.
    """
    return f"{month[0]:04}-{month[1]:02}"


def spans_text(months: Sequence[Month]) -> str:
    """Write months as people do, three and more in a row by the first and the last.

    Parameters
    ----------
    months : sequence of Month
        Ascending.

    Returns
    -------
    str
        Such as ``2020-11 to 2021-03, 2021-07``.

    Examples
    --------
    >>> spans_text([(2020, 11), (2020, 12), (2021, 1), (2021, 7), (2021, 8)])
    '2020-11 to 2021-01, 2021-07, 2021-08'
    """
    runs: list[list[Month]] = []
    for year, month in months:
        before = (year, month - 1) if month > 1 else (year - 1, 12)
        if runs and runs[-1][-1] == before:
            runs[-1].append((year, month))
        else:
            runs.append([(year, month)])
    texts = [[f"{year:04}-{month:02}" for year, month in run] for run in runs]
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run)  # noqa: PLR2004
        for run in texts
    )
