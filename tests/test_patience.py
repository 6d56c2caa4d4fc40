"""How long the transport goes on: dead hosts, slow ones, and what came before a cut."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
import warnings
from types import SimpleNamespace

import pytest
from faultserver import FaultServer

from s2l3a_xr import FileChangedError, ReadError, S2L3AWarning, SelectionError, TransportError
from s2l3a_xr._loop import gather
from s2l3a_xr._sample._port import listen
from s2l3a_xr._transport import Transport, _attempt, _hosts, _patience, run_with_session
from s2l3a_xr._transport._redirects import is_kin, redirect_target
from s2l3a_xr._transport._wish import PassingError, Wish

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultServer(tmp_path) as running:
        yield running


def read(url, start=1000, stop=3000, **settings):
    settings = {"idle_timeout_s": 0.3, "max_attempts": 4, **settings}
    return run_with_session(Transport(**settings), lambda s: s.read(url, start, stop))


def settled(url, count, **settings):
    """Read many ranges at once; give each one's end, and the time that all took."""

    async def work(session):
        async def one(i):
            try:
                return bytes((await session.read(url, 100 * i + 1, 100 * i + 50)).data)
            except ReadError as exc:
                return exc

        return await gather(one(i) for i in range(count))

    started = time.monotonic()
    return run_with_session(Transport(**settings), work), time.monotonic() - started


@pytest.mark.parametrize("kind", ["closemid", "resetmid", "stall"])
def test_of_a_range_that_was_cut_only_the_rest_is_asked_for(site, kind):
    url = site.url(kind, path="a.bin")
    assert read(url).data == CONTENT[1000:3000]
    first, second = [entry.ranges[0] for entry in site.log(url)]
    assert first == (1000, 3000)
    assert 1000 < second[0] < 3000
    assert second[1] == 3000


def test_a_range_in_ever_smaller_pieces_is_no_fault(site):
    url = site.url("short_honest", count=float("inf"), path="a.bin")
    started = time.monotonic()
    assert read(url, max_attempts=1).data == CONTENT[1000:3000]
    assert time.monotonic() - started < 2
    assert len(site.log(url)) > 4


class Scripted:
    """A server that answers the n-th request with the n-th answer, and hangs up."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.socket = listen()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a.bin"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while self.answers:
            client, _ = self.socket.accept()
            with client:
                self.asked.append(client.recv(65536))
                client.sendall(self.answers.pop(0))
        self.socket.close()


def answer(span, body, etag, *, length=None):
    return (
        f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {span}/99\r\nETag: {etag}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize(
    ("etag", "later", "expected"),
    [('"1"', '"1"', b"abcdef"), ('"1"', '"2"', b"uvwxyz"), ('W/"1"', 'W/"1"', b"uvwxyz")],
)
def test_the_rest_is_taken_only_from_the_very_same_file(etag, later, expected):
    answers = [answer("0-5", b"abc", etag, length=6)]
    if not etag.startswith("W/"):
        answers.append(answer("3-5", b"def", later))
    if expected == b"uvwxyz":
        answers.append(answer("0-5", b"uvwxyz", later))
    server = Scripted(*answers)
    assert read(server.url, 0, 6).data == expected
    assert [b"bytes=3-5" in asked for asked in server.asked] == [
        False, True, False][: len(server.asked)] or etag.startswith("W/")  # fmt: skip


def test_a_silent_host_is_given_up_by_all_requests_together(site):
    url = site.url("stall0", count=float("inf"), path="a.bin")
    ends, taken = settled(
        url, 40, max_connections=4, idle_timeout_s=1.0, give_up_s=2.0, max_attempts=14
    )
    assert all(isinstance(end, TransportError) for end in ends)
    assert any("is silent" in end.reason for end in ends)
    assert all(end.url and end.byte_range and end.attempts for end in ends)
    assert 1.9 < taken < 5  # one by one it would be 30
    assert len(site.log(url)) < 20
    site.heal(url)
    assert settled(url, 4, max_connections=4, idle_timeout_s=1.0, give_up_s=2.0)[0] == [
        CONTENT[100 * i + 1 : 100 * i + 50] for i in range(4)
    ]


@pytest.mark.parametrize(("idle_s", "give_up_s", "answers_s"), [(1.0, 1.25, 0.9), (0.5, 1.5, 0.4)])
def test_who_was_silent_once_may_still_answer_late(site, idle_s, give_up_s, answers_s):
    """After an outage each answer has the time of one attempt, however that compares."""
    settings = {"idle_timeout_s": idle_s, "give_up_s": give_up_s}
    ends, _ = settled(site.url("stall0", count=float("inf"), path="a.bin"), 8, **settings)
    assert any("is silent" in end.reason for end in ends)
    late = site.url(f"stall0:{answers_s}", count=float("inf"), path="a.bin")
    assert settled(late, 1, **settings)[0] == [CONTENT[1:50]]
    assert len(site.log(late)) == 1


def test_a_host_that_only_fails_is_not_asked_by_each_request_to_the_end(site, monkeypatch):
    monkeypatch.setattr(_hosts, "RECENT_S", 0.3)
    url = site.url("s503", count=float("inf"), path="a.bin")
    ends, taken = settled(url, 16, max_attempts=14, idle_timeout_s=0.7)
    assert all(end.status == 503 for end in ends)
    assert 16 <= len(site.log(url)) < 16 * 8
    assert taken < 20
    site.heal(url)
    assert not any(isinstance(end, ReadError) for end in settled(url, 16, idle_timeout_s=0.7)[0])


def test_a_host_that_fails_on_is_asked_little_by_later_calls(site, monkeypatch):
    """No failure is remembered: each call asks, and the first right answer is the end of it."""
    monkeypatch.setattr(_hosts, "RECENT_S", 0.3)
    url = site.url("s500", count=float("inf"), path="a.bin")
    for call in range(3):
        site.clear(url)
        ends, taken = settled(url, 16, idle_timeout_s=0.7)
        assert all(end.status == 500 for end in ends)
        assert 16 <= len(site.log(url)) <= (16 * 8 if call == 0 else 16 + 3)
        assert call == 0 or taken < 2
    site.heal(url)
    ends, _ = settled(url, 16, idle_timeout_s=0.7)
    assert ends == [CONTENT[100 * i + 1 : 100 * i + 50] for i in range(16)]


def test_a_host_that_serves_so_many_a_second_serves_all(tmp_path):
    """Its 429 are no failures of what it refuses: it serves others meanwhile."""
    (tmp_path / "a.bin").write_bytes(CONTENT)
    count, most_per_s = 60, 20.0
    with FaultServer(tmp_path, most_per_s=most_per_s) as limited:
        url = limited.url(path="a.bin")
        ends, taken = settled(url, count, max_attempts=4)
        asked = [entry.status for entry in limited.log(url)]
    assert ends == [CONTENT[100 * i + 1 : 100 * i + 50] for i in range(count)]
    assert count / most_per_s - 1 < taken < 4 * count / most_per_s
    assert asked.count(206) == count
    assert asked.count(429) < 12 * count


def test_a_burst_of_refusals_is_one_sign_and_a_right_answer_ends_them():
    host = _hosts.Host("a", Transport())

    def rest():
        return max(0.0, host._open_again - time.monotonic())

    begun = time.monotonic()
    for _ in range(16):
        host.refused(429, begun)
    assert rest() == 0
    for longest in (0.05, 0.1, 0.2):
        for asked_at in (time.monotonic(), begun, begun):
            host.refused(429, asked_at)
        assert longest / 2 < rest() <= longest
    host.succeeded()
    before = host._open_again
    host.refused(429, time.monotonic())
    assert host._open_again == before
    for _ in range(20):
        host.refused(503, time.monotonic())  # it serves others: that is about this file alone
    assert host._open_again == before


def longest_pauses(monkeypatch, *faults, was_well):
    """Seconds from the first attempt to each further one, with the longest pauses."""
    now = [1000.0]
    monkeypatch.setattr(_hosts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_patience, "random", SimpleNamespace(uniform=lambda _, most: most))
    host = _hosts.Host("a", Transport())
    if was_well:
        host.succeeded()
    patience = _patience.Patience(Transport(), Wish(ranges=((0, 9),)))
    for fault in itertools.cycle(faults):
        patience.attempts += 1
        pause_s = patience.pause_after(fault, host)
        if pause_s is None:
            return
        now[0] += pause_s
        yield now[0] - 1000


@pytest.mark.parametrize("was_well", [True, False])
def test_the_first_attempt_comes_at_once_and_the_last_ones_leave_time(monkeypatch, was_well):
    """Gentle to a host that is down: some requests in its first second, then one in some."""
    times = list(longest_pauses(monkeypatch, PassingError("", status=503), was_well=was_well))
    assert len(times) == 13
    assert times[0] <= 0.01
    assert sum(at < 1 for at in times) <= (7 if was_well else 4)
    assert times[-1] > 20


def test_a_host_that_asks_for_less_gets_less(monkeypatch):
    times = list(longest_pauses(monkeypatch, PassingError("", status=429), was_well=True))
    assert times[0] >= 0.1
    assert sum(at < 1 for at in times) <= 4


def test_refusals_amid_answers_cost_little(site):
    """About 1 s; 4 s and more where each request doubles its pauses whatever others get."""
    times = []
    for _ in range(5):  # dice: a file that is refused seven times in a row takes long
        url = site.url("s429", p=0.4, path="a.bin")
        ends, taken = settled(url, 300)
        times.append(taken)
        assert ends == [CONTENT[100 * i + 1 : 100 * i + 50] for i in range(300)]
        assert 400 < len(site.log(url)) < 600
    assert statistics.median(times) < 3


def test_a_file_that_alone_is_refused_is_asked_ever_less(monkeypatch):
    """However well its host serves others meanwhile."""
    now, fault = [1000.0], PassingError("", status=429)
    monkeypatch.setattr(_hosts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_patience, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_patience, "random", SimpleNamespace(uniform=lambda _, most: most))
    host = _hosts.Host("a", Transport())
    patience, pauses = _patience.Patience(Transport(), Wish(ranges=((0, 9),))), []
    for _ in range(14):
        patience.attempts += 1
        pauses.append(patience.pause_after(fault, host))
        now[0] += pauses[-1]
        host.succeeded()
    assert pauses == sorted(pauses)
    assert sum(pauses[:7]) < 3  # 12 without the answers
    assert pauses[-1] == 5


def test_a_waiting_host_is_no_silent_one(site):
    url = site.url("s503ra:1", count=1, path="a.bin")
    assert read(url, give_up_s=0.4).data == CONTENT[1000:3000]


@pytest.mark.parametrize("count", [1, 60])
def test_waits_are_announced_so_often_and_no_more(site, count):
    """A host that only ever asks to wait: five times the longest wait in all, for everybody."""
    url = site.url("s503ra:60", count=float("inf"), path="a.bin")
    settings = {"max_retry_after_s": 0.25, "max_connections": 4, "max_attempts": 14}
    ends, taken = settled(url, count, **settings)
    assert all(end.status == 503 for end in ends)
    assert any("only asks to wait" in end.reason for end in ends)
    assert all("max_retry_after_s" in str(end) for end in ends if "only asks" in end.reason)
    assert 0.9 < taken < 4  # 60 x 14 waits of 0.25 s would be minutes
    assert len(site.log(url)) <= 6 * min(count, 4)
    site.heal(url)
    assert settled(url, 1, **settings)[0] == [CONTENT[1:50]]


def test_waits_between_right_answers_are_no_end(site):
    url = site.url("s503ra:0.3", count=1, path="a.bin")
    ends, _ = settled(url, 12, max_retry_after_s=0.3, max_connections=1)
    assert ends == [CONTENT[100 * i + 1 : 100 * i + 50] for i in range(12)]


def test_what_drips_while_others_advance_is_cut(site, monkeypatch):
    monkeypatch.setattr(_attempt, "PATIENCE_S", 0.5)
    slow, quick = site.url("drip", path="a.bin"), site.url(path="a.bin")

    async def work(session):
        async def others():
            for i in range(60):
                await session.read(quick, i, i + 90_000)
                await asyncio.sleep(0.05)

        busy = asyncio.ensure_future(others())
        reply = await session.read(slow, 1000, 60_000)
        busy.cancel()
        return bytes(reply.data)

    started = time.monotonic()
    assert run_with_session(Transport(idle_timeout_s=0.6), work) == CONTENT[1000:60_000]
    assert time.monotonic() - started < 6
    assert len(site.log(slow)) == 2


def test_stalls_amid_answers_are_borne_no_longer_than_a_silent_host(site):
    """Such a host is never silent: each answer begins."""
    url = site.url("stall", count=float("inf"), path="a.bin")
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"no byte came for 0\.2 s") as caught:
        read(url, idle_timeout_s=1.0, give_up_s=2.2)
    assert caught.value.attempts == 3
    assert time.monotonic() - started > 2.2


def test_what_drips_alone_ends_too(site, monkeypatch):
    monkeypatch.setattr(_hosts, "_LEAST_WINDOW_S", 0.4)
    url = site.url("drip:0.1", count=float("inf"), path="a.bin")
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"only \d+ bytes came in") as caught:
        read(url, 1000, 60_000, idle_timeout_s=0.4)
    assert caught.value.attempts == 3
    assert time.monotonic() - started < 15


def test_a_slow_link_is_borne_however_many_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(_attempt, "PATIENCE_S", 0.3)
    monkeypatch.setattr(_attempt, "PACE", 10_000_000)
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultServer(tmp_path, bytes_per_s=120_000) as site:
        url = site.url(path="a.bin")

        async def work(session):
            spans = [(i, i + 20_000) for i in range(0, 16_000, 1000)]
            replies = await gather(session.read(url, *span) for span in spans)
            return [
                bytes(reply.data) == CONTENT[slice(*s)]
                for reply, s in zip(replies, spans, strict=True)
            ]

        assert all(run_with_session(Transport(idle_timeout_s=0.9), work))
        assert len(site.log(url)) < 20  # on a busy machine one may really fall silent


def test_a_range_without_label_is_taken_where_the_size_is_told_elsewhere(site):
    url = site.url("nocr", count=float("inf"), path="a.bin")
    with pytest.warns(S2L3AWarning, match="Content-Range"):
        reply = read(url)
    assert (reply.data, reply.total) == (CONTENT[1000:3000], len(CONTENT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(url, len(CONTENT) - 9, len(CONTENT) + 9).data == CONTENT[-9:]
    assert [entry.method for entry in site.log(url)].count("HEAD") == 1


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with FaultServer(tmp_path) as site:
        reply = read(site.url(path="a.bin"), 0, 100)
    assert (bytes(reply.data), reply.total) == (b"", 0)


def test_a_request_that_is_cancelled_frees_its_place(site):
    url, quick = site.url("stall0", count=8, path="a.bin"), site.url(path="a.bin")

    async def work(session):
        jobs = [asyncio.ensure_future(session.read(url, i, i + 9)) for i in range(8)]
        await asyncio.sleep(0.3)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        return bytes((await session.read(quick, 0, 9)).data)

    started = time.monotonic()
    assert run_with_session(Transport(max_connections=2), work) == CONTENT[:9]
    assert time.monotonic() - started < 3


REDIRECTS = {
    "same host, other port": ("http://a.dlr.de/x", "http://a.dlr.de:8080/y", True),
    "same domain": ("https://geoservice.dlr.de/x", "https://download.geoservice.dlr.de/x", True),
    "to https": ("http://a.dlr.de/x", "https://b.dlr.de/x", True),
    "from https": ("https://a.dlr.de/x", "http://a.dlr.de/x", False),
    "other domain": ("https://a.dlr.de/x", "https://dlr.de.example.com/x", False),
    "only a public suffix": ("https://a.co.uk/x", "https://b.co.uk/x", False),
    "own pages": ("https://a.github.io/x", "https://b.github.io/x", False),
    "numbers": ("http://10.0.0.1/x", "http://11.0.0.1/x", False),
    "names without a dot": ("http://nas/x", "http://nas2/x", False),
    "allowed": ("https://a.dlr.de/x", "https://files.example.org/x", True),
    "file": ("https://a.dlr.de/x", "file:///etc/passwd", False),
}


@pytest.mark.parametrize(("asked", "location", "is_right"), REDIRECTS.values(), ids=REDIRECTS)
def test_where_redirects_lead(asked, location, is_right):
    transport = Transport(allowed_hosts=("files.example.org",))
    if is_right:
        assert redirect_target(asked, asked, location, transport) == location
    else:
        with pytest.raises(TransportError) as caught:
            redirect_target(asked, asked, location, transport)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/y", "http://me:pw@a.dlr.de/y"),
        ("http://a.dlr.de/y", "http://me:pw@a.dlr.de/y"),
        ("https://a.dlr.de/y", "https://me:pw@a.dlr.de/y"),
        ("http://b.dlr.de/y", "http://b.dlr.de/y"),
        ("http://a.dlr.de:81/y", "http://a.dlr.de:81/y"),
        ("http://you:pw@b.dlr.de/y", "http://b.dlr.de/y"),
    ],
)
def test_a_password_goes_only_where_it_was_meant_for(location, target):
    asked = "http://me:pw@a.dlr.de/x"
    assert redirect_target(asked, asked, location, Transport()) == target


def test_a_redirect_within_a_domain_leads_to_no_private_address(monkeypatch, site):
    monkeypatch.setattr("s2l3a_xr._transport._redirects.is_kin", lambda *_: True)
    url = site.url("redirhost:localhost", count=float("inf"), path="a.bin")
    with pytest.raises(TransportError, match="no public address") as caught:
        read(url)
    assert "allowed_hosts=('localhost',)" in caught.value.hint
    assert len(site.log(url)) == 1


def test_kin():
    assert is_kin("Download.DLR.de.", "dlr.de")
    assert not is_kin("::1", "::1")


def test_a_dead_proxy_is_named_without_its_password(monkeypatch):
    with listen() as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(TransportError, match=f"the proxy http://127.0.0.1:{port}") as caught:
        read("http://archive.invalid/a.bin", give_up_s=11)
    assert "secret" not in str(caught.value)
    assert "HTTP_PROXY" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://a..b/x", "http://[::1/", f"http://{'a' * 70}.de/"]
)
def test_what_is_no_address_is_told_as_such(url):
    with pytest.raises(TransportError) as caught:
        read(url)
    assert caught.value.url
    assert caught.value.attempts in {1, 3}


def test_a_file_that_shrank_is_told_as_such(site):
    url = site.url("s416", count=float("inf"), path="a.bin")
    with pytest.raises(FileChangedError, match="shrank") as caught:
        read(url)
    assert (caught.value.attempts, caught.value.byte_range) == (2, (1000, 3000))


@pytest.mark.parametrize(
    "settings",
    [{"max_connections": "4"}, {"max_attempts": 2.5}, {"idle_timeout_s": None},
     {"max_connections": True}, {"allowed_hosts": ("https://a.de",)}, {"allowed_hosts": 3},
     {"allowed_hosts": ("",)}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(SelectionError, match=next(iter(settings))):
        Transport(**settings)


def test_allowed_hosts_may_be_one_name_or_a_list():
    assert Transport(allowed_hosts="A.de").allowed_hosts == ("a.de",)
    assert hash(Transport(allowed_hosts=["a.de"])) == hash(Transport(allowed_hosts=("a.de",)))


def test_other_places_fail_with_the_same_kind_of_error():
    for url in ("nothing://a/b", "zip://x::/no/such.zip"):
        with pytest.raises(ReadError) as caught:
            run_with_session(Transport(), lambda s, url=url: s.read(url, 0, 9))
        assert caught.value.url == url
