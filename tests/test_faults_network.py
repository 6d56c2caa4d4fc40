"""The network fault matrix (rows 6 to 47): each fault by kind, place and number of times.

A row's outcome is what must come of it, whoever reads: R is tried again and then a typed error,
E is an error at once, and pixels are right or there are none.
"""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from collections import Counter

import geopandas as gpd
import numpy as np
import pytest
import rasterio.shutil
import shapely
from faultserver import FaultServer

import s2l3a_xr
from s2l3a_xr import (
    ArchiveError,
    FileChangedError,
    FormatError,
    GoneError,
    MissingWarning,
    ReadError,
    S2L3AError,
    S2L3AWarning,
    Transport,
    TransportError,
)
from s2l3a_xr._tiles import tile_named

pytestmark = pytest.mark.usefixtures("short_pauses")

FILES = "S2_L3A_WASP/files/"
CORNER, SHAPE = (1024, 2048), (1280, 2560)
PART = (slice(10, 1270), slice(10, 500))
"""Two of ten columns of blocks: five ranges, one for each row of blocks."""
DEFLATE, RAW, LZW, COG, LARGE = (f"2021-0{month}" for month in (3, 4, 5, 6, 7))
QUICK = {"idle_timeout_s": 0.5, "connect_timeout_s": 2.0, "max_attempts": 4}
STATUSES = ("s408", "s425", "s429", "s500", "s502", "s503", "s504", "s522", "s524")
BROKEN = ("reset0", "close0", "closemid", "resetmid")
SHORT = ("short_cl", "short_chunked", "short_nocl")
SILENT = ("stall", "stall0")
CUT = ("closemid", "resetmid", "stall")
TWICE = (*STATUSES, *BROKEN, *SHORT, "shift_honest")


def area():
    """Take whole pixels, so that nothing is clipped."""
    tile = tile_named("32UPC")
    rows, cols = PART
    left, top = tile.left + 10 * CORNER[1], tile.top - 10 * CORNER[0]
    box = shapely.box(
        left + 10 * cols.start, top - 10 * rows.stop, left + 10 * cols.stop, top - 10 * rows.start
    )
    return gpd.GeoSeries([box], crs=tile.crs)


def pixels(seed=3):
    """Noise that packs to about half, so that a block is longer than what is read at once."""
    return np.random.default_rng(seed).integers(1, 256, SHAPE).astype("int16")


EXPECTED = pixels()[PART]


@pytest.fixture(scope="module")
def root(tmp_path_factory, lay_file):
    """Lay the same pixels in every layout, a month for each, and a newer file beside one."""
    folder = tmp_path_factory.mktemp("faults")
    options = {"at": CORNER, "band": "B4", "predictor": 2}
    file = lay_file(folder, pixels(), month=3, **options)
    lay_file(folder, pixels(), month=5, **{**options, "compress": "LZW"})
    lay_file(folder, pixels(), month=4, at=CORNER, band="B4", compress="NONE")
    large = lay_file(folder, pixels(), month=7, **options)
    with large.open("r+b") as stream:
        stream.truncate(64 * 2**20)
    cog = lay_file(folder, pixels(), month=6, **options)
    plain = cog.rename(cog.with_suffix(".plain"))
    rasterio.shutil.copy(
        plain, cog, driver="COG", compress="LZW", blocksize=256, overviews="NONE", sparse_ok=True
    )
    plain.unlink()
    old = file.read_bytes()
    new = lay_file(folder, pixels(seed=4), month=3, **options).read_bytes()
    file.with_name(file.name + ".new").write_bytes(new.ljust(len(old), b"\0")[: len(old)])
    file.write_bytes(old)
    return folder


@pytest.fixture
def site(root):
    """Run a server for one test: what is learnt of a host must not reach the next."""
    with FaultServer(root) as running:
        yield running


def opened(url, *, month=DEFLATE, settings=None, **options):
    transport = Transport(**{**QUICK, **(settings or {})})
    return s2l3a_xr.open_l3a(
        area(), time=month, bands="B4", archive=url, transport=transport, **options
    )


def check_pixels(da):
    np.testing.assert_array_equal(da.to_numpy().squeeze(), EXPECTED)


def tif_requests(site, url):
    return [entry for entry in site.log(url) if entry.path.endswith(".tif")]


def times_asked(site, url):
    """Count the requests for each range by its first byte, with those for its rest alone."""
    spans = [entry.ranges[0] for entry in tif_requests(site, url) if entry.ranges]
    return Counter(min(s[0] for s in spans if s[1] == stop) for _, stop in spans)


def check_place(error, *, month=DEFLATE):
    """Hold an error against what it must name, also when it was pickled."""
    error = pickle.loads(pickle.dumps(error))
    assert error.url.endswith("_FRC_B4.tif")
    assert error.item == error.url.split("/")[-2]
    assert (error.band, error.month, error.tile) == ("B4", month, "32UPC")
    said = str(error)
    for part in (error.url, error.item, "B4", month):
        assert part in said
    if error.block is None:
        start, stop = error.byte_range
        assert 0 <= start < stop
        assert f"{start}-{stop - 1}" in said
    assert error.attempts >= 1
    assert error.hint


def fails(da, kind=ReadError, *, month=DEFLATE):
    with pytest.raises(kind) as caught:
        da.compute()
    check_place(caught.value, month=month)
    return caught.value


def right_or_error(da, *, month=DEFLATE):
    try:
        value = da.to_numpy().squeeze()
    except ReadError as exc:
        check_place(exc, month=month)
    else:
        np.testing.assert_array_equal(value, EXPECTED)


# R: tried again


@pytest.mark.parametrize("scope", ["header", "tile"])
@pytest.mark.parametrize("kind", TWICE)
def test_a_passing_fault_costs_its_attempts_and_nothing_else(site, kind, scope):
    """Rows 6-12, 19-25, 38."""
    url = site.url(kind, count=2, scope=scope, path=FILES)
    started = time.monotonic()
    check_pixels(opened(url))
    assert time.monotonic() - started < 4
    asked = times_asked(site, url)
    tiles = {start: n for start, n in asked.items() if start > 0}
    assert len(tiles) == 5
    assert set(tiles.values()) == ({3} if scope == "tile" else {1})


@pytest.mark.parametrize("scope", ["header", "tile"])
@pytest.mark.parametrize("kind", [*SILENT, "html200", "html206", "s416"])
def test_what_passes_at_the_second_attempt(site, kind, scope):
    """Rows 15, 16, 30, 44."""
    url = site.url(kind, count=1, scope=scope, path=FILES)
    started = time.monotonic()
    check_pixels(opened(url))
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("kind", [*STATUSES, *BROKEN, *SHORT, *SILENT])
def test_a_listing_is_tried_again(site, kind):
    """Rows 6-12, 15, 16, 19-25 on listings: half a listing is no listing."""
    patient = {"idle_timeout_s": 0.25} if kind in SILENT else {}
    url = site.url(kind, scope="listing", path=FILES)
    check_pixels(opened(url, settings=patient))
    listings = Counter(e.path for e in site.log(url) if e.path.endswith("/"))
    assert set(listings.values()) == {2}


@pytest.mark.parametrize("kind", [*STATUSES, *BROKEN, *SHORT])
def test_a_listing_that_never_comes_is_an_error_and_not_an_empty_archive(site, kind):
    url = site.url(kind, count=float("inf"), scope="listing", path=FILES)
    with pytest.raises(S2L3AError) as caught:
        opened(url)
    assert not isinstance(caught.value, s2l3a_xr.MissingError)
    assert "S2_L3A_WASP/files" in str(caught.value)
    site.heal(url)
    check_pixels(opened(url))


@pytest.mark.parametrize("scope", ["header", "tile"])
@pytest.mark.parametrize("kind", [*TWICE, *SILENT])
def test_a_lasting_fault_is_an_error_that_is_not_remembered(site, kind, scope):
    """Rows 6-12, 15, 16, 19-25, 38 for ever."""
    url = site.url(kind, count=float("inf"), scope=scope, path=FILES)
    most = 3
    da = opened(url, settings={"max_attempts": most})
    if scope == "header" and kind in CUT:  # its rest begins elsewhere, where nothing fails
        check_pixels(da)
        return
    started = time.monotonic()
    error = fails(da, TransportError)
    assert time.monotonic() - started < 6
    assert error.attempts == most
    if kind in STATUSES:
        assert error.status == int(kind[1:])
        assert kind[1:] in str(error)
    assert (error.byte_range[0] == 0) == (scope == "header")
    asked = times_asked(site, url)[error.byte_range[0]]
    # The first header of a host asks once more, to learn whether it takes several ranges.
    assert most <= asked <= most + (scope == "header")
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("kind", ["s503", "closemid", "stall0"])
def test_without_errors_it_is_nodata_and_listed(site, kind):
    url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
    da = opened(url, fail_on_error=False, settings={"max_attempts": 2})
    with pytest.warns(s2l3a_xr.ReadFailedWarning):
        value = da.to_numpy()
    assert (value == -10000).all()
    table = da.l3a.failures()
    assert len(table) == 5
    assert set(table["attempts"]) == {2}
    assert set(table["band"]) == {"B4"}
    site.heal(url)
    check_pixels(da)


def test_a_range_that_comes_in_pieces_is_put_together(site):
    """Row 13: what was truly labelled is used, and the rest asked for."""
    url = site.url("short_honest", scope="tile", path=FILES)
    check_pixels(opened(url))
    tiles = [e for e in tif_requests(site, url) if e.ranges[0][0] > 0]
    halves = {e.ranges[0][0] + e.sent for e in tiles if e.kind}
    assert {e.ranges[0][0] for e in tiles if not e.kind} == halves
    stops = {e.ranges[0][1] for e in tiles}
    assert len(stops) == 5


# E: an error at once

AT_ONCE = {
    "long": (TransportError, 14),
    "long_chunked": (TransportError, 14),
    "s401": (TransportError, 28),
    "s403": (TransportError, 28),
    "redirloop": (TransportError, 32),
    "redirhost": (TransportError, 33),
    "redirfile": (TransportError, 34),
    "redirlogin": (TransportError, 35),
    "full200": (TransportError, 36),
    "multipart": (TransportError, 40),
    "ctype_html": (TransportError, 43),
    "gzip": (TransportError, 43),
}


@pytest.mark.parametrize("scope", ["header", "tile"])
@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_will_not_pass_is_an_error_at_once(site, kind, scope):
    url = site.url(kind, count=float("inf"), scope=scope, path=FILES)
    da = opened(url)
    started = time.monotonic()
    error = fails(da, AT_ONCE[kind][0])
    assert time.monotonic() - started < 3
    assert error.attempts == 1
    asked = times_asked(site, url)[error.byte_range[0]]
    most = 6 if kind == "redirloop" else 1
    assert asked <= most + (scope == "header") * most
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("kind", ["html200", "html206", "redirlogin"])
def test_a_page_in_a_files_place_is_named_and_quoted(site, kind):
    """Rows 35, 44: it may be maintenance, so once more, and then the page's own words."""
    url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
    error = fails(opened(url), TransportError)
    assert error.attempts <= 2
    assert "HTML" in str(error)
    if kind != "redirlogin":
        assert "<title>Login" in str(error)
        assert error.attempts == 2


def test_a_refusal_hints_at_what_to_do(site):
    """Row 28."""
    for kind in ("s401", "s403"):
        error = fails(opened(site.url(kind, count=9, path=FILES, scope="tile")), TransportError)
        said = str(error).lower()
        assert any(word in said for word in ("access", "permission", "log in", "allow", "user"))


def test_a_file_that_shrank(site):
    """Row 30."""
    url = site.url("s416", count=float("inf"), scope="tile", path=FILES)
    error = fails(opened(url))
    assert error.attempts == 2
    assert times_asked(site, url)[error.byte_range[0]] == 2
    assert any(word in str(error) for word in ("shrank", "shorter", "smaller"))


def test_no_body_is_taken_after_an_answer_that_ignores_the_range(site):
    """Row 36: 64 MiB must not cross the link."""
    url = site.url("full200", count=float("inf"), path=FILES)
    with pytest.raises(TransportError, match="Range"):
        opened(url, month=LARGE).compute()
    deadline = time.monotonic() + 5
    while any(e.finished is None for e in site.log(url)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert max(entry.sent for entry in tif_requests(site, url)) < 8 * 2**20


@pytest.mark.parametrize("kind", ["long", "long_chunked"])
def test_no_more_is_read_than_asked(site, kind):
    """Row 14: the 32 MiB behind the range stay where they are."""
    url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
    fails(opened(url), TransportError)
    time.sleep(0.2)
    assert max(entry.sent for entry in tif_requests(site, url)) < 8 * 2**20


@pytest.mark.parametrize("scope", ["any", "header"])
def test_bytes_behind_an_answer_spoil_no_other(site, scope):
    """Row 14, where Content-Length is true: the connection is spent, the answer is right.

    Unless they come together with the answer, which is no HTTP then: on a busy machine always.
    """
    check_pixels(opened(site.url("long_wire", count=1, scope=scope, path=FILES)))
    url = site.url("long_wire", count=float("inf"), scope=scope, path=FILES)
    told = "is no HTTP"
    try:
        check_pixels(opened(url, settings={"max_attempts": 14}))
    except (ArchiveError, TransportError) as exc:
        told = str(exc)
    assert "is no HTTP" in told


# gone


@pytest.mark.parametrize("kind", ["s404", "s410", "s451"])
def test_gone_is_never_asked_for_again(site, kind):
    """Rows 27, 29."""
    url = site.url(kind, count=float("inf"), scope="header", path=FILES)
    da = opened(url)
    with pytest.warns(MissingWarning):
        value = da.to_numpy()
    assert (value == -10000).all()
    assert da.l3a.failures()["status"].tolist() == ["gone"]
    assert len(tif_requests(site, url)) == 1
    error = fails(opened(url, missing="raise"), GoneError)
    assert (error.status, error.attempts) == (int(kind[1:]), 1)
    assert len(tif_requests(site, url)) == 2
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("scope", ["header", "tile"])
def test_gone_for_a_moment_is_not_remembered(site, scope):
    """Row 31: it was moved and back."""
    url = site.url("s404once", scope=scope, path=FILES)
    da = opened(url, missing="raise")
    while True:
        before = len(site.log(url))
        try:
            check_pixels(da)
        except GoneError:
            assert any(entry.status == 404 for entry in site.log(url)[before:])
        else:
            break
    check_pixels(opened(url, missing="raise"))
    assert set(times_asked(site, url).values()) <= set(range(1, 8))


# redirects


def test_no_other_host_is_asked_unless_it_is_allowed(site):
    """Row 33."""
    url = site.url("redirhost:localhost", count=float("inf"), scope="tile", path=FILES)
    error = fails(opened(url), TransportError)
    assert "localhost" in str(error)
    assert "allowed_hosts" in str(error)
    assert {entry.headers["host"].partition(":")[0] for entry in site.log(url)} == {"127.0.0.1"}
    check_pixels(opened(url, settings={"allowed_hosts": ("localhost",)}))
    assert "localhost" in {entry.headers["host"].partition(":")[0] for entry in site.log(url)}


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x/", "/\\evil.invalid/", "http://[bad"],
)
def test_no_other_scheme_is_followed(site, target):
    """Row 34."""
    url = site.url(f"redirfile:{target}", count=float("inf"), scope="tile", path=FILES)
    error = fails(opened(url), TransportError)
    assert error.attempts == 1


# waits that the server asks for


def gap_after(site, url, status):
    """Seconds from the end of the first answer of a status to the next request of any path."""
    log = site.log(url)
    told = min(entry.finished for entry in log if entry.status == status)
    return min(entry.received for entry in log if entry.received > told + 0.05) - told


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("s429ra:1", 0.95, 3.0),
        ("s503ra:1", 0.95, 3.0),
        ("s503ra:date2", 0.95, 5.0),
        ("s429ra:86400", 1.45, 4.0),
        ("s503ra:999999999999999999999", 0.0, 4.0),
    ],
)
def test_an_announced_wait_holds_for_the_whole_host(site, kind, least, most):
    """Row 26: nobody asks meanwhile, whatever else there was to read."""
    url = site.url(kind, scope="header", path=FILES)
    settings = {"max_retry_after_s": 1.5 if "999" in kind or "86400" in kind else 60.0}
    da = opened(url, month=f"{DEFLATE}/{RAW}", settings=settings)
    started = time.monotonic()
    value = da.to_numpy().squeeze()
    taken = time.monotonic() - started
    np.testing.assert_array_equal(value, np.stack([EXPECTED, EXPECTED]))
    assert least <= taken < most + 2
    if least:
        assert least <= gap_after(site, url, int(kind[1:4])) < most


@pytest.mark.parametrize("kind", ["s503ra:past", "s503ra:garbage", "s503ra:0", "s503ra:-5"])
def test_a_wait_that_is_none_is_no_reason_to_wait(site, kind):
    """Row 26."""
    url = site.url(kind, scope="tile", path=FILES)
    started = time.monotonic()
    check_pixels(opened(url))
    assert time.monotonic() - started < 2


def test_a_wait_holds_for_other_arrays_and_files_too(site):
    """Row 26: another thread, another file, the same host."""
    url = site.url("s429ra:2", scope="tile", path=FILES)
    quiet = site.url(path=FILES)
    first, second = opened(url), opened(quiet, month=RAW)
    thread = threading.Thread(target=first.compute)
    thread.start()
    while not any(entry.status == 429 and entry.finished for entry in site.log(url)):
        time.sleep(0.01)
    told = min(e.finished for e in site.log(url) if e.status == 429)
    time.sleep(0.2)  # the answer is on its way
    asked = time.monotonic()
    check_pixels(second)
    thread.join()
    assert min(e.received for e in site.log(quiet) if e.received > asked) - told > 1.9


def test_an_announced_wait_is_not_silence(site):
    """Section 4: it does not use up the time after which a host is given up."""
    url = site.url("s503ra:2", scope="tile", path=FILES)
    check_pixels(opened(url, settings={"give_up_s": 1.0, "idle_timeout_s": 0.5}))


# what looks right and is not


@pytest.mark.parametrize(("scope", "many"), [("header", False), ("tile", False), ("tile", True)])
@pytest.mark.parametrize("kind", ["shift_lying", "zeros", "flip"])
def test_wrong_bytes_under_right_labels_become_no_pixels(site, kind, scope, many):
    """Rows 41, 42 with deflate, which has a checksum; a flipped bit may hit what nobody reads."""
    site.many = many
    url = site.url(kind, count=float("inf"), scope=scope, path=FILES)
    da = opened(url)
    if kind == "flip" and scope == "header":
        right_or_error(da)
    else:
        fails(da, (FormatError, TransportError) if many else FormatError)
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("kind", ["shift_lying", "zeros"])
def test_a_cogs_own_marks_tell_wrong_bytes_without_a_checksum(site, kind):
    """Row 41 with LZW in a GDAL COG: the marks on both sides of a block."""
    check_pixels(opened(site.url(path=FILES), month=COG))
    url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
    with pytest.raises(ReadError):
        opened(url, month=COG).compute()


@pytest.mark.parametrize("month", [DEFLATE, RAW, LZW, COG])
@pytest.mark.parametrize(
    "kind",
    [*SHORT, "closemid", "shift_honest", "short_honest", "long", "full200", "badtotal", "gzip",
     "multipart", "html200", "html206", "ctype_html", "etagswap"],
)  # fmt: skip
def test_no_layout_lets_wrong_bytes_through(site, kind, month):
    """Section 2c: what HTTP itself can tell must be told for raw blocks too."""
    url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
    da = opened(url, month=month, settings={"max_attempts": 2})
    if kind == "short_honest":
        right_or_error(da, month=month)
    else:
        fails(da, month=month)


def test_a_range_without_a_label_is_taken_if_its_length_is_right(site):
    """Row 37."""
    url = site.url("nocr", count=float("inf"), scope="tile", path=FILES)
    with pytest.warns(S2L3AWarning, match="Content-Range"):
        check_pixels(opened(url))


def test_a_range_without_a_label_and_of_another_length_is_not(site):
    """Row 37."""
    for kind in ("nocr_short", "nocr_long"):
        url = site.url(kind, count=float("inf"), scope="tile", path=FILES)
        fails(opened(url, settings={"max_attempts": 2}), TransportError)


# files that change


@pytest.mark.parametrize("kind", ["etagswap", "badtotal"])
@pytest.mark.parametrize("count", [1, float("inf")])
def test_a_file_that_was_replaced_is_never_mixed(site, kind, count):
    """Rows 39, 45."""
    url = site.url(kind, count=count, scope="tile", path=FILES)
    da = opened(url)
    error = fails(da, FileChangedError)
    assert error.byte_range[0] > 0
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("errors", [True, False], ids=["raise", "go on"])
@pytest.mark.parametrize("kind", ["etagswap", "badtotal"])
def test_an_outdated_header_that_gave_no_pixel_is_read_once_more(site, kind, errors):
    """Rows 39, 45: remembered of an earlier call, so nothing can be mixed."""
    url = site.url(kind, count=float("inf"), scope="header", path=FILES)
    da = opened(url, fail_on_error=errors)
    da.l3a.plan()  # reads the header alone
    site.heal(url)
    site.clear(url)
    check_pixels(da)
    asked = times_asked(site, url)
    assert (asked[0], max(asked.values())) == (1, 2)
    check_pixels(da)
    assert times_asked(site, url)[0] == 1


@pytest.mark.parametrize("kind", ["etagswap", "badtotal"])
def test_a_header_that_is_contradicted_twice_is_an_error(site, kind):
    """Rows 39, 45."""
    url = site.url(kind, count=float("inf"), scope="header", path=FILES)
    da = opened(url)
    da.l3a.plan()
    site.clear(url)
    fails(da, FileChangedError)
    assert times_asked(site, url)[0] == 1
    site.heal(url)
    check_pixels(da)


@pytest.mark.parametrize("p", [None, 0.5])
def test_a_mirror_with_another_etag_is_the_same_file(site, p):
    """Row 45: the same time and size, and the tables of blocks are equal."""
    amount = {"p": p} if p else {"count": float("inf")}
    url = site.url("mirror_etag", scope="tile", path=FILES, **amount)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        check_pixels(opened(url))


def test_a_mirror_with_other_tables_is_not(site):
    """Row 45: the same time and size, but what is there is another file."""
    url = site.url("mirror_swap", count=float("inf"), path=FILES, p=0.5)
    try:
        value = opened(url).to_numpy().squeeze()
    except ReadError as exc:
        check_place(exc)
    else:
        new = pixels(seed=4)[PART]
        assert (value == EXPECTED).all() or (value == new).all()


# servers of other kinds


@pytest.mark.parametrize("kind", ["http10", "keepalive-close"])
def test_servers_that_keep_no_connection(site, kind):
    """Rows 46, 47."""
    url = site.url(kind, count=float("inf"), path=FILES)
    check_pixels(opened(url, settings={"max_attempts": 14}))
    ports = [entry.peer_port for entry in site.log(url)]
    assert len(set(ports)) == len(ports)


def test_one_connection_is_enough(site):
    """Row 46: readers wait for each other, and none gives up."""
    site.latency_s = 0.1
    url = site.url(path=FILES)
    check_pixels(opened(url, settings={"max_connections": 1, "idle_timeout_s": 0.25}))
    asked = tif_requests(site, url)
    assert len({entry.peer_port for entry in asked}) <= 2  # the first may have been broken off
    assert len(asked) <= 7


def test_a_link_that_is_slow_is_not_dead(site):
    """Row 18: a 1/100 of a usual link, shared by all connections, without a single retry."""
    site.bytes_per_s = 400_000
    url = site.url(path=FILES)
    started = time.monotonic()
    check_pixels(opened(url, settings={"idle_timeout_s": 1.0}))
    assert time.monotonic() - started > 2
    assert set(times_asked(site, url).values()) <= {1, 2}
    assert sum(times_asked(site, url).values()) <= 7


def test_identity_is_asked_for(site):
    """Row 43b."""
    url = site.url(path=FILES)
    check_pixels(opened(url))
    assert {e.headers["accept-encoding"] for e in tif_requests(site, url)} == {"identity"}


def test_a_proxy_of_the_environment_is_used(site, monkeypatch):
    """Row 48: names are the proxy's to look up; a dead one is in test_patience."""
    monkeypatch.setenv("http_proxy", site.origin)
    monkeypatch.setenv("no_proxy", "")
    url = site.url("s503", scope="tile", path=FILES).replace("127.0.0.1", "archive.invalid")
    check_pixels(opened(url, settings={"max_attempts": 5}))
    assert {entry.headers["host"].partition(":")[0] for entry in site.log(url)} == {
        "archive.invalid"
    }
