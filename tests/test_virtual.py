"""Virtual stores: the archive's own blocks through plain xarray, pixel by pixel the files'."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import threading
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - for .rio
import xarray as xr

import s2l3a_xr
from s2l3a_xr import ExportError, SelectionError, Transport, open_l3a, search_l3a, to_virtual
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import Fault

AOI = (11.68, 51.94, 11.70, 51.96)
FILES = "S2_L3A_WASP/files"
ENDINGS = [
    pytest.param("parquet", marks=pytest.mark.skipif(
        not importlib.util.find_spec("fastparquet"), reason="fsspec reads with fastparquet",
    )),
    pytest.param("icechunk", marks=pytest.mark.skipif(
        not (importlib.util.find_spec("icechunk") and importlib.util.find_spec("imagecodecs.zarr")),
        reason="imagecodecs has codecs of Zarr format 3 for Python 3.12 and newer alone",
    )),
]  # fmt: skip
every_kind = pytest.mark.parametrize("ending", ENDINGS)


def open_plainly(store, group, protocol="http", **options):
    """Open a store as somebody does who has not got this package."""
    if store.suffix == ".parquet":
        refs = {"fo": str(store), "remote_protocol": protocol}
        if protocol == "http":
            refs["remote_options"] = {"asynchronous": True}
        return xr.open_zarr("reference://", group=group, storage_options=refs, **options)
    import icechunk  # noqa: PLC0415 - an optional extra

    storage = icechunk.local_filesystem_storage(str(store))
    places = icechunk.Repository.fetch_config(storage).virtual_chunk_containers
    access = {
        place: icechunk.credentials.HttpAccess
        if place.startswith("http")
        else icechunk.credentials.LocalFileSystemAccess
        for place in places
    }
    repository = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    session = repository.readonly_session("main")
    return xr.open_zarr(session.store, group=group, consolidated=False, **options)


def pixels_of(root, product, band, resolution_m=10):
    with rasterio.open(root / FILES / product.file(BANDS[band], resolution_m)) as file:
        return file.read(1)


def rows_of(server):
    return [entry for entry in server.log if entry.path.endswith(".tif")]


@every_kind
def test_whole_tiles_are_the_files(server, sample_root, tmp_path, ending):
    asked = {"time": "2021-05/2021-06", "bands": ["red", "FLG"], "archive": server.url}
    found = search_l3a(AOI, **asked)
    server.clear_log()
    store = to_virtual(found, tmp_path / f"l3a.{ending}", progress=False)
    assert store == tmp_path / f"l3a.{ending}"
    assert list(tmp_path.iterdir()) == [store]  # nothing temporary is left
    assert len(rows_of(server)) <= 4  # a header of each file at most
    server.clear_log()
    ds = open_plainly(store, "32UPC", mask_and_scale=False)
    assert rows_of(server) == []
    assert ds["red"].dims == ("time", "y", "x")
    assert ds["red"].chunks[1][0] == 256
    assert dict(ds.sizes) == {"time": 2, "y": 10980, "x": 10980}
    products = {cell.month: cell.product for cell in found.cells}
    part = ds.isel(time=0).load()
    written = len(rows_of(server))
    np.testing.assert_array_equal(part["red"], pixels_of(sample_root, products[2021, 5], "B4"))
    np.testing.assert_array_equal(part["FLG"], pixels_of(sample_root, products[2021, 5], "FLG"))
    assert written <= 2 * 43 * 43 * 1.2  # a request a block, now and then once more


@every_kind
def test_the_same_as_open_l3a(server, tmp_path, ending):
    asked = {"time": "2021-04/2021-07", "bands": ["B4", "B11", "FLG", "WGT"], "archive": server.url}
    found = search_l3a(AOI, **asked)
    store = to_virtual(found, tmp_path / f"l3a.{ending}", progress=False)
    with pytest.warns(s2l3a_xr.MissingWarning):
        fine = open_l3a(inventory=found, clip=False)
    for group, bands in (("32UPC/10m", ["B4", "WGT"]), ("32UPC/20m", [])):
        ds = open_plainly(store, group, mask_and_scale=False)
        assert list(ds["time"].values) == list(fine["time"].values)
        for band in bands:
            same = ds[band].sel(x=fine["x"], y=fine["y"]).load()
            np.testing.assert_array_equal(same, fine.sel(band=band))
    coarse = open_l3a(AOI, **(asked | {"bands": ["B11"], "time": "2021-05"}), clip=False)
    same = ds["B11"].sel(x=coarse["x"], y=coarse["y"], time="2021-05").load()
    np.testing.assert_array_equal(same, coarse.sel(band="B11"))
    assert ds.rio.crs == fine.rio.crs
    assert ds.rio.transform()[0] == 20
    assert ds.attrs["license"] == "CC-BY-4.0"
    assert (ds["B11"].attrs["native_name"], ds["B11"].attrs["units"]) == ("B11", "1e-4")
    masked = open_plainly(store, "32UPC/10m")["B4"].sel(x=fine["x"], y=fine["y"]).load()
    assert masked.dtype == np.float32
    np.testing.assert_array_equal(masked, fine.l3a.masked().sel(band="B4"))


@every_kind
def test_a_group_for_each_tile(server, tmp_path, ending):
    found = search_l3a((11.95, 51.95, 13.6, 51.96), time="2021-05", bands="B5", archive=server.url)
    assert len(found.tiles) > 1
    store = to_virtual(found, tmp_path / f"l3a.{ending}", progress=False)
    zones = set()
    for tile in found.tiles:
        ds = open_plainly(store, tile, mask_and_scale=False)
        assert ds.sizes["x"] == 5490
        assert ds.rio.crs == f"EPSG:326{tile[:2]}"
        zones.add(tile[:2])
    assert zones == {"32", "33"}


LAYOUTS = {
    "predictor": {"predictor": 2},
    "lzw": {"compress": "LZW"},
    "lzw, predictor": {"compress": "LZW", "predictor": 2},
    "zstd": {"compress": "ZSTD", "predictor": 2},
    "plain": {"compress": "NONE"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "big-endian, predictor": {"ENDIANNESS": "BIG", "predictor": 2},
    "strips": {"tiled": False, "blockysize": 60},
    "512": {"blockxsize": 512, "blockysize": 512, "predictor": 2},
}


def laid(lay_file, root, band="B4", months=(3,), **options):
    rng = np.random.default_rng(7)
    for month in months:
        pixels = rng.integers(-10000, 12000, (900, 700), dtype="int16")
        lay_file(root, pixels, at=(4900, 4900), month=month, band=band, **options)
    return search_l3a((11.20, 51.86, 11.22, 51.88), years=2021, months=list(months), bands=band,
                      archive=root / FILES)  # fmt: skip


@every_kind
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_packing(lay_file, tmp_path, ending, layout):
    found = laid(lay_file, tmp_path / "archive", **LAYOUTS[layout])
    store = to_virtual(found, tmp_path / f"l3a.{ending}", progress=False)
    ds = open_plainly(store, "32UPC", "file", mask_and_scale=False)
    got = ds["B4"][0, 4600:6100, 4600:6100].load()
    expected = pixels_of(tmp_path / "archive", Product(tile="32UPC", year=2021, month=3), "B4")
    np.testing.assert_array_equal(got, expected[4600:6100, 4600:6100])
    assert (got[:300] == -10000).all()  # blocks that were never written
    assert (got != -10000).any()


@every_kind
def test_what_no_array_can_say(lay_file, tmp_path, ending):
    root = tmp_path / "archive"
    laid(lay_file, root, months=[3])
    laid(lay_file, root, months=[4], blockxsize=512, blockysize=512)
    found = search_l3a((11.20, 51.86, 11.22, 51.88), years=2021, bands="B4", archive=root / FILES)
    target = tmp_path / f"l3a.{ending}"
    with pytest.raises(ExportError, match=r"B4 in 32UPC are packed in several ways.* 512 x 512 "):
        to_virtual(found, target, progress=False)
    found = laid(lay_file, tmp_path / "strips", tiled=False, blockysize=77)
    with pytest.raises(ExportError, match="the last strip of B4 in 32UPC, 2021-03, is shorter"):
        to_virtual(found, target, progress=False)
    assert not target.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".s2l3a")]


@every_kind
def test_targets_that_can_not_be(server, tmp_path, ending):
    found = search_l3a(AOI, time="2021-05", bands="B4", archive=server.url)
    target = tmp_path / f"l3a.{ending}"
    target.mkdir()
    with pytest.raises(ExportError, match="is there already"):
        to_virtual(found, target, progress=False)
    with pytest.raises(ExportError, match="can't be written"):
        to_virtual(found, tmp_path / "no" / target.name, progress=False)
    with pytest.raises(ExportError, match=r"must end in \.icechunk or \.parquet"):
        to_virtual(found, tmp_path / "l3a.zarr")


@every_kind
def test_secrets_stay_at_home(server, tmp_path, ending):
    secret = server.url.replace("http://", "http://me:hunter2@")
    found = search_l3a(AOI, time="2021-05", bands="B4", archive=secret)
    store = to_virtual(found, tmp_path / f"l3a.{ending}", progress=False)
    held = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"hunter2" not in held
    assert open_plainly(store, "32UPC")["B4"][0, 5000, 5000].load().size == 1
    (cell,) = found.cells
    signed = f"{server.url}{cell.product.file(BANDS['B4'], 10)}?sig=hunter2"
    found = replace(found, cells=(replace(cell, urls=(signed,)),))
    with pytest.raises(SelectionError, match="perhaps with a secret") as caught:
        to_virtual(found, tmp_path / f"other.{ending}", progress=False)
    assert "hunter2" not in str(caught.value)
    packed = replace(found, archive_url="zip://files::/data/mirror.zip",
                     cells=(replace(cell, urls=("",)),))  # fmt: skip
    with pytest.raises(SelectionError, match="only files on http"):
        to_virtual(packed, tmp_path / f"other.{ending}", progress=False)


@every_kind
def test_files_that_are_gone(fresh_server, tmp_path, ending):
    found = search_l3a(AOI, time="2021-05/2021-06", bands="B4", archive=fresh_server.url)
    path = found.save(tmp_path / "inventory.json")
    fresh_server.faults = [Fault(match="0515.*_B4", kind="status", status=404)]
    with pytest.warns(s2l3a_xr.MissingWarning, match="1 listed file"):
        store = to_virtual(path, tmp_path / f"l3a.{ending}", progress=False)
    ds = open_plainly(store, "32UPC", mask_and_scale=False)
    assert ds.sizes["time"] == 1
    fresh_server.faults = [Fault(match="0615.*_B4", kind="status", status=500)]
    with pytest.raises(s2l3a_xr.ReadError, match="B4"):
        to_virtual(path, tmp_path / f"b.{ending}", progress=False,
                   transport=Transport(max_attempts=1))  # fmt: skip
    assert not (tmp_path / f"b.{ending}").exists()


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_replaced_file_is_told(lay_file, tmp_path, ending):
    """Held against the time at which it was modified, on servers that say so."""
    found = laid(lay_file, tmp_path / "archive")
    handler = functools.partial(_Conditional, directory=str(tmp_path / "archive"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{served.server_port}/{FILES}/"
        there = replace(found, archive_url=base)
        store = to_virtual(there, tmp_path / f"l3a.{ending}", progress=False)
        band = open_plainly(store, "32UPC", mask_and_scale=False)["B4"]
        assert band[0, 5000, 5000].load().size == 1
        (path,) = (tmp_path / "archive").rglob("*.tif")
        os.utime(path, (2e9, 2e9))
        band = open_plainly(store, "32UPC", mask_and_scale=False)["B4"]
        with pytest.raises(Exception, match=r"(?i)modified|precondition|checksum|changed"):
            band[0, 5400, 5400].load()
        served.shutdown()


class _Conditional(http.server.SimpleHTTPRequestHandler):
    """Ranges and If-Unmodified-Since, as Apache has them."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        stamp = formatdate(path.stat().st_mtime, usegmt=True)
        since = self.headers.get("If-Unmodified-Since")
        if since and parsedate_to_datetime(stamp) > parsedate_to_datetime(since):
            self.send_error(412)
            return
        data, total = path.read_bytes(), path.stat().st_size
        first, last = (
            int(n) if n else None for n in self.headers["Range"][6:].split(",")[0].split("-")
        )
        if first is None:
            first, last = total - last, total - 1
        last = min(last if last is not None else total - 1, total - 1)
        self.send_response(206)
        for name, value in {
            "Content-Range": f"bytes {first}-{last}/{total}", "Last-Modified": stamp,
            "Content-Length": str(last - first + 1), "Accept-Ranges": "bytes",
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *_args):
        pass
