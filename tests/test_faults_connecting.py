"""What goes wrong before a server says anything: TLS and dead addresses (rows 4, 5, 49)."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from faultserver import FaultServer

from s2l3a_xr import Transport, TransportError
from s2l3a_xr._sample._port import listen
from s2l3a_xr._transport import run_with_session

QUICK = Transport(max_attempts=3, connect_timeout_s=2, idle_timeout_s=2)


@pytest.fixture
def secured(sample_root, tmp_path):
    """Serve over TLS, with a certificate that is right but for what a test asks for."""
    running = []

    def serve(name: str = "localhost", *, days: float = 90, known: bool = True):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ends = datetime.now(UTC) + timedelta(days=days)
        authority.issue_cert(
            name, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=ends
        ).configure_cert(context)
        (authority if known else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
        server = FaultServer(sample_root, tls=context).__enter__()
        server.host = "localhost"
        running.append(server)
        return server

    yield serve
    for server in running:
        server.__exit__(None, None, None)


READ = """
import sys
from s2l3a_xr import Transport, TransportError, search_l3a
try:
    found = search_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=sys.argv[1],
                       transport=Transport(max_attempts=3, idle_timeout_s=5))
    print("found", found.available)
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def read(url, tmp_path):
    """Read in a process of its own: authorities are looked up when it starts."""
    environment = {k: v for k, v in os.environ.items() if "SSL" not in k}
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", READ, url],
        capture_output=True, text=True, check=False, timeout=60,
        env=environment | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_4_a_certificate_of_a_known_authority_is_taken(secured, tmp_path):
    assert read(secured().url(path="S2_L3A_WASP/files/"), tmp_path) == "found 4\n"


@pytest.mark.parametrize(
    "wrong",
    [{"known": False}, {"days": -1}, {"name": "other.example"}],
    ids=lambda w: next(iter(w)),
)
def test_4_no_other_certificate_is(secured, tmp_path, wrong):
    server = secured(**wrong)
    url = server.url(path="S2_L3A_WASP/files/")
    said = read(url, tmp_path)
    assert "certificate" in said
    assert "attempts 1" in said
    assert "localhost" in said
    assert not server.log(url)


def test_34_https_never_leads_to_http(secured, tmp_path):
    server = secured()
    with FaultServer(server.root) as plain:
        location = f"http://localhost:{plain.port}/none/none/S2_L3A_WASP/files/"
        url = server.url(f"redirfile:{location}", count=float("inf"), path="S2_L3A_WASP/files/")
        said = read(url, tmp_path)
        assert "not followed" in said
        assert "attempts 1" in said
        assert server.log(url)
        assert not plain.log("none")


class Cutter:
    """Hangs up in the middle of each handshake, and counts them."""

    def __init__(self):
        self.socket = listen()
        self.hellos = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            line, _ = self.socket.accept()
            with line:
                if not line.recv(1):  # the test's end
                    return
                self.hellos += 1

    def close(self):
        with socket.create_connection(self.socket.getsockname()):
            pass
        self.thread.join()
        self.socket.close()


def test_5_a_handshake_that_is_cut_is_tried_again():
    cutter = Cutter()
    port = cutter.socket.getsockname()[1]
    try:
        with pytest.raises(TransportError, match=f"127.0.0.1:{port}.*attempts 3"):
            run_with_session(QUICK, lambda s: s.read(f"https://127.0.0.1:{port}/a.tif", 0, 9))
    finally:
        cutter.close()
    assert cutter.hellos == 3


def test_49_an_address_that_is_dead_is_no_obstacle(sample_root, monkeypatch):
    """A name leads to ::1, where nobody listens, before it leads to 127.0.0.1."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    known = socket.getaddrinfo

    def both(host, port, *args, **kwargs):
        if host != "two.localhost":
            return known(host, port, *args, **kwargs)
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        return [six, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with FaultServer(sample_root) as server:
        path = next(sample_root.rglob("*_FRC_B4.tif")).relative_to(sample_root).as_posix()
        url = server.url(path=path).replace("127.0.0.1", "two.localhost")
        monkeypatch.setattr(socket, "getaddrinfo", both)
        reply = run_with_session(
            Transport(max_attempts=3, connect_timeout_s=3), lambda session: session.read(url, 0, 4)
        )
    assert bytes(reply.data) == b"II*\0"
