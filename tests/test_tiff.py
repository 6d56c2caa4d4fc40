"""Every layout of a TIFF, read as rasterio reads it; broken ones refused by name."""

from __future__ import annotations

import io
import struct
import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.mask
import shapely
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from s2l3a_xr import open_l3a
from s2l3a_xr._errors import FormatError
from s2l3a_xr._sample import CogSpec, SampleServer, write_cog
from s2l3a_xr._tiff import (
    HEADER_BYTES,
    HEADER_CAP,
    MissingBytesError,
    SparseBytes,
    decode_block,
    parse_header,
)

SHAPE = (500, 600)
STRIPS = {"tiled": False, "blockxsize": None}


def write(pixels, **options):
    profile = {
        "driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": 1,
        "dtype": pixels.dtype, "crs": "EPSG:32632", "nodata": None,
        "transform": from_origin(600000, 5800020, 10, 10), **options,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**{k: v for k, v in profile.items() if v is not None}) as file:
            file.write(pixels, 1)
        return memory.read()


def layout_of(content, have=HEADER_BYTES):
    """Parse a header as the reader does; return it and the bytes that were needed."""
    file = SparseBytes(len(content))
    file.add(0, content[:have])
    for _ in range(100):
        try:
            layout = parse_header(file, "here.tif")
        except MissingBytesError as gap:
            file.add(gap.start, content[gap.start : max(gap.stop, gap.start + have)])
        else:
            return layout, file.held
    raise AssertionError("the header never ends")


def block_of(layout, content, index):
    return memoryview(content)[slice(*layout.span(index))]


def read_all(content, have=HEADER_BYTES, fill=0):
    layout, _ = layout_of(content, have)
    padded = np.full(
        (
            layout.offsets.shape[0] * layout.block_height,
            layout.offsets.shape[1] * layout.block_width,
        ),
        fill,
        layout.dtype.newbyteorder("="),
    )
    for row, column in np.ndindex(layout.offsets.shape):
        if layout.counts[row, column]:
            block = decode_block(layout, block_of(layout, content, (row, column)), (row, column))
            top, left = row * layout.block_height, column * layout.block_width
            padded[top : top + block.shape[0], left : left + block.shape[1]] = block
    return padded[: layout.height, : layout.width]


def some_pixels(dtype, shape=SHAPE):
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1e4, shape).astype(dtype)
    info = np.iinfo(dtype)
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 37
    return (smooth + rng.integers(info.min, info.max, shape) // 4).astype(dtype)


BLOCKS = {
    "tiles 256": {"tiled": True, "blockxsize": 256, "blockysize": 256},
    "tiles 512": {"tiled": True, "blockxsize": 512, "blockysize": 512},
    "tiles 64 x 128": {"tiled": True, "blockxsize": 64, "blockysize": 128},
    "one tile": {"tiled": True, "blockxsize": 608, "blockysize": 512},
    "strips of 1": {**STRIPS, "blockysize": 1},
    "strips of 7": {**STRIPS, "blockysize": 7},
    "one strip": {**STRIPS, "blockysize": 500},
}
ORDERS = {
    "little": {}, "big": {"ENDIANNESS": "BIG"}, "bigtiff": {"BIGTIFF": "YES"},
    "big bigtiff": {"ENDIANNESS": "BIG", "BIGTIFF": "YES"},
}  # fmt: skip
PACKED = [
    (codec, predictor, dtype)
    for codec in ("NONE", "DEFLATE", "LZW", "ZSTD")
    for predictor, dtypes in {
        1: ("int16", "uint8", "float32"), 2: ("int16", "uint8", "uint16", "int32"),
        3: ("float32", "float64"),
    }.items()
    for dtype in dtypes
    if predictor == 1 or codec != "NONE"
]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("codec", "predictor", "dtype"), PACKED)
def test_codecs_and_predictors(codec, predictor, dtype, order):
    pixels = some_pixels(dtype)
    for blocks in (BLOCKS["tiles 256"], BLOCKS["strips of 7"]):
        options = {"compress": codec, **order, **blocks}
        if predictor > 1:
            options["predictor"] = predictor
        np.testing.assert_array_equal(read_all(write(pixels, **options)), pixels)


@pytest.mark.parametrize("codec", ["NONE", "DEFLATE"])
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_blocks_of_any_shape(blocks, codec):
    pixels = some_pixels("int16")
    np.testing.assert_array_equal(read_all(write(pixels, compress=codec, **blocks)), pixels)


def test_the_last_tile_as_wide_as_the_image_is_padded():
    pixels = some_pixels("int16", (500, 256))
    content = write(pixels, compress="DEFLATE", **BLOCKS["tiles 256"])
    np.testing.assert_array_equal(read_all(content), pixels)


@pytest.mark.parametrize("have", [4, 8, 10, 50, 200, 1000])
def test_a_header_is_asked_for_where_it_goes_on(have):
    pixels = some_pixels("int16")
    content = write(pixels, nodata=-10000, **BLOCKS["tiles 64 x 128"])
    np.testing.assert_array_equal(read_all(content, have), pixels)


def test_a_header_longer_than_the_first_read():
    pixels = some_pixels("int16", (6000, 32))
    content = write(pixels, compress="DEFLATE", BIGTIFF="YES", **BLOCKS["strips of 1"])
    _, held = layout_of(content)
    assert held > HEADER_BYTES
    np.testing.assert_array_equal(read_all(content), pixels)


def test_an_ifd_at_the_end(tmp_path):
    pixels = some_pixels("int16")
    path = tmp_path / "a.tif"
    path.write_bytes(write(pixels, compress="DEFLATE", **BLOCKS["tiles 64 x 128"]))
    with rasterio.open(path, "r+") as file:  # GDAL writes the grown directory behind the data
        file.update_tags(note="x" * 5000)
    content = path.read_bytes()
    assert struct.unpack("<I", content[4:8])[0] > HEADER_BYTES
    np.testing.assert_array_equal(read_all(content), pixels)


def test_what_the_header_says():
    content = write(
        some_pixels("int16"), nodata=-10000, compress="LZW", predictor=2, **BLOCKS["tiles 256"]
    )
    layout, _ = layout_of(content)
    assert (layout.width, layout.height) == (600, 500)
    assert (layout.block_width, layout.block_height) == (256, 256)
    assert (layout.dtype, layout.compression, layout.predictor) == (np.dtype("int16"), 5, 2)
    assert (layout.nodata, layout.origin, layout.pixel_size) == (
        -10000,
        (600000, 5800020),
        (10, 10),
    )
    assert layout.epsg == 32632
    assert layout.offsets.shape == layout.counts.shape == (2, 3)


def test_overviews_are_not_mistaken_for_the_image():
    pixels = some_pixels("int16")
    stream = io.BytesIO()
    spec = CogSpec(
        width=600, height=500, epsg=32632, left=0, top=0, resolution_m=10, nodata=-10000, ghost=True
    )
    write_cog(stream, pixels, spec)
    np.testing.assert_array_equal(read_all(stream.getvalue()), pixels)


@pytest.mark.parametrize(
    ("codec", "name"), [("JPEG", "JPEG"), ("LZMA", "LZMA"), ("LERC", "LERC"), ("PACKBITS", "32773")]
)
def test_an_unknown_codec_is_named(codec, name):
    content = write(some_pixels("uint8"), compress=codec, **BLOCKS["tiles 256"])
    with pytest.raises(FormatError, match=name) as caught:
        layout_of(content)
    assert caught.value.url == "here.tif"


def test_more_bands_than_one_are_refused():
    with MemoryFile() as memory:
        transform = from_origin(0, 90, 10, 10)
        with memory.open(
            driver="GTiff", width=9, height=9, count=2, dtype="int16", transform=transform
        ) as file:
            file.write(np.ones((2, 9, 9), "int16"))
        with pytest.raises(FormatError, match=r"samples a pixel|block offsets"):
            layout_of(memory.read())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"I",
        b"<!DOCTYPE html>\n<html>Please log in</html>",
        b'<VRTDataset rasterXSize="512" rasterYSize="512">',
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"II*\0",
        b"II*\0" + bytes(60),
        b"II*\0\x08\0\0\0\xff\xff" + bytes(60),
        b"II+\0\x08\0\0\0" + bytes(60),
    ],
)
def test_what_is_no_tiff_is_refused(content):
    with pytest.raises(FormatError, match="TIFF") as caught:
        layout_of(content)
    assert caught.value.url == "here.tif"


def test_a_page_in_place_of_a_file_is_shown():
    with pytest.raises(FormatError, match="begins b'<!DO"):
        layout_of(b"<!DOCTYPE html>")


def entry_at(content, tag):
    ifd = struct.unpack("<I", content[4:8])[0]
    for i in range(struct.unpack("<H", content[ifd : ifd + 2])[0]):
        at = ifd + 2 + 12 * i
        if struct.unpack("<H", content[at : at + 2])[0] == tag:
            return at
    raise LookupError(tag)


def with_value(content, tag, value, index=0):
    """Overwrite one number of a tag's long array."""
    at = entry_at(content, tag)
    count, where = struct.unpack("<II", content[at + 4 : at + 12])
    where = at + 8 if count == 1 else where
    spoilt = bytearray(content)
    spoilt[where + 4 * index : where + 4 * index + 4] = struct.pack("<I", value)
    return bytes(spoilt)


@pytest.mark.parametrize(
    ("tag", "value"),
    [(324, 0), (324, 2**31), (324, 2**32 - 1), (325, 0), (325, 2**31), (325, 330_000)],
)
def test_a_wrong_block_table_is_refused_before_any_block_is_read(tag, value):
    content = write(some_pixels("int16"), **BLOCKS["tiles 256"]) + bytes(10**6)
    with pytest.raises(FormatError, match="block table can't be right") as caught:
        layout_of(with_value(content, tag, value, index=4))
    assert caught.value.block == (1, 1)


def test_a_table_of_another_length_is_refused():
    content = bytearray(write(some_pixels("int16"), **BLOCKS["tiles 256"]))
    at = entry_at(content, 324)
    content[at + 4 : at + 8] = struct.pack("<I", 5)
    with pytest.raises(FormatError, match="5 block offsets"):
        layout_of(bytes(content))


@pytest.mark.parametrize(("tag", "value"), [(317, 99), (322, 0), (256, 0), (277, 3)])
def test_a_header_that_makes_no_sense_is_refused(tag, value):
    content = bytearray(write(some_pixels("int16"), compress="LZW", predictor=2, tiled=True))
    at = entry_at(content, tag)
    content[at + 8 : at + 10] = struct.pack("<H", value)
    with pytest.raises(FormatError):
        layout_of(bytes(content))


@pytest.mark.parametrize("codec", ["NONE", "DEFLATE", "LZW", "ZSTD"])
@pytest.mark.parametrize("damage", ["short", "empty", "noise"])
def test_a_broken_block_is_refused_by_its_place(codec, damage):
    content = write(some_pixels("int16"), compress=codec, **BLOCKS["tiles 256"])
    layout, _ = layout_of(content)
    start, count = layout.offsets[1, 2], layout.counts[1, 2]
    data = content[start : start + count]
    broken = {"short": data[: count // 2], "empty": b"", "noise": b"\x07\xff" * 9}[damage]
    with pytest.raises(FormatError, match="the block") as caught:
        decode_block(layout, broken, (1, 2))
    assert caught.value.block == (1, 2)


def test_a_block_that_unpacks_to_more_than_it_may_is_refused():
    small = write(some_pixels("int16"), compress="DEFLATE", **BLOCKS["tiles 256"])
    large = write(np.zeros((2048, 2048), "int16"), compress="DEFLATE", tiled=True,
                  blockxsize=2048, blockysize=2048)  # fmt: skip
    layout, _ = layout_of(large)
    start, count = layout.offsets[0, 0], layout.counts[0, 0]
    with pytest.raises(FormatError, match="unpack"):
        decode_block(layout_of(small)[0], large[start : start + count], (0, 0))


def test_no_mutant_of_a_header_escapes_the_typed_errors(caplog):
    content = write(some_pixels("int16", (60, 70)), compress="DEFLATE", nodata=-10000, tiled=True,
                    blockxsize=16, blockysize=16)  # fmt: skip
    rng = np.random.default_rng(3)
    with caplog.at_level("CRITICAL", logger="tifffile"):
        for _ in range(400):
            mutant = bytearray(content)
            for at in rng.integers(0, 600, rng.integers(1, 4)):
                mutant[at] = rng.integers(256)
            try:
                layout, held = layout_of(bytes(mutant))
                assert held < HEADER_CAP
                decode_block(layout, mutant[layout.offsets[0, 0] :][:500], (0, 0))
            except FormatError:
                continue


END_TO_END = {
    "tiles 256": {},
    "tiles 512": {"blockxsize": 512, "blockysize": 512},
    "tiles 64, header of 200 kB": {"blockxsize": 64, "blockysize": 64},
    "strips of 1, none": {"tiled": False, "blockxsize": None, "blockysize": 1, "compress": "NONE"},
    "strips of 16": {"tiled": False, "blockxsize": None, "blockysize": 16},
    "lzw, predictor 2": {"compress": "LZW", "predictor": 2},
    "zstd": {"compress": "ZSTD"},
    "none": {"compress": "NONE"},
    "predictor 2": {"predictor": 2},
    "bigtiff": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG", "predictor": 2},
    "big-endian bigtiff strips": {
        "ENDIANNESS": "BIG", "BIGTIFF": "YES", "tiled": False, "blockxsize": None, "blockysize": 8,
    },
    "ifd at the end": {},
    "made by the sample's writer": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def edge_pixels():
    pixels = np.random.default_rng(8).integers(0, 3000, (700, 600)).astype("int16")
    pixels[100:140, 50:90] = -10000
    return pixels


@pytest.mark.parametrize("name", END_TO_END)
def test_end_to_end_at_the_edge_of_a_tile(tmp_path, lay_file, edge_pixels, name):
    at = (10980 - 700, 10980 - 600)
    options = dict(END_TO_END[name])
    path = lay_file(tmp_path, edge_pixels, at=at, **options)
    if name == "ifd at the end":
        with rasterio.open(path, "r+") as file:
            file.update_tags(note="x" * 50_000)
    if name == "made by the sample's writer":
        spec = CogSpec(
            width=10980, height=10980, epsg=32632, left=600000, top=5800020, resolution_m=10,
            nodata=-10000, row_offset=at[0], col_offset=at[1],
        )  # fmt: skip
        write_cog(path, edge_pixels, spec)
    area = shapely.Polygon(
        [(703_000, 5_690_500), (706_003, 5_698_507), (709_790, 5_698_000), (709_795, 5_690_225)]
    )
    with rasterio.open(path) as file, warnings.catch_warnings():
        expected, transform = rasterio.mask.mask(file, [area], crop=True)
    with SampleServer(tmp_path) as server:
        da = open_l3a(
            gpd.GeoSeries([area], crs="EPSG:32632"), time="2021-03", bands="B4", archive=server.url
        )
        np.testing.assert_array_equal(da.values[0], expected)
        header = next(r for r in server.log if r.path.endswith(".tif"))
    assert da.rio.transform() == transform
    assert header.ranges[0] == (0, min(HEADER_BYTES, path.stat().st_size))
