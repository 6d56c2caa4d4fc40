"""Apache's listing of a folder, in the form of DLR's download server (table form)."""

from __future__ import annotations

from collections.abc import Iterable

_ROW = (
    '<tr><td valign="top">&nbsp;</td><td><a href="{href}">{name}</a></td>'
    '<td align="right">2021-11-28 06:15  </td><td align="right">{size:>4}</td>'
    "<td>&nbsp;</td></tr>\n"
)
_SORT_LINKS = (
    '<th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th>'
    '<th><a href="?C=S;O=A">Size</a></th><th><a href="?C=D;O=A">Description</a></th>'
)


def index_page(url_path: str, entries: Iterable[tuple[str, int | None]]) -> str:
    """Write the page of a folder.

    Parameters
    ----------
    url_path : str
        Path of the folder, with a slash at both ends.
    entries : iterable of (str, int or None)
        Name (folders end in a slash) and size in bytes.

    Returns
    -------
    str
        HTML.
    """
    title = f"Index of {url_path.rstrip('/')}"
    parent = url_path.rstrip("/").rpartition("/")[0] + "/"
    rows = [_ROW.format(href=parent, name="Parent Directory", size="-")]
    rows += [_ROW.format(href=name, name=name, size=_size(size)) for name, size in entries]
    return (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
        f"<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n<h1>{title}</h1>\n"
        f'  <table>\n   <tr><th valign="top">&nbsp;</th>{_SORT_LINKS}</tr>\n'
        '   <tr><th colspan="5"><hr></th></tr>\n'
        f'{"".join(rows)}   <tr><th colspan="5"><hr></th></tr>\n</table>\n</body></html>\n'
    )


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**20:.0f}M" if size >= 2**20 else f"{size / 2**10:.0f}K"
