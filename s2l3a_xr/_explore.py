"""Pictures on a map to zoom in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyproj
import rioxarray  # noqa: F401 - gives arrays their .rio
import shapely
import xarray as xr

from s2l3a_xr._geometries import LONLAT
from s2l3a_xr._picture import Stretch, paint
from s2l3a_xr._plot import OUTLINE, Surroundings, thin

_WEB = "EPSG:3857"
_SIDE_PX = 800


def explore(
    da: xr.DataArray, *, bands: str | Sequence[str], stretch: Stretch, options: dict[str, Any]
) -> Any:  # noqa: ANN401 - folium's
    """Make a map with a layer for each month, see ``da.l3a.explore``.

    Parameters
    ----------
    da : xarray.DataArray
        From `open_l3a`, with ``native_name`` and ``time`` coordinates.
    bands, stretch
        As in `paint`.
    options : dict
        Of ``folium.Map``.

    Returns
    -------
    folium.Map
        The map.

    Raises
    ------
    ImportError
        folium is not there.
    """
    try:
        import folium  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        msg = 'a map to zoom in needs folium: pip install "s2l3a_xr[explore]"'
        raise ImportError(msg) from exc
    if "time" not in da.dims:
        da = da.expand_dims("time")
    crs = da.rio.crs
    image = paint(thin(da, _SIDE_PX), bands, stretch).image
    shown = folium.Map(**options)
    for i, when in enumerate(da["time"].to_numpy()):
        month = image.isel(time=i).transpose("channel", "y", "x").rio.write_crs(crs)
        month.attrs = {}
        web = month.rio.write_nodata(0).rio.reproject(_WEB)
        folium.raster_layers.ImageOverlay(
            np.moveaxis(web.to_numpy(), 0, -1),
            bounds=(corners := _corners(web)),
            name=str(when)[:10],
            show=i == 0,
        ).add_to(shown)
        shown.fit_bounds(corners)
    area = Surroundings.of(da).area
    if area is not None:
        to_lonlat = pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)
        outline = shapely.transform(area, to_lonlat.transform, interleaved=False)
        folium.GeoJson(
            shapely.geometry.mapping(outline),
            name="area",
            style_function=lambda _: {"color": OUTLINE, "weight": 2, "fillOpacity": 0},
        ).add_to(shown)
    folium.LayerControl(collapsed=False).add_to(shown)
    return shown


def _corners(web: xr.DataArray) -> list[list[float]]:
    """South-west and north-east corner as folium wants them, latitude first."""
    left, bottom, right, top = web.rio.bounds()
    to_lonlat = pyproj.Transformer.from_crs(_WEB, LONLAT, always_xy=True)
    (west, east), (south, north) = to_lonlat.transform([left, right], [bottom, top])
    return [[south, west], [north, east]]
