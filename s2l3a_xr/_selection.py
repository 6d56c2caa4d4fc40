"""Which months are asked for, in the forms that users write."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_OPEN = (None, "", "..")
_WHOLE_YEAR = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Months of some years.

    Parameters
    ----------
    listed : tuple of Month or None
        The very months, ascending; None where the years are all that the archive has.
    of_year : tuple of int
        Months of each year, where ``listed`` is None.
    """

    listed: tuple[Month, ...] | None
    of_year: tuple[int, ...] = tuple(range(1, 13))

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
        return tuple((year, month) for year in sorted(set(years)) for month in self.of_year)


def select_months(years: Numbers | None, months: Numbers | None, time: Any) -> Selection:  # noqa: ANN401 - many forms
    """Understand what months a user asks for.

    Parameters
    ----------
    years, months : int, str or iterable of int, optional
        Every one of ``months`` in every one of ``years``.
    time : str, slice, datetime64, Period or sequence of those, optional
        ``"2021-03/2021-10"``, ``slice("2021-03", "2021-10")``, ``["2021-03", "2021-05"]``;
        the end is included.

    Returns
    -------
    Selection
        The months.

    Raises
    ------
    SelectionError
        Nothing is selected, or something that is no month.

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
        return Selection(listed=tuple(sorted(set(_read_time(time)))))
    of_year = _read_numbers(months, "months", range(1, 13)) if months is not None else range(1, 13)
    if years is None:
        return Selection(listed=None, of_year=tuple(of_year))
    chosen = _read_numbers(years, "years", _YEARS)
    return Selection(listed=tuple((year, month) for year in chosen for month in of_year))


def _read_numbers(given: Numbers, name: str, allowed: range) -> list[int]:
    try:
        numbers = _parse_numbers(given) if isinstance(given, str) else _as_integers(given)
    except (TypeError, ValueError) as exc:
        msg = f"{name}={given!r} is no number, list of numbers or text such as '3-10' or '3,5,7'."
        raise SelectionError(msg) from exc
    if not numbers:
        msg = f"{name}={given!r} selects nothing."
        raise SelectionError(msg)
    strange = sorted(set(numbers) - set(allowed))
    if strange:
        msg = f"{name}={given!r}: {strange[0]} is not in {allowed[0]} to {allowed[-1]}."
        raise SelectionError(msg)
    return sorted(set(numbers))


def _parse_numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers += range(int(first), int(last) + 1) if dash else [int(first)]
    return numbers


def _as_integers(given: int | Iterable[int]) -> list[int]:
    values = np.asarray([given] if isinstance(given, int | np.integer) else list(given))
    if values.size and values.dtype.kind not in "iu":
        msg = "not integers"
        raise TypeError(msg)
    return [int(value) for value in values.ravel()]


def _read_time(time: Any) -> list[Month]:  # noqa: ANN401 - many forms
    if hasattr(time, "__array__"):  # NumPy's, pandas' and xarray's; of no dimension it is a scalar
        time = np.asarray(time)[()]
    if isinstance(time, str) and "/" in time:
        first, _, last = time.partition("/")
        return _span(first.strip(), last.strip(), time)
    if isinstance(time, slice):
        if time.step is not None:
            msg = f"time={time!r}: a slice of months has no step."
            raise SelectionError(msg)
        return _span(time.start, time.stop, time)
    if isinstance(time, str) or np.ndim(time) == 0:
        return _span(time, time, time)
    found = [month for part in time for month in _read_time(part)]
    if not found:
        msg = f"time={time!r} selects nothing."
        raise SelectionError(msg)
    return found


def _span(first: Any, last: Any, whole: Any) -> list[Month]:  # noqa: ANN401 - many forms
    if first in _OPEN or last in _OPEN:
        msg = f"time={whole!r} is open; give both ends, or years=… alone for whole years."
        raise SelectionError(msg)
    begin, end = _period(first, whole, "start"), _period(last, whole, "end")
    if end < begin:
        msg = f"time={whole!r} ends before it begins."
        raise SelectionError(msg)
    if begin.year not in _YEARS or end.year not in _YEARS:
        msg = f"time={whole!r}: the product begins in {_YEARS[0]}."
        raise SelectionError(msg)
    return [(p.year, p.month) for p in pd.period_range(begin, end, freq="M")]


def _period(value: Any, whole: Any, side: str) -> pd.Period:  # noqa: ANN401 - many forms
    try:
        if isinstance(value, str) and _WHOLE_YEAR.fullmatch(value):
            value = pd.Period(value, freq="Y")
        if isinstance(value, pd.Period):
            return value.asfreq("M", how=side)
        if isinstance(value, int | float | np.number) or pd.isna(value):
            msg = "a bare number or no time"
            raise TypeError(msg)  # noqa: TRY301 - one message for every bad form
        return pd.Timestamp(value).tz_localize(None).to_period("M")
    except (TypeError, ValueError) as exc:
        msg = (
            f"time={whole!r}: {value!r} is no month; write '2021-03', '2021-03/2021-10', "
            "a datetime64 or a pandas Period."
        )
        raise SelectionError(msg) from exc
