"""Folder listings as Apache's mod_autoindex writes them, in both of its forms."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

Form = Literal["table", "pre"]

_NAME_WIDTH = 23  # Apache's default: the <pre> form cuts longer names, the link keeps them
_COLUMNS = {"N": "Name", "M": "Last modified", "S": "Size", "D": "Description"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a listing."""

    name: str
    """Name as shown and linked; a folder ends in a slash."""
    modified: float
    """Seconds since the epoch."""
    size: int | None
    """Bytes, None for a folder."""


def read_folder(folder: Path) -> list[Entry]:
    """Entries of a folder; names that begin with a dot stay hidden, as on Apache."""
    entries = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        stat = path.stat()
        is_folder = path.is_dir()
        entries.append(
            Entry(
                name=path.name + ("/" if is_folder else ""),
                modified=stat.st_mtime,
                size=None if is_folder else stat.st_size,
            )
        )
    return entries


def render_listing(url_path: str, entries: list[Entry], *, form: Form, query: str = "") -> str:
    """Write the page of a folder.

    Parameters
    ----------
    url_path : str
        Decoded path of the folder, with its closing slash.
    entries : list of Entry
        Its rows, in any order.
    form : {"table", "pre"}
        ``IndexOptions HTMLTable`` or the plain form with icons and cut names.
    query : str
        What a sort link asks for, such as ``"C=S;O=D"``.

    Returns
    -------
    str
        A page of HTML.
    """
    column, descending = _sort_order(query)
    rows = sorted(entries, key=lambda entry: _sort_key(entry, column), reverse=descending)
    flip = dict.fromkeys(_COLUMNS, "A")
    if not descending:
        flip[column] = "D"
    heads = [f'<a href="?C={key};O={flip[key]}">{text}</a>' for key, text in _COLUMNS.items()]
    parent = None
    if url_path != "/":
        parent = quote(url_path.rstrip("/").rpartition("/")[0] + "/")
    body = _table(heads, parent, rows) if form == "table" else _pre(heads, parent, rows)
    title = html.escape("Index of " + (url_path.rstrip("/") or "/"))
    return "\n".join(
        (
            '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">',
            "<html>",
            " <head>",
            f"  <title>{title}</title>",
            " </head>",
            " <body>",
            f"<h1>{title}</h1>",
            *body,
            "</body></html>",
            "",
        )
    )


def format_size(size: int) -> str:
    """Write a size in four characters, as Apache does (``55M``, ``2.5M``, ``12K``)."""
    if size < 973:
        return f"{size:3d} "
    amount = float(size)
    for unit in "KMGTPE":
        amount /= 1024
        if amount < 9.95:
            return f"{amount:.1f}{unit}"
        if amount < 972.5:
            return f"{amount:3.0f}{unit}"
    return "****"


def _sort_order(query: str) -> tuple[str, bool]:
    fields = dict(part.partition("=")[::2] for part in query.replace("&", ";").split(";"))
    column = fields.get("C", "N")
    return (column if column in _COLUMNS else "N"), fields.get("O") == "D"


def _sort_key(entry: Entry, column: str) -> tuple[float, str]:
    if column == "M":
        return entry.modified, entry.name
    if column == "S":
        return float(-1 if entry.size is None else entry.size), entry.name
    return 0.0, entry.name


def _table(heads: list[str], parent: str | None, rows: list[Entry]) -> Iterator[str]:
    rule = '   <tr><th colspan="5"><hr></th></tr>'
    yield "  <table>"
    cells = "".join(f"<th>{head}</th>" for head in heads)
    yield f'   <tr><th valign="top">&nbsp;</th>{cells}</tr>'
    yield rule
    if parent is not None:
        yield _table_row(parent, "Parent Directory", "&nbsp;", None)
    for entry in rows:
        when = f"{_when(entry)}  "
        yield _table_row(quote(entry.name), html.escape(entry.name), when, entry.size)
    yield rule
    yield "</table>"


def _table_row(href: str, text: str, when: str, size: int | None) -> str:
    shown = "  - " if size is None else format_size(size)
    date = f"<td>{when}</td>" if when == "&nbsp;" else f'<td align="right">{when}</td>'
    return (
        f'<tr><td valign="top">&nbsp;</td><td><a href="{href}">{text}</a></td>'
        f'{date}<td align="right">{shown}</td><td>&nbsp;</td></tr>'
    )


def _pre(heads: list[str], parent: str | None, rows: list[Entry]) -> Iterator[str]:
    name, modified, size, description = heads
    gap = " " * (_NAME_WIDTH - len("Name"))
    blank = '<img src="/icons/blank.gif" alt="Icon ">'
    yield f"<pre>{blank} {name}{gap} {modified}      {size}  {description}<hr>" + (
        "" if parent is None else _pre_row("back", "[PARENTDIR]", parent, "Parent Directory")
    )
    for entry in rows:
        icon, alt = ("folder", "[DIR]") if entry.size is None else ("unknown", "[   ]")
        yield _pre_row(icon, alt, quote(entry.name), entry.name, _when(entry), entry.size)
    yield "<hr></pre>"


def _pre_row(
    icon: str, alt: str, href: str, name: str, when: str = " " * 16, size: int | None = None
) -> str:
    cut = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3] + "..>"
    gap = " " * (_NAME_WIDTH - len(cut))
    shown = "  - " if size is None else format_size(size)
    image = f'<img src="/icons/{icon}.gif" alt="{alt}">'
    return f'{image} <a href="{href}">{html.escape(cut)}</a>{gap} {when}  {shown} '


def _when(entry: Entry) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.modified))
