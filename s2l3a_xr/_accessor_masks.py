"""``da.l3a``: what the mask layers say, and indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from s2l3a_xr._help import knows_keywords

if TYPE_CHECKING:
    import pandas as pd

    from s2l3a_xr._flags import Mask


class MaskMethods:
    """Methods of ``da.l3a`` about masks and indices."""

    _da: xr.DataArray

    @knows_keywords
    def quality(self, *, approximate: bool = False) -> pd.DataFrame:
        """Count what the masks say of the area, month by month.

        The masks of the array's pixels are read for it, at full resolution and never from
        overviews; of a part of the array, those of the part. They are counted where they are
        read, on a cluster by its workers.

        Parameters
        ----------
        approximate : bool, default False
            Read the masks of 20 m (R2) where the array has finer pixels, one of them for each
            four: a quarter of the bytes.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``time``, columns ``nodata``, ``cloud``, ``snow``, ``water``, ``land``
            (shares of the pixels inside the area, with ``clip=False`` its bounding box, summing
            to 1), ``pixels`` (how many those are), ``mean_weight`` (WGT / 1000 over pixels that
            have one), ``first_date`` and ``last_date`` (of the pixels' mean acquisition dates,
            see `dates`). A pixel that no tile gives is nodata.

        Raises
        ------
        SelectionError
            The pixels have been computed, or come from elsewhere: ask the array as opened.
        ReadError
            A mask is gone or can't be read, or FLG holds what is no class.

        References
        ----------
        https://github.com/CNES/WASP, the processor that writes these masks

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi = (11.68, 51.94, 11.76, 51.99)
        >>> da = open_l3a(aoi, time="2021-04", bands="B4", archive=archive)
        >>> table = da.l3a.quality()
        >>> round(float(table.loc["2021-04-15", "cloud"]), 3)
        0.076
        """
        from s2l3a_xr._quality import quality  # noqa: PLC0415 - heavy, loaded when used

        return quality(self._da, approximate=approximate)

    @knows_keywords
    def select_clear(self, max_masked: float, *, mask: Mask = ("cloud", "snow")) -> xr.DataArray:
        """Leave out months of which too much is masked.

        FLG is read for it now, at full resolution.

        Parameters
        ----------
        max_masked : float
            Largest share of the area, 0 to 1, that may be nodata or of the classes in ``mask``.
        mask : str, int or iterable of those, default ("cloud", "snow")
            Classes by name or number; nodata always counts.

        Returns
        -------
        xarray.DataArray
            The same dims and dtype, with the months that are left; still lazy.

        Raises
        ------
        SelectionError
            No month is left, or the pixels have been computed.
        ReadError
            A mask can't be read.

        Warns
        -----
        MaskedWarning
            Which months were left out, with their shares.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi = (11.68, 51.94, 11.76, 51.99)
        >>> da = open_l3a(aoi, time="2021-04/2021-05", bands="B4", archive=archive)
        >>> da.l3a.select_clear(0.1).sizes["time"]
        2
        """
        from s2l3a_xr._quality import select_clear  # noqa: PLC0415 - heavy, loaded when used

        return select_clear(self._da, max_masked, mask)

    def flags(self) -> xr.DataArray:
        """Give the class of each pixel.

        Returns
        -------
        xarray.DataArray
            uint8, dims (time, y, x), lazy as the array: FLG of it, or opened beside it. CF
            attributes ``flag_values`` (``flag_masks`` for bits) and ``flag_meanings``; 255 where
            nothing is.

        Raises
        ------
        SelectionError
            The array has no band FLG, and its pixels have been computed.

        References
        ----------
        https://github.com/CNES/WASP, the processor that writes FLG

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.flags().attrs["flag_meanings"]
        'nodata cloud snow water land'
        """
        from s2l3a_xr._masks import flags  # noqa: PLC0415 - heavy, loaded when used

        return flags(self._da)

    def weights(self) -> xr.DataArray:
        """Give the weight of the clear observations that each pixel is made of.

        Returns
        -------
        xarray.DataArray
            float32, dims (time, y, x), unit 1, lazy as the array: WGT / 1000 of it, or opened
            beside it. 0 where nothing clear was seen, NaN for nodata.

        Raises
        ------
        SelectionError
            The array has no band WGT, and its pixels have been computed.

        References
        ----------
        https://github.com/CNES/WASP, the processor that writes WGT

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.weights().dtype
        dtype('float32')
        """
        from s2l3a_xr._masks import weights  # noqa: PLC0415 - heavy, loaded when used

        return weights(self._da)

    def dates(self) -> xr.DataArray:
        """Give the mean acquisition date of each pixel.

        DTS counts days of the year: the year is that which brings the day nearest to the
        month's own date, so that January may hold days of December. The processor averages
        these numbers as they are: where it mixed December and January, the mean lies somewhere
        between, and nothing can tell.

        Returns
        -------
        xarray.DataArray
            datetime64[ns], dims (time, y, x), lazy as the array: DTS of it, or opened beside it.
            NaT for nodata.

        Raises
        ------
        SelectionError
            The array has no band DTS, and its pixels have been computed; or DTS holds what is
            no day of a year (when it is computed).

        References
        ----------
        https://github.com/CNES/WASP, the processor that writes DTS

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.dates().dtype
        dtype('<M8[ns]')
        """
        from s2l3a_xr._masks import dates  # noqa: PLC0415 - heavy, loaded when used

        return dates(self._da)

    def ndvi(self) -> xr.DataArray:
        """Compute the Normalized Difference Vegetation Index.

        Returns
        -------
        xarray.DataArray
            float32, dims (time, y, x), -1 to 1, NaN for nodata; ``band`` says ``"ndvi"``, so
            that it can be exported. Lazy as the array.

        Raises
        ------
        SelectionError
            The array lacks B4 or B8.

        References
        ----------
        Rouse et al. 1974, https://ntrs.nasa.gov/citations/19740022614

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.ndvi().attrs["long_name"]
        'Normalized Difference Vegetation Index'
        """
        from s2l3a_xr._indices import ndvi  # noqa: PLC0415 - heavy, loaded when used

        return ndvi(self._da)

    def index(self, name: str, **parameters: float) -> xr.DataArray:
        """Compute a spectral index of the list that spyndex keeps.

        Parameters
        ----------
        name : str
            Such as ``"EVI"``; ``list(spyndex.indices)`` are all.
        **parameters : float
            Constants of the index that differ from the list's, such as ``L=0.5``.

        Returns
        -------
        xarray.DataArray
            float32, dims (time, y, x), of reflectance, NaN for nodata and where it can't be
            divided; name, formula, reference and constants in ``attrs``. Lazy as the array.

        Raises
        ------
        SelectionError
            There is no such index or constant, or the array lacks bands of it.
        ImportError
            spyndex is not there (``pip install "s2l3a_xr[indices]"``).

        References
        ----------
        https://github.com/awesome-spectral-indices/spyndex

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.index("EVI").attrs["long_name"]
        'Enhanced Vegetation Index'
        """
        from s2l3a_xr._indices import index  # noqa: PLC0415 - heavy, loaded when used

        return index(self._da, name, parameters)
