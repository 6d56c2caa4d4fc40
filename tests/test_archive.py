"""Listings, good and bad, and the places that products live in."""

from __future__ import annotations

import asyncio
import time
import zipfile

import fsspec
import pytest

from s2l3a_xr import Transport
from s2l3a_xr._archive import (
    DLR_FILES,
    FolderArchive,
    Listed,
    band_resolution,
    newest,
    open_archive,
)
from s2l3a_xr._errors import ArchiveError, SelectionError
from s2l3a_xr._listing import Entry, parse_listing
from s2l3a_xr._places import is_below
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._transport import is_http, run_with_session

YEAR_URL = "https://download.geoservice.dlr.de/S2_L3A_WASP/files/32/U/PC/2021/"
NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
M = 2**20


def page(*links, title="Index of /files"):
    return f"<html><title>{title}</title><body>\n" + "\n".join(links) + "\n</body></html>"


def names(text, url="https://example.org/files/"):
    return [entry.name for entry in parse_listing(text, url)]


# listings


def test_the_recorded_year(shared_data):
    text = (shared_data / "dlr_samples/constructed/listing_year.html").read_text("utf-8")
    entries = parse_listing(text, YEAR_URL)
    products = [Product.parse(entry.name.rstrip("/")) for entry in entries]
    assert [product.month for product in products] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert {entry.size for entry in entries} == {None}


def test_the_recorded_product(shared_data):
    text = (shared_data / "dlr_samples/constructed/listing_product.html").read_text("utf-8")
    entries = {e.name: e.size for e in parse_listing(text, f"{YEAR_URL}{NAME}/")}
    assert len(entries) == 14
    assert entries["MASKS/"] is entries["DATA/"] is None
    assert entries[f"{NAME}_FRC_B2.tif"] == 200 * M
    assert entries[f"{NAME}_FRC_B8A.tif"] == 55 * M
    assert entries[f"{NAME}_MTD_ALL.xml"] == 12 * 1024


def test_both_forms_of_a_listing_say_the_same(tmp_path):
    sizes = {"a.tif": 55 * M, "b_with_a_name_longer_than_23.tif": 12 * 1024, "empty.tif": 0}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    (tmp_path / f"{NAME}").mkdir()
    expected = {**sizes, f"{NAME}/": None}
    with SampleServer(tmp_path) as server:
        archive = FolderArchive(url=server.origin + "/")
        found = {}
        for form in ("table", "pre"):
            server.listing = form
            session = Transport(idle_timeout_s=20.0 + len(found))  # a session of its own
            entries = run_with_session(session, lambda s: archive.entries(s, ""))
            found[form] = {entry.name: entry.size for entry in entries}
    assert found == {"table": expected, "pre": expected}


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("55M", 55 * M),
        ("1.2G", round(1.2 * 2**30)),
        ("12K", 12 * 1024),
        ("2.5M", round(2.5 * M)),
        ("1T", 2**40),
        ("200", 200),
        ("0", 0),
        ("-", None),
        ("", None),
        ("&nbsp;", None),
    ],
)
@pytest.mark.parametrize(
    "row",
    [
        '<td><a href="a.tif">a.tif</a></td><td>2021-04-28 06:15  </td><td> {}</td><td>&nbsp;</td>',
        '<img src="/icons/unknown.gif"> <a href="a.tif">a.tif</a>    2021-04-28 06:15  {} ',
        '<a href="a.tif">a.tif</a>            28-Apr-2021 06:15             {}\r',
    ],
    ids=["table", "pre", "nginx"],
)
def test_sizes(said, size, row):
    expected = (Entry(name="a.tif", size=size),)
    assert parse_listing(page(row.format(said)), "http://host/files/") == expected


def test_a_size_belongs_to_its_own_line():
    text = page(
        '<a href="a.tif">a.tif</a>  2021-04-28 06:15    -  ',
        '<a href="b/">b/</a>  2021-04-28 06:15    -  ',
        "<address>Apache/2.4.41 Server at example.org Port 443</address>",
    )
    entries = parse_listing(text, "https://example.org/files/")
    assert [entry.size for entry in entries] == [None, None]


def test_all_in_one_line():
    text = '<h1>Index of /f</h1><a href="a.tif">a</a> 55M<a href="b.tif">b</a> 2K</pre>'
    assert parse_listing(text, "http://h/f/") == (
        Entry(name="a.tif", size=55 * M),
        Entry(name="b.tif", size=2048),
    )


@pytest.mark.parametrize(
    "link",
    [
        '<A HREF="a.tif">a.tif</A>',
        "<a href='a.tif'>a.tif</a>",
        '<a class="x" title="y" href = "a.tif" rel=1>a.tif</a>',
        '<a\thref="a.tif">\na.tif\n</a>',
        '<a\n  href="a.tif"><b>a.tif</b></a>',
        '<a data-href="no.tif" href="a.tif">a.tif</a>',
        '<a href="./a.tif">a.tif</a>',
        '<a href="/files/a.tif">a.tif</a>',
        '<a href="https://example.org/files/a.tif">a.tif</a>',
        '<a href="//example.org/files/a.tif">a.tif</a>',
        '<a href="%61.tif">a.tif</a>',
        '<a href="&#97;.tif">a.tif</a>',
        '<a href="../files/a.tif">a.tif</a>',
    ],
)
def test_links_to_a_child(link):
    assert names(page(link)) == ["a.tif"]


@pytest.mark.parametrize(
    "href",
    [
        "?C=N;O=D",
        "?C=M&amp;O=A",
        "/",
        "/files/",
        "/other/a.tif",
        ".",
        "./",
        "..",
        "../",
        "../a.tif",
        "../../etc/passwd",
        "%2e%2e/",
        "%2E%2E/a.tif",
        "..%2fa.tif",
        "sub/a.tif",
        "sub%2Fa.tif",
        "sub\\a.tif",
        "sub%5Ca.tif",
        "a.tif?token=1",
        "a.tif#page",
        "a.tif%00.png",
        "a\0.tif",
        "a%0Ab.tif",
        "%20",
        " ",
        "",
        ".htaccess",
        "-rf",
        "~root/",
        "javascript:alert(1)",
        "JavaScript:a.tif",
        "data:text/html,a.tif",
        "mailto:a@example.org",
        "file:///etc/passwd",
        "file:a.tif",
        "ftp://example.org/files/a.tif",
        "http://example.org/files/a.tif",
        "https://example.com/files/a.tif",
        "https://example.org.evil.net/files/a.tif",
        "https://example.org@evil.net/files/a.tif",
        "https://example.org:444/files/a.tif",
        "//evil.net/files/a.tif",
        "///evil.net/a.tif",
        "\\\\evil.net\\a.tif",
        "http://[::1",
        "//[",
        "äöü.tif",
    ],
)
def test_links_elsewhere_are_no_entries(href):
    assert names(page(f'<a href="{href}">a.tif</a>', '<a href="b.tif">b</a>')) == ["b.tif"]


@pytest.mark.parametrize(
    "junk",
    [
        '<!-- <a href="no.tif">no</a> -->',
        '<!--\n<a href="no.tif">no</a>\n-->',
        "<a>no</a>",
        '<a name="no.tif">no</a>',
        '<abbr href="no.tif">no</abbr>',
        '<a href="no.tif',
        "<a href=no.tif>no</a>",
        '<link href="no.tif">',
        "<a href='no.tif\">no</a>",
    ],
)
def test_what_is_no_link(junk):
    assert names(page('<a href="b.tif">b</a>', junk)) == ["b.tif"]


def test_a_name_twice_is_one_entry():
    assert names(page('<a href="a.tif">icon</a> <a href="a.tif">a.tif</a> 5K')) == ["a.tif"]


def test_an_empty_folder_is_a_listing():
    assert parse_listing(page('<a href="/">Parent Directory</a>'), "https://h/files/") == ()


@pytest.mark.parametrize(
    "text",
    [
        "<html><form action='/login'>Please sign in</form></html>",
        '{"type": "Catalog"}',
        "",
        "II*\0",
        '<a href="https://sso.eoc.dlr.de/eoc/auth/login">login</a>',
    ],
)
def test_other_pages_are_no_listing(text):
    with pytest.raises(ArchiveError, match=r"^https://h/files/ is no directory listing; it beg"):
        parse_listing(text, "https://me:secret@h/files/?token=1")


@pytest.mark.parametrize(
    "piece",
    ["<a ", "<a href=", '<a href="', "<a href='x' ", "<!--", "<a x>", '<a href="a">', "1", " "],
)
def test_hostile_pages_take_no_time(piece):
    text = "Index of" + piece * (M // len(piece))
    start = time.perf_counter()
    parse_listing(text, "https://h/files/")
    assert time.perf_counter() - start < 5


# places


def ask(archive, method, *args, transport=None):
    return run_with_session(
        transport or Transport(), lambda session: getattr(archive, method)(session, *args)
    )


def lay(root, *products, tile="32/U/PC", files=("FRC_B4",)):
    """Make a folder tree of empty files in DLR's layout."""
    for name in products:
        folder = root / tile / Product.parse(name).folder.split("/")[3] / name
        (folder / "MASKS").mkdir(parents=True)
        for file in files:
            (folder / f"{name}_{file}.tif").write_bytes(b"12345")
        (folder / "MASKS" / f"{name}_FLG_R1.tif").write_bytes(b"123")


@pytest.fixture
def tree(tmp_path):
    lay(tmp_path, NAME, NAME.replace("2X_202103", "2A_202105"), files=("FRC_B4", "FRC_B8"))
    (tmp_path / "32/U/PC/2021/notes.txt").write_text("x")
    (tmp_path / "32/U/PC/2021" / NAME.replace("32UPC", "32UQC")).mkdir()
    (tmp_path / "32/U/PC/2021" / NAME.replace("202103", "202203")).mkdir()
    (tmp_path / "32/U/PC/index").mkdir()
    (tmp_path / "32/U/PC/2020").mkdir()
    return tmp_path


@pytest.fixture(params=["folder", "text", "file URL", "http", "memory", "zip", "zip folder"])
def archive(request, tree):
    """One tree in all kinds of places."""
    if request.param == "http":
        with SampleServer(tree) as server:
            yield open_archive(server.origin)
    elif request.param == "memory":
        fs = fsspec.filesystem("memory")
        fs.put(str(tree) + "/", "/mirror/", recursive=True)
        for folder in tree.rglob("*/"):
            fs.makedirs(f"/mirror/{folder.relative_to(tree).as_posix()}", exist_ok=True)
        yield open_archive("memory://mirror")
        fs.rm("/mirror", recursive=True)
    elif request.param.startswith("zip"):
        folder = "in/here/" if request.param == "zip folder" else ""
        packed = tree.parent / f"{tree.name}.zip"
        with zipfile.ZipFile(packed, "w") as file:
            for path in sorted(tree.rglob("*")):
                file.write(path, folder + path.relative_to(tree).as_posix())
        yield open_archive(f"zip://{folder}::{packed}")
    else:
        forms = {"folder": tree, "text": f"{tree}/", "file URL": tree.as_uri()}
        yield open_archive(forms[request.param])


def test_every_place_answers_alike(archive):
    assert ask(archive, "years", "32UPC") == (2020, 2021)
    products = ask(archive, "products", "32UPC", 2021)
    assert sorted((product.month, product.platform) for product in products) == [
        (3, "2X"),
        (5, "2A"),
    ]
    bands = [BANDS[name] for name in ("B2", "B4", "FLG")]
    product = Product.parse(NAME)
    found = ask(archive, "files", product, bands, 10)
    assert found == {"B4": Listed(size=5), "FLG": Listed(size=3)}
    found = ask(archive, "files", product, [BANDS["B4"], BANDS["FLG"]], 20)
    assert found == {"B4": Listed(size=5)}


def test_what_is_not_there_is_nothing(archive):
    assert ask(archive, "years", "32UQC") == ()
    assert ask(archive, "products", "32UPC", 2019) == ()
    if is_http(archive.url):  # a server that falters lists a folder as empty too
        with pytest.raises(ArchiveError, match=r"32/U/PC/2020/ is there, but .* names nothing"):
            ask(archive, "products", "32UPC", 2020)
    else:
        assert ask(archive, "products", "32UPC", 2020) == ()
    gone = Product.parse(NAME.replace("202103", "202108"))
    assert ask(archive, "files", gone, [BANDS["B4"]], 10) == {}


def test_the_archive_by_default():
    assert open_archive(None).url == DLR_FILES


def test_an_archive_is_taken_as_it_is():
    archive = FolderArchive(url="https://example.org/files/")
    assert open_archive(archive) is archive


@pytest.mark.parametrize("url", ["https://example.org/files", "https://example.org/files//"])
def test_urls_end_in_a_slash(url):
    assert open_archive(url).url == "https://example.org/files/"


@pytest.mark.parametrize("url", ["memory://", "file:///"])
def test_roots_keep_their_slashes(url):
    assert open_archive(url).url.startswith(url)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("zip://files::m.zip", "zip://files/::{}/m.zip"),
        ("zip://files//::m.zip", "zip://files/::{}/m.zip"),
        ("zip://::m.zip", "zip://::{}/m.zip"),
        ("zip::m.zip", "zip://::{}/m.zip"),
        ("zip://a::file:///x/m.zip", "zip://a/::file:///x/m.zip"),
        ("zip://a::s3://bucket/m.zip", "zip://a/::s3://bucket/m.zip"),
    ],
)
def test_chains(tmp_path, monkeypatch, given, url):
    (tmp_path / "m.zip").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert open_archive(given).url == url.format(tmp_path.as_posix())


def test_no_such_container():
    with pytest.raises(SelectionError, match=r"no such file: 'no\.zip'"):
        open_archive("zip://files::no.zip")


@pytest.mark.parametrize(
    ("archive", "url", "expected"),
    [
        ("/data/m/", "/data/m/2021/a.tif", True),
        ("/data/m/", "/data/m/../a.tif", False),
        ("/data/m/", "/data/n/a.tif", False),
        ("zip://::/m.zip", "zip://2021/a.tif::/m.zip", True),
        ("zip://::/m.zip", "zip://2021/a.tif::/n.zip", False),
        ("zip://::/m.zip", "/2021/a.tif", False),
        ("https://a.org/files/", "https://a.org/b.tif", True),
        ("https://a.org/files/", "http://a.org/files/b.tif", False),
        ("https://a.org/files/", "https://a.org.evil.com/files/b.tif", False),
    ],
)
def test_what_belongs_to_an_archive(archive, url, expected):
    assert is_below(archive, url) == expected


def test_a_folder_may_be_relative_or_at_home(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    monkeypatch.setenv("HOME", str(tree.parent))
    monkeypatch.setenv("USERPROFILE", str(tree.parent))
    expected = tree.as_posix() + "/"
    assert open_archive(tree.name).url == open_archive(f"~/{tree.name}").url == expected


@pytest.mark.parametrize("place", ["no/such/folder", "", 7])
def test_no_such_place(place):
    with pytest.raises(SelectionError, match=r"no such archive folder|archive=7 is no URL"):
        open_archive(place)


@pytest.mark.parametrize("url", ["nosuch://bucket/files", "s3nosuch://"])
def test_a_protocol_that_fsspec_does_not_know(url):
    with pytest.raises(ArchiveError, match=r"can't be listed: Protocol not known: .*nosuch"):
        ask(open_archive(url), "years", "32UPC")


def test_a_server_that_redirects_to_the_slash(tree):
    """Apache answers 301 to the name without a slash; we ask with it, and never need to."""
    with SampleServer(tree) as server:
        ask(open_archive(server.origin), "products", "32UPC", 2021)
        assert [request.status for request in server.log] == [200]
        reply = run_with_session(
            Transport(), lambda session: session.http.fetch(server.origin + "/32/U/PC/2021")
        )
        assert reply.url == server.origin + "/32/U/PC/2021/"
        assert NAME + "/" in names(reply.data.decode(), reply.url)


def test_a_redirect_to_another_folder_of_the_host(tree):
    """Children are those of the folder that answered."""
    with SampleServer(tree) as server:
        server.faults = [Fault(match="^/old/", kind="redirect", status=301, location="/32/U/PC/")]
        assert ask(open_archive(f"{server.origin}/old"), "years", "32UPC") == (2020, 2021)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(match="/", kind="html"), "is no directory listing; it begins"),
        (Fault(match="/", kind="status", status=403), "listing can't be read: .*403"),
        (Fault(match="/", kind="status", status=401), "listing can't be read: .*401"),
        (
            Fault(match="/", kind="redirect", location="https://sso.example.org/login"),
            "listing can't be read: .*another host, sso.example.org",
        ),
        (Fault(match="/", kind="status", status=503), "attempts 2.*try again later"),
    ],
    ids=["html", "403", "401", "login", "503"],
)
def test_listings_that_cannot_be_read(tree, fault, words):
    with SampleServer(tree) as server:
        server.faults = [fault]
        with pytest.raises(ArchiveError, match=words) as caught:
            ask(open_archive(server.origin), "years", "32UPC", transport=Transport(max_attempts=2))
        assert server.origin in str(caught.value)


@pytest.mark.parametrize("kind", ["status", "reset", "close", "truncate"])
def test_passing_faults_are_outlived(tree, kind):
    with SampleServer(tree) as server:
        server.faults = [Fault(match="/", kind=kind, count=1)]
        assert ask(open_archive(server.origin), "years", "32UPC") == (2020, 2021)


@pytest.mark.parametrize("status", [404, 410])
def test_gone_folders_are_empty(tree, status):
    with SampleServer(tree) as server:
        server.faults = [Fault(match="2021", kind="status", status=status)]
        assert ask(open_archive(server.origin), "products", "32UPC", 2021) == ()


def test_a_failure_is_not_remembered(tree):
    with SampleServer(tree) as server:
        archive = open_archive(server.origin)
        server.faults = [Fault(match="/", kind="status", status=403, count=1)]
        with pytest.raises(ArchiveError):
            ask(archive, "years", "32UPC")
        assert ask(archive, "years", "32UPC") == (2020, 2021)


def test_who_asks_at_once_asks_once(tree):
    with SampleServer(tree, latency_s=0.05) as server:
        archive = open_archive(server.origin)

        async def often(session):
            return await asyncio.gather(*(archive.years(session, "32UPC") for _ in range(9)))

        assert set(run_with_session(Transport(), often)) == {(2020, 2021)}
        assert len(server.log) == 1


# choices


def products(*texts):
    return [
        Product(tile="32UPC", year=2021, month=3, platform=platform, version=version)
        for platform, version in (text.split() for text in texts)
    ]


@pytest.mark.parametrize(
    ("there", "best"),
    [
        (["2X 1-2", "2X 1-1"], "2X 1-2"),
        (["2X 1-9", "2X 1-10"], "2X 1-10"),
        (["2X 9-9", "2A 10-0"], "2A 10-0"),
        (["2A 1-2", "2X 1-2", "2B 1-2"], "2X 1-2"),
        (["2X 1-1", "2B 1-2"], "2B 1-2"),
    ],
)
def test_the_newest_version_of_a_month(there, best):
    for order in (there, there[::-1]):
        chosen = newest(products(*order))
        assert chosen == {("32UPC", 2021, 3): products(best)[0]}


def test_months_and_tiles_are_kept_apart():
    several = [
        Product(tile=tile, year=year, month=month)
        for tile in ("32UPC", "32UQC")
        for year in (2020, 2021)
        for month in (3, 4)
    ]
    assert set(newest(several).values()) == set(several)


@pytest.mark.parametrize(
    ("band", "wanted", "resolution_m"),
    [("B4", 20, 10), ("B11", 10, 20), ("FLG", 10, 10), ("FLG", 20, 20), ("WGT", 60, 20)],
)
def test_the_resolution_of_a_file(band, wanted, resolution_m):
    assert band_resolution(BANDS[band], wanted) == resolution_m
