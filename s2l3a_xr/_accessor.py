"""``da.l3a``: what can be done with an opened array."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from s2l3a_xr._accessor_masks import MaskMethods
from s2l3a_xr._accessor_pictures import PictureMethods
from s2l3a_xr._help import Menu, knows_keywords

if TYPE_CHECKING:
    import pandas as pd

    from s2l3a_xr._geotiff import Profile


@xr.register_dataarray_accessor("l3a")
class L3AAccessor(Menu, MaskMethods, PictureMethods):
    """Methods of arrays from `open_l3a`, reached as ``da.l3a``.

    Parameters
    ----------
    da : xarray.DataArray
        The array.

    Examples
    --------
    >>> import s2l3a_xr, xarray as xr
    >>> xr.DataArray([1]).l3a
    <da.l3a of s2l3a_xr>
      dates         Give the mean acquisition date of each pixel.
      ...
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    def masked(self) -> xr.DataArray:
        """Replace nodata by NaN, so that statistics leave it out.

        Returns
        -------
        xarray.DataArray
            float32, the same dims and numbers (reflectance x 10000).

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

    def plan(self) -> pd.DataFrame:
        """Say what computing the array will fetch, without fetching a pixel.

        Headers are read, and remembered for the computation. Exact for selections from an
        opened array, an upper bound after arithmetic; where tiles overlap, what a second
        tile may have to give for nodata of the first comes on top.

        Returns
        -------
        pandas.DataFrame
            A row for each byte range, columns ``tile``, ``month``, ``band``, ``start``,
            ``url``, ``stop`` (the byte behind the last), ``bytes``, ``blocks``; it prints
            ``attrs["summary"]`` above them, which says it in one line.

        Raises
        ------
        SelectionError
            The pixels have been computed, or come from elsewhere.
        ReadError
            A header can't be read.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi = (11.68, 51.94, 11.70, 51.96)
        >>> da = open_l3a(aoi, time="2021-06", bands=["B6", "B7"], archive=archive)
        >>> da.l3a.plan().attrs["summary"]
        '2 files, 4 ranges, ... kB in 4 blocks'
        """
        from s2l3a_xr._planning import plan_array  # noqa: PLC0415 - heavy, loaded when used

        return plan_array(self._da)

    def failures(self) -> pd.DataFrame:
        """List what was not read when this array's request was computed, and is nodata.

        Files that the archive lists and has not got have status ``gone``; reads that failed,
        with ``open_l3a(fail_on_error=False)``, have ``failed``. It is a log of the request,
        whichever part of it was computed: by this process, by children of dask's scheduler
        "processes", or on the cluster that a `distributed.Client` here belongs to. It can be
        asked of the opened array, of arrays made from it, and of computed ones as long as they
        keep ``attrs["request"]``.

        Returns
        -------
        pandas.DataFrame
            A row for each file, range or block, columns ``month``, ``band``, ``tile``,
            ``http_status``, ``attempts``, ``item``, ``url``, ``when`` it happened last,
            ``block`` (row and column in the TIFF) or ``start`` and ``stop`` (the byte behind
            the last) of the part that failed, ``status`` and ``cause``. A row without a part,
            or with one from byte 0, the header, is about all that was wanted of the file.
            Empty when nothing failed, or nothing was computed yet. ``attrs["summary"]``, which
            is printed above the rows, counts them.

        Raises
        ------
        SelectionError
            The array does not say which request it comes from.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.compute().l3a.failures()
        nothing failed in what was computed
        """
        from s2l3a_xr._failures import failure_table  # noqa: PLC0415 - heavy, loaded when used
        from s2l3a_xr._tokens import tokens_of  # noqa: PLC0415 - heavy, loaded when used

        return failure_table(tokens_of(self._da))

    def requests(self) -> pd.DataFrame:
        """Count what was asked of each host to read this array's request.

        A log of the request like `failures`: of this process, and of the workers of the cluster
        that a `distributed.Client` here belongs to, also of those that are not any more. What
        opening the array took is not in it, nor what children of dask's scheduler "processes"
        asked for.

        Returns
        -------
        pandas.DataFrame
            A row for each host and process, columns ``host``, ``process`` (a worker's address, or
            machine and process id), ``requests``, ``bytes`` (of bodies), ``retries`` and
            ``connections`` opened; ``attrs["summary"]``, printed above them, adds them up.

        Raises
        ------
        SelectionError
            The array does not say which request it comes from.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> aoi = (11.681, 51.941, 11.699, 51.959)
        >>> da = open_l3a(aoi, time="2021-05", bands="B4", archive=archive)
        >>> table = da.compute().l3a.requests()
        >>> table.columns.tolist()
        ['host', 'process', 'requests', 'bytes', 'retries', 'connections']
        """
        from s2l3a_xr._tokens import tokens_of  # noqa: PLC0415 - heavy, loaded when used
        from s2l3a_xr._traffic import traffic_table  # noqa: PLC0415 - heavy, loaded when used

        return traffic_table(tokens_of(self._da))

    @knows_keywords
    def to_geotiff(
        self,
        directory: str | os.PathLike[str],
        *,
        profile: Profile = "compressed",
        overwrite: bool = False,
        progress: bool = True,
        max_bytes: float | None = 20_000_000_000,
        piece_px: int = 8192,
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
        max_bytes : float or None, default 20 GB
            Most bytes that all files still to be written may have unpacked; None for no limit.
        piece_px : int, default 8192
            Planes larger than a square of this side are written in such squares.

        Returns
        -------
        list of pathlib.Path
            All files, written or found complete.

        Raises
        ------
        ExportError
            The array can't be written so, a file is there that holds something else, or they
            would be larger than ``max_bytes``.
        ReadError
            A file of the archive can't be read.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> [path.name for path in da.l3a.to_geotiff("out", progress=False)]
        ['s2_l3a_20210515_blue.tif', 's2_l3a_20210515_green.tif', ...]
        """
        from s2l3a_xr._export import to_geotiff  # noqa: PLC0415 - heavy, loaded when used

        return to_geotiff(
            self._da,
            directory,
            profile=profile,
            overwrite=overwrite,
            progress=progress,
            max_bytes=max_bytes,
            piece_px=piece_px,
        )

    @knows_keywords
    def to_zarr(
        self,
        store: Any,  # noqa: ANN401 - path, URL or a store
        *,
        chunks: Mapping[str, int] | None = None,
        overwrite: bool = False,
        progress: bool = True,
        max_bytes: float | None = 20_000_000_000,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - as it was given
        """Write a Zarr store, or go on with one, see `s2l3a_xr.to_zarr`.

        Parameters
        ----------
        store : str, path or zarr.abc.store.Store
            A folder, any URL that fsspec can write, or a store.
        chunks : mapping, optional
            Pixels of the store's chunks by dim, -1 for all.
        overwrite : bool, default False
            Replace a store that was made of something else.
        progress : bool, default True
            Show a bar on stderr.
        max_bytes : float or None, default 20 GB
            Most bytes of pixels still to be written, unpacked; None for no limit.
        storage_options : mapping, optional
            For fsspec, where the store is a URL.

        Returns
        -------
        Path, str or zarr.abc.store.Store
            The folder, or the URL or store as it was given.

        Raises
        ------
        ExportError
            The array can't be written so, something else is in the place, or there is more to
            be written than ``max_bytes``.
        ReadError
            A file of the archive can't be read.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> da.l3a.to_zarr("l3a.zarr", progress=False).name
        'l3a.zarr'
        """
        from s2l3a_xr._zarr import to_zarr  # noqa: PLC0415 - heavy, loaded when used

        return to_zarr(
            self._da,
            store,
            chunks=chunks,
            overwrite=overwrite,
            progress=progress,
            max_bytes=max_bytes,
            storage_options=storage_options,
        )

    @knows_keywords
    def to_cog(
        self,
        directory: str | os.PathLike[str],
        *,
        together: bool = False,
        overwrite: bool = False,
        progress: bool = True,
        max_bytes: float | None = 20_000_000_000,
    ) -> list[Path]:
        """Write cloud-optimised GeoTIFFs through odc-geo, see `s2l3a_xr.to_cog`.

        Parameters
        ----------
        directory : str or path
            Made when it is not there.
        together : bool, default False
            Write one file for each month with all bands.
        overwrite : bool, default False
            Replace files that hold something else.
        progress : bool, default True
            Show a bar on stderr.
        max_bytes : float or None, default 20 GB
            Most bytes that all files still to be written may have unpacked; None for no limit.

        Returns
        -------
        list of pathlib.Path
            All files, written or found complete.

        Raises
        ------
        ExportError
            The array can't be written so, something else is in the place, or there is more to
            be written than ``max_bytes``.
        ReadError
            A file of the archive can't be read.

        Examples
        --------
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> [path.name for path in da.l3a.to_cog("out", progress=False)]
        ['s2_l3a_20210515_blue.tif', 's2_l3a_20210515_green.tif', ...]
        """
        from s2l3a_xr._cog import to_cog  # noqa: PLC0415 - heavy, loaded when used

        return to_cog(
            self._da,
            directory,
            together=together,
            overwrite=overwrite,
            progress=progress,
            max_bytes=max_bytes,
        )

    def save_request(self, path: str | os.PathLike[str]) -> Path:
        """Write the request that the array comes from to a file, to open it again.

        The file says which pixels of which files make up the array that was opened, whichever
        part of it this is: files, grid, area, bands, months, resampling, masks.
        ``xr.open_dataset(path, engine="s2l3a")`` opens it, and asks no archive what it has.

        Parameters
        ----------
        path : str or path
            ``.json`` or ``.geojson``; GIS show the tiles. Passwords in URLs are left out.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        SelectionError
            The pixels have been computed, or come from elsewhere.
        ExportError
            It can't be written, or the file is there and no request of this package.

        Examples
        --------
        >>> import xarray as xr
        >>> from s2l3a_xr import open_l3a
        >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
        >>> da = open_l3a((11.68, 51.94, 11.7, 51.96), time="2021-05", archive=archive)
        >>> path = da.l3a.save_request("request.json")
        >>> list(xr.open_dataset(path, engine="s2l3a"))
        ['B2', 'B3', 'B4', 'B8']
        """
        from s2l3a_xr._saved import save_request  # noqa: PLC0415 - heavy, loaded when used

        return save_request(self._da, path)
