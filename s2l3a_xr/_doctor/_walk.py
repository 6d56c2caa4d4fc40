"""From the address that the user gave to one file of the product, in a few requests."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from s2l3a_xr._doctor._evidence import OK, title_of, what
from s2l3a_xr._doctor._report import Finding, finding
from s2l3a_xr._errors import S2L3AError
from s2l3a_xr._listing import parse_listing
from s2l3a_xr._product import BANDS, Band, Product
from s2l3a_xr._stac import COLLECTION, Links, is_api, links_of
from s2l3a_xr._transport import Probe, Prober

MOST_LISTINGS = 8
"""DLR's layout has six folders above a file."""

_LISTING_BYTES = 2**20
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FOLDER = re.compile(r"\d{2}/|[A-Z]/|[A-Z]{2}/|\d{4}/|S2_L3_WASP_.*|SENTINEL2.*", re.ASCII)


@dataclass(slots=True, kw_only=True)
class Way:
    """What was met on the way to a file.

    Parameters
    ----------
    file : str
        The file, empty where none was found.
    host : str or None
        Where a catalogue is that linked to the file.
    probes : list of Probe
        Answers on the way.
    findings : list of Finding
        What they were.
    """

    file: str = ""
    host: str | None = None
    probes: list[Probe] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def fail(self, check: str, found: str, means: str) -> None:
        """Note that it leads no further."""
        self.findings.append(finding(check, "bad", found, means))


def named_file(url: str) -> tuple[Product, Band, int] | None:
    """Read off a file's name what it must be.

    Parameters
    ----------
    url : str
        The file.

    Returns
    -------
    tuple or None
        Product, band and pixel size in metres; None where the name is no product's.
    """
    name = urlsplit(url).path.rpartition("/")[2]
    for band in BANDS.values():
        for resolution_m in (10, 20) if band.is_mask else (band.resolution_m,):
            suffix = band.suffix(resolution_m)
            product = Product.parse(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if product is not None:
                return product, band, resolution_m
    return None


async def find_file(prober: Prober, url: str) -> Way:
    """Walk down folders, or a catalogue, to one file.

    Parameters
    ----------
    prober : Prober
        Asks.
    url : str
        A folder, a file, or a STAC API or document.

    Returns
    -------
    Way
        With a finding of what the address is.
    """
    way = Way()
    if urlsplit(url).path.lower().endswith((".tif", ".tiff")):
        way.file = url
        return way
    probe = await _get(prober, way, url)
    if probe is None:
        return way
    if probe.redirects:
        told = f"is redirected ({', '.join(map(str, probe.redirects))}) to {probe.answered_by}"
        means = "each listing costs a request more: give the address that it leads to"
        way.findings.append(finding("address", "warn", told, means))
    document = _document(probe)
    if document is not None:
        way.host = urlsplit(url).hostname
        await _search(prober, way, url, document)
    elif probe.body[:4] in _MAGIC:
        way.file = url
    else:
        await _descend(prober, way, probe)
    return way


async def _get(prober: Prober, way: Way, url: str) -> Probe | None:
    probe = await prober.ask(url, most_bytes=_LISTING_BYTES)
    way.probes.append(probe)
    if probe.status == OK:
        return probe
    means = {
        0: "nothing can be read while this is so: see whether address and network are right",
        401: "a login is wanted: user and password can stand in the address",
        403: "the server does not show this to you: give the address of a file or deeper folder",
        404: "there is nothing: see whether the address is right",
    }.get(probe.status, "see whether the address is right, and try again later")
    way.fail("reachable" if probe.fault else "address", f"{what(probe)} from {url}", means)
    return None


def _document(probe: Probe) -> dict[str, Any] | None:
    """Give the JSON object that was sent, None where something else was."""
    text = _unpacked(probe).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _unpacked(probe: Probe) -> bytes:
    """Unpack what came compressed, as APIs send it unasked; no more of it than is taken."""
    if probe.headers.get("content-encoding", "").lower() not in {"gzip", "x-gzip"}:
        return probe.body
    try:
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        return unpacker.decompress(probe.body, _LISTING_BYTES)
    except zlib.error:
        return b""


async def _descend(prober: Prober, way: Way, probe: Probe) -> None:
    """Go from folder to folder, the newest month of the first tile, until there is a file."""
    count = 0
    top = probe.answered_by
    ahead: list[str] = []
    while True:
        here = probe.answered_by if probe.answered_by.endswith("/") else probe.answered_by + "/"
        try:
            names = [
                e.name for e in parse_listing(_unpacked(probe).decode("utf-8", "replace"), here)
            ]
        except S2L3AError as exc:
            means = "an archive is browsed by its listings: the address must be a folder's"
            way.fail("listing", f"{exc}{title_of(probe)}", means)
            return
        count += 1
        files = [here + quote(name) for name in names if named_file(name) is not None]
        if files:
            way.file = next((url for url in files if "_FRC_" in url), files[0])
            break
        folders = sorted(n for n in names if n.endswith("/") and n != "MASKS/")
        folders = [name for name in folders if _FOLDER.fullmatch(name)] or folders
        ahead += [here + quote(name) for name in folders]
        if not ahead or count >= MOST_LISTINGS:
            means = "give the address of one file, or of a folder in DLR's layout (32/U/PC/2021/…)"
            way.fail("listing", f"no file of the product in {count} folders below {top}", means)
            return
        found = await _get(prober, way, ahead.pop())
        if found is None:
            return
        probe = found
    told = f"understood, {count} folders to the first file"
    way.findings.append(finding("listing", "ok", told, "tiles and months are found by listings"))


async def _search(prober: Prober, way: Way, url: str, document: dict[str, Any]) -> None:
    """Find a file in an API, an item collection or an item."""
    links = Links(named=url)
    items = document.get("features", [document])
    kind = "STAC document"
    if is_api(document):
        kind = "STAC API"
        search = next(iter(links_of(document, "search")), None)
        if search is None:
            way.fail("catalogue", "a STAC API without a link to its search", "it can't be searched")
            return
        try:
            target = links.to_document(url, search["href"])
        except S2L3AError as exc:
            way.fail("catalogue", str(exc), "its search is not used")
            return
        probe = await _get(prober, way, f"{target}?collections={COLLECTION}&limit=1")
        if probe is None:
            return
        items = (_document(probe) or {}).get("features", [])
    refused = ""
    for item in items if isinstance(items, list) else []:
        for href in _hrefs(item):
            try:
                way.file = links.to_file(url, href)
            except S2L3AError as exc:
                refused = str(exc)
                continue
            told = f"{kind}, {item.get('collection', 'no collection')}, {item.get('id')}"
            way.findings.append(finding("catalogue", "ok", told, "one search finds all months"))
            return
    told = refused or f"{kind}, but no item of {COLLECTION} links to a file of the product"
    means = "give an API that has the collection, or --archive and --collection of `s2l3a search`"
    way.fail("catalogue", told, means if not refused else "links like that are never followed")


def _hrefs(item: object) -> list[str]:
    """Give the addresses of an item's files, reflectances first."""
    assets = item.get("assets") if isinstance(item, dict) else None
    values = assets.values() if isinstance(assets, dict) else ()
    hrefs = [str(asset.get("href")) for asset in values if isinstance(asset, dict)]
    return sorted((h for h in hrefs if named_file(h) is not None), key=lambda h: "_FRC_" not in h)
