"""Which links of a catalogue are followed; all of them are foreign input."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from s2l3a_xr._errors import ArchiveError, TransportError
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import check_host, is_http

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:|//|\\\\|/vsi")  # one letter alone is a drive
_NEVER_IN_URLS = re.compile(r"[\s\\\x00-\x1f\x7f]")


class LinkRefusedError(ArchiveError):
    """A link leads where none may lead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The rules, which depend on what the user named.

    Files may lie at any https address; at http ones and on private hosts only where the named
    catalogue itself is, or where the user allows it. Documents come from there alone. A local
    catalogue may name what is beside and below it.

    Parameters
    ----------
    named : str
        URL or path of the catalogue, as the user gave it; empty for objects in memory.
    allowed_hosts : tuple of str
        Hosts that the user allows besides.
    """

    named: str
    allowed_hosts: tuple[str, ...] = ()

    @property
    def host(self) -> str | None:
        """Host of the catalogue."""
        return urlsplit(self.named).hostname if is_http(self.named) else None

    def to_file(self, base: str, href: str) -> str:
        """Check a link to a file.

        Parameters
        ----------
        base : str
            URL or path that relative links begin from, empty where nobody knows.
        href : str
            The link.

        Returns
        -------
        str
            URL or local path.

        Raises
        ------
        LinkRefusedError
            It must not be followed.
        """
        url = self._resolved(base, href)
        if is_http(url):
            self._check_scheme(url)
            try:
                check_host(url, self._trusted)
            except TransportError as exc:
                where = "to no public address"
                raise LinkRefusedError(_leads(url, where, urlsplit(url).hostname)) from exc
        return url

    def to_document(self, base: str, href: str) -> str:
        """Check a link to another document of the catalogue.

        Parameters
        ----------
        base : str
            URL or path that relative links begin from.
        href : str
            The link.

        Returns
        -------
        str
            URL or local path.

        Raises
        ------
        LinkRefusedError
            It must not be followed.
        """
        url = self._resolved(base, href)
        if is_http(url):
            self._check_scheme(url)
            host = urlsplit(url).hostname
            if host not in self._trusted:
                raise LinkRefusedError(_leads(url, "to another host", host))
        return url

    @property
    def _trusted(self) -> tuple[str, ...]:
        return (*self.allowed_hosts, self.host) if self.host else self.allowed_hosts

    def _check_scheme(self, url: str) -> None:
        host = urlsplit(url).hostname
        by_http = host in self.allowed_hosts or (
            self.named.startswith("http://") and host == self.host
        )
        if url.startswith("http://") and not by_http:
            raise LinkRefusedError(_leads(url, "to an address without https", host))

    def _resolved(self, base: str, href: str) -> str:
        if is_http(href) or (is_http(base) and not _SCHEME.match(href)):
            return _checked_url(base, href)
        if _SCHEME.match(href):
            msg = f"a link leads to {redact(href)[:200]}: only https and http are followed"
            raise LinkRefusedError(msg)
        if not base:
            msg = f"a link, {href[:200]!r}, leads nowhere without an address that it begins from"
            raise LinkRefusedError(msg)
        path = os.path.normpath(Path(base).parent / href)
        root = os.path.normpath(Path(self.named or base).parent)
        if "\0" in path or not Path(path).is_relative_to(root):
            msg = f"a link leads to {href[:200]!r}: only what is beside or below {root} is read"
            raise LinkRefusedError(msg)
        return Path(path).as_posix()


def _checked_url(base: str, href: str) -> str:
    try:
        url = href if is_http(href) else urljoin(base, href)
        parts = urlsplit(url)
        _ = parts.port  # judged when it is looked at
    except ValueError as exc:
        msg = f"a link is no address ({exc})"
        raise LinkRefusedError(msg) from exc
    if not is_http(url) or not parts.hostname or _NEVER_IN_URLS.search(url):
        msg = f"a link is no address: {redact(url)[:200]!r}"
        raise LinkRefusedError(msg)
    if parts.username is not None or parts.password is not None:
        msg = f"a link carries a user's name: {redact(url)[:200]}"
        raise LinkRefusedError(msg)
    return url


def _leads(url: str, where: str, host: str | None) -> str:
    return (
        f"a link leads {where}, {redact(url)[:200]}; if you trust it, pass "
        f"transport=Transport(allowed_hosts=({host!r},)) (--allow-host)"
    )
