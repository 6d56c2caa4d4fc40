"""What an accessor shows of itself: its methods."""

from __future__ import annotations

import inspect


class Menu:
    """Shows what can be called, each with the first line of its docstring."""

    _shown_as = "da.l3a"

    def __repr__(self) -> str:
        found = inspect.getmembers(type(self), inspect.isfunction)
        public = [(name, inspect.getdoc(method) or "") for name, method in found if name[0] != "_"]
        widest = max(len(name) for name, _ in public)
        lines = [f"  {name:{widest}}  {told.splitlines()[0]}" for name, told in public]
        return "\n".join([f"<{self._shown_as} of s2l3a_xr>", *lines])
