"""`s2l3a doctor`: each finding changes when the server behaves otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import faultkinds
import pytest
import trustme
from click.testing import CliRunner
from faultserver import FaultServer

from s2l3a_xr import Transport
from s2l3a_xr._cli import main
from s2l3a_xr._doctor import MOST_BYTES, MOST_REQUESTS, Report, _checks, _examination, examine
from s2l3a_xr._doctor._evidence import Evidence
from s2l3a_xr._doctor._report import finding
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._sample._port import listen
from s2l3a_xr._transport import Peer, Probe

QUICK = Transport(idle_timeout_s=1.0)
FILES = "S2_L3A_WASP/files/"
DAY_S = 86_400


@pytest.fixture(scope="module")
def site(sample_root):
    with FaultServer(sample_root, many=True) as running:
        yield running


@pytest.fixture(scope="module")
def path(sample_root):
    """One file of the sample archive, below its root."""
    found = min((sample_root / FILES / "32/U/PC").rglob("*_FRC_B4.tif"))
    return found.relative_to(sample_root).as_posix()


@pytest.fixture(autouse=True)
def more_kinds(monkeypatch):
    """Behaviours that are no faults of the catalogue."""

    def without(*names):
        return lambda case: case.answer.with_headers(**dict.fromkeys(names))

    def labelled(**headers):
        return lambda case: case.answer.with_headers(**headers)

    def ignoring(case):
        return faultkinds.page(206) if case.answer.status == 416 else case.answer

    for kind, spoil in {
        "no_etag": without("ETag"),
        "no_date": without("Last-Modified"),
        "weak": labelled(ETag='W/"1"'),
        "plain": labelled(Content_Type="text/plain"),
        "silent": without("Accept-Ranges"),
        "denying": labelled(Accept_Ranges="none"),
        "no_416": ignoring,
        "other_tag": labelled(ETag='"head"'),
    }.items():
        monkeypatch.setitem(faultkinds.SPOILERS, kind, spoil)


def levels(report):
    return {one.check: one.level for one in report.findings}


def look(site, path, kind="none", **options):
    return examine(site.url(kind, path=path, **{"count": float("inf"), **options}), QUICK)


def test_a_good_server_is_good_in_all_points(site, path):
    report = look(site, path)
    assert set(levels(report).values()) == {"ok"}
    assert (report.verdict, report.is_readable) == ("readable", True)
    assert report.latency_s is not None
    assert {one.check for one in report.findings} >= {
        "TLS", "protocol", "proxy", "redirects", "ranges", "several ranges", "last bytes",
        "behind the end", "Accept-Ranges", "ETag", "same file each time", "Last-Modified", "HEAD",
        "Content-Type", "Content-Encoding", "keep-alive", "requests at once", "latency", "TIFF",
        "place", "reading",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("full200", {}, {"ranges": "bad"}),
        ("html200", {}, {"ranges": "bad"}),
        ("redirlogin", {"scope": "header", "count": 1}, {"ranges": "bad"}),
        ("full200", {"scope": "tile"}, {"ranges": "bad"}),
        ("s403", {}, {"ranges": "bad"}),
        ("stall0", {}, {"reachable": "bad"}),
        ("reset0", {}, {"reachable": "bad"}),
        ("redirloop", {}, {"reachable": "bad"}),
        ("redirhost:elsewhere.invalid", {}, {"reachable": "bad"}),
        ("shift_honest", {}, {"ranges": "bad"}),
        ("nocr", {}, {"ranges": "warn"}),
        ("html206", {}, {"Content-Type": "bad"}),
        ("ctype_html", {}, {"Content-Type": "bad"}),
        ("plain", {}, {"Content-Type": "warn"}),
        ("gzip", {}, {"Content-Encoding": "bad"}),
        ("no_etag", {}, {"ETag": "warn"}),
        ("weak", {}, {"ETag": "warn"}),
        ("no_date", {}, {"Last-Modified": "warn"}),
        ("mirror_etag", {"scope": "tile"}, {"same file each time": "warn"}),
        ("etagswap", {"scope": "tile"}, {"same file each time": "bad"}),
        ("badtotal", {"scope": "tile"}, {"same file each time": "bad"}),
        ("s405", {"scope": "head"}, {"HEAD": "warn"}),
        ("other_tag", {"scope": "head"}, {"HEAD": "warn"}),
        ("denying", {}, {"Accept-Ranges": "warn"}),
        ("silent", {}, {"Accept-Ranges": "ok"}),
        ("no_416", {}, {"behind the end": "warn"}),
        ("http10", {}, {"protocol": "warn", "keep-alive": "warn"}),
        ("keepalive-close", {}, {"keep-alive": "warn"}),
        ("s503", {"scope": "tile"}, {"requests at once": "warn", "busy": "warn"}),
        ("s429ra:0", {"scope": "header", "count": 1}, {"busy": "warn", "ranges": "ok"}),
        ("multipart", {"scope": "tile"}, {"last bytes": "warn"}),
        ("flip", {"scope": "tile"}, {"reading": "bad", "ranges": "ok"}),
    ],
)
def test_what_a_server_does_otherwise_is_found(site, path, kind, options, expected):
    report = look(site, path, kind, **options)
    found = levels(report)
    assert {check: found.get(check) for check in expected} == expected
    assert report.is_readable == ("bad" not in found.values())
    assert all(one.means for one in report.findings if one.level != "ok"), report.text()


def test_what_follows_is_told(site, path):
    report = look(site, path, "s429ra:0", scope="header", count=1)
    (busy,) = [one for one in report.findings if one.check == "busy"]
    assert "status 429, Retry-After: 0" in busy.found
    assert "readable, but mind: busy" in report.text()
    report = look(site, path, "full200")
    assert report.verdict == "not readable: ranges: ignored, the whole file would come"
    assert "download whole files" in report.text()


def test_an_announced_wait_is_waited(site, path):
    assert look(site, path, "s429ra:2", scope="header", count=1).seconds > 2


@pytest.mark.parametrize(
    ("begin", "drip"),
    [(b"HTTP/1.1 200 OK\r\nX: ", b"a"), (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")],
    ids=["a header in drips", "hints without end"],
)
def test_a_header_without_end_is_given_up(begin, drip):
    stopped = threading.Event()

    def answer(listener):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2**16)
            connection.sendall(begin)
            while not stopped.wait(0.1):
                connection.sendall(drip)

    with listen() as listener, ThreadPoolExecutor(1) as threads:
        threads.submit(answer, listener)
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            began = time.monotonic()
            report = examine(url, Transport(idle_timeout_s=1.0, give_up_s=1.5))
            assert time.monotonic() - began < 10
        finally:
            stopped.set()
    assert not report.is_readable
    assert "header of the answer was not complete after 1.5 s" in report.text()


def test_a_server_that_drips_is_looked_at_for_so_long_and_no_longer(sample_root, path, monkeypatch):
    monkeypatch.setattr(_examination, "MOST_S", 2.0)
    with FaultServer(sample_root, many=True) as slow:
        url = slow.url("drip:0.2", count=float("inf"), scope="tile", path=path)
        report = examine(url, Transport(idle_timeout_s=1.0, give_up_s=2.0))
        taken = [entry.received for entry in slow.log(url)]
    assert max(taken) - min(taken) < 4
    assert report.seconds < 45
    assert not report.is_readable
    assert "not asked: this server has taken long enough" in report.text()


def test_one_range_after_the_other_where_several_do_not_come(sample_root, path):
    with FaultServer(sample_root) as single:
        assert levels(look(single, path))["several ranges"] == "warn"


def test_it_measures(sample_root, path):
    with FaultServer(sample_root, many=True, latency_s=0.05, bytes_per_s=800_000) as slow:
        report = look(slow, path.replace("_B4", "_B11"))
    assert report.latency_s is not None
    assert 0.05 <= report.latency_s[0] <= report.latency_s[1]
    assert report.bytes_per_s is not None
    assert report.bytes_per_s < 1_000_000
    assert levels(report)["throughput"] == "warn"


def test_it_is_gentle(site):
    for kind in ("none", "s503", "full200", "closemid"):
        url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
        report = examine(url, QUICK)
        log = site.log(url)
        assert len(log) == report.requests <= MOST_REQUESTS
        assert sum(entry.sent for entry in log) <= MOST_BYTES
        assert report.bytes <= MOST_BYTES


def test_it_walks_from_the_top_to_a_file(site):
    report = examine(site.url(path=FILES), QUICK)
    assert report.is_readable
    assert "understood, 6 folders" in report.text()
    assert report.file.endswith(".tif")
    redirected = examine(site.url(path=FILES.rstrip("/")), QUICK)
    assert levels(redirected)["address"] == "warn"


def test_a_folder_without_the_product_is_not_readable(tmp_path):
    (tmp_path / "32").mkdir()
    (tmp_path / "32" / "notes.txt").write_text("nothing")
    with FaultServer(tmp_path) as empty:
        report = examine(empty.url(path=""), QUICK)
        assert levels(report)["listing"] == "bad"
        page = examine(empty.url("html200", path="32/"), QUICK)
    assert "no file of the product" in report.verdict
    assert "Login" in page.text()
    assert not page.is_readable


def test_a_stac_api_leads_to_a_file(fresh_server):
    report = examine(fresh_server.stac_url, QUICK)
    assert report.is_readable
    assert levels(report)["catalogue"] == "ok"
    assert report.requests == len(fresh_server.log)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "FeatureCollection", "features": []}, "no item"),
        ({"type": "Feature", "assets": {"B4": {"href": "file:///etc/{name}"}}}, "only https"),
        ({"type": "Feature", "assets": {"B4": {"href": "http://10.0.0.1/{name}"}}}, "leads"),
        ({"type": "Feature", "assets": {"B4": {"href": "{name}"}}}, ""),
    ],
)
def test_links_of_a_document_are_foreign(tmp_path, sample_root, path, document, said):
    name = path.rpartition("/")[2]
    shutil.copy(sample_root / path, tmp_path / name)
    text = json.dumps(document).replace("{name}", name)
    (tmp_path / "item.json").write_text(text, "utf-8")
    with FaultServer(tmp_path) as place:
        report = examine(place.url(path="item.json"), QUICK)
    assert report.is_readable == (not said)
    assert said in report.verdict


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SENTINEL2X_20210315-000000-000_L3A_T32UQC_C_V1-2_FRC_B4.tif", {"reading": "bad"}),
        ("any.tif", {"reading": "ok", "place": "warn"}),
    ],
)
def test_the_file_must_be_what_its_name_says(tmp_path, sample_root, path, name, expected):
    shutil.copy(sample_root / path, tmp_path / name)
    with FaultServer(tmp_path, many=True) as place:
        found = levels(examine(place.url(path=name), QUICK))
    assert {check: found.get(check) for check in expected} == expected


def test_what_is_no_tiff_is_told(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"<VRTDataset>" * 4000)
    with FaultServer(tmp_path) as place:
        report = examine(place.url(path="a.tif"), QUICK)
    assert "this is no TIFF file" in report.verdict


def test_a_proxy_is_named_and_its_password_is_not(site, path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{site.port}")
    report = examine("http://archive.invalid/" + path, QUICK)
    (proxy,) = [one for one in report.findings if one.check == "proxy"] or [None]
    assert proxy is not None
    assert str(site.port) in proxy.found
    assert "secret" not in report.text() + report.json()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert "127.0.0.1:1" in examine("http://archive.invalid/" + path, QUICK).verdict


PART = Probe(
    url="https://example.org/a.tif",
    status=206,
    version="1.1",
    headers={"content-range": "bytes 0-9/100", "etag": '"a"'},
    body=bytes(10),
)
SEEN = Evidence(url=PART.url, peer=None, proxy=None, head=PART, begin=PART, total=100)


@pytest.mark.parametrize(
    ("peer", "level"),
    [
        (Peer(address="a", tls="TLSv1.3", expires=1e12), "ok"),
        (Peer(address="a", tls="TLSv1.2", expires=None), "ok"),
        (Peer(address="a", tls="TLSv1.1", expires=1e12), "warn"),
        (Peer(address="a", tls="TLSv1.3", expires=0.0), "warn"),
        (None, "warn"),
    ],
)
def test_tls_is_judged(peer, level):
    assert _checks.connection(replace(SEEN, peer=peer))[0].level == level
    plain = replace(SEEN, url="http://example.org/a.tif")
    assert _checks.connection(plain)[0].level == "warn"


def test_slowness_is_judged():
    small = [replace(PART, first_s=0.4)] * 9 + [replace(PART, first_s=2.0)]
    assert _checks.latency(replace(SEEN, small=small)) == (0.4, 2.0)
    assert {f.check: f.level for f in _checks.speed(replace(SEEN, small=small))} == {
        "keep-alive": "ok",
        "latency": "warn",
    }
    long = replace(PART, body=bytes(4 * 2**20), body_s=8.0)
    (judged,) = _checks.speed(replace(SEEN, long=long))
    assert (judged.check, judged.level) == ("throughput", "warn")
    assert _checks.speed(replace(SEEN, long=replace(long, body_s=0.1)))[0].level == "ok"


def test_a_file_without_etag_and_date_says_what_can_not_be_noticed():
    bare = replace(PART, headers={})
    etag = _checks.identity(replace(SEEN, begin=bare))[0]
    assert "while reading can't be noticed" in etag.means


@pytest.mark.parametrize(
    "url",
    [
        "a.tif",
        "",
        "/data/mirror",
        "ftp://h/a",
        "s3://b/a",
        "http://",
        "http://h:x/",
        "http://[::1/",
    ],
)
def test_what_is_no_address_is_told_as_such(url):
    with pytest.raises(SelectionError, match=r"no URL|no host|other libraries"):
        examine(url, QUICK)


def test_a_closed_port_is_told_without_a_word_of_tls():
    with listen() as listener:
        port = listener.getsockname()[1]
    report = examine(f"http://127.0.0.1:{port}/", QUICK)
    (found,) = report.findings
    assert (found.check, found.level) == ("reachable", "bad")
    assert "no connection" in found.found
    assert "ssl" not in report.text()
    assert "see whether address and network are right" in found.means


def test_texts_of_servers_command_no_terminal():
    found = finding("x", "bad", "red \x1b[31m\r\nhttp://u:pw@h/?t=1", "\x9b")
    report = Report(url="u", file="f", findings=(found,), requests=1, bytes=1, seconds=1.0)
    for text in (report.text(), report.json(), report.verdict):
        assert not set(text) & {"\x1b", "\r", "\x9b"}
        assert "pw" not in text
    assert "(1 request, " in report.text()


def run(*args):
    return CliRunner().invoke(main, ["doctor", *args])


def test_command_line(site, path):
    good = run(site.url(path=path))
    assert (good.exit_code, "\nreadable (" in good.output) == (0, True), good.output
    bad = run(site.url("full200", count=float("inf"), path=path))
    assert (bad.exit_code, "\nnot readable: ranges" in bad.output) == (1, True)
    nonsense = run("a.tif")
    assert nonsense.exit_code == 2
    assert "'a.tif' is no URL" in nonsense.output
    told = json.loads(run(site.url(path=path), "--json").output)
    assert (told["readable"], told["verdict"]) == (True, "readable")
    assert set(told["latency_s"]) == {"median", "p95"}
    assert {"check", "level", "found", "means"} == set(told["findings"][0])


def test_the_environment_names_the_server(site, path, monkeypatch):
    monkeypatch.setenv("S2L3A_ARCHIVE", site.url(path=path))
    told = run()
    assert told.exit_code == 0, told.output
    assert site.origin in told.output


@pytest.mark.parametrize(
    ("days", "trusted", "code", "line"),
    [
        (90, True, 0, "ok    TLS                  TLSv1.3, the certificate ends in"),
        (5, True, 0, "warn  TLS                  TLSv1.3, the certificate ends in 5 days"),
        (90, False, 1, "bad   reachable            the server's certificate can't be trusted"),
    ],
)
def test_certificates(sample_root, path, tmp_path, days, trusted, code, line):
    authority = trustme.CA()
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", not_after=ends).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    environment = {k: v for k, v in os.environ.items() if "SSL" not in k}
    environment |= {"SSL_CERT_FILE": str(tmp_path / "ca.pem")} if trusted else {}
    with FaultServer(sample_root, many=True, tls=context) as secured:
        secured.host = "localhost"
        url = secured.url(path=path)
        ended = subprocess.run(  # noqa: S603 - our own program; authorities are read when it starts
            [sys.executable, "-m", "s2l3a_xr._cli", "doctor", url],
            capture_output=True, text=True, check=False, timeout=120, env=environment,
        )  # fmt: skip
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert line in ended.stdout
