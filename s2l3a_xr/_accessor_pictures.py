"""``da.l3a``: pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from s2l3a_xr._help import knows_keywords

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from s2l3a_xr._picture import Stretch

_NO_MAP = 'a map to zoom in needs folium and matplotlib: pip install "s2l3a_xr[explore]"'
_NO_MATPLOTLIB = 'pictures need matplotlib: pip install "s2l3a_xr[plot]"'


class PictureMethods:
    """Methods of ``da.l3a`` that make pictures."""

    _da: xr.DataArray

    @knows_keywords
    def rgb(
        self,
        bands: str | Sequence[str] = ("B4", "B3", "B2"),
        *,
        stretch: Stretch = "percentile",
    ) -> xr.DataArray:
        """Make a picture of each month, all of them stretched alike.

        Parameters
        ----------
        bands : str or sequence of str, default ("B4", "B3", "B2")
            Red, green and blue: three bands by name, or ``"true"`` (B4, B3, B2), ``"nir"``
            (B8, B4, B3), ``"swir"`` (B12, B8A, B4); or ``"ndvi"``, from B4 and B8, in colours from
            dark blue (low) to yellow (high) that the colour-blind see alike.
        stretch : "percentile" or tuple of float, default "percentile"
            ``(darkest, brightest)`` in reflectance, or in NDVI; ``"percentile"`` finds those that
            leave 2 % of all months' pixels on either side (one pair for blue, green and red, else
            one for each channel), and reads the pixels for it now. Clouds and snow count.

        Returns
        -------
        xarray.DataArray
            uint8, dims (time, y, x, channel): red, green, blue, alpha. Nodata is transparent.
            ``attrs["stretch"]`` tells the limits.

        Raises
        ------
        SelectionError
            There is no such picture, or the array lacks its bands.
        ReadError
            A file can't be read.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> image = da.l3a.rgb(stretch=(0, 0.2))
        >>> image.dims, image.dtype
        (('time', 'y', 'x', 'channel'), dtype('uint8'))
        """
        from s2l3a_xr._picture import paint  # noqa: PLC0415 - heavy, loaded when used

        return paint(self._da, bands, stretch).image

    @knows_keywords
    def plot_rgb(
        self,
        bands: str | Sequence[str] = ("B4", "B3", "B2"),
        *,
        stretch: Stretch = "percentile",
        col: str = "time",
        columns: int = 4,
        share: bool = True,
    ) -> Figure:
        """Draw the months beside each other, all of them stretched alike.

        Parameters
        ----------
        bands, stretch
            As in `rgb`; with ``share`` percentiles are of what is neither cloud nor snow.
        col : "time", default "time"
            What the panels differ in.
        columns : int, default 4
            Panels in a row.
        share : bool, default True
            Say in the titles which share of the area is nodata, cloud or snow, and leave that
            out of percentiles: reads FLG of 20 m, once.

        Returns
        -------
        matplotlib.figure.Figure
            With the area's outline, where the array was clipped and not computed.

        Raises
        ------
        SelectionError
            There is no such picture, or the array lacks its bands.
        ReadError
            A file can't be read.
        ImportError
            matplotlib is not there (``pip install "s2l3a_xr[plot]"``).

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> figure = da.l3a.plot_rgb("nir", share=False)
        >>> figure.axes[0].get_title()
        '2021-05-15'
        """
        from s2l3a_xr._errors import SelectionError  # noqa: PLC0415 - loaded when used

        if col != "time":
            msg = f"col={col!r} must be 'time': there is a panel for each month."
            raise SelectionError(msg)
        try:
            from s2l3a_xr._plot import plot_rgb  # noqa: PLC0415 - matplotlib is an extra
        except ImportError as exc:
            raise ImportError(_NO_MATPLOTLIB) from exc

        return plot_rgb(self._da, bands=bands, stretch=stretch, columns=columns, share=share)

    @knows_keywords
    def quicklook(
        self,
        path: str | os.PathLike[str],
        bands: str | Sequence[str] = ("B4", "B3", "B2"),
        *,
        stretch: Stretch = "percentile",
        columns: int = 4,
        share: bool = True,
    ) -> Path:
        """Write what `plot_rgb` draws to a PNG.

        Parameters
        ----------
        path : str or path
            PNG to be written, in place of an older one; it must end in ``.png``.
        bands, stretch, columns, share
            As in `plot_rgb`.

        Returns
        -------
        pathlib.Path
            The picture.

        Raises
        ------
        SelectionError
            There is no such picture, or the array lacks its bands.
        ReadError
            A file can't be read.
        ExportError
            The picture can't be written, or its name does not end in ``.png``.
        ImportError
            matplotlib is not there (``pip install "s2l3a_xr[plot]"``).

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.quicklook("months.png", share=False).name
        'months.png'
        """
        try:
            from s2l3a_xr._plot import quicklook  # noqa: PLC0415 - matplotlib is an extra
        except ImportError as exc:
            raise ImportError(_NO_MATPLOTLIB) from exc

        return quicklook(self._da, path, bands=bands, stretch=stretch, columns=columns, share=share)

    def explore(
        self,
        bands: str | Sequence[str] = ("B4", "B3", "B2"),
        *,
        stretch: Stretch = "percentile",
        **options: Any,  # noqa: ANN401 - of folium, an optional extra
    ) -> Any:  # noqa: ANN401 - of folium, an optional extra
        """Make a map to zoom in, with a layer for each month, in a notebook.

        Parameters
        ----------
        bands, stretch
            As in `rgb`.
        **options
            Of ``folium.Map``, such as ``tiles="CartoDB positron"``.

        Returns
        -------
        folium.Map
            Of at most 1600 pixels a side, with the area's outline; its background comes from the
            internet when it is shown.

        Raises
        ------
        SelectionError
            There is no such picture, or the array lacks its bands.
        ReadError
            A file can't be read.
        ImportError
            folium or matplotlib is not there (``pip install "s2l3a_xr[explore]"``).

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.explore().save("months.html")
        """
        try:
            from s2l3a_xr._explore import explore  # noqa: PLC0415 - matplotlib is an extra
        except ImportError as exc:
            raise ImportError(_NO_MAP) from exc

        return explore(self._da, bands=bands, stretch=stretch, options=options)
