"""Where redirects may lead."""

from __future__ import annotations

import ipaddress
from functools import cache

from publicsuffixlist import PublicSuffixList
from yarl import URL

from s2l3a_xr._errors import TransportError
from s2l3a_xr._texts import redact
from s2l3a_xr._transport._settings import Transport

_HINT = "see with `s2l3a doctor URL` where it leads, and name that as the archive if you trust it"


def redirect_target(asked: str, here: str, location: str, transport: Transport) -> str:
    """Check one redirect.

    Allowed are the host that was asked, on any port, hosts of the same registrable domain,
    and those that the user allows; never from https to http. A user's name and password go
    only where they were meant for.

    Parameters
    ----------
    asked : str
        The URL that the request began with.
    here : str
        The URL that answered.
    location : str
        What it answered.
    transport : Transport
        The settings.

    Returns
    -------
    str
        Where to go on.

    Raises
    ------
    TransportError
        It must not be followed.
    """
    try:
        target = URL(here).join(URL(location))
        _ = target.port  # judged when it is looked at
    except ValueError as exc:
        msg = f"the server redirects to what is no address: {exc}"
        raise TransportError(msg, url=asked, hint=_HINT) from exc
    if target.scheme not in {"https", URL(here).scheme} or not target.host:
        msg = f"the server redirects to {redact(str(target))}, which is not followed from here"
        raise TransportError(msg, url=asked, hint=_HINT)
    first = URL(asked)
    if not (
        target.host == first.host
        or target.host in transport.allowed_hosts
        or is_kin(target.host, first.host or "")
    ):
        msg = f"the server redirects to another host, {target.host}"
        hint = (
            f"if you trust it, pass transport=Transport(allowed_hosts=({target.host!r},)) "
            "(--allow-host)"
        )
        raise TransportError(msg, url=asked, hint=hint)
    is_home = target.origin() == first.origin() or target.origin() == URL(
        str(first.origin()).replace("http://", "https://", 1)
    )
    user, password = (first.user, first.password) if is_home else (None, None)
    return str(target.with_user(user).with_password(password) if user else target.with_user(None))


def is_kin(host: str, other: str) -> bool:
    """Tell whether two hosts belong to one registrable domain.

    Parameters
    ----------
    host, other : str
        Names; numbers and names without a dot have no kin.

    Returns
    -------
    bool
        True where one owner has registered both.

    Examples
    --------
    >>> is_kin("geoservice.dlr.de", "download.geoservice.dlr.de")
    True
    >>> is_kin("a.co.uk", "b.co.uk"), is_kin("10.0.0.1", "10.1.0.1")
    (False, False)
    """
    domain = _domain(host)
    return domain is not None and domain == _domain(other)


def _domain(host: str) -> str | None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = _suffixes().privatesuffix(host.lower().rstrip("."))
        return None if found is None else str(found)
    return None


@cache
def _suffixes() -> PublicSuffixList:
    """Read the list that came with the package, when it is first needed."""
    return PublicSuffixList()
