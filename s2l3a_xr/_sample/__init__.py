"""A generated archive in DLR's layout, and a loopback server for it.

The project ships no foreign data and its tests reach no foreign server; what they read is
built here. Only the command line and the tests import this package.
"""

from __future__ import annotations

from typing import Any, Final

from s2l3a_xr._sample._answers import ByteRange
from s2l3a_xr._sample._archive import build_sample_archive
from s2l3a_xr._sample._faults import Fault
from s2l3a_xr._sample._layout import CogSpec, write_cog
from s2l3a_xr._sample._log import LoggedRequest
from s2l3a_xr._sample._server import SampleServer, serve_forever
from s2l3a_xr._sample._stac import StacSite
from s2l3a_xr._sample._tiles import (
    MISSING_MONTH,
    MONTHS,
    SAMPLE_TILES,
    YEAR,
    SampleTile,
)

__all__ = [
    "SAMPLE_AOI",
    "SAMPLE_MISSING_MONTH",
    "SAMPLE_MONTHS",
    "SAMPLE_TILES",
    "SAMPLE_YEAR",
    "ByteRange",
    "CogSpec",
    "Fault",
    "LoggedRequest",
    "SampleServer",
    "SampleTile",
    "StacSite",
    "build_sample_archive",
    "serve_forever",
    "write_cog",
]

SAMPLE_YEAR: Final = YEAR
SAMPLE_MONTHS: Final = MONTHS
"""The months that at least one tile has."""
SAMPLE_MISSING_MONTH: Final = MISSING_MONTH
"""The month of them that 32UPC and 32UQC lack."""

SAMPLE_AOI: Final[dict[str, Any]] = {
    "type": "Polygon",
    "coordinates": [
        [
            [11.66783, 51.99551],
            [11.69135, 52.01117],
            [11.72597, 52.00542],
            [11.75849, 52.01276],
            [11.79596, 52.00603],
            [11.81297, 51.98674],
            [11.80312, 51.96898],
            [11.81111, 51.94541],
            [11.78652, 51.92441],
            [11.74908, 51.93069],
            [11.71661, 51.92290],
            [11.67488, 51.93060],
            [11.66724, 51.95049],
            [11.66651, 51.96548],
            [11.66176, 51.97755],
            [11.66783, 51.99551],
        ]
    ],
}
"""A region of 84 square kilometres of farmland in 32UPC, longitude and latitude."""
