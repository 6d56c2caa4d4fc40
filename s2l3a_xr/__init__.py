"""DLR's monthly cloud-free Sentinel-2 mosaics (Level 3A, WASP) as xarray arrays.

Open and read: `open_l3a` gives one lazy (time, band, y, x) array; `search_l3a`
says what the archive has, as an `Inventory` that can be saved and opened again;
`extract_l3a` gives statistics of fields and points.

Write: `to_geotiff` and `to_cog` write files for each month, `to_zarr` a store,
`to_virtual` a store that only names the archive's blocks; `save_archive` copies
part of the archive, to read it offline; `buffer_aoi` makes an area smaller.

An opened array has methods: ``da.l3a.masked()``, ``.plan()``, ``.failures()``,
``.requests()``, ``.quality()``, ``.select_clear()``, ``.flags()``,
``.weights()``, ``.dates()``, ``.ndvi()``, ``.index()``, ``.rgb()``,
``.plot_rgb()``, ``.quicklook()``, ``.explore()``, ``.save_request()``,
``.to_geotiff()``, ``.to_cog()``, ``.to_zarr()``.

Settings: `Transport` for the network, `StacArchive` for another STAC API;
`check_cluster` tells whether a dask cluster has this package. Every error is a
`S2L3AError`, every warning a `S2L3AWarning`; for bug reports there is
`show_versions`.

The examples read the sample archive: ``s2l3a serve-sample`` in another window
makes it and serves it at the address that they name.

>>> import s2l3a_xr
>>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
>>> aoi = (11.68, 51.94, 11.76, 51.99)
>>> da = s2l3a_xr.open_l3a(aoi, years=2021, months=[5, 6], archive=archive)
>>> da.dims, str(da.dtype)
(('time', 'band', 'y', 'x'), 'int16')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from s2l3a_xr import _accessor as _accessor
from s2l3a_xr import _accessor_dataset as _accessor_dataset
from s2l3a_xr._errors import (
    AoiError,
    AoiWarning,
    ArchiveError,
    ExportError,
    FileChangedError,
    FormatError,
    GoneError,
    InputError,
    MaskedWarning,
    MissingError,
    MissingWarning,
    ReadError,
    ReadFailedWarning,
    S2L3AError,
    S2L3AWarning,
    SelectionError,
    TransportError,
)

if TYPE_CHECKING:
    from s2l3a_xr._buffer import buffer_aoi
    from s2l3a_xr._cluster import check_cluster
    from s2l3a_xr._cog import to_cog
    from s2l3a_xr._export import to_geotiff
    from s2l3a_xr._extract import extract_l3a
    from s2l3a_xr._inventory import Inventory
    from s2l3a_xr._mirror import save_archive
    from s2l3a_xr._open import open_l3a
    from s2l3a_xr._search import search_l3a
    from s2l3a_xr._stac import StacArchive
    from s2l3a_xr._transport import Transport
    from s2l3a_xr._versions import show_versions
    from s2l3a_xr._virtual import to_virtual
    from s2l3a_xr._zarr import to_zarr

__all__ = [
    "AoiError",
    "AoiWarning",
    "ArchiveError",
    "ExportError",
    "FileChangedError",
    "FormatError",
    "GoneError",
    "InputError",
    "Inventory",
    "MaskedWarning",
    "MissingError",
    "MissingWarning",
    "ReadError",
    "ReadFailedWarning",
    "S2L3AError",
    "S2L3AWarning",
    "SelectionError",
    "StacArchive",
    "Transport",
    "TransportError",
    "__version__",
    "buffer_aoi",
    "check_cluster",
    "extract_l3a",
    "open_l3a",
    "save_archive",
    "search_l3a",
    "show_versions",
    "to_cog",
    "to_geotiff",
    "to_virtual",
    "to_zarr",
]

__version__ = "0.1.0"

_LOADED_WHEN_USED = {
    "Inventory": "_inventory",
    "StacArchive": "_stac",
    "Transport": "_transport",
    "buffer_aoi": "_buffer",
    "check_cluster": "_cluster",
    "extract_l3a": "_extract",
    "open_l3a": "_open",
    "save_archive": "_mirror",
    "search_l3a": "_search",
    "show_versions": "_versions",
    "to_cog": "_cog",
    "to_geotiff": "_export",
    "to_virtual": "_virtual",
    "to_zarr": "_zarr",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _LOADED_WHEN_USED:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
