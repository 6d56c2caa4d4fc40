"""``da.l3a``: what can be done with an opened array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from s2l3a_xr._export import Profile


@xr.register_dataarray_accessor("l3a")
class L3AAccessor:
    """Methods of arrays from `open_l3a`, reached as ``da.l3a``.

    Parameters
    ----------
    da : xarray.DataArray
        The array.
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    def masked(self) -> xr.DataArray:
        """Replace nodata by NaN, so that statistics leave it out.

        Returns
        -------
        xarray.DataArray
            float32, the same numbers (reflectance x 10000).

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> da = xr.DataArray(np.array([-10000, 200], "int16"), attrs={"_FillValue": -10000})
        >>> float(da.l3a.masked().mean())
        200.0
        """
        fill = self._da.attrs.get("_FillValue", self._da.rio.nodata)
        masked = self._da.where(self._da != fill).astype("float32")
        masked.attrs = {k: v for k, v in self._da.attrs.items() if k != "_FillValue"}
        masked.encoding["_FillValue"] = np.float32(fill)
        return masked

    def to_geotiff(
        self, directory: str | os.PathLike[str], *, profile: Profile = "compressed", **options: Any
    ) -> list[Path]:
        """Write one GeoTIFF for each month and band, see `s2l3a_xr.to_geotiff`.

        Parameters
        ----------
        directory : str or path
            Made when it is not there.
        profile : {"compressed", "plain", "cog"}, default "compressed"
            How the files are packed.
        **options
            ``overwrite`` and ``progress``.

        Returns
        -------
        list of pathlib.Path
            All files, written or found complete.
        """
        from s2l3a_xr._export import to_geotiff  # noqa: PLC0415 - heavy, loaded when used

        return to_geotiff(self._da, directory, profile=profile, **options)

    def quicklook(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write a picture with one panel a month.

        Parameters
        ----------
        path : str or path
            PNG to be written.
        **options
            ``bands`` (red, green, blue) and ``columns`` (panels in a row).

        Returns
        -------
        pathlib.Path
            The picture.
        """
        from s2l3a_xr._plot import quicklook  # noqa: PLC0415 - matplotlib is an extra

        return quicklook(self._da, path, **options)
