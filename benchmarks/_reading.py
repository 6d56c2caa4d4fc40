"""Cases A to E: a region, a capped link, no latency, scattered fields, two tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from _cases import (
    TWO_TILES,
    Bound,
    Network,
    Request,
    bound_of,
    fields_bounds,
    scattered_fields,
)
from _harness import Bench, CaseResult, Goal, server_check

OURS = "s2l3a_xr"
OURS_PLAIN = "s2l3a_xr, chunks=None"
OURS_LISTING = "s2l3a_xr, with listing"
POOLS = ("rasterio pool 2", "rasterio pool 16", "rasterio pool 32")
_ALL = (
    OURS,
    OURS_PLAIN,
    OURS_LISTING,
    "odc-stac dask",
    "odc-stac dask, chunks 512",
    "odc-stac pool=2",
    "odc-stac pool=16",
    "odc-stac defaults",
    "stackstac",
    "stackstac, chunks 512",
    "stackstac defaults",
    "rioxarray",
    "rioxarray defaults",
    *POOLS,
    "rasterio defaults",
    "lazycogs",
    "lazycogs dask",
    "original script",
)
_BEST = (
    OURS,
    OURS_PLAIN,
    "odc-stac dask",
    "odc-stac pool=2",
    "odc-stac pool=16",
    "stackstac",
    "rioxarray",
    *POOLS,
    "lazycogs",
)
_QUICK = (OURS, OURS_LISTING, "odc-stac dask", "stackstac", "rasterio pool 16", "lazycogs")


def region(bench: Bench) -> CaseResult:
    """Case A: 1 tile, 8 months by 4 bands, 30 ms."""
    case = CaseResult(key="A", title="Region, 32 files, 30 ms a request, no cap")
    request, network = Request(), Network()
    bound = _begin(bench, case, request, network)
    bench.run_case(case, _QUICK if bench.quick else _ALL, request, network)
    wall = {
        "odc-stac dask": ("odc-stac dask", 10),
        "odc-stac pool": ("odc-stac pool=2", 4),
        "stackstac": ("stackstac", 11),
        "rioxarray": ("rioxarray", 25),
        "lazycogs": (_fastest(case, ("lazycogs", "lazycogs dask")), 2.5),
        "rasterio, best pool": (_fastest(case, POOLS), 1.5),
    }
    case.goals = [
        Goal.at_least(f"times faster than {text}", case.ratio(name, OURS, "wall_s"), limit)
        for text, (name, limit) in wall.items()
    ]
    with_listing, without = case.value(OURS_LISTING, "wall_s"), case.value(OURS, "wall_s")
    trips = None
    if with_listing is not None and without is not None:
        trips = (with_listing - without) / network.latency_s
    case.goals.append(Goal.at_most("listing included, round trips more", trips, 5))
    case.goals += _frugal(case, bound)
    return case


def capped(bench: Bench) -> CaseResult:
    """Case B: as A on a link of 400 Mbit/s."""
    case = CaseResult(key="B", title="Region, 32 files, 30 ms a request, 400 Mbit/s")
    request, network = Request(), Network(mbit=400)
    bound = _begin(bench, case, request, network)
    names = (OURS, "rasterio pool 16") if bench.quick else (*_BEST, "original script")
    bench.run_case(case, names, request, network)
    wall = case.value(OURS, "wall_s")
    of_bound = None if wall is None else wall / bound.wall_s(network)
    case.goals = [Goal.at_most("wall over bound", of_bound, 1.08)]
    return case


def local(bench: Bench) -> CaseResult:
    """Case C: as A without latency, where the processor decides."""
    served = "nginx" if bench.nginx is not None else "bench server: nginx is not installed"
    case = CaseResult(key="C", title=f"Region, 32 files, no latency ({served})")
    request, network = Request(), Network(latency_s=0)
    _begin(bench, case, request, network)
    names = (OURS, OURS_PLAIN, *POOLS[:2]) if bench.quick else _BEST
    bench.run_case(case, names, request, network)
    case.goals = [
        Goal.at_most(
            f"{text} over that of the best rasterio pool",
            case.ratio(OURS, _fastest(case, POOLS, figure), figure),
            0.9,
        )
        for text, figure in (("CPU", "cpu_s"), ("wall", "wall_s"))
    ]
    return case


def scattered(bench: Bench) -> CaseResult:
    """Case D: 200 fields in one tile."""
    fields = scattered_fields()
    case = CaseResult(key="D", title="200 scattered fields, 1 month x 2 bands, 30 ms a request")
    request = Request(months=(6,), bands=("B4", "B8"), fields=fields, bounds=fields_bounds(fields))
    network = Network()
    bound = _begin(bench, case, request, network)
    boxes = ("rasterio pool 16", "odc-stac dask", "odc-stac pool=16", "lazycogs")
    others = (boxes[0],) if bench.quick else (*boxes, "rasterio by field, pool 16")
    bench.run_case(case, (OURS, *others), request, network)
    sent = case.value(OURS, "sent_bytes")
    least = min(
        (value for name in boxes if (value := case.value(name, "sent_bytes")) is not None),
        default=None,
    )
    best = _fastest(case, boxes)
    case.goals = [
        Goal.at_most(
            "bytes over headers + blocks that a field touches",
            None if sent is None else sent / bound.total_bytes,
            1.05,
        ),
        Goal.at_most(
            "bytes over those of the best reader of the bounding box",
            None if sent is None or least is None else sent / least,
            0.334,
        ),
        Goal.at_most(
            f"wall over that of the best reader of the bounding box ({best})",
            case.ratio(OURS, best, "wall_s"),
            0.334,
        ),
    ]
    return case


def two_tiles(bench: Bench) -> CaseResult:
    """Case E: an AOI across two tiles of one zone."""
    case = CaseResult(key="E", title="AOI across two tiles, 2 months x 4 bands, 30 ms a request")
    request = Request(tiles=("32UPC", "32UQC"), months=(6, 7), bounds=TWO_TILES)
    network = Network()
    bound = _begin(bench, case, request, network)
    peers = ("odc-stac dask", "odc-stac pool=16", "stackstac", "rasterio pool 16", "lazycogs")
    names = (OURS, "rasterio pool 16") if bench.quick else (OURS, OURS_PLAIN, *peers)
    bench.run_case(case, names, request, network)
    sent = case.value(OURS, "sent_bytes")
    orders = (request, replace(request, tiles=request.tiles[::-1]))
    strict = min(bound_of(order, bench.root, skip_filled=True).total_bytes for order in orders)
    case.notes.append(
        f"Least bytes: {bound.total_bytes / 1e6:.1f} MB for the blocks of both tiles that the AOI "
        f"touches; {strict / 1e6:.1f} MB for a reader that knows beforehand that the "
        "first tile has no holes."
    )
    case.goals = [
        Goal.at_most("bytes of files fetched twice", case.value(OURS, "repeated_bytes"), 0),
        Goal.at_most(
            "bytes over headers + blocks touched",
            None if sent is None else sent / bound.total_bytes,
            1.05,
        ),
    ]
    return case


def _begin(bench: Bench, case: CaseResult, request: Request, network: Network) -> Bound:
    bound = bound_of(request, bench.root)
    case.bound_s = bound.wall_s(network)
    case.notes.append(
        f"{bound.files} files, {bound.blocks} blocks in {bound.rows} rows: headers "
        f"{bound.header_bytes / 1e6:.2f} MB, blocks {bound.block_bytes / 1e6:.2f} MB."
    )
    case.notes.append(server_check(bench, request, network, bound))
    return bound


def _frugal(case: CaseResult, bound: Bound) -> list[Goal]:
    """Count requests and bytes, whose limits hold in any region."""
    requests, sent = case.value(OURS, "tif_requests"), case.value(OURS, "sent_bytes")
    return [
        Goal.at_most("requests for files", requests, bound.files + bound.rows),
        Goal.at_most(
            "bytes over headers + blocks touched",
            None if sent is None else sent / bound.total_bytes,
            1.05,
        ),
    ]


def _fastest(case: CaseResult, names: Sequence[str], figure: str = "wall_s") -> str:
    """Find the contender with the least of a figure, of those that ran."""
    ran = [name for name in names if case.row(name)]
    return min(ran, key=lambda name: case.value(name, figure) or 0.0, default=names[0])


READING_CASES: dict[str, Callable[[Bench], CaseResult]] = {
    "A": region,
    "B": capped,
    "C": local,
    "D": scattered,
    "E": two_tiles,
}
