"""Links in STAC answers are foreign input."""

from __future__ import annotations

import json
import pickle
import socket

import pytest

from s2l3a_xr import (
    ArchiveError,
    MissingError,
    MissingWarning,
    ReadError,
    Transport,
    open_l3a,
    search_l3a,
)
from s2l3a_xr._sample import SAMPLE_AOI, SampleServer
from s2l3a_xr._stac._links import LinkRefusedError, Links
from s2l3a_xr._transport import run_with_session
from s2l3a_xr._transport._guard import is_public

API = "https://geoservice.example/stac/v1"
NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
FILE = f"{NAME}_FRC_B4.tif"
AOI = (11.68, 51.94, 11.76, 51.99)

HOSTILE = [
    f"file:///etc/{FILE}",
    f"s3://bucket/{FILE}",
    f"memory://a/{FILE}",
    f"ftp://example.org/{FILE}",
    f"javascript:{FILE}",
    f"data:text/plain,{FILE}",
    f"zip://x::file:///etc/{FILE}",
    f"//evil.example/{FILE}",
    f"\\\\evil.example\\share\\{FILE}",
    f"http://files.example/{FILE}",
    f"http://169.254.169.254/{FILE}",
    f"https://169.254.169.254/{FILE}",
    f"https://127.0.0.1/{FILE}",
    f"https://10.1.2.3:8443/{FILE}",
    f"https://[::1]/{FILE}",
    f"https://[::ffff:10.0.0.1]/{FILE}",
    f"https://[fe80::1]/{FILE}",
    f"https://１２７.0.0.1/{FILE}",  # noqa: RUF001 - digits that look like others
    f"https://127。0。0。1/{FILE}",
    f"https://me:secret@files.example/{FILE}",
    f"https://files.example\\@127.0.0.1/{FILE}",
    f"https://files.example:port/{FILE}",
    f"https:///{FILE}",
    f"https://files example/{FILE}",
]


@pytest.mark.parametrize("href", HOSTILE)
def test_hostile_links_to_files_are_refused(href):
    with pytest.raises(LinkRefusedError) as failure:
        Links(named=API).to_file(API, href)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("named", "href", "expected"),
    [
        (API, f"https://download.example/{FILE}?token=1", None),
        (API, f"https://geoservice.example:8443/{FILE}", None),
        ("http://intra/stac", f"http://intra:81/{FILE}", None),
        ("http://127.0.0.1:5/stac", f"http://127.0.0.1:6/{FILE}", None),
        ("https://10.0.0.1/stac", f"https://10.0.0.1/{FILE}", None),
        (API, f"files/{FILE}", f"https://geoservice.example/stac/files/{FILE}"),
        (API, f"/files/{FILE}", f"https://geoservice.example/files/{FILE}"),
        ("/data/items.json", f"./a/{FILE}", f"/data/a/{FILE}"),
        ("/data/items.json", f"/data/b/{FILE}", f"/data/b/{FILE}"),
        ("", f"https://download.example/{FILE}", None),
    ],
)
def test_honest_links_to_files_are_followed(named, href, expected):
    assert Links(named=named).to_file(named, href) == (expected or href)


@pytest.mark.parametrize("href", [f"../{FILE}", f"/etc/{FILE}", f"a/../../{FILE}", f"\0/{FILE}"])
def test_local_catalogues_name_what_is_below_them_alone(href):
    with pytest.raises(LinkRefusedError, match="beside or below /data"):
        Links(named="/data/items.json").to_file("/data/items.json", href)


def test_links_need_something_to_begin_from():
    with pytest.raises(LinkRefusedError, match="leads nowhere"):
        Links(named="").to_file("", f"a/{FILE}")


@pytest.mark.parametrize(
    "href", ["https://evil.example/next", "http://geoservice.example/next", "file:///etc/passwd"]
)
def test_documents_come_from_the_named_host(href):
    with pytest.raises(LinkRefusedError):
        Links(named=API).to_document(API, href)


def test_hosts_may_be_allowed():
    links = Links(named=API, allowed_hosts=("10.1.2.3", "other.example"))
    for href in (f"http://10.1.2.3/{FILE}", f"http://other.example/{FILE}"):
        assert links.to_file(API, href) == href
    assert links.to_document(API, "https://other.example/next") == "https://other.example/next"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens there
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:192.168.0.1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) == public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1"])
def test_names_and_numbers_are_judged_where_they_lead(server, host):
    url = server.origin.replace("127.0.0.1", host) + "/x"
    guarded = Transport(public_only=True, max_attempts=1)
    with pytest.raises(ReadError, match=r"no public address|no address"):
        run_with_session(guarded, lambda s: s.http.fetch(url, cap=9))
    assert server.log == []
    with socket.socket() as listener:  # refused before anything is sent, to open ports too
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        url = f"http://{host}:{listener.getsockname()[1]}/x"
        with pytest.raises(ReadError, match=r"no public address|no address"):
            run_with_session(guarded, lambda s: s.http.fetch(url, cap=9))
        with pytest.raises(TimeoutError):
            listener.accept()


def test_an_allowed_host_may_be_private(server):
    allowed = Transport(public_only=True, allowed_hosts=("127.0.0.1", "localhost"))
    for host in allowed.allowed_hosts:
        url = server.url.replace("127.0.0.1", host)
        reply = run_with_session(allowed, lambda s, url=url: s.http.fetch(url, cap=9999))
        assert b"Index of" in reply.data


def item(*hrefs):
    return {
        "type": "Feature",
        "id": NAME[:-5],
        "assets": {str(n): {"href": h} for n, h in enumerate(hrefs)},
    }


def test_a_link_that_is_refused_is_told_of_and_never_followed(server):
    honest = f"https://download.example/32/U/PC/2021/{NAME}/{NAME}_FRC_B2.tif"
    with pytest.warns(MissingWarning, match=r"^23 links of STAC items are not followed") as told:
        inventory = search_l3a(
            AOI, years=2021, months=3, bands=["B2", "B4"], archive=item(honest, *HOSTILE)
        )
    assert inventory.available == 1
    assert "secret" not in str(told[0].message)
    assert server.log == []


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_read(server):
    href = server.url.replace("http://127.0.0.1", "https://localhost")
    path = f"32/U/PC/2021/{NAME}/{FILE}"
    da = open_l3a(AOI, years=2021, months=3, bands="B4", archive=item(href + path))
    for array in (da, pickle.loads(pickle.dumps(da))):
        with pytest.raises(ReadError, match=r"localhost at .*, which is no public address"):
            array.compute()
    assert server.log == []


def test_reading_a_catalogues_files_may_not_leave_its_host(fresh_server, sample_root):
    with SampleServer(sample_root) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")

        def move(document):
            text = json.dumps(document).replace(fresh_server.url, elsewhere)
            return json.loads(text)

        fresh_server.stac.edit = move
        with (
            pytest.warns(MissingWarning, match="without https"),
            pytest.raises(MissingError),
        ):
            search_l3a(SAMPLE_AOI, years=2021, archive=fresh_server.stac_url)
        assert other.log == []
        leave = Transport(allowed_hosts=("localhost",))
        da = open_l3a(
            SAMPLE_AOI, years=2021, months=4, bands="B4", archive=fresh_server.stac_url,
            transport=leave,
        )  # fmt: skip
        assert da.max() > 0
        assert other.log


def test_the_next_page_may_not_be_elsewhere(fresh_server):
    with SampleServer(fresh_server.root) as other:

        def move(document):
            for link in document.get("links", []):
                if link["rel"] == "next":
                    link["href"] = other.stac_url.replace("127.0.0.1", "localhost") + "/search"
            return document

        fresh_server.stac.edit, fresh_server.stac.cap = move, 2
        with pytest.raises(ArchiveError, match=r"allowed_hosts=\('localhost',\)"):
            search_l3a(SAMPLE_AOI, years=2021, archive=fresh_server.stac_url)
        assert other.log == []


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd"])
def test_pages_are_never_read_from_the_disk(fresh_server, href):
    def move(document):
        for link in document.get("links", []):
            if link["rel"] == "next":
                link.update(href=href, method="GET")
        return document

    fresh_server.stac.edit, fresh_server.stac.cap = move, 2
    with pytest.raises(ArchiveError) as failure:
        search_l3a(SAMPLE_AOI, years=2021, archive=fresh_server.stac_url)
    assert "root:" not in str(failure.value)


def test_a_local_catalogue_may_not_climb(tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps(item()), "utf-8")
    folder = tmp_path / "catalogue"
    folder.mkdir()
    links = [{"rel": "item", "href": "../secret.json"}]
    file = folder / "catalog.json"
    file.write_text(json.dumps({"type": "Catalog", "links": links}), "utf-8")
    with pytest.raises(ArchiveError, match="only what is beside or below"):
        search_l3a(AOI, years=2021, archive=file)
