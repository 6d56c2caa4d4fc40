"""The least number of tiles that covers an area, exactly."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import numpy as np
import shapely
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._errors import AoiError
from s2l3a_xr._tiles import Tile

_FEW = 9
"""Among so many tiles all subsets are tried; more go to a solver."""

_NAMES_AT_ONCE = 10
"""Names that one objective ranks: powers of two, kept far below the solver's tolerance."""

_SLIVER_M2 = 1e-3
_SLIVER_SHARE = 1e-6
"""Smaller parts of the area, in square metres or as a share, come from rounding."""
_CHECK = "check the AOI, or ask an archive that has more."

_LEAST_WRITTEN = 5e-4
_SEGMENT_M = 2000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """The tiles chosen for an area.

    Parameters
    ----------
    tiles : tuple of Tile
        In the order in which the mosaic takes pixels: by name.
    uncovered : float
        Share of the area (0 to 1) that no offered tile has.
    """

    tiles: tuple[Tile, ...]
    uncovered: float


def least_cover(aoi: Aoi, tiles: Sequence[Tile], gaps: Mapping[str, int] | None = None) -> Cover:
    """Choose the least number of tiles whose union holds as much of the area as any can.

    Of equal choices that one wins which has fewer UTM zones, then fewer missing months,
    then the area farther from the tiles' borders, then the first names.

    Parameters
    ----------
    aoi : Aoi
        The area.
    tiles : sequence of Tile
        What the archive offers.
    gaps : mapping of str to int, optional
        How many of the asked months each tile lacks.

    Returns
    -------
    Cover
        Tiles in the order of their names.

    Raises
    ------
    AoiError
        No tile shares any of the area.
    """
    offered = sorted(tiles, key=lambda tile: tile.name)
    if not offered:
        msg = f"no tile is offered at {aoi.describe()}; {_CHECK}"
        raise AoiError(msg)
    cut = _cut_of(aoi, offered[0].crs)
    key = tuple((tile.name, (gaps or {}).get(tile.name, 0)) for tile in offered)
    if key not in cut.covers:
        cut.covers[key] = _choose(aoi, offered, dict(key), cut)
    return cut.covers[key]


def uncovered(aoi: Aoi, tiles: Sequence[Tile], groups: Iterable[Set[str]]) -> list[float]:
    """Measure what some of the tiles leave of an area.

    Parameters
    ----------
    aoi : Aoi
        The area.
    tiles : sequence of Tile
        All that are in any group.
    groups : iterable of set of str
        Names of tiles.

    Returns
    -------
    list of float
        For each group the share of the area, 0 to 1, that none of its tiles has.
    """
    offered = sorted(tiles, key=lambda tile: tile.name)
    parts, _ = _cut_of(aoi, offered[0].crs).among(offered)
    total = sum(parts.values())
    held = [({offered[index].name for index in part}, size) for part, size in parts.items()]
    return [
        sum(size for names, size in held if names.isdisjoint(group)) / total for group in groups
    ]


def share_text(share: float) -> str:
    """Write a share of an area so that little is not nothing.

    Parameters
    ----------
    share : float
        More than 0.

    Returns
    -------
    str
        Such as ``53.3%``.
    """
    return f"{share:.1%}" if share >= _LEAST_WRITTEN else "less than 0.1%"


@dataclass(kw_only=True, eq=False)
class _Cut:
    """An area cut along the borders of tiles, and what was found with it.

    Months lack now this tile, now that one: their covers come from one cut.
    """

    area: BaseGeometry
    crs: str
    tiles: list[Tile] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    cells: dict[frozenset[int], float] = field(default_factory=dict)
    covers: dict[tuple[tuple[str, int], ...], Cover] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def among(self, tiles: Sequence[Tile]) -> tuple[dict[frozenset[int], float], list[int]]:
        """Give the cells and depths of some tiles, numbered as they are given."""
        with self.lock:
            return self._among(tiles)

    def _among(self, tiles: Sequence[Tile]) -> tuple[dict[frozenset[int], float], list[int]]:
        if not set(tiles) <= set(self.tiles):
            footprints = [_footprint(tile, self.crs) for tile in tiles]
            self.tiles = list(tiles)
            self.depths = [_depth(self.area, footprint) for footprint in footprints]
            self.cells = _cells(self.area, footprints)
        place = {tile: index for index, tile in enumerate(tiles)}
        numbers = [place.get(tile) for tile in self.tiles]
        cells: dict[frozenset[int], float] = defaultdict(float)
        for members, size in self.cells.items():
            left = (numbers[index] for index in members)
            cells[frozenset(index for index in left if index is not None)] += size
        return dict(cells), [self.depths[self.tiles.index(tile)] for tile in tiles]


@lru_cache(maxsize=8)
def _cut_of(aoi: Aoi, crs: str) -> _Cut:
    return _Cut(area=aoi.to_crs(crs).union, crs=crs)


def _choose(aoi: Aoi, offered: list[Tile], gaps: Mapping[str, int], cut: _Cut) -> Cover:
    cells, depths = cut.among(offered)
    coverable = [members for members in cells if members]
    if not coverable:
        msg = f"the offered tiles do not reach the AOI at {aoi.describe()}; {_CHECK}"
        raise AoiError(msg)
    costs = _Costs(
        zones=[tile.zone for tile in offered],
        gaps=[gaps[tile.name] for tile in offered],
        depths=depths,
    )
    minimal = _minimal(coverable)
    # What a single tile has, it must give: mostly nothing is left to choose.
    forced = frozenset(index for cell in minimal if len(cell) == 1 for index in cell)
    open_cells = [cell for cell in minimal if len(cell) > 1]
    choice = sorted({index for cell in open_cells for index in cell})
    if len(choice) <= _FEW:
        chosen = _try_all(open_cells, choice, forced, costs)
    else:
        chosen = _solve(minimal, costs)
    total = sum(cells.values())
    return Cover(
        tiles=tuple(offered[index] for index in sorted(chosen)),
        uncovered=cells.get(frozenset(), 0.0) / total,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """What breaks ties, per tile."""

    zones: list[int]
    gaps: list[int]
    depths: list[int]

    def of(self, chosen: tuple[int, ...]) -> tuple[object, ...]:
        return (
            len({self.zones[index] for index in chosen}),
            sum(self.gaps[index] for index in chosen),
            -sum(self.depths[index] for index in chosen),
            chosen,
        )


def _footprint(tile: Tile, crs: str) -> BaseGeometry:
    if tile.crs == crs:
        return tile.box
    edges = shapely.segmentize(tile.box, _SEGMENT_M)
    return Aoi(features=(edges,), crs=tile.crs).to_crs(crs).features[0]


def _depth(area: BaseGeometry, footprint: BaseGeometry) -> int:
    """Metres between the tile's part of the area and the tile's border."""
    part = area.intersection(footprint)
    return round(part.distance(footprint.exterior)) if not part.is_empty else 0


def _cells(area: BaseGeometry, footprints: Sequence[BaseGeometry]) -> dict[frozenset[int], float]:
    """Cut the area along all borders: size of each part by the tiles that hold it."""
    sliver = min(_SLIVER_M2, _SLIVER_SHARE * area.area)
    parts: dict[frozenset[int], BaseGeometry] = {frozenset(): area}
    for index, footprint in enumerate(footprints):
        cut: dict[frozenset[int], BaseGeometry] = {}
        for members, part in parts.items():
            inside = part.intersection(footprint)
            if inside.area <= sliver:
                cut[members] = part
                continue
            cut[members | {index}] = inside
            outside = part.difference(footprint)
            if outside.area > sliver:
                cut[members] = outside
        parts = cut
    return {members: part.area for members, part in parts.items()}


def _minimal(cells: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Drop each cell that is hit whenever a smaller one is."""
    return [cell for cell in cells if not any(other < cell for other in cells)]


def _try_all(
    cells: list[frozenset[int]], choice: list[int], forced: frozenset[int], costs: _Costs
) -> tuple[int, ...]:
    for count in range(len(choice) + 1):
        found = [
            tuple(sorted({*forced, *chosen}))
            for chosen in combinations(choice, count)
            if all(not cell.isdisjoint(chosen) for cell in cells)
        ]
        if found:
            return min(found, key=costs.of)
    msg = "no set of tiles hits every cell"  # the set of all tiles does
    raise AssertionError(msg)


def _solve(cells: list[frozenset[int]], costs: _Costs) -> tuple[int, ...]:
    """Minimise one cost after the other, each held while the next is minimised."""
    count = len(costs.zones)
    zones = sorted(set(costs.zones))
    hits = np.zeros((len(cells), count + len(zones)))
    for row, cell in enumerate(cells):
        hits[row, list(cell)] = 1
    in_zone = np.zeros((count, count + len(zones)))
    in_zone[np.arange(count), np.arange(count)] = -1
    in_zone[np.arange(count), [count + zones.index(zone) for zone in costs.zones]] = 1
    no_zones = [0] * len(zones)
    objectives = (
        [1] * count + no_zones,
        [0] * count + [1] * len(zones),
        costs.gaps + no_zones,
        [-depth for depth in costs.depths] + no_zones,
        *(_first_of(group, count) + no_zones for group in range(0, count, _NAMES_AT_ONCE)),
    )
    constraints = [LinearConstraint(csr_array(hits), lb=1), LinearConstraint(csr_array(in_zone), 0)]
    solution = np.zeros(count + len(zones))
    for objective in objectives:
        found = milp(
            objective,
            integrality=1,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0},
        )
        solution = np.round(found.x)
        held = float(np.dot(objective, solution))
        constraints.append(LinearConstraint(np.array([objective]), ub=held + 0.5))
    return tuple(int(index) for index in np.flatnonzero(solution[:count]))


def _first_of(group: int, count: int) -> list[int]:
    """Costs that are least for the choice whose names in a group come first."""
    ranks = range(group, min(group + _NAMES_AT_ONCE, count))
    return [-(1 << (ranks.stop - 1 - index)) if index in ranks else 0 for index in range(count)]
