"""Statistics of many features for some months of a request: one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from s2l3a_xr._aoi import Aoi
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import GoneError, ReadError
from s2l3a_xr._flags import decode_days
from s2l3a_xr._footprint import Footprint, Method, find_footprint
from s2l3a_xr._gather import Gathering
from s2l3a_xr._labels import dates_of
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._product import BANDS, NODATA
from s2l3a_xr._request import Request
from s2l3a_xr._source import Source
from s2l3a_xr._statistics import summarise
from s2l3a_xr._tiles import Tile
from s2l3a_xr._transport import Session

_SAME_SHARE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Features and months of one task.

    Parameters
    ----------
    shapes : tuple of bytes
        Geometries as WKB.
    crs : str
        Their CRS.
    times : tuple of int
        Positions of months in the request.
    method : {"centre", "exact"}
        Which pixels a polygon holds.
    stats : tuple of str
        Names of statistics.
    is_shared : bool
        Whether other tasks may want the same blocks.
    """

    shapes: tuple[bytes, ...]
    crs: str
    times: tuple[int, ...]
    method: Method
    stats: tuple[str, ...]
    is_shared: bool

    @property
    def aoi(self) -> Aoi:
        """The geometries, points among them."""
        return Aoi(features=tuple(shapely.from_wkb(self.shapes)), crs=self.crs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Home:
    """Which zone each feature is measured in.

    Parameters
    ----------
    zones : tuple of str
        CRSs of the zones, ascending.
    zone : ndarray of int, shape (features,)
        Position of the feature's zone.
    held : ndarray of float64, shape (features,)
        Share of the feature (0 to 1) on the tiles of its zone.
    """

    zones: tuple[str, ...]
    zone: np.ndarray
    held: np.ndarray


def find_homes(aoi: Aoi, tiles: Sequence[Tile]) -> Home:
    """Choose for each feature the zone whose tiles hold most of it, the first of equals.

    Parameters
    ----------
    aoi : Aoi
        Features; points are held or not.
    tiles : sequence of Tile
        What there is.

    Returns
    -------
    Home
        The choice.
    """
    zones = tuple(sorted({tile.crs for tile in tiles}))
    shares = np.array([_held(aoi.to_crs(zone).features, zone, tiles) for zone in zones])
    zone = np.argmax(shares >= shares.max(axis=0) - _SAME_SHARE, axis=0)
    return Home(zones=zones, zone=zone, held=shares[zone, np.arange(len(zone))])


def _held(shapes: Sequence[BaseGeometry], zone: str, tiles: Sequence[Tile]) -> np.ndarray:
    ground = shapely.union_all([tile.box for tile in tiles if tile.crs == zone])
    shapely.prepare(ground)
    features = np.array(shapes, dtype=object)
    held: np.ndarray = shapely.covers(ground, features).astype(np.float64)
    others = np.flatnonzero(held == 0)
    there = shapely.area(shapely.intersection(features[others], ground))
    areas = shapely.area(features[others])
    held[others] = np.divide(there, areas, out=np.zeros_like(there), where=areas > 0)
    return held


def read_part(array: L3AArray, part: Part) -> np.ndarray:
    """Read the pixels of features and summarise them.

    Parameters
    ----------
    array : L3AArray
        The request, and whom to tell of failures.
    part : Part
        Features and months.

    Returns
    -------
    ndarray of float64, shape (statistics, time, band, feature)
        NaN where a feature has no valid pixel; its count and sum are 0.

    Raises
    ------
    ReadError
        A file can't be read.
    """
    return array.ask(lambda session: _read(session, array.request, part))


async def _read(
    session: Session, request: Request, part: Part
) -> tuple[np.ndarray, list[ReadError]]:
    aoi = part.aoi
    bands = range(len(request.bands))
    result = np.full((len(part.stats), len(part.times), len(bands), len(aoi.features)), np.nan)
    for i, name in enumerate(part.stats):
        if name in {"count", "sum"}:
            result[i] = 0.0
    footprints: dict[tuple[object, ...], tuple[np.ndarray, Footprint]] = {}
    jobs = []
    dates = dates_of(request)
    for i, time in enumerate(part.times):
        for j in bands:
            when = dates[time] if BANDS[request.bands[j]].kind == "date" else None
            sources = request.sources(time, j)
            flags = _flags(request, time, j)
            for zone in sorted({source.tile.crs for source in sources}):
                own = [n for n, source in enumerate(sources) if source.tile.crs == zone]
                first = sources[own[0]]
                key = (tuple(s.tile for s in sources), zone, first.resolution_m)
                if key not in footprints:
                    footprints[key] = await in_thread(_footprint, aoi, sources, first, part.method)
                which, footprint = footprints[key]
                gathering = Gathering(
                    sources=tuple(sources[n] for n in own),
                    footprint=footprint,
                    requests=1,
                    keep_going=not request.fail_on_error,
                    is_shared=part.is_shared,
                    flags=tuple(flags[n] for n in own) if flags else (),
                    hidden=request.hidden,
                )
                jobs.append((gathering, result[:, i, j], which, when))
    requests = max(1, session.transport.max_connections // max(1, len(jobs)))

    async def measure(
        gathering: Gathering, output: np.ndarray, which: np.ndarray, when: np.datetime64 | None
    ) -> list[ReadError]:
        pixels, errors = await replace(gathering, requests=requests).read(session)
        output[:, which] = await in_thread(
            _summarise, pixels, gathering.footprint, len(which), part.stats, when
        )
        return errors

    told = await gather(measure(*job) for job in jobs if len(job[2]))
    errors = [error for found in told for error in found]
    once = {error.url if isinstance(error, GoneError) else id(error): error for error in errors}
    return result, list(once.values())


def _flags(request: Request, time: int, band: int) -> list[Source]:
    """Name FLG in the band's own pixels: files of 10 and of 20 m may be wanted together."""
    native_m = BANDS[request.bands[band]].resolution_m
    return replace(request, native_m=native_m).flags(time, band)


def _footprint(
    aoi: Aoi, sources: Sequence[Source], first: Source, method: Method
) -> tuple[np.ndarray, Footprint]:
    """Find the pixels of the features that are measured in one zone."""
    homes = find_homes(aoi, [source.tile for source in sources])
    which = np.flatnonzero(homes.zone == homes.zones.index(first.tile.crs))
    shapes = aoi.to_crs(first.tile.crs).features
    here = [shapes[i] for i in which]
    return which, find_footprint(here, first.tile, first.resolution_m, method)


def _summarise(
    pixels: np.ndarray,
    footprint: Footprint,
    number: int,
    stats: Sequence[str],
    when: np.datetime64 | None,
) -> np.ndarray:
    """Summarise numbers, or with ``when`` days of a year, counted on from that date's year."""
    valid = pixels != NODATA
    weights = None if footprint.weights is None else footprint.weights[valid]
    values = pixels[valid]
    if when is not None:  # the mean of 30 December and 4 January is no day in July
        values = (decode_days(values, when) - when.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    return summarise(values.astype(np.float64), footprint.features[valid], weights, number, stats)
