"""Requests on disk: the very pixels of an array, again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr

from s2l3a_xr._archive import Origin
from s2l3a_xr._cells import AVAILABLE, MISSING, Cell
from s2l3a_xr._disk import whole_file
from s2l3a_xr._errors import ExportError, SelectionError
from s2l3a_xr._flags import CLASSES, check_encoding, read_classes
from s2l3a_xr._foreign import (
    BROKEN,
    LARGEST_BYTES,
    take_cell,
    take_grid,
    take_month,
    take_number,
    take_place,
    take_text,
)
from s2l3a_xr._grid import Grid
from s2l3a_xr._kernels import KERNELS
from s2l3a_xr._own import check_own, kind_of
from s2l3a_xr._paths import take_path
from s2l3a_xr._pin import as_geojson, check_format, read_geojson, row_of, without_password
from s2l3a_xr._product import resolve_bands
from s2l3a_xr._rehearsal import find_array
from s2l3a_xr._request import Files, Request
from s2l3a_xr._selection import Month
from s2l3a_xr._transport import Transport

_FORMAT, _VERSION = "s2l3a_xr request", 1
_FINEST = 1e-7
_FARTHEST_PX = 1e9
_ENDINGS = (".json", ".geojson")
_POLICIES = ("warn", "keep", "raise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A request, and what is said of it.

    Parameters
    ----------
    request : Request
        What is read.
    names : tuple of str
        Its bands as the user wrote them.
    origin : Origin
        Who told of the files.
    """

    request: Request
    names: tuple[str, ...]
    origin: Origin


def save_request(
    da: xr.DataArray, path: str | os.PathLike[str], labels: Mapping[str, str] | None = None
) -> Path:
    """Write the request of an array to a file, see ``da.l3a.save_request``.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from it by lazy steps.
    path : str or path
        ``.json`` or ``.geojson``.
    labels : mapping, optional
        What bands are called, by native name; by default as along ``band``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    SelectionError
        The pixels have been computed, or come from elsewhere.
    ExportError
        The file can't be written, or something else is there.
    """
    array = find_array(da if da.chunks else da.chunk(-1))
    if array is None:
        msg = (
            "there is no request to save: the array's pixels have been computed, or do not come "
            "from one open_l3a; ask the array that was opened."
        )
        raise SelectionError(msg)
    target = take_path(path, "the request's file", ExportError)
    if target.suffix.lower() not in _ENDINGS:
        msg = f"a request's file name must end in .json or .geojson, got {target.name!r}."
        raise ExportError(msg)
    check_own(target, lambda path: kind_of(path) == _FORMAT, "request")
    request, given = array.request, _labels(da) if labels is None else labels
    names = [_if_known(given.get(native, native), native) for native in request.bands]
    head, rows = _head(request, names, _origin(da)), _rows(request)
    with whole_file(target) as place:
        place.write_text(as_geojson(head, rows), "utf-8")
    return target


def load_request(path: Path, transport: Transport) -> Saved:
    """Read a request; every name and number in the file is held against what can be.

    Parameters
    ----------
    path : pathlib.Path
        As `save_request` wrote it.
    transport : Transport
        How the network is used.

    Returns
    -------
    Saved
        With the same request, if the transport is the same.

    Raises
    ------
    SelectionError
        The file is no request.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            msg = f"it is larger than {LARGEST_BYTES} bytes"
            raise ValueError(msg)
        head, rows = read_geojson(path)
        return _taken(head, rows, transport)
    except BROKEN as exc:
        reason = f"it lacks {exc}" if isinstance(exc, KeyError) else str(exc)
        msg = f"{path} can't be read as a request ({reason}); save it anew with da.l3a.save_request"
        raise SelectionError(msg) from exc


# what is written


def _labels(da: xr.DataArray) -> dict[str, str]:
    """Tell what an array calls its bands, by native name."""
    if not {"band", "native_name"} <= set(da.coords):
        return {}
    natives, labels = (np.atleast_1d(da[name].to_numpy()) for name in ("native_name", "band"))
    return dict(zip(map(str, natives), map(str, labels), strict=True))


def _if_known(name: str, native: str) -> str:
    try:
        return name if resolve_bands(name)[0].native == native else native
    except SelectionError:
        return native


def _origin(da: xr.DataArray) -> Origin:
    told = {name: da.attrs.get(name) for name in Origin.__dataclass_fields__}
    return Origin(**{name: text for name, text in told.items() if isinstance(text, str)})


def _head(request: Request, names: Sequence[str], origin: Origin) -> dict[str, Any]:
    shapes = None if request.area is None else shapely.from_wkb(request.area).geoms
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "license": origin.license,
        "references": origin.references,
        "catalogue": without_password(origin.catalogue),
        "archive": without_password(request.archive_url),
        "bands": list(names),
        "listed": list(request.listed),
        "months": [f"{year:04}-{month:02}" for year, month in request.months],
        "native_m": request.native_m,
        "grid": {name: getattr(request.grid, name) for name in Grid.__dataclass_fields__},
        "resampling": list(request.resampling),
        "all_touched": request.all_touched,
        "use_overviews": request.use_overviews,
        "mask": [CLASSES[number] for number in request.hidden],
        "flag_encoding": request.flag_encoding,
        "missing": request.missing,
        "fail_on_error": request.fail_on_error,
        # in columns and minus rows of the grid, so that no projection comes between
        "area": None if shapes is None else [shapely.geometry.mapping(shape) for shape in shapes],
    }


def _rows(request: Request) -> list[dict[str, Any]]:
    cells = [
        Cell(
            tile=product.tile,
            month=month,
            product=product,
            status=tuple(MISSING if url is None else AVAILABLE for url in urls),
            sizes=(None,) * len(urls),
            urls=tuple(url or "" for url in urls),
        )
        for month, products in zip(request.months, request.products, strict=True)
        for product, urls in products
    ]
    return [row_of(cell) for cell in cells]


# what is read


def _taken(
    head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], transport: Transport
) -> Saved:
    check_format(head, _FORMAT, _VERSION)
    archive = take_place(head["archive"])
    names = tuple(take_text(name) for name in head["bands"])
    bands, listed = (
        tuple(layer.native for layer in resolve_bands(tuple(map(take_text, given))))
        for given in (names, head["listed"])
    )
    months = tuple(take_month(month) for month in head["months"])
    if not months or sorted(set(months)) != [*months]:
        msg = "it has no months, or not each once and in order"
        raise ValueError(msg)
    check_encoding(head["flag_encoding"])
    origin = Origin(**{name: take_text(head[name]) for name in Origin.__dataclass_fields__})
    request = Request(
        grid=take_grid(head["grid"], _FINEST),
        archive_url=archive,
        native_m=_one_of(head["native_m"], (10, 20)),
        months=months,
        bands=bands,
        resampling=_kernels(head["resampling"], bands),
        listed=listed,
        products=_products(rows, months, len(listed), archive),
        area=_area(head["area"]),
        all_touched=_one_of(head["all_touched"], (True, False)),
        use_overviews=_one_of(head["use_overviews"], (True, False)),
        missing=_one_of(head["missing"], _POLICIES),
        fail_on_error=_one_of(head["fail_on_error"], (True, False)),
        transport=origin.settings(transport),
        hidden=read_classes(head["mask"] or None),
        flag_encoding=head["flag_encoding"],
    )
    request.check_layers(*bands, *(["FLG"] if request.hidden else []))
    return Saved(request=request, names=names, origin=origin)


def _one_of(value: Any, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - of a foreign file
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    msg = f"{value!r} is none of {', '.join(map(repr, choices))}"
    raise ValueError(msg)


def _kernels(value: Sequence[Any], bands: Sequence[str]) -> tuple[str, ...]:
    kernels = tuple(_one_of(kernel, KERNELS) for kernel in value)
    masks = [layer.is_mask for layer in resolve_bands(tuple(bands))]
    if len(kernels) != len(bands) or any(
        is_mask and kernel != "nearest" for is_mask, kernel in zip(masks, kernels, strict=True)
    ):
        msg = f"{kernels!r} is no resampling of {', '.join(bands)}"
        raise ValueError(msg)
    return kernels


def _products(
    rows: Sequence[Mapping[str, Any]], months: Sequence[Month], count: int, archive: str
) -> tuple[Files, ...]:
    same: dict[object, Any] = {}
    cells = [take_cell(row, count, archive, same) for row in rows]
    known = {(cell.tile, cell.month) for cell in cells}
    if len(known) < len(cells) or not {cell.month for cell in cells} <= {*months}:
        msg = "it has a tile and month twice, or a month that is none of its own"
        raise ValueError(msg)
    found: dict[Month, list[Any]] = {month: [] for month in months}
    for cell in cells:
        if cell.product is not None:
            urls = (url if has else None for url, has in zip(cell.urls, cell.has, strict=True))
            found[cell.month].append((cell.product, tuple(urls)))
    return tuple(tuple(found[month]) for month in months)


def _area(value: Any) -> bytes | None:  # noqa: ANN401 - of a foreign file
    if value is None:
        return None
    with np.errstate(invalid="ignore"):  # what is no number is refused below
        shapes = [shapely.geometry.shape(shape) for shape in value]
    for shape in shapes:
        if shape.geom_type not in {"Polygon", "MultiPolygon"} or shape.is_empty or shape.has_z:
            msg = f"its area holds a {shape.geom_type} that is no polygon in a plane"
            raise ValueError(msg)
        for number in shape.bounds:
            take_number(number, -_FARTHEST_PX, _FARTHEST_PX)
    if not shapes or not np.isfinite(shapely.get_coordinates(shapes)).all():
        msg = "its area holds no polygon, or places that are nowhere"
        raise ValueError(msg)
    return bytes(shapely.to_wkb(shapely.GeometryCollection(shapes)))


def changed(saved: Saved, settings: Mapping[str, Any]) -> Saved:
    """Change what of a saved request decides no pixels.

    Parameters
    ----------
    saved : Saved
        As saved.
    settings : mapping
        ``missing`` and ``fail_on_error`` as in `open_l3a`, or neither.

    Returns
    -------
    Saved
        With those settings.

    Raises
    ------
    SelectionError
        There is no such policy.
    """
    if settings.get("missing", "warn") not in _POLICIES:
        msg = f"missing={settings['missing']!r} must be one of {', '.join(map(repr, _POLICIES))}."
        raise SelectionError(msg)
    return replace(saved, request=replace(saved.request, **settings))
