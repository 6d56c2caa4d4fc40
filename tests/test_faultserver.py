"""The fault server itself: what it says it does must be on the wire."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faultkinds import SPOILERS
from faultserver import FaultServer

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    (root / "sub").mkdir()
    (root / "sub" / "a.tif").write_bytes(CONTENT)
    with FaultServer(root) as running:
        yield running


def ask(url, part="1000-1999", *, method="GET"):
    """Ask once over a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        headers = {"Range": f"bytes={part}"} if part else {}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def status(url, part="1000-1999", **options):
    return ask(url, part, **options)[0].status


def test_without_faults_it_is_a_plain_server(site):
    answer, body = ask(site.url(path="sub/a.tif"))
    assert (answer.status, body) == (206, CONTENT[1000:2000])
    assert answer.headers["Content-Range"] == f"bytes 1000-1999/{SIZE}"
    assert answer.headers["ETag"]
    assert answer.headers["Last-Modified"]
    assert ask(site.url(path="sub/a.tif"), "-10")[1] == CONTENT[-10:]
    assert ask(site.url(path="sub/a.tif"), None)[1] == CONTENT
    head, nothing = ask(site.url(path="sub/a.tif"), None, method="HEAD")
    assert (head.headers["Content-Length"], nothing) == (str(SIZE), b"")
    assert b'href="a.tif"' in ask(site.url(path="sub/"), None)[1]
    assert status(site.url(path="sub"), None) == 302
    assert status(site.url(path="sub/../sub/a.tif")) == 404
    assert status(site.url(path="sub/a.tif"), f"{SIZE}-") == 416


def test_several_ranges_come_in_parts_where_that_is_switched_on(site):
    assert ask(site.url(path="sub/a.tif"), "0-9,100-109")[1] == CONTENT
    site.many = True
    try:
        answer, body = ask(site.url(path="sub/a.tif"), "0-9,100-109")
    finally:
        site.many = False
    assert answer.headers["Content-Type"].startswith("multipart/byteranges")
    assert CONTENT[:10] in body
    assert CONTENT[100:110] in body


@pytest.mark.parametrize("kind", [k for k in SPOILERS if k not in {"stall", "stall0", "none"}])
def test_no_kind_looks_like_the_right_answer(site, kind):
    def everything(url):
        try:
            answer, body = ask(url)
        except (OSError, http.client.HTTPException) as exc:
            return type(exc).__name__
        kept = {k: v for k, v in answer.headers.items() if k != "Connection"}
        return answer.status, answer.version, kept, body

    started = time.monotonic()
    arguments = {"drip": ":0.0001", "slow": ":2000"}
    url = site.url(kind + arguments.get(kind, ""), path="sub/a.tif")
    first, second = everything(url), everything(url)
    assert second == everything(site.url(path="sub/a.tif"))
    if kind in {"drip", "slow"}:
        assert time.monotonic() - started > 0.04
    elif kind == "keepalive-close":
        assert first == second
        assert kind in {entry.kind for entry in site.log(url)}
    elif kind == "long_wire":  # this client reads no further
        assert first == second
        assert site.log(url)[0].sent == 1000 + 4096
    else:
        assert first != second


def test_silence_ends_when_the_client_goes(site):
    url = site.url("stall", path="sub/a.tif")
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=0.2)
    connection.request("GET", parts.path, headers={"Range": "bytes=0-999"})
    with pytest.raises(TimeoutError):
        connection.getresponse().read()
    connection.close()
    (entry,) = site.log(url)
    deadline = time.monotonic() + 5
    while entry.finished is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert entry.finished is not None
    assert entry.sent == 500


def test_a_range_is_punished_so_often_and_its_rest_not_again(site):
    url = site.url("s503", count=2, path="sub/a.tif")
    assert [status(url) for _ in range(3)] == [503, 503, 206]
    assert status(url, "1500-1999") == 206
    assert status(url, "0-99") == 503
    assert [status(site.url("s404once", count=9, path="sub/a.tif")) for _ in range(2)] == [404, 404]
    once = site.url("s404once", count=9, path="sub/a.tif")
    assert [status(once) for _ in range(2)] == [404, 206]


@pytest.mark.parametrize(
    ("scope", "hit"),
    [
        ("any", [1, 1, 1, 1]),
        ("header", [1, 0, 0, 0]),
        ("tile", [0, 1, 0, 0]),
        ("head", [0, 0, 1, 0]),
        ("listing", [0, 0, 0, 1]),
    ],
)
def test_scopes(site, scope, hit):
    url = site.url("s500", count=9, scope=scope)
    got = [
        status(f"{url}sub/a.tif", "0-99"),
        status(f"{url}sub/a.tif"),
        status(f"{url}sub/a.tif", None, method="HEAD"),
        status(f"{url}sub/", None),
    ]
    assert [int(s == 500) for s in got] == hit


def test_dice_are_seeded_by_the_token(site):
    same = {"p": 0.4, "path": "sub/a.tif", "token": "t1"}
    url = site.url("s500+s502", **same)
    first = [status(url, f"{n}-1999") for n in range(200)]
    assert 50 < sum(s != 206 for s in first) < 110
    assert {500, 502} < set(first)
    with FaultServer(site.root) as other:
        again = other.url("s500+s502", **same)
        assert [status(again, f"{n}-1999") for n in range(200)] == first


@pytest.mark.parametrize("kind", ["s429ra:6", "s503ra:date30", "s503ra:past", "s503ra:garbage"])
def test_announced_waits(site, kind):
    text = ask(site.url(kind, path="sub/a.tif"))[0].headers["Retry-After"]
    form = kind.partition(":")[2]
    if form in {"6", "garbage"}:
        assert text == form
    else:
        assert (parsedate_to_datetime(text).timestamp() > time.time()) == (form != "past")


def test_the_log_has_times_and_ports(site):
    url = site.url("s503", path="sub/a.tif")
    before = time.monotonic()
    ask(url)
    ask(url, "0-9,20-29")
    first, second = site.log(url)
    assert before < first.received <= first.finished < second.received < time.monotonic()
    assert (first.kind, first.status, first.path) == ("s503", 503, "sub/a.tif")
    assert second.ranges == ((0, 10), (20, 30))
    assert first.peer_port != second.peer_port
    site.clear(url)
    assert site.log(url) == []


def test_it_paces_and_waits(site):
    site.latency_s, site.bytes_per_s = 0.1, 20_000
    started = time.monotonic()
    try:
        ask(site.url(path="sub/a.tif"), "0-3999")
    finally:
        site.latency_s, site.bytes_per_s = 0.0, None
    assert time.monotonic() - started > 0.29


def test_what_is_unknown_is_refused(site):
    for wrong in ({"kind": "no_such"}, {"kind": "s503", "scope": "tiles"}):
        with pytest.raises(ValueError, match="unknown"):
            site.url(**wrong)
    assert status(f"{site.origin}/t/no_such:1:any/sub/a.tif") == 400


def test_as_a_process(site):
    def control(what, method="GET"):
        return json.loads(ask(f"{origin}/_control/{what}", None, method=method)[1])

    script = Path(__file__).with_name("faultserver.py")
    command = [sys.executable, script, "--root", site.root, "--latency", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:  # noqa: S603
        try:
            origin = running.stdout.readline().decode().strip()
            assert status(f"{origin}/t/s503:1:any/sub/a.tif") == 503
            (entry,) = control("log?token=t")["t"]
            assert (entry["kind"], entry["status"]) == ("s503", 503)
            control("log?token=t", "DELETE")
            assert control("log?token=t") == {"t": []}
            turned = {"latency_s": 0.0, "bytes_per_s": None, "many": True}
            assert control("settings?latency_s=0&many=1") == turned
        finally:
            running.terminate()
