"""The public names are those of `__all__`, each explained, and the version is one."""

from __future__ import annotations

import importlib.metadata
import inspect

import pytest

import s2l3a_xr


def test_all_is_the_public_namespace():
    public = {
        name
        for name in dir(s2l3a_xr)
        if not name.startswith("_") and not inspect.ismodule(getattr(s2l3a_xr, name))
    }
    assert len(set(s2l3a_xr.__all__)) == len(s2l3a_xr.__all__)
    assert public == set(s2l3a_xr.__all__) - {"__version__"}


def test_version_is_the_installed_one():
    assert s2l3a_xr.__version__ == importlib.metadata.version("s2l3a_xr")


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
