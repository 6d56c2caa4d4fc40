"""One GeoTIFF: packed, written whole, and known again by what it holds."""

from __future__ import annotations

import contextlib
import logging
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window

from s2l3a_xr._disk import what_helps, whole_file
from s2l3a_xr._errors import ExportError
from s2l3a_xr._raster import Raster

_log = logging.getLogger(__name__)

Profile = Literal["compressed", "plain", "cog"]

TILE_PX = 256

PROFILES: dict[str, dict[str, Any]] = {
    "compressed": {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "compress": "DEFLATE",
        "zlevel": 6,
        "num_threads": "all_cpus",
    },
    "plain": {"driver": "GTiff"},
    "cog": {
        "driver": "COG",
        "compress": "DEFLATE",
        "overview_resampling": "NEAREST",
        "num_threads": "all_cpus",
    },
}
_TAG, _OURS, _SUM = "S2L3A_CONTENT", "S2L3A", "S2L3A_PIXELS"
_ROWS_AT_ONCE = 1024


def write_geotiff(
    path: Path, pixels: np.ndarray, raster: Raster, profile: str, *, name: str, content: str | None
) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : Path
        Where it goes; what is there is replaced.
    pixels : ndarray, shape (height, width)
        One plane.
    raster : Raster
        Its place and type.
    profile : str
        How it is packed.
    name : str
        Of the band.
    content : str or None
        What the pixels are, for `claims_content`; None where something of them failed.

    Raises
    ------
    ExportError
        It can't be written.
    """
    pixels = np.ascontiguousarray(pixels, dtype=raster.dtype)
    checksum = zlib.crc32(pixels.data.cast("B")) if content is not None else 0
    with (
        whole_file(path) as place,
        _packed(path, creation_options(raster, profile)) as (file, memory),
    ):
        # Tags first: the header then stays in front, and is there when the end is cut off.
        file.update_tags(**_tags(content, checksum))
        file.set_band_description(1, name)
        file.write(pixels, 1)
        file.close()
        place.write_bytes(memory.getbuffer())


def blank_geotiff(
    raster: Raster, profile: str, *, name: str, content: str | None, checksum: int, big: bool
) -> tuple[bytes, int]:
    """Make the header of a file whose blocks lie nowhere yet.

    Parameters
    ----------
    raster : Raster
        Its place and type.
    profile : {"compressed", "plain"}
        How it is packed.
    name : str
        Of the band.
    content : str or None
        As in `write_geotiff`.
    checksum : int
        CRC-32 of its pixels.
    big : bool
        Whether it may be larger than 4 GB.

    Returns
    -------
    tuple of bytes and int
        The header, and the height of its blocks.
    """
    options = creation_options(raster, profile) | {"sparse_ok": True}
    options["bigtiff"] = "YES" if big else "NO"
    with _packed(Path("blank.tif"), options) as (file, memory):
        file.update_tags(**_tags(content, checksum))
        file.set_band_description(1, name)
        height = int(file.block_shapes[0][0])
        file.close()
        return bytes(memory.getbuffer()), height


def _tags(content: str | None, checksum: int) -> dict[str, str]:
    """Say that a file is ours, and what it holds where that is known."""
    known = {} if content is None else {_TAG: content, _SUM: f"{checksum:08x}"}
    return {_OURS: "1"} | known


@contextlib.contextmanager
def _packed(path: Path, options: dict[str, Any]) -> Iterator[tuple[Any, MemoryFile]]:
    """Make a file in memory: GDAL keeps quiet when a disk is full."""
    try:
        with MemoryFile(ext=".tif") as memory, memory.open(**options) as file:
            yield file, memory
    except rasterio.errors.RasterioError as exc:
        msg = f"{path} can't be packed: {exc}"
        raise ExportError(msg, hint="try another profile, or tell the package's authors.") from exc


def creation_options(raster: Raster, profile: str) -> dict[str, Any]:
    """Say how a file is made.

    Parameters
    ----------
    raster : Raster
        Its place and type.
    profile : str
        How it is packed.

    Returns
    -------
    dict
        Options for rasterio.
    """
    options = dict(PROFILES[profile])
    if profile != "plain":
        options["predictor"] = 3 if raster.dtype.startswith("float") else 2
        options["bigtiff"] = "IF_SAFER"
    return options | {
        "count": 1,
        "width": raster.width,
        "height": raster.height,
        "transform": raster.transform,
        "crs": raster.crs,
        "dtype": raster.dtype,
        "nodata": raster.nodata,
    }


def claims_content(path: Path, raster: Raster, content: str, *, overwrite: bool) -> bool:
    """Tell whether a file is there whose header says a certain content.

    Parameters
    ----------
    path : Path
        The file.
    raster : Raster
        What place and type it must have.
    content : str
        What its pixels must be.
    overwrite : bool
        Whether a file of something else may be replaced.

    Returns
    -------
    bool
        False where the file is to be written.

    Raises
    ------
    ExportError
        Something else is in the place.
    """
    try:
        if not path.exists():
            return False
        with open_any(path) as file:
            tags, other = file.tags(), _what_differs(file, raster)
    except OSError as exc:
        if not isinstance(exc, rasterio.RasterioIOError):  # the name is too long
            msg = f"{path} can't be written: {exc}"
            raise ExportError(msg, hint=what_helps(exc, path)) from exc
        tags, other = {}, "it is no TIFF, or its header is damaged"
    if not other and tags.get(_TAG) == content:
        return True
    if overwrite or (tags.get(_OURS) == "1" and _TAG not in tags):  # ours, and not complete
        return False
    if not other:
        other = (
            "other source files, profile or computation, or an area of another shape"
            if _TAG in tags
            else "another program wrote it"
        )
    msg = (
        f"{path} is there already and was made of something else: {other}; pass "
        "overwrite=True (--overwrite) to replace it, or write to another folder."
    )
    raise ExportError(msg)


def is_own(path: Path, raster: Raster) -> bool:
    """Tell whether a file is of this package, and of a certain place and type.

    Parameters
    ----------
    path : Path
        The file.
    raster : Raster
        What place and type it must have.

    Returns
    -------
    bool
        False where it can't be read, too.
    """
    try:
        with open_any(path) as file:
            return not {_OURS, _TAG}.isdisjoint(file.tags()) and not _what_differs(file, raster)
    except rasterio.errors.RasterioError:
        return False


def _what_differs(file: Any, raster: Raster) -> str:  # noqa: ANN401 - rasterio is untyped
    """Name what a file's place and type have that they should not; nothing where they are right."""
    corner = (raster.transform.c, raster.transform.f)
    pairs = {
        "CRS": (file.crs, rasterio.CRS.from_wkt(raster.crs)),
        "columns and rows": ((file.width, file.height), (raster.width, raster.height)),
        "corner": ((file.transform.c, file.transform.f), corner),
        "transform": (tuple(file.transform), tuple(raster.transform)),
        "dtype": (file.dtypes[0], raster.dtype),
        "nodata": (file.nodata, raster.nodata),
    }
    for name, (there, wanted) in pairs.items():
        if there != wanted:
            return f"its {name} {'are' if name[-1:] == 's' else 'is'} {there}, not {wanted}"
    return ""


def open_any(path: Path) -> Any:  # noqa: ANN401 - rasterio is untyped
    """Open a file that may be anybody's, in the thread of the user.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    rasterio.DatasetReader
        Without a warning where it does not say where it lies: then it is none of ours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, driver="GTiff")


def is_sound(path: Path) -> bool:
    """Hold a file's pixels against their checksum: name and header outlive cut and rotten bytes.

    Parameters
    ----------
    path : Path
        A file that claims its content.

    Returns
    -------
    bool
        False, with a message in the log, where they are not those that were written.
    """
    try:
        with rasterio.open(path, driver="GTiff") as file:
            told = file.tags().get(_SUM)
            found = checksum_of(file)
    except rasterio.errors.RasterioError as exc:
        _log.warning("%s is damaged and is made anew: %s", path, exc)
        return False
    if told != f"{found:08x}":
        _log.warning("%s is damaged and is made anew: its pixels are not those written", path)
        return False
    return True


def checksum_of(file: Any, band: int = 1) -> int:  # noqa: ANN401 - rasterio is untyped
    """Read all pixels of an open file's band, some rows at a time.

    Parameters
    ----------
    file : rasterio.DatasetReader
        The file.
    band : int, default 1
        Which one.

    Returns
    -------
    int
        CRC-32 of its pixels.
    """
    found = 0
    step = max(file.block_shapes[0][0], _ROWS_AT_ONCE)
    for top in range(0, file.height, step):
        rows = Window(0, top, file.width, min(step, file.height - top))
        found = zlib.crc32(file.read(band, window=rows).data.cast("B"), found)
    return found
