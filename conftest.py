"""What tests and doctests share: the sample archive and a server for it.

Doctests under ``s2l3a_xr/`` see only this file, not ``tests/conftest.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2l3a_xr._sample import SampleServer, StacSite, build_sample_archive

os.environ.pop("S2L3A_ARCHIVE", None)  # the user's own is nothing to tests

SERVED = "http://127.0.0.1:8000"
"""Where examples expect ``s2l3a serve-sample``."""


@pytest.fixture(scope="session")
def sample_root() -> Path:
    """Build the sample archive in the user's cache, where it is not there yet."""
    return build_sample_archive()


@pytest.fixture(scope="session")
def sample_server(sample_root: Path) -> Iterator[SampleServer]:
    """Serve the sample archive for the whole run; tests take `server`."""
    with SampleServer(sample_root) as running:
        yield running


@pytest.fixture(scope="session")
def sample_archive_url(sample_server: SampleServer) -> str:
    """Give the base URL of the sample archive, as `archive=` wants it."""
    return sample_server.url


@pytest.fixture(autouse=True)
def _example_place(request: pytest.FixtureRequest) -> None:
    """Run examples in a folder of their own, and against the run's server."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
    for example in request.node.dtest.examples:
        if SERVED in example.source:
            origin = request.getfixturevalue("sample_server").origin
            example.source = example.source.replace(SERVED, origin)


@pytest.fixture
def server(sample_server: SampleServer) -> Iterator[SampleServer]:
    """Lend the run's server with an empty log; knobs turned by a test are turned back.

    The package remembers listings and headers by URL: what another test has read of this
    server is not asked for again. Use `fresh_server` where that matters.
    """
    sample_server.clear_log()
    yield sample_server
    sample_server.faults = []
    sample_server.latency_s = 0.0
    sample_server.bytes_per_s = None
    sample_server.listing = "table"
    sample_server.stac = StacSite()
    sample_server.clear_log()


@pytest.fixture
def fresh_server(sample_root: Path) -> Iterator[SampleServer]:
    """Serve the sample archive for one test, so that nothing of it is cached."""
    with SampleServer(sample_root) as running:
        yield running
