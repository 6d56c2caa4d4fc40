"""A site of noise for exports: pixels that do not pack, on whole blocks of one tile."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely

from s2l3a_xr._tiles import tile_named

AT, SIDE = 1024, 2048


def square(at, side):
    """Give a square of a tile's pixels as an area, whose first row and column is `at`."""
    tile = tile_named("32UPC")
    left, top = tile.left + 10 * at, tile.top - 10 * at
    box = shapely.box(left, top - 10 * side, left + 10 * side, top)
    return gpd.GeoSeries([box], crs=tile.crs)


AREA = square(AT, SIDE)


def lay_noise(root, lay_file, *, months=(5,), bands=("B4",)):
    """Lay a file for each month and band; give their pixels, shape (month, band, y, x)."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 4000, (len(months), len(bands), SIDE, SIDE), "int16")
    for i, month in enumerate(months):
        for j, band in enumerate(bands):
            lay_file(root, pixels[i, j], at=(AT, AT), month=month, band=band)
    return pixels


def tif_bytes(server):
    """Tell requests for files, and bytes sent."""
    asked = [entry for entry in server.log if entry.path.endswith(".tif")]
    return len(asked), sum(entry.bytes_sent for entry in asked)
