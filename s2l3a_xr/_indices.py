"""Spectral indices of reflectance."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import xarray as xr

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._product import BANDS, QUANTIFICATION

_PER_UNIT = "1"


def reflectance(da: xr.DataArray, natives: list[str]) -> dict[str, xr.DataArray]:
    """Give bands of an array as reflectance.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, perhaps masked or scaled; with a ``native_name`` coordinate.
    natives : list of str
        Native names of bands.

    Returns
    -------
    dict of str to xarray.DataArray
        float32 by native name, NaN for nodata, without coordinates along band.

    Raises
    ------
    SelectionError
        The array has not got them.
    """
    known: list[str] = []
    if "native_name" in da.coords:
        known = [str(name) for name in np.atleast_1d(da["native_name"].to_numpy())]
    absent = [name for name in natives if name not in known]
    if absent:
        msg = (
            f"this needs {', '.join(natives)}, and the array has not got {', '.join(absent)}; open "
            f"it with bands={tuple(dict.fromkeys((*known, *absent)))}."
        )
        raise SelectionError(msg)
    scale = 1 if da.attrs.get("units") == _PER_UNIT else QUANTIFICATION
    fill = da.attrs.get("_FillValue")
    found = {}
    for name in natives:
        band = da.isel(band=known.index(name)) if "band" in da.dims else da
        band = band.drop_vars(["band", "native_name", "common_name"], errors="ignore")
        if fill is not None:
            band = band.where(band != fill)
        found[name] = band.astype("float32") / np.float32(scale)
    return found


def ndvi(da: xr.DataArray) -> xr.DataArray:
    """Compute the NDVI, see ``da.l3a.ndvi``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, with B4 and B8.

    Returns
    -------
    xarray.DataArray
        float32, -1 to 1.

    Raises
    ------
    SelectionError
        The array has not got the bands.
    """
    bands = reflectance(da, ["B8", "B4"])
    nir, red = bands["B8"], bands["B4"]
    made = (nir - red) / (nir + red)
    return _named(da, made, "NDVI", "Normalized Difference Vegetation Index", "(B8-B4)/(B8+B4)")


def index(da: xr.DataArray, name: str, parameters: dict[str, float]) -> xr.DataArray:
    """Compute an index of spyndex' list, see ``da.l3a.index``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, with the bands that the index needs.
    name : str
        Such as ``"EVI"``.
    parameters : dict
        Constants that differ from the list's defaults.

    Returns
    -------
    xarray.DataArray
        float32.

    Raises
    ------
    SelectionError
        There is no such index or constant, or the array has not got the bands.
    ImportError
        spyndex is not there.
    """
    try:
        import spyndex  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'indices by name need spyndex: pip install "s2l3a_xr[indices]"'
        raise ImportError(msg) from exc
    facts = _find(spyndex.indices, name)
    letters = {
        letter: band.sentinel2a.band
        for letter, band in spyndex.bands.items()
        if getattr(band, "sentinel2a", None) and band.sentinel2a.band in BANDS
    }
    constants = {
        letter: parameters.get(letter, getattr(spyndex.constants.get(letter), "default", None))
        for letter in facts.bands
        if letter not in letters
    }
    _check_constants(facts, constants, parameters)
    bands = reflectance(da, [letters[letter] for letter in facts.bands if letter in letters])
    given = {letter: bands[letters[letter]] for letter in facts.bands if letter in letters}
    made = spyndex.computeIndex(facts.short_name, params={**given, **constants})
    named = _named(da, made, facts.short_name, facts.long_name, facts.formula)
    return named.assign_attrs(references=facts.reference, **constants)


def _find(known: Any, name: str) -> Any:  # noqa: ANN401 - spyndex is untyped
    by_name = {str(key).lower(): key for key in known}
    if str(name).lower() in by_name:
        return known[by_name[str(name).lower()]]
    near = [by_name[key] for key in difflib.get_close_matches(str(name).lower(), by_name)]
    hint = f" (perhaps {', '.join(near)})" if near else ""
    msg = f"spyndex knows no index {name!r}{hint}; its names are list(spyndex.indices)."
    raise SelectionError(msg)


def _check_constants(facts: Any, constants: dict[str, Any], given: dict[str, Any]) -> None:  # noqa: ANN401 - spyndex is untyped
    absent = [letter for letter, value in constants.items() if value is None]
    if absent:
        msg = (
            f"{facts.short_name} = {facts.formula} needs {', '.join(absent)}, which is no band of "
            f"the product and has no default; give a number, such as {absent[0]}=…."
        )
        raise SelectionError(msg)
    for letter, value in given.items():
        if not isinstance(value, int | float | np.number):
            msg = f"{letter}={value!r} of {facts.short_name} must be a number."
            raise SelectionError(msg)
    unknown = [letter for letter in given if letter not in constants]
    if unknown:
        has = f"has {', '.join(constants)}" if constants else "has none"
        msg = (
            f"{facts.short_name} = {facts.formula} has no constant {unknown[0]!r}; it {has}: "
            "leave out what it has not got."
        )
        raise SelectionError(msg)


def _named(
    da: xr.DataArray, made: xr.DataArray, name: str, title: str, formula: str
) -> xr.DataArray:
    """Label an index so that it can be exported; what can't be divided has no value."""
    made = made.where(np.isfinite(made)).astype("float32").assign_coords(band=name.lower())
    made.name = name.lower()
    kept = ("institution", "source", "references", "license", "attribution", "tiles", "request")
    made.attrs = {key: da.attrs[key] for key in kept if key in da.attrs}
    made.attrs |= {"long_name": title, "units": "1", "formula": formula}
    made.encoding = {"_FillValue": np.float32("nan"), "grid_mapping": "spatial_ref"}
    return made
