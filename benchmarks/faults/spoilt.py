"""Files that are broken, hostile or not what their catalogue says: rows 50 to 66.

Each begins as a right file of 4 x 4 blocks, of which the window touches 3 x 3; what is wrong
with single blocks is wrong with the one in the middle.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _data
import numpy as np
import tifffile
from numpy.typing import NDArray
from rasterio.transform import from_origin

from faults import scene

_FIRST_BLOCK = scene.FIRST_BLOCK + scene.SHIFT_PX // scene.BLOCK
_SIDE_PX = 4 * scene.BLOCK
_ACROSS = -(-_data.SIDE // scene.BLOCK)
_MIDDLE = (_FIRST_BLOCK + 1) * (_ACROSS + 1)
"""Number of the block in the middle of the window."""
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PREDICTOR = 256, 257, 258, 259, 317
_TILE_WIDTH, _OFFSETS, _COUNTS, _FORMAT, _NODATA, _METADATA = 322, 324, 325, 339, 42113, 42112
_VRT = b"""<VRTDataset rasterXSize="10980" rasterYSize="10980"><SRS>EPSG:32632</SRS>
<GeoTransform>600000, 10, 0, 5800020, 0, -10</GeoTransform><VRTRasterBand dataType="Int16" band="1"
subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">/etc/passwd</SourceFilename>
<ImageOffset>0</ImageOffset><PixelOffset>0</PixelOffset><LineOffset>0</LineOffset>
</VRTRasterBand></VRTDataset>"""
_XML_BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaaaaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(8))
    + b"]><GDALMetadata>&i;</GDALMetadata>\0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoilt:
    """One kind of wrong file."""

    row: int
    """Of the catalogue of faults."""
    name: str
    make: Callable[[bytes, str], bytes]
    """Makes it of the right file's bytes and the name of its layout."""
    layouts: tuple[str, ...] = ("deflate", "lzw", "raw", "cog")
    unknowable: tuple[str, ...] = ()
    """Layouts in which nobody can tell (the rows marked with a dagger)."""
    sparse: bool = False
    """Whether the block in the middle is nodata, rightly."""


class Editor:
    """Change a classic little-endian TIFF in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            self.tags = {tag.code: tag for tag in page.tags.values()}
            self.offset, self.count = (
                page.dataoffsets[_MIDDLE],
                page.databytecounts[_MIDDLE],
            )
            self.neighbour = page.dataoffsets[_MIDDLE + 1], page.databytecounts[_MIDDLE + 1]
            self.ifd = page.offset

    def value(self, code: int, value: int, at: int = 0) -> Editor:
        """Set a number of a tag."""
        width = {1: 1, 3: 2, 4: 4}[self.tags[code].dtype]
        place = self.tags[code].valueoffset + at * width
        self.data[place : place + width] = value.to_bytes(width, "little")
        return self

    def block(self, offset: int, count: int, number: int = _MIDDLE) -> Editor:
        """Say where a block lies."""
        return self.value(_OFFSETS, offset, number).value(_COUNTS, count, number)

    def payload(self, packed: bytes) -> Editor:
        """Put other bytes in the middle block's place, behind the end of the file."""
        start = len(self.data)
        self.data += packed
        return self.block(start, len(packed))

    def entry(self, code: int, form: str, *values: int) -> Editor:
        """Overwrite a part of a tag's entry: 0 code, 2 type, 4 count, 8 value."""
        place = self.tags[code].offset + {"H": 2, "I": 4}[form]
        struct.pack_into(f"<{form}", self.data, place, *values)
        return self

    def entries(self, change: Callable[[list[bytes]], list[bytes]]) -> Editor:
        """Write the whole directory anew, at the end of the file."""
        (count,) = struct.unpack_from("<H", self.data, self.ifd)
        start = self.ifd + 2
        old = [bytes(self.data[start + 12 * n : start + 12 * n + 12]) for n in range(count)]
        new = change(old)
        struct.pack_into("<I", self.data, 4, len(self.data))
        self.data += struct.pack("<H", len(new)) + b"".join(new) + bytes(4)
        return self

    def done(self) -> bytes:
        """Return the file."""
        return bytes(self.data)


def _pack(raw: bytes, layout: str) -> bytes:
    """Pack bytes as a layout does, without its predictor."""
    if layout == "deflate":
        return zlib.compress(raw)
    if layout == "raw":
        return raw
    import imagecodecs  # noqa: PLC0415 - only for these

    return bytes(imagecodecs.lzw_encode(raw))


def _edit(change: Callable[[Editor], Editor]) -> Callable[[bytes, str], bytes]:
    return lambda data, _: change(Editor(data)).done()


def _fixed(content: bytes) -> Callable[[bytes, str], bytes]:
    return lambda *_: content


def _swap(e: Editor) -> Editor:
    return e.block(*e.neighbour).block(e.offset, e.count, _MIDDLE + 1)


def _scribble(e: Editor) -> Editor:
    middle = e.offset + e.count // 2
    e.data[middle : middle + 32] = b"\xa5" * 32
    return e


def _self_loop(e: Editor) -> Editor:
    (count,) = struct.unpack_from("<H", e.data, e.ifd)
    struct.pack_into("<I", e.data, e.ifd + 2 + 12 * count, e.ifd)
    return e


def _huge(e: Editor) -> Editor:
    def change(entries: list[bytes]) -> list[bytes]:
        sides = (_WIDTH, _LENGTH)
        return [
            struct.pack("<HHII", code, 4, 1, 2**31 - 1) if code in sides else entry
            for entry in entries
            for (code,) in [struct.unpack_from("<H", entry)]
        ]

    return e.entries(change)


def _with_metadata(e: Editor) -> Editor:
    place = len(e.data)
    e.data += _XML_BOMB
    entry = struct.pack("<HHII", _METADATA, 2, len(_XML_BOMB), place)
    return e.entries(
        lambda old: sorted([*old, entry], key=lambda x: struct.unpack_from("<H", x)[0])
    )


def _nodata(text: bytes) -> Callable[[Editor], Editor]:
    def change(e: Editor) -> Editor:
        place, count = e.tags[_NODATA].valueoffset, e.tags[_NODATA].count
        e.data[place : place + count] = text.ljust(count, b"\0")
        return e

    return change


_WHOLE_PX = 2 * scene.BLOCK * scene.BLOCK
FILES: tuple[Spoilt, ...] = (
    Spoilt(row=50, name="empty", make=_fixed(b""), layouts=("deflate",)),
    Spoilt(row=50, name="html", make=_fixed(b"<!DOCTYPE html><p>hi" * 99), layouts=("deflate",)),
    Spoilt(
        row=50, name="png", make=_fixed(b"\x89PNG\r\n\x1a\n" + bytes(999)), layouts=("deflate",)
    ),
    Spoilt(row=50, name="vrt", make=_fixed(_VRT), layouts=("deflate",)),
    Spoilt(row=51, name="cut_ifd", make=lambda d, _: d[:100]),
    Spoilt(row=51, name="cut_tables", make=lambda d, _: d[:12000]),
    Spoilt(row=52, name="ifd_loop", make=_edit(_self_loop)),
    Spoilt(
        row=52,
        name="ifd_past_end",
        make=lambda d, _: d[:4] + struct.pack("<I", len(d) + 999) + d[8:],
    ),
    Spoilt(row=53, name="huge_count", make=_edit(lambda e: e.entry(_OFFSETS, "I", 2**32 - 1))),
    Spoilt(row=53, name="wrong_type", make=_edit(lambda e: e.entry(_OFFSETS, "H", 12))),
    Spoilt(row=53, name="tag_twice", make=_edit(lambda e: e.entries(lambda old: [old[0], *old]))),
    Spoilt(
        row=53,
        name="tag_missing",
        make=_edit(
            lambda e: e.entries(
                lambda old: [x for x in old if x[:2] != struct.pack("<H", _TILE_WIDTH)]
            )
        ),
    ),
    Spoilt(row=54, name="past_end", make=_edit(lambda e: e.block(len(e.data) + 9999, e.count))),
    Spoilt(row=55, name="count_half", make=_edit(lambda e: e.block(e.offset, e.count // 2))),
    Spoilt(row=55, name="count_huge", make=_edit(lambda e: e.block(e.offset, 2**31 - 1))),
    Spoilt(row=56, name="sparse", make=_edit(lambda e: e.block(0, 0)), sparse=True),
    Spoilt(row=57, name="count_zero", make=_edit(lambda e: e.block(e.offset, 0))),
    Spoilt(row=57, name="offset_zero", make=_edit(lambda e: e.block(0, e.count))),
    Spoilt(
        row=58,
        name="swapped",
        make=_edit(_swap),
        unknowable=("deflate", "lzw", "raw", "cog"),
    ),
    Spoilt(row=59, name="scribbled", make=_edit(_scribble), unknowable=("lzw", "raw", "cog")),
    Spoilt(row=60, name="too_short", make=lambda d, x: _repacked(d, x, _WHOLE_PX // 2)),
    Spoilt(row=60, name="too_long", make=lambda d, x: _repacked(d, x, _WHOLE_PX * 2)),
    Spoilt(row=61, name="compression", make=_edit(lambda e: e.value(_COMPRESSION, 34999))),
    Spoilt(
        row=61,
        name="predictor",
        make=_edit(lambda e: e.value(_PREDICTOR, 99)),
        layouts=("deflate", "lzw", "cog"),
    ),
    Spoilt(row=61, name="sample_format", make=_edit(lambda e: e.value(_FORMAT, 5))),
    Spoilt(row=61, name="bits", make=_edit(lambda e: e.value(_BITS, 12))),
    Spoilt(
        row=62,
        name="bomb",
        make=lambda d, x: Editor(d).payload(_pack(bytes(2**28), x)).done(),
        layouts=("deflate",),
    ),
    Spoilt(row=62, name="huge_raster", make=_edit(_huge)),
    Spoilt(row=63, name="xml_bomb", make=_edit(_with_metadata)),
    Spoilt(row=64, name="nodata_nan", make=_edit(_nodata(b"nan"))),
    Spoilt(row=64, name="nodata_float", make=_edit(_nodata(b"-1e4"))),
    Spoilt(row=64, name="nodata_garbage", make=_edit(_nodata(b"\xff?x"))),
)


def _repacked(data: bytes, layout: str, length: int) -> bytes:
    raw = np.arange(length // 2, dtype="<i2").tobytes()
    return Editor(data).payload(_pack(raw, layout)).done()


def _as_float(pixels: NDArray[Any]) -> NDArray[Any]:
    return (pixels / 10000).astype("float32")


_LEFT, _TOP = _data.ORIGINS[scene.TILE]
WRITTEN: Mapping[str, tuple[int, Mapping[str, Any], Callable[[Any], Any]]] = {
    "big_endian": (64, {"ENDIANNESS": "BIG"}, np.asarray),
    "bigtiff": (64, {"BIGTIFF": "YES"}, np.asarray),
    "strips": (64, {"tiled": False, "blockxsize": None, "blockysize": 16}, np.asarray),
    "uint16": (65, {"nodata": 0}, lambda x: x.astype("uint16")),
    "float32": (65, {}, _as_float),
    "other_crs": (65, {"crs": "EPSG:32633"}, np.asarray),
    "other_shape": (65, {"width": 8192, "height": 8192}, np.asarray),
    "other_place": (65, {"transform": from_origin(_LEFT + 2560, _TOP, 10, 10)}, np.asarray),
    "other_pixel": (65, {"transform": from_origin(_LEFT, _TOP, 20, 20)}, np.asarray),
    "other_nodata": (65, {"nodata": -9999}, np.asarray),
}
"""Files that are whole, but not what they must be (65), or laid out otherwise (64): row,
rasterio's options, and what is done to the pixels."""


def lay(root: Path, *, only: tuple[str, ...] = ()) -> Iterator[tuple[Spoilt, str, str]]:
    """Write the files below ``root``, each in an archive of its own.

    Yields
    ------
    tuple
        What is wrong, the layout, and the folder of the archive.
    """
    part = slice((_FIRST_BLOCK - scene.FIRST_BLOCK) * scene.BLOCK, None)
    pixels = scene.square(0)[part, part][:_SIDE_PX, :_SIDE_PX]
    for layout, options in scene.LAYOUTS.items():
        if only and layout not in only:
            continue
        base = root / "seeds" / f"small_{layout}.tif"
        scene.write(base, pixels, options, _FIRST_BLOCK)
        right = base.read_bytes()
        for spoilt in FILES:
            if layout in spoilt.layouts:
                folder = f"spoilt/{spoilt.name}-{layout}"
                file = scene.file_of(root, folder)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(spoilt.make(right, layout))
                yield spoilt, layout, folder
    for name, (row, changed, convert) in WRITTEN.items():
        folder = f"spoilt/{name}-deflate"
        options = {"compress": "DEFLATE", **changed}
        scene.write(scene.file_of(root, folder), convert(pixels), options, _FIRST_BLOCK)
        yield Spoilt(row=row, name=name, make=_fixed(b"")), "deflate", folder


def expected(spoilt: Spoilt) -> NDArray[np.int16]:
    """Pixels of the window, shape (1, 1, 512, 512)."""
    pixels = scene.expected((scene.SEEDS,), scene.BANDS[:1])
    if spoilt.sparse:
        start = scene.BLOCK - scene.SHIFT_PX % scene.BLOCK
        pixels[..., start : start + scene.BLOCK, start : start + scene.BLOCK] = _data.NODATA
    return pixels
