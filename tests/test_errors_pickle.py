"""Errors come back from another process as what they were."""

from __future__ import annotations

import copy
import inspect
import pickle
import time

import cloudpickle
import pytest

from s2l3a_xr import _errors

PLACE = {
    "url": "https://example.org/files/a.tif",
    "item": "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-3",
    "tile": "32UPC",
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


PRIVATE = "https://me:secret@example.org/files/a.tif?token=secret#secret"


@pytest.mark.parametrize("url", [PRIVATE, "s3://key:secret@bucket/a.tif", "zip::" + PRIVATE])
@pytest.mark.parametrize("round_trip", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_secrets_reach_neither_message_nor_attributes(url, round_trip):
    errors = [
        _errors.TransportError(f"'{url}', it says.", url=url, status=500),
        _errors.TransportError(f"no answer from {url}").at(url=url, band="B4"),
        _errors.ArchiveError(f"nothing at {url}; look elsewhere"),
        _errors.SelectionError(f"archive={url!r} is no place."),
    ]
    for error in map(round_trip, errors):
        assert "secret" not in f"{error} {error!r} {vars(error)} {error.args}"
        assert "a.tif" in str(error)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("see http://h/a?b, or 'http://u:p@h/c'.", "see http://h/a, or 'http://h/c'."),
        ("http://me@home:pw@h/a (http://h)", "http://h/a (http://h)"),
        ("no URL: a//b@c?d", "no URL: a//b@c?d"),
    ],
)
def test_what_surrounds_a_url_stays(message, shown):
    assert str(_errors.S2L3AError(message)) == shown


@pytest.mark.parametrize("run", [" ", "a", "a.", "\t", "\n", " \n", "://", "a://", "@", "?"])
def test_no_text_of_a_server_takes_longer_than_it_is_long(run):
    started = time.monotonic()
    error = _errors.TransportError("it said: " + run * 300_000 + "!", url="http://x.invalid/a")
    assert str(error).startswith("it said:")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "kind", [_errors.TransportError, _errors.FormatError, _errors.FileChangedError]
)
def test_no_text_of_a_server_takes_the_place_of_the_next_step(kind):
    for status in (None, 403):
        error = pickle.loads(
            pickle.dumps(kind("it said: go away; now", url="http://x.invalid/a", status=status))
        )
        assert error.hint
        assert str(error).endswith(f"; {error.hint}")


def test_what_is_known_is_not_overwritten():
    error = _errors.FormatError("broken", band="B2").at(band="B3", month="2021-03")
    assert (error.band, error.month, error.tile) == ("B2", "2021-03", None)
