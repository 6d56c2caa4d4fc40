"""Byte reads against a server that fails on demand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l3a_xr._errors import FileChangedError, GoneError, SelectionError, TransportError
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._sample._port import listen
from s2l3a_xr._transport import Transport, run_with_session
from s2l3a_xr._transport._multipart import PartParser, PartsError

CONTENT = bytes(range(256)) * 400
PATIENCE = {"idle_timeout_s": 0.3, "max_attempts": 4}


@pytest.fixture(scope="module")
def _site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    (root / "a.bin").write_bytes(CONTENT)
    (root / "b.bin").write_bytes(CONTENT[::-1])
    with (root / "huge.bin").open("wb") as stream:
        stream.truncate(200 * 2**20)
    with SampleServer(root) as server:
        yield server


@pytest.fixture
def site(_site):
    yield _site
    _site.faults = []
    _site.clear_log()


def read(site, start=1000, stop=3000, *, path="/a.bin", **settings):
    transport = Transport(**{**PATIENCE, **settings})
    return run_with_session(transport, lambda s: s.read(site.origin + path, start, stop))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, len(CONTENT)), (1000, 3000), (len(CONTENT) - 1, len(CONTENT))]
)
def test_a_range_is_answered_by_exactly_that_range(site, start, stop):
    reply = read(site, start, stop)
    assert reply.data == CONTENT[start:stop]
    assert reply.total == len(CONTENT)
    assert all(reply.stamp)
    assert [(r.method, r.range, r.status) for r in site.log] == [("GET", (start, stop), 206)]


def test_a_range_past_the_end_gives_what_there_is(site):
    assert read(site, len(CONTENT) - 10, len(CONTENT) + 10).data == CONTENT[-10:]


PASSING = {
    **{
        f"status {status}": Fault(match="a.bin", kind="status", status=status, count=2)
        for status in (408, 429, 500, 502, 503, 504)
    },
    **{
        kind: Fault(match="a.bin", kind=kind, count=2)
        for kind in (
            "reset", "close", "truncate", "reset_mid", "short", "short_range", "wrong_range",
        )
    },
    "extra": Fault(match="a.bin", kind="extra", count=2),
    "stall": Fault(match="a.bin", kind="stall", seconds=3, count=1),
    "stall_mid": Fault(match="a.bin", kind="stall_mid", seconds=3, count=1),
}  # fmt: skip


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_survived(site, fault):
    site.faults = [fault]
    started = time.monotonic()
    assert read(site).data == CONTENT[1000:3000]
    assert read(site, 0, 500).data == CONTENT[:500]
    assert time.monotonic() - started < 2.5


def test_slow_is_not_silent(site):
    site.faults = [Fault(match="a.bin", kind="drip", seconds=0.1)]
    assert read(site, 0, 8).data == CONTENT[:8]
    assert len(site.log) == 1


LASTING = {
    "503": (Fault(match="a.bin", kind="status", status=503), 4, "answered 503"),
    "reset": (Fault(match="a.bin", kind="reset"), 4, "the connection broke"),
    "truncate": (Fault(match="a.bin", kind="truncate"), 4, "the connection broke"),
    "wrong_range": (
        Fault(match="a.bin", kind="wrong_range"), 4, "asked for bytes 1000-2999, the server sent",
    ),
    "stall": (Fault(match="a.bin", kind="stall", seconds=5), 3, r"no byte came for 0\.3 s"),
    "stall_mid": (Fault(match="a.bin", kind="stall_mid", seconds=5), 3, "no byte came for"),
    "401": (Fault(match="a.bin", kind="status", status=401), 1, "answered 401"),
    "403": (Fault(match="a.bin", kind="status", status=403), 1, "answered 403"),
    "416": (Fault(match="a.bin", kind="status", status=416), 2, "the file shrank"),
    "html": (Fault(match="a.bin", kind="html"), 2, "HTML instead of TIFF, beginning '<!DOCTYPE"),
    "html_range": (Fault(match="a.bin", kind="html_range"), 2, "HTML instead of TIFF"),
    "multipart": (
        Fault(match="a.bin", kind="etag", headers={"Content-Type": "multipart/byteranges"}),
        1, "multipart/byteranges instead",
    ),
    "no_sense_in_content_range": (
        Fault(match="a.bin", kind="etag", headers={"Content-Range": "some"}),
        1, "a part without saying which",
    ),
    "gzip": (
        Fault(match="a.bin", kind="etag", headers={"Content-Encoding": "gzip"}),
        1, "Content-Encoding gzip, though identity",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "attempts", "text"), LASTING.values(), ids=LASTING)
def test_a_lasting_fault_becomes_an_error_that_names_the_place(site, fault, attempts, text):
    site.faults = [fault]
    started = time.monotonic()
    with pytest.raises((TransportError, FileChangedError), match=text) as caught:
        read(site)
    assert isinstance(caught.value, FileChangedError) == (fault.status == 416)
    assert time.monotonic() - started < 3
    assert len(site.log) == attempts
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is type(caught.value)
    assert error.url == site.origin + "/a.bin"
    assert error.byte_range == (1000, 3000)
    assert error.attempts == attempts
    assert "bytes 1000-2999" in str(error)
    site.faults = []
    assert read(site).data == CONTENT[1000:3000]


@pytest.mark.parametrize("status", [404, 410])
def test_gone_is_a_fact_that_is_not_asked_twice_and_not_remembered(site, status):
    site.faults = [Fault(match="a.bin", kind="status", status=status)]
    with pytest.raises(GoneError) as caught:
        read(site)
    assert caught.value.status == status
    assert len(site.log) == 1
    site.faults = []
    assert read(site).data == CONTENT[1000:3000]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_an_announced_pause_holds_for_the_whole_host(site, form):
    announced = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    headers = {"Retry-After": announced}
    site.faults = [Fault(match="a.bin", kind="status", status=429, headers=headers, count=1)]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(read, site)
        while not site.log:
            time.sleep(0.01)
        time.sleep(0.1)
        other = threads.submit(read, site, path="/b.bin")
        assert first.result().data == CONTENT[1000:3000]
        assert other.result().data == CONTENT[::-1][1000:3000]
    refused, *later = site.log
    assert [r.status for r in site.log] == [429, 206, 206]
    assert all(0.9 < r.started - refused.started < 3 for r in later)


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "-5",
        "²",
        "9" * 50,
        formatdate(0, usegmt=True),
        "Sun, 99 Xxx",
        f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT",
    ],
)
def test_an_announcement_that_makes_no_sense_is_no_obstacle(site, text):
    headers = {"Retry-After": text}
    site.faults = [Fault(match="a.bin", kind="status", headers=headers, count=1)]
    assert read(site, max_retry_after_s=0.2).data == CONTENT[1000:3000]


def test_quick_failures_are_spread_even_when_the_server_says_at_once(site):
    site.faults = [Fault(match="a.bin", kind="status", headers={"Retry-After": "0"}, count=5)]
    started = time.monotonic()
    read(site, max_attempts=7)
    assert len(site.log) == 6
    assert time.monotonic() - started > 0.05


def test_a_server_without_ranges_is_refused_without_taking_the_file(site):
    site.faults = [Fault(match="huge.bin", kind="ignore_range")]
    with pytest.raises(TransportError, match="ignores the Range header"):
        read(site, path="/huge.bin")
    time.sleep(0.2)
    assert len(site.log) == 1
    assert site.log[0].bytes_sent < 50 * 2**20


def test_a_body_without_length_is_read_no_further_than_asked():
    head = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-2999/9000\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"10000\r\n" + bytes(2**16) + b"\r\n"
    sent = []

    def answer(listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(4096)
                try:
                    peer.sendall(head)
                    for _ in range(2000):
                        peer.sendall(piece)
                        sent.append(len(piece))
                except OSError:
                    continue

    with listen() as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin"
        with pytest.raises(TransportError, match="asked for 2000 bytes"):
            run_with_session(Transport(max_attempts=1), lambda s: s.read(url, 1000, 3000))
        listener.shutdown(socket.SHUT_RDWR)
    assert sum(sent) < 2**26


def test_a_page_larger_than_its_cap_is_refused(site):
    def fetch(cap):
        url = site.origin + "/a.bin"
        return run_with_session(Transport(), lambda s: s.http.fetch(url, cap=cap))

    assert fetch(len(CONTENT)).data == CONTENT
    with pytest.raises(TransportError, match="larger than 1000 bytes"):
        fetch(1000)


def test_a_redirect_within_the_host_is_followed(site):
    site.faults = [Fault(match="a.bin", kind="redirect", location="b.bin")]
    reply = read(site)
    assert reply.data == CONTENT[::-1][1000:3000]
    assert reply.url == site.origin + "/b.bin"


def test_a_redirect_to_another_host_needs_leave(site):
    target = site.origin.replace("127.0.0.1", "localhost") + "/b.bin"
    site.faults = [Fault(match="a.bin", kind="redirect", location=target)]
    with pytest.raises(TransportError, match=r"allowed_hosts=\('localhost',\)"):
        read(site)
    assert [r.path for r in site.log] == ["/a.bin"]
    assert read(site, allowed_hosts=("localhost",)).data == CONTENT[::-1][1000:3000]


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/a.bin", "more than 5 redirects"),
        ("file:///etc/passwd", "not followed"),
        ("ftp://127.0.0.1/a.bin", "not followed"),
        ("http://[", "no address"),
        ("http://127.0.0.1:99999/", "no address"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_an_error(site, location, text):
    site.faults = [Fault(match="a.bin", kind="redirect", location=location)]
    with pytest.raises(TransportError, match=text) as caught:
        read(site)
    assert caught.value.url == site.origin + "/a.bin"
    assert len(site.log) <= 6


def test_a_closed_port_is_given_up_after_three_attempts():
    with listen() as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match="no connection") as caught:
        run_with_session(Transport(), lambda s: s.read(f"http://127.0.0.1:{port}/a", 0, 9))
    assert caught.value.attempts == 3
    assert "see whether a server runs there, such as `s2l3a serve-sample`" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog swallows SYN on Linux alone")
def test_a_host_that_takes_no_connection_is_given_up_after_three_attempts():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for peer in waiting:
            peer.setblocking(False)
            peer.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/a.bin"
        transport = Transport(connect_timeout_s=0.2)
        with pytest.raises(TransportError, match="no connection") as caught:
            run_with_session(transport, lambda s: s.read(url, 0, 9))
        assert caught.value.attempts == 3
        for peer in waiting:
            peer.close()


def test_an_unknown_host_is_named():
    with pytest.raises(TransportError, match=r"server\.invalid.*attempts 3"):
        run_with_session(Transport(), lambda s: s.read("http://server.invalid/a", 0, 9))


def test_no_more_connections_than_allowed(site):
    site.latency_s = 0.02
    try:
        transport = Transport(max_connections=3)

        async def many(session):
            url = site.origin + "/a.bin"
            return [
                reply.data
                for reply in await gather_all(session.read(url, i, i + 9) for i in range(40))
            ]

        assert run_with_session(transport, many) == [CONTENT[i : i + 9] for i in range(40)]
    finally:
        site.latency_s = 0.0
    assert most_at_once(site.log) <= 3
    assert len({r.peer_port for r in site.log}) <= 3


async def gather_all(work):
    from s2l3a_xr._loop import gather  # noqa: PLC0415

    return await gather(work)


def most_at_once(log):
    events = sorted(
        event for r in log for event in ((r.started, 1), (r.finished or float("inf"), -1))
    )
    running, most = 0, 0
    for _, step in events:
        running += step
        most = max(most, running)
    return most


@pytest.mark.parametrize("name", ["max_connections", "idle_timeout_s", "max_attempts"])
def test_settings_must_be_positive(name):
    with pytest.raises(SelectionError, match=f"{name}=0"):
        Transport(**{name: 0})


@pytest.mark.parametrize("place", ["path", "file", "memory"])
def test_other_places_are_read_alike(tmp_path, place):
    fsspec = pytest.importorskip("fsspec")
    url = {
        "path": (tmp_path / "a.bin").as_posix(),
        "file": (tmp_path / "a.bin").as_uri(),
        "memory": "memory://site/a.bin",
    }[place]
    with fsspec.open(url, "wb") as stream:
        stream.write(CONTENT)
    reply = run_with_session(Transport(), lambda s: s.read(url, 1000, 3000))
    assert (reply.data, reply.total) == (CONTENT[1000:3000], len(CONTENT))
    end = run_with_session(Transport(), lambda s: s.read(url, len(CONTENT) - 5, 2**20))
    assert end.data == CONTENT[-5:]
    with pytest.raises(GoneError):
        run_with_session(Transport(), lambda s: s.read(url + ".no", 0, 9))


def test_a_local_file_tells_when_it_was_replaced(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)

    def ask():
        reply = run_with_session(Transport(), lambda s: s.read(str(path), 0, 9))
        return (reply.stamp, reply.total), run_with_session(
            Transport(), lambda s: s.version(str(path))
        )

    before = ask()
    assert ask() == before
    path.write_bytes(CONTENT[:-1])
    after = ask()
    assert after[0] != before[0]
    assert after[1] != before[1]
    path.unlink()
    assert run_with_session(Transport(), lambda s: s.version(str(path))) == ()


FORK = """
import multiprocessing, os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from s2l3a_xr._transport import Transport, run_with_session
URL, METHOD = sys.argv[1:]
def read(start):
    transport = Transport(idle_timeout_s=5)
    return run_with_session(transport, lambda s: s.read(URL, start, start + 9)).data
if __name__ == "__main__":
    want = [bytes(range(256))[start:start + 9] for start in range(4)]
    assert [read(start) for start in range(4)] == want
    with multiprocessing.get_context(METHOD).Pool(2) as pool:
        assert pool.map(read, range(4), chunksize=1) == want
    started = time.monotonic()
    assert read(0) == want[0]
    assert time.monotonic() - started < 2, "the child took the parent's connection"
    print("right")
"""

STALL = """
import signal, sys
from s2l3a_xr._transport import Transport, run_with_session
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit deafness
print("go", flush=True)
run_with_session(Transport(), lambda s: s.read(sys.argv[1], 0, 9))
"""


def spawn_script(code, *args):
    return subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-W", "default", *code, *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_right_and_leave_the_parent_its_connections(site, tmp_path, method):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("no fork on this platform")
    script = tmp_path / "main.py"
    script.write_text(FORK, encoding="ascii")
    process = spawn_script([str(script)], site.origin + "/a.bin", method)
    out, err = process.communicate(timeout=60)
    assert (out.strip(), err) == ("right", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals go to the whole console there")
def test_ctrl_c_ends_a_stalled_read_within_a_second(site):
    site.faults = [Fault(match="a.bin", kind="stall", seconds=5)]
    process = spawn_script(["-c", STALL], site.origin + "/a.bin")
    assert process.stdout.readline() == "go\n"
    while not site.log:
        time.sleep(0.01)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - started < 1.5  # the interpreter's own end included
    assert "KeyboardInterrupt" in err
    assert "destroyed" not in err
    assert "never retrieved" not in err
    assert "Unclosed" not in err


class OneAnswer:
    """A server that answers every request with the same bytes and hangs up."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []
        self.socket = listen()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a.tif"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client:
                self.asked.append(client.recv(65536))
                client.sendall(self.answer)


@pytest.mark.parametrize("end", [b"", b"\r\n--x"])
def test_parts_whose_end_is_lost_are_not_asked_for_again(end):
    ranges = [(0, 3), (10, 12)]
    body = b"".join(
        b"\r\n--x\r\nContent-Range: bytes %d-%d/99\r\n\r\n%s"
        % (start, stop - 1, b"abc"[: stop - start])
        for start, stop in ranges
    )
    head = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\n"
        b"Content-Length: %d\r\n\r\n" % (len(body) + 50)
    )
    server = OneAnswer(head + body + end)
    taken = {}

    async def fetch(session):
        session.http._hosts.of(server.url).takes_many = True
        await session.http.fetch_many(
            server.url, ranges, lambda i, reply: taken.update({i: bytes(reply.data)})
        )

    run_with_session(Transport(), fetch)
    server.socket.close()
    assert taken == {0: b"abc", 1: b"ab"}
    assert len(server.asked) == 1
    assert b"Range: bytes=0-2,10-11" in server.asked[0]


def test_only_the_parts_that_are_lacking_are_asked_for_again():
    part = b"\r\n--x\r\nContent-Range: bytes 0-2/99\r\n\r\nabc"
    head = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\n"
        b"Content-Length: 500\r\n\r\n"
    )
    server = OneAnswer(head + part)
    taken = []

    async def fetch(session):
        session.http._hosts.of(server.url).takes_many = True
        await session.http.fetch_many(server.url, [(0, 3), (10, 12)], lambda i, _: taken.append(i))

    with pytest.raises(TransportError):
        run_with_session(Transport(max_attempts=2), fetch)
    server.socket.close()
    assert taken == [0]
    assert b"Range: bytes=10-11\r\n" in server.asked[1]


def test_connections_are_opened_ahead_and_no_more_than_allowed():
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        run_with_session(Transport(max_connections=3), lambda s: s.warm(url, 5))
        listener.settimeout(0.3)
        peers = []
        with contextlib.suppress(TimeoutError):
            while True:
                peers.append(listener.accept()[0])
        assert len(peers) == 3
        for peer in peers:
            peer.close()


def test_connections_that_can_not_be_opened_ahead_are_no_error():
    run_with_session(Transport(), lambda s: s.warm("http://127.0.0.1:9/", 2))


def test_connections_opened_ahead_are_given_back_where_nobody_waits_for_them_any_more():
    async def work(session):
        connector = session.http.client.session(only_public=False).connector
        job = asyncio.ensure_future(session.warm(url, 8))
        held, until = [], time.monotonic() + 5
        while not held and time.monotonic() < until:
            await asyncio.sleep(0.1)
            held = [one for one in connector._acquired if hasattr(one, "is_connected")]
        assert not job.done()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(0.05)
        return len(held), len(connector._acquired)

    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:  # the others wait
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        held, left = run_with_session(Transport(max_connections=8), work)
    assert held > 0
    assert left == 0


def test_requests_use_the_connections_opened_ahead(site):
    async def work(session):
        await session.warm(site.origin, 2)
        url = site.origin + "/a.bin"
        return await gather_all(session.read(url, i, i + 9) for i in range(2))

    ahead = len(site.log)
    replies = run_with_session(Transport(max_connections=2, max_attempts=5), work)
    assert [reply.data for reply in replies] == [CONTENT[:9], CONTENT[1:10]]
    assert len(site.log) - ahead == 2, "opening asks for nothing"


@given(st.data())
def test_parts_come_out_right_however_they_arrive(data):
    spans = [(3, 40), (40, 41), (1000, 1700)]
    answer = b"".join(
        b"\r\n--x\r\nContent-Type: image/tiff\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%s"
        % (start, stop - 1, len(CONTENT), CONTENT[start:stop])
        for start, stop in spans
    )
    answer += b"\r\n--x--\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=20)) | {0, len(answer)})
    parser = PartParser("x", longest=700)
    parts = [p for a, b in itertools.pairwise(cuts) for p in parser.feed(answer[a:b])]
    assert [(p.start, p.stop, p.total) for p in parts] == [(*s, len(CONTENT)) for s in spans]
    assert [bytes(p.data) for p in parts] == [CONTENT[slice(*s)] for s in spans]
    assert parser.is_done


def test_a_part_that_claims_to_be_huge_takes_no_memory():
    parser = PartParser("x", longest=1000)
    with pytest.raises(PartsError, match="at most 1000"):
        parser.feed(b"--x\r\nContent-Range: bytes 0-99999999999999/999999999999999\r\n\r\n")
