"""Inventories on disk, so that what was used can be used again: GeoParquet and GeoJSON."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import geopandas as gpd
import pyproj
import shapely

from s2l3a_xr._aoi import read_aoi
from s2l3a_xr._archive import Origin
from s2l3a_xr._cells import Cell
from s2l3a_xr._cover import Cover
from s2l3a_xr._disk import whole_file
from s2l3a_xr._errors import ExportError, S2L3AError, SelectionError
from s2l3a_xr._foreign import (
    BROKEN,
    LARGEST_BYTES,
    take_cell,
    take_grid,
    take_number,
    take_place,
    take_text,
    take_tile,
)
from s2l3a_xr._grid import Grid
from s2l3a_xr._own import MEMBER, check_own, kind_of
from s2l3a_xr._paths import take_path
from s2l3a_xr._product import resolve_bands
from s2l3a_xr._tiles import footprint, tile_named

_FORMAT, _VERSION = "s2l3a_xr inventory", 1
_JSON, _PARQUET = frozenset({".json", ".geojson"}), frozenset({".parquet", ".geoparquet"})


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
        It can't be written, or something else is there.
    """
    target = take_pin_path(path)
    head, rows = _head(facts), [row_of(cell) for cell in facts["cells"]]
    with whole_file(target) as place:
        if _is_parquet(target, ExportError):
            _write_parquet(place, head, rows)
        else:
            place.write_text(as_geojson(head, rows), "utf-8")
    return target


def take_pin_path(path: str | os.PathLike[str]) -> Path:
    """Check where an inventory goes.

    Parameters
    ----------
    path : str or path
        As the user gave it.

    Returns
    -------
    pathlib.Path
        Absolute; an inventory may be there, and nothing else.

    Raises
    ------
    ExportError
        Its ending is not known, or something else is there.
    """
    target = take_path(path, "the inventory's file", ExportError)
    is_own = _has_parquet_head if _is_parquet(target, ExportError) else _has_head
    check_own(target, is_own, "inventory")
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
        if source.stat().st_size > LARGEST_BYTES:
            msg = f"it is larger than {LARGEST_BYTES} bytes"
            raise ValueError(msg)
        head, rows = _read_parquet(source) if is_parquet else read_geojson(source)
        return _facts(head, rows)
    except BROKEN as exc:
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


def _has_head(path: Path) -> bool:
    return kind_of(path) == _FORMAT


def _has_parquet_head(path: Path) -> bool:
    import pyarrow.parquet as pq  # noqa: PLC0415 - an optional extra

    return MEMBER.encode() in (pq.read_schema(path).metadata or {})


# what is written


def _head(facts: Mapping[str, Any]) -> dict[str, Any]:
    aoi, grid, cover, origin = (facts[name] for name in ("aoi", "grid", "cover", "origin"))
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "license": origin.license,
        "references": origin.references,
        "catalogue": without_password(origin.catalogue),
        "when": facts["when"],
        "archive": without_password(facts["archive_url"]),
        "bands": list(facts["bands"]),
        "cover": {"tiles": [tile.name for tile in cover.tiles], "uncovered": cover.uncovered},
        "grid": {name: getattr(grid, name) for name in Grid.__dataclass_fields__},
        "aoi": {
            "crs": aoi.crs,
            "geometries": [shapely.geometry.mapping(feature) for feature in aoi.features],
        },
    }


def row_of(cell: Cell) -> dict[str, Any]:
    """Write down a tile and month.

    Parameters
    ----------
    cell : Cell
        The tile and month.

    Returns
    -------
    dict
        For `take_cell`, without passwords.
    """
    year, month = cell.month
    return {
        "tile": cell.tile,
        "month": f"{year:04}-{month:02}",
        "product": cell.product.name if cell.product else None,
        "status": list(cell.status),
        "size": list(cell.sizes),
        "url": [without_password(url) for url in cell.urls],
    }


def without_password(url: str) -> str:
    """Leave out what logs in: the file is handed on.

    Parameters
    ----------
    url : str
        Perhaps with user and password.

    Returns
    -------
    str
        The same without.
    """
    parts = urlsplit(url) if "://" in url and "@" in url else None
    if parts is None or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def as_geojson(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the head so that people can read it, then one line for each tile and month.

    Parameters
    ----------
    head : mapping
        What is said once.
    rows : sequence of mapping
        Tiles and months.

    Returns
    -------
    str
        GeoJSON.
    """
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
            f'"{MEMBER}": {{\n'
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
        {"geo": json.dumps(geo), MEMBER: json.dumps(head)}
    )
    pq.write_table(table, path, compression="zstd")


# what is read


def read_geojson(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Read what `as_geojson` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of mapping and list of mapping
        Head and rows, not checked.

    Raises
    ------
    ValueError, KeyError, TypeError
        It is something else.
    """
    document = json.loads(path.read_text("utf-8"))
    if not isinstance(document, Mapping) or MEMBER not in document:
        msg = "it is no inventory of this package"
        raise ValueError(msg)
    return document[MEMBER], [feature["properties"] for feature in document["features"]]


def _read_parquet(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - an optional extra

    with pq.ParquetFile(path) as file:
        kept = file.schema_arrow.metadata or {}
        if MEMBER.encode() not in kept:
            msg = "it is no inventory of this package"
            raise ValueError(msg)
        columns = ["tile", "month", "product", "status", "size", "url"]
        table = file.read(columns=columns).to_pydict()
    rows = zip(*(table[name] for name in columns), strict=True)
    return json.loads(kept[MEMBER.encode()]), [dict(zip(columns, row, strict=True)) for row in rows]


def check_format(head: Mapping[str, Any], form: str, version: int) -> None:
    """Refuse a file of another form, or of a version that is not known yet.

    Parameters
    ----------
    head : mapping
        Of the file.
    form : str
        The form that it must have.
    version : int
        The version that is read.

    Raises
    ------
    ValueError
        It is another.
    """
    if head["format"] != form or head["version"] != version:
        msg = (
            f"its format is {head['format']!r}, version {head['version']!r}; this package reads "
            f"version {version} of {form!r} here, perhaps a newer one is needed"
        )
        if str(head["format"]).startswith(MEMBER):
            msg += ", and xr.open_dataset(…, engine='s2l3a') opens requests and inventories"
        raise ValueError(msg)


def _facts(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    check_format(head, _FORMAT, _VERSION)
    bands = tuple(take_text(name) for name in head["bands"])
    archive = take_place(head["archive"])
    tiles = tuple(take_tile(name) for name in head["cover"]["tiles"])
    same: dict[object, Any] = {}  # equal tuples are kept once
    cells = tuple(take_cell(row, len(bands), archive, same) for row in rows)
    if not tiles or not cells or len({(c.tile, c.month) for c in cells}) < len(cells):
        msg = "it has no tiles, or a tile and month twice"
        raise ValueError(msg)
    shapes = [shapely.geometry.shape(shape) for shape in head["aoi"]["geometries"]]
    return {
        "archive_url": archive,
        "aoi": read_aoi(gpd.GeoSeries(shapes, crs=pyproj.CRS(head["aoi"]["crs"]))),
        "bands": bands,
        "layers": resolve_bands(bands),
        "cover": Cover(tiles=tiles, uncovered=take_number(head["cover"]["uncovered"], 0, 1)),
        "grid": take_grid(head["grid"]),
        "cells": cells,
        "when": _when(head.get("when", "")),
        "origin": Origin(**{name: take_text(head[name]) for name in Origin.__dataclass_fields__}),
    }


def _when(value: Any) -> str:  # noqa: ANN401 - of a foreign file
    text = take_text(value)
    if text and dt.datetime.fromisoformat(text).tzinfo is None:
        msg = f"{text!r} is no time with a zone"
        raise ValueError(msg)
    return text
