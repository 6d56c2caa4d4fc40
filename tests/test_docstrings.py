"""Every public name says what goes in, what comes out, what can go wrong, and shows it.

The examples themselves run as doctests (``--doctest-modules``).
"""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable, Iterator

import pytest
import xarray as xr

import s2l3a_xr
from s2l3a_xr import _errors
from s2l3a_xr._accessor import L3AAccessor
from s2l3a_xr._accessor_dataset import L3ADatasetAccessor

SECTION = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)
NAMES = sorted(set(s2l3a_xr.__all__) - {"__version__"})
CALLABLES = [
    name
    for name in NAMES
    if not (
        inspect.isclass(getattr(s2l3a_xr, name))
        and issubclass(getattr(s2l3a_xr, name), BaseException)
    )
]
"""Errors and warnings are raised for users, not made by them."""
FAIL_NEVER = {
    "Inventory", "Inventory.summary", "Inventory.to_dataframe", "Inventory.to_geodataframe",
    "Inventory.url", "Transport.for_links", "da.l3a.masked", "show_versions",
}  # fmt: skip
"""What can't fail but where a program is wrong."""
CALLED_BY_US = {"StacArchive.survey", "Transport.for_links"}
"""Parts of protocols, that no user calls."""


def methods(owner: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the public methods of a class that are ours."""
    for name in dir(owner):
        if name.startswith("_"):
            continue
        found = inspect.getattr_static(owner, name)
        found = getattr(found, "__func__", found)
        if inspect.isfunction(found) and found.__module__.startswith("s2l3a_xr."):
            yield name, found


def everything() -> Iterator[tuple[str, Callable[..., object]]]:
    for name in CALLABLES:
        thing = getattr(s2l3a_xr, name)
        yield name, thing
        if inspect.isclass(thing):
            for method, function in methods(thing):
                yield f"{name}.{method}", function
    for accessor, prefix in ((L3AAccessor, "da.l3a"), (L3ADatasetAccessor, "ds.l3a")):
        for method, function in methods(accessor):
            yield f"{prefix}.{method}", function


PUBLIC = dict(everything())
every_callable = pytest.mark.parametrize("name", PUBLIC)


def sections(thing: Callable[..., object]) -> dict[str, str]:
    """Split a docstring at its NumPy headings."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def explained(text: str) -> list[str]:
    """Read the names of a section about parameters; "a, b : int" are two."""
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :.*)?$", text, re.MULTILINE)
    return [name for head in heads for name in head.split(", ")]


def taken(thing: Callable[..., object]) -> list[str]:
    """List what a call takes, as a docstring names it."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(thing).parameters.values()
    named = [stars.get(one.kind, "") + one.name for one in parameters]
    return [name for name in named if name not in {"self", "cls"}]


@every_callable
def test_parameters_are_those_of_the_signature(name):
    told = explained(sections(PUBLIC[name]).get("Parameters", ""))
    assert sorted(told) == sorted(taken(PUBLIC[name]))


@every_callable
def test_what_comes_out_is_told(name):
    thing = PUBLIC[name]
    if inspect.isfunction(thing) and inspect.signature(thing).return_annotation != "None":
        assert "Returns" in sections(thing) or "Yields" in sections(thing)


@every_callable
def test_dims_and_dtype_of_arrays_are_told(name):
    thing = PUBLIC[name]
    given = inspect.signature(thing).return_annotation if inspect.isfunction(thing) else ""
    if given in {"xr.DataArray", "xr.Dataset"}:
        told = sections(thing)["Returns"]
        assert re.search(r"\(?time, |same dims", told), told
        assert re.search(r"int8|int16|float32|float64|datetime64|dtype", told), told


@every_callable
def test_what_can_go_wrong_is_told_by_types_that_exist(name):
    raised = sections(PUBLIC[name]).get("Raises", "")
    assert bool(raised) != (name in FAIL_NEVER)
    for line in re.findall(r"^(\S.*)$", raised, re.MULTILINE):
        for error in line.split(", "):
            assert error in s2l3a_xr.__all__ or error in {"ImportError", "OSError"}, error


@every_callable
def test_an_example_runs(name):
    assert name in CALLED_BY_US or ">>>" in sections(PUBLIC[name]).get("Examples", "")


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(CALLABLES)))
def test_errors_and_warnings_are_shown(name):
    told = sections(getattr(s2l3a_xr, name))
    assert name in told["Examples"]
    assert ">>>" in told["Examples"]


def test_the_tree_of_errors_is_whole():
    for name in set(NAMES) - set(CALLABLES):
        assert re.search(rf"\b{name}\b", inspect.getdoc(_errors)), name


@pytest.mark.parametrize("name", NAMES)
def test_properties_are_shown(name):
    """What a class has to be read is in its example, as nothing of them can be called."""
    owner = getattr(s2l3a_xr, name)
    for attribute in dir(owner) if inspect.isclass(owner) else ():
        if not attribute.startswith("_") and isinstance(
            inspect.getattr_static(owner, attribute), property
        ):
            shown = [sections(base).get("Examples", "") for base in owner.__mro__[:-1]]
            assert any(f".{attribute}" in text for text in shown), attribute


@pytest.mark.parametrize("accessor", [L3AAccessor, L3ADatasetAccessor])
def test_accessors_are_shown(accessor):
    assert ">>>" in sections(accessor)["Examples"]


SOURCES = {
    "https://geoservice.dlr.de/web/datasets/s2_l3a_wasp": (
        "open_l3a", "search_l3a", "Inventory", "extract_l3a",
    ),
    "https://github.com/CNES/WASP": (
        "da.l3a.flags", "da.l3a.weights", "da.l3a.dates", "da.l3a.quality",
    ),
    "https://": (
        "da.l3a.ndvi", "da.l3a.index", "to_geotiff", "to_cog", "to_zarr", "to_virtual",
        "buffer_aoi", "Transport", "StacArchive",
    ),
}  # fmt: skip
"""Facts of the product, formulas and formats: what somebody else has laid down."""


@pytest.mark.parametrize(
    ("source", "name"), [(source, name) for source, names in SOURCES.items() for name in names]
)
def test_what_others_laid_down_has_its_source(source, name):
    assert source in sections(PUBLIC[name]).get("References", "")


@pytest.mark.parametrize("name", NAMES)
def test_each_begins_with_one_line(name):
    first, *rest = (inspect.getdoc(getattr(s2l3a_xr, name)) or "").splitlines()
    assert first.endswith((".", ":"))
    assert not rest or not rest[0]


def test_tab_completion_shows_public_names_alone():
    assert set(dir(s2l3a_xr)) == set(s2l3a_xr.__all__)
    for owner, accessor in (
        (xr.DataArray([1]), L3AAccessor),
        (xr.Dataset(), L3ADatasetAccessor),
    ):
        ours = {name for name in dir(owner.l3a) if not name.startswith("_")}
        assert ours == dict(methods(accessor)).keys()
    told = explained(sections(s2l3a_xr.Inventory)["Parameters"])
    shown = {name for name in dir(s2l3a_xr.Inventory) if not name.startswith("_")}
    for name in shown - set(told):
        assert inspect.getdoc(getattr(s2l3a_xr.Inventory, name))


def test_help_leads_to_every_public_name():
    text = pydoc.plain(pydoc.render_doc(s2l3a_xr))
    for name in CALLABLES:
        assert f"`{name}`" in inspect.getdoc(s2l3a_xr)
        assert name in text.partition("FILE")[0]
    for name, _ in methods(L3AAccessor):
        assert f".{name}()``" in inspect.getdoc(s2l3a_xr)
    assert "_loaded_when_used" not in text.lower()
    assert max(map(len, inspect.getdoc(s2l3a_xr).splitlines())) <= 80
