"""The tests themselves stay on this machine."""

from __future__ import annotations

import socket
import urllib.request

import pytest


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://192.0.2.1/", "http://[2001:db8::1]/"]
)
def test_other_machines_are_out_of_reach(url):
    with pytest.raises(RuntimeError, match="mark the test with `network`"):
        urllib.request.urlopen(url, timeout=1)  # noqa: S310 - http is meant


def test_invalid_names_are_unknown():
    with pytest.raises(socket.gaierror):
        socket.create_connection(("server.invalid", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_reachable(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
