"""Every message in the source says what to do: those of errors that no test brings about, too."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import s2l3a_xr
from s2l3a_xr._errors import ReadError

PACKAGE = Path(s2l3a_xr.__file__).parent
NEXT = re.compile(
    r"(^|[;:.,(?] *)(give|choose|write|check|see|remove|set|add|ask|pass|take|use|correct|name|try|"
    r"tell|open|search|download|export|save|make|leave|select|swap|buffer|drop|allow|put|turn|"
    r"read|do|run|await|begin|cut|its names are|there is a panel)\b"
    r"|\b(must|needs|such as|for example|the order is|is turned by|counts them|goes on|pip install|"
    r"install the|does without)\b",
    re.IGNORECASE,
)
"""What tells a user what to do, or what would be right."""
PUBLIC = {name for name in s2l3a_xr.__all__ if name.endswith("Error")}
HINTED = {name for name in PUBLIC if issubclass(getattr(s2l3a_xr, name), ReadError)}
"""Their kind says what helps."""
RAISED = PUBLIC - HINTED | {"ImportError", "EmptyFolderError", "VolumeError", "_NoListingError"}
RAISED |= {"error"}  # a type that is handed in


def texts(node: ast.AST, module: object, functions: dict, above: list) -> Iterator[str]:
    """Collect the last literal text of a message, wherever in the module it stands."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        if isinstance(part, ast.Name):
            constant = getattr(module, part.id, None)
            if isinstance(constant, str):
                yield constant
            for line in above[:1] if part.id == "msg" else above:
                if any(isinstance(to, ast.Name) and to.id == part.id for to in line.targets):
                    yield from texts(line.value, module, functions, above[1:])
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            for line in ast.walk(functions.get(part.func.id, ast.Pass())):
                if isinstance(line, ast.Return | ast.Assign) and line.value is not None:
                    yield from texts(line.value, module, {}, [])


def messages() -> Iterator[tuple[str, bool, str]]:
    """Yield where an error of ours is raised, whether it has a hint, and its text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "_sample" in parts:
            continue
        found = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        functions = {
            f.name: f for f in found if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for function in functions.values():
            for node in ast.walk(function):
                call = node.exc if isinstance(node, ast.Raise) else None
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                    if call.func.id not in RAISED:
                        continue
                    assigned = [line for line in ast.walk(function) if isinstance(line, ast.Assign)]
                    above = [line for line in assigned if line.lineno < node.lineno]
                    above.sort(key=lambda line: -line.lineno)
                    hinted = any(word.arg == "hint" for word in call.keywords)
                    told = " ".join(texts(call, module, functions, above))
                    yield f"{'.'.join(parts)}:{node.lineno}", hinted, told


def test_every_message_says_what_to_do():
    found = list(messages())
    assert len(found) > 200
    assert [
        (where, told) for where, hinted, told in found if not hinted and not NEXT.search(told)
    ] == []
