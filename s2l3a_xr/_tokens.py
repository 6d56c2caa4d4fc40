"""Which requests an array comes from, also where its pixels have been computed."""

from __future__ import annotations

import numpy as np
import xarray as xr

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._rehearsal import tokens_to_read

_labels: dict[str, frozenset[object]] = {}
"""Times and bands of the requests that this process opened last, by token."""
_MOST = 1000


def remember(da: xr.DataArray) -> None:
    """Note what a request's array is labelled with.

    Parameters
    ----------
    da : xarray.DataArray
        As opened.
    """
    _labels[str(da.attrs["request"])] = _labels_of(da)
    for oldest in list(_labels)[:-_MOST]:
        _labels.pop(oldest, None)


def _labels_of(da: xr.DataArray) -> frozenset[object]:
    axes = (np.atleast_1d(da[name].to_numpy()) for name in ("time", "band") if name in da.coords)
    return frozenset(label for axis in axes for label in axis.tolist())


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
        _check_whole(da, tokens[0])
    if not tokens:
        msg = (
            "the array does not say which request it comes from: it was computed and lost its "
            "attrs, or is not from open_l3a; ask the array that was opened."
        )
        raise SelectionError(msg)
    return tokens


def _check_whole(da: xr.DataArray, token: str) -> None:
    """Refuse what was put together: attributes are those of its first part."""
    others = _labels_of(da) - _labels.get(token, _labels_of(da))
    if any(others & labels for labels in list(_labels.values())):
        msg = (
            "the array was put together of several requests, and its attrs name the first alone; "
            "ask each array that was opened, or this one before it is computed."
        )
        raise SelectionError(msg)
