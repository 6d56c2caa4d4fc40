"""Catalogue faults, numbered as in the list of faults (68-79): what each must lead to."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import itertools
import json
import logging
import math
import re
import socket
import sys
import threading
import time
import tracemalloc
import warnings
from dataclasses import replace
from itertools import count, cycle
from types import SimpleNamespace

import pytest

from s2l3a_xr import (
    ArchiveError,
    Inventory,
    MissingError,
    MissingWarning,
    ReadError,
    S2L3AError,
    StacArchive,
    Transport,
    open_l3a,
    search_l3a,
)
from s2l3a_xr._archive import FolderArchive, newest
from s2l3a_xr._listing import parse_listing
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import SAMPLE_AOI, Fault
from s2l3a_xr._sample._port import listen
from s2l3a_xr._stac._links import LinkRefusedError, Links
from s2l3a_xr._transport import run_with_session

pytestmark = pytest.mark.usefixtures("short_pauses")

NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
FILE = f"{NAME}_FRC_B4.tif"
AOI = (11.68, 51.94, 11.76, 51.99)
YEAR = "/files/32/U/PC/2021/"
MIB = 2**20
QUICK = Transport(max_attempts=2, idle_timeout_s=5)
_COUNTER = itertools.count(1)


class Site:
    """A server of fixed or endless pages, which counts connections and requests."""

    def __init__(self):
        self.pages = {}
        self.asked = []
        self.cookies = []
        self.connections = 0
        self.sent = 0
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append(self.path)
                site.cookies.append(self.headers.get("Cookie", ""))
                site.answer(self)

            do_POST = do_GET  # noqa: N815 - the library's names

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, *args):
                site.connections += 1
                super().process_request(*args)

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/files/"

    def answer(self, handler):
        page = self.pages.get(handler.path.partition("?")[0])
        page = next(page) if isinstance(page, cycle) else page
        status, body, headers = page if isinstance(page, tuple) else (200, page, {})
        if page is None:
            status, body = 404, b""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if isinstance(body, bytes):
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for piece in [body] if isinstance(body, bytes) else body:
                handler.wfile.write(piece)
                self.sent += len(piece)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    """Give each test a session of its own: a port that comes again was another server before."""
    fresh = replace(QUICK, cache_bytes=QUICK.cache_bytes + next(_COUNTER))
    monkeypatch.setattr(sys.modules[__name__], "QUICK", fresh)


@pytest.fixture
def site():
    with Site() as running:
        yield running


@pytest.fixture
def canary():
    """Nobody may ever come here."""
    with Site() as running:
        yield running
        assert (running.connections, running.asked) == (0, [])


@pytest.fixture
def canary_file(tmp_path):
    """Nobody may ever open this."""
    file = tmp_path / "secret" / FILE
    file.parent.mkdir()
    file.write_bytes(b"secret")
    _watched[str(file)] = opened = []
    yield file
    del _watched[str(file)]
    assert opened == []


_watched = {}


def _watch(event, args):
    if event == "open" and _watched and str(args[0]) in _watched:
        _watched[str(args[0])].append(args[0])


sys.addaudithook(_watch)


def page(*lines, title="Index of /files", end="</body></html>"):
    body = "\n".join(lines)
    return f"<html><head><title>{title}</title></head><body>\n{body}\n{end}".encode()


def links(*names):
    return [f'<a href="{name}">x</a> 2021-04-28 06:15  1K' for name in names]


def ask(url, method, *args, transport=QUICK):
    archive = FolderArchive(url=url)
    return run_with_session(transport, lambda session: getattr(archive, method)(session, *args))


def products(site, *, transport=QUICK):
    return ask(site.url, "products", "32UPC", 2021, transport=transport)


# 68: names in listings

HOSTILE_HREFS = [
    "https://evil.example/files/32/U/PC/2021/{}/",
    "//evil.example/files/32/U/PC/2021/{}/",
    "../{}/",
    "../../../../../etc/{}/",
    "%2e%2e/{}/",
    "%2E%2E%2F{}/",
    "..%5c{}/",
    "..\\{}/",
    "sub/{}/",
    "sub%2f{}/",
    "sub\\{}/",
    "javascript:{}/",
    "file:///etc/{}/",
    "file:{}/",
    "data:text/html,{}/",
    "{}%00/",
    "{}\0/",
    "{}/?C=N;O=D",
    "?{}/",
    "#{}/",
    "{}%0a/",
    "{}/{}.tif",
    "http://127.0.0.1:1/files/32/U/PC/2021/{}/",
    "http://user:secret@127.0.0.1/files/32/U/PC/2021/{}/",
]
NO_PRODUCTS = [
    NAME.lower() + "/",
    NAME.replace("SENTINEL", "Sentinel") + "/",
    NAME.replace("32UPC", "32UQC") + "/",
    NAME.replace("202103", "202203") + "/",
    NAME.replace("0315", "0231") + "/",
    NAME + "x/",
    "x" + NAME + "/",
    "robots.txt",
]


def test_68_only_children_that_are_products_survive_and_the_rest_is_counted(site, caplog):
    hostile = [href.format(NAME, NAME) for href in HOSTILE_HREFS]
    encoded = "".join(f"%{ord(letter):02x}" for letter in NAME.replace("0315", "0515")) + "/"
    site.pages[YEAR] = page(
        *links(*hostile, *NO_PRODUCTS),
        f'<!-- <a href="{NAME.replace("0315", "0915")}/">x</a> -->',
        *links(NAME + "/", NAME + "/", encoded),
    )
    with caplog.at_level(logging.DEBUG, "s2l3a_xr"):
        found = products(site)
    assert sorted(p.month for p in found) == [3, 5]
    assert {p.tile for p in found} == {"32UPC"}
    told = [record.getMessage() for record in caplog.records]
    total = len(hostile) + len(NO_PRODUCTS) + 3
    assert f"{site.url[:-7]}{YEAR}: {len(hostile)} of {total} links lead elsewhere" in told
    assert f"{YEAR[7:]}: {len(NO_PRODUCTS)} names are no products of it" in told
    assert "secret" not in caplog.text
    assert site.asked == [YEAR]


@pytest.mark.parametrize("href", HOSTILE_HREFS)
def test_68_each_of_them_is_none(href):
    text = page(*links(href.format(NAME, NAME), "b/")).decode()
    names = [e.name for e in parse_listing(text, f"http://127.0.0.1{YEAR}")]
    assert names == ["b/"]


def test_68_a_file_is_asked_for_by_the_grammar_not_by_the_listing(site):
    """Whatever a listing says, no path of it is ever used: names are only compared."""
    product = Product.parse(NAME)
    folder = f"{YEAR}{NAME}/"
    site.pages[folder] = page(*links("../../../" + FILE, f"%2e%2e/{FILE}", FILE.lower()))
    assert ask(site.url, "files", product, [BANDS["B4"]], 10) == {}
    assert set(site.asked) == {folder}


# 69: size


def endless(begin=b"<html><title>Index of /</title>"):
    yield begin
    line = b"".join(b'<a href="f%06d/">x</a>\n' % number for number in range(2000))
    while True:
        yield line


@pytest.mark.parametrize("declared", [True, False], ids=["500 MB", "endless"])
def test_69_a_listing_without_end_is_cut_off(site, declared):
    headers = {"Content-Length": str(500 * MIB)} if declared else {}
    site.pages[YEAR] = (200, endless(), headers)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"listing can't be read: .*larger than 1048576 byt"):
            products(site, transport=Transport(max_listing_bytes=MIB))
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()
    assert len(site.asked) == 1
    assert site.sent < 64 * MIB  # what lay in sockets' buffers


def test_69_by_default_16_mib(site):
    site.pages[YEAR] = page(*links(NAME + "/"), "x" * (16 * MIB))
    with pytest.raises(ArchiveError, match="larger than 16777216 bytes"):
        products(site)
    site.pages[YEAR] = page(*links(NAME + "/"), "x" * (15 * MIB))
    assert len(products(site)) == 1


# 70: forms

NGINX = """<html>\r
<head><title>Index of /files/</title></head>\r
<body>\r
<h1>Index of /files/</h1><hr><pre><a href="../">../</a>\r
<a href="{0}/">SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V..&gt;</a> 28-Apr-2021 06:15   -\r
</pre><hr></body>\r
</html>\r
"""
IIS = (
    "<html><head><title>127.0.0.1 - /files/</title></head><body><H1>127.0.0.1 - /files/</H1>"
    '<hr>\r\n\r\n<pre><A HREF="/files/">[To Parent Directory]</A><br><br> 4/28/2021  6:15 AM'
    '        &lt;dir&gt; <A HREF="{1}{0}/">{0}</A><br> 4/28/2021  6:15 AM     57671680'
    ' <A HREF="{1}b.tif">b.tif</A><br></pre><hr></body></html>'
)
LIGHTTPD = (
    '<!DOCTYPE html><html><head><title>Index of /files/</title></head><body><table><tr class="d">'
    '<td class="n"><a href="../">..</a>/</td></tr><tr class="d"><td class="n"><a href="{0}/">{0}'
    '</a>/</td><td class="s">- &nbsp;</td></tr></table></body></html>'
)
PYTHON = (
    "<!DOCTYPE HTML><html lang='en'><head><title>Directory listing for /files/</title></head>"
    '<body><ul><li><a href="{0}/">{0}/</a></li></ul><hr></body></html>'
)
BARE = '<html><body><a href="{0}/">{0}</a></body></html>'
UNCLOSED = '<h1>Index of /files<p><table><tr><td><a href="{0}/">{0}<tr><td><a href="b/">'


@pytest.mark.parametrize(
    "form", [NGINX, IIS, LIGHTTPD, PYTHON, BARE, UNCLOSED],
    ids=["nginx", "iis", "lighttpd", "python", "bare", "unclosed"],
)  # fmt: skip
@pytest.mark.parametrize("codec", ["utf-8", "latin-1", "utf-8-sig"])
def test_70_listings_of_other_servers(site, form, codec):
    site.pages[YEAR] = form.format(NAME, YEAR).replace("Index of", "Index of Füße").encode(codec)
    assert [p.name for p in products(site)] == [NAME]


def test_70_iis_writes_sizes_before_names():
    """They are not taken for those of the name before."""
    entries = parse_listing(IIS.format(NAME, YEAR), f"http://127.0.0.1{YEAR}")
    assert [(entry.name, entry.size) for entry in entries] == [(f"{NAME}/", None), ("b.tif", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (page(*links(NAME + "/")).decode().encode("utf-16"), "is no directory listing"),
        (b"\xff\xfe\xfa" * 999, "is no directory listing"),
        (b"", "is no directory listing"),
        (page(*links(NAME + "/"), end=""), "ends early"),
        (page(*links(NAME + "/"), "<!-- never closed"), "ends early"),
        (page(end=""), "ends early"),
        (b'[{"name": "2021", "type": "directory"}]', "is no directory listing"),
    ],
    ids=["utf-16", "binary", "nothing", "cut", "comment", "cut early", "json"],
)
def test_70_what_cannot_be_read_is_an_error(site, text, words):
    site.pages[YEAR] = text
    with pytest.raises(ArchiveError, match=words) as caught:
        products(site)
    assert YEAR in str(caught.value)
    assert len(site.asked) == 3


# 71: nothing where something is

LOGIN = page(
    '<form action="login"><a href="help.html">Help</a> <a href="imprint/">Imprint</a></form>',
    title="Sign in",
)
MAINTENANCE = page("<p>We are back soon. <a href='status'>Status</a>", title="Maintenance")
PORTAL = b"<HTML><BODY>Welcome to the hotel. <A HREF='accept'>I agree</A></BODY></HTML>"


@pytest.mark.parametrize(
    "text", [LOGIN, MAINTENANCE, PORTAL], ids=["login", "maintenance", "portal"]
)
def test_71_a_page_that_is_no_listing_does_not_say_that_there_is_nothing(site, text):
    site.pages[YEAR] = text
    with pytest.raises(
        ArchiveError, match=r"2021/ is no directory listing; it begins .<"
    ) as caught:
        products(site)
    assert not isinstance(caught.value, MissingError)
    assert len(site.asked) == 3


@pytest.mark.parametrize("first", [LOGIN, page(), (503, b"", {}), page(*links(NAME), end="")])
def test_71_what_passes_is_outlived(site, first):
    answers = iter([first, page(*links(NAME + "/"))])
    site.pages[YEAR] = cycle(answers)
    assert len(products(site)) == 1
    assert len(site.asked) == 2


@pytest.mark.parametrize(("folder", "method", "args"), [
    (YEAR, "products", ("32UPC", 2021)), ("/files/32/U/PC/", "years", ("32UPC",)),
])  # fmt: skip
def test_71_an_empty_listing_of_a_folder_that_is_there_is_an_error(site, folder, method, args):
    site.pages[folder] = page('<a href="../">Parent Directory</a>')
    with pytest.raises(ArchiveError, match=r"names nothing, asked 3 times.*Try again") as caught:
        ask(site.url, method, *args)
    assert folder in str(caught.value)
    assert not isinstance(caught.value, MissingError)
    site.pages[folder] = page(*links(NAME + "/", "2021/"))
    assert ask(site.url, method, *args)  # not remembered


def test_71_an_empty_last_year_that_nobody_asked_for_stops_nobody(site):
    site.pages["/files/"] = page(*links("32/"))
    site.pages["/files/32/U/PC/"] = page(*links("2020/", "2021/", "2022/"))
    site.pages[f"{YEAR}{NAME}/"] = page(*links(f"{NAME}_FRC_B4.tif"))
    named = {y: f"/files/32/U/PC/{y}/" for y in (2020, 2021, 2022)}
    site.pages |= {
        named[2020]: page(*links(NAME.replace("2021", "2020") + "/")),
        named[2021]: page(*links(NAME + "/")),
        named[2022]: page(),
    }

    def find(**wishes):
        return search_l3a(AOI, bands="B4", archive=site.url, verify=False, **wishes)

    with pytest.warns(MissingWarning, match="32UPC in 2022 is there, but lists nothing"):
        assert find(months=3).months == ((2020, 3), (2021, 3))
    with pytest.warns(MissingWarning, match="32UPC in 2022 is there, but lists nothing"):
        assert find(time="2021-03/..").months == ((2021, 3),)
    with pytest.raises(ArchiveError, match="2022/ is there, but its listing names nothing"):
        find(years=2022)
    site.pages |= {
        named[2021]: page(),
        named[2022]: page(*links(NAME.replace("2021", "2022") + "/")),
    }
    with pytest.raises(ArchiveError, match="2021/ is there, but its listing names nothing"):
        find(months=3, transport=QUICK)  # the others remember what was there


def test_71_a_folder_that_is_not_there_is_nothing(site):
    assert products(site) == ()
    assert len(site.asked) == 1


def test_31_a_folder_that_was_not_there_for_a_moment_is_asked_for_again(site):
    assert products(site) == ()
    site.pages[YEAR] = page(*links(NAME + "/"))
    assert len(products(site)) == 1
    assert len(products(site)) == 1
    assert len(site.asked) == 2  # what is there is remembered


def test_71_a_product_without_files_is_told_as_gone(site):
    site.pages["/files/"] = page(*links("32/"))
    site.pages["/files/32/U/PC/"] = page(*links("2021/"))
    other = NAME.replace("0315", "0515")
    site.pages[YEAR] = page(*links(NAME + "/", other + "/"))
    site.pages[f"{YEAR}{NAME}/"] = page()
    site.pages[f"{YEAR}{other}/"] = page(*links(f"{other}_FRC_B4.tif"))
    found = search_l3a(AOI, years=2021, months=[3, 5], bands="B4", archive=site.url)
    assert found.to_dataframe()["status"].tolist() == ["gone", "available"]
    with pytest.warns(MissingWarning, match="nothing in 2021-03"):
        open_l3a(inventory=found)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_71_a_listing_that_fails_is_tried_again_and_then_an_error(site, status):
    site.pages[YEAR] = (status, b"", {})
    with pytest.raises(ArchiveError, match=rf"listing can't be read.*{status}") as caught:
        products(site)
    assert not isinstance(caught.value, MissingError)
    assert len(site.asked) == QUICK.max_attempts


def test_71_by_search_it_is_no_lack_either(fresh_server):
    fresh_server.faults = [Fault(match=r"/32/U/PC/2021/$", kind="html")]
    with pytest.raises(ArchiveError, match="is no directory listing") as caught:
        search_l3a(AOI, years=2021, archive=fresh_server.url)
    assert not isinstance(caught.value, MissingError)


# 72: listing and STAC disagree


def test_72_what_the_catalogue_has_and_the_server_has_not_is_told(fresh_server):
    fresh_server.faults = [Fault(match=r"20210515.*B4\.tif$", kind="status", status=404)]
    asked = {"years": 2021, "months": [4, 5], "bands": "B4"}
    da = open_l3a(SAMPLE_AOI, **asked, archive=fresh_server.stac_url)
    with pytest.warns(MissingWarning, match="gone"):
        values = da.to_numpy()
    assert (values[0] != -10000).any()
    assert (values[1] == -10000).all()
    assert da.l3a.failures()["status"].tolist() == ["gone"]


def test_72_what_the_server_has_and_the_catalogue_has_not_is_told(fresh_server):
    def without_may(document):
        kept = [f for f in document.get("features", []) if "20210515" not in f["id"]]
        return {**document, "features": kept} if "features" in document else document

    fresh_server.stac.edit = without_may
    with pytest.warns(MissingWarning, match=r"the STAC API said that \d+ items match, and gave"):
        found = search_l3a(
            SAMPLE_AOI, years=2021, months=[4, 5], bands="B4", archive=fresh_server.stac_url
        )
    with pytest.warns(MissingWarning, match="nothing in 2021-05"):
        open_l3a(inventory=found)
    assert (
        search_l3a(
            SAMPLE_AOI, years=2021, months=[4, 5], bands="B4", archive=fresh_server.url
        ).missing_months
        == ()
    )


# 73: pages without end


@contextlib.contextmanager
def paging(server, next_of, **transport):
    """Let a STAC API name what it likes as the next page."""
    numbers = count(1)

    def edit(document):
        if document.get("type") != "FeatureCollection":
            return document
        own = [link for link in document["links"] if link["rel"] != "next"]
        return {**document, "links": [*own, next_of(next(numbers))], "numberMatched": 7}

    server.stac.edit = edit
    began = time.monotonic()
    with pytest.raises(ArchiveError) as caught:
        search_l3a(
            SAMPLE_AOI, years=2021, archive=StacArchive(server.stac_url),
            transport=Transport(**transport),
        )  # fmt: skip
    assert time.monotonic() - began < 30
    yield str(caught.value), [r for r in server.log if r.path.endswith("/search")]


def to_page(server, token, method="GET"):
    link = {"rel": "next", "method": method, "type": "application/geo+json"}
    if method == "GET":
        return {**link, "href": f"{server.stac_url}/search?token={token}"}
    return {**link, "href": f"{server.stac_url}/search", "body": {"token": token}, "merge": True}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("period", "most"), [(1, 2), (2, 3)], ids=["itself", "A-B-A"])
def test_73_pages_in_circles_are_an_error(fresh_server, method, period, most):
    with paging(fresh_server, lambda n: to_page(fresh_server, n % period, method)) as (told, asked):
        assert "goes in circles" in told
        assert len(asked) == most


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_73_endless_pages_are_an_error(fresh_server, method):
    def next_of(number):
        return to_page(fresh_server, number, method)

    with paging(fresh_server, next_of, max_pages=12) as (told, asked):
        assert "more than 12 pages" in told
        assert "max_pages=" in told
        assert len(asked) == 12


@pytest.mark.parametrize(("tokens", "words"), [
    (cycle([1]), "goes in circles"), (cycle([1, 2]), "goes in circles"),
    (count(1), "more than 9 pages"),
], ids=["itself", "A-B-A", "endless"])  # fmt: skip
def test_73_pages_of_a_search_by_its_address(site, tokens, words):
    def answer(handler):
        site.asked.append("page")
        link = {"rel": "next", "href": f"{site.url}items?token={next(tokens)}"}
        features = {"type": "FeatureCollection", "features": [], "links": [link]}
        body = json.dumps(features).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    site.answer = answer
    with pytest.raises(ArchiveError, match=words):
        search_l3a(AOI, archive=f"{site.url}items", transport=Transport(max_pages=9))
    assert len(site.asked) < 30


def test_73_a_catalogue_is_not_followed_without_end(site):
    def answer(handler):
        depth = len(handler.path)
        child = {"rel": "child", "href": f"{handler.path}x/"}
        body = json.dumps({"type": "Catalog", "stac_version": "1.0.0", "links": [child]}).encode()
        handler.send_response(200 if depth < 300 else 500)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    site.answer = answer
    with pytest.raises(ArchiveError, match="STAC"):
        search_l3a(AOI, archive=site.url, transport=QUICK)


# 74: twice


def item(*hrefs, name=NAME[:-5], **facts):
    assets = {f"FRC_B{n}": {"href": href} for n, href in enumerate(hrefs, 4)}
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": assets, **facts}


def test_74_the_newest_version_is_taken_whatever_the_order_and_told(caplog):
    texts = ["C_V1-2", "C_V1-10", "C_V1-9", "D_V1-2"]
    several = [Product.parse(NAME[:-6] + text) for text in texts]
    for order in (several, several[::-1], several[2:] + several[:2]):
        caplog.clear()
        with caplog.at_level(logging.INFO, "s2l3a_xr"):
            (chosen,) = newest(order).values()
        assert chosen.version == "1-10"
        assert f"3 products are left aside, as {NAME[:-6]}C_V1-2 for {chosen.name}" in caplog.text


def test_74_equal_versions_are_chosen_alike_in_any_order():
    pair = [Product.parse(NAME), Product.parse(NAME.replace("_C_", "_D_"))]
    assert newest(pair) == newest(pair[::-1])


def test_74_two_versions_in_a_listing_stand_in_the_inventory(site):
    site.pages["/files/"] = page(*links("32/"))
    newer = NAME.replace("V1-2", "V1-3")
    site.pages[YEAR] = page(*links(newer + "/", NAME + "/"))
    for name in (NAME, newer):
        site.pages[f"{YEAR}{name}/"] = page(*links(f"{name}_FRC_B4.tif"))
    found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=site.url)
    assert found.to_dataframe()["version"].tolist() == ["1-3"]
    assert "versions 1-3 (1)" in found.summary()


def test_74_a_file_with_two_addresses_is_read_from_one_of_them_and_told():
    hrefs = [f"https://{host}.example/{NAME}/{FILE}" for host in "ba"]
    chosen = set()
    for order in (hrefs, hrefs[::-1]):
        items = [item(href) for href in order]
        with pytest.warns(MissingWarning, match=rf"1 files have several addresses.*{FILE}"):
            found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=items)
        chosen.add(found.to_dataframe()["url"][0])
    assert chosen == {hrefs[1]}


def test_74_the_same_item_twice_is_one(recwarn):
    href = f"https://files.example/{NAME}/{FILE}"
    items = [item(f"{href}?token={n}") for n in range(3)]
    found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=items)
    assert found.available == 1
    assert not recwarn.list


# 75: assets


@pytest.mark.parametrize("href", [None, 5, "", [], {}, "FRC_B4", f"https://files.example/{NAME}/"])
def test_75_an_asset_without_a_file_is_told(href):
    honest = {"FRC_B5": {"href": f"https://files.example/{NAME}/{NAME}_FRC_B5.tif"}}
    items = [item(href, name="odd"), {**item(), "assets": honest}]
    with pytest.warns(MissingWarning, match="1 STAC items or assets can't be understood.*odd FRC"):
        found = search_l3a(AOI, years=2021, months=3, bands=["B4", "B5"], archive=items)
    assert found.to_dataframe()["status"].tolist() == ["missing", "available"]


def test_75_an_item_without_the_asset_lacks_it():
    one = item(f"https://files.example/{NAME}/{FILE}")
    found = search_l3a(AOI, years=2021, months=3, bands=["B4", "B8"], archive=one)
    assert found.to_dataframe()["status"].tolist() == ["available", "missing"]
    with pytest.raises(MissingError, match="B8"):
        open_l3a(AOI, years=2021, months=3, bands="B8", archive=one)


def test_75_relative_links_begin_at_their_document(site):
    path = f"32/U/PC/2021/{NAME}/{FILE}"
    document = item(f"../data/./{path}")
    site.pages["/files/stac/item.json"] = json.dumps(document).encode()
    found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=f"{site.url}stac/item.json")
    assert found.to_dataframe()["url"].tolist() == [f"{site.url}data/{path}"]


# 76: where links may not lead


def forbidden(canary, file):
    """Links that a catalogue at https://api.example may not have followed."""
    port = canary.port
    return {
        "file URL": f"file://{file}",
        "file URL with a host": f"file://localhost{file}",
        "bare path": str(file),
        "vsicurl": f"/vsicurl/http://127.0.0.1:{port}/{FILE}",
        "vsizip": f"/vsizip/{file}",
        "chain": f"zip://x::file://{file}",
        "s3": f"s3://127.0.0.1:{port}/{FILE}",
        "gs": f"gs://bucket/{FILE}",
        "memory": f"memory://x/{FILE}",
        "local": f"local://{file}",
        "http": f"http://127.0.0.1:{port}/{FILE}",
        "loopback": f"https://127.0.0.1:{port}/{FILE}",
        "loopback 6": f"https://[::1]:{port}/{FILE}",
        "mapped": f"https://[::ffff:127.0.0.1]:{port}/{FILE}",
        "one number": f"https://2130706433:{port}/{FILE}",
        "octal": f"https://0177.0.0.1:{port}/{FILE}",
        "hexadecimal": f"https://0x7f000001:{port}/{FILE}",
        "short": f"https://127.1:{port}/{FILE}",
        "any": f"https://0.0.0.0:{port}/{FILE}",
        "metadata": f"https://169.254.169.254/latest/{FILE}",
        "metadata by http": f"http://169.254.169.254/latest/{FILE}",
        "localhost": f"https://localhost:{port}/{FILE}",
        "user": f"https://me:secret@127.0.0.1:{port}/{FILE}",
        "user of a public host": f"https://me:secret@files.example:{port}/{FILE}",
        "trick with a user": f"https://files.example\\@127.0.0.1:{port}/{FILE}",
        "other port of a private name": f"https://rebinding.example:{port}/{FILE}",
        "mixed addresses": f"https://mixed.example:{port}/{FILE}",
        "no scheme": f"//127.0.0.1:{port}/{FILE}",
    }


KINDS = sorted(forbidden(SimpleNamespace(port=1), "/f"))


@pytest.fixture
def hostile_names(monkeypatch):
    """Resolve names as their owner likes: into this machine."""
    real = socket.getaddrinfo
    own = {
        "rebinding.example": ["127.0.0.1"],
        "mixed.example": ["9.9.9.9", "127.0.0.1"],
        "six.example": ["::1"],
        "0x7f000001": ["127.0.0.1"],  # as libraries of C read it
    }

    def resolve(host, port, *args, **kwargs):
        if host not in own:
            return real(host, port, *args, **kwargs)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in own[host]]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)[: 4 if ":" in address else 2])
            for family, address in zip(families, own[host], strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return own


def told_by(work):
    """Everything said to the user, whether by an error now, when reading, or a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            work()
        except S2L3AError as exc:
            caught_late = [str(exc)]
        else:
            caught_late = []
    return " ".join([str(one.message) for one in caught] + caught_late)


@pytest.mark.usefixtures("hostile_names")
@pytest.mark.parametrize(
    ("base", "kind"),
    # The named host itself may have other ports.
    sorted({*itertools.product(["memory", "server", "file"], KINDS)} - {("server", "localhost")}),
)
def test_76_nothing_is_fetched_from_where_links_may_not_lead(
    base, kind, canary, canary_file, site, tmp_path
):
    href = forbidden(canary, canary_file)[kind]
    document = item(href)
    if base == "memory":
        archive = document
    elif base == "file":
        archive = tmp_path / "catalogue" / "item.json"
        archive.parent.mkdir()
        archive.write_text(json.dumps(document), "utf-8")
    else:
        site.pages["/files/item.json"] = json.dumps(document).encode()
        archive = f"{site.url.replace('127.0.0.1', 'localhost')}item.json"

    def work():
        open_l3a(AOI, years=2021, months=3, bands="B4", archive=archive, transport=QUICK).compute()

    told = told_by(work)
    assert "secret@" not in told
    assert re.search("no public address|not followed|no address|gone", told)
    if kind in {"loopback", "localhost", "metadata", "other port of a private name"}:
        assert "transport=Transport(allowed_hosts=(" in told
        assert "--allow-host" in told


@pytest.mark.parametrize("kind", KINDS)
def test_76_documents_come_from_the_named_host_alone(kind, canary, tmp_path):
    href = forbidden(canary, tmp_path / FILE)[kind]
    links_of_api = Links(named="https://api.example/stac")
    try:
        url = links_of_api.to_document("https://api.example/stac", href)
    except LinkRefusedError:
        return
    assert url.startswith("https://api.example/")  # a path of its own


@pytest.mark.parametrize("href", ["/vsicurl/http://a.example/x", "/vsizip/x", "/vsis3/b/x"])
def test_76_paths_of_gdals_are_no_paths(href):
    for base in ("https://api.example/stac", "/data/item.json", ""):
        with pytest.raises(LinkRefusedError, match="only https and http are followed"):
            Links(named=base).to_file(base, f"{href}/{FILE}")


REDIRECTS = [
    "http://localhost:{port}/x",
    "//localhost:{port}/x",
    "http://127.0.0.2:{port}/x",
    "http://[::1]:{port}/x",
    "http://2130706433:{port}/x",
    "http://rebinding.example:{port}/x",
    "https://rebinding.example:{port}/x",
    "http://169.254.169.254/latest",
    "file://{file}",
    "ftp://127.0.0.1:{port}/x",
    "http://[",
]


@pytest.mark.usefixtures("hostile_names")
@pytest.mark.parametrize("hops", [0, 3])
@pytest.mark.parametrize("location", REDIRECTS)
@pytest.mark.parametrize("guarded", [False, True], ids=["named", "linked"])
def test_76_each_hop_of_a_redirect_is_judged(site, canary, canary_file, location, hops, guarded):
    target = location.format(port=canary.port, file=canary_file)
    for hop in range(hops):
        site.pages[f"/files/{hop}"] = (302, b"", {"Location": f"/files/{hop + 1}"})
    site.pages[f"/files/{hops}"] = (302, b"", {"Location": target})
    transport = QUICK.for_links("127.0.0.1") if guarded else QUICK
    with pytest.raises(ReadError, match=r"redirects to|no public address|no address"):
        run_with_session(transport, lambda s: s.http.fetch(f"{site.url}0", cap=999))
    assert len(site.asked) == hops + 1


@pytest.mark.usefixtures("hostile_names")
@pytest.mark.parametrize("host", ["rebinding.example", "six.example", "mixed.example", "localhost"])
def test_76_names_are_judged_at_the_address_that_is_connected(host, canary):
    links_may = QUICK.for_links("api.example")
    with pytest.raises(ReadError, match="no public address") as caught:
        run_with_session(
            links_may, lambda s: s.http.fetch(f"http://{host}:{canary.port}/{FILE}", (0, 9))
        )
    assert f"allowed_hosts=('{host}',)" in str(caught.value)


@pytest.mark.parametrize("name", ["moving.example", "allowed.example"])
def test_76_a_named_host_that_was_public_leads_nowhere_else(name, canary, hostile_names):
    mine = Transport(allowed_hosts=("allowed.example",), max_attempts=2)

    def at(address):
        async def resolve(session):
            connector = session.http.client.session(only_public=False).connector
            return [found["host"] for found in await connector._resolver.resolve(name, 80)]

        hostile_names[name] = [address]
        return run_with_session(mine, resolve) == [address]

    assert at("9.9.9.9")
    if name == "allowed.example":
        assert at("127.0.0.1")
        return
    hostile_names[name] = ["127.0.0.1"]
    with pytest.raises(ReadError, match=r"was at a public address, and is now .* 127\.0\.0\.1"):
        run_with_session(mine, lambda s: s.http.fetch(f"http://{name}:{canary.port}/files/", cap=9))
    assert at("9.9.9.9")


def test_76_a_name_that_is_allowed_may_be_here(site, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _to_loopback(socket.getaddrinfo))
    site.pages["/files/x"] = b"there"
    allowed = Transport(public_only=True, allowed_hosts=("inside.example",))
    url = f"http://inside.example:{site.port}/files/x"
    reply = run_with_session(allowed, lambda s: s.http.fetch(url, cap=9))
    assert bytes(reply.data) == b"there"


def _to_loopback(real):
    return lambda host, *args, **more: real(
        "127.0.0.1" if host == "inside.example" else host, *args, **more
    )


def test_cookies_go_back_to_the_host_that_set_them_alone(site, hostile_names):
    for name in ("a.here.example", "b.here.example", "example"):
        hostile_names[name] = ["127.0.0.1"]
    headers = {"Set-Cookie": "all=1; Domain=example; Path=/"}
    site.pages |= {"/files/wide": (200, b"x", headers), "/files/x": b"x"}
    site.pages["/files/own"] = (200, b"x", {"Set-Cookie": "own=2; Path=/"})

    def fetch(host, page):
        url = f"http://{host}:{site.port}/files/{page}"
        run_with_session(QUICK, lambda s: s.http.fetch(url, cap=9))

    for host, page in (
        ("a.here.example", "wide"), ("a.here.example", "own"), ("a.here.example", "x"),
        ("b.here.example", "x"), ("example", "x"), ("127.0.0.1", "own"), ("127.0.0.1", "x"),
    ):  # fmt: skip
        fetch(host, page)
    told = [sorted(filter(None, re.split("; ?", cookie))) for cookie in site.cookies]
    assert told == [[], ["all=1"], ["all=1", "own=2"], [], [], [], ["own=2"]]


@pytest.mark.parametrize(
    ("begin", "told"),
    [(b"SSH-2.0-OpenSSH_9\r\n", "is no HTTP"), (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
     "is no HTTP"), (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", "is no HTTP")],
)  # fmt: skip
def test_what_is_no_http_is_told_as_such(begin, told):
    with listen() as listener:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(2**16)
                        connection.sendall(begin)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/files/x"
        with pytest.raises(ReadError, match=told) as caught:
            run_with_session(QUICK, lambda s: s.http.fetch(url, (0, 9)))
        assert caught.value.status is None
        assert "message=" not in str(caught.value)
        assert str(caught.value).count(url) == 1
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# 77: JSON

DEEP = 10_000


@pytest.mark.parametrize("text", [
    b"{", b'{"type": "Catalog", ', b'{"type": "Catalog"} x', b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b'{"type": "Feature", "assets": ' + b"[" * DEEP + b"]" * DEEP + b"}", b"{\xff\xfe}",
], ids=["open", "cut", "more", "deep objects", "deep arrays", "no utf-8"])  # fmt: skip
@pytest.mark.parametrize("where", ["server", "file"])
def test_77_broken_json_is_an_error(site, tmp_path, text, where):
    if where == "server":
        site.pages["/files/a.json"] = text
        archive = f"{site.url}a.json"
    else:
        archive = tmp_path / "a.json"
        archive.write_bytes(text)
    with pytest.raises(ArchiveError, match=r"a\.json is no JSON that can be read"):
        search_l3a(AOI, archive=archive, transport=QUICK)


@pytest.mark.parametrize("text", [b"{", b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[]", b"null", b""])
def test_77_and_as_an_answer_of_an_api(fresh_server, text):
    answer = fresh_server.stac.answer

    class Broken(type(fresh_server.stac)):
        def answer(self, *args):
            found = answer(*args)
            return found.with_content(text) if args[2].endswith("/search") else found

    fresh_server.stac = Broken()
    with pytest.raises(ArchiveError, match="STAC"):
        search_l3a(SAMPLE_AOI, years=2021, archive=StacArchive(fresh_server.stac_url))


def test_77_200_mb_are_not_read(site, tmp_path):
    def much():
        yield b'{"type": "Catalog", "stac_version": "1.0.0", "links": ['
        while True:
            yield b'{"rel": "child", "href": "x"},' * 4000

    site.pages["/files/a.json"] = (200, much(), {"Content-Length": str(200 * MIB)})
    small = Transport(max_document_bytes=MIB)
    with pytest.raises(S2L3AError, match="larger than 1048576 bytes"):
        search_l3a(AOI, archive=StacArchive(f"{site.url}a.json"), transport=small)
    assert site.sent < 64 * MIB
    file = tmp_path / "a.json"
    file.write_bytes(b"{" + b" " * 2 * MIB)
    with pytest.raises(ArchiveError, match=r"larger than 1048576 bytes.*max_document_bytes"):
        search_l3a(AOI, archive=file, transport=small)


# 78: items that contradict themselves

HONEST = f"https://files.example/{NAME}/{FILE}"
NAN_RING = [[[10.4, 52.3], [12.0, math.nan], [12.0, 51.3], [10.4, 52.3]]]
FAR_RING = [[[50.0, 11.0], [52.0, 11.0], [52.0, 12.0], [50.0, 11.0]]]
WRONG_FACTS = {
    "no time": ({"properties": {"datetime": "soon"}}, "datetime 'soon' is no time"),
    "a number": ({"properties": {"datetime": 5e99}}, "is no time"),
    "other month": ({"properties": {"datetime": "2021-09-15T00:00:00Z"}}, "far from 2021-03"),
    "other year": ({"properties": {"start_datetime": "2012-03-01T00:00:00Z"}}, "start_datetime"),
    "bbox of text": ({"bbox": ["a", "b", "c", "d"]}, "bbox .* is none"),
    "bbox with NaN": ({"bbox": [10.0, math.nan, 12.0, 52.0]}, "bbox .* is none"),
    "bbox of three": ({"bbox": [10.0, 51.0, 12.0]}, "bbox .* is none"),
    "bbox elsewhere": ({"bbox": [51.0, 10.0, 52.0, 12.0]}, "does not reach 32UPC"),
    "geometry with NaN": ({"geometry": {"type": "Polygon", "coordinates": NAN_RING}}, "not finite"),
    "swapped geometry": ({"geometry": {"type": "Polygon", "coordinates": FAR_RING}}, "not reach"),
    "no geometry": ({"geometry": {"type": "Polygon", "coordinates": 5}}, "geometry is none"),
    "empty geometry": ({"geometry": {"type": "Polygon", "coordinates": []}}, "empty"),
    "text": ({"geometry": "POLYGON"}, "geometry is none"),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # GEOS
@pytest.mark.parametrize(("facts", "words"), WRONG_FACTS.values(), ids=WRONG_FACTS)
def test_78_an_item_that_contradicts_its_files_is_named(facts, words):
    with pytest.raises(ArchiveError, match=rf"the STAC item '{NAME[:-5]}': its .*{words}"):
        search_l3a(AOI, years=2021, months=3, bands="B4", archive=item(HONEST, **facts))


@pytest.mark.parametrize("facts", [
    {}, {"bbox": None, "geometry": None, "properties": None}, {"bbox": [], "properties": {}},
    {"properties": {"datetime": None, "start_datetime": "2021-02-22T10:20:00.0000000Z"}},
    {"bbox": [10.4, 51.3, 0, 12.0, 52.3, 99]}, {"properties": {"datetime": "2021-03-15"}},
])  # fmt: skip
def test_78_what_is_not_said_is_no_contradiction(facts):
    found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=item(HONEST, **facts))
    assert found.available == 1


def test_78_items_of_elsewhere_do_no_harm():
    other = NAME.replace("32UPC", "33UUS")
    wrong = item(HONEST.replace(NAME, other), name="elsewhere", bbox=[math.nan] * 4)
    found = search_l3a(AOI, years=2021, months=3, bands="B4", archive=[wrong, item(HONEST)])
    assert found.available == 1


# 79: the catalogue is down


@pytest.mark.parametrize("place", ["files/", "stac/v1", "S2_L3A_WASP/files/"])
def test_79_an_error_leads_to_what_was_kept_which_is_used_only_if_asked(
    fresh_server, tmp_path, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    asked = {"years": 2021, "months": 5, "bands": "B4"}
    search_l3a(AOI, **asked, archive=fresh_server.url).save("inventory.json")
    with pytest.raises(ArchiveError, match=r"no connection.*inventory=") as caught:
        open_l3a(AOI, **asked, archive=f"http://127.0.0.1:9/{place}", transport=QUICK)
    assert "Inventory.save" in str(caught.value)
    da = open_l3a(inventory="inventory.json")
    assert da.sizes["time"] == 1


def test_79_the_error_of_a_search_says_so_too(fresh_server):
    fresh_server.faults = [Fault(match="/search", kind="status", status=503)]
    with pytest.raises(ArchiveError, match=r"503.*inventory="):
        search_l3a(SAMPLE_AOI, years=2021, archive=fresh_server.stac_url, transport=QUICK)


def test_79_its_age_is_stated(server, tmp_path):
    found = search_l3a(AOI, years=2021, months=5, bands="B4", archive=server.url)
    path = found.save(tmp_path / "inventory.json")
    assert "days ago" not in found.summary()
    then = dt.datetime.now(dt.UTC) - dt.timedelta(days=12)
    old = path.read_text("utf-8").replace(found.when, then.isoformat(timespec="seconds"))
    path.write_text(old, "utf-8")
    assert "as the archive was 12 days ago, at 20" in Inventory.load(path).summary()
    path.write_text(old.replace(then.isoformat(timespec="seconds"), "long ago"), "utf-8")
    with pytest.raises(S2L3AError, match="can't be read as an inventory"):
        Inventory.load(path)
