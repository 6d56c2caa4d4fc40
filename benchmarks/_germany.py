"""The whole archive of case H as listings only: 64 tiles, eight years, twelve months.

Nothing stands on disk: the server asks for the page of a folder and gets it computed.
"""

from __future__ import annotations

from functools import cache

from _listing import index_page

PREFIX = "/germany/S2_L3A_WASP/files/"
YEARS = tuple(range(2017, 2025))
_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
_SQUARES = {
    "31U": "GR GS GT",
    "32T": "LT MT NT PT QT",
    "32U": (
        "LA LB LC LD LE LU LV MA MB MC MD ME MF MG MU MV NA NB NC ND NE NF NU NV "
        "PA PB PC PD PE PF PU PV QA QB QC QD QE QU QV"
    ),
    "33T": "UN",
    "33U": "UA UP UQ UR US UT UU UV VA VP VQ VR VS VT VU VV",
}
TILES = tuple(zone + square for zone, squares in _SQUARES.items() for square in squares.split())
"""The tiles that DLR likely offers over Germany."""


def product_name(tile: str, year: int, month: int) -> str:
    """Name of a product, 2A before the second satellite flew."""
    platform = "SENTINEL2A" if (year, month) < (YEARS[0], 7) else "SENTINEL2X"
    return f"{platform}_{year}{month:02d}15-000000-000_L3A_T{tile}_C_V1-2"


def file_names(product: str) -> list[str]:
    """Names of the reflectance files of a product."""
    return [f"{product}_FRC_{band}.tif" for band in _BANDS]


@cache
def page(path: str) -> bytes | None:
    """HTML of a folder of the archive, None where there is no such folder."""
    parts = path.removeprefix(PREFIX).strip("/").split("/") if path != PREFIX else []
    if not path.startswith(PREFIX) or not path.endswith("/"):
        return None
    entries = _entries(parts)
    if not entries:
        return None
    return index_page(path, entries).encode()


def _entries(parts: list[str]) -> list[tuple[str, int | None]]:
    """Names and sizes in a folder; nothing where there is no such folder."""
    tiles = [tile for tile in TILES if [tile[:2], tile[2], tile[3:]][: len(parts)] == parts[:3]]
    if len(parts) < 3:
        children = {[tile[:2], tile[2], tile[3:]][len(parts)] for tile in tiles}
        return [(f"{child}/", None) for child in sorted(children)]
    if len(parts) == 3:
        return [(f"{year}/", None) for year in YEARS if tiles]
    if not tiles or parts[3] not in map(str, YEARS):
        return []
    products = [product_name(tiles[0], int(parts[3]), month) for month in range(1, 13)]
    if len(parts) == 4:
        return [(f"{product}/", None) for product in products]
    return _product_entries(parts[4], parts[5:]) if parts[4] in products else []


def _product_entries(product: str, below: list[str]) -> list[tuple[str, int | None]]:
    if not below:
        files = [(name, 200 << 20) for name in file_names(product)]
        return [("DATA/", None), ("MASKS/", None), *sorted(files)]
    if below == ["MASKS"]:
        kinds = ("DTS_R1", "DTS_R2", "FLG_R1", "FLG_R2", "WGT_R1", "WGT_R2")
        return [(f"{product}_{kind}.tif", 1 << 20) for kind in kinds]
    return []
