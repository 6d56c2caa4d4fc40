"""Help at the prompt: keywords that are spelt otherwise, and what an accessor can do."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ELSEWHERE = {
    **dict.fromkeys(("area", "bbox", "bounds", "geometry", "geopolygon", "intersects"), "aoi"),
    **dict.fromkeys(("assets", "measurements", "band_names"), "bands"),
    **dict.fromkeys(("date", "dates", "datetime"), "time"),
    **dict.fromkeys(("epsg", "output_crs"), "crs"),
    **dict.fromkeys(("path", "folder", "output", "out"), "directory"),
}
"""What other packages call it."""


def knows_keywords(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function name the keyword that was probably meant.

    Parameters
    ----------
    function : callable
        Takes keywords by name alone.

    Returns
    -------
    callable
        The same, but for its ``TypeError``.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.name != "self"]
    by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for name in kwargs.keys() - set(known):
            meant = _ELSEWHERE.get(name, name)
            near = [meant] if meant in known else difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
            msg = f"{function.__name__}() has no keyword {name!r}; {hint}"
            raise TypeError(msg)
        if len(args) > len(by_place):
            first = " and ".join(name for name in known if name in by_place) or "nothing"
            others = ", ".join(f"{name}=…" for name in known if name not in by_place)
            msg = (
                f"{function.__name__}() takes {first} by position at most; name the others: "
                f"{others}"
            )
            raise TypeError(msg)
        return function(*args, **kwargs)

    return checked


class Menu:
    """Shows what can be called, each with the first line of its docstring."""

    _shown_as = "da.l3a"

    def __repr__(self) -> str:
        found = inspect.getmembers(type(self), inspect.isfunction)
        public = [(name, inspect.getdoc(method) or "") for name, method in found if name[0] != "_"]
        widest = max(len(name) for name, _ in public)
        lines = [f"  {name:{widest}}  {told.splitlines()[0]}" for name, told in public]
        return "\n".join([f"<{self._shown_as} of s2l3a_xr>", *lines])
