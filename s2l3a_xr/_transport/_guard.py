"""Which addresses links from a catalogue may lead to."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from collections.abc import Collection
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from s2l3a_xr._errors import TransportError


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the open internet.

    Parameters
    ----------
    address : str
        IPv4 or IPv6, as numbers.

    Returns
    -------
    bool
        False for private, loopback, link-local and other special addresses.

    Examples
    --------
    >>> is_public("9.9.9.9"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def check_host(url: str, allowed_hosts: Collection[str]) -> None:
    """Refuse a URL whose host is a number that leads to no public address.

    Parameters
    ----------
    url : str
        http or https.
    allowed_hosts : collection of str
        Hosts that may be anywhere.

    Raises
    ------
    TransportError
        The address is private, or none.
    """
    try:
        host = URL(url).host or ""  # as the client reads it: other digits than ASCII's count too
    except ValueError as exc:
        msg = f"that is no address: {exc}"
        raise TransportError(msg, hint="see how it is spelt") from exc
    try:
        public = is_public(host)
    except ValueError:  # a name: judged when it is resolved
        return
    if not public and host not in allowed_hosts:
        raise _refusal(host, host)


def _moved(host: str, address: str) -> TransportError:
    msg = f"{host} was at a public address, and is now said to be at {address}, which is none"
    hint = (
        f"if that is right, begin anew, or pass transport=Transport(allowed_hosts=({host!r},)) "
        "(--allow-host)"
    )
    return TransportError(msg, hint=hint)


def _refusal(host: str, address: str) -> TransportError:
    msg = f"a link or redirect leads to {host} at {address}, which is no public address"
    hint = f"if you trust it, pass transport=Transport(allowed_hosts=({host!r},)) (--allow-host)"
    return TransportError(msg, hint=hint)


class GuardedResolver(AbstractResolver):
    """Finds the addresses of names, and refuses those that are not public.

    The connection goes to the very addresses that were judged. Where any address will do, a
    name that was at public addresses stays there: whoever owns it could else send us anywhere.

    Parameters
    ----------
    allowed_hosts : collection of str
        Hosts that may be anywhere, at any time.
    only_public : bool
        Whether all others must be at public addresses from the beginning.
    """

    def __init__(self, allowed_hosts: Collection[str], *, only_public: bool) -> None:
        self._inner = aiohttp.DefaultResolver()
        self._allowed = allowed_hosts
        self._only_public = only_public
        self._were_public: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Find the addresses of a name."""
        found = await self._inner.resolve(host, port, family)
        if host in self._allowed or host in _proxies():
            return found
        private = next((r["host"] for r in found if not is_public(r["host"])), None)
        if private is None:
            self._were_public.add(host)
        elif self._only_public:
            raise _refusal(host, private)
        elif host in self._were_public:
            raise _moved(host, private)
        return found

    async def close(self) -> None:
        """Let go of what the resolver holds."""
        await self._inner.close()


def _proxies() -> set[str | None]:
    return {urlsplit(proxy).hostname for proxy in urllib.request.getproxies().values()}
