"""Names of places: an archive's files, in folders, on servers and in packed files."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._paths import take_path
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import is_http

_LAST_SLASHES = re.compile(r"(?<![:/])/*$")
"""What a slash takes the place of; not those of memory://."""


def end_folder(place: str) -> str:
    """Put a slash behind a folder, in a chain such as ``zip://files::/data/mirror.zip`` too.

    Parameters
    ----------
    place : str
        As the user wrote it.

    Returns
    -------
    str
        A packed file by its absolute path, so that other processes find it too.

    Raises
    ------
    SelectionError
        There is no such file.
    """
    folder, chain, container = place.partition("::")
    if not chain:
        return _LAST_SLASHES.sub("/", folder)
    if "://" not in container:
        file = take_path(container, "archive", SelectionError).resolve()
        if not file.is_file():
            msg = f"no such file: {container!r} ({file}), the archive is {place!r}; check the path."
            raise SelectionError(msg)
        container = file.as_posix()
    folder = folder if "://" in folder else f"{folder}://"
    return f"{_LAST_SLASHES.sub('/', folder)}::{container}"


def check_address(url: str) -> None:
    """Refuse a URL that is no address of a web server, before anybody is asked.

    Parameters
    ----------
    url : str
        http or https.

    Raises
    ------
    SelectionError
        It names no host, or is not written as URLs are.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # judged when they are looked at
    except ValueError as exc:
        msg = f"{redact(url)} is no URL ({exc}); see how its host and port are written."
        raise SelectionError(msg) from None  # it may quote a password
    if not host:
        msg = f"{redact(url)!r} names no host; write https://HOST/…"
        raise SelectionError(msg)


def locate(archive_url: str, path: str) -> str:
    """Name a place below an archive.

    Parameters
    ----------
    archive_url : str
        Where the archive's files begin.
    path : str
        Relative, with ``/``.

    Returns
    -------
    str
        A URL or path; in a chain such as ``zip://::/data/mirror.zip`` it goes into the archive.

    Examples
    --------
    >>> locate("zip://files/::/data/mirror.zip", "32/U/PC/")
    'zip://files/32/U/PC/::/data/mirror.zip'
    """
    folder, chain, container = archive_url.partition("::")
    return folder + path + chain + container


def is_below(archive_url: str, url: str) -> bool:
    """Tell whether a file belongs to an archive.

    Parameters
    ----------
    archive_url : str
        Where the archive's files begin.
    url : str
        The file.

    Returns
    -------
    bool
        True on the same web server, or below the same folder.
    """
    folder, _, container = archive_url.partition("::")
    place, _, within = url.partition("::")
    if is_http(archive_url):
        return urlsplit(url)[:2] == urlsplit(archive_url)[:2]
    steps = re.split(r"[/\\]", place.removeprefix(folder))
    return place.startswith(folder) and within == container and ".." not in steps
