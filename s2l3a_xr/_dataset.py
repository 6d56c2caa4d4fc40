"""An opened array as a Dataset with a variable for each band, by xarray's rules for engines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from s2l3a_xr._archive import Origin
from s2l3a_xr._chunks import DIMS, resolve_chunks
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._labels import attrs_of, label_request
from s2l3a_xr._open import open_l3a
from s2l3a_xr._own import MEMBER
from s2l3a_xr._product import BANDS, QUANTIFICATION
from s2l3a_xr._rehearsal import find_array
from s2l3a_xr._request import Request
from s2l3a_xr._saved import changed, load_request
from s2l3a_xr._transport import Transport

_CHANGEABLE = frozenset({"missing", "fail_on_error", "transport"})
"""What may be said of a saved request: nothing that decides pixels."""

_OF_ONE = ("_FillValue", "long_name", "units", "request", "flag_values", "flag_masks",
           "flag_meanings", "comment")  # fmt: skip
_JSON, _PARQUET = frozenset({".json", ".geojson"}), frozenset({".parquet", ".geoparquet"})
_FOOTER_BYTES = 2**26
_EPOCH = "1970-01-01"


def open_variables(
    place: Any,  # noqa: ANN401 - an area in any form
    options: Mapping[str, Any],
    decoders: Mapping[str, Any],
) -> xr.Dataset:
    """Open an area, or what was saved, as a Dataset.

    Parameters
    ----------
    place : path, geometry or Inventory
        See `L3ABackendEntrypoint.open_dataset`.
    options : mapping
        Keywords of `open_l3a`.
    decoders : mapping
        Keywords of ``xarray.decode_cf``.

    Returns
    -------
    xarray.Dataset
        A variable for each band, dims (time, y, x); reads when it is indexed.

    Raises
    ------
    S2L3AError
        As `open_l3a`.
    """
    da = _open(place, options)
    array = find_array(da.chunk(-1))
    if array is None:  # pragma: no cover - it was opened just now
        msg = "the array that was opened does not say where its pixels come from."
        raise RuntimeError(msg)
    raw = _split(da, array)
    wish = decoders.get("mask_and_scale", True)
    scaled = {
        str(name): wish.get(name, _is_reflectance(variable))
        if isinstance(wish, Mapping)
        else bool(wish) and _is_reflectance(variable)
        for name, variable in raw.data_vars.items()
    }
    return xr.decode_cf(raw, **{**decoders, "mask_and_scale": scaled})


def _open(place: Any, options: Mapping[str, Any]) -> xr.DataArray:  # noqa: ANN401
    """Open what a user named, without dask."""
    kind = "inventory" if isinstance(place, Inventory) else _kind(place)
    if kind == "request":
        return _open_request(Path(place), options)
    what = {"inventory": place} if kind == "inventory" else {"aoi": place}
    return open_l3a(**what, **options, chunks=None)


def _open_request(path: Path, options: Mapping[str, Any]) -> xr.DataArray:
    settled = sorted(set(options) - _CHANGEABLE)
    if settled:
        msg = (
            f"{path} settles {', '.join(settled)} already; open the area instead, or give "
            f"{', '.join(sorted(_CHANGEABLE))} alone."
        )
        raise SelectionError(msg)
    saved = load_request(path, options.get("transport") or Transport())
    saved = changed(saved, {k: v for k, v in options.items() if k != "transport"})
    return label_request(
        saved.request, saved.origin, saved.names, chunks=None, mask_and_scale=False
    )


def _kind(place: object) -> str:
    """Tell a file of this package from an area."""
    if not isinstance(place, str | os.PathLike):
        return "area"
    try:
        path = Path(place).expanduser()
        suffix = path.suffix.lower()
        if suffix not in _JSON | _PARQUET or not path.is_file():
            return "area"
        data = _text_of(path, suffix)
        if f'"{MEMBER}'.encode() not in data or suffix in _PARQUET:
            return "inventory" if f'"{MEMBER} inventory"'.encode() in data else "area"
        document = json.loads(data)
    except (OSError, RecursionError, ValueError):
        return "area"  # what is wrong is said by whoever reads it as one
    if not isinstance(document, Mapping) or not isinstance(document.get(MEMBER), Mapping):
        return "area"
    known = {f"{MEMBER} request": "request", f"{MEMBER} area": "area"}
    return known.get(str(document[MEMBER].get("format")), "inventory")


def _text_of(path: Path, suffix: str) -> bytes:
    """Read what may tell a file of ours: of Parquet the end, where its metadata stand."""
    with path.open("rb") as file:
        if suffix in _PARQUET:
            file.seek(max(0, path.stat().st_size - _FOOTER_BYTES))
        return file.read()


def _split(da: xr.DataArray, array: L3AArray) -> xr.Dataset:
    """Give each band a variable of numbers as they are, encoded by the CF conventions."""
    request = array.request
    origin = Origin(
        **{name: da.attrs[name] for name in Origin.__dataclass_fields__ if name in da.attrs}
    )
    variables = {
        str(name): _variable(da.variable[:, band], request, band, origin)
        for band, name in enumerate(da["band"].to_numpy())
    }
    days = da["time"].to_numpy().astype("datetime64[D]") - np.datetime64(_EPOCH)
    told = {"units": f"days since {_EPOCH}", "calendar": "standard", **da["time"].attrs}
    coords: dict[str, Any] = {name: da[name] for name in ("spatial_ref", "y", "x")}
    coords["time"] = xr.Variable("time", days.astype("int64"), told)
    attrs = {name: value for name, value in da.attrs.items() if name not in _OF_ONE}
    return xr.Dataset(variables, coords, attrs)


def _variable(lazy: xr.Variable, request: Request, band: int, origin: Origin) -> xr.Variable:
    native = request.bands[band]
    alone = replace(request, bands=(native,), resampling=(request.resampling[band],))
    array = L3AArray(alone)
    attrs = attrs_of(alone, origin, array)
    if alone.dtype != request.dtype:  # FLG has a type and nodata of its own
        lazy = xr.Variable(DIMS, indexing.LazilyIndexedArray(array))[:, 0]
    else:
        attrs["request"] = L3AArray(request).token
    layer = BANDS[native]
    names = {"native_name": native, "common_name": layer.common}
    if layer.kind == "reflectance":
        what = {"long_name": f"Sentinel-2 L3A WASP {layer.title}"}
        # float32, so that what is decoded is
        attrs |= {**what, "units": "1", "scale_factor": np.float32(1 / QUANTIFICATION)}
    kept = (*_OF_ONE, "scale_factor")
    variable = xr.Variable(
        lazy.dims,
        lazy._data,  # noqa: SLF001 - stays lazy only this way
        {k: v for k, v in attrs.items() if k in kept} | names,
    )
    times, _, rows, columns = resolve_chunks(alone, {})
    cuts = dict(zip(lazy.dims, (times, rows, columns), strict=True))
    variable.encoding = {
        # of axes that are not cut nothing is said: xarray warns of what cuts a preferred chunk
        "preferred_chunks": {
            dim: sizes[0] if len({*sizes[:-1]}) == 1 and sizes[-1] <= sizes[0] else sizes
            for dim, sizes in cuts.items()
            if len(sizes) > 1
        },
        "grid_mapping": "spatial_ref",
    }
    return variable


def _is_reflectance(variable: xr.DataArray) -> bool:
    return "scale_factor" in variable.attrs
