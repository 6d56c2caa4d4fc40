"""The tiles, months and products that the sample archive holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

YEAR: Final = 2021
MONTHS: Final = (3, 4, 5, 6, 7, 8, 9, 10)
MISSING_MONTH: Final = 7
"""The month that both tiles of zone 32 lack; the tile of zone 33 has it."""
SIDE: Final = 3000
"""Rows and columns of the landscape at 10 m: 30 km."""
TILE_SIDE: Final = 10980
"""Rows and columns of a whole tile at 10 m."""
NODATA: Final = -10000

R1_BANDS: Final = ("B2", "B3", "B4", "B8")
R2_BANDS: Final = ("B5", "B6", "B7", "B8A", "B11", "B12")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTile:
    """One tile of the sample archive."""

    name: str
    """MGRS name, such as 32UPC."""
    left: int
    """Easting of the outer corner, metres."""
    top: int
    """Northing of the outer corner, metres."""
    row: int
    """First row of the landscape, at 10 m."""
    col: int
    """First column of the landscape, at 10 m."""
    mark: int
    """Every valid reflectance of the tile is this modulo 4."""
    missing: int
    """The month that it lacks."""

    @property
    def zone(self) -> int:
        """UTM zone."""
        return int(self.name[:2])

    @property
    def epsg(self) -> int:
        """EPSG code of the zone."""
        return 32600 + self.zone

    @property
    def folder(self) -> PurePosixPath:
        """Folder of the tile under the base of the archive."""
        return PurePosixPath(self.name[:2], self.name[2], self.name[3:])

    @property
    def months(self) -> tuple[int, ...]:
        """Months that it has."""
        return tuple(month for month in MONTHS if month != self.missing)

    def product(self, month: int) -> str:
        """Return the name of one month's product."""
        platform = _PLATFORMS.get((self.name, month), "2X")
        return f"SENTINEL{platform}_{YEAR}{month:02d}15-000000-000_L3A_T{self.name}_C_V1-2"


_PLATFORMS = {("32UPC", 5): "2A", ("32UPC", 8): "2B"}

# The landscapes of the first two meet in the 9.8 km that the tiles share. That of the
# third begins, in zone 32, 711.1 km (north) to 713.6 km (south) east: behind the first,
# and over 17 km of the second.
SAMPLE_TILES: Final = (
    SampleTile(
        name="32UPC", left=600000, top=5800020, row=2560, col=7980, mark=0, missing=MISSING_MONTH
    ),
    SampleTile(
        name="32UQC", left=699960, top=5800020, row=2560, col=0, mark=1, missing=MISSING_MONTH
    ),
    SampleTile(name="33UUT", left=300000, top=5800020, row=2560, col=0, mark=2, missing=9),
)
