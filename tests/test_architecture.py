"""Imports go one way, one stage speaks to the network, and modules stay small."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import s2l3a_xr

PACKAGE = Path(s2l3a_xr.__file__).parent
STAGES = (
    "_help",
    "_texts",
    "_errors",
    "_paths",
    "_disk",
    "_own",
    "_product",
    "_flags",
    "_selection",
    "_geometries",
    "_aoi",
    "_features",
    "_buffer",
    "_tiles",
    "_grid",
    "_loop",
    "_cluster",
    "_store",
    "_cache",
    "_transport",
    "_places",
    "_listing",
    "_archive",
    "_dated",
    "_stac",
    "_cover",
    "_cells",
    "_gaps",
    "_foreign",
    "_pin",
    "_map",
    "_sizes",
    "_inventory",
    "_kept",
    "_tables",
    "_discover",
    "_tiff",
    "_plan",
    "_mosaic",
    "_kernels",
    "_warp",
    "_agreement",
    "_identity",
    "_source",
    "_fetch",
    "_share",
    "_read",
    "_footprint",
    "_gather",
    "_patchwork",
    "_request",
    "_reading",
    "_failures",
    "_traffic",
    "_cube",
    "_rehearsal",
    "_tokens",
    "_chunks",
    "_planning",
    "_copy",
    "_mirror",
    "_target",
    "_search",
    "_labels",
    "_saved",
    "_masks",
    "_quality",
    "_open",
    "_dataset",
    "_backend",
    "_references",
    "_virtual",
    "_progress",
    "_statistics",
    "_zonal",
    "_extract",
    "_raster",
    "_volume",
    "_geotiff",
    "_pieces",
    "_jobs",
    "_journal",
    "_zarr",
    "_cog",
    "_export",
    "_indices",
    "_picture",
    "_plot",
    "_explore",
    "_doctor",
    "_versions",
    "_accessor_masks",
    "_accessor_pictures",
    "_accessor_dataset",
    "_accessor",
    "__init__",
    "_cli_options",
    "_cli_masks",
    "_cli_steps",
    "_cli_export",
    "_cli_sample",
    "_cli_doctor",
    "_cli_pictures",
    "_cli",
)
"""Bottom to top. A stage is a module, or a folder of modules; `__init__` is the public face."""
MAY_IMPORT = {
    **{stage: {*STAGES[: rank + 1]} for rank, stage in enumerate(STAGES)},
    "_cli": {*STAGES, "_sample"},
    "_cli_sample": {*STAGES, "_sample"},
    "_sample": {"_sample", "_errors"},
}
NETWORK = ("aiohttp", "fsspec", "http.client", "requests", "socket", "urllib.request", "urllib3")
SPEAKERS = {"_transport", "_sample"}
MAX_LINES = 400


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, anywhere and for type checking too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _own(path: Path) -> set[str]:
    """Return the modules of ours that a module imports."""
    names = {name for name in _imports(path) if name.split(".")[0] == PACKAGE.name}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def _stage(module: str) -> str:
    return f"{module}.__init__".split(".")[1]


every_module = pytest.mark.parametrize("module", MODULES)


@every_module
def test_imports_go_one_way(module):
    stage = _stage(module)
    assert stage in MAY_IMPORT, "a new stage takes its place in STAGES and docs/architecture.md"
    assert {_stage(name) for name in _own(MODULES[module])} <= MAY_IMPORT[stage]


def test_no_module_imports_itself_in_the_end():
    TopologicalSorter({name: _own(path) for name, path in MODULES.items()}).prepare()


@every_module
def test_only_the_transport_speaks_to_the_network(module):
    doors = tuple(f"{name}." for name in NETWORK)
    opened = {name for name in _imports(MODULES[module]) if f"{name}.".startswith(doors)}
    assert not opened or _stage(module) in SPEAKERS


@every_module
def test_modules_stay_small(module):
    lines = MODULES[module].read_text("utf-8").count("\n")
    assert lines <= MAX_LINES
