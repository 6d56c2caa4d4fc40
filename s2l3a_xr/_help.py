"""Help at the prompt: keywords that are spelt otherwise, and what an accessor can do."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for name in kwargs.keys() - set(known):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
            msg = f"{function.__name__}() has no keyword {name!r}; {hint}"
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
