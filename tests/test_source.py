"""Headers of files, held against what the tile must have."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
import rasterio

from s2l3a_xr._errors import FileChangedError, FormatError, GoneError, TransportError
from s2l3a_xr._sample import Fault, SampleServer
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import HEADER_BYTES
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Transport, run_with_session

LATER = {"Last-Modified": "Tue, 01 Jun 2021 00:00:00 GMT"}
PIXELS = np.arange(300 * 300, dtype="int16").reshape(300, 300)


@pytest.fixture
def site(tmp_path):
    with SampleServer(tmp_path) as server:
        yield server


def source_of(site, path, **changes):
    fields = {
        "url": f"{site.origin}/{path.relative_to(site.root).as_posix()}",
        "item": "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2", "band": "B4",
        "month": "2021-03", "tile": tile_named("32UPC"), "resolution_m": 10, "dtype": "int16",
    }  # fmt: skip
    return Source(**{**fields, **changes})


def read(source, **settings):
    transport = Transport(idle_timeout_s=0.5, max_attempts=3, **settings)
    return run_with_session(transport, lambda session: read_header(session, source))


def test_one_small_request_is_enough_for_a_usual_file(site, tmp_path, lay_file):
    source = source_of(site, lay_file(tmp_path, PIXELS))
    header = read(source)
    assert header.layout.counts.shape == (43, 43)
    assert np.count_nonzero(header.layout.counts) == 4
    assert read(source) is header
    assert [r.ranges[0] for r in site.log] == [(0, min(HEADER_BYTES, header.total))]


def test_a_long_header_is_read_on_and_kept(site, tmp_path, lay_file):
    source = source_of(site, lay_file(tmp_path, PIXELS, blockxsize=64, blockysize=64))
    assert read(source).layout.counts.shape == (172, 172)
    assert 2 <= len(site.log) <= 4
    read(source)
    assert len(site.log) <= 4


WRONG = {
    "corner": ({"tile": "32UQC"}, {}, "the file's corner is"),
    "CRS": ({"crs": "EPSG:32633"}, {}, "the file's CRS is EPSG:32633, tile 32UPC must have"),
    "size": ({"width": 10979}, {}, "the file's size is"),
    "pixel size": ({}, {"resolution_m": 20}, "the file's size is"),
    "pixel type": ({"dtype": "int32"}, {}, "the file's pixel type is int32"),
    "nodata": ({"nodata": 0}, {}, "the file's nodata is 0, the product's is -10000"),
    "codec": ({"compress": "LERC"}, {}, "LERC"),
}


@pytest.mark.parametrize(("options", "changes", "text"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_not_what_it_must_be_is_refused(
    site, tmp_path, lay_file, options, changes, text
):
    tile = options.get("tile", "32UPC")
    path = lay_file(
        tmp_path, PIXELS, tile=tile, **{k: v for k, v in options.items() if k != "tile"}
    )
    source = source_of(site, path, **changes)
    with pytest.raises(FormatError, match=text) as caught:
        read(source)
    assert caught.value.url == source.url


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>" * 99, b"II*\0" * 999])
def test_what_is_no_tiff_is_refused_by_url(site, tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises((FormatError, TransportError)) as caught:
        read(source_of(site, path))
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.url == site.origin + "/a.tif"


def test_a_wrong_block_table_is_refused(site, tmp_path, lay_file):
    path = lay_file(tmp_path, PIXELS)
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<I", offset))
    content[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="block table can't be right") as caught:
        read(source_of(site, path))
    assert caught.value.block == (0, 0)


def test_no_failure_is_kept(site, tmp_path, lay_file):
    source = source_of(site, lay_file(tmp_path, PIXELS))
    for status, kind in ((404, GoneError), (403, TransportError), (503, TransportError)):
        site.faults = [Fault(match=r"\.tif$", kind="status", status=status)]
        with pytest.raises(kind):
            read(source)
    site.faults = []
    assert read(source).layout.width == 10980


def test_a_file_replaced_within_its_header_is_refused(site, tmp_path, lay_file):
    source = source_of(site, lay_file(tmp_path, PIXELS, blockxsize=64, blockysize=64))
    site.faults = [Fault(match=r"\.tif$", kind="etag", min_start=1, headers=LATER)]
    with pytest.raises(FileChangedError, match="replaced while it was read"):
        read(source)
    site.faults = []
    assert read(source).layout.width == 10980


def test_a_header_on_disk_is_read_alike(tmp_path, lay_file):
    path = lay_file(tmp_path, PIXELS)
    place = os.fspath(path.as_posix())
    source = Source(
        url=place, item="", band="B4", month="2021-03", tile=tile_named("32UPC"), resolution_m=10,
        dtype="int16",
    )  # fmt: skip
    assert read(source).layout.width == 10980
