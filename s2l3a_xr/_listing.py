"""Listings of web servers: foreign pages, of which only names below the folder are believed."""

from __future__ import annotations

import asyncio
import html
import logging
import re
from dataclasses import dataclass
from urllib.parse import unquote, urljoin

from s2l3a_xr._errors import ArchiveError, GoneError, ReadError
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session

KEPT = "what Inventory.save has kept opens without it: open_l3a(inventory=…) (--inventory)"
"""What helps where an archive or catalogue can't be reached; used only where it is asked for."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ANCHOR = re.compile(r"<a\s([^<>]*)>", re.IGNORECASE)
_HREF = re.compile(r"""(?<![\w-])href\s*=\s*(["'])(.*?)\1""", re.IGNORECASE | re.DOTALL)
_BEHIND = re.compile(r"</a>((?:(?!<br)[^\n])*)", re.IGNORECASE)
"""The rest of a link's own line; IIS breaks lines with <br>, and writes sizes before links."""
_SIZE = re.compile(r"(?<![\d:.-])(\d+(?:\.\d+)?)([KMGT]?)(?=\s*(?:<|$))")
_CHILD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*/?")
_SAYS_SO = re.compile(r"index of|directory listing|parent directory", re.IGNORECASE)
_OURS = re.compile(r"(\d{2}|[A-Z]{1,2}|\d{4}|MASKS|S2_L3_WASP_\w+)/|SENTINEL2\S+", re.ASCII)
"""Names that the product's layouts have."""
_BEGINS = re.compile(r"<html[\s>]", re.IGNORECASE)
_ENDS = re.compile(r"</html\s*>", re.IGNORECASE)
_NO_LISTING = "open it in a browser: it may want a login; `s2l3a doctor URL` tells what it is"
_PAUSES_S = (0.2, 0.6)
"""Waited before a listing that is none, or has nothing, is asked for again."""

_log = logging.getLogger(__name__)


class _NoListingError(ArchiveError):
    """A page that may become a listing."""


class EmptyFolderError(ArchiveError):
    """A folder that is there, and lists nothing however often it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a listing.

    Parameters
    ----------
    name : str
        Name below the folder; a folder's has a slash behind it.
    size : int or None
        Bytes as listed (servers round them), None where not said.
    """

    name: str
    size: int | None = None


async def read_page(session: Session, url: str, *, may_be_empty: bool) -> tuple[Entry, ...]:
    """Read a web server's listing of a folder.

    A page that is no listing (of a login, of maintenance), or has nothing, may be right a
    moment later: it is asked for twice more.

    Parameters
    ----------
    session : Session
        This process's connections.
    url : str
        The folder, with a slash behind it.
    may_be_empty : bool
        Whether a folder that is there and has nothing in it is believed.

    Returns
    -------
    tuple of Entry
        Empty where there is no such folder.

    Raises
    ------
    ArchiveError
        It can't be read, is no listing, or has nothing where that is not believed.
    """
    for pause_s in _PAUSES_S:
        try:
            found = await _ask(session, url)
        except _NoListingError as exc:
            _log.debug("asked again: %s", exc)
        else:
            if found is None or found:
                return found or ()
        await asyncio.sleep(pause_s)
    found = await _ask(session, url)
    if found == () and not may_be_empty:
        msg = (
            f"{redact(url)} is there, but its listing names nothing, asked {len(_PAUSES_S) + 1} "
            "times: the server falters, or the folder is about to be filled. Try again later, or "
            f"ask for other years; {KEPT}."
        )
        raise EmptyFolderError(msg)
    return found or ()


async def _ask(session: Session, url: str) -> tuple[Entry, ...] | None:
    """Ask once; None where there is no such folder."""
    try:
        reply = await session.http.fetch(url, cap=session.transport.max_listing_bytes)
    except GoneError:
        return None
    except ReadError as exc:
        msg = f"the archive's listing can't be read: {exc}; {KEPT}."
        raise ArchiveError(msg) from exc
    return parse_listing(bytes(reply.data).decode("utf-8", "replace"), reply.url)


def parse_listing(text: str, url: str) -> tuple[Entry, ...]:
    """Read a web server's directory listing, in table or preformatted form.

    Parameters
    ----------
    text : str
        The page.
    url : str
        Where it came from, with a slash behind it.

    Returns
    -------
    tuple of Entry
        Direct children of the folder alone: links that sort, go up, or lead elsewhere are
        no entries.

    Raises
    ------
    ArchiveError
        The page is no directory listing, or ends early.

    Examples
    --------
    >>> page = '<h1>Index of /f</h1><a href="?C=N;O=D">Name</a> <a href="a.tif">a.tif</a> 55M'
    >>> parse_listing(page, "http://localhost/f/")
    (Entry(name='a.tif', size=57671680),)
    """
    text = _COMMENT.sub("", text)
    found: dict[str, Entry] = {}
    _, *links = _ANCHOR.split(text)
    names = [_child_name(attributes, url) for attributes in links[::2]]
    for name, content in zip(names, links[1::2], strict=True):
        if name is not None:
            found[name] = Entry(name=name, size=_listed_size(content))
    _log.debug("%s: %d of %d links lead elsewhere", redact(url), names.count(None), len(names))
    if not _SAYS_SO.search(text) and not any(_OURS.fullmatch(name) for name in found):
        msg = f"{redact(url)} is no directory listing; it begins {text[:80]!r}"
        raise _NoListingError(msg, hint=_NO_LISTING)
    if _BEGINS.search(text) and not _ENDS.search(text):
        msg = f"the listing {redact(url)} ends early, with {text[-80:]!r}"
        raise _NoListingError(msg, hint="try again later")
    return tuple(found.values())


def _child_name(attributes: str, url: str) -> str | None:
    """Name that an anchor links to, None where that is no direct child of the folder."""
    href = _HREF.search(attributes)
    if href is None:
        return None
    try:
        target = urljoin(url, html.unescape(href[2]))
    except ValueError:  # such as a host that begins with [
        return None
    name = unquote(target.removeprefix(url)) if target.startswith(url) else ""
    return name if _CHILD.fullmatch(name) else None


def _listed_size(content: str) -> int | None:
    """Size in the line of a link, from what stands between it and the next one."""
    behind = _BEHIND.search(content)
    match = _SIZE.search(behind[1]) if behind else None
    return round(float(match[1]) * _UNITS[match[2]]) if match else None
