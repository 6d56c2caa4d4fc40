"""``ds.l3a``: what can be done with a Dataset of ``engine="s2l3a"``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._help import Menu

if TYPE_CHECKING:
    import pandas as pd

_DIMS = ("time", "band", "y", "x")
_OF_ALL = ("_FillValue", "units")
_WRITING = ("_FillValue", "dtype", "scale_factor", "grid_mapping")


@xr.register_dataset_accessor("l3a")
class L3ADatasetAccessor(Menu):
    """Methods of Datasets from ``xr.open_dataset(engine="s2l3a")``, reached as ``ds.l3a``.

    Parameters
    ----------
    ds : xarray.Dataset
        With a variable for each band.

    Examples
    --------
    >>> import s2l3a_xr, xarray as xr
    >>> xr.Dataset().l3a
    <ds.l3a of s2l3a_xr>
      failures      List what was not read when variables were computed, see ``da.l3a.failures``.
      ...
    """

    _shown_as = "ds.l3a"

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def _bands(self) -> dict[str, xr.DataArray]:
        found = {str(name): da for name, da in self._ds.items() if "native_name" in da.attrs}
        if not found:
            msg = 'the Dataset has no bands of xr.open_dataset(engine="s2l3a"); ask the opened one.'
            raise SelectionError(msg)
        return found

    def to_dataarray(self) -> xr.DataArray:
        """Put the bands into one array, as `s2l3a_xr.open_l3a` gives it; no pixel is read.

        Returns
        -------
        xarray.DataArray
            Dims (time, band, y, x), dtype as the bands; for all methods of ``da.l3a``.

        Raises
        ------
        SelectionError
            The bands are of several types, such as reflectance and FLG.

        Examples
        --------
        >>> import xarray as xr
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> ds = xr.open_dataset(
        ...     (11.68, 51.94, 11.70, 51.96), engine="s2l3a", chunks={},
        ...     time="2021-05", bands=["red", "nir"], archive=archive, mask_and_scale=False,
        ... )
        >>> ds.l3a.to_dataarray().sizes["band"]
        2
        """
        bands = self._bands()
        types = {name: str(da.dtype) for name, da in bands.items()}
        if len(set(types.values())) > 1:
            told = ", ".join(f"{name} {dtype}" for name, dtype in types.items())
            msg = f"bands of several types can't be one array ({told}); choose some: ds[[…]].l3a"
            raise SelectionError(msg)
        from s2l3a_xr._rehearsal import find_origin  # noqa: PLC0415 - heavy, loaded when used

        first = next(iter(bands.values()))
        lazy = self._ds[list(bands)]
        is_cut = any(da.chunks for da in bands.values())
        if not is_cut:
            lazy = lazy.chunk(first.encoding.get("preferred_chunks", -1))
        da = lazy.to_dataarray("band", name="s2_l3a")
        da = da.transpose(*(dim for dim in _DIMS if dim in da.dims))
        origin = None if is_cut or da.ndim != len(_DIMS) else find_origin(da)
        planes = origin.planes() if origin else None
        if planes is not None:  # all bands in one task
            da = da.copy(data=planes)
        labels = {
            kind: ("band", [band.attrs[kind] for band in bands.values()])
            for kind in ("common_name", "native_name")
        }
        da.attrs |= {name: first.attrs[name] for name in _OF_ALL if name in first.attrs}
        da.encoding = {name: first.encoding[name] for name in _WRITING if name in first.encoding}
        return da.assign_coords(labels)

    def plan(self) -> pd.DataFrame:
        """Say what computing the Dataset will fetch, see ``da.l3a.plan``.

        Returns
        -------
        pandas.DataFrame
            A row for each byte range, band by band.

        Raises
        ------
        SelectionError
            The pixels have been computed, or come from elsewhere.
        ReadError
            A header can't be read.

        Examples
        --------
        >>> import xarray as xr
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi, wishes = (11.68, 51.94, 11.7, 51.96), {"time": "2021-05", "archive": archive}
        >>> ds = xr.open_dataset(aoi, engine="s2l3a", chunks={}, **wishes)
        >>> {"url", "start", "bytes"} <= {*ds.l3a.plan().columns}
        True
        """
        from s2l3a_xr._planning import join_plans  # noqa: PLC0415 - heavy, loaded when used

        return join_plans([da.l3a.plan() for da in self._bands().values()])

    def failures(self) -> pd.DataFrame:
        """List what was not read when variables were computed, see ``da.l3a.failures``.

        Returns
        -------
        pandas.DataFrame
            A row for each file, range or block.

        Raises
        ------
        SelectionError
            The variables do not say which request they come from.

        Examples
        --------
        >>> import xarray as xr
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi, wishes = (11.68, 51.94, 11.7, 51.96), {"time": "2021-05", "archive": archive}
        >>> ds = xr.open_dataset(aoi, engine="s2l3a", chunks={}, **wishes)
        >>> len(ds.compute().l3a.failures())
        0
        """
        from s2l3a_xr._failures import failure_table  # noqa: PLC0415 - heavy, loaded when used
        from s2l3a_xr._tokens import tokens_of  # noqa: PLC0415 - heavy, loaded when used

        tokens = [token for da in self._bands().values() for token in tokens_of(da)]
        return failure_table(tuple(dict.fromkeys(tokens)))

    def to_geotiff(
        self,
        directory: str | os.PathLike[str],
        **options: Any,  # noqa: ANN401 - of another function
    ) -> list[Path]:
        """Write one GeoTIFF for each month and band, see `s2l3a_xr.to_geotiff`.

        Parameters
        ----------
        directory : str or path
            Made when it is not there.
        **options
            Of `s2l3a_xr.to_geotiff`.

        Returns
        -------
        list of pathlib.Path
            All files, written or found complete.

        Raises
        ------
        ExportError
            They can't be written so, or something else is in the place.
        ReadError
            A file of the archive can't be read.

        Examples
        --------
        >>> import xarray as xr
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi, wishes = (11.68, 51.94, 11.7, 51.96), {"time": "2021-05", "archive": archive}
        >>> ds = xr.open_dataset(aoi, engine="s2l3a", chunks={}, **wishes)
        >>> len(ds.l3a.to_geotiff("out", progress=False))
        4
        """
        from s2l3a_xr._export import to_geotiff  # noqa: PLC0415 - heavy, loaded when used

        return to_geotiff(self.to_dataarray(), directory, **options)

    def save_request(self, path: str | os.PathLike[str]) -> Path:
        """Write the request that was opened to a file, see ``da.l3a.save_request``.

        Parameters
        ----------
        path : str or path
            ``.json`` or ``.geojson``.

        Returns
        -------
        pathlib.Path
            The file, for ``xr.open_dataset(path, engine="s2l3a")``.

        Raises
        ------
        SelectionError
            The pixels have been computed, or come from elsewhere.
        ExportError
            It can't be written, or the file is there and no request of this package.

        Examples
        --------
        >>> import xarray as xr
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi, wishes = (11.68, 51.94, 11.7, 51.96), {"time": "2021-05", "archive": archive}
        >>> ds = xr.open_dataset(aoi, engine="s2l3a", chunks={}, **wishes)
        >>> ds.l3a.save_request("request.json").name
        'request.json'
        """
        bands = self._bands()
        # FLG reads by a request of its own, where there are others
        others = [da for da in bands.values() if da.attrs["native_name"] != "FLG"]
        first = next(iter(others or bands.values()))
        labels = {str(da.attrs["native_name"]): name for name, da in bands.items()}
        from s2l3a_xr._saved import save_request  # noqa: PLC0415 - heavy, loaded when used

        first = first.assign_attrs(self._ds.attrs)
        return save_request(first, path, labels)
