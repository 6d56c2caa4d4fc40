"""The array that users get: a request with coordinates and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - gives the result its .rio
import xarray as xr
from dask.base import tokenize
from xarray.core import indexing

from s2l3a_xr._archive import Origin
from s2l3a_xr._chunks import DIMS, resolve_chunks
from s2l3a_xr._cube import L3AArray
from s2l3a_xr._errors import SelectionError
from s2l3a_xr._flags import CLASSES, flag_attrs
from s2l3a_xr._product import BANDS, QUANTIFICATION
from s2l3a_xr._request import Request
from s2l3a_xr._texts import redact
from s2l3a_xr._tokens import remember


def label_request(
    request: Request,
    origin: Origin,
    names: Sequence[str],
    *,
    chunks: Any,  # noqa: ANN401 - xarray's many forms
    mask_and_scale: bool,
) -> xr.DataArray:
    """Make the array that users get.

    Parameters
    ----------
    request : Request
        What it reads.
    origin : Origin
        Who told of the files.
    names : sequence of str
        Labels along band.
    chunks : object
        As in `open_l3a`.
    mask_and_scale : bool
        Whether pixels become reflectance.

    Returns
    -------
    xarray.DataArray
        Dims (time, band, y, x).

    Raises
    ------
    SelectionError
        There are no such chunks, or the bands are no reflectances.
    """
    array = L3AArray(request)
    array.announce()
    attrs = attrs_of(request, origin, array)
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(array), attrs)
    if chunks is not None:
        sizes = resolve_chunks(request, chunks)
        # Chunks are part of the name: dask takes equal names for equal blocks.
        name = f"open_l3a-{tokenize(array.token, sizes)}"
        variable = variable.chunk(dict(zip(DIMS, sizes, strict=True)), name=name, lock=False)
    layers = [BANDS[name] for name in request.bands]
    da = xr.DataArray(
        variable,
        name="s2_l3a",
        coords={
            "time": ("time", dates_of(request), {"long_name": "month of the mosaic"}),
            "band": ("band", list(names)),
            "common_name": ("band", [layer.common for layer in layers]),
            "native_name": ("band", [layer.native for layer in layers]),
            "y": request.grid.y,
            "x": request.grid.x,
        },
    )
    remember(da)
    da = da.rio.write_crs(request.grid.crs).rio.write_transform(request.grid.transform)
    da = da.rio.write_coordinate_system()
    return _scale(da) if mask_and_scale else da


def dates_of(request: Request) -> np.ndarray:
    """Date the months: the 15th, unless all products of a month agree on another day.

    Parameters
    ----------
    request : Request
        With the months.

    Returns
    -------
    ndarray of datetime64[ns]
        Along time.
    """
    days = [
        next(iter({p.day for p, _ in products})) if len({p.day for p, _ in products}) == 1 else 15
        for products in request.products
    ]
    text = [f"{y:04}-{m:02}-{d:02}" for (y, m), d in zip(request.months, days, strict=True)]
    return np.array(text, dtype="datetime64[ns]")


def attrs_of(request: Request, origin: Origin, array: L3AArray) -> dict[str, Any]:
    """Say what an array holds and where it comes from.

    Parameters
    ----------
    request : Request
        What was asked for.
    origin : Origin
        Who told of the files.
    array : L3AArray
        The lazy array.

    Returns
    -------
    dict
        Values that netCDF and Zarr take.
    """
    tiles = sorted({p.tile for products in request.products for p, _ in products})
    versions = sorted({p.version for products in request.products for p, _ in products})
    return {
        "_FillValue": request.dtype.type(request.fill),
        **_meaning(request),
        "title": "Sentinel-2 L3A monthly cloud-free mosaic (WASP, Germany)",
        "institution": "German Aerospace Center (DLR), Earth Observation Center",
        "source": redact(request.archive_url),
        "references": origin.references,
        "license": origin.license,
        "attribution": "DLR; contains modified Copernicus Sentinel data",
        "tiles": tiles,
        "product_versions": versions,
        "request": array.token,
        "Conventions": "CF-1.11",
        **({"catalogue": origin.catalogue} if origin.catalogue else {}),
        **(
            {"masked_classes": [CLASSES[number] for number in request.hidden]}
            if request.hidden
            else {}
        ),
    } | _overview_note(request)


def _meaning(request: Request) -> dict[str, Any]:
    kinds = {BANDS[band].kind for band in request.bands}
    if kinds == {"reflectance"}:
        what = "surface reflectance x 10000"
        return {"long_name": f"Sentinel-2 L3A WASP {what}", "units": "1e-4"}
    what = "; ".join(f"{band}: {BANDS[band].title}" for band in request.bands)
    flags = flag_attrs(request.flag_encoding) if kinds == {"flag"} else {}
    return {"long_name": f"Sentinel-2 L3A WASP layers ({what})", **flags}


def _overview_note(request: Request) -> dict[str, str]:
    if not any(request.manner(band).overviews for band in range(len(request.bands))):
        return {}
    note = "read from overviews: averages that mix nodata in at edges; for pictures, no statistics"
    return {"comment": note}


def _scale(da: xr.DataArray) -> xr.DataArray:
    """Give reflectance, with the encoding that writes the same numbers back."""
    spectral = [BANDS[str(name)].kind == "reflectance" for name in da["native_name"].to_numpy()]
    if not all(spectral):
        msg = "mask_and_scale=True is for reflectance; open FLG, WGT and DTS without it."
        raise SelectionError(msg)
    fill = da.attrs["_FillValue"]
    scaled = da.where(da != fill).astype("float32") / np.float32(QUANTIFICATION)
    scaled.attrs = {k: v for k, v in da.attrs.items() if k != "_FillValue"}
    scaled.attrs["long_name"] = "Sentinel-2 L3A WASP surface reflectance"
    scaled.attrs["units"] = "1"
    scaled.encoding = {
        "_FillValue": fill, "dtype": "int16", "scale_factor": 1 / QUANTIFICATION,
        "grid_mapping": "spatial_ref",
    }  # fmt: skip
    return scaled
