"""STAC items read for what they say of files, and an archive made of them."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from s2l3a_xr._aoi import COVERAGE, Aoi
from s2l3a_xr._archive import Listed, Origin, band_resolution
from s2l3a_xr._errors import ArchiveError, MissingError, MissingWarning
from s2l3a_xr._product import BANDS, Band, Product
from s2l3a_xr._stac._documents import links_of
from s2l3a_xr._stac._doubts import doubt_about
from s2l3a_xr._stac._links import LinkRefusedError, Links
from s2l3a_xr._texts import redact
from s2l3a_xr._tiles import tiles_over
from s2l3a_xr._transport import Session, is_http

Layer: TypeAlias = tuple[str, int]
"""Native band name and pixel size in metres."""

_FILE = re.compile(
    r"(?P<name>.+)_(?:FRC_(?P<band>B\d{1,2}A?)|(?P<mask>FLG|WGT|DTS)_(?P<size>R[12]))\.tiff?",
    re.ASCII,
)
_KEY = re.compile(r"(?:FRC_(?P<band>B\d{1,2}A?)|(?P<mask>FLG|WGT|DTS)_R[12])", re.ASCII)
_SIZES_M = {"R1": 10, "R2": 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFile:
    """A file that an item links to.

    Parameters
    ----------
    product : Product
        As the file's name says: ids of items lack the version.
    layer : Layer
        Which of the product's files it is.
    url : str
        Where it is.
    size : int or None
        Bytes, None where not said.
    """

    product: Product
    layer: Layer
    url: str
    size: int | None


@dataclass(slots=True)
class Findings:
    """What items say; several can be joined."""

    files: list[ItemFile] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Links that must not be followed, and why."""
    unclear: list[str] = field(default_factory=list)
    """Items and assets that can't be understood."""
    short: list[str] = field(default_factory=list)
    """Searches that gave less than they said."""
    licenses: set[str] = field(default_factory=set)
    doubts: dict[Product, str] = field(default_factory=dict)
    """Items that say of themselves what does not fit their files, and what."""

    def join(self, other: Findings) -> None:
        """Take over what others found."""
        self.files += other.files
        self.refused += other.refused
        self.unclear += other.unclear
        self.short += other.short
        self.licenses |= other.licenses
        self.doubts |= other.doubts

    def take(self, item: object, base: str, links: Links) -> None:
        """Read one item.

        Parameters
        ----------
        item : object
            From JSON; anything.
        base : str
            URL or path of the document that it came in, empty for none.
        links : Links
            What may be followed.
        """
        if not isinstance(item, Mapping) or not isinstance(item.get("assets"), Mapping):
            name = item.get("id") if isinstance(item, Mapping) else item
            self.unclear.append(f"{str(name)[:200]!r} is no item with assets")
            return
        properties = item.get("properties")
        license_name = properties.get("license") if isinstance(properties, Mapping) else None
        if isinstance(license_name, str):
            self.licenses.add(license_name)
        home = _home(item, base, links)
        name = str(item.get("id"))[:200]
        products = {
            self._take_asset(f"{name} {str(key)[:50]}", key, asset, home, links)
            for key, asset in item["assets"].items()
        }
        for product in products - {None}:
            if product is not None and (doubt := doubt_about(item, product)):
                self.doubts[product] = f"the STAC item {name!r}: {doubt}"

    def _take_asset(
        self, what: str, key: object, asset: object, home: str, links: Links
    ) -> Product | None:
        href = asset.get("href") if isinstance(asset, Mapping) else None
        named = _named_file(href) if isinstance(href, str) else None
        if named is None or not isinstance(href, str) or not isinstance(asset, Mapping):
            if _is_layer(key):
                self.unclear.append(f"{what} names no file of a product")
            return None
        product, layer = named
        try:
            url = links.to_file(home, href)
        except LinkRefusedError as exc:
            self.refused.append(f"{what}: {exc}")
            return None
        size = asset.get("file:size")
        self.files.append(
            ItemFile(
                product=product,
                layer=layer,
                url=url,
                size=size if isinstance(size, int) and size > 0 else None,
            )
        )
        return product

    def remarks(self) -> list[str]:
        """Say what was left out.

        Returns
        -------
        list of str
            A sentence for each kind.
        """
        told = [
            (f"{len(self.refused)} links of STAC items are not followed", self.refused),
            (f"{len(self.unclear)} STAC items or assets can't be understood", self.unclear),
        ]
        return [f"{text}; the first: {lines[0]}." for text, lines in told if lines] + self.short


def _home(item: Mapping[Any, Any], base: str, links: Links) -> str:
    """Find what relative links of an item begin from."""
    if base and not is_http(base):
        return base
    # DLR's items have several; one is a path in its own storage.
    for link in links_of(dict(item), "self"):
        if is_http(link["href"]):
            try:
                return links.to_document(base, str(link["href"]))
            except LinkRefusedError:
                continue
    return base


def _named_file(href: str) -> tuple[Product, Layer] | None:
    """Read product and layer off a file's name; asset keys are weaker evidence."""
    try:
        path = urlsplit(href).path
    except ValueError:
        return None
    found = _FILE.fullmatch(unquote(re.split(r"[/\\]", path)[-1]))
    product = Product.parse(found["name"]) if found else None
    if found is None or product is None:
        return None
    native = found["band"] or found["mask"]
    if native not in BANDS:  # the collection lists B9 and B10, which nobody makes
        return None
    band = BANDS[native]
    return product, (native, _SIZES_M[found["size"]] if band.is_mask else band.resolution_m)


def _is_layer(key: object) -> bool:
    found = _KEY.fullmatch(str(key))
    return found is not None and (found["band"] or found["mask"]) in BANDS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemArchive:
    """An archive that is known as a whole, from STAC items.

    Parameters
    ----------
    url : str
        Where files lie in DLR's layout, with a slash behind it.
    origin : Origin
        The catalogue.
    found : mapping
        Each product's files; ``url`` is empty where it follows from the archive's.
    remarks : tuple of str
        What was left out.
    doubts : mapping
        Products whose items contradict them, and how.
    """

    url: str
    origin: Origin
    found: Mapping[Product, Mapping[Layer, Listed]]
    remarks: tuple[str, ...]
    doubts: Mapping[Product, str] = field(default_factory=dict)

    def check(self, aoi: Aoi, where: str) -> None:
        """Warn about what was left out, and fail where there is nothing of an area.

        Parameters
        ----------
        aoi : Aoi
            The area.
        where : str
            The catalogue, for messages.

        Raises
        ------
        MissingError
            No file is of a tile that touches the area.
        """
        for remark in self.remarks:
            warnings.warn(remark, MissingWarning, stacklevel=2)
        tiles = {product.tile for product in self.found}
        if tiles.isdisjoint(tile.name for tile in tiles_over(aoi)):
            msg = (
                f"{where} has no file of the product at {aoi.describe()}; {COVERAGE}. "
                "If the AOI lies elsewhere, check its CRS and that x is longitude or easting; if "
                "not, the collection. Files are known by their names, such "
                "as SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2_FRC_B4.tif."
            )
            raise MissingError(msg)

    async def products(self, _: Session, tile: str, year: int) -> tuple[Product, ...]:
        """Give a tile's products of a year; none whose item contradicts it is believed."""
        found = tuple(p for p in self.found if (p.tile, p.year) == (tile, year))
        for product in found:
            if product in self.doubts:
                msg = (
                    f"{self.doubts[product]}. It can't be told which is right: ask for other "
                    "months, hand over the items that are right (archive=[…]), or tell whoever "
                    "keeps the catalogue."
                )
                raise ArchiveError(msg)
        return found

    async def files(
        self, _: Session, product: Product, bands: Iterable[Band], resolution_m: int
    ) -> dict[str, Listed]:
        """Give those bands' files that there are."""
        files = self.found.get(product, {})
        keys = {band.native: (band.native, band_resolution(band, resolution_m)) for band in bands}
        return {native: files[key] for native, key in keys.items() if key in files}

    async def years(self, _: Session, tile: str) -> tuple[int, ...]:
        """Give the years of a tile."""
        return tuple(sorted({p.year for p in self.found if p.tile == tile}))


def make_archive(findings: Findings, origin: Origin) -> ItemArchive:
    """Put an archive together.

    Parameters
    ----------
    findings : Findings
        From all items.
    origin : Origin
        The catalogue.

    Returns
    -------
    ItemArchive
        Ready to be asked.
    """
    url = _common_base(findings.files) or f"{origin.catalogue.rstrip('/')}/"
    found: dict[Product, dict[Layer, Listed]] = {}
    twice = set()
    # What is in DLR's layout first, then by address: the catalogue's order decides nothing.
    places = {(file.url != url + _path(file), file.url): file for file in findings.files}
    for (is_elsewhere, place), file in sorted(places.items(), key=lambda pair: pair[0]):
        listed = Listed(size=file.size, url=place if is_elsewhere else "")
        kept = found.setdefault(file.product, {}).setdefault(file.layer, listed)
        if redact(kept.url or url + _path(file)) != redact(file.url):  # tokens differ, and may
            twice.add(redact(file.url).rpartition("/")[2])
    if twice:
        findings.short.append(
            f"{len(twice)} files have several addresses in the STAC catalogue, the first is "
            f"{min(twice)}: of each, the address in DLR's layout or else the first one is read."
        )
    return ItemArchive(
        url=url,
        origin=origin,
        found=found,
        remarks=tuple(findings.remarks()),
        doubts=findings.doubts,
    )


def _path(file: ItemFile) -> str:
    native, resolution_m = file.layer
    return file.product.file(BANDS[native], resolution_m)


def _common_base(files: Sequence[ItemFile]) -> str:
    """Find where most of the files in DLR's layout begin, empty where none is in it."""
    bases = Counter(
        file.url.removesuffix(path)
        for file in files
        if (path := _path(file)) and file.url.endswith(f"/{path}")
    )
    return bases.most_common(1)[0][0] if bases else ""
