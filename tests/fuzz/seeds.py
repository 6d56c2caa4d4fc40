"""Write `corpus/`: small valid inputs that mutations begin from.

Run ``python -m tests.fuzz.seeds`` after a change of what is valid; inputs that once failed are
kept beside them under other names and stay.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
import rasterio.shutil
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from s2l3a_xr._sample import SAMPLE_AOI
from tests.fuzz.targets import CORPUS

_NAME = "SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2"
_TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
_HEADERS: dict[str, dict[str, object]] = {
    "deflate": {**_TILED, "compress": "DEFLATE"},
    "lzw-predictor": {**_TILED, "compress": "LZW", "predictor": 2},
    "zstd-big": {**_TILED, "compress": "ZSTD", "ENDIANNESS": "BIG"},
    "raw-bigtiff": {**_TILED, "BIGTIFF": "YES"},
    "strips": {"compress": "DEFLATE", "blockysize": 7},
    "float-big-bigtiff": {
        **_TILED, "compress": "DEFLATE", "predictor": 3, "dtype": "float32", "ENDIANNESS": "BIG",
        "BIGTIFF": "YES",
    },
    "sparse": {**_TILED, "compress": "DEFLATE", "sparse_ok": True},
}  # fmt: skip


def headers() -> Iterator[tuple[str, bytes]]:
    """Small GeoTIFFs of GDAL, one of them a COG with overviews, leaders and trailers."""
    pixels = np.add.outer(np.arange(40), np.arange(44)) * 37 % 3000
    for name, options in _HEADERS.items():
        profile = {
            "driver": "GTiff", "height": 40, "width": 44, "count": 1, "dtype": "int16",
            "crs": "EPSG:32632", "nodata": -10000,
            "transform": from_origin(600000, 5800020, 10, 10), **options,
        }  # fmt: skip
        with MemoryFile() as memory:
            with memory.open(**profile) as file:
                kept = np.where(pixels < 99, -10000, pixels) if name == "sparse" else pixels
                file.write(kept[:16].astype(profile["dtype"]), 1, window=((0, 16), (0, 44)))
                if name != "sparse":
                    file.write(kept.astype(profile["dtype"]), 1)
                if name == "strips":
                    file.scales, file.offsets = (0.5,), (3,)
            yield name, memory.read()
    with MemoryFile() as memory, MemoryFile() as target:
        with memory.open(**{**profile, **_HEADERS["deflate"], "dtype": "int16"}) as file:
            file.write(pixels.astype("int16"), 1)
            file.build_overviews([2, 4])
            rasterio.shutil.copy(
                file, target.name, driver="GTiff", copy_src_overviews=True, compress="LZW", **_TILED
            )
        with target.open():  # so that GDAL is done with it
            pass
        yield "cog", target.read()


def blocks() -> Iterator[tuple[str, bytes]]:
    """One block for each codec, and one with a leader and a trailer."""
    raw = (np.arange(256, dtype="<i2") * 3).tobytes()
    packed = {
        "none": (0, raw), "lzw": (1, imagecodecs.lzw_encode(raw)),
        "deflate": (2, imagecodecs.deflate_encode(raw)), "zstd": (3, imagecodecs.zstd_encode(raw)),
    }  # fmt: skip
    for name, (codec, data) in packed.items():
        yield name, bytes([0, 0, codec, 0]) + bytes(data)
    body = bytes(packed["deflate"][1])
    yield "framed", bytes([0, 1, 2, 12]) + struct.pack("<I", len(body)) + body + body[-4:]


def listings() -> Iterator[tuple[str, bytes]]:
    """A listing as a table, and one as plain text."""
    head = b"<html><head><title>Index of /f</title></head><body><h1>Index of /f</h1>"
    row = f'<a href="{_NAME}_FRC_B4.tif">{_NAME[:20]}..</a>'
    yield (
        "table",
        head
        + (
            f'<table><tr><td><a href="../">Parent Directory</a></td></tr><tr><td>{row}</td>'
            '<td align="right">2021-04-28 06:15</td><td align="right">200M</td></tr></table>'
        ).encode(),
    )
    yield "plain", head + f'<pre><a href="?C=N;O=D">Name</a>\n{row} 28-Apr 06:15  55M\n'.encode()


def documents() -> Iterator[tuple[str, bytes]]:
    """A page of items, and a catalogue."""
    home = f"https://example.org/files/32/U/PC/2021/{_NAME}/"
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": _NAME.removesuffix("_V1-2"),
        "properties": {"datetime": "2021-03-15T00:00:00Z", "license": "CC-BY-4.0"},
        "links": [{"rel": "self", "href": "https://example.org/i.json"}],
        "assets": {"FRC_B4": {"href": f"{home}{_NAME}_FRC_B4.tif", "file:size": 9}},
    }  # fmt: skip
    page = {
        "type": "FeatureCollection", "features": [item],
        "links": [{"rel": "next", "href": "https://example.org/?startIndex=20"}],
    }  # fmt: skip
    yield "page", json.dumps(page).encode()
    child = {"rel": "child", "href": "./2021/catalog.json"}
    yield (
        "catalogue",
        json.dumps({"type": "Catalog", "stac_version": "1", "links": [child]}).encode(),
    )


def areas() -> Iterator[tuple[str, bytes]]:
    """The sample's area, and one of several shapes."""
    yield "polygon", json.dumps(SAMPLE_AOI).encode()
    square = [[11, 51], [11.1, 51], [11.1, 51.1], [11, 51]]
    multi = {"type": "MultiPolygon", "coordinates": [[square]]}
    point = {"type": "Point", "coordinates": [11, 51, 3]}
    features = [
        {"type": "Feature", "properties": {}, "geometry": shape} for shape in (multi, point, None)
    ]
    yield "features", json.dumps({"type": "FeatureCollection", "features": features}).encode()


def inventories() -> Iterator[tuple[str, bytes]]:
    """One tile and month."""
    head = {
        "format": "s2l3a_xr inventory", "version": 1, "license": "CC-BY-4.0", "references": "",
        "catalogue": "", "archive": "https://example.org/files/", "bands": ["B4"],
        "cover": {"tiles": ["32UPC"], "uncovered": 0},
        "grid": {"crs": "EPSG:32632", "left": 6e5, "top": 58e5, "resolution": 10, "width": 9,
                 "height": 9},
        "aoi": {"crs": "EPSG:4326", "geometries": [SAMPLE_AOI]},
    }  # fmt: skip
    row = {
        "tile": "32UPC", "month": "2021-03", "product": _NAME, "status": ["available"], "size": [9],
        "url": [""],
    }  # fmt: skip
    features = [{"type": "Feature", "properties": row, "geometry": None}]
    document = {"type": "FeatureCollection", "s2l3a_xr": head, "features": features}
    yield "one", json.dumps(document).encode()


def requests() -> Iterator[tuple[str, bytes]]:
    """One band of one month, clipped."""
    head = {
        "format": "s2l3a_xr request", "version": 1, "license": "CC-BY-4.0", "references": "",
        "catalogue": "", "archive": "https://example.org/files/", "bands": ["red"],
        "listed": ["B4", "FLG"], "months": ["2021-03"], "native_m": 10,
        "grid": {"crs": "EPSG:32632", "left": 6e5, "top": 58e5, "resolution": 10, "width": 9,
                 "height": 9},
        "resampling": ["bilinear"], "all_touched": False, "use_overviews": True,
        "mask": ["cloud"], "flag_encoding": "classes", "missing": "warn", "fail_on_error": True,
        "area": [{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, -9], [0, 0]]]}],
    }  # fmt: skip
    row = {
        "tile": "32UPC", "month": "2021-03", "product": _NAME, "url": ["", ""],
        "status": ["available", "available"], "size": [None, None],
    }  # fmt: skip
    features = [{"type": "Feature", "properties": row, "geometry": None}]
    document = {"type": "FeatureCollection", "s2l3a_xr": head, "features": features}
    yield "one", json.dumps(document).encode()


def answers() -> Iterator[tuple[str, bytes]]:
    """An answer of two parts, arriving in pieces of nine bytes."""
    body = (
        b"\r\n--x\r\nContent-Type: image/tiff\r\nContent-Range: bytes 2-4/90\r\n\r\nabc"
        b"\r\n--x\r\nContent-Range: bytes 7-8/90\r\n\r\nde\r\n--x--\r\n"
    )
    yield "two", b"\x08" + body


SEEDS = {
    "header": headers, "block": blocks, "listing": listings, "stac": documents, "aoi": areas,
    "inventory": inventories, "request": requests, "multipart": answers,
}  # fmt: skip

if __name__ == "__main__":
    for target, make in SEEDS.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, content in make():
            (CORPUS / target / name).write_bytes(content)
