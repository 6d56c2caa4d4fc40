"""Documents of a catalogue: fetched, bounded, and JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from s2l3a_xr._errors import ArchiveError, GoneError, ReadError
from s2l3a_xr._listing import KEPT
from s2l3a_xr._loop import in_thread
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import Session, is_http

_FRESH_S = 300.0

NO_CATALOGUE = "see whether the address is a STAC catalogue's: `s2l3a doctor URL` tells what it is"
IN_CIRCLES = "tell the catalogue's operator, or ask for fewer months at once"
"""What helps where a catalogue's answers make no sense."""


def fresh() -> int:
    """Give a number that stays the same for some minutes.

    Returns
    -------
    int
        Part of the key of what is remembered so long.
    """
    return int(time.monotonic() // _FRESH_S)


async def fetch_text(session: Session, place: str, body: bytes | None = None) -> str:
    """Read a document, or ask with a JSON body.

    Parameters
    ----------
    session : Session
        This process's connections.
    place : str
        URL or local path; it must have been checked.
    body : bytes, optional
        JSON to be posted.

    Returns
    -------
    str
        What it says.

    Raises
    ------
    GoneError
        There is no such document.
    TransportError
        It can't be read.
    ArchiveError
        The local file can't be read, or is too large.
    """
    cap = session.transport.max_document_bytes
    if not is_http(place):
        return await in_thread(_read_file, place, cap)
    reply = await session.http.fetch_document(place, cap=cap, body=body)
    return bytes(reply.data).decode("utf-8", "replace")


async def keep_text(session: Session, place: str) -> str:
    """Read a document that is remembered for some minutes.

    Parameters
    ----------
    session : Session
        This process's connections.
    place : str
        URL or local path; it must have been checked.

    Returns
    -------
    str
        What it says.
    """

    async def fetch() -> str:
        return await fetch_text(session, place)

    text: str = await session.listings.get((place, "document", fresh()), fetch)
    return text


async def get_document(
    session: Session, place: str, *, read: Callable[[Session, str], Awaitable[str]] = fetch_text
) -> dict[str, Any]:
    """Read a document that must be a JSON object.

    Parameters
    ----------
    session : Session
        This process's connections.
    place : str
        URL or local path; it must have been checked.
    read : callable
        `fetch_text`, or `keep_text` for what is asked for again soon.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    GoneError
        There is no such document.
    ArchiveError
        It can't be read, or is something else.
    """
    try:
        text = await read(session, place)
    except GoneError:
        raise
    except ReadError as exc:
        msg = f"the STAC catalogue can't be read: {exc}; {KEPT}."
        raise ArchiveError(msg) from exc
    return parse_document(text, place)


def parse_document(text: str, place: str) -> dict[str, Any]:
    """Read JSON that must be an object.

    Parameters
    ----------
    text : str
        JSON.
    place : str
        For messages.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    ArchiveError
        It is something else.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        msg = f"{redact(place)} is no JSON that can be read ({exc}); it begins {text[:80]!r}"
        raise ArchiveError(msg, hint=NO_CATALOGUE) from exc
    if not isinstance(document, dict):
        msg = f"{redact(place)} is JSON, but no object; it begins {text[:80]!r}"
        raise ArchiveError(msg, hint=NO_CATALOGUE)
    return document


def links_of(document: dict[str, Any], *rels: str) -> list[dict[str, Any]]:
    """Give a document's links of some kinds, leaving out what is no link.

    Parameters
    ----------
    document : dict
        A STAC object.
    *rels : str
        Relations, such as ``child``.

    Returns
    -------
    list of dict
        Each with ``rel`` and ``href``.
    """
    links = document.get("links")
    return [
        link
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") in rels and isinstance(link.get("href"), str)
    ]


def _read_file(path: str, cap: int) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(cap + 1)
    except OSError as exc:
        msg = f"the STAC file {path} can't be read: {exc}"
        raise ArchiveError(msg, hint="see whether it is there and may be read") from exc
    if len(data) > cap:
        msg = (
            f"the STAC file {path} is larger than {cap} bytes; cut it, or allow more with "
            "transport=Transport(max_document_bytes=…)."
        )
        raise ArchiveError(msg)
    return data.decode("utf-8", "replace")
