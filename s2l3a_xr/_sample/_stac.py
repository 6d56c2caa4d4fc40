"""A STAC API over the sample archive that answers as DLR's does, oddities included."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import rasterio
import rasterio.warp
import shapely
from shapely.geometry import shape

from s2l3a_xr._sample._answers import Answer

STAC_PATH = "/eoc/ogc/stac/v1"
FILES_PATH = "/S2_L3A_WASP/files/"

_JSON, _GEOJSON = "application/json", "application/geo+json"
_PRODUCT = re.compile(
    r"(?P<id>SENTINEL(?P<platform>2[A-Z])_(?P<date>\d{8})-\d{6}-\d{3}_L3A_T(?P<tile>\w{5})_[A-Z])"
    r"_V(?P<version>\d+)-\d+"
)
_LAYER = re.compile(r"_(FRC_B\d+A?|(?:FLG|WGT|DTS)_R[12])\.tif$")
_HALF_WINDOW = dt.timedelta(days=22)
_ALL_TIME = (dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))
_TIME_FORMATS = ("{}Z", "{}.000Z", "{}.000000Z", "{}.000+00:00", "{}.0000000Z")
_CLASSES = (
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#fields",
)
_LICENSES = {"S2_L3A_WASP": "CC-BY-4.0", "S2_L3A_WASP_V2": "other", "S2_L2A_MAJA": "CC-BY-4.0"}

Document = dict[str, Any]


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status, self.code = status, code


@dataclass(slots=True)
class StacSite:
    """How the STAC API answers; all of it may be changed while the server runs."""

    page: int = 20
    """Items of a page where nothing is asked for."""
    cap: int = 100
    """Most items of a page, whatever is asked for."""
    packs: bool = True
    """Compress the landing page, also where that was not asked for."""
    edit: Callable[[Document], Document] | None = None
    """Changes each document before it is sent."""
    _clients: Iterator[int] = field(default_factory=itertools.count)

    def answer(
        self, root: Path, origin: str, path: str, query: str, body: bytes | None, cookie: str
    ) -> Answer:
        """Answer one request.

        Parameters
        ----------
        root : pathlib.Path
            Folder that is the server's ``/``.
        origin : str
            Scheme, host and port.
        path, query : str
            What is asked for.
        body : bytes or None
            What was posted.
        cookie : str
            What the client was given earlier.
        """
        headers = {"API-Version": "1.0.0", "X-Control-flow-delay-ms": "0"}
        if "GS_FLOW_CONTROL=" not in cookie:
            headers["Set-Cookie"] = f"GS_FLOW_CONTROL=GS_CFLOW_{next(self._clients):x}:197e:-5876"
        api = _Api(site=self, root=root, base=origin + STAC_PATH, files=origin + FILES_PATH)
        parts = [unquote(part) for part in path.removeprefix(STAC_PATH).split("/") if part]
        try:
            document = api.find(parts, dict(parse_qsl(query)), body)
        except _RefusedError as exc:
            told = json.dumps({"code": exc.code, "description": str(exc)}).encode()
            return Answer(
                status=exc.status, headers={**headers, "Content-Type": _JSON}, content=told
            )
        if self.edit is not None:
            document = self.edit(document)
        content = json.dumps(document).encode()
        if self.packs and not parts:
            content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
        is_geo = document.get("type") in {"Feature", "FeatureCollection"}
        headers["Content-Type"] = _GEOJSON if is_geo else _JSON
        return Answer(status=200, headers=headers, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Api:
    """The API as one request sees it."""

    site: StacSite
    root: Path
    base: str
    files: str

    def find(self, parts: list[str], query: Mapping[str, str], body: bytes | None) -> Document:
        match parts:
            case []:
                return self._landing()
            case ["conformance"]:
                return {"conformsTo": list(_CLASSES)}
            case ["collections"]:
                return {"collections": [self._collection(name) for name in _LICENSES], "links": []}
            case ["search"]:
                return self._search(query, body)
            case ["collections", name, *rest] if name in _LICENSES:
                return self._of_collection(name, rest, query)
        raise _RefusedError(404, "NotFound", f"{'/'.join(parts)} does not exist")

    def _of_collection(self, name: str, rest: list[str], query: Mapping[str, str]) -> Document:
        if not rest:
            return self._collection(name)
        if rest == ["items"]:
            return self._search({**query, "collections": name}, None)
        for item in self._items(name):
            if rest == ["items", item["id"]]:
                return item
        raise _RefusedError(404, "NotFound", f"{name} has no {'/'.join(rest)}")

    def _landing(self) -> Document:
        def link(rel: str, path: str, kind: str, **more: str) -> Document:
            href = f"{self.base}{path}?f={quote(kind, safe='')}"
            return {"href": href, "rel": rel, "type": kind, **more}

        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "GeoserverSTACLandingPage",
            "title": "Sample of a STAC API",
            "description": "Made by s2l3a_xr; not DLR's.",
            "conformsTo": list(_CLASSES),
            "links": [
                link("self", "/", _JSON),
                link("conformance", "/conformance", _JSON),
                link("data", "/collections", _JSON),
                link("data", "/collections", "text/html"),
                *(
                    {"href": f"{self.base}/collections/{name}", "rel": "child", "type": _JSON}
                    for name in _LICENSES
                ),
                *(
                    link("search", "/search", kind, method=method)
                    for method in ("GET", "POST")
                    for kind in (_GEOJSON, "text/html")
                ),
                link("root", "", _JSON),
            ],
        }

    def _collection(self, name: str) -> Document:
        here = f"{self.base}/collections/{name}"
        return {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": name,
            "description": "Sample of a collection, made by s2l3a_xr",
            "license": _LICENSES[name],
            "sci:doi": "10.15489/4hcq6dgkj648",
            "extent": {
                "spatial": {"bbox": [[5.7635451, 46.7936707, 15.1527533, 55.046986]]},
                "temporal": {"interval": [["2015-07-01T00:00:00.000+00:00", None]]},
            },
            "links": [
                {"href": f"{here}?f={quote(_JSON, safe='')}", "rel": "self", "type": _JSON},
                {"href": f"{self.base}?f={quote(_JSON, safe='')}", "rel": "root", "type": _JSON},
                {"href": f"{here}/items?f=application%2Fgeo%2Bjson", "rel": "items"},
            ],
        }

    def _items(self, *collections: str) -> list[Document]:
        """All items, newest first."""
        folders = (self.root / FILES_PATH.strip("/")).glob("*/*/*/*/SENTINEL2*")
        found = [(match, path) for path in folders if (match := _PRODUCT.fullmatch(path.name))]
        found.sort(key=lambda pair: (pair[0]["date"], pair[0]["tile"]), reverse=True)
        items = [self._item(match, path) for match, path in found]
        return [item for item in items if not collections or item["collection"] in collections]

    def _item(self, match: re.Match[str], folder: Path) -> Document:
        name, day = (
            match["id"],
            dt.datetime.strptime(match["date"], "%Y%m%d").replace(tzinfo=dt.UTC),
        )
        collection = "S2_L3A_WASP" if int(match["version"]) < 2 else "S2_L3A_WASP_V2"
        tifs = sorted(path for path in folder.rglob("*.tif") if _LAYER.search(path.name))
        ring = _outline(tifs[0]) if tifs else ()
        here = f"{self.base}/collections/{collection}/items/{name}?f=application%2Fgeo%2Bjson"
        style = _TIME_FORMATS[day.month % len(_TIME_FORMATS)]

        def when(moment: dt.datetime) -> str:
            return style.format(moment.strftime("%Y-%m-%dT%H:%M:%S"))

        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": collection,
            "geometry": {"type": "Polygon", "coordinates": [ring]} if ring else None,
            "bbox": list(shapely.Polygon(ring).bounds) if ring else [],
            "properties": {
                "datetime": when(day),
                "start_datetime": when(day - _HALF_WINDOW),
                "end_datetime": when(day + _HALF_WINDOW),
                "platform": f"SENTINEL-{match['platform']}",
                "license": _LICENSES[collection],
                "gsd": "10",
                "eo:cloud_cover": "72",
                "proj:epsg": None if day.month % 2 else 32600 + int(match["tile"][:2]),
            },
            "assets": {self._key(path): self._asset(path) for path in tifs},
            "links": [
                {"href": collection, "rel": "collection", "type": _JSON},
                {"href": f"/geoservice/repository/{name}.json", "rel": "self", "type": _JSON},
                {"href": here, "rel": "self", "type": _GEOJSON},
                {"href": here, "rel": "item", "type": _GEOJSON},
            ],
        }

    def _key(self, path: Path) -> str:
        found = _LAYER.search(path.name)
        return found[1] if found else path.stem

    def _asset(self, path: Path) -> Document:
        below = path.relative_to(self.root / FILES_PATH.strip("/")).as_posix()
        return {
            "href": self.files + below,
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
        }

    def _search(self, query: Mapping[str, str], body: bytes | None) -> Document:
        """Search; `ids` and `query` count for nothing, as at DLR."""
        asked = dict(query) if body is None else _posted(body)
        start, limit = _number(asked, "startIndex", 0), _number(asked, "limit", self.site.page)
        if limit < 1:
            raise _RefusedError(400, "InvalidParameterValue", "limit must be positive")
        limit = min(limit, self.site.cap)
        names = asked.get("collections") or ()
        area, time = _area(asked), _span(str(asked.get("datetime") or "../.."))
        items = self._items(*(names.split(",") if isinstance(names, str) else names))
        found = [item for item in items if _is_there(item, area, time)]
        shown = found[start : start + limit]
        link = {"type": _GEOJSON, "href": f"{self.base}/search?f=application%2Fgeo%2Bjson"}
        links: list[Document] = [{**link, "rel": "self"}]
        if start + len(shown) < len(found):
            onward = {"startIndex": start + limit, "limit": limit}
            if body is None:
                href = f"{self.base}/search?{urlencode({**asked, **onward})}"
                links.append({**link, "rel": "next", "href": href})
            else:
                links[0] |= {"method": "POST", "merge": True}
                links.append({**links[0], "rel": "next", "body": onward})
        return {
            "type": "FeatureCollection",
            "features": shown,
            "numberMatched": len(found),
            "numberReturned": len(shown),
            "stac_version": "1.0.0",
            "links": links,
        }


@lru_cache(maxsize=1024)
def _outline(path: Path) -> tuple[tuple[float, float], ...]:
    """Corners of a file, longitude and latitude, closed."""
    with rasterio.open(path) as file:
        left, bottom, right, top = file.bounds
        xs, ys = [left, right, right, left, left], [top, top, bottom, bottom, top]
        lons, lats = rasterio.warp.transform(file.crs, "EPSG:4326", xs, ys)
    return tuple((round(x, 4), round(y, 4)) for x, y in zip(lons, lats, strict=True))


def _posted(body: bytes) -> Document:
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise _RefusedError(400, "InvalidParameterValue", "the body is no JSON object")
    return asked


def _number(asked: Document, name: str, default: int) -> int:
    try:
        return int(asked.get(name) or default)
    except ValueError as exc:
        raise _RefusedError(400, "InvalidParameterValue", f"{name} is no number") from exc


def _area(asked: Document) -> shapely.Geometry | None:
    if asked.get("intersects"):
        return shape(asked["intersects"])
    bounds = asked.get("bbox")
    if not bounds:
        return None
    try:
        numbers = [float(n) for n in (bounds.split(",") if isinstance(bounds, str) else bounds)]
        return shapely.box(*numbers)
    except (TypeError, ValueError) as exc:
        raise _RefusedError(400, "InvalidParameterValue", f"bbox is {bounds}") from exc


def _span(text: str) -> tuple[dt.datetime, dt.datetime]:
    first, _, last = text.partition("/")
    start, stop = (
        default if part in ("", "..") else _moment(part)
        for part, default in zip((first, last or first), _ALL_TIME, strict=True)
    )
    return start, stop


def _moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as exc:
        raise _RefusedError(400, "InvalidParameterValue", f"{text} is no time") from exc


def _is_there(
    item: Document, area: shapely.Geometry | None, time: tuple[dt.datetime, dt.datetime]
) -> bool:
    properties = item["properties"]
    start, stop = (_moment(properties[f"{end}_datetime"]) for end in ("start", "end"))
    if start > time[1] or stop < time[0]:
        return False
    return area is None or (item["geometry"] and shape(item["geometry"]).intersects(area))
