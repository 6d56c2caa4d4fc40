"""The public names are those of `__all__`, each explained, and the version is one."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest
import xarray as xr

import s2l3a_xr


def test_all_is_the_public_namespace():
    public = {
        name
        for name in dir(s2l3a_xr)
        if not name.startswith("_") and not inspect.ismodule(getattr(s2l3a_xr, name))
    }
    assert len(set(s2l3a_xr.__all__)) == len(s2l3a_xr.__all__)
    assert public == set(s2l3a_xr.__all__) - {"__version__"}


def test_a_near_keyword_is_named():
    for name, meant in (("month", "months"), ("band", "bands"), ("chunk", "chunks")):
        with pytest.raises(TypeError, match=rf"no keyword '{name}'; did you mean '{meant}'\?"):
            s2l3a_xr.open_l3a((11.7, 51.9, 11.8, 52.0), **{name: 5})
    with pytest.raises(TypeError, match=r"no keyword 'quux'; it has aoi, years, months"):
        s2l3a_xr.search_l3a((11.7, 51.9, 11.8, 52.0), quux=5)
    da = xr.DataArray([0])
    for call, name, meant in (
        (s2l3a_xr.save_archive, "transports", "transport"),
        (s2l3a_xr.to_virtual, "progres", "progress"),
        (da.l3a.to_geotiff, "profil", "profile"),
        (da.l3a.to_zarr, "chunk", "chunks"),
        (da.l3a.to_cog, "overwrit", "overwrite"),
        (da.l3a.plot_rgb, "column", "columns"),
        (da.l3a.quicklook, "band", "bands"),
    ):
        with pytest.raises(TypeError, match=rf"no keyword '{name}'; did you mean '{meant}'\?"):
            call("x", "x", **{name: 5})
    with pytest.raises(TypeError, match=r"to_cog\(\) has no keyword 'quux'; it has directory, "):
        da.l3a.to_cog("x", quux=5)


def test_names_that_other_packages_have_are_known():
    for name, meant in (
        ("bbox", "aoi"),
        ("datetime", "time"),
        ("assets", "bands"),
        ("epsg", "crs"),
    ):
        with pytest.raises(TypeError, match=rf"no keyword '{name}'; did you mean '{meant}'\?"):
            s2l3a_xr.open_l3a(**{name: 5})
    with pytest.raises(TypeError, match=r"no keyword 'bbox'; it has directory"):
        xr.DataArray([0]).l3a.to_cog("x", bbox=5)


def test_what_goes_by_name_is_told():
    told = r"open_l3a\(\) takes aoi by position at most; name the others: years=…, months=…, time=…"
    with pytest.raises(TypeError, match=told):
        s2l3a_xr.open_l3a((11.7, 51.9, 11.8, 52.0), 2021, 5)
    with pytest.raises(
        TypeError, match=r"takes da and directory by position at most; name .*profile="
    ):
        s2l3a_xr.to_geotiff(xr.DataArray([0]), "x", "plain")
    with pytest.raises(TypeError, match=r"takes directory by position at most; name .*profile="):
        xr.DataArray([0]).l3a.to_geotiff("x", "plain")


@pytest.mark.parametrize(("owner", "name"), [(xr.DataArray([0]), "da"), (xr.Dataset(), "ds")])
def test_accessors_show_what_they_can_do(owner, name):
    first, *lines = repr(owner.l3a).splitlines()
    assert first == f"<{name}.l3a of s2l3a_xr>"
    public = [method for method in dir(owner.l3a) if not method.startswith("_")]
    assert [line.split()[0] for line in lines] == public
    assert all(len(line.split()) > 3 for line in lines)


def test_version_is_the_installed_one():
    assert s2l3a_xr.__version__ == importlib.metadata.version("s2l3a_xr")


def test_mypy_reads_every_name_as_users_call_it():
    code = (Path(__file__).parent / "typing" / "user_code.py").read_text("utf-8")
    for name in s2l3a_xr.__all__:
        if not name.endswith(("Error", "Warning")):
            assert re.search(rf"\b{name}\b[(.,]", code), name


@pytest.mark.parametrize("name", sorted(set(s2l3a_xr.__all__) - {"__version__"}))
def test_public_names_are_explained(name):
    thing = getattr(s2l3a_xr, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        undocumented = [
            attribute
            for attribute, value in vars(thing).items()
            if not attribute.startswith("_")
            and (inspect.isroutine(value) or isinstance(value, property))
            and not inspect.getdoc(value)
        ]
        assert not undocumented
