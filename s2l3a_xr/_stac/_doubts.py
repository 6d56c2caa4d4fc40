"""What an item says of itself, held against the file that it links to."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import shapely
from shapely.errors import ShapelyError

from s2l3a_xr._errors import AoiError
from s2l3a_xr._product import Product
from s2l3a_xr._tiles import footprint, tile_named

_NEAR_DAYS = 62
"""So far the days of a mosaic's scenes may lie from the day in its name."""
_BOX_LENGTHS = frozenset({4, 6})
_WHEN = ("datetime", "start_datetime", "end_datetime")


def doubt_about(item: Mapping[Any, Any], product: Product) -> str:
    """Say what of an item does not fit the product that its file's name tells of.

    Parameters
    ----------
    item : mapping
        From JSON; anything.
    product : Product
        As the file's name says.

    Returns
    -------
    str
        Empty where all fits, or where the item does not say.
    """
    properties = item.get("properties")
    return (
        _doubt_about_time(properties if isinstance(properties, Mapping) else {}, product)
        or _doubt_about_box(item.get("bbox"), product)
        or _doubt_about_geometry(item.get("geometry"), product)
    )


def _doubt_about_time(properties: Mapping[Any, Any], product: Product) -> str:
    day = dt.datetime(product.year, product.month, product.day, tzinfo=dt.UTC)
    for name in _WHEN:
        said = properties.get(name)
        if said is None:
            continue
        when = _moment(said)
        if when is None:
            return f"its {name} {str(said)[:80]!r} is no time"
        if abs(when - day) > dt.timedelta(days=_NEAR_DAYS):
            return f"its {name} {str(said)[:80]!r} is far from {day:%Y-%m}, the month of its files"
    return ""


def _moment(said: object) -> dt.datetime | None:
    try:
        when = dt.datetime.fromisoformat(str(said))
        return when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _doubt_about_box(bbox: object, product: Product) -> str:
    if bbox is None or bbox in ([], ()):
        return ""
    numbers = list(bbox) if isinstance(bbox, list | tuple) else []
    if len(numbers) not in _BOX_LENGTHS or not all(map(_is_number, numbers)):
        return f"its bbox {str(bbox)[:80]} is none"
    west, south = numbers[:2]
    east, north = numbers[len(numbers) // 2 :][:2]
    return _doubt_about_place(shapely.box(west, south, east, north), product, "bbox")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _doubt_about_geometry(geometry: object, product: Product) -> str:
    if geometry is None:
        return ""
    try:
        shape = shapely.geometry.shape(geometry)
    except (ShapelyError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as exc:
        return f"its geometry is none ({str(exc)[:80]})"
    if shape.is_empty or not all(map(math.isfinite, shapely.get_coordinates(shape).ravel())):
        return "its geometry is empty, or has coordinates that are not finite"
    return _doubt_about_place(shapely.box(*shape.bounds), product, "geometry")


def _doubt_about_place(box: shapely.Polygon, product: Product, name: str) -> str:
    tile = _box_of(product.tile)
    if tile is None or box.intersects(tile):
        return ""
    bounds = ", ".join(f"{bound:g}" for bound in box.bounds)
    return f"its {name} ({bounds}) does not reach {product.tile}, the tile of its files"


@lru_cache(maxsize=4096)
def _box_of(name: str) -> shapely.Polygon | None:
    try:
        return footprint(tile_named(name)).envelope
    except AoiError:  # nobody will ask for it
        return None
