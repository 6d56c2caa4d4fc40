"""Where the pixels of a tile's landscape lie on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from s2l3a_xr._sample._noise import Floats, upsample, value_noise
from s2l3a_xr._sample._utm import Points, utm_to_utm

ORIGIN = (690000.0, 5760000.0)
"""Place in zone 32 that all coordinates count from, so that 32-bit floats suffice."""
DETAIL_AT = (-2000.0, 1000.0)
"""Middle of the sample's region, from `ORIGIN`."""
NODE_STEP = 8
"""Smooth fields are computed at every eighth pixel."""


class Nodes(NamedTuple):
    """Metres east and north of `ORIGIN` at every `NODE_STEP`-th pixel, the end included."""

    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Coordinates of some rows of a tile's landscape."""

    x: Floats
    """Metres east of `ORIGIN`, zone 32, shape (rows, cols)."""
    y: Floats
    """Metres north of it."""
    node_x: Floats
    """The same at the nodes, shape (rows / NODE_STEP + 1, cols / NODE_STEP + 1)."""
    node_y: Floats

    def smooth(self, wavelength_m: float, seed: int) -> Floats:
        """Noise of a long wavelength, computed at the nodes."""
        return upsample(value_noise(self.node_x, self.node_y, wavelength_m, seed), NODE_STEP)


def strip_of(*, left: float, top: float, rows: int, cols: int, zone: int) -> Strip:
    """Coordinates of the 10 m pixels of a rectangle in any UTM zone.

    Parameters
    ----------
    left, top : float
        Outer corner, metres in `zone`.
    rows, cols : int
        Multiples of `NODE_STEP`.
    zone : int
        UTM zone of the rectangle.

    Returns
    -------
    Strip
        In zone 32.
    """
    nodes = nodes_of(left=left, top=top, rows=rows, cols=cols, zone=zone)
    return Strip(
        x=upsample(nodes.x, NODE_STEP),
        y=upsample(nodes.y, NODE_STEP),
        node_x=nodes.x,
        node_y=nodes.y,
    )


def nodes_of(*, left: float, top: float, rows: int, cols: int, zone: int) -> Nodes:
    """Coordinates of the nodes alone; the parameters are those of `strip_of`."""
    east = left + 5 + 10 * np.arange(0, cols + 1, NODE_STEP, dtype=np.float64)
    north = top - 5 - 10 * np.arange(0, rows + 1, NODE_STEP, dtype=np.float64)
    grid = Points(*np.meshgrid(east, north))
    if zone != 32:
        grid = utm_to_utm(grid, from_zone=zone, to_zone=32)
    return Nodes((grid.x - ORIGIN[0]).astype(np.float32), (grid.y - ORIGIN[1]).astype(np.float32))


def detail_of(strip: Strip) -> Floats:
    """1 in the sample's region, less and less around it: texture is what costs disk."""
    away = np.hypot(
        strip.node_x - np.float32(DETAIL_AT[0]), strip.node_y - np.float32(DETAIL_AT[1])
    )
    return upsample(np.clip((8800 - away) / np.float32(1500), 0, 1).astype(np.float32), NODE_STEP)
