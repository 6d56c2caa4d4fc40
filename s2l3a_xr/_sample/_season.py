"""What grows on the ground and what a satellite sees of it, month by month.

The reflectances are typical values chosen for the look of the picture; none is taken
from any image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
VARIANTS = 32
"""Every cover comes in so many shades, days ahead or behind and vigours."""
LEVELS = 8
"""Steps of the texture within a parcel."""
QUANTUM = 4
"""All values are multiples of it, which leaves room to mark the tile."""

_SOIL = (500, 720, 890, 1050, 1190, 1310, 1450, 1580, 2250, 1950)
_STUBBLE = (600, 930, 1190, 1560, 1750, 1880, 2100, 2250, 2900, 2150)
_STRAW = (690, 1120, 1560, 2000, 2300, 2480, 2750, 2900, 3200, 2050)
_CANOPY = (190, 430, 190, 680, 2750, 3800, 4200, 4400, 1600, 680)
_FLOWER = (400, 1480, 1330, 1900, 3000, 3500, 3900, 4100, 1900, 1050)


class Cover(IntEnum):
    """Kinds of ground."""

    WHEAT = 0
    BARLEY = 1
    RAPE = 2
    RYE = 3
    MAIZE = 4
    BEET = 5
    POTATO = 6
    SPRING_BARLEY = 7
    GRASS = 8
    ALFALFA = 9
    FALLOW = 10
    BROADLEAF = 11
    CONIFER = 12
    HEDGE = 13
    WATER = 14
    ROOF = 15
    STREET = 16
    GARDEN = 17
    ROAD = 18
    TRACK = 19
    YARD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crop:
    """One season of a field: how green, how ripe, in flower when, gone when."""

    green: tuple[tuple[int, float], ...]
    """Day of year and share of ground under green leaves."""
    ripe: tuple[tuple[int, float], ...] = ((1, 0.0),)
    """Day of year and share of dry leaves and straw."""
    harvest: int = 400
    """Mean day of harvest."""
    flower: tuple[int, int, float] = (0, 1, 0.0)
    """Middle, half width in days, and strength."""
    catch_crop: bool = False
    """Whether half of the fields are sown again soon after harvest."""
    canopy: float = 1.0
    """Brightness of the green parts."""
    blue: float = 1.0
    """Brightness of the visible part of the green, apart from the rest."""


_CROPS = {
    Cover.WHEAT: _Crop(
        green=((1, 0.2), (74, 0.38), (105, 0.72), (135, 0.95), (166, 0.9), (185, 0.4), (200, 0.0)),
        ripe=((155, 0.0), (175, 0.25), (196, 0.93)),
        harvest=212,
    ),
    Cover.BARLEY: _Crop(
        green=((1, 0.3), (74, 0.5), (105, 0.85), (135, 0.95), (155, 0.6), (172, 0.05)),
        ripe=((140, 0.0), (155, 0.35), (172, 0.9)),
        harvest=188,
        catch_crop=True,
        canopy=1.06,
    ),
    Cover.RAPE: _Crop(
        green=((1, 0.35), (74, 0.55), (105, 0.88), (135, 0.9), (166, 0.85), (185, 0.4), (200, 0.1)),
        ripe=((165, 0.0), (190, 0.5), (205, 0.75)),
        harvest=205,
        flower=(130, 24, 0.9),
        catch_crop=True,
        canopy=1.05,
    ),
    Cover.RYE: _Crop(
        green=((1, 0.35), (74, 0.55), (105, 0.85), (135, 0.9), (166, 0.7), (190, 0.1)),
        ripe=((150, 0.0), (170, 0.35), (195, 0.95)),
        harvest=210,
        canopy=0.92,
        blue=1.15,
    ),
    Cover.MAIZE: _Crop(
        green=((120, 0.0), (140, 0.05), (166, 0.4), (190, 0.88), (227, 0.95), (258, 0.8),
               (275, 0.4)),
        ripe=((235, 0.0), (258, 0.12), (285, 0.5)),
        harvest=272,
        canopy=0.95,
    ),
    Cover.BEET: _Crop(
        green=((105, 0.0), (135, 0.12), (166, 0.65), (190, 0.95), (258, 0.93), (290, 0.85)),
        harvest=285,
        canopy=1.18,
        blue=1.1,
    ),
    Cover.POTATO: _Crop(
        green=((120, 0.0), (140, 0.1), (166, 0.75), (200, 0.9), (225, 0.6), (245, 0.15)),
        ripe=((215, 0.0), (240, 0.35)),
        harvest=255,
        canopy=1.05,
    ),
    Cover.SPRING_BARLEY: _Crop(
        green=((85, 0.0), (105, 0.18), (135, 0.8), (160, 0.85), (185, 0.2), (195, 0.0)),
        ripe=((160, 0.0), (190, 0.85)),
        harvest=207,
    ),
    Cover.GRASS: _Crop(
        green=((1, 0.4), (74, 0.5), (105, 0.72), (135, 0.85), (166, 0.68), (227, 0.6), (288, 0.62)),
        ripe=((1, 0.35), (74, 0.35), (105, 0.15), (166, 0.22), (227, 0.3), (288, 0.2)),
        canopy=0.88,
        blue=1.3,
    ),
    Cover.ALFALFA: _Crop(
        green=((1, 0.4), (74, 0.55), (105, 0.85), (135, 0.95), (150, 0.5), (172, 0.9), (200, 0.6),
               (227, 0.9), (258, 0.75), (288, 0.8)),
        canopy=1.1,
    ),
    Cover.FALLOW: _Crop(
        green=((1, 0.25), (105, 0.4), (135, 0.6), (166, 0.5), (227, 0.35), (288, 0.35)),
        ripe=((1, 0.45), (135, 0.2), (196, 0.45), (288, 0.4)),
        canopy=0.75,
        blue=1.4,
    ),
}  # fmt: skip

_PLAIN = {
    Cover.WATER: (360, 400, 270, 200, 150, 130, 110, 100, 60, 40),
    Cover.ROOF: (720, 860, 1120, 1280, 1450, 1560, 1700, 1800, 2150, 1900),
    Cover.STREET: (780, 880, 960, 1120, 1180, 1230, 1300, 1350, 1600, 1500),
    Cover.ROAD: (820, 930, 1020, 1120, 1300, 1400, 1480, 1550, 1750, 1600),
    Cover.TRACK: (720, 950, 1180, 1400, 1700, 1850, 2000, 2100, 2600, 2150),
    Cover.YARD: (1500, 1620, 1750, 1820, 1900, 1950, 2050, 2100, 2300, 2200),
}

_BROADLEAF_SUMMER = (170, 330, 180, 520, 2150, 2850, 3150, 3300, 1450, 600)
_BROADLEAF_WINTER = (330, 430, 500, 720, 1050, 1180, 1380, 1500, 1850, 1150)
_BROADLEAF_AUTUMN = (250, 480, 560, 980, 1900, 2250, 2500, 2650, 1750, 850)
_CONIFER = (140, 230, 160, 360, 1150, 1420, 1600, 1700, 750, 360)
_GARDEN_SUMMER = (420, 640, 520, 900, 1950, 2400, 2600, 2750, 1900, 1200)
_GARDEN_WINTER = (520, 680, 720, 980, 1450, 1650, 1800, 1900, 2100, 1500)


def reflectances(month: int) -> NDArray[np.int16]:
    """Reflectance of every cover, shade and texture step in the middle of a month.

    Parameters
    ----------
    month : int
        1 to 12.

    Returns
    -------
    ndarray of int16, shape (bands, covers, variants, levels)
        Reflectance times 10000, multiples of `QUANTUM`, never below it.
    """
    day = 15 + int((month - 1) * 30.45)
    table = np.stack([_spectra(cover, day) for cover in Cover])
    stepped = np.rint(table / QUANTUM).astype(np.int16) * QUANTUM
    clipped: NDArray[np.int16] = np.clip(stepped, QUANTUM, 12000).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(clipped)


def _spectra(cover: Cover, day: int) -> Floats:
    """Reflectance of one cover, shape (variants, levels, bands)."""
    shade = _dice(cover, 1)[:, None, None]
    level = np.linspace(-1, 1, LEVELS)[None, :, None]
    if cover in _CROPS:
        return _field(_CROPS[cover], cover, day)
    if cover in _PLAIN:
        return _of(_PLAIN[cover]) * (1 + 0.13 * shade + 0.1 * level)
    summer, winter = _leaf_share(day + 6 * _dice(cover, 2)[:, None, None])
    if cover is Cover.CONIFER:
        return _of(_CONIFER) * (1 + 0.12 * shade + 0.16 * level) * (0.92 + 0.12 * summer)
    if cover is Cover.GARDEN:
        mixed = _of(_GARDEN_WINTER) + (_of(_GARDEN_SUMMER) - _of(_GARDEN_WINTER)) * summer
        return mixed * (1 + 0.15 * shade + 0.16 * level)
    autumn = np.clip(1 - summer - winter, 0, 1)
    spectrum = (
        _of(_BROADLEAF_SUMMER) * summer
        + _of(_BROADLEAF_WINTER) * winter
        + _of(_BROADLEAF_AUTUMN) * autumn
    )
    return spectrum * (1 + 0.1 * shade + 0.13 * level)


def _field(crop: _Crop, cover: Cover, day: int) -> Floats:
    shift, vigour, soil_shade = _dice(cover, 3), _dice(cover, 4), _dice(cover, 5)
    local = day + 7 * shift
    green = np.interp(local, *_nodes(crop.green)) * (1 + 0.1 * vigour)
    ripe = np.interp(local, *_nodes(crop.ripe))
    middle, width, strength = crop.flower
    flower = strength * np.exp(-(((local - middle) / width) ** 4))
    since = day - (crop.harvest + 11 * _dice(cover, 6))
    gone = since > 0
    stubble = np.interp(since, (0, 12, 30, 45), (0.95, 0.8, 0.45, 0.1))
    sown = np.full(VARIANTS, np.interp(day, (270, 290, 310), (0.0, 0.18, 0.35)))
    if crop.catch_crop:
        again = np.interp(since, (15, 40, 70), (0.05, 0.35, 0.75))
        sown = np.where(
            np.arange(VARIANTS) % 2 == 0, again, np.interp(since, (20, 50), (0.05, 0.2))
        )
    green = np.where(gone, sown, green)
    ripe = np.where(gone, 0.0, ripe)
    flower = np.where(gone, 0.0, flower)[:, None, None]
    stubble = np.where(gone, stubble * (1 - sown), 0.0)[:, None, None]

    level = np.linspace(-1, 1, LEVELS)[None, :, None]
    green_share = np.clip(green[:, None, None] * (1 + 0.13 * level), 0, 0.99)
    ripe_share = np.clip(ripe[:, None, None], 0, 1) * (1 - green_share)
    stubble_share = stubble * (1 - green_share - ripe_share)
    bare = 1 - green_share - ripe_share - stubble_share
    soil = _of(_SOIL) * (1 + 0.24 * soil_shade[:, None, None] - 0.13 * level)
    leaf = _of(_CANOPY) * crop.canopy
    leaf = leaf * np.where(np.arange(len(BANDS)) < 3, crop.blue, 1.0)
    leaf = leaf * (1 + 0.07 * vigour[:, None, None])
    leaf = leaf * (1 - flower) + _of(_FLOWER) * flower
    straw = _of(_STRAW) * (1 + 0.1 * vigour[:, None, None] + 0.05 * level)
    cut = _of(_STUBBLE) * (1 + 0.1 * vigour[:, None, None] + 0.04 * level)
    return bare * soil + green_share * leaf + ripe_share * straw + stubble_share * cut


def _leaf_share(day: Floats) -> tuple[Floats, Floats]:
    """Shares of summer leaves and of bare twigs on broadleaved trees."""
    summer = np.interp(day, (98, 128, 262, 292), (0.0, 1.0, 1.0, 0.1))
    winter = np.interp(day, (98, 128, 290, 325), (1.0, 0.0, 0.0, 1.0))
    return summer, winter


def _of(spectrum: tuple[int, ...]) -> Floats:
    return np.array(spectrum, np.float64)


def _nodes(curve: tuple[tuple[int, float], ...]) -> tuple[Floats, Floats]:
    days, values = np.array(curve, np.float64).T
    return days, values


def _dice(cover: Cover, use: int) -> Floats:
    """One number from -1 to 1 for every shade of a cover."""
    generator = np.random.Generator(np.random.PCG64(1000 * int(cover) + use))
    return generator.uniform(-1, 1, VARIANTS)
