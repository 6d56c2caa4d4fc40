"""``da.l3a``: what can be done with an opened array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
        self,
        directory: str | os.PathLike[str],
        *,
        profile: Profile = "compressed",
        overwrite: bool = False,
        progress: bool = True,
    ) -> list[Path]:
        """Write one GeoTIFF for each month and band, see `s2l3a_xr.to_geotiff`.

        Parameters
        ----------
        directory : str or path
            Made when it is not there.
        profile : {"compressed", "plain", "cog"}, default "compressed"
            How the files are packed.
        overwrite : bool, default False
            Replace files that hold something else.
        progress : bool, default True
            Show a bar on stderr.

        Returns
        -------
        list of pathlib.Path
            All files, written or found complete.
        """
        from s2l3a_xr._export import to_geotiff  # noqa: PLC0415 - heavy, loaded when used

        return to_geotiff(
            self._da, directory, profile=profile, overwrite=overwrite, progress=progress
        )

    def quicklook(
        self,
        path: str | os.PathLike[str],
        *,
        bands: Sequence[str] = ("B4", "B3", "B2"),
        columns: int = 4,
    ) -> Path:
        """Write a picture with one panel a month.

        Parameters
        ----------
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
        """
        from s2l3a_xr._plot import quicklook  # noqa: PLC0415 - matplotlib is an extra

        return quicklook(self._da, path, bands=bands, columns=columns)
