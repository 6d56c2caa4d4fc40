"""How the network is used, and what comes back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._paths import take_path

_NO_HOST = re.compile(r"[\s/@?#\\\[\]]")


def _is_host(host: object) -> bool:
    return isinstance(host, str) and bool(host) and not _NO_HOST.search(host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How the network is used; travels with every array, also to cluster workers.

    Parameters
    ----------
    max_connections : int, default 16
        Connections to one host that a process has open at once.
    cluster_connections : int, optional
        Requests to one host that all workers of a dask cluster together have on their way at
        once; without a cluster those of the process. None for no such limit.
    connect_timeout_s : float, default 5
        Longest wait for a connection.
    idle_timeout_s : float, default 10
        Longest wait for the next byte.
    max_attempts : int, default 14
        How often one request is tried when the server answers with passing faults.
    give_up_s : float, default 25
        A host that was asked and sent no byte for so long, to no request, is given up.
    max_retry_after_s : float, default 60
        Longest ``Retry-After`` that is waited for.
    max_redirects : int, default 5
        Redirects of one request that are followed.
    allowed_hosts : tuple of str, default ()
        Further hosts that redirects and a STAC catalogue's links may lead to: names or
        addresses, without port.
    public_only : bool, default False
        Connect to public addresses alone, and to `allowed_hosts`. Files that a STAC catalogue
        links to are always read so, the catalogue's own host being allowed.
    cache_dir : str or path, optional
        Folder for unpacked blocks and headers, which many processes may share, also later
        ones. Headers are believed for a day without asking the server again. None keeps
        nothing on disk.
    cache_bytes : int, default 10 GB
        Most bytes in that folder; what was not used for longest goes first.
    max_header_bytes : int, default 8 MiB
        Most bytes that are read of a TIFF's header.
    max_block_bytes : int, default 64 MiB
        Longest unpacked block of a TIFF.
    max_listing_bytes : int, default 16 MiB
        Longest listing of a folder.
    max_document_bytes : int, default 64 MiB
        Longest document of a STAC catalogue, also unpacked.
    max_pages : int, default 5000
        Most pages of a STAC search.

    Raises
    ------
    SelectionError
        A number that is none or not positive, or a host that is none.

    References
    ----------
    https://www.rfc-editor.org/rfc/rfc9110

    Examples
    --------
    >>> Transport(max_connections=4).max_connections
    4
    """

    max_connections: int = 16
    cluster_connections: int | None = None
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 10.0
    max_attempts: int = 14
    give_up_s: float = 25.0
    max_retry_after_s: float = 60.0
    max_redirects: int = 5
    allowed_hosts: tuple[str, ...] = ()
    public_only: bool = False
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int = 10_000_000_000
    max_header_bytes: int = 8 * 2**20
    max_block_bytes: int = 64 * 2**20
    max_listing_bytes: int = 16 * 2**20
    max_document_bytes: int = 64 * 2**20
    max_pages: int = 5000

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type in {"int", "float"}:
                self._check_number(field.name, integer=field.type == "int")
        if self.cluster_connections is not None:
            self._check_number("cluster_connections", integer=True)
        given: object = self.allowed_hosts
        hosts = (given,) if isinstance(given, str) else given
        if not isinstance(hosts, Iterable) or not all(map(_is_host, hosts)):
            msg = f"Transport(allowed_hosts={hosts!r}) must be names or addresses of hosts alone."
            raise SelectionError(msg)
        object.__setattr__(self, "allowed_hosts", tuple(host.lower() for host in hosts))
        if self.cache_dir is not None:
            take_path(self.cache_dir, "Transport(cache_dir=…)", SelectionError)

    def _check_number(self, name: str, *, integer: bool) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, Integral if integer else Real)
        if not is_number or isinstance(value, bool) or not value > 0:
            kind = "a positive whole number" if integer else "a positive number"
            msg = f"Transport({name}={value!r}) must be {kind}."
            raise SelectionError(msg)

    def for_links(self, host: str | None) -> Transport:
        """Return the settings for reading what a catalogue links to.

        Parameters
        ----------
        host : str or None
            Where the catalogue is, None where it is on no server.

        Returns
        -------
        Transport
            For public addresses and that host.
        """
        more = () if host is None or host in self.allowed_hosts else (host,)
        return replace(self, public_only=True, allowed_hosts=(*self.allowed_hosts, *more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Bytes of a file, and what tells the file from a later one of the same name.

    Parameters
    ----------
    data : bytes or memoryview
        Exactly the bytes asked for, or those up to the file's end.
    total : int
        Size of the whole file.
    stamp : tuple of str
        ETag and Last-Modified, or what the file system has instead.
    url : str
        Where the bytes came from, after redirects.
    content_type : str
        As the server calls it.
    """

    data: bytes | memoryview
    total: int
    stamp: tuple[str, ...]
    url: str
    content_type: str = ""
