"""Code as users write it, which mypy reads strictly (`make lint`); nothing here is run.

Types reach users through the lazy names of ``s2l3a_xr``, as an editor sees them.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import s2l3a_xr
from s2l3a_xr import (
    Inventory,
    ReadError,
    S2L3AError,
    S2L3AWarning,
    StacArchive,
    Transport,
    extract_l3a,
    open_l3a,
    save_archive,
    search_l3a,
    show_versions,
    to_geotiff,
)

if TYPE_CHECKING:
    import xarray as xr


def opening() -> None:
    """Open in the ways of README."""
    assert_type(open_l3a("aoi.geojson", years=2021), "xr.DataArray")
    assert_type(
        s2l3a_xr.open_l3a(Path("aoi.gpkg"), years=[2020, 2021], months="3-10"), "xr.DataArray"
    )
    open_l3a((11.7, 51.9, 11.8, 52.0), time="2021-03/2021-10", bands=["B4", "nir"])
    open_l3a({"type": "Point", "coordinates": [11.7, 51.9]}, years=range(2019, 2022), bands="B4")
    open_l3a("aoi.geojson", time=datetime.date(2021, 5, 1), archive=StacArchive(collection="X"))
    open_l3a(
        "aoi.geojson", crs=3035, resolution=20.0, resampling={"B11": "bilinear", "*": "nearest"}
    )
    open_l3a("aoi.geojson", mask=("cloud", "snow"), max_masked=0.5, mask_and_scale=True)
    open_l3a("aoi.geojson", missing="keep", fail_on_error=False, chunks={"time": 1})
    open_l3a("aoi.geojson", transport=Transport(max_connections=4, allowed_hosts=("a.example",)))
    open_l3a(inventory="inventory.json", like=open_l3a(inventory=Path("inventory.json")))


def searching() -> None:
    """Search, keep and open again."""
    found = search_l3a("aoi.geojson", years=2021, verify=True)
    assert_type(found, Inventory)
    assert_type(found.tiles, tuple[str, ...])
    assert_type(found.months, tuple[tuple[int, int], ...])
    assert_type((found.available, len(found), found.whole_bytes), tuple[int, int, int])
    assert_type(found.save("inventory.json"), Path)
    assert_type(Inventory.load("inventory.json").summary(), str)
    assert_type(save_archive(found, "mirror/", progress=False), Inventory)


def leaving(da: xr.DataArray) -> None:
    """Write and summarise."""
    assert_type(to_geotiff(da, "out/", profile="cog", max_bytes=None), list[Path])
    assert_type(
        extract_l3a("fields.gpkg", ["mean", "count"], time="2021-05", method="exact"), "xr.Dataset"
    )
    s2l3a_xr.buffer_aoi("aoi.geojson", -20).to_file("smaller.gpkg")
    assert_type(s2l3a_xr.to_cog(da, "out/", together=True), list[Path])
    assert_type(s2l3a_xr.to_virtual("inventory.json", "refs.parquet", progress=False), Path)
    s2l3a_xr.to_zarr(da, "cube.zarr", chunks={"x": 1024}, storage_options={"anon": True})
    assert_type(s2l3a_xr.check_cluster(timeout_s=5), dict[str, str])
    da.l3a.plan().attrs["summary"]  # xarray knows accessors as Any
    assert_type(show_versions(), None)
    assert_type(s2l3a_xr.__version__, str)


def failing() -> None:
    """Catch errors, which say where."""
    try:
        open_l3a("aoi.geojson", years=2021).compute()
    except ReadError as error:
        assert_type(error.url, str)
        assert_type(error.byte_range, tuple[int, int] | None)
        assert_type(error.status, int | None)
    except S2L3AError as error:
        assert_type(error.hint, str)
    assert_type(S2L3AWarning("x"), S2L3AWarning)


def mistakes(da: xr.DataArray) -> None:
    """Make mistakes that must be seen: an unused ignore is an error, so each has to be one."""
    open_l3a("aoi.geojson", missing="maybe")  # type: ignore[arg-type]
    open_l3a("aoi.geojson", 2021)  # type: ignore[call-arg]
    open_l3a("aoi.geojson", year=2021)  # type: ignore[call-arg]
    to_geotiff(da, "out/", profile="jpeg")  # type: ignore[arg-type]
    Transport(max_connections="4")  # type: ignore[arg-type]
    extract_l3a("fields.gpkg", method="center")  # type: ignore[arg-type]
    search_l3a("aoi.geojson", verify="yes")  # type: ignore[arg-type]
