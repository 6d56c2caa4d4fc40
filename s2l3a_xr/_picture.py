"""From bands to colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._indices import reflectance
from s2l3a_xr._product import band_names, resolve_bands

Stretch: TypeAlias = "Literal['percentile'] | tuple[float, float]"
"""From which to which value colours go."""

TRUE_COLOUR = ("B4", "B3", "B2")
_PRESETS = {
    "true": TRUE_COLOUR,
    "nir": ("B8", "B4", "B3"),
    "swir": ("B12", "B8A", "B4"),
    "ndvi": ("B8", "B4"),
}
_CHANNELS = ("red", "green", "blue", "alpha")
_COLOURS = "cividis"
"""Alike to eyes that tell red from green and those that don't, and in grey."""

_PERCENTILES = (2, 98)
_SAMPLES = 1_000_000
_LEAST_CLEAR = 0.01
"""Share of the valid pixels; where fewer are clear, all of them count for percentiles."""

_BRIGHTEST = 2.0
"""No limit is farther from 0: reflectance hardly passes 1, and files hold it times 10 000."""

_GAMMA = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image with what a legend needs.

    Parameters
    ----------
    image : xarray.DataArray
        uint8, channels last.
    bands : tuple of str
        Native names: of red, green and blue, or of near infrared and red.
    limits : tuple of (tuple of float)
        For each channel the values that are darkest and brightest; one pair for NDVI.
    is_index : bool
        Whether it shows NDVI.
    """

    image: xr.DataArray
    bands: tuple[str, ...]
    limits: tuple[tuple[float, float], ...]
    is_index: bool


def picture_bands(bands: str | Sequence[str]) -> tuple[str, ...]:
    """Find the bands of a picture.

    Parameters
    ----------
    bands : str or sequence of str
        ``"true"``, ``"nir"``, ``"swir"``, ``"ndvi"``, or three bands for red, green and blue.

    Returns
    -------
    tuple of str
        Native names.

    Raises
    ------
    SelectionError
        There is no such picture.

    Examples
    --------
    >>> picture_bands("nir"), picture_bands(["red", "green", "blue"])
    (('B8', 'B4', 'B3'), ('B4', 'B3', 'B2'))
    """
    if isinstance(bands, str) and bands in _PRESETS:
        return _PRESETS[bands]
    names = band_names(bands)
    if len(names) != len(TRUE_COLOUR):
        msg = (
            f"bands={bands!r} must be one of {', '.join(map(repr, _PRESETS))}, or three bands for "
            "red, green and blue."
        )
        raise SelectionError(msg)
    return tuple(resolve_bands(name)[0].native for name in names)


def check_picture(da: xr.DataArray, bands: str | Sequence[str], stretch: Stretch) -> None:
    """Refuse what `paint` would refuse, without reading anything.

    Parameters
    ----------
    da, bands, stretch
        As in `paint`.

    Raises
    ------
    SelectionError
        There is no such picture or stretch, or the array has not got the bands.
    """
    read_stretch(stretch)
    reflectance(da, list(dict.fromkeys(picture_bands(bands))))


def paint(
    da: xr.DataArray,
    bands: str | Sequence[str],
    stretch: Stretch,
    hidden: xr.DataArray | None = None,
) -> Picture:
    """Make a picture of each month, all of them stretched alike.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, with the bands.
    bands : str or sequence of str
        See `picture_bands`.
    stretch : "percentile" or tuple of float
        ``(lowest, highest)`` in reflectance, or in NDVI; "percentile" finds those that leave 2 %
        of all months' pixels on either side, one pair for blue, green and red, else one for each
        channel, and reads the pixels for it.
    hidden : xarray.DataArray, optional
        bool, dims (time, y, x): pixels that percentiles leave out, as clouds are brighter than
        all else. They are painted like others.

    Returns
    -------
    Picture
        Transparent where a band is nodata.

    Raises
    ------
    SelectionError
        There is no such picture or stretch, or the array has not got the bands.
    """
    natives = picture_bands(bands)
    is_index = bands == "ndvi"
    given = read_stretch(stretch)
    columns = reflectance(da, list(dict.fromkeys(natives)))
    layers = [columns[name] for name in natives]
    if given is None:
        # One reading for all of them.
        layers = list(xr.concat(layers, "channel", coords="minimal", compat="override").compute())
    # Overviews mix nodata in: what is below 0 is none.
    layers = [layer.where(layer >= 0) for layer in layers]
    if is_index:
        nir, red = layers
        layers = [(nir - red) / (nir + red).where(nir + red > 0)]
    if given is None and set(natives) <= set(TRUE_COLOUR):
        given = _percentiles(layers, hidden)  # colours as they are
    limits = tuple(given or _percentiles([layer], hidden) for layer in layers)
    scaled = [
        ((layer - low) / (high - low)).clip(0, 1)
        for layer, (low, high) in zip(layers, limits, strict=True)
    ]
    image = _coloured(scaled[0]) if is_index else _mixed(scaled)
    image = image.assign_coords(channel=list(_CHANNELS)).rename("rgb")
    image.attrs = {"long_name": "picture", "bands": list(natives), "stretch": _told(limits)}
    return Picture(image=image, bands=natives, limits=limits, is_index=is_index)


def read_stretch(stretch: Any, name: str = "stretch=") -> tuple[float, float] | None:  # noqa: ANN401 - checked here
    """Take what a user wrote for limits.

    Parameters
    ----------
    stretch : object
        "percentile", or lowest and highest reflectance or NDVI.
    name : str, default "stretch="
        What stands before it, for messages.

    Returns
    -------
    tuple of float or None
        Lowest and highest; None where they are to be found.

    Raises
    ------
    SelectionError
        It is none of these, or numbers as files hold them.

    Examples
    --------
    >>> read_stretch((0, 0.3)), read_stretch("percentile")
    ((0.0, 0.3), None)
    """
    if isinstance(stretch, str) and stretch == "percentile":
        return None
    try:
        low, high = (float(value) for value in stretch)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not low < high:
        msg = (
            f"{name}{stretch!r} must be 'percentile' or (lowest, highest) in reflectance, such "
            "as (0, 0.3)."
        )
        raise SelectionError(msg)
    if max(abs(low), abs(high)) > _BRIGHTEST:
        msg = (
            f"{name}({low:g}, {high:g}) must be reflectances (or NDVI), such as (0, 0.3), not the "
            "files' numbers, which are reflectance * 10000."
        )
        raise SelectionError(msg)
    return low, high


def _percentiles(
    layers: Sequence[xr.DataArray], hidden: xr.DataArray | None
) -> tuple[float, float]:
    values = _valid(layers)
    if hidden is not None:
        clear = _valid([layer.where(~hidden) for layer in layers])
        values = clear if clear.size >= _LEAST_CLEAR * values.size else values
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    return low, max(high, low + 1e-4)


def _valid(layers: Sequence[xr.DataArray]) -> np.ndarray:
    values = np.concatenate([layer.to_numpy().ravel() for layer in layers])
    values = values[:: max(1, values.size // _SAMPLES)]
    return np.asarray(values[np.isfinite(values)])


def _told(limits: Sequence[tuple[float, float]]) -> list[str]:
    return [f"{low:.4g} to {high:.4g}" for low, high in limits]


def _mixed(scaled: Sequence[xr.DataArray]) -> xr.DataArray:
    """Put channels together; a pixel that lacks one is transparent."""
    has_all = xr.ones_like(scaled[0], dtype=bool)
    for layer in scaled:
        has_all &= layer.notnull()
    # Below 1, for more light in the shadows.
    channels = [layer**_GAMMA for layer in scaled]
    channels.append(has_all.astype("float32"))
    image = xr.concat(channels, "channel", coords="minimal", compat="override")
    image = (image.where(has_all, 0) * 255).round().astype("uint8")
    return image.transpose(..., "channel")


def _coloured(scaled: xr.DataArray) -> xr.DataArray:
    table = colour_table()
    places = (scaled * 254).round().fillna(255).astype("uint8")
    image: xr.DataArray = xr.apply_ufunc(
        _look_up,
        places,
        kwargs={"table": table},
        output_core_dims=[["channel"]],
        dask="parallelized",
        output_dtypes=["uint8"],
        dask_gufunc_kwargs={"output_sizes": {"channel": len(_CHANNELS)}},
    )
    return image


def _look_up(places: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.asarray(table[places])


def colour_table() -> np.ndarray:
    """Give the colours of an index.

    Returns
    -------
    ndarray of uint8, shape (256, 4)
        From lowest to highest; the last one is transparent.

    Raises
    ------
    ImportError
        matplotlib is not there.
    """
    try:
        from matplotlib import colormaps  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'colours of an index need matplotlib: pip install "s2l3a_xr[plot]"'
        raise ImportError(msg) from exc
    table = np.zeros((256, 4), dtype=np.uint8)
    table[:255] = colormaps[_COLOURS](np.linspace(0, 1, 255), bytes=True)
    return table
