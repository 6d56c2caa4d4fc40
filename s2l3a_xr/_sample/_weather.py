"""What the sky left on a month: clouds, snow, holes, and the edges of the swaths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2l3a_xr._sample._noise import Floats, upsample, value_noise
from s2l3a_xr._sample._strip import NODE_STEP, Nodes
from s2l3a_xr._sample._tiles import NODATA, SampleTile

FLAG_NODATA, FLAG_CLOUD, FLAG_SNOW, FLAG_WATER, FLAG_LAND = range(5)

CLEAR, SHADOW, SNOW, HAZE, THIN, THICK, DENSE, HOLE = range(8)
"""What covers a pixel."""

Bytes = NDArray[np.uint8]
Shorts = NDArray[np.int16]

# How much of the sky is left as cloud: the threshold of a noise, 1 for none.
_CLOUDINESS = {3: 0.82, 4: 0.76, 5: 0.84, 6: 0.9, 7: 0.86, 8: 0.84, 9: 0.78, 10: 0.8}
_SNOW_MONTH = 3
_STEP = NODE_STEP // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """A cloud or hole that is to stand in the sample's region whatever the dice say."""

    month: int
    x: float
    """Metres east of the landscape's origin."""
    y: float
    """Metres north of it."""
    radius: float
    hole: bool = False


_SPOTS = (
    _Spot(month=4, x=-3600, y=2300, radius=650),
    _Spot(month=6, x=-4700, y=-1200, radius=260, hole=True),
    _Spot(month=9, x=-700, y=-2100, radius=700),
    _Spot(month=10, x=500, y=2500, radius=300, hole=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sky:
    """One month over the landscape of one tile, at 20 m."""

    cover: Bytes
    """CLEAR to HOLE."""
    weight: Shorts
    """The WGT layer: weight times 1000."""
    day: Shorts
    """The DTS layer: day of the year from 0."""


def sky_of(tile: SampleTile, month: int, nodes: Nodes) -> Sky:
    """Return clouds, snow and holes of one month.

    Clouds, snow and the holes of the ground are the same for all tiles; the edge of the
    swath is the tile's own.

    Parameters
    ----------
    tile : SampleTile
        Where.
    month : int
        When.
    nodes : Nodes
        Of the whole landscape of the tile.

    Returns
    -------
    Sky
        Layers of shape (1500, 1500).
    """
    x, y = nodes
    cloud = _cloud(x, y, month)
    hole = _hole(tile, x, y, month)
    thickness = upsample(cloud, _STEP)
    cover = np.zeros(thickness.shape, np.uint8)
    # The shadow falls 250 m to the north-west of its cloud.
    cover[upsample(_cloud(x + 180, y - 180, month), _STEP) > 0.02] = SHADOW
    if month == _SNOW_MONTH:
        cover[upsample(_snow(x, y), _STEP) > 0] = SNOW
    for kind, least in ((HAZE, 0.0), (THIN, 0.05), (THICK, 0.11), (DENSE, 0.2)):
        cover[thickness > least] = kind
    cover[upsample(hole, _STEP) > 0] = HOLE

    steps = np.rint(upsample(value_noise(x, y, 5200.0, 900 + month), _STEP) * 5)
    weight = (steps * 120 + 900).astype(np.int16)
    weight[np.isin(cover, (SHADOW, HAZE, THIN, THICK, DENSE))] = 0
    weight[cover == HOLE] = NODATA
    middle = 14 + int((month - 1) * 30.45)
    drift = upsample(value_noise(x, y, 3900.0, 950 + month), _STEP) * 6
    day = (np.rint(drift) * 2 + middle).astype(np.int16)
    day[cover == HOLE] = NODATA
    return Sky(cover=cover, weight=weight, day=day)


def _cloud(x: Floats, y: Floats, month: int) -> Floats:
    """Return how thick the cloud is at each node; 0 and below is none."""
    puffs = value_noise(x, y, 900.0, 660 + month) * np.float32(0.3)
    puffs += value_noise(x, y, 420.0, 700 + month) * np.float32(0.22)
    puffs += value_noise(x, y, 190.0, 720 + month) * np.float32(0.14)
    thickness = value_noise(x, y, 2300.0, 600 + month) + puffs
    thickness -= np.float32(_CLOUDINESS[month] + 0.14)
    for spot in _SPOTS:
        if spot.month == month and not spot.hole:
            thickness = np.maximum(thickness, _disc(spot, x, y) * np.float32(0.8) + puffs)
    return thickness


def _hole(tile: SampleTile, x: Floats, y: Floats, month: int) -> Floats:
    hole = _outside_swath(tile, x, y)
    rough = value_noise(x, y, 200.0, 800 + month) * np.float32(0.3)
    for spot in _SPOTS:
        if spot.month == month and spot.hole:
            hole = np.maximum(hole, _disc(spot, x, y) + rough)
    return hole


def _disc(spot: _Spot, x: Floats, y: Floats) -> Floats:
    disc: Floats = 1 - np.hypot(x - np.float32(spot.x), y - np.float32(spot.y)) / spot.radius
    return disc


def _snow(x: Floats, y: Floats) -> Floats:
    patches = value_noise(x, y, 3100.0, 650) + value_noise(x, y, 600.0, 651) * np.float32(0.3)
    east = np.minimum((x - 22000) / np.float32(30000), 0)
    snow: Floats = patches + east - np.float32(0.05)
    return snow


def _outside_swath(tile: SampleTile, x: Floats, y: Floats) -> Floats:
    """Positive where the tile alone has no data: a wedge where it overlaps the next."""
    if tile.name == "32UPC":
        return (x - 17000 - 0.2 * np.minimum(14420 - y, 15000)).astype(np.float32)
    if tile.name == "32UQC":
        return (12500 - 0.25 * (y + 3000) - x).astype(np.float32)
    return (x - 37500 - 0.2 * (y + 15000)).astype(np.float32)
