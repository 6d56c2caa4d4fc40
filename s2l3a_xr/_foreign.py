"""What a file that others may have written says, held against what can be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyproj
import shapely

from s2l3a_xr._cells import MISSING, STATUSES, Cell
from s2l3a_xr._errors import S2L3AError
from s2l3a_xr._grid import Grid
from s2l3a_xr._places import is_below
from s2l3a_xr._product import Product
from s2l3a_xr._selection import Month
from s2l3a_xr._tiles import Tile, tile_named

BROKEN = (
    ArithmeticError, AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError,
    S2L3AError, pyproj.exceptions.ProjError, shapely.errors.ShapelyError,
)  # fmt: skip
"""What taking a file's content for something else may raise."""

LARGEST_BYTES = 2**30
_LONGEST_URL = 4096
_LONGEST_SIDE_PX = 2**20
_SCHEMES = frozenset({"", "file", "http", "https", "s3", "gs", "gcs", "abfs", "az", "memory"})
_PACKED = frozenset({"zip", "tar"})
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")


def take_text(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    """Take a text.

    Parameters
    ----------
    value : object
        What stands there.

    Returns
    -------
    str
        Without control characters.

    Raises
    ------
    ValueError
        It is none.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_URL or not _TEXT.fullmatch(value):
        msg = f"{str(value)[:80]!r} is no text that can stand there"
        raise ValueError(msg)
    return value


def take_place(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    """Take an archive's address: places alone, no protocol that does more than read.

    Parameters
    ----------
    value : object
        What stands there.

    Returns
    -------
    str
        A URL or path.

    Raises
    ------
    ValueError
        It is none that a file may name.
    """
    url = take_text(value)
    packed, chained, place = url.partition("::")
    address = place if chained else url
    scheme = address.partition("://")[0] if "://" in address else ""
    is_packed = packed.partition("://")[0] in _PACKED and "::" not in place
    if chained and (not is_packed or scheme.startswith("http")):
        scheme = "chain"
    if scheme not in _SCHEMES or not url:
        msg = f"its archive {url!r} is no place that an inventory may name"
        raise ValueError(msg)
    return url


def take_number(value: Any, least: float, most: float) -> float:  # noqa: ANN401 - of a foreign file
    """Take a number.

    Parameters
    ----------
    value : object
        What stands there.
    least, most : float
        Between which it must be.

    Returns
    -------
    float
        The same.

    Raises
    ------
    ValueError
        It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        msg = f"{value!r} is no number from {least} to {most}"
        raise ValueError(msg)
    return value


def take_month(value: Any) -> Month:  # noqa: ANN401 - of a foreign file
    """Take a month.

    Parameters
    ----------
    value : object
        ``"2021-05"``.

    Returns
    -------
    Month
        Year and month.

    Raises
    ------
    ValueError
        It is none.
    """
    found = _MONTH.fullmatch(take_text(value))
    if found is None:
        msg = f"{value!r} is no month"
        raise ValueError(msg)
    return int(found[1]), int(found[2])


def take_grid(value: Mapping[str, Any], finest: float = 1) -> Grid:
    """Take a lattice.

    Parameters
    ----------
    value : mapping
        The fields of a `Grid`.
    finest : float, default 1
        Least pixel size.

    Returns
    -------
    Grid
        With a CRS that there is, and sides that can be.

    Raises
    ------
    ValueError
        It is none.
    """
    far = 1e8
    sides = {name: take_number(value[name], 1, _LONGEST_SIDE_PX) for name in ("width", "height")}
    crs = take_text(value["crs"])
    pyproj.CRS(crs)
    return Grid(
        crs=crs,
        left=take_number(value["left"], -far, far),
        top=take_number(value["top"], -far, far),
        resolution=take_number(value["resolution"], finest, far),
        **{name: int(side) for name, side in sides.items()},
    )


def take_tile(name: Any) -> Tile:  # noqa: ANN401 - of a foreign file
    """Take a tile's name.

    Parameters
    ----------
    name : object
        Such as ``32UPC``.

    Returns
    -------
    Tile
        Of that name.

    Raises
    ------
    ValueError
        There is none.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\d{2}[A-Z]{3}", name, re.ASCII):
        msg = f"{name!r} is no tile"
        raise ValueError(msg)
    return tile_named(name)


def take_cell(row: Mapping[str, Any], count: int, archive: str, same: dict[object, Any]) -> Cell:
    """Take a tile and month.

    Parameters
    ----------
    row : mapping
        Its fields.
    count : int
        Of bands.
    archive : str
        Where the archive's files begin.
    same : dict
        Equal tuples are kept once, here.

    Returns
    -------
    Cell
        Whose product and files fit it.

    Raises
    ------
    ValueError
        They don't, or a file lies elsewhere than on https or in the archive.
    """
    tile, month = take_tile(row["tile"]).name, _MONTH.fullmatch(take_text(row["month"]))
    status, sizes, urls = tuple(row["status"]), tuple(row["size"]), tuple(row["url"])
    if month is None or {*map(len, (status, sizes, urls))} != {count}:
        msg = f"a row of {tile} has no month, or not one entry for each band"
        raise ValueError(msg)
    for value in set(sizes) - {None}:
        take_number(value, 0, 2**53)
    for url in set(urls) - {""}:
        if not take_text(url).startswith("https://") and not is_below(archive, url):
            msg = f"its file {url[:200]!r} lies neither on https nor in its archive"
            raise ValueError(msg)
    product = None if row["product"] is None else Product.parse(take_text(row["product"]))
    when = int(month[1]), int(month[2])
    fits = product is None or (product.tile, (product.year, product.month)) == (tile, when)
    lacks_all = {*status} <= {MISSING}
    if not {*status} <= {*STATUSES} or not fits or (product is None) != (row["product"] is None):
        msg = f"a row of {tile} names {row['product']!r} with {'/'.join(map(str, status))[:80]}"
        raise ValueError(msg)
    if product is None and not lacks_all:
        msg = f"a row of {tile} has files of no product"
        raise ValueError(msg)
    keep = same.setdefault
    return Cell(
        tile=tile,
        month=keep(when, when),
        product=product,
        status=keep(status, status),
        sizes=keep(sizes, sizes),
        urls=keep(urls, urls),
    )
