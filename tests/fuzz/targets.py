"""What is fuzzed: each target takes any bytes, and lets nothing but the typed errors end quietly.

Hypothesis (`tests/test_fuzz.py`), atheris and the time-limited driver (`drive.py`) share these
functions; the files of `corpus/` are what they begin from, and are replayed in the unit tests.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._errors import AoiError, ArchiveError, FormatError, SelectionError
from s2l3a_xr._listing import parse_listing
from s2l3a_xr._pin import read_pin
from s2l3a_xr._saved import load_request
from s2l3a_xr._stac._documents import links_of, parse_document
from s2l3a_xr._stac._items import Findings, make_archive
from s2l3a_xr._stac._links import LinkRefusedError, Links
from s2l3a_xr._tiff import (
    Layout,
    MissingBytesError,
    SparseBytes,
    decode_block,
    parse_header,
    parse_overviews,
    read_description,
)
from s2l3a_xr._transport import Transport
from s2l3a_xr._transport._multipart import CONTENT_RANGE, PartParser, PartsError

CORPUS = Path(__file__).parent / "corpus"
URL = "https://example.org/files/a.tif"
FOLDER = "https://example.org/files/"
BLOCK_CAP = 2**20
_MOST_READS = 40


def header(data: bytes) -> None:
    """Parse a file from its first 64 bytes on, reading on as a reader would; unpack some blocks."""
    try:
        layouts = _layouts(data)
    except FormatError as exc:
        assert exc.url == URL, exc
        return
    for layout in layouts:
        assert layout.offsets.shape == layout.counts.shape
        assert layout.raw_block_bytes <= BLOCK_CAP
        for index in np.argwhere(layout.counts)[:3].tolist():
            block = tuple(index)
            try:
                pixels = decode_block(layout, data[slice(*layout.span(block))], block)
            except FormatError as exc:
                assert exc.block == block, exc
            else:
                assert pixels.shape[1] == layout.block_width
                assert pixels.dtype == layout.dtype.newbyteorder("=")


def _layouts(data: bytes) -> list[Layout]:
    file = SparseBytes(len(data))
    file.add(0, data[:64])
    for _ in range(_MOST_READS):
        try:
            layout = parse_header(file, URL, block_cap=BLOCK_CAP)
            read_description(file, URL)
            return [layout, *parse_overviews(file, URL, layout, block_cap=BLOCK_CAP)]
        except MissingBytesError as gap:
            assert 0 <= gap.start < gap.stop <= len(data)
            file.add(gap.start, data[gap.start : max(gap.stop, gap.start + 4096)])
    raise AssertionError("the header never ends")


_DTYPES = ("<i2", ">i2", "u1", "<f4", ">f8", "<u8")


def block(data: bytes) -> None:
    """Unpack a block; the first four bytes choose how it is packed."""
    choice, body = data[:4].ljust(4, b"\0"), data[4:]
    dtype = np.dtype(_DTYPES[choice[0] % len(_DTYPES)])
    predictor = 1 + choice[1] % (3 if dtype.kind == "f" else 2)
    one = np.ones((1, 1), np.int64)
    layout = Layout(
        width=40, height=19, block_width=(16, 40)[choice[3] & 1], block_height=16, dtype=dtype,
        compression=(1, 5, 8, 50000)[choice[2] % 4], predictor=predictor, offsets=one, counts=one,
        leader=choice[3] & 4, trailer=choice[3] >> 1 & 4,
    )  # fmt: skip
    for row in (0, 1):
        try:
            pixels = decode_block(layout, memoryview(body), (row, 0))
        except FormatError as exc:
            assert exc.block == (row, 0), exc
        else:
            assert pixels.shape in {(16, layout.block_width), layout.block_shape(row)}


def listing(data: bytes) -> None:
    """Read a page as a listing: names are names of direct children."""
    try:
        entries = parse_listing(data.decode("utf-8", "replace"), FOLDER)
    except ArchiveError:
        return
    for entry in entries:
        name = entry.name.removesuffix("/")
        assert not {"/", "\\", "\0", "%", "?"} & {*name}, name
        assert name[0] != "."
        assert entry.size is None or entry.size >= 0


def stac(data: bytes) -> None:
    """Read a document of a catalogue, its links and its items: files lie where they may."""
    try:
        document = parse_document(data.decode("utf-8", "replace"), FOLDER)
    except ArchiveError:
        return
    links, found = Links(named=FOLDER), Findings()
    for link in links_of(document, "next", "child", "item", "self"):
        try:
            place = urlsplit(links.to_document(FOLDER, link["href"]))
            assert (place.scheme, place.hostname) == ("https", "example.org"), place
        except LinkRefusedError:
            continue
    features = document.get("features")
    for item in [document, *(features if isinstance(features, list) else [])]:
        found.take(item, FOLDER, links)
    assert all(file.url.startswith("https://") for file in found.files)
    make_archive(found, Origin(catalogue=FOLDER))


def aoi(data: bytes) -> None:
    """Take GeoJSON as an area, from memory and from a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shapes: object = json.loads(data)
        except (ValueError, RecursionError):
            shapes = None
        if isinstance(shapes, dict):
            _area_of(shapes)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.geojson")
            path.write_bytes(data)
            _area_of(path)


def _area_of(shape: object) -> None:
    try:
        area = read_aoi(shape)
    except AoiError:
        return
    assert np.isfinite(area.bounds).all()
    assert all(feature.area > 0 for feature in area.features)


def inventory(data: bytes) -> None:
    """Read an inventory."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "a.json")
        path.write_bytes(data)
        try:
            facts = read_pin(path)
        except SelectionError:
            return
        assert facts["cells"]


def request(data: bytes) -> None:
    """Read a saved request, and ask it for its files."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "a.json")
        path.write_bytes(data)
        try:
            saved = load_request(path, Transport()).request
        except SelectionError:
            return
        files = [saved.sources(time, band) for time, band in np.ndindex(saved.shape[:2])]
        assert all(
            file.url.startswith(("https://", saved.archive_url)) for some in files for file in some
        )


def multipart(data: bytes) -> None:
    """Take an answer of many parts apart; the first byte says in which pieces it arrives."""
    step, body = 1 + (data[0] if data else 0), data[1:]
    parser = PartParser("x", longest=4096)
    CONTENT_RANGE.fullmatch(body[:100].decode("latin-1"))
    try:
        for at in range(0, len(body), step):
            for part in parser.feed(body[at : at + step]):
                assert part.stop - part.start == len(part.data) <= 4096
    except PartsError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (header, block, listing, stac, aoi, inventory, request, multipart)
}


def corpus(target: str) -> dict[str, bytes]:
    """Give the inputs of a target that are kept, by name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}
