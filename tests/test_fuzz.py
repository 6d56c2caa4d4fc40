"""Foreign input of any kind ends in a typed error or in something that can be; see `fuzz/`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutants import CHECKED, LONGEST_S, MOST_MB, SPECS, Outcome, run, run_apart
from tests.fuzz.strategies import STRATEGIES
from tests.fuzz.targets import CORPUS, TARGETS, corpus

SLOW = {"aoi": 30, "inventory": 60, "request": 60}


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


@pytest.mark.parametrize("name", SPECS)
def test_mutants_of_files_are_refused_or_read_alike(name):
    tally = run(name, 60, seed=11)
    assert tally.errors > 20
    assert tally.slowest_s < LONGEST_S
    # A legal predictor in the place of another is all that may pass in a header by itself.
    known = ("header: predictor", "header: other places", "header: other lengths")
    assert all(what.startswith(("block", *known)) for what in tally.silent)
    if name in CHECKED:
        assert not any(what.startswith("block") for what in tally.silent)


def test_mutants_need_little_memory():
    tally = run_apart("deflate, framed", 150, seed=12)
    assert isinstance(tally, Outcome), tally
    assert tally.errors + tally.alike == 150
    assert 50 < tally.peak_mb <= MOST_MB
