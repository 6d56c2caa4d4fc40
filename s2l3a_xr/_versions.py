"""Which versions are at work: what whoever helps asks for first."""

from __future__ import annotations

import importlib
import importlib.metadata
import locale
import platform
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from s2l3a_xr._texts import printable

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([^'\"]+)['\"]")
_PYTHON = re.compile(r"\bpython_version\s*>=\s*['\"](\d+)\.(\d+)['\"]")
_OWN = "s2l3a_xr"


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions of this package, of Python and of all that it uses.

    Bug reports need it. Nothing secret is printed: no variables, no names of hosts.

    Parameters
    ----------
    file : file object, optional
        Where to write the text; stdout by default.

    Examples
    --------
    >>> import s2l3a_xr
    >>> s2l3a_xr.show_versions()
    s2l3a_xr  ...
    Python    3...
    """
    out = sys.stdout if file is None else file
    out.write(versions_text() + "\n")


def versions_text() -> str:
    """Say the versions in lines of a name and a version.

    Returns
    -------
    str
        This package, the machine, the C libraries, what is needed, what is optional; what is
        optional and lacking is ``-``, and what can't be loaded says why.
    """
    parts = (_machine(), _libraries(), _installed(optional=False), _installed(optional=True))
    heads = ("", "Libraries in C", "Needed", "Optional (- is not installed)")
    width = max(len(name) for part in parts for name in part) + 2
    blocks = []
    for head, part in zip(heads, parts, strict=True):
        lines = [f"{name:<{width}}{version}".rstrip() for name, version in part.items()]
        blocks.append("\n".join([head, *lines] if head else lines))
    return printable("\n\n".join(blocks))


def _machine() -> dict[str, str]:
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    return {
        _OWN: _version(_OWN),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Encodings": f"console {encoding}, files {locale.getpreferredencoding(do_setlocale=False)}",
    }


def _libraries() -> dict[str, str]:
    """Ask each package for what it was built with: wheels bring copies of their own."""
    return {
        "GDAL (rasterio)": _asked("rasterio", "__gdal_version__"),
        "GDAL (pyogrio)": _asked("pyogrio", "__gdal_version_string__"),
        "PROJ (pyproj)": _asked("pyproj", "__proj_version__"),
        "GEOS (shapely)": _asked("shapely", "geos_version_string"),
    }


def _asked(module: str, attribute: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), attribute))
    except Exception as exc:  # a broken installation is what is looked for
        return f"can't be loaded: {type(exc).__name__}: {exc}"


def _installed(*, optional: bool) -> dict[str, str]:
    found = dict(sorted(_requirements(optional=optional), key=lambda pair: pair[0].lower()))
    return {
        name: f"- (needs Python {needed})" if needed and _version(name) == "-" else _version(name)
        for name, needed in found.items()
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _requirements(*, optional: bool) -> Iterator[tuple[str, str]]:
    """Give names, and the Python that one needs where this is an older one."""
    for requirement in importlib.metadata.requires(_OWN) or ():
        name = _NAME.match(requirement)
        if name and name[0] != _OWN and bool(_EXTRA.search(requirement)) is optional:
            least = _PYTHON.search(requirement)
            is_newer = least and (int(least[1]), int(least[2])) > sys.version_info[:2]
            yield name[0], f"{least[1]}.{least[2]}" if least and is_newer else ""
