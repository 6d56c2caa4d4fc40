"""Inventories on disk, so that what was used can be used again: GeoParquet and GeoJSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import geopandas as gpd
import pyproj
import shapely

from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._cells import MISSING, STATUSES, Cell
from s2l3a_xr._cover import Cover
from s2l3a_xr._disk import whole_file
from s2l3a_xr._errors import ExportError, S2L3AError, SelectionError
from s2l3a_xr._grid import Grid
from s2l3a_xr._paths import take_path
from s2l3a_xr._places import is_below
from s2l3a_xr._product import Product, resolve_bands
from s2l3a_xr._tiles import Tile, footprint, tile_named

_FORMAT, _VERSION = "s2l3a_xr inventory", 1
_MEMBER = "s2l3a_xr"
"""Where the head stands in a GeoJSON, and in a Parquet file's metadata."""

_JSON, _PARQUET = frozenset({".json", ".geojson"}), frozenset({".parquet", ".geoparquet"})
_LARGEST_BYTES = 2**30
_LONGEST_URL = 4096
_LONGEST_SIDE_PX = 2**20
_SCHEMES = frozenset({"", "file", "http", "https", "s3", "gs", "gcs", "abfs", "az", "memory"})
_PACKED = frozenset({"zip", "tar"})
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")
_BROKEN = (
    ArithmeticError, AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError,
    S2L3AError, pyproj.exceptions.ProjError, shapely.errors.ShapelyError,
)  # fmt: skip


def write_pin(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> Path:
    """Write an inventory's facts, complete or not at all.

    Parameters
    ----------
    path : str or path
        ``.parquet`` or ``.geoparquet``, ``.json`` or ``.geojson``.
    facts : mapping
        The fields of an `Inventory`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ExportError
        It can't be written.
    """
    target = take_path(path, "the inventory's file", ExportError)
    head, rows = _head(facts), [_row(cell) for cell in facts["cells"]]
    with whole_file(target) as place:
        if _is_parquet(target, ExportError):
            _write_parquet(place, head, rows)
        else:
            place.write_text(_as_geojson(head, rows), "utf-8")
    return target


def read_pin(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an inventory's facts; every name and number in the file is held against what can be.

    Parameters
    ----------
    path : str or path
        As written by `write_pin`.

    Returns
    -------
    dict
        The fields of an `Inventory`.

    Raises
    ------
    SelectionError
        There is no such file, or it is not an inventory.
    """
    source = take_path(path, "inventory=…", SelectionError)
    if not source.is_file():
        msg = f"there is no inventory {source}; Inventory.save writes one."
        raise SelectionError(msg)
    is_parquet = _is_parquet(source, SelectionError)
    try:
        if source.stat().st_size > _LARGEST_BYTES:
            msg = f"it is larger than {_LARGEST_BYTES} bytes"
            raise ValueError(msg)
        head, rows = _read_parquet(source) if is_parquet else _read_geojson(source)
        return _facts(head, rows)
    except _BROKEN as exc:
        reason = f"it lacks {exc}" if isinstance(exc, KeyError) else str(exc)
        msg = f"{source} can't be read as an inventory ({reason}); save it anew with Inventory.save"
        raise SelectionError(msg) from exc


def _is_parquet(path: Path, error: type[S2L3AError]) -> bool:
    suffix = path.suffix.lower()
    if suffix not in _JSON | _PARQUET:
        known = ", ".join(sorted(_JSON | _PARQUET))
        msg = f"an inventory's file name must end in one of {known}, got {path.name!r}."
        raise error(msg)
    if suffix in _PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401, PLC0415 - an optional extra
        except ImportError as exc:
            msg = 'Parquet needs pyarrow (pip install "s2l3a_xr[io]"); .json does without it.'
            raise error(msg) from exc
    return suffix in _PARQUET


# what is written


def _head(facts: Mapping[str, Any]) -> dict[str, Any]:
    aoi, grid, cover, origin = (facts[name] for name in ("aoi", "grid", "cover", "origin"))
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "license": origin.license,
        "references": origin.references,
        "catalogue": _without_password(origin.catalogue),
        "when": facts["when"],
        "archive": _without_password(facts["archive_url"]),
        "bands": list(facts["bands"]),
        "cover": {"tiles": [tile.name for tile in cover.tiles], "uncovered": cover.uncovered},
        "grid": {name: getattr(grid, name) for name in Grid.__dataclass_fields__},
        "aoi": {
            "crs": aoi.crs,
            "geometries": [shapely.geometry.mapping(feature) for feature in aoi.features],
        },
    }


def _row(cell: Cell) -> dict[str, Any]:
    year, month = cell.month
    return {
        "tile": cell.tile,
        "month": f"{year:04}-{month:02}",
        "product": cell.product.name if cell.product else None,
        "status": list(cell.status),
        "size": list(cell.sizes),
        "url": [_without_password(url) for url in cell.urls],
    }


def _without_password(url: str) -> str:
    """Leave out what logs in: the file is handed on."""
    parts = urlsplit(url) if "://" in url and "@" in url else None
    if parts is None or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _as_geojson(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the head so that it can be read, then one line for each tile and month."""
    tiles = {row["tile"] for row in rows}
    shapes = {name: shapely.geometry.mapping(footprint(tile_named(name))) for name in tiles}
    lines = [
        json.dumps({"type": "Feature", "properties": row, "geometry": shapes[row["tile"]]})
        for row in rows
    ]
    features = ",\n".join(lines)
    begin = "{\n" + ",\n".join(
        [
            '"type": "FeatureCollection"',
            f'"{_MEMBER}": {{\n'
            + ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in head.items())
            + "\n}",
        ]
    )
    return f'{begin},\n"features": [\n{features}\n]\n}}\n'


def _write_parquet(path: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an optional extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    texts = pa.list_(pa.string())
    shapes = {
        name: shapely.to_wkb(footprint(tile_named(name))) for name in {r["tile"] for r in rows}
    }
    fields = {
        "tile": pa.string(), "month": pa.string(), "product": pa.string(), "status": texts,
        "size": pa.list_(pa.int64()), "url": texts,
    }  # fmt: skip
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in fields.items()}
    columns["geometry"] = pa.array([shapes[row["tile"]] for row in rows], pa.binary())
    column = {"encoding": "WKB", "geometry_types": ["Polygon"]}  # lon/lat where no CRS is named
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = pa.table(columns).replace_schema_metadata(
        {"geo": json.dumps(geo), _MEMBER: json.dumps(head)}
    )
    pq.write_table(table, path, compression="zstd")


# what is read


def _read_geojson(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    document = json.loads(path.read_text("utf-8"))
    if not isinstance(document, Mapping) or _MEMBER not in document:
        msg = "it is no inventory of this package"
        raise ValueError(msg)
    return document[_MEMBER], [feature["properties"] for feature in document["features"]]


def _read_parquet(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - an optional extra

    with pq.ParquetFile(path) as file:
        kept = file.schema_arrow.metadata or {}
        if _MEMBER.encode() not in kept:
            msg = "it is no inventory of this package"
            raise ValueError(msg)
        columns = ["tile", "month", "product", "status", "size", "url"]
        table = file.read(columns=columns).to_pydict()
    rows = zip(*(table[name] for name in columns), strict=True)
    return json.loads(kept[_MEMBER.encode()]), [
        dict(zip(columns, row, strict=True)) for row in rows
    ]


def _facts(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if head["format"] != _FORMAT or head["version"] != _VERSION:
        msg = (
            f"its format is {head['format']!r}, version {head['version']!r}; this package reads "
            f"version {_VERSION} of {_FORMAT!r}, perhaps a newer one is needed"
        )
        raise ValueError(msg)
    bands = tuple(_text(name) for name in head["bands"])
    archive = _place(head["archive"])
    tiles = tuple(_tile(name) for name in head["cover"]["tiles"])
    same: dict[object, Any] = {}  # equal tuples are kept once
    cells = tuple(_cell(row, len(bands), archive, same) for row in rows)
    if not tiles or not cells or len({(c.tile, c.month) for c in cells}) < len(cells):
        msg = "it has no tiles, or a tile and month twice"
        raise ValueError(msg)
    shapes = [shapely.geometry.shape(shape) for shape in head["aoi"]["geometries"]]
    return {
        "archive_url": archive,
        "aoi": read_aoi(gpd.GeoSeries(shapes, crs=pyproj.CRS(head["aoi"]["crs"]))),
        "bands": bands,
        "layers": resolve_bands(bands),
        "cover": Cover(tiles=tiles, uncovered=_between(head["cover"]["uncovered"], 0, 1)),
        "grid": _grid(head["grid"]),
        "cells": cells,
        "when": _when(head.get("when", "")),
        "origin": Origin(**{name: _text(head[name]) for name in Origin.__dataclass_fields__}),
    }


def _text(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    if not isinstance(value, str) or len(value) > _LONGEST_URL or not _TEXT.fullmatch(value):
        msg = f"{str(value)[:80]!r} is no text that can stand there"
        raise ValueError(msg)
    return value


def _when(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    text = _text(value)
    if text and dt.datetime.fromisoformat(text).tzinfo is None:
        msg = f"{text!r} is no time with a zone"
        raise ValueError(msg)
    return text


def _place(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    """Take an archive's address: places alone, no protocol that does more than read."""
    url = _text(value)
    packed, chained, place = url.partition("::")
    address = place if chained else url
    scheme = address.partition("://")[0] if "://" in address else ""
    is_packed = packed.partition("://")[0] in _PACKED and "::" not in place
    if chained and (not is_packed or scheme.startswith("http")):
        scheme = "chain"
    if scheme not in _SCHEMES or not url:
        msg = f"its archive {url!r} is no place that an inventory may name"
        raise ValueError(msg)
    return url


def _between(value: Any, least: float, most: float) -> float:  # noqa: ANN401 - of a foreign file
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        msg = f"{value!r} is no number from {least} to {most}"
        raise ValueError(msg)
    return value


def _known_crs(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    text = _text(value)
    pyproj.CRS(text)
    return text


def _grid(value: Mapping[str, Any]) -> Grid:
    far = 1e8
    sides = {name: _between(value[name], 1, _LONGEST_SIDE_PX) for name in ("width", "height")}
    return Grid(
        crs=_known_crs(value["crs"]),
        left=_between(value["left"], -far, far),
        top=_between(value["top"], -far, far),
        resolution=_between(value["resolution"], 1, far),
        **{name: int(side) for name, side in sides.items()},
    )


def _tile(name: Any) -> Tile:  # noqa: ANN401 - of a foreign file
    if not isinstance(name, str) or not re.fullmatch(r"\d{2}[A-Z]{3}", name, re.ASCII):
        msg = f"{name!r} is no tile"
        raise ValueError(msg)
    return tile_named(name)


def _cell(row: Mapping[str, Any], count: int, archive: str, same: dict[object, Any]) -> Cell:
    tile, month = _tile(row["tile"]).name, _MONTH.fullmatch(_text(row["month"]))
    status, sizes, urls = tuple(row["status"]), tuple(row["size"]), tuple(row["url"])
    if month is None or {*map(len, (status, sizes, urls))} != {count}:
        msg = f"a row of {tile} has no month, or not one entry for each band"
        raise ValueError(msg)
    for value in set(sizes) - {None}:
        _between(value, 0, 2**53)
    for url in set(urls) - {""}:
        if not _text(url).startswith("https://") and not is_below(archive, url):
            msg = f"its file {url[:200]!r} lies neither on https nor in its archive"
            raise ValueError(msg)
    product = None if row["product"] is None else Product.parse(_text(row["product"]))
    when = int(month[1]), int(month[2])
    fits = product is None or (product.tile, (product.year, product.month)) == (tile, when)
    lacks_all = {*status} <= {MISSING}
    if not {*status} <= {*STATUSES} or not fits or (product is None) != (row["product"] is None):
        msg = f"a row of {tile} names {row['product']!r} with {'/'.join(map(str, status))[:80]}"
        raise ValueError(msg)
    if product is None and not lacks_all:
        msg = f"a row of {tile} has files of no product"
        raise ValueError(msg)
    keep = same.setdefault
    return Cell(
        tile=tile,
        month=keep(when, when),
        product=product,
        status=keep(status, status),
        sizes=keep(sizes, sizes),
        urls=keep(urls, urls),
    )
