"""Hypothesis strategies: for each target, bytes that are nearly right."""

from __future__ import annotations

import json
import struct

import hypothesis.strategies as st

from s2l3a_xr._tiff._directory import NAMES
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, corpus


@st.composite
def _mutants(draw: st.DrawFn, target: str) -> bytes:
    seed = draw(st.sampled_from(list(corpus(target).values())))
    return mutate(seed, lambda most: draw(st.integers(0, max(0, most - 1))))


_EDGES = st.sampled_from([0, 1, 2, 3, 16, 256, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -1])
_USUAL = {
    256: 44, 257: 40, 258: 16, 259: 8, 277: 1, 284: 1, 317: 1, 322: 16, 323: 16, 339: 2, 273: 400,
    278: 40, 279: 50, 324: 400, 325: 50,
}  # fmt: skip


@st.composite
def _directories(draw: st.DrawFn) -> bytes:
    """Lay a file of any tags, types, numbers and order, perhaps with a directory behind it."""
    order = draw(st.sampled_from("<>"))
    is_big = draw(st.booleans())
    width, letter = (8, "Q") if is_big else (4, "I")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if is_big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if is_big else b""
    codes = [*draw(st.lists(st.sampled_from([*NAMES, 1]), max_size=20)), 256, 257, 258, 259]
    codes += draw(st.sampled_from([[322, 323, 324, 325], [273, 278, 279], []]))
    entries = b""
    for code in codes if draw(st.booleans()) else sorted({*codes}):
        kind = draw(st.sampled_from([3, 4, 16]) | st.integers(0, 20))
        number = draw(st.just(1) | st.integers(0, 9) | _EDGES)
        value = draw(st.just(_USUAL.get(code, 1)) | st.integers(0, 2**16) | _EDGES)
        entries += struct.pack(f"{order}HH", code, kind % 2**16)
        entries += struct.pack(f"{order}{letter}", number % 256**width)
        if order == ">" and kind == 3:  # a short number stands left
            value = value % 2**16 << 8 * (width - 2)
        entries += struct.pack(f"{order}{letter}", value % 256**width)
    tags = struct.pack(f"{order}{'Q' if is_big else 'H'}", len(entries) // (4 + 2 * width))
    start = len(head) + width
    after = draw(st.sampled_from([0, start]) | _EDGES)
    body = tags + entries + struct.pack(f"{order}{letter}", after % 256**width)
    tail = draw(st.binary(max_size=300))
    return head + struct.pack(f"{order}{letter}", start) + body + tail


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["https://example.org/a", "../a", "//b/c", "file:///etc/passwd", "http://["])
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@st.composite
def _documents(draw: st.DrawFn, target: str) -> bytes:
    """Put foreign values into places of a valid document."""
    document = json.loads(draw(st.sampled_from(sorted(_json(target)))))
    for _ in range(draw(st.integers(1, 3))):
        place, where = document, None
        while isinstance(place, dict | list) and place and (where is None or draw(st.booleans())):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            where = (place, key)
            place = place[key]
        if where is not None:
            where[0][where[1]] = draw(_VALUES)
    return json.dumps(document).encode()


def _json(target: str) -> list[bytes]:
    """Those of a target's inputs that are JSON."""
    found = []
    for data in corpus(target).values():
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            continue
        found.append(data)
    return found


_HREFS = st.text("ab.%2e/\\?#:&;=\"'<> \0", max_size=20) | st.sampled_from(
    ["..", "%2e%2e/x.tif", "//other/x", "javascript:alert(1)", "a.tif", "http://[", "&#46;./b"]
)


@st.composite
def _pages(draw: st.DrawFn) -> bytes:
    anchors = [
        f"<{draw(st.sampled_from('aA'))} {draw(st.sampled_from(['href', 'HREF', 'x']))}="
        f'"{href}">{draw(st.text(max_size=5))}</a> {draw(st.sampled_from(["55M", "-", "1.2e9G"]))}'
        for href in draw(st.lists(_HREFS, max_size=6))
    ]
    return ("Index of /" + draw(st.sampled_from(["\n", " "])).join(anchors)).encode()


_MORE = {
    "header": _directories(), "listing": _pages(), "stac": _documents("stac"),
    "aoi": _documents("aoi"), "inventory": _documents("inventory"),
    "request": _documents("request"),
}  # fmt: skip


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Give the strategy of a target.

    Parameters
    ----------
    target : str
        One of `TARGETS`.

    Returns
    -------
    strategy of bytes
        Spoilt inputs of the corpus, made-up ones, and noise.
    """
    found = _mutants(target) | st.binary(max_size=200)
    return found | _MORE[target] if target in _MORE else found


STRATEGIES = {target: inputs(target) for target in TARGETS}
