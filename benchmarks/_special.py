"""Cases F to K: second looks, export, Germany, coarse looks, import, connections."""

from __future__ import annotations

import contextlib
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import _data
import _germany
from _cases import COARSE, LATENCY_S, WHOLE_TILE, Bound, Network, Request, bound_of
from _environments import UnavailableError
from _fields import field_statistics
from _harness import Bench, CaseResult, Goal, Row, Sample, run_json
from contenders import CONTENDERS

OURS = "s2l3a_xr"


def second_look(bench: Bench) -> CaseResult:
    """Case F: the same request again, in the process and in a new one with a cache."""
    case = CaseResult(key="F", title="Second look at the region of A, 30 ms a request")
    request, network = Request(), Network()
    again = _again_in_process(bench, case, request, network)
    case.goals = [
        Goal.at_most("in the process: listings again", again.get("second_listings"), 0),
        Goal.at_most("in the process: headers again", again.get("second_headers"), 0),
    ]
    options = {"transport": {"cache_dir": str(bench.scratch / "blocks")}}
    filled, first = f"{OURS}, cache filled", f"{OURS}, cache empty"
    for label in ("{}, cache empty", "{}, cache filled"):
        if not case.rows or case.row(first):
            bench.run_case(case, [OURS], request, network, repeat=1, options=options, label=label)
    case.goals += [
        Goal.at_most("new process, cache: requests", case.value(filled, "tif_requests"), 0),
        Goal.at_least("new process, cache: faster", case.ratio(first, filled, "wall_s"), 10),
    ]
    return case


def _again_in_process(
    bench: Bench, case: CaseResult, request: Request, network: Network
) -> dict[str, float]:
    bench.server.shape(latency_s=network.latency_s, mbit=network.mbit)
    job = bench.job(request, bench.server)
    try:
        job["preload"] = bench.imported_in_use(f"{OURS}, with listing", job)
        again = bench.run_process(CONTENDERS["second look"], job)
    except UnavailableError as error:
        case.notes.append(f"In one process: not available, {error}")
        return {}
    case.notes.append(
        f"In one process, listing included: first {again['first_s']:.2f} s, again "
        f"{again['second_s']:.2f} s with {again['second_listings']} listings, "
        f"{again['second_headers']} headers and {again['second_requests']} requests for files."
    )
    return again


def export(bench: Bench) -> CaseResult:
    """Case G: a whole tile to GeoTIFFs."""
    bands = _data.BANDS[:1] if bench.quick else _data.BANDS
    case = CaseResult(
        key="G",
        title=f"Whole tile, 1 month, bands {' '.join(bands)} to GeoTIFF, 30 ms a request",
        reference="s2l3a_xr to_geotiff",
    )
    request = Request(months=(6,), bounds=WHOLE_TILE, bands=bands)
    network = Network()
    case.bound_s = bound_of(request, bench.root).wall_s(network)
    ours, gdal = "s2l3a_xr to_geotiff", "rasterio to GeoTIFF, 16 threads"
    options = {"output": str(bench.scratch / "geotiff")}
    layout = _layout_of_ours(bench, request, options)
    bench.run_case(
        case,
        [ours, gdal],
        request,
        network,
        repeat=min(bench.repeat, 3),
        extra={**options, "layout": layout},
    )
    case.notes.append(f"Both write {', '.join(f'{key} {value}' for key, value in layout.items())}.")
    rss = case.value(ours, "rss_mb")
    more = None
    if not bench.quick:
        longer = replace(request, months=(5, 6, 7))
        bench.run_case(case, [ours], longer, network, repeat=1, extra=options, label="{}, 3 months")
        more = case.ratio(f"{ours}, 3 months", ours, "rss_mb")
    case.goals = [
        Goal.at_least("throughput over that of rasterio", case.ratio(gdal, ours, "wall_s"), 0.9),
        Goal.at_most("peak RSS", rss, 1500, " MB"),
        Goal.at_most("peak RSS of 3 months over that of 1", more, 1.1),
    ]
    return case


def _layout_of_ours(bench: Bench, request: Request, options: Mapping[str, Any]) -> Any:
    """Compression and blocks of the files that the package writes, for the others to copy."""
    job = {**bench.job(request, bench.server), **options, "inventory": "wanted"}
    bench.server.shape(latency_s=0, mbit=0)
    try:
        trial = bench.small_job(job)
        return bench.run_process(CONTENDERS["s2l3a_xr to_geotiff"], trial)["layout"]
    except UnavailableError:
        return _PLAIN_LAYOUT


_PLAIN_LAYOUT = {
    "compress": "DEFLATE",
    "predictor": 1,
    "tiled": True,
    "blockxsize": 256,
    "blockysize": 256,
}


def germany(bench: Bench) -> CaseResult:
    """Case H: 64 tiles x 96 months x 10 bands."""
    case = CaseResult(key="H", title="Germany: open 64 tiles x 96 months x 10 bands, no pixels")
    job = germany_job(bench, years=_germany.YEARS, bands=_GERMANY_BANDS)
    bench.server.shape(latency_s=0, mbit=0)
    with contextlib.suppress(UnavailableError):
        small = bench.job(Request(), bench.server)
        job["preload"] = bench.imported_in_use(f"{OURS}, with listing", small)
    listings = _open_germany(bench, case, "s2l3a_xr, from listings", job)
    job["inventory"] = str(bench.scratch / "germany.parquet")
    saved = None
    try:
        bench.run_process(CONTENDERS["save Germany"], job)
        saved = _open_germany(bench, case, "s2l3a_xr, from a saved inventory", job)
    except UnavailableError as error:
        case.notes.append(f"Saved inventory: not available, {error}")
    verified = _open_germany(
        bench, case, "s2l3a_xr, from listings", {**job, "options": _VERIFIED}, label=", all listed"
    )
    if not bench.quick:
        some = germany_job(bench, years=_germany.YEARS[:1], bands=_GERMANY_BANDS[:4])
        _open_germany(bench, case, "odc-stac", some, label=", 12 months x 4 bands only")
        few = {**some, "bands": ["B4"]}
        few["files"] = [f for f in some["files"] if (f["month"], f["band"]) == (1, "B4")]
        _open_germany(bench, case, "stackstac graph", few, label=", 1 month x 1 band only")
    case.notes += _germany_on_paper(listings)
    surplus = None if listings is None else listings.extra["tasks"] - listings.extra["chunks"]
    case.goals = [
        Goal.at_most("opens from year listings", listings and listings.wall_s, 5, " s"),
        Goal.at_most("opens with all products listed", verified and verified.wall_s, 15, " s"),
        Goal.at_most("opens from a saved inventory", saved and saved.wall_s, 1, " s"),
        Goal.at_most("tasks beyond one per chunk", surplus, 10),
        Goal.at_most("pickled graph", listings and listings.extra["pickled_mb"], 5, " MB"),
    ]
    return case


_GERMANY_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
_VERIFIED: Mapping[str, Any] = {"verify": True}
"""The keyword that has all products listed."""


def _open_germany(
    bench: Bench, case: CaseResult, name: str, job: Mapping[str, Any], label: str = ""
) -> Sample | None:
    row = Row(name=name + label, contender=name)
    case.rows.append(row)
    sys.stderr.write(f"  H: {row.name}\n")
    try:
        sample = bench.measure(CONTENDERS[name], job, bench.server)
    except UnavailableError as error:
        row.error = str(error)
        return None
    row.samples.append(sample)
    extra = sample.extra
    case.notes.append(
        f"{row.name}: shape {extra['shape']}, {extra['chunks']} chunks, {extra['tasks']} tasks, "
        f"{extra['pickled_mb']:.2f} MB pickled in {extra['pickle_s']:.1f} s."
    )
    return sample


def _germany_on_paper(sample: Sample | None) -> list[str]:
    if sample is None:
        return []
    lists, latency, connections = sample.requests, 0.05, 16
    seconds = lists * latency / connections
    return [
        (
            f"At DLR, on paper: {lists} listings at {latency * 1000:.0f} ms over {connections} "
            f"connections are {seconds:.1f} s; with all {12 * 8 * 64} product folders "
            f"{(lists + 12 * 8 * 64) * latency / connections:.0f} s."
        )
    ]


def germany_job(bench: Bench, *, years: Sequence[int], bands: Sequence[str]) -> dict[str, Any]:
    """Make a job over every tile that the made-up archive has."""
    tiles = {tile: _placed(tile) for tile in _germany.TILES}
    base = bench.server.url + _germany.PREFIX
    files = []
    for tile in tiles:
        for year in years:
            for month in range(1, 13):
                product = _germany.product_name(tile, year, month)
                folder = f"{base}{tile[:2]}/{tile[2]}/{tile[3:]}/{year}/{product}"
                files += [
                    {
                        "tile": tile,
                        "year": year,
                        "month": month,
                        "band": band,
                        "url": f"{folder}/{product}_FRC_{band}.tif",
                    }
                    for band in bands
                ]
    return {
        "archive": base,
        "years": list(years),
        "months": list(range(1, 13)),
        "bands": list(bands),
        "fields": [ring for tile in tiles for ring in [_footprint(tile)]],
        "bounds": None,
        "epsg": _data.EPSG,
        "aoi_epsg": 4326,
        "tiles": tiles,
        "files": files,
        "options": {},
    }


def _placed(tile: str) -> dict[str, int]:
    left, top, epsg = _corner(tile)
    return {"left": left, "top": top, "side": _data.SIDE, "epsg": epsg}


@cache
def _corner(tile: str) -> tuple[int, int, int]:
    """Left, top and EPSG of a Sentinel-2 tile, by the formula."""
    import mgrs  # noqa: PLC0415 - only this case

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mgrs doubts valid squares at 48° N
        zone, _, east, north = mgrs.MGRS().MGRSToUTM(tile + "0000000000")
    east, north = int(east), int(north)
    return east // 60 * 60, -(-(north + 100000) // 60) * 60, 32600 + zone


def _footprint(tile: str) -> list[list[float]]:
    """Ring of the tile in lon/lat, drawn in by 100 m."""
    from pyproj import Transformer  # noqa: PLC0415 - only this case

    left, top, epsg = _corner(tile)
    west, north = left + 100, top - 100
    east, south = west + 109_600, north - 109_600
    ring = [(west, north), (east, north), (east, south), (west, south), (west, north)]
    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
    return [list(to_lonlat.transform(x, y)) for x, y in ring]


def coarse(bench: Bench) -> CaseResult:
    """Case I: a whole tile at 40 and 80 m."""
    case = CaseResult(key="I", title="Whole tile at 40 and 80 m, 1 month x 4 bands, 30 ms")
    network = Network()
    full = bound_of(Request(months=(6,), bounds=COARSE), bench.root)
    limits = {40: 1 / 12, 80: 1 / 40}
    for step, limit in limits.items():
        request = Request(months=(6,), bounds=COARSE, resolution=step)
        digest = bench.remembered("coarse oracle", request)
        expected = {"box": {digest}, "clip": {digest}, "first": {digest}}
        peers = [] if bench.quick else [("odc-stac pool=16", {})]
        for name, options in [(OURS, {"resolution": step}), *peers]:
            bench.run_case(
                case,
                [name],
                request,
                network,
                options=options,
                expected=expected,
                label=f"{{}}, {step} m",
            )
        case.goals += _coarse_goals(case, full, step, limit)
    return case


def _coarse_goals(case: CaseResult, full: Bound, step: int, limit: float) -> list[Goal]:
    row = case.row(f"{OURS}, {step} m")
    share = None if row is None else row.median("sent_bytes") / full.total_bytes
    equal = None if row is None else float(bool(row.equal))
    return [
        Goal.at_most(f"{step} m: bytes over those of 10 m", share, limit),
        Goal.at_least(f"{step} m: pixels as GDAL reads the overview (1 is yes)", equal, 1),
    ]


def imports(bench: Bench) -> CaseResult:
    """Case J: what importing costs on top of xarray."""
    case = CaseResult(key="J", title="Import, on top of `import xarray`", reference="")
    modules = {
        OURS: ("ours", "s2l3a_xr"),
        f"{OURS}, open_l3a in use": ("ours", "s2l3a_xr._open"),
        "odc-stac": ("peers", "odc.stac"),
        "stackstac": ("peers", "stackstac"),
        "rioxarray": ("peers", "rioxarray"),
        "lazycogs": ("lazycogs", "lazycogs"),
    }
    rows = {name: Row(name=name) for name in modules}
    case.rows = list(rows.values())
    for _ in range(max(bench.repeat, 2)):
        for name, (environment, module) in modules.items():
            if not rows[name].error:
                _import_into(bench, rows[name], environment, module)
    case.goals = [Goal.at_most("import s2l3a_xr", case.value(OURS, "wall_s"), 0.3, " s")]
    return case


_IMPORT = """
import json, resource, time
import xarray
cpu, wall = time.process_time(), time.perf_counter()
import {module}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(dict(wall_s=wall, cpu_s=cpu, rss_mb=peak)))
"""


def _import_into(bench: Bench, row: Row, environment: str, module: str) -> None:
    try:
        python = bench.environments.python(environment)
        measured = run_json([str(python), "-c", _IMPORT.format(module=module)], {})
    except UnavailableError as error:
        row.error = str(error)
        return
    none = {"requests": 0, "tif_requests": 0, "sent_bytes": 0, "repeated_bytes": 0}
    row.samples.append(Sample(**measured, **none))


def connections(bench: Bench) -> CaseResult:
    """Case K: what more connections give, with the trivial client beside."""
    case = CaseResult(key="K", title="Connections per host, region of A, 30 ms a request")
    request = Request()
    counts = (16, 64) if bench.quick else (8, 16, 32, 64)
    case.bound_s = bound_of(request, bench.root).wall_s(Network())
    for count in counts:
        options = {"transport": {"max_connections": count}}
        bench.run_case(
            case, [OURS], request, Network(), options=options, label=f"{{}}, {count} connections"
        )
        trivial = bench.trivial(request, Network(), count)
        walls = [sample.wall_s for sample in trivial]
        case.notes.append(f"Trivial client, {count} connections: {statistics.median(walls):.2f} s.")
    sixteen, most = (case.value(f"{OURS}, {count} connections", "wall_s") for count in (16, 64))
    if sixteen is not None and most is not None:
        saved = (sixteen - most) / LATENCY_S
        case.notes.append(f"64 connections save {saved:.1f} round trips over the default 16.")
    return case


SPECIAL_CASES: dict[str, Callable[[Bench], CaseResult]] = {
    "F": second_look,
    "G": export,
    "H": germany,
    "I": coarse,
    "J": imports,
    "K": connections,
    "L": field_statistics,
}
