"""Pictures for a first look."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from s2l3a_xr._errors import ExportError
from s2l3a_xr._paths import take_path
from s2l3a_xr._product import band_names, resolve_bands

_PANEL_PX = 480
_NO_DATA_GREY = 0.85


def quicklook(
    da: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str] = ("B4", "B3", "B2"),
    columns: int = 4,
) -> Path:
    """Write a picture with one panel a month, all stretched alike.

    Parameters
    ----------
    da : xarray.DataArray
        As `open_l3a` gives it, with ``native_name`` and ``time`` coordinates.
    path : str or path
        PNG to be written.
    bands : sequence of str, default ("B4", "B3", "B2")
        Red, green and blue of the picture.
    columns : int, default 4
        Panels in a row.

    Returns
    -------
    pathlib.Path
        The picture.

    Raises
    ------
    ExportError
        A band is not in the array, or the picture can't be written.
    """
    target = take_path(path, "the picture's path", ExportError)
    if columns < 1:
        msg = f"columns={columns!r} must be a whole number of panels in a row, at least 1."
        raise ExportError(msg)
    bands = band_names(bands)
    if "time" not in da.dims:
        da = da.expand_dims("time")
    picture = _rgb(da, bands)
    times = da["time"].to_numpy()
    rows = -(-len(times) // columns)
    columns = min(columns, len(times))
    height, width = picture.shape[1:3]
    figure = Figure(figsize=(3 * columns, (3 * height / width + 0.3) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, when, panel in zip(axes, times, picture, strict=False):
        axis.imshow(panel, interpolation="antialiased")
        axis.set_title(str(when)[:7], fontsize=10)
    figure.suptitle(f"Sentinel-2 L3A, {' '.join(bands)}", fontsize=11)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", dpi=150)
        temporary.replace(target)
    except OSError as exc:
        msg = f"the picture {target} can't be written: {exc}; give a file in a folder of yours."
        raise ExportError(msg) from exc
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _rgb(da: xr.DataArray, bands: Sequence[str]) -> np.ndarray:
    """Float32 in 0 to 1, shape (time, y, x, 3); grey where nodata is."""
    natives = [str(name) for name in np.atleast_1d(da["native_name"].to_numpy())]
    wanted = [band.native for band in resolve_bands(bands)]
    absent = sorted(set(wanted) - set(natives))
    if absent:
        msg = (
            f"a picture of {', '.join(wanted)} needs {', '.join(absent)}, the array has "
            f"{', '.join(natives)}; choose three of them with bands=(red, green, blue), one may "
            "stand for several, or open the array with more."
        )
        raise ExportError(msg)
    step = max(1, max(da.sizes["y"], da.sizes["x"]) // _PANEL_PX)
    chosen = da.isel(band=[natives.index(name) for name in wanted])
    thin = chosen.isel(y=slice(None, None, step), x=slice(None, None, step))
    values = thin.transpose("time", "y", "x", "band").to_numpy().astype("float32")
    valid = np.all(values >= 0, axis=-1)
    low, high = np.percentile(values[valid], (2, 98)) if valid.any() else (0.0, 1.0)
    stretched = np.clip((values - low) / max(high - low, 1e-6), 0, 1) ** 0.8
    return np.where(np.expand_dims(valid, -1), stretched, _NO_DATA_GREY)
