"""Which requests an array comes from, also where its pixels have been computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._rehearsal import tokens_to_read
from s2l3a_xr._selection import Month, month_text

_months: dict[str, tuple[Month, ...]] = {}
"""Of requests that this process opened, by token."""


def remember(array: L3AArray) -> None:
    """Note what a request's token stands for.

    Parameters
    ----------
    array : L3AArray
        As opened.
    """
    _months[array.token] = array.request.months


def tokens_of(da: xr.DataArray) -> tuple[str, ...]:
    """Name the requests that an array comes from, by its graph or else by its attributes.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from such arrays.

    Returns
    -------
    tuple of str
        Tokens of requests.

    Raises
    ------
    SelectionError
        It does not say.
    """
    tokens = tokens_to_read(da)
    if not tokens and "request" in da.attrs:
        tokens = (str(da.attrs["request"]),)
        _check_months(da, tokens[0])
    if not tokens:
        msg = (
            "the array does not say which request it comes from: it was computed and lost its "
            "attrs, or is not from open_l3a; ask the array that was opened."
        )
        raise SelectionError(msg)
    return tokens


def _check_months(da: xr.DataArray, token: str) -> None:
    """Refuse what was put together: attributes are those of its first part."""
    if token not in _months or da.coords.get("time", xr.DataArray(0)).dtype.kind != "M":
        return
    times = pd.DatetimeIndex(np.atleast_1d(da["time"].to_numpy()))
    others = sorted({*zip(times.year, times.month, strict=True)} - {*_months[token]})
    if others:
        msg = (
            f"the array was put together of several requests, and its attrs name one that has no "
            f"{month_text(others[0])}; ask each array that was opened, or this one before it is "
            "computed."
        )
        raise SelectionError(msg)
