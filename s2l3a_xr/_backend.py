"""xarray's engine ``s2l3a``: a Dataset with a variable for each band.

xarray imports every engine before it opens anything, so what is heavy is imported when used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

_DECODERS = (
    "mask_and_scale", "decode_times", "concat_characters", "decode_coords", "use_cftime",
    "decode_timedelta",
)  # fmt: skip
_OPTIONS = (
    "years", "months", "time", "bands", "archive", "verify", "crs", "resolution", "geobox", "like",
    "resampling", "use_overviews", "clip", "all_touched", "mask", "max_masked", "flag_encoding",
    "missing", "fail_on_error", "transport",
)  # fmt: skip
"""Those of `open_l3a` but for what xarray does itself."""

_JSON = frozenset({".json", ".geojson"})
_HEAD_BYTES = 4096
_HEAD = re.compile(
    rb'\s*\{\s*"type"\s*:\s*"FeatureCollection"\s*,\s*"s2l3a_xr"\s*:\s*\{\s*'
    rb'"format"\s*:\s*"s2l3a_xr (inventory|request)"'
)
"""How inventories and requests of this package begin."""


class L3ABackendEntrypoint(BackendEntrypoint):
    """Opens areas, and saved requests and inventories, as ``engine="s2l3a"``.

    Examples
    --------
    >>> import xarray as xr
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> ds = xr.open_dataset(
    ...     (11.68, 51.94, 11.76, 51.99), engine="s2l3a", chunks={},
    ...     years=2021, months=[5, 6], bands=["B4", "B8"], archive=archive,
    ... )
    >>> list(ds), ds["B4"].dims, str(ds["B4"].dtype)
    (['B4', 'B8'], ('time', 'y', 'x'), 'float32')
    """

    description = "Monthly cloud-free Sentinel-2 mosaics of DLR (L3A, WASP) over an area"
    url = "https://geoservice.dlr.de/web/datasets/s2_l3a_wasp"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj", *_DECODERS, "drop_variables", *_OPTIONS
    )  # fmt: skip

    def open_dataset(
        self,
        filename_or_obj: Any,  # noqa: ANN401 - an area in any form
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool | Mapping[str, bool] = True,
        **options: Any,  # noqa: ANN401 - of another function
    ) -> xr.Dataset:
        """Open an area, or what was saved, as a Dataset; no pixel is read.

        Parameters
        ----------
        filename_or_obj : path, geometry or Inventory
            An area as `open_l3a` takes it; the file of a saved request or inventory; an
            `Inventory`.
        drop_variables : str or iterable of str, optional
            Bands that are left out.
        mask_and_scale : bool or mapping, default True
            Give float32 reflectance with NaN; False gives int16 with nodata. The mask layers
            stay integers, unless a mapping names them.
        **options
            Other decoders of xarray, and the keywords of `open_l3a`.

        Returns
        -------
        xarray.Dataset
            A variable for each band, named as asked for; dims (time, y, x).

        Raises
        ------
        S2L3AError
            As `open_l3a`.
        """
        from s2l3a_xr._dataset import open_variables  # noqa: PLC0415 - heavy, loaded when used

        decoders = {name: options.pop(name) for name in _DECODERS if name in options}
        return open_variables(
            filename_or_obj, options,
            {**decoders, "mask_and_scale": mask_and_scale, "drop_variables": drop_variables},
        )  # fmt: skip

    def guess_can_open(self, filename_or_obj: Any) -> bool:  # noqa: ANN401 - whatever xarray is given
        """Tell whether a file is surely a request or inventory of this package.

        Parameters
        ----------
        filename_or_obj : object
            What xarray was given.

        Returns
        -------
        bool
            False for areas: engine="s2l3a" must be named for them.
        """
        if not isinstance(filename_or_obj, str | os.PathLike) or "://" in str(filename_or_obj):
            return False
        try:
            path = Path(filename_or_obj)
            if path.suffix.lower() not in _JSON or not path.is_file():
                return False
            with path.open("rb") as file:
                return _HEAD.match(file.read(_HEAD_BYTES)) is not None
        except (OSError, ValueError, TypeError):
            return False
