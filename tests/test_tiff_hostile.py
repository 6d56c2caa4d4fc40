"""Files that lie: refused by name before anything is allocated, or read right."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import struct
import tracemalloc
from dataclasses import replace

import geopandas as gpd
import imagecodecs
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from s2l3a_xr import open_l3a
from s2l3a_xr._errors import FormatError
from s2l3a_xr._plan import Target, merge_ranges
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._sample import CogSpec, SampleServer, write_cog
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import (
    Layout,
    MissingBytesError,
    SparseBytes,
    decode_block,
    parse_header,
    parse_overviews,
)
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Transport, run_with_session
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import corpus

URL = "https://example.org/a.tif"
KINDS = {2: "s", 3: "H", 4: "I", 12: "d", 16: "Q"}
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
TAGS = {
    256: (3, 32), 257: (3, 32), 258: (3, 16), 259: (3, 1), 277: (3, 1), 322: (3, 16), 323: (3, 16),
    324: (4, 1024, 1536, 2048, 2560), 325: (4, 512, 512, 512, 512), 339: (3, 2),
    33550: (12, 10.0, 10.0, 0.0), 33922: (12, 0.0, 0.0, 0.0, 600000.0, 5800020.0, 0.0),
    34735: (3, *KEYS), 42113: (2, b"-10000"),
}  # fmt: skip
PIXELS = np.arange(1024, dtype="<i2").reshape(32, 32)


def lay(changes=None, *, order="<", big=False, more=b"", twice=None):
    """Lay a TIFF of 32 x 32 pixels in four raw tiles, with other tags where asked."""
    tags = {**TAGS, **(changes or {})}
    entries = [(code, *value) for code, value in sorted(tags.items()) if value is not None]
    entries += [(twice, *tags[twice])] if twice else []
    width, letter = (8, "Q") if big else (4, "I")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    behind = len(head) + len(count) + len(entries) * (4 + 2 * width) + width
    table, values = b"", b""
    for code, kind, *numbers in entries:
        if kind == 2 and len(numbers) == 1:
            data, number = numbers[0] + b"\0", len(numbers[0]) + 1
        elif isinstance(numbers[0], bytes):  # as it stands, with any number and type
            data, number = numbers[0], numbers[1]
        else:
            data = struct.pack(f"{order}{len(numbers)}{KINDS[kind]}", *numbers)
            number = len(numbers)
        table += struct.pack(f"{order}HH{letter}", code, kind, number)
        if len(data) <= width:
            table += data.ljust(width, b"\0")
        else:
            table += struct.pack(f"{order}{letter}", behind + len(values))
            values += data
    content = head + count + table + struct.pack(f"{order}{letter}", 0) + values
    assert len(content) <= 1024
    tiles = [PIXELS[a : a + 16, b : b + 16] for a, b in itertools.product((0, 16), repeat=2)]
    blocks = b"".join(tile.astype(f"{order}i2").tobytes() for tile in tiles)
    return content.ljust(1024, b"\0") + blocks + more


def parse(content, total=None, **options):
    file = SparseBytes(total or len(content))
    file.add(0, content)
    return parse_header(file, URL, **options)


def refused(content, total=None, **options):
    with pytest.raises(FormatError) as caught:
        parse(content, total, **options)
    assert caught.value.url == URL
    return str(caught.value)


@contextlib.contextmanager
def little_memory(most):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def pixels_of(content):
    layout = parse(content)
    rows = [
        [
            decode_block(layout, content[slice(*layout.span((row, column)))], (row, column))
            for column in range(layout.counts.shape[1])
        ]
        for row in range(layout.counts.shape[0])
    ]
    return np.block(rows)[: layout.height, : layout.width]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_the_builder_lays_what_is_read(order, big):
    content = lay(order=order, big=big)
    np.testing.assert_array_equal(pixels_of(content), PIXELS)
    layout = parse(content)
    assert (layout.origin, layout.pixel_size, layout.epsg) == ((600000, 5800020), (10, 10), 32632)
    assert (layout.nodata, layout.scaling) == (-10000, (1, 0))
    with MemoryFile(content) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read(1), PIXELS)
        assert (file.crs.to_epsg(), file.nodata) == (32632, -10000)


# row 50


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b'<VRTDataset rasterXSize="5"><SourceFilename>/etc/passwd', "VRTDataset"),
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]>", "DOCTYPE"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
        (b"<!DOCTYPE html><title>\x1b[31mLogin", r"\x1b[31mLogin"),
        (b"", "b''"),
    ],
)
def test_what_is_no_tiff_is_shown_and_never_interpreted(content, shown):
    text = refused(content)
    assert "this is no TIFF file: it begins" in text
    assert shown in text
    assert text.isprintable()


# rows 51 to 53


@pytest.mark.parametrize("length", [5, 9, 60, 170, 300])
def test_a_header_cut_short_is_refused_without_reading_on(length):
    assert "points at bytes" in refused(lay()[:length])


def test_directories_in_a_circle_or_without_end_are_refused():
    content = bytearray(lay())
    after = 10 + 12 * len(TAGS)
    content[after : after + 4] = struct.pack("<I", 8)
    full = parse(bytes(content))  # the first is read before its follower is looked at
    file = SparseBytes(len(content))
    file.add(0, bytes(content))
    with pytest.raises(FormatError, match="directory 2 at byte 8 can't be right"):
        parse_overviews(file, URL, full)
    chain = b"".join(
        struct.pack("<HHHIII", 1, 254, 4, 1, 0, 8 + 18 * (i + 1)) for i in range(100_000)
    )
    endless = b"II*\0\x08\0\0\0" + chain
    file = SparseBytes(len(endless))
    file.add(0, endless)
    with pytest.raises(FormatError, match="directory 65 at byte"):
        parse_overviews(file, URL, full)


@pytest.mark.parametrize("code", [256, 258, 324, 325, 33550, 34735, 42112, 42113])
@pytest.mark.parametrize("number", [0, 2**31, 2**32 - 1])
def test_a_tag_of_absurd_length_is_refused_without_allocating(code, number):
    content = lay({code: (TAGS.get(code, (2,))[0], b"\0\0\0\0", number)})
    with little_memory(1e6):
        assert "TIFF" in refused(content)


def test_tags_are_held_to_their_types():
    for code in TAGS:
        for kind in (5, 7, 11, 0, 19, 99):
            assert f"tag {code} (" in refused(lay({code: (kind, b"\0\0\0\0", 1)})), (code, kind)


@pytest.mark.parametrize("code", TAGS)
def test_a_tag_that_is_there_twice_is_refused(code):
    assert f"tag {code} (" in refused(lay(twice=code))


@pytest.mark.parametrize("code", [256, 257, 322, 323, 324, 325])
def test_a_tag_that_is_missing_is_named(code):
    assert f"tag {code} (" in refused(lay({code: None}))


# rows 54 to 58, 62


def test_images_and_tables_of_absurd_size_are_refused_before_a_table_is_built():
    table = {324: (4, b"\0\0\4\0", 2**28), 325: (4, b"\0\0\4\0", 2**28)}
    vast = lay({256: (4, 2**31), 257: (4, 2**31), 322: (4, 2**17), 323: (4, 2**17), **table})
    strips = {322: None, 323: None, 324: None, 325: None, 257: (4, 10**9), 278: (3, 1)}
    many = {273: (4, b"\0\0\4\0", 10**9), 279: (4, b"\0\0\4\0", 10**9)}
    with little_memory(2e6):
        assert "Transport(max_block_bytes" in refused(vast)
        text = refused(lay({**strips, **many}), total=2**40)
    assert "longer than 8388608 bytes" in text
    assert "max_header_bytes" in text


def test_the_image_is_checked_before_its_table_is_read():
    def check(image):
        assert not isinstance(image, Layout)
        raise FormatError(f"not {image.width}")

    content = lay({324: (4, b"\xff\xff\xff\x7f", 4)})
    assert "not 32" in refused(content, check=check)


@pytest.mark.parametrize(
    ("offset", "count", "is_right"),
    [
        (0, 0, True), (1024, 512, True), (0, 512, False), (1024, 0, False), (2**32 - 1, 1, False),
        (3071, 2, False), (3072, 1, False), (1024, 2 * 512 + 65536 + 1, False),
    ],
)  # fmt: skip
def test_each_entry_of_the_block_table_is_checked(offset, count, is_right):
    changes = {324: (4, 1024, 1536, 2048, offset), 325: (4, 512, 512, 512, count)}
    content = lay(changes)
    if is_right:
        assert parse(content).counts[1, 1] == count
    else:
        assert "block table can't be right" in refused(content)
        assert "block (1, 1)" in refused(content)


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_places_beyond_what_a_number_holds_are_refused(offset):
    content = lay({324: (16, 1024, 1536, 2048, offset)}, big=True)
    assert "block table can't be right" in refused(content)


# rows 59, 60, 62


def packed_layout(codec, **changes):
    one = np.ones((1, 1), np.int64)
    fields = {
        "width": 64, "height": 64, "block_width": 32, "block_height": 32,
        "dtype": np.dtype("int16"), "compression": codec, "predictor": 1, "offsets": one,
        "counts": one, **changes,
    }  # fmt: skip
    return Layout(**fields)


CODECS = {
    5: imagecodecs.lzw_encode, 8: imagecodecs.deflate_encode, 50000: imagecodecs.zstd_encode,
    1: bytes,
}  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 2046, 2047, 2049, 2050, 4096, 2**20])
def test_a_block_of_another_length_is_refused(codec, size):
    with pytest.raises(FormatError, match="block") as caught:
        decode_block(packed_layout(codec), bytes(CODECS[codec](bytes(size))), (1, 0))
    assert caught.value.block == (1, 0)


@pytest.mark.parametrize("codec", [8, 50000, 1])
def test_what_stands_behind_a_block_is_no_part_of_it(codec):
    data = bytes(CODECS[codec](PIXELS.tobytes()))
    np.testing.assert_array_equal(decode_block(packed_layout(codec), data, (0, 0)), PIXELS)
    with pytest.raises(FormatError, match="block"):
        decode_block(packed_layout(codec), data + b"rest", (0, 0))


@pytest.mark.parametrize("checksum", [8])
def test_no_flipped_bit_passes_a_checksum(checksum):
    data = bytes(CODECS[checksum](PIXELS.tobytes(), level=1))
    for at in range(0, 8 * len(data), 7):
        spoilt = bytearray(data)
        spoilt[at // 8] ^= 1 << at % 8
        try:
            pixels = decode_block(packed_layout(checksum), spoilt, (0, 0))
        except FormatError:
            continue
        np.testing.assert_array_equal(pixels, PIXELS)  # such as the level in zlib's head


@pytest.mark.parametrize("codec", [5, 8, 50000])
def test_a_bomb_fills_no_more_than_a_block(codec):
    bomb = bytes(CODECS[codec](bytes(2**26)))
    with little_memory(1e6), pytest.raises(FormatError, match="block"):
        decode_block(packed_layout(codec), bomb, (0, 0))


# row 61


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        (258, 12, "12 bits (tag 258 (BitsPerSample)"), (258, 1, "1 bits"),
        (259, 7, "compression 7 (JPEG; tag 259"), (259, 32773, "compression 32773 (unknown"),
        (266, 2, "tag 266 (FillOrder) is 2"), (274, 3, "tag 274 (Orientation) is 3"),
        (277, 3, "3 samples a pixel"), (284, 3, "tag 284 (PlanarConfiguration) is 3"),
        (317, 99, "predictor 99 (tag 317"), (317, 2, "predictor 2 (tag 317"),
        (338, 1, "tag 338 (ExtraSamples) is [1]"), (339, 4, "sample format 4 (tag 339"),
        (339, 6, "sample format 6"), (278, 4, "both tiles and strips"),
        (322, 0, "blocks of 0 x 16"), (256, 0, "0 x 32 pixels"),
    ],
)  # fmt: skip
def test_an_image_of_another_make_is_refused_by_tag_and_value(code, value, text):
    assert text in refused(lay({code: (3, value)}))


def test_a_predictor_of_floats_is_refused_of_whole_numbers():
    assert "predictor 3 (tag 317 (Predictor)) does not go" in refused(
        lay({259: (3, 8), 317: (3, 3)})
    )


def test_planes_of_one_sample_are_the_image():
    np.testing.assert_array_equal(pixels_of(lay({284: (3, 2)})), PIXELS)


def test_blocks_longer_than_allowed_are_refused():
    assert "Transport(max_block_bytes=511)" in refused(lay(), block_cap=511)
    assert parse(lay(), block_cap=512).raw_block_bytes == 512


# rows 63 to 66


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"-10000", -10000), (b"-1e4", -10000), (b"-10000.0", -10000), (b" -10000 ", -10000),
        (b"-10000\0rest", -10000), (b"nan", math.nan), (b"-inf", -math.inf), (b".5", 0.5),
    ],
)  # fmt: skip
def test_nodata_in_every_form(text, value):
    np.testing.assert_equal(parse(lay({42113: (2, text)})).nodata, value)


@pytest.mark.parametrize("text", [b"", b"none", b"-1_0", b"0x10", b"1,5", b"\xd9\xa3", b"1 2"])
def test_nodata_that_is_no_number_is_refused(text):
    assert "tag 42113 (GDAL_NODATA)) is no number" in refused(lay({42113: (2, text)}))


def item(role, value):
    return f'<Item name="{role.upper()}" sample="0" role="{role}">{value}</Item>'


def test_scale_and_offset_are_found():
    text = f"<GDALMetadata>\n{item('offset', 3)}\n{item('scale', '1e-4')}\n</GDALMetadata>"
    assert parse(lay({42112: (2, text.encode())})).scaling == (1e-4, 3)
    text = '<GDALMetadata><Item name="scale">5</Item></GDALMetadata>'
    assert parse(lay({42112: (2, text.encode())})).scaling == (1, 0)
    assert "is no number" in refused(lay({42112: (2, item("scale", "x").encode())}))


def test_metadata_is_not_parsed_as_xml():
    bomb = b'<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Item role="x">&b;</Item>'
    assert parse(lay({42112: (2, bomb)})).scaling == (1, 0)
    long = b"<Item role=" * 40_000
    content = lay() + long
    at = content.index(struct.pack("<HHI", 42113, 2, 7))
    spoilt = bytearray(content)
    spoilt[at : at + 12] = struct.pack("<HHII", 42112, 2, len(long), len(content) - len(long))
    assert parse(bytes(spoilt)).scaling == (1, 0)


def turned(*values):
    return {33550: None, 33922: None, 34264: (12, *map(float, values))}


def test_a_transformation_in_the_place_of_scale_and_tie_point():
    straight = (10, 0, 0, 600000, 0, -10, 0, 5800020, 0, 0, 0, 0, 0, 0, 0, 1)
    layout = parse(lay(turned(*straight)))
    assert (layout.origin, layout.pixel_size) == ((600000, 5800020), (10, 10))
    rotated = (10, 1, 0, 600000, -1, -10, 0, 5800020, 0, 0, 0, 0, 0, 0, 0, 1)
    assert "rotated (tag 34264 (ModelTransformation) is (10.0, 1.0" in refused(
        lay(turned(*rotated))
    )
    assert "tag 34264" in refused(lay({34264: (12, *map(float, straight))}))


def test_a_tie_point_in_the_middle_of_a_pixel():
    keys = [*KEYS]
    keys[11] = 2
    middle = {34735: (3, *keys), 33922: (12, 0.0, 0.0, 0.0, 600005.0, 5800015.0, 0.0)}
    assert parse(lay(middle)).origin == (600000, 5800020)
    assert parse(lay({34735: (3, *keys)})).origin == (599995, 5800025)
    keys[11] = 7
    assert "raster type (GeoTIFF key 1025) is 7" in refused(lay({34735: (3, *keys)}))


@pytest.mark.parametrize(
    "keys",
    [
        (1,),
        (1, 1, 0, 9),
        (2, 1, 0, 0),
        (1, 1, 0, 65535),
        (1, 1, 0, 2, 3072, 0, 1, 1, 3072, 0, 1, 2),
    ],
)
def test_broken_geokeys_are_refused(keys):
    assert "GeoTIFF key" in (text := refused(lay({34735: (3, *keys)}))) or "tag 34735" in text


# what a tile must have


def lie(tmp_path, lay_file, **options):
    return lay_file(tmp_path, np.full((300, 300), 5, "int16"), **options)


def read(url, overviews=False, dtype="int16", band="B4", **settings):
    source = Source(
        url=url, item="SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2", band=band,
        month="2021-03", tile=tile_named("32UPC"), resolution_m=10, dtype=dtype,
    )  # fmt: skip
    return run_with_session(
        Transport(**settings), lambda session: read_header(session, source, overviews=overviews)
    )


def with_scale(path):
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001,), (0,)


def as_point(path):
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    content = bytearray(path.read_bytes())  # GDAL has moved the tie point with it: move it back
    at = content.index(struct.pack("<dd", 600005, 5800015))
    content[at : at + 16] = struct.pack("<dd", 600000, 5800020)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("options", "change", "text"),
    [
        ({}, with_scale, r"scale and offset is \(0.0001, 0.0\), tile 32UPC must have \(1.0, 0.0\)"),
        ({}, as_point, r"corner is \(599995.0, 5800025.0\), tile 32UPC must have \(600000.0"),
        ({"nodata": -9999}, None, "nodata is -9999, the product's is -10000"),
        (
            {"transform": rasterio.Affine(10, 1, 600000, 1, -10, 5800020)},
            None,
            r"rotated \(tag 34264",
        ),
    ],
)
def test_a_file_that_contradicts_its_tile_is_refused_with_both_values(
    tmp_path, lay_file, options, change, text
):
    path = lie(tmp_path, lay_file, **options)
    if change is not None:
        change(path)
    with pytest.raises(FormatError, match=text) as caught:
        read(str(path))
    assert (caught.value.url, caught.value.band, caught.value.tile) == (str(path), "B4", "32UPC")


def test_nodata_of_a_mask_may_be_no_class(tmp_path, lay_file):
    flags = np.ones((9, 9), "uint8")
    for nodata in (None, 0, 255):
        path = lay_file(tmp_path, flags, band="FLG", nodata=nodata)
        assert read(str(path), dtype="uint8", band="FLG").layout.nodata == nodata
    path = lay_file(tmp_path, flags, band="FLG", nodata=4)
    with pytest.raises(FormatError, match="nodata is 4, which is a class of FLG"):
        read(str(path), dtype="uint8", band="FLG")


def test_limits_of_transport_reach_the_parser(tmp_path, lay_file):
    path = lie(tmp_path, lay_file, blockxsize=64, blockysize=64)
    with pytest.raises(FormatError, match="longer than 50000 bytes"):
        read(str(path), max_header_bytes=50_000)
    with pytest.raises(FormatError, match="max_block_bytes=8191"):
        read(str(path), max_block_bytes=64 * 64 * 2 - 1)
    assert read(str(path), max_block_bytes=64 * 64 * 2).layout.counts.shape == (172, 172)


def test_overviews_added_afterwards_take_few_reads(tmp_path, lay_file):
    path = lie(tmp_path, lay_file, blockxsize=128, blockysize=128)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8, 16])
    with SampleServer(tmp_path) as site:
        url = f"{site.origin}/{path.relative_to(tmp_path).as_posix()}"
        header = read(url, overviews=True)
        assert [image.width for image in header.overviews] == [5490, 2745, 1373, 687]
        assert len(site.log) <= 8
        sizes = [stop - start for r in site.log for start, stop in r.ranges[:1]]
    assert sum(sizes) < 2**20


def test_an_overview_must_be_a_reduction_of_the_image():
    pixels = np.arange(6400, dtype="int16").reshape(80, 80)
    spec = CogSpec(
        width=80, height=80, epsg=32632, left=0, top=0, resolution_m=10, block_size=16,
        overviews=(2, 4),
    )  # fmt: skip
    stream = io.BytesIO()
    write_cog(stream, pixels, spec)
    content = stream.getvalue()

    def reduced(data):
        file = SparseBytes(len(data))
        file.add(0, data)
        return parse_overviews(file, URL, parse_header(file, URL))

    assert [image.width for image in reduced(content)] == [40, 20]
    for code, old, new, text in ((257, 40, 48, "40 x 48"), (256, 20, 32, "32 x 20")):
        before, after = (struct.pack("<HHIHH", code, 3, 1, side, 0) for side in (old, new))
        with pytest.raises(FormatError, match=f"overview of {text} pixels is not a further"):
            reduced(content.replace(before, after))


# GDAL's leaders and trailers


def cog(order="LITTLE", **options):
    pixels = np.random.default_rng(3).integers(0, 3000, (300, 300)).astype("int16")
    profile = {
        "driver": "GTiff", "width": 300, "height": 300, "count": 1, "dtype": "int16",
        "crs": "EPSG:32632", "transform": from_origin(600000, 5800020, 10, 10), "tiled": True,
        "blockxsize": 64, "blockysize": 64,
    }  # fmt: skip
    with MemoryFile() as memory, MemoryFile() as target:
        with memory.open(**profile) as file:
            file.write(pixels, 1)
            file.build_overviews([2])
            rasterio.shutil.copy(
                file, target.name, driver="GTiff", copy_src_overviews=True, tiled=True,
                blockxsize=64, blockysize=64, ENDIANNESS=order, **options,
            )  # fmt: skip
        return pixels, target.read()


def target_of(row, column):
    nowhere = (slice(0), slice(0))
    return Target(
        block=(row, column), output=nowhere, source=nowhere, is_whole=True, is_shared=False
    )


@pytest.mark.parametrize("compress", ["NONE", "LZW", "DEFLATE"])
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
def test_blocks_of_gdal_are_held_against_their_leaders_and_trailers(compress, order, bigtiff):
    pixels, content = cog(order, compress=compress, BIGTIFF=bigtiff)
    layout = parse(content)
    assert (layout.leader, layout.trailer) == (4, 4)
    np.testing.assert_array_equal(pixels_of(content), pixels)
    start, stop = layout.span((1, 2))
    for data in (
        content[start + 2 : stop + 2],
        content[start - 256 : stop - 256],
        bytes(stop - start),
        content[start : stop - 4] + bytes(4),
    ):
        with pytest.raises(FormatError, match="the block is not") as caught:
            decode_block(layout, data, (1, 2))
        assert caught.value.block == (1, 2)


def test_a_cog_edited_afterwards_is_not_held_against_what_no_longer_holds():
    _, content = cog()
    edited = content.replace(
        b"KNOWN_INCOMPATIBLE_EDITION=NO\n ", b"KNOWN_INCOMPATIBLE_EDITION=YES\n"
    )
    assert edited != content
    layout = parse(edited)
    assert (layout.leader, layout.trailer) == (0, 0)
    broken = content.replace(b"METADATA_SIZE=000", b"METADATA_SIZE=x00")
    assert "structural metadata begins" in refused(broken)


def test_ranges_grow_at_their_ends_alone():
    _, content = cog(compress="DEFLATE")
    layout = parse(content)
    plain = Layout(
        **{
            **{name: getattr(layout, name) for name in Layout.__dataclass_fields__},
            "leader": 0, "trailer": 0,
        }
    )  # fmt: skip
    targets = [target_of(row, column) for row in range(5) for column in (0, 1, 3)]
    grown, bare = merge_ranges(targets, layout), merge_ranges(targets, plain)
    assert [(r.start + 4, r.stop - 4, r.targets) for r in grown] == [
        (r.start, r.stop, r.targets) for r in bare
    ]


def test_reading_on_never_asks_for_what_is_at_hand():
    content = lay()
    file = SparseBytes(len(content))
    asked = []
    for _ in range(200):
        try:
            parse_header(file, URL)
            break
        except MissingBytesError as gap:
            asked.append((gap.start, gap.stop))
            file.add(gap.start, content[gap.start : gap.stop])
        except FormatError:  # nothing is at hand yet
            file.add(0, content[:4])
    assert all(a[1] <= b[0] or b[1] <= a[0] for a, b in itertools.combinations(asked, 2))


def test_a_file_with_leaders_is_read_planned_and_mirrored_to_the_byte(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 3000, (600, 600)).astype("int16")
    layer, product = BANDS["B5"], Product(tile="32UPC", year=2021, month=3)
    spec = CogSpec(
        width=5490, height=5490, epsg=32632, left=600000, top=5800020, resolution_m=20,
        nodata=-10000, overviews=(), compression="lzw",
    )  # fmt: skip
    area = gpd.GeoSeries([shapely.box(603000, 5793000, 609000, 5798000)], crs="EPSG:32632")
    requests, told = [], []
    for ghost in (False, True):
        root = tmp_path / f"{ghost}"
        path = root / "S2_L3A_WASP" / "files" / product.file(layer, 20)
        path.parent.mkdir(parents=True)
        write_cog(path, pixels, replace(spec, ghost=ghost))
        with SampleServer(root) as site:
            da = open_l3a(area, time="2021-03", bands="B5", archive=site.url)
            plan = da.l3a.plan()
            site.clear_log()
            np.testing.assert_array_equal(da.values[0, 0], pixels[101:351, 150:450])
            asked = [part for r in site.log for part in r.ranges]
            assert sum(stop - start for start, stop in asked) == plan["bytes"].sum()
            requests.append(len(site.log))
            told.append(plan)
    assert requests[0] == requests[1]
    assert told[0]["blocks"].tolist() == told[1]["blocks"].tolist()
    data = bytearray(path.read_bytes())
    layout = parse(bytes(data))
    start, _ = layout.span((1, 1))
    data[start : start + 4] = struct.pack("<I", 5)
    path.write_bytes(data)
    with SampleServer(root) as site, pytest.raises(FormatError, match="not in its place") as caught:
        open_l3a(area, time="2021-03", bands="B5", archive=site.url).load()
    error = caught.value
    assert (error.block, error.band, error.month) == ((1, 1), "B5", "2021-03")
    assert error.url.endswith(path.name)
    assert error.byte_range == layout.span((1, 1))


@pytest.mark.parametrize("name", corpus("header"))
@pytest.mark.filterwarnings("ignore")
def test_gdal_reads_the_same_pixels_of_what_is_not_refused(name):
    content = corpus("header")[name]
    layout = parse(content)
    end = int(layout.offsets[layout.counts > 0].min())
    random = np.random.default_rng(2)
    compared = 0
    for _ in range(150):
        head = mutate(content[:end], lambda most: int(random.integers(max(1, most))))
        mutant = head + content[end:]
        try:
            layout = parse(mutant, block_cap=2**20)
            if not layout.counts.all() or layout.counts.size > 100:
                continue
            mine = pixels_of(mutant)
        except FormatError:
            continue
        with MemoryFile(mutant) as memory, memory.open() as file:
            np.testing.assert_array_equal(file.read(1), mine)
        compared += 1
    assert compared > 5 or name == "sparse"
