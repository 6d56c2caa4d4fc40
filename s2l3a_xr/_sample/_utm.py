"""UTM to UTM, so that tiles of two zones show the same ground.

Krueger's series to the fourth order, good to well below a millimetre within a zone; the
sample needs nothing else of a projection library.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_A, _F = 6378137.0, 1 / 298.257223563  # WGS 84
_N = _F / (2 - _F)
_E = float(np.sqrt(_F * (2 - _F)))
_RADIUS = _A / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_SCALE, _FALSE_EASTING = 0.9996, 500000.0
_ALPHA = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)
_BETA = (
    _N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96 - _N**4 / 360,
    _N**2 / 48 + _N**3 / 15 - 437 * _N**4 / 1440,
    17 * _N**3 / 480 - 37 * _N**4 / 840,
    4397 * _N**4 / 161280,
)

Floats = NDArray[np.float64]


class Points(NamedTuple):
    """Eastings and northings, or longitudes and latitudes, of any one shape."""

    x: Floats
    y: Floats


def utm_to_utm(points: Points, *, from_zone: int, to_zone: int) -> Points:
    """Carry points of one northern UTM zone into another.

    Parameters
    ----------
    points : Points
        Metres.
    from_zone, to_zone : int
        1 to 60.

    Returns
    -------
    Points
        Metres.
    """
    return _project(_unproject(points, from_zone), to_zone)


def utm_to_lonlat(points: Points, zone: int) -> Points:
    """Carry points of a northern UTM zone to degrees of longitude and latitude."""
    radians = _unproject(points, zone)
    return Points(np.degrees(radians.x), np.degrees(radians.y))


def _meridian(zone: int) -> float:
    return float(np.radians(6 * zone - 183))


def _unproject(points: Points, zone: int) -> Points:
    xi = points.y / (_SCALE * _RADIUS)
    eta = (points.x - _FALSE_EASTING) / (_SCALE * _RADIUS)
    xi_0, eta_0 = xi.copy(), eta.copy()
    for j, beta in enumerate(_BETA, start=1):
        xi_0 -= beta * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
        eta_0 -= beta * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
    longitude = _meridian(zone) + np.arctan2(np.sinh(eta_0), np.cos(xi_0))
    conformal = np.arcsin(np.sin(xi_0) / np.cosh(eta_0))
    # The isometric latitude has no closed inverse; four rounds reach the last digit.
    isometric = np.arctanh(np.sin(conformal))
    latitude = conformal
    for _ in range(4):
        latitude = np.arcsin(np.tanh(isometric + _E * np.arctanh(_E * np.sin(latitude))))
    return Points(longitude, latitude)


def _project(radians: Points, zone: int) -> Points:
    sine = np.sin(radians.y)
    t = np.sinh(np.arctanh(sine) - _E * np.arctanh(_E * sine))
    delta = radians.x - _meridian(zone)
    xi_0 = np.arctan2(t, np.cos(delta))
    eta_0 = np.arctanh(np.sin(delta) / np.sqrt(1 + t * t))
    xi, eta = xi_0.copy(), eta_0.copy()
    for j, alpha in enumerate(_ALPHA, start=1):
        xi += alpha * np.sin(2 * j * xi_0) * np.cosh(2 * j * eta_0)
        eta += alpha * np.cos(2 * j * xi_0) * np.sinh(2 * j * eta_0)
    return Points(_FALSE_EASTING + _SCALE * _RADIUS * eta, _SCALE * _RADIUS * xi)
