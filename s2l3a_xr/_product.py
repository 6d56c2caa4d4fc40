"""Bands, product names and the places of files in DLR's layout."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from s2l3a_xr._errors import SelectionError

NODATA = -10000
"""Value of reflectance, weight and date pixels that were never seen."""

QUANTIFICATION = 10000
"""Reflectance is the stored number divided by this."""

Kind = Literal["reflectance", "flag", "weight", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One layer of a product.

    Parameters
    ----------
    native : str
        DLR's name, such as ``B4`` or ``FLG``.
    common : str
        The name that STAC and eCognition users write, such as ``red``.
    resolution_m : int
        Native pixel size in metres; masks come in 10 and 20 m.
    kind : {"reflectance", "flag", "weight", "date"}
        What the numbers mean.
    title : str
        What it shows, with the central wavelength in nm for reflectances.
    """

    native: str
    common: str
    resolution_m: int
    kind: Kind
    title: str

    def suffix(self, resolution_m: int) -> str:
        """File name behind the product's name, folder included.

        Parameters
        ----------
        resolution_m : int
            Wanted pixel size in metres; only masks have a choice.

        Returns
        -------
        str
            For example ``_FRC_B4.tif``; masks have ``_FLG_R1.tif`` (10 m) or ``_FLG_R2.tif``.
        """
        if self.kind == "reflectance":
            return f"_FRC_{self.native}.tif"
        return f"_{self.native}_{'R1' if resolution_m < 20 else 'R2'}.tif"  # noqa: PLR2004 - 20 m

    @property
    def is_mask(self) -> bool:
        """Whether the file lies in the product's ``MASKS`` folder."""
        return self.kind != "reflectance"


def _reflectance(native: str, common: str, resolution_m: int, wavelength_nm: int) -> Band:
    return Band(
        native=native,
        common=common,
        resolution_m=resolution_m,
        kind="reflectance",
        title=f"surface reflectance, {common}, {wavelength_nm} nm",
    )


BANDS: dict[str, Band] = {
    band.native: band
    for band in (
        _reflectance("B2", "blue", 10, 492),
        _reflectance("B3", "green", 10, 560),
        _reflectance("B4", "red", 10, 665),
        _reflectance("B5", "rededge1", 20, 704),
        _reflectance("B6", "rededge2", 20, 740),
        _reflectance("B7", "rededge3", 20, 783),
        _reflectance("B8", "nir", 10, 833),
        _reflectance("B8A", "nir08", 20, 865),
        _reflectance("B11", "swir16", 20, 1614),
        _reflectance("B12", "swir22", 20, 2202),
        Band(native="FLG", common="flg", resolution_m=10, kind="flag", title="class of the pixel"),
        Band(native="WGT", common="wgt", resolution_m=10, kind="weight", title="weight x 1000"),
        Band(
            native="DTS",
            common="dts",
            resolution_m=10,
            kind="date",
            title="weighted mean day of the year, 1 January is 0",
        ),
    )
}
_BY_ANY_NAME = {name: band for band in BANDS.values() for name in (band.native, band.common)}


def _meant_by(text: object) -> list[str]:
    """Find the bands behind B04, b4, Red, "B4,B8" or "B4 B8"."""
    parts = re.split(r"[,;\s]+", re.sub(r"\bB0", "B", str(text).strip(), flags=re.IGNORECASE))
    known = {name.lower(): name for name in _BY_ANY_NAME}
    return [known[part.lower()] for part in parts if part.lower() in known]


def band_names(bands: object) -> tuple[str, ...]:
    """Take what a user wrote for bands.

    Parameters
    ----------
    bands : object
        A name or several.

    Returns
    -------
    tuple of str
        As written.

    Raises
    ------
    SelectionError
        It is neither.
    """
    if isinstance(bands, str):
        return (bands,)
    names = tuple(bands) if isinstance(bands, Iterable) else (bands,)
    if all(isinstance(name, str) for name in names):
        return names
    msg = f"bands={bands!r} must be a band's name or several of them, such as ['B4', 'B8']."
    raise SelectionError(msg)


def resolve_bands(names: str | Iterable[str]) -> tuple[Band, ...]:
    """Find bands by native or common name.

    Parameters
    ----------
    names : str or iterable of str
        ``"B4"``, ``"red"``, ``["B2", "nir"]``.

    Returns
    -------
    tuple of Band
        In the order asked for.

    Raises
    ------
    SelectionError
        No name, an unknown one, or one band twice.

    Examples
    --------
    >>> [band.native for band in resolve_bands(["red", "B8"])]
    ['B4', 'B8']
    """
    asked = [names] if isinstance(names, str) else list(names)
    if not asked:
        msg = f"bands is empty; choose from {', '.join(BANDS)}."
        raise SelectionError(msg)
    unknown = [name for name in asked if name not in _BY_ANY_NAME]
    if unknown:
        meant = [name for text in unknown for name in _meant_by(text)]
        is_list = isinstance(names, str) and len(meant) > 1
        said = f"a list, {meant}" if is_list else ", ".join(map(repr, meant))
        hint = f" (perhaps {said})" if meant else ""
        msg = (
            f"no such band: {', '.join(map(repr, unknown))}{hint}; choose from {', '.join(BANDS)} "
            f"or {', '.join(band.common for band in BANDS.values())}."
        )
        raise SelectionError(msg)
    found = tuple(_BY_ANY_NAME[name] for name in asked)
    twice = sorted({band.native for band in found if found.count(band) > 1})
    if twice:
        msg = f"asked for more than once in bands={asked!r}: {', '.join(twice)}; name each once."
        raise SelectionError(msg)
    return found


_NAME = re.compile(
    r"SENTINEL(?P<platform>2[A-Z])_(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
    r"-(?P<clock>\d{6}-\d{3})_L3A_T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})"
    r"_(?P<distribution>[A-Z])_V(?P<version>\d+-\d+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Product:
    """One tile and month of the archive.

    Parameters
    ----------
    tile : str
        MGRS tile, such as ``32UPC``.
    year, month, day : int
        Date in the name; DLR's day is always 15.
    platform : str
        ``2A``, ``2B``, or ``2X`` for both.
    clock : str
        Time in the name, zeros at DLR.
    distribution : str
        ``C`` at DLR.
    version : str
        Such as ``1-2``.
    """

    tile: str
    year: int
    month: int
    day: int = 15
    platform: str = "2X"
    clock: str = "000000-000"
    distribution: str = "C"
    version: str = "1-2"

    @classmethod
    def parse(cls, name: str) -> Product | None:
        """Read a product's name.

        Parameters
        ----------
        name : str
            A folder name.

        Returns
        -------
        Product or None
            None where it is no product's name.

        Examples
        --------
        >>> Product.parse("SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2").tile
        '32UPC'
        """
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        year, month, day = (int(match[part]) for part in ("year", "month", "day"))
        try:
            dt.date(year, month, day)
        except ValueError:
            return None
        return cls(
            tile=match["tile"],
            year=year,
            month=month,
            day=day,
            platform=match["platform"],
            clock=match["clock"],
            distribution=match["distribution"],
            version=match["version"],
        )

    @property
    def name(self) -> str:
        """The product's name, which is its folder's name too."""
        return (
            f"SENTINEL{self.platform}_{self.year:04}{self.month:02}{self.day:02}-{self.clock}"
            f"_L3A_T{self.tile}_{self.distribution}_V{self.version}"
        )

    @property
    def folder(self) -> str:
        """Path of the product's folder below the archive, with a slash behind it."""
        return f"{year_folder(self.tile, self.year)}{self.name}/"

    @property
    def rank(self) -> tuple[int, ...]:
        """Key that is greatest for the newest version of a month."""
        return tuple(int(part) for part in self.version.split("-"))

    def file(self, band: Band, resolution_m: int) -> str:
        """Path of one file below the archive.

        Parameters
        ----------
        band : Band
            The layer.
        resolution_m : int
            Wanted pixel size in metres; only masks have a choice.

        Returns
        -------
        str
            Relative path with ``/``.
        """
        masks = "MASKS/" if band.is_mask else ""
        return f"{self.folder}{masks}{self.name}{band.suffix(resolution_m)}"


def tile_folder(tile: str) -> str:
    """Path of a tile's folder below the archive, with a slash behind it.

    Parameters
    ----------
    tile : str
        MGRS tile.

    Returns
    -------
    str
        Relative path.

    Examples
    --------
    >>> tile_folder("32UPC")
    '32/U/PC/'
    """
    return f"{tile[:2]}/{tile[2]}/{tile[3:]}/"


def year_folder(tile: str, year: int) -> str:
    """Path of a tile's year below the archive, with a slash behind it.

    Parameters
    ----------
    tile : str
        MGRS tile.
    year : int
        Calendar year.

    Returns
    -------
    str
        Relative path.
    """
    return f"{tile_folder(tile)}{year:04}/"
