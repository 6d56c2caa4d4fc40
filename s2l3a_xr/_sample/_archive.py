"""Build the sample archive, a folder in the layout of DLR's download server.

Measured on 2 cores that others used as well: 20 to 30 s (30 s of CPU), 283 MB. More than
half of the bytes are overviews, as means of field borders pack badly; texture is therefore
drawn in the sample's region only, and farther out the parcels are larger.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.resources
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from s2l3a_xr._sample._landscape import Codes, code_of, paint
from s2l3a_xr._sample._layout import CogSpec, Pixels, write_cog
from s2l3a_xr._sample._season import BANDS, LEVELS, QUANTUM, VARIANTS, Cover, reflectances
from s2l3a_xr._sample._strip import Nodes, nodes_of, strip_of
from s2l3a_xr._sample._tiles import (
    NODATA,
    R1_BANDS,
    SAMPLE_TILES,
    SIDE,
    TILE_SIDE,
    YEAR,
    SampleTile,
)
from s2l3a_xr._sample._weather import (
    DENSE,
    FLAG_CLOUD,
    FLAG_LAND,
    FLAG_NODATA,
    FLAG_SNOW,
    FLAG_WATER,
    HAZE,
    HOLE,
    SHADOW,
    SNOW,
    THICK,
    THIN,
    Sky,
    sky_of,
)

Progress = Callable[[int, int], object]
Shorts = NDArray[np.int16]

_STAMP = ".complete"
_NOT_GENERATOR = (
    "__init__.py",
    "_answers.py",
    "_faults.py",
    "_listing.py",
    "_log.py",
    "_server.py",
    "_stac.py",
)
_STRIP_ROWS = 40
_LEVEL = 4
_DAY_S = 86400.0

_CLOUD_VALUE = (2800, 2740, 2780, 2880, 2980, 3060, 3150, 3200, 2600, 2200)
_SNOW_VALUE = (7400, 7300, 7200, 7000, 6900, 6800, 6600, 6400, 1200, 900)
# What is left of the ground under each cover, and how much of cloud or snow is added.
_VEILS = {
    SHADOW: (0.55, 0.0),
    SNOW: (0.2, 0.75),
    HAZE: (0.8, 0.16),
    THIN: (0.6, 0.35),
    THICK: (0.35, 0.6),
    DENSE: (0.1, 0.85),
}
_VEIL_FLAGS = {
    SHADOW: FLAG_CLOUD,
    HAZE: FLAG_CLOUD,
    THIN: FLAG_CLOUD,
    THICK: FLAG_CLOUD,
    DENSE: FLAG_CLOUD,
    SNOW: FLAG_SNOW,
    HOLE: FLAG_NODATA,
}


def build_sample_archive(root: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the folder of the sample archive, built first where it is not there yet.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder that becomes the server's ``/``; it must not exist, or be one that this
        function built. Without it, a folder in the user's cache, named by the state of
        the generator, so that a changed one builds anew.
    progress : callable, optional
        Called as ``progress(done, total)`` after each product.

    Returns
    -------
    pathlib.Path
        The folder that holds ``S2_L3A_WASP/files/``.

    Raises
    ------
    FileExistsError
        If `root` is a folder of somebody else's.
    """
    digest = generator_digest()
    target = user_cache_dir() / f"sample-{digest}" if root is None else Path(root)
    stamp = target / _STAMP
    if _is_complete(target, digest):
        with contextlib.suppress(OSError):
            stamp.touch()  # tells _prune that it is in use
        return target
    if target.exists() and not stamp.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not a sample archive; give a folder that is new")
    if root is None:
        _prune(target.parent)
    part = target.with_name(f"{target.name}.part-{uuid.uuid4().hex[:8]}")
    part.mkdir(parents=True)
    started = time.monotonic()
    try:
        _build(part / "S2_L3A_WASP" / "files", progress)
        built = {"digest": digest, "seconds": round(time.monotonic() - started, 1)}
        (part / _STAMP).write_text(json.dumps(built), encoding="ascii")
        _put_in_place(part, target, digest)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def generator_digest() -> str:
    """Return a short hash of the code that makes the archive."""
    sources = [
        entry
        for entry in importlib.resources.files(__package__ or "s2l3a_xr._sample").iterdir()
        if entry.name.endswith(".py") and entry.name not in _NOT_GENERATOR
    ]
    content = b"".join(entry.read_bytes() for entry in sorted(sources, key=lambda e: e.name))
    # A checkout on Windows may end its lines otherwise.
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()[:12]


def user_cache_dir() -> Path:
    """Return the folder for this package in the user's cache, by the platform's custom."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "s2l3a_xr"


def _is_complete(target: Path, digest: str) -> bool:
    try:
        built = json.loads((target / _STAMP).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return isinstance(built, dict) and built.get("digest") == digest


def _put_in_place(part: Path, target: Path, digest: str) -> None:
    """Rename, unless another process was faster."""
    old = target.with_name(f"{target.name}.part-old-{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(FileNotFoundError):
        if not _is_complete(target, digest):
            target.rename(old)
    try:
        part.rename(target)
    except OSError:
        if not _is_complete(target, digest):
            raise
    shutil.rmtree(old, ignore_errors=True)


def _prune(cache: Path) -> None:
    """Remove what killed builds left, and archives that nobody used for a month."""
    now = time.time()
    for path in cache.glob("sample-*"):
        stamp = path / _STAMP
        with contextlib.suppress(OSError):
            if ".part-" in path.name:
                stale = now - path.stat().st_mtime > _DAY_S
            else:
                stale = stamp.exists() and now - stamp.stat().st_mtime > 30 * _DAY_S
            if stale:
                shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Land:
    """The landscape of one tile."""

    tile: SampleTile
    codes: Codes
    """Shape (3000, 3000)."""
    nodes: Nodes
    """Its coordinates at the nodes."""


def _build(files: Path, progress: Progress | None) -> None:
    workers = min(os.cpu_count() or 1, 8)
    # Threads: numpy and libdeflate let go of the GIL, and spawned processes would run a
    # caller's script a second time.
    with ThreadPoolExecutor(workers, thread_name_prefix="s2l3a-sample-build") as pool:
        lands = list(_lands(pool))
        jobs = [
            pool.submit(_write_product, files, land, month)
            for land in lands
            for month in land.tile.months
        ]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done, len(jobs))
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _lands(pool: ThreadPoolExecutor) -> Iterator[_Land]:
    """Paint the two tiles of zone 32 as one country, then the tile of zone 33."""
    west, east, other = SAMPLE_TILES
    west_left = west.left + 10 * west.col
    cols = (east.left + 10 * (east.col + SIDE) - west_left) // 10
    country = _paint(pool, west, cols)
    for tile in (west, east):
        shift = (tile.left + 10 * tile.col - west_left) // 10
        yield _land(tile, country[:, shift : shift + SIDE])
    yield _land(other, _paint(pool, other, SIDE))


def _paint(pool: ThreadPoolExecutor, tile: SampleTile, cols: int) -> Codes:
    def strip(row: int) -> Codes:
        left, top = tile.left + 10 * tile.col, tile.top - 10 * (tile.row + row)
        rows = _STRIP_ROWS
        return paint(strip_of(left=left, top=top, rows=rows, cols=cols, zone=tile.zone))

    return np.concatenate(list(pool.map(strip, range(0, SIDE, _STRIP_ROWS))))


def _land(tile: SampleTile, codes: Codes) -> _Land:
    left, top = tile.left + 10 * tile.col, tile.top - 10 * tile.row
    nodes = nodes_of(left=left, top=top, rows=SIDE, cols=SIDE, zone=tile.zone)
    return _Land(tile=tile, codes=np.ascontiguousarray(codes), nodes=nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The landscape of one tile and month at one resolution."""

    codes: Codes
    veils: tuple[_Veil, ...]
    hole: NDArray[np.intp]
    """Flat indices of pixels without data."""

    @classmethod
    def of(cls, codes: Codes, cover: NDArray[np.uint8]) -> _View:
        """Find the veiled and missing pixels."""
        veils = tuple(
            _Veil(at=np.flatnonzero(cover == kind), ground=left, added=more, snow=kind == SNOW)
            for kind, (left, more) in _VEILS.items()
        )
        return cls(codes=codes, veils=veils, hole=np.flatnonzero(cover == HOLE))

    def reflectance(self, column: Shorts, index: int, mark: int) -> Shorts:
        """Return one band, every valid pixel marked by its tile."""
        pixels = _look_up(column, self.codes)
        flat = pixels.reshape(-1)
        for veil in self.veils:
            above = (_SNOW_VALUE if veil.snow else _CLOUD_VALUE)[index] * veil.added
            seen = flat[veil.at] * veil.ground + above
            flat[veil.at] = np.rint(seen / QUANTUM).astype(np.int16) * QUANTUM
        flat += np.int16(mark)
        flat[self.hole] = NODATA
        return pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Veil:
    """Pixels that are not clear, and what is seen of them."""

    at: NDArray[np.intp]
    """Flat indices."""
    ground: float
    """What is left of the ground."""
    added: float
    """How much of cloud or snow is added."""
    snow: bool


def _write_product(files: Path, land: _Land, month: int) -> None:
    tile = land.tile
    name = tile.product(month)
    folder = files.joinpath(*tile.folder.parts, str(YEAR), name)
    (folder / "MASKS").mkdir(parents=True)
    (folder / "DATA").mkdir()
    sky = sky_of(tile, month, land.nodes)
    table = reflectances(month).reshape(len(BANDS), -1)
    r1 = _View.of(land.codes, _doubled(sky.cover))
    # A pixel of 20 m is its north-western one of 10 m: means would cost twice the disk.
    r2 = _View.of(np.ascontiguousarray(land.codes[::2, ::2]), sky.cover)
    quicklook = {}
    for index, band in enumerate(BANDS):
        view = r1 if band in R1_BANDS else r2
        pixels = view.reflectance(table[index], index, tile.mark)
        _write(folder / f"{name}_FRC_{band}.tif", pixels, tile, nodata=NODATA)
        if band in ("B2", "B3", "B4"):
            quicklook[band] = pixels[::32, ::32]
    _write_masks(folder / "MASKS", name, land, sky)
    _write_papers(folder, name, tile, [quicklook[band] for band in ("B4", "B3", "B2")])
    _set_times(folder, month)


def _look_up(table: NDArray[Any], codes: Codes) -> NDArray[Any]:
    """Take table[codes] by rows: numpy widens the indices, which is dear in one piece."""
    found = np.empty(codes.shape, table.dtype)
    for top in range(0, codes.shape[0], 64):
        rows = slice(top, top + 64)
        np.take(table, codes[rows], out=found[rows], mode="clip")
    return found


def _doubled(layer: NDArray[Any]) -> NDArray[Any]:
    """Repeat each pixel of 20 m as four of 10 m."""
    return layer.repeat(2, axis=0).repeat(2, axis=1)


def _write(path: Path, pixels: Pixels, tile: SampleTile, *, nodata: int | None) -> None:
    coarse = SIDE // pixels.shape[0]
    spec = CogSpec(
        width=TILE_SIDE // coarse,
        height=TILE_SIDE // coarse,
        epsg=tile.epsg,
        left=tile.left,
        top=tile.top,
        resolution_m=10 * coarse,
        nodata=nodata,
        row_offset=tile.row // coarse,
        col_offset=tile.col // coarse,
        level=_LEVEL,
    )
    write_cog(path, pixels, spec)


def _write_masks(folder: Path, name: str, land: _Land, sky: Sky) -> None:
    water = np.full(len(Cover) * VARIANTS * LEVELS, FLAG_LAND, np.uint8)
    first = code_of(Cover.WATER)
    water[first : first + VARIANTS * LEVELS] = FLAG_WATER
    for suffix in ("R1", "R2"):
        codes = land.codes if suffix == "R1" else land.codes[::2, ::2]
        fit = _doubled if suffix == "R1" else np.asarray
        cover, weight, day = fit(sky.cover), fit(sky.weight), fit(sky.day)
        flag = _look_up(water, codes)
        for kind, value in _VEIL_FLAGS.items():
            flag[cover == kind] = value
        for layer, pixels in (("FLG", flag), ("WGT", weight), ("DTS", day)):
            nodata = None if layer == "FLG" else NODATA
            _write(folder / f"{name}_{layer}_{suffix}.tif", pixels, land.tile, nodata=nodata)


def _write_papers(folder: Path, name: str, tile: SampleTile, bands: list[Shorts]) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- Made by s2l3a_xr; a sample, not a product of DLR. -->\n"
        f"<Sample><PRODUCT_ID>{name}</PRODUCT_ID><TILE>T{tile.name}</TILE></Sample>\n"
    )
    (folder / f"{name}_MTD_ALL.xml").write_text(text, encoding="utf-8")
    (folder / "DATA" / f"{name}_IPP_ALL.xml").write_text(text, encoding="utf-8")
    side = -(-TILE_SIDE // 32)
    picture = np.zeros((side, side, 3), np.uint8)
    row, col = tile.row // 32, tile.col // 32
    small = np.stack(bands, axis=-1).clip(0, 2550) // 10
    rows, cols = small.shape[0], min(small.shape[1], side - col)
    picture[row : row + rows, col : col + cols] = small[:, :cols]
    (folder / f"{name}_QKL_ALL.jpg").write_bytes(imagecodecs.jpeg8_encode(picture, level=85))


def _set_times(folder: Path, month: int) -> None:
    """Date a product to the days after its month, as an archive would have it."""
    when = dt.datetime(YEAR, month + 1, 28, 6, 15, tzinfo=dt.UTC).timestamp()
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (when, when))
