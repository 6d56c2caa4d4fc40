"""One request over aiohttp, its errors mapped to ours."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.cookies import Morsel
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
from aiohttp.typedefs import LooseCookies
from yarl import URL

from s2l3a_xr._errors import TransportError
from s2l3a_xr._texts import redact
from s2l3a_xr._transport._answer import take_answer
from s2l3a_xr._transport._attempt import Attempt
from s2l3a_xr._transport._guard import GuardedResolver, check_host
from s2l3a_xr._transport._settings import Reply, Transport
from s2l3a_xr._transport._tally import count
from s2l3a_xr._transport._wish import PassingError, Wish

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SERVER_FAULT = 500
_CERTIFICATE_HINT = (
    "if your organisation has certificates of its own, name their file in SSL_CERT_FILE"
)
_NAME_HINT = "see whether the name is right and the network there, or try again later"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LOOPBACK_HINT = "see whether a server runs there, such as `s2l3a serve-sample`, and on which port"
_PROXY_HINT = "HTTPS_PROXY or HTTP_PROXY name it, and NO_PROXY hosts to be asked without it"
_DOMAIN = re.compile(r";\s*domain\s*=[^;]*", re.IGNORECASE)
_LONGEST_REASON = 500
"""Characters of what aiohttp says; it quotes all that it could not read."""
_DOCUMENT_PATIENCE = 3
"""A catalogue searches, and may let clients queue, before it answers."""


class HostCookies(aiohttp.CookieJar):
    """Cookies that go back to the very host that set them, and nowhere else.

    aiohttp knows no public suffixes: any host could set some for all of ``.de``.
    """

    def __init__(self) -> None:
        super().__init__(unsafe=True)  # hosts that are numbers have cookies too

    def update_cookies(self, cookies: LooseCookies, response_url: URL = URL()) -> None:  # noqa: B008 - aiohttp's
        """Take what aiohttp before 3.12 has read."""
        for _, cookie in cookies.items() if isinstance(cookies, Mapping) else cookies:
            if isinstance(cookie, Morsel):
                cookie["domain"] = ""
        super().update_cookies(cookies, response_url)

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Take what a host sets."""
        alone = [_DOMAIN.sub("", header) for header in headers]
        super().update_cookies_from_headers(alone, response_url)


class Client:
    """Connections of one session: to any address, and to public ones alone.

    Parameters
    ----------
    transport : Transport
        The settings.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clients: dict[bool, aiohttp.ClientSession] = {}
        self._cookies: aiohttp.CookieJar | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def ask(self, url: str, wish: Wish, attempt: Attempt, *, is_foreign: bool) -> Reply | str:
        """Ask once.

        Parameters
        ----------
        url : str
            http or https.
        wish : Wish
            What to ask for.
        attempt : Attempt
            Is told of the bytes that come.
        is_foreign : bool
            A redirect led here, so that only public addresses will do.

        Returns
        -------
        Reply or str
            A str is where a redirect leads.

        Raises
        ------
        PassingError
            It may be right at the next attempt.
        NoPartsError, NoSizeError
            As from `take_answer`.
        TransportError
            It can't be used.
        """
        only_public = is_foreign or self._transport.public_only
        if only_public:
            check_host(url, self._transport.allowed_hosts)
        proxy, address = self.proxy_for(url), _address_of(url)
        with _mapped(url, proxy, self.idle_s(wish)):
            async with self.session(only_public=only_public).request(
                wish.method,
                address,
                data=wish.body,
                headers=wish.headers,
                allow_redirects=False,
                proxy=proxy,
                timeout=self.timeout(wish),
                trace_request_ctx=attempt,
            ) as response:
                attempt.watch(response.content)
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                return await take_answer(response, url, wish)

    async def warm(self, url: str, count: int) -> None:
        """Open connections that requests to come will use, as far as that works.

        Parameters
        ----------
        url : str
            http or https; its host counts.
        count : int
            How many; never more than ``max_connections``.
        """
        if self._transport.public_only or self.proxy_for(url) is not None:
            return
        client = self.session(only_public=False)
        connector = client.connector
        if connector is None:
            return
        loop = asyncio.get_running_loop()

        opened: list[aiohttp.connector.Connection] = []

        async def open_one() -> None:
            request = aiohttp.ClientRequest("GET", URL(url), loop=loop, session=client)
            opened.append(await connector.connect(request, [], client.timeout))

        wanted = [open_one() for _ in range(min(count, self._transport.max_connections))]
        try:  # held together, or one would be opened and lent to all
            await asyncio.gather(*wanted, return_exceptions=True)
        finally:  # whoever wants them may be cancelled meanwhile
            for connection in opened:
                connection.release()

    async def close(self) -> None:
        """Close the connections."""
        # At once: whoever is interrupted a second time meanwhile would leave the others open.
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def session(self, *, only_public: bool) -> aiohttp.ClientSession:
        """Give aiohttp's session.

        Parameters
        ----------
        only_public : bool
            The one that connects to public addresses alone.

        Returns
        -------
        aiohttp.ClientSession
            Always the same.
        """
        if only_public not in self._clients:
            if self._cookies is None:
                self._cookies = HostCookies()
            self._clients[only_public] = aiohttp.ClientSession(
                auto_decompress=False,
                read_bufsize=2**20,
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self._transport.max_connections,
                    ttl_dns_cache=300,
                    resolver=GuardedResolver(
                        self._transport.allowed_hosts, only_public=only_public
                    ),
                ),
                cookie_jar=self._cookies,
                headers={"User-Agent": _user_agent()},
                trace_configs=[_tracing()],
            )
            # Attempts are counted here: aiohttp would make a second one without a word.
            self._clients[only_public]._retry_connection = False  # noqa: SLF001 - no other way
        return self._clients[only_public]

    def proxy_for(self, url: str) -> str | None:
        """Look the environment's proxies up, once for each host: it takes a millisecond.

        Parameters
        ----------
        url : str
            http or https.

        Returns
        -------
        str or None
            URL of the proxy.
        """
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "")
        if place not in self._proxies:
            proxies = urllib.request.getproxies()
            bypassed = urllib.request.proxy_bypass(place[1])
            self._proxies[place] = None if bypassed else proxies.get(parts.scheme)
        return self._proxies[place]

    def timeout(self, wish: Wish) -> aiohttp.ClientTimeout:
        """Give the limits of one attempt.

        Parameters
        ----------
        wish : Wish
            What is asked for.

        Returns
        -------
        aiohttp.ClientTimeout
            None for the whole.
        """
        return aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._transport.connect_timeout_s,
            sock_read=self.idle_s(wish),
        )

    def idle_s(self, wish: Wish) -> float:
        """Say how much silence the next attempt bears.

        Parameters
        ----------
        wish : Wish
            What is asked for.

        Returns
        -------
        float
            Seconds; all attempts together bear no more than a silent host is given.
        """
        settings = self._transport
        idle_s = settings.idle_timeout_s * (_DOCUMENT_PATIENCE if wish.is_document else 1)
        return min(idle_s, settings.give_up_s - wish.silent_s)


@contextlib.contextmanager
def _mapped(url: str, proxy: str | None, idle_s: float) -> Iterator[None]:
    """Make our errors of aiohttp's."""
    host = urlsplit(url).hostname
    try:
        yield
    except aiohttp.ClientSSLError as exc:
        raise _tls_error(exc, url) from exc
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as exc:
        raise _proxy_error(exc, url, proxy) from exc
    except (aiohttp.InvalidURL, UnicodeError) as exc:
        raise _no_address(url, exc) from None  # its text has all of the URL
    except aiohttp.ClientConnectorDNSError as exc:
        msg = f"no connection: nobody knows the address of {host} ({exc.os_error})"
        raise PassingError(msg, kind="connect", hint=_NAME_HINT) from exc
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        msg = f"no connection: {str(exc).replace(' ssl:default', '')}"  # said of http too
        hint = _LOOPBACK_HINT if host in _LOOPBACK else ""
        raise PassingError(msg, kind="connect", hint=hint) from exc
    except TimeoutError as exc:
        msg = f"no byte came for {idle_s:g} s"
        raise PassingError(msg, kind="silence") from exc
    except aiohttp.ClientResponseError as exc:  # its text has a status that no server sent
        msg = f"the server's answer is no HTTP: {exc.message[:_LONGEST_REASON]}"
        raise PassingError(msg, kind="garbled") from exc
    except (aiohttp.ClientError, OSError) as exc:
        msg = f"the connection broke: {str(exc)[:_LONGEST_REASON] or type(exc).__name__}"
        raise PassingError(msg) from exc


def _address_of(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as exc:
        raise _no_address(url, exc) from None


def _no_address(url: str, exc: Exception) -> TransportError:
    msg = f"that is no address: {redact(str(exc))}"
    return TransportError(msg, url=url, hint="see how it is spelt")


def _tls_error(exc: aiohttp.ClientSSLError, url: str) -> Exception:
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        msg = f"the server's certificate can't be trusted: {exc}"
        return TransportError(msg, url=url, hint=_CERTIFICATE_HINT)
    if "EOF" in str(exc):  # cut in the middle of the handshake
        return PassingError(f"no connection, TLS was cut: {exc}", kind="connect")
    msg = f"no connection, TLS failed: {exc}"
    return TransportError(msg, url=url, hint="see whether the server speaks https on this port")


def _proxy_error(
    exc: aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError,
    url: str,
    proxy: str | None,
) -> Exception:
    name = redact(proxy or "")
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        msg = f"no connection to the proxy {name}: {exc.os_error}"
        return PassingError(msg, kind="connect", hint=_PROXY_HINT)
    msg = f"the proxy {name} answered {exc.status} {exc.message[:100]}"
    if exc.status >= _SERVER_FAULT:
        return PassingError(msg, status=exc.status, hint=_PROXY_HINT)
    return TransportError(msg, url=url, status=exc.status, hint=_PROXY_HINT)


def _tracing() -> aiohttp.TraceConfig:
    async def opened(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, Attempt):  # a probe notes by itself
            count(context.trace_request_ctx.host, "connections")

    async def sent(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, Attempt):
            context.trace_request_ctx.sent()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(opened)
    trace.on_request_headers_sent.append(sent)
    return trace


def _user_agent() -> str:
    try:
        return f"s2l3a_xr/{version('s2l3a_xr')}"
    except PackageNotFoundError:
        return "s2l3a_xr"
