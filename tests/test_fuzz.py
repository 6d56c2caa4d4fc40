"""Foreign input of any kind ends in a typed error or in something that can be; see `fuzz/`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.strategies import STRATEGIES
from tests.fuzz.targets import CORPUS, TARGETS, corpus

SLOW = {"aoi": 30, "inventory": 60}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_passes(target):
    for data in corpus(target).values():
        TARGETS[target](data)


def test_the_corpus_stays_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("target", TARGETS)
def test_only_typed_errors_escape(target):
    @settings(max_examples=SLOW.get(target, 150), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data):
        TARGETS[target](data.draw(STRATEGIES[target]))

    fuzz()
