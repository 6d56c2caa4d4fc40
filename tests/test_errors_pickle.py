"""Errors come back from another process as what they were."""

from __future__ import annotations

import copy
import inspect
import pickle

import cloudpickle
import pytest

from s2l3a_xr import _errors

PLACE = {
    "url": "https://example.org/files/a.tif",
    "item": "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-3",
    "band": "B2",
    "month": "2021-03",
    "block": (3, 4),
    "byte_range": (1000, 2000),
    "status": 503,
    "attempts": 5,
}
ERRORS = [
    cls
    for _, cls in inspect.getmembers(_errors, inspect.isclass)
    if issubclass(cls, (_errors.S2L3AError, _errors.S2L3AWarning))
]
ROUND_TRIPS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "cloudpickle": lambda error: cloudpickle.loads(cloudpickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("round_trip", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
@pytest.mark.parametrize("place", [{}, PLACE], ids=["bare", "placed"])
@pytest.mark.parametrize("cls", ERRORS)
def test_errors_survive(cls, place, round_trip):
    error = cls("no answer") if issubclass(cls, Warning) else cls("no answer", **place)
    again = round_trip(error)
    assert type(again) is cls
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
