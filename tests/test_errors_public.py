"""Whatever users hand in and servers do, our errors come out: what, where, what next."""

from __future__ import annotations

import pickle
import re
import warnings

import distributed
import numpy as np
import pytest
import xarray as xr
from faultserver import FaultServer

import s2l3a_xr
from s2l3a_xr import (
    Inventory,
    StacArchive,
    Transport,
    open_l3a,
    save_archive,
    search_l3a,
    to_cog,
    to_geotiff,
    to_virtual,
    to_zarr,
)
from s2l3a_xr._errors import ArchiveError, InputError, ReadError, S2L3AError

pytestmark = pytest.mark.usefixtures("short_pauses")

AOI = (11.68, 51.94, 11.70, 51.96)
LONG, NUL = "x" * 5000, "a\0b"
NEXT = re.compile(
    r"such as |give|choose|write|must|needs|check|see |remove|set it|ask |pass |use |add it|"
    r"correct|name it|print|try |does without|tell |open |search again|download it|is not in ",
)
"""What tells a user what to do or what would be right."""


@pytest.fixture(scope="module")
def site(sample_root):
    with FaultServer(sample_root) as running:
        yield running


@pytest.fixture(scope="module")
def archive(site):
    return site.url(path="S2_L3A_WASP/files/")


@pytest.fixture(scope="module")
def cube(archive):
    return open_l3a(AOI, time="2021-05", bands="B4", archive=archive).compute()


def check_message(error):
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 1500
    assert NEXT.search(text), text


def opening(**wishes):
    return {
        "aoi": AOI,
        "time": "2021-05",
        "bands": "B4",
        "archive": "http://127.0.0.1:1/",
        **wishes,
    }


ASKED_WRONGLY = {
    "aoi": [
        5, "", "nope.json", f"{LONG}.geojson", f"{NUL}.geojson", b"x", object(), [], {}, (1, 2, 3),
        (1, 2, 3, "x"), (1, 2, 3, float("nan")), {"type": "Point", "coordinates": "x"},
        {"type": "Polygon", "coordinates": [[1, 2]]}, {"type": 5}, "\udcff.geojson",
        "https://h/a.json",
    ],
    "archive": [
        5, "", "http://", "http://h:99999/", "http://[::1/", "nope/", LONG, NUL, b"http://x", [1],
        f"zip://::{NUL}", f"zip://::{LONG}",
    ],
    "time": [5, b"2021", object(), "9999999-01", float("nan"), [], "x", "2021-13", {"a": 1}],
    "bands": [5, None, b"B4", object(), [None], [["B4"]], "", "B99"],
    "crs": [5, "x", object(), b"x"],
    "resolution": ["x", float("nan"), -1, 0, object(), 3.7],
    "resampling": ["x", 5, {"B4": 5}],
    "missing": ["x", None],
    "verify": ["x", 5],
    "geobox": [5],
    "like": [5, xr.DataArray([1])],
    "transport": [5, "careful"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{i}")
        for name, values in ASKED_WRONGLY.items()
        for i, value in enumerate(values)
    ],
)
def test_what_is_asked_wrongly_is_told_before_anything_is_asked(name, value):
    with pytest.raises(InputError) as caught:
        open_l3a(**opening(**{name: value}))
    check_message(caught.value)


@pytest.mark.parametrize("name", ["years", "months"])
@pytest.mark.parametrize("value", [float("nan"), object(), b"y", "x", [], {}, -1, 10**30, [None]])
def test_months_that_are_none(name, value):
    with pytest.raises(InputError) as caught:
        search_l3a(AOI, archive="http://127.0.0.1:1/", **{name: value})
    assert name in str(caught.value)
    check_message(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_connections": "4"}, {"max_connections": 2.5}, {"max_connections": 0},
        {"max_connections": True}, {"max_attempts": None}, {"idle_timeout_s": "x"},
        {"idle_timeout_s": float("nan")}, {"cache_dir": 5}, {"cache_dir": NUL},
        {"allowed_hosts": (5,)},
        {"allowed_hosts": ("https://h",)},
    ],
)  # fmt: skip
def test_settings_that_can_not_be(settings):
    with pytest.raises(InputError, match=f"Transport.{next(iter(settings))}=") as caught:
        Transport(**settings)
    check_message(caught.value)


def test_a_host_is_one_host_and_lets_no_part_of_its_name_in():
    assert Transport(allowed_hosts="Intranet.example").allowed_hosts == ("intranet.example",)


def test_numpy_numbers_are_numbers():
    assert Transport(max_connections=np.int64(3), idle_timeout_s=np.float32(2)).max_connections == 3


@pytest.mark.parametrize("value", [5, None, NUL, object()])
@pytest.mark.parametrize("where", ["to_geotiff", "save_archive", "save", "load", "quicklook"])
def test_paths_that_can_not_be(archive, cube, where, value):
    found = search_l3a(AOI, time="2021-05", bands="B4", archive=archive)
    write = {
        "to_geotiff": lambda: to_geotiff(cube, value, progress=False),
        "save_archive": lambda: save_archive(found, value, progress=False),
        "save": lambda: found.save(value),
        "load": lambda: Inventory.load(value),
        "quicklook": lambda: cube.l3a.quicklook(value, bands=["B4", "B4", "B4"]),
    }[where]
    with pytest.raises(InputError) as caught:
        write()
    check_message(caught.value)


def test_other_misuse(cube, tmp_path):
    (tmp_path / "file").write_text("")
    for wrong in (
        lambda: StacArchive(5),
        lambda: StacArchive("http://h/", 5),
        lambda: StacArchive("http://[::1/"),
        lambda: save_archive(5, tmp_path),
        lambda: to_geotiff(5, tmp_path),
        lambda: to_geotiff(xr.DataArray(5), tmp_path),
        lambda: to_geotiff(cube.assign_coords(band=["../x"]), tmp_path),
        lambda: to_geotiff(cube.astype(complex), tmp_path),
        lambda: to_geotiff(cube, tmp_path, profile=5),
        lambda: cube.l3a.quicklook(tmp_path / "a.png", bands=5),
        lambda: cube.l3a.quicklook(tmp_path / "a.png", bands=["B4"] * 3, columns=0),
        lambda: cube.l3a.quicklook(tmp_path / "file" / "a.png", bands=["B4"] * 3),
        cube.l3a.plan,
        xr.DataArray([1]).l3a.failures,
    ):
        with pytest.raises(InputError) as caught:
            wrong()
        check_message(caught.value)


def test_misuse_of_stores_and_saved_requests(archive, cube, tmp_path):
    found = search_l3a(AOI, time="2021-05", bands="B4", archive=archive)
    (tmp_path / "there.parquet").mkdir()
    (tmp_path / "broken.json").write_text("{}")
    ask = {"engine": "s2l3a", "archive": archive}
    opened = open_l3a(inventory=found)
    for wrong, told in (
        (lambda: to_virtual(found, tmp_path / "refs.zarr"), r"must end in \.icechunk or \.parquet"),
        (lambda: to_virtual(found, tmp_path / "there.parquet"), "is there already; remove it, or"),
        (lambda: to_virtual(found, 5), "the store"),
        (lambda: to_cog(5, tmp_path), "DataArray"),
        (lambda: to_cog(cube, 5), "directory"),
        (lambda: to_zarr(5, tmp_path / "a.zarr"), "DataArray"),
        (lambda: to_zarr(cube, 5), "store"),
        (lambda: to_zarr(cube, tmp_path / "a.zarr", chunks={"q": 1}), "choose from time, band"),
        (lambda: to_zarr(cube, tmp_path / "a.zarr", chunks={"x": 0}), "at least one pixel"),
        (lambda: to_zarr(cube, tmp_path / "broken.json"), "broken.json"),
        (lambda: opened.l3a.save_request(tmp_path / "a.txt"), r"must end in \.json or \.geojson"),
        (xr.DataArray([1]).l3a.plan, "open_l3a"),
        (lambda: xr.DataArray([1]).l3a.save_request(tmp_path / "a.json"), "no request to save"),
        (lambda: xr.open_dataset(tmp_path / "broken.json", engine="s2l3a"), "broken.json"),
        (lambda: xr.open_dataset(tmp_path / "nope.json", engine="s2l3a"), "nope.json"),
        (lambda: xr.open_dataset(AOI, **ask, bands="B99"), "B99"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            wrong()
        check_message(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".zarr"]


FAULTS = ["s403", "s404", "s503", "reset0", "closemid", "html200", "gzip", "flip", "shift_honest"]


@pytest.fixture(scope="module")
def quick():
    return Transport(max_attempts=2, idle_timeout_s=0.5)


@pytest.mark.parametrize("kind", FAULTS)
def test_what_a_server_does_wrong_is_told_with_place_and_next_step(site, quick, kind):
    good = open_l3a(
        AOI, time="2021-05", bands="B4", missing="raise", transport=quick,
        archive=site.url(path="S2_L3A_WASP/files/"),
    )  # fmt: skip
    inventory = search_l3a(
        AOI, time="2021-05", bands="B4",
        archive=site.url(kind, count=float("inf"), scope="tile", path="S2_L3A_WASP/files/"),
    )  # fmt: skip
    da = open_l3a(inventory=inventory, missing="raise", transport=quick)
    assert good.compute(scheduler="sync").shape == da.shape
    with pytest.raises(ReadError) as caught:
        da.compute(scheduler="sync")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.tile, error.band, error.month) == ("32UPC", "B4", "2021-05")
    assert error.item.startswith("SENTINEL2A_20210515")
    assert error.url.endswith("_FRC_B4.tif")
    assert error.byte_range is not None or error.block is not None
    if kind[0] == "s" and kind[1:].isdigit():
        assert error.status == int(kind[1:])
        assert error.attempts >= 1
    text = str(error)
    for part in (error.url, "band B4", "month 2021-05"):
        assert part in text
    assert error.hint
    assert text.endswith(f"; {error.hint}")
    check_message(error)


@pytest.mark.parametrize("kind", [*FAULTS, "stall0", "redirloop", "redirfile", "short_cl"])
@pytest.mark.parametrize("way", ["search", "plan", "mirror", "export"])
def test_no_other_error_escapes(site, quick, tmp_path, kind, way):
    scope = {"search": "listing", "plan": "header"}.get(way, "tile")
    archive = site.url(kind, count=float("inf"), scope=scope, path="S2_L3A_WASP/files/")

    def run():
        found = search_l3a(AOI, time="2021-05", bands="B4", archive=archive, transport=quick)
        da = open_l3a(inventory=found, transport=quick, missing="raise")
        if way == "plan":
            da.l3a.plan()
        elif way == "mirror":
            save_archive(found, tmp_path / "mirror", progress=False, transport=quick)
        elif way == "export":
            to_geotiff(da, tmp_path / "out", progress=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", s2l3a_xr.S2L3AWarning)
        try:
            run()
        except S2L3AError as exc:
            told = exc
        else:  # a listing needs no ranges and may come packed, a file that is gone is left out
            may_pass = {"s404", "gzip", "flip", "shift_honest"}
            assert kind in may_pass or (kind, way) == ("closemid", "plan"), kind
            return
    check_message(told)


def _search(archive):
    return search_l3a(AOI, time="2021-05", bands="B4", archive=archive)


@pytest.mark.slow
def test_errors_come_home_whole(site, quick):
    """Expect one type, place and wording from children and workers alike."""
    inventory = _search(
        site.url("s403", count=float("inf"), scope="tile", path="S2_L3A_WASP/files/")
    )
    da = open_l3a(inventory=inventory, transport=quick)
    refused = site.url("s403", count=float("inf"), path="S2_L3A_WASP/files/")
    told = []
    with pytest.raises(ReadError) as caught:
        da.compute(scheduler="sync")
    told.append(caught.value)
    with pytest.raises(ReadError) as caught:
        da.compute(scheduler="processes")
    told.append(caught.value)
    with (
        distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        with pytest.raises(ReadError) as caught:
            da.compute()
        told.append(caught.value)
        with pytest.raises(ArchiveError) as caught:
            client.submit(_search, refused).result()
        with pytest.raises(ArchiveError) as here:
            _search(refused)
        assert str(caught.value) == str(here.value)
    assert len({type(error) for error in told}) == 1
    assert len({str(error) for error in told}) == 1
    assert len({str(sorted(error.place.items())) for error in told}) == 1
    assert told[0].place.keys() >= {"url", "item", "tile", "band", "month", "status", "attempts"}
