"""Answers that no right server gives: those that make no sense, and those that never end."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading
import time

import pytest

from s2l3a_xr import Transport, TransportError
from s2l3a_xr._loop import gather
from s2l3a_xr._sample._port import listen
from s2l3a_xr._transport import _hosts, run_with_session

PART = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-8/99\r\n"
LENGTH = b"Content-Length: 9\r\n"
BODY = b"\r\n123456789"
RIGHT = PART + LENGTH + BODY
PARTS = b"HTTP/1.1 206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\n"


class Raw:
    """A server that sends the same pieces to everybody, some time apart, and hangs up."""

    def __init__(self, *pieces, gap_s=0.0, single=b""):
        self.pieces, self.gap_s, self.single = pieces, gap_s, single
        self.asked, self.ended = [], []
        self.socket = listen()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a.bin"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, contextlib.suppress(OSError):
            head = client.recv(65536)
            self.asked.append(time.monotonic())
            ranges = re.search(rb"bytes=([^\r]*)", head)[1]
            is_single = self.single and b"," not in ranges
            for piece in [self.single] if is_single else self.pieces:
                client.sendall(piece)
                time.sleep(self.gap_s)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(2)
            while client.recv(65536):
                pass
        self.ended.append(time.monotonic())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def read(url, *, first=False, **settings):
    def work(session):
        return session.read_first(url, 9) if first else session.read(url, 0, 9)

    return run_with_session(Transport(**settings), work)


def many(line):
    return b"".join(line % number for number in range(50_000))


NONSENSE = {
    "a header bomb": PART + many(b"X-%d: a\r\n") + LENGTH + BODY,
    "a cookie bomb": PART + many(b"Set-Cookie: c%d=a\r\n") + LENGTH + BODY,
    "a long header": PART + b"X: " + b"a" * 10**6 + b"\r\n" + LENGTH + BODY,
    "a long status": b"HTTP/1.1 206 " + b"a" * 10**6 + b"\r\n" + LENGTH + BODY,
    "a length in words": PART + b"Content-Length: nine\r\n" + BODY,
    "a negative length": PART + b"Content-Length: -9\r\n" + BODY,
    "an endless length": PART + b"Content-Length: " + b"9" * 30 + b"\r\n" + BODY,
    "two lengths": PART + LENGTH + b"Content-Length: 8\r\n" + BODY,
    "length and chunks": PART + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n",
    "a chunk of words": PART + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n123456789\r\n0\r\n\r\n",
    "no file around it": RIGHT.replace(b"/99", b"/0"),
    "a file that ends within": RIGHT.replace(b"/99", b"/5"),
    "a file beyond measure": RIGHT.replace(b"/99", b"/" + b"9" * 30),
    "a range backwards": RIGHT.replace(b"0-8", b"8-0"),
    "no label that is one": RIGHT.replace(b"0-8", b"0 to 8"),
    "parts of nothing": PARTS + LENGTH + BODY,
    "parts without a boundary": PARTS.replace(b"; boundary=x", b"") + LENGTH + BODY,
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
}


@pytest.mark.parametrize("first", [False, True], ids=["a range", "a file's first bytes"])
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_believed_soon(answer, first):
    """With default settings: it will not pass, whoever waits for it."""
    with Raw(answer) as server:
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            read(server.url, first=first)
        assert time.monotonic() - started < 3
        assert len(server.asked) <= 14
    error = caught.value
    assert error.url == server.url
    assert error.byte_range == (0, 9)
    assert 1 <= error.attempts <= (14 if "is no HTTP" in str(error) else 4)
    assert error.hint
    assert len(str(error)) < 1500


@pytest.mark.parametrize(
    "answer",
    [
        PARTS + LENGTH + BODY,
        PARTS + b"\r\n--x\r\nContent-Range: bytes 50-51/99\r\n\r\nab\r\n--x--",
        PARTS + b"\r\n--x\r\nContent-Range: some\r\n\r\nab\r\n--x--",
        PARTS
        + b"\r\n--x\r\nContent-Type: text/html\r\nContent-Range: bytes 0-8/99\r\n\r\n<p>Login\r\n",
        PARTS.replace(b"; boundary=x", b"") + b"\r\n--x--",
    ],
)
def test_where_parts_are_unusable_ranges_are_asked_for_one_by_one(answer):
    with Raw(answer, single=RIGHT) as server:
        started = time.monotonic()
        assert bytes(read(server.url, first=True).data) == b"123456789"
        assert time.monotonic() - started < 3
        assert len(server.asked) <= 5


def drip(text, then):
    return itertools.chain((text,), itertools.repeat(then))


LONG = PART.replace(b"0-8/99", b"0-89999/90000")
CHUNKED = LONG + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a body": drip(LONG + b"Content-Length: 90000\r\n\r\n", b"a"),
    "a chunk's extension": drip(CHUNKED + b"9;", b"a"),
    "tiny chunks": drip(CHUNKED, b"1;abcdef\r\na\r\n"),
    "a header": drip(PART + b"X: ", b"a"),
    "first answers": itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "first hints": itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_cut(kind, monkeypatch):
    """Row 17, with nobody else asking: by default after 10 s, three times, 25 s in all."""
    monkeypatch.setattr(_hosts, "_LEAST_WINDOW_S", 0.5)
    settings = {"idle_timeout_s": 0.5, "connect_timeout_s": 5, "give_up_s": 1.25}
    with Raw(*itertools.islice(ENDLESS[kind], 400), gap_s=0.02) as server:
        url = server.url
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            run_with_session(Transport(**settings), lambda s: s.read(url, 0, 90_000))
        assert time.monotonic() - started < 4
        assert len(server.asked) <= 3
        assert all(later - before < 1.2 for before, later in itertools.pairwise(server.asked))
    assert re.search("bytes came in|no answer began|is silent", caught.value.reason)
    assert caught.value.url == url
    assert caught.value.byte_range == (0, 90_000)
    assert 1 <= caught.value.attempts <= 3


def test_what_begins_late_is_no_drip(monkeypatch):
    """Row 18: after its head a silence of less than the limit, then 30 kB a second."""
    monkeypatch.setattr(_hosts, "_LEAST_WINDOW_S", 0.5)
    size, silence = 45_000, [b""] * 16
    head = LONG.replace(b"0-89999", b"0-%d" % (size - 1)) + b"Content-Length: %d\r\n\r\n" % size
    with Raw(head, *silence, *[b"a" * 1500] * 30, gap_s=0.05) as server:
        url = server.url
        settings = Transport(idle_timeout_s=1.0, max_attempts=1)
        reply = run_with_session(settings, lambda s: s.read(url, 0, size))
    assert bytes(reply.data) == b"a" * size


@pytest.mark.parametrize("count", [1, 16])
def test_a_slow_link_is_no_drip(count, monkeypatch):
    """20 kB a second, of one connection or shared by all."""
    monkeypatch.setattr(_hosts, "_LEAST_WINDOW_S", 1.0)
    size, steps = 48_000 // count, 48
    head = LONG.replace(b"0-89999", b"0-%d" % (size - 1)) + b"Content-Length: %d\r\n\r\n" % size
    pieces = [b"a" * (size // steps)] * steps + [b"a" * (size % steps)]
    with Raw(head, *pieces, gap_s=0.05) as server:
        url = server.url

        async def work(session):
            return await gather(session.read(url, 0, size) for _ in range(count))

        settings = {"idle_timeout_s": 0.5, "max_attempts": 1}
        replies = run_with_session(Transport(**settings), work)
        assert {bytes(reply.data) for reply in replies} == {b"a" * size}
        assert len(server.asked) == count
