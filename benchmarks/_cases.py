"""What is read in each case, under which network, and what the least possible is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _data
import numpy as np

LATENCY_S = 0.03
MERGE_GAP = 8 << 10
"""Blocks of a row with at most this many bytes between them are one range in a plan."""
HEADER_READ = 32 << 10
"""What one small header read may take."""

Bounds = tuple[int, int, int, int]
Ring = tuple[tuple[float, float], ...]

MAGDEBURG: Bounds = (654990, 5779150, 665150, 5789380)
"""1016 x 1023 pixels, 85 km² of the Magdeburg Boerde, inside 32UPC and no other tile."""
WHOLE_TILE: Bounds = (600000, 5690220, 709800, 5800020)
"""All of 32UPC."""
COARSE: Bounds = (600000, 5690260, 709760, 5800020)
"""Most of 32UPC, from its corner, a whole number of 80 m pixels wide and high."""
TWO_TILES: Bounds = (696960, 5745500, 712960, 5757500)
"""16 x 12 km: 32UPC lacks the east of it and 32UQC the west, both hold the 9.8 km between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of the archive."""

    tiles: tuple[str, ...] = ("32UPC",)
    months: tuple[int, ...] = _data.MONTHS
    bands: tuple[str, ...] = _data.BANDS
    bounds: Bounds = MAGDEBURG
    fields: tuple[Ring, ...] = ()
    """Polygons of a scattered AOI; empty for the rectangle itself."""
    resolution: int = 10

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        left, bottom, right, top = self.bounds
        return (top - bottom) // self.resolution, (right - left) // self.resolution

    @property
    def files(self) -> list[tuple[str, int, str]]:
        """Tile, month and band of every file."""
        return [
            (tile, month, band)
            for month in self.months
            for band in self.bands
            for tile in self.tiles
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The link between reader and server."""

    latency_s: float = LATENCY_S
    mbit: float = 0.0
    """Megabits a second for all connections together; 0 is no cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The least that a request can take."""

    header_bytes: int
    block_bytes: int
    blocks: int
    rows: int
    """Rows of blocks over all files: the least number of ranges for the data."""
    files: int

    def wall_s(self, network: Network, *, listing_trips: int = 0) -> float:
        """Add up two connection, the listing, one header and one data round trip, and the bytes."""
        trips = (2 + listing_trips + 1 + 1) * network.latency_s
        link = (self.header_bytes + self.block_bytes) / (network.mbit * 125_000 or math.inf)
        return trips + link

    @property
    def total_bytes(self) -> int:
        """Headers and blocks."""
        return self.header_bytes + self.block_bytes


def scattered_fields(count: int = 200, seed: int = 7) -> tuple[Ring, ...]:
    """Crooked fields of 200 to 600 m, strewn over 32UPC on corners of its pixels.

    Their common bounding box has pixel edges, and no two of them touch.
    """
    rng = np.random.default_rng(seed)
    left, top = _data.ORIGINS["32UPC"]
    side = math.ceil(math.sqrt(count))
    cell = _data.SIDE * _data.RESOLUTION_M // side
    rings: list[Ring] = []
    for number in rng.permutation(side * side)[:count]:
        row, col = divmod(int(number), side)
        width, height = (10 * int(value) for value in rng.integers(20, 60, 2))
        lean = 10 * int(rng.integers(0, 12))
        x = left + col * cell + 10 * int(rng.integers(15, cell // 10 - 90))
        y = top - row * cell - 10 * int(rng.integers(15, cell // 10 - 90))
        corners = [
            (x, y - lean),
            (x + width, y),
            (x + width + lean, y - height),
            (x + lean, y - height - lean),
        ]
        rings.append(tuple((float(a), float(b)) for a, b in [*corners, corners[0]]))
    return tuple(rings)


def fields_bounds(rings: Sequence[Ring]) -> Bounds:
    """Bounding box of all fields."""
    points = np.array([point for ring in rings for point in ring])
    left, bottom = points.min(0)
    right, top = points.max(0)
    return int(left), int(bottom), int(right), int(top)


def touched_blocks(request: Request, tile: str, *, filled: Sequence[str] = ()) -> np.ndarray:
    """Which blocks of a tile's main image the geometry needs, as a grid of bools.

    A block counts when the interior of the geometry reaches into it; what the ``filled`` tiles
    hold is not needed.
    """
    import shapely  # noqa: PLC0415 - the peers' interpreters import this module without it

    left, top = _data.ORIGINS[tile]
    step = _data.BLOCK * _data.RESOLUTION_M
    count = -(-_data.SIDE // _data.BLOCK)
    edge = _data.SIDE * _data.RESOLUTION_M
    shapes = [shapely.Polygon(ring) for ring in request.fields] or [shapely.box(*request.bounds)]
    corners = [_data.ORIGINS[other] for other in filled]
    done = shapely.union_all([shapely.box(x, y - edge, x + edge, y) for x, y in corners])
    row, col = np.mgrid[:count, :count]
    boxes = shapely.box(
        left + col * step,
        top - np.minimum((row + 1) * step, edge),
        left + np.minimum((col + 1) * step, edge),
        top - row * step,
    )
    touched = np.zeros((count, count), bool)
    for shape in shapely.difference(shapes, done):
        near = shapely.intersects(boxes, shape)
        touched |= near & ~shapely.touches(boxes, shape)
    return touched


def bound_of(request: Request, root: Path, *, skip_filled: bool = False) -> Bound:
    """Headers and blocks that the request needs at the least.

    With ``skip_filled``, for a reader that knows that the tiles before have no holes.
    """
    header = data = blocks = rows = 0
    for tile, month, band in request.files:
        path = _data.seed_path(root, tile, month, band)
        filled = request.tiles[: request.tiles.index(tile)] if skip_filled else ()
        touched = touched_blocks(request, tile, filled=filled)
        header += _data.header_size(path)
        data += int(_data.block_table(path).sizes[touched].sum())
        blocks += int(touched.sum())
        rows += int(touched.any(1).sum())
    return Bound(
        header_bytes=header, block_bytes=data, blocks=blocks, rows=rows, files=len(request.files)
    )


def perfect_plan(request: Request, root: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Ranges of a reader that knows everything: one header a file, rows of blocks merged."""
    plan: dict[str, list[tuple[str, int, int]]] = {"headers": [], "data": []}
    for tile, month, band in request.files:
        url_path = "/" + _data.asset_path(tile, _data.YEAR, month, band)
        path = _data.seed_path(root, tile, month, band)
        plan["headers"].append((url_path, 0, _data.header_size(path)))
        table = _data.block_table(path)
        for row, touched in enumerate(touched_blocks(request, tile)):
            plan["data"] += [
                (url_path, start, stop)
                for start, stop in _merged(table.offsets[row][touched], table.sizes[row][touched])
            ]
    return plan


def _merged(offsets: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        if ranges and start - ranges[-1][1] <= MERGE_GAP:
            ranges[-1] = ranges[-1][0], start + size
        else:
            ranges.append((start, start + size))
    return ranges


def job_for(request: Request, url: str, root: Path, scratch: Path) -> dict[str, Any]:
    """Give the request as plain data, for any contender in any interpreter."""
    tiles: Mapping[str, Any] = {
        tile: {
            "left": _data.ORIGINS[tile][0],
            "top": _data.ORIGINS[tile][1],
            "side": _data.SIDE,
            "epsg": _data.EPSG,
        }
        for tile in request.tiles
    }
    files = [
        {
            "tile": tile,
            "year": _data.YEAR,
            "month": month,
            "band": band,
            "url": f"{url}/{_data.asset_path(tile, _data.YEAR, month, band)}",
            "local": str(_data.seed_path(root, tile, month, band)),
        }
        for tile, month, band in request.files
    ]
    return {
        "archive": f"{url}/{_data.FILES_ROOT}/",
        "years": [_data.YEAR],
        "months": list(request.months),
        "bands": list(request.bands),
        "bounds": list(request.bounds),
        "fields": list(request.fields),
        "epsg": _data.EPSG,
        "aoi_epsg": _data.EPSG,
        "resolution": request.resolution,
        "shape": list(request.shape),
        "tiles": dict(tiles),
        "files": files,
        "scratch": str(scratch),
        "options": {},
    }
