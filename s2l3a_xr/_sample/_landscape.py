"""A farming country that never was: fields, woods, villages, a river and roads.

Everything is a function of the place, in metres of UTM zone 32, so that two tiles show
the same ground where they overlap. A pixel is stored as one 16-bit code (cover, shade,
texture step); the picture of a month and band is a look-up in the table of `_season`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2l3a_xr._sample._noise import Floats, hash_of, unit_of, upsample, value_noise
from s2l3a_xr._sample._parcels import Blocks, Fields, blocks_of, fields_of
from s2l3a_xr._sample._season import LEVELS, VARIANTS, Cover
from s2l3a_xr._sample._strip import NODE_STEP, Strip, detail_of

Codes = NDArray[np.uint16]
Masks = NDArray[np.bool_]
Ints = NDArray[np.int32]

_VILLAGE_M = 4000.0
# Share of the fields under each crop, in 256ths.
_CROP_SHARES = (
    (Cover.WHEAT, 84), (Cover.BARLEY, 30), (Cover.RAPE, 34), (Cover.RYE, 16),
    (Cover.MAIZE, 34), (Cover.BEET, 22), (Cover.POTATO, 8), (Cover.SPRING_BARLEY, 10),
    (Cover.GRASS, 8), (Cover.ALFALFA, 7), (Cover.FALLOW, 3),
)  # fmt: skip
_CROP_OF = np.repeat(
    np.array([int(crop) for crop, _ in _CROP_SHARES], np.int32),
    [share for _, share in _CROP_SHARES],
)


def code_of(cover: Cover) -> int:
    """First code of a cover."""
    return int(cover) * VARIANTS * LEVELS


def paint(strip: Strip) -> Codes:
    """Return the code of every pixel of a strip, shape (rows, cols)."""
    bend = strip.smooth(2600.0, 1) * 260
    sway = strip.smooth(2600.0, 2) * 260
    x = strip.x + bend + strip.smooth(420.0, 3) * 22
    y = strip.y + sway + strip.smooth(420.0, 4) * 22
    blocks = blocks_of(x, y)
    fields = fields_of(x, y, blocks)
    canvas = _Canvas.fields(fields)
    detail = detail_of(strip)
    canvas.level = _texture(strip, fields, detail)
    river = _river(strip)
    forest = _forest(strip, river)
    _draw_edges(canvas, fields)
    _draw_forest(canvas, strip, detail, forest, blocks)
    _draw_valley(canvas, strip, river, fields)
    _draw_block_borders(canvas, blocks, forest & (river > 60))
    _draw_villages(canvas, strip, detail)
    _draw_highways(canvas, strip)
    return canvas.codes()


@dataclass(slots=True)
class _Canvas:
    """Cover, shade and texture of every pixel, drawn over one by one."""

    cover: Ints
    shade: Ints
    level: Floats

    @classmethod
    def fields(cls, fields: Fields) -> _Canvas:
        crop = _CROP_OF[(fields.key & np.uint32(255)).astype(np.int32)]
        shade = (fields.key >> np.uint32(9)).astype(np.int32) % VARIANTS
        return cls(cover=crop, shade=shade, level=np.zeros(crop.shape, np.float32))

    def draw(self, where: Masks, cover: Cover, *, shade: Ints | int | None = None) -> None:
        self.cover[where] = int(cover)
        if isinstance(shade, int):
            self.shade[where] = shade
        elif shade is not None:
            self.shade[where] = shade[where] % VARIANTS

    def codes(self) -> Codes:
        steps = np.rint((self.level + 1) * ((LEVELS - 1) / 2)).astype(np.int32)
        np.clip(steps, 0, LEVELS - 1, out=steps)
        codes: Codes = ((self.cover * VARIANTS + self.shade) * LEVELS + steps).astype(np.uint16)
        return codes


def _texture(strip: Strip, fields: Fields, detail: Floats) -> Floats:
    level = np.zeros(detail.shape, np.float32)
    near = detail > 0
    if near.any():
        soil = strip.smooth(700.0, 31) * np.float32(0.6)
        soil += strip.smooth(230.0, 32) * np.float32(0.35)
        along = fields.along[near] * np.float32(0.12)
        rows = value_noise(along, fields.across[near], 45.0, 33) * np.float32(0.22)
        level[near] = (soil[near] + rows) * detail[near]
    return level


def _river(strip: Strip) -> Floats:
    """Signed distance from the bank of the river, metres; negative is water."""
    y = strip.node_y
    course = (
        -1500 + 2600 * np.sin(y / 7300 + 0.6) + 900 * np.sin(y / 2300 + 2.0) + 330 * np.sin(y / 900)
    )
    course += value_noise(strip.node_x, y, 1900.0, 41) * 420
    course += value_noise(strip.node_x, y, 800.0, 42) * 90
    # Across the course, not along the row, or the river would thin where it runs east.
    slope = (
        2600 / 7300 * np.cos(y / 7300 + 0.6)
        + 900 / 2300 * np.cos(y / 2300 + 2.0)
        + 330 / 900 * np.cos(y / 900)
    )
    away = ((strip.node_x - course) / np.hypot(1, slope)).astype(np.float32)
    return np.abs(upsample(away, NODE_STEP)) - np.float32(46)


def _forest(strip: Strip, river: Floats) -> Masks:
    large = strip.smooth(6500.0, 51) + strip.smooth(1500.0, 52) * np.float32(0.35)
    large += strip.smooth(260.0, 53) * np.float32(0.05)
    small = strip.smooth(1150.0, 54) + strip.smooth(300.0, 55) * np.float32(0.12)
    wood: Masks = (large > 0.46) | ((small > 0.78) & (river > 300))
    return wood


def _draw_edges(canvas: _Canvas, fields: Fields) -> None:
    style = (fields.strip_key >> np.uint32(3)) & np.uint32(15)
    canvas.draw((fields.side_m < 5.5) & (style < 3), Cover.TRACK, shade=4)
    canvas.draw((fields.side_m < 9) & (style == 3), Cover.HEDGE, shade=4)
    end_style = (fields.key >> np.uint32(20)) & np.uint32(15)
    canvas.draw((fields.end_m < 5.5) & (end_style < 2), Cover.TRACK, shade=8)
    canvas.draw((fields.end_m < 8) & (end_style == 2), Cover.HEDGE, shade=8)


def _draw_block_borders(canvas: _Canvas, blocks: Blocks, wooded: Masks) -> None:
    style = (blocks.border_key >> np.uint32(5)) & np.uint32(15)
    near, open_land = blocks.border_m, ~wooded
    canvas.draw((near < 13) & (style >= 4) & (style < 7) & open_land, Cover.HEDGE, shade=12)
    canvas.draw((near < 6) & (style >= 7) & (style < 13), Cover.TRACK, shade=12)
    canvas.draw((near < 12) & (style < 2) & open_land, Cover.HEDGE, shade=16)
    canvas.draw((near < 7) & (style < 4), Cover.ROAD, shade=12)


def _draw_forest(
    canvas: _Canvas, strip: Strip, detail: Floats, forest: Masks, blocks: Blocks
) -> None:
    across = np.floor(strip.x / 420 + strip.y / 3000).astype(np.int32)
    up = np.floor(strip.y / 380 - strip.x / 3500).astype(np.int32)
    stand = hash_of(blocks.key[blocks.number] ^ hash_of(across, up, 61), across, 62)
    pine = forest & ((stand & np.uint32(7)) < 4)
    shade = ((stand >> np.uint32(8)) & np.uint32(255)).astype(np.int32)
    canvas.draw(forest, Cover.BROADLEAF, shade=shade)
    canvas.draw(pine, Cover.CONIFER, shade=shade)
    near = forest & (detail > 0)
    if near.any():
        crowns = value_noise(strip.x[near], strip.y[near], 45.0, 63) * np.float32(0.7)
        canvas.level[near] = crowns * detail[near]


def _draw_valley(canvas: _Canvas, strip: Strip, river: Floats, fields: Fields) -> None:
    reach = np.float32(330) + strip.smooth(1400.0, 71) * np.float32(230)
    meadow = river < reach
    shade = (fields.key >> np.uint32(9)).astype(np.int32) % VARIANTS
    canvas.draw(meadow & ((fields.key & np.uint32(3)) != 0), Cover.GRASS, shade=shade)
    trees = (river < reach * np.float32(0.55)) & (strip.smooth(330.0, 72) > 0.38)
    canvas.draw(trees, Cover.BROADLEAF, shade=2)
    oxbow = (
        (np.abs(strip.smooth(1100.0, 73) - np.float32(0.3)) < 0.035) & (river < 230) & (river > 40)
    )
    hollow = strip.smooth(2100.0, 74) + strip.smooth(420.0, 75) * np.float32(0.12)
    lake, shore = hollow > np.float32(0.94), hollow > np.float32(0.9)
    canvas.draw(shore & (river > 0), Cover.BROADLEAF, shade=3)
    water = (river < 0) | oxbow | lake
    canvas.draw(water, Cover.WATER, shade=5)
    canvas.level[water] = 0


def _draw_villages(canvas: _Canvas, strip: Strip, detail: Floats) -> None:
    edge = strip.smooth(520.0, 81) * np.float32(150) + strip.smooth(150.0, 82) * np.float32(40)
    reach = 2600.0
    columns = _cells(strip.node_x, reach)
    rows = _cells(strip.node_y, reach)
    for column in columns:
        for row in rows:
            _draw_village(canvas, strip, edge, detail, _Village.at(column, row))


def _cells(values: Floats, reach: float) -> range:
    """Cells of the village grid that can show within a range of coordinates."""
    first = int(np.floor((float(values.min()) - reach) / _VILLAGE_M))
    return range(first, int(np.floor((float(values.max()) + reach) / _VILLAGE_M)) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Village:
    """Houses along streets around a place."""

    x: float
    y: float
    radius: float
    """Metres across the main street; along it half as much again."""
    turn: float
    """Direction of the main street."""

    @classmethod
    def at(cls, column: int, row: int) -> _Village:
        """Return the village of one cell of the village grid; it may have no size."""
        cells = np.array([column], np.int32), np.array([row], np.int32)
        dice = [float(unit_of(hash_of(*cells, 83 + use))[0]) for use in range(4)]
        radius = 0.0 if dice[0] < 0.1 else 850.0 if dice[0] > 0.93 else 150 + 250 * dice[0]
        return cls(
            x=(column + 0.5) * _VILLAGE_M + (dice[1] - 0.5) * 3000,
            y=(row + 0.5) * _VILLAGE_M + (dice[2] - 0.5) * 3000,
            radius=radius,
            turn=dice[3] * np.pi,
        )


def _draw_village(
    canvas: _Canvas, strip: Strip, edge: Floats, detail: Floats, village: _Village
) -> None:
    window = _window(strip, village)
    if window is None:
        return
    dx = strip.x[window] - np.float32(village.x)
    dy = strip.y[window] - np.float32(village.y)
    cosine, sine = np.float32(np.cos(village.turn)), np.float32(np.sin(village.turn))
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    inside = np.hypot(u / np.float32(1.5), v) + edge[window] < village.radius
    inside &= canvas.cover[window] != int(Cover.WATER)
    u, v = u[inside], v[inside]
    u += 25 * np.sin(v / 130)
    v += 25 * np.sin(u / 170)
    behind = np.minimum(np.abs(np.mod(u, 170) - 85), np.abs(np.mod(v, 115) - 57))
    lot = hash_of(np.floor(u / 24).astype(np.int32), np.floor(v / 24).astype(np.int32), 87)
    plot = hash_of(np.floor(u / 57).astype(np.int32), np.floor(v / 57).astype(np.int32), 88)
    # Far from the sample's region a plot is one thing throughout, which packs better.
    lot = np.where(detail[window][inside] > 0, lot, plot)
    dice = (lot >> np.uint32(3)) & np.uint32(63)
    cover = np.where(plot & np.uint32(7), int(Cover.GARDEN), int(Cover.BROADLEAF)).astype(np.int32)
    cover[(behind < 32) & (dice < 28)] = int(Cover.ROOF)
    cover[(behind < 32) & (dice == 28)] = int(Cover.YARD)
    cover[behind < 5.5] = int(Cover.STREET)
    shade = np.where(cover == int(Cover.ROOF), lot >> np.uint32(8), plot >> np.uint32(8))
    canvas.cover[window][inside] = cover
    canvas.shade[window][inside] = shade.astype(np.int32) % VARIANTS
    canvas.level[window][inside] = 0


def _window(strip: Strip, village: _Village) -> tuple[slice, slice] | None:
    """Rows and columns of a strip that a village can reach."""
    reach = 1.5 * village.radius + 250 + 10 * NODE_STEP
    near = np.abs(strip.node_x - village.x) < reach
    near &= np.abs(strip.node_y - village.y) < reach
    if village.radius == 0 or not near.any():
        return None
    rows = np.flatnonzero(near.any(axis=1)) * NODE_STEP
    cols = np.flatnonzero(near.any(axis=0)) * NODE_STEP
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _draw_highways(canvas: _Canvas, strip: Strip) -> None:
    x, y = strip.x, strip.y
    motorway = np.abs(y - (0.32 * x + 3600 * np.sin(x / 9000) - 900)) < 17
    railway = np.abs(x + 0.22 * y - 1600 * np.sin(y / 11000) + 4300) < 7
    canvas.draw(railway, Cover.TRACK, shade=20)
    canvas.draw(motorway, Cover.ROAD, shade=20)
    canvas.level[motorway | railway] = 0
