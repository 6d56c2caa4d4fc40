"""A loopback server that speaks as the archive's Apache does, or fails as told."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from aiohttp import web

from s2l3a_xr._sample._answers import (
    Answer,
    asked_range,
    asked_ranges,
    file_answer,
    html_answer,
    page_answer,
    spoil,
)
from s2l3a_xr._sample._faults import Fault, FaultBook
from s2l3a_xr._sample._listing import Form, read_folder, render_listing
from s2l3a_xr._sample._log import LoggedRequest, Progress
from s2l3a_xr._sample._port import HOST, listen
from s2l3a_xr._sample._stac import STAC_PATH, StacSite

BASE_PATH = "/S2_L3A_WASP/files/"

_ACCEPTING_S = 0.01
_FORBIDDEN_IN_NAMES = re.compile(r"[\\:\0]")
_EXTRA_BYTES = 16


@dataclass(slots=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    runner: web.ServerRunner
    port: int
    link_free_at: float = 0.0


class SampleServer:
    """Serve a folder on 127.0.0.1 in the manner of DLR's download server.

    Folders answer with Apache's listing, files with ranges, ETag and Last-Modified; `stac_url`
    is a STAC API over the same files, and `stac` says how it answers. The
    server runs in a thread of its own; use it as a context manager, or call `start` and
    `stop`.

    Parameters
    ----------
    root : pathlib.Path
        The folder that is ``/``.
    port : int
        0 takes any free one.
    latency_s : float
        Wait before each answer; may be set while the server runs.
    bytes_per_s : float, optional
        Speed of the link that all connections share; may be set while the server runs.
    listing : {"table", "pre"}
        Form of the listings; may be set while the server runs.
    log : bool
        Keep a record of each request.
    many_ranges : bool
        Answer several ranges of a file in one answer; may be set while the server runs.

    Examples
    --------
    >>> import tempfile
    >>> with SampleServer(Path(tempfile.mkdtemp())) as server:
    ...     server.origin.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        root: Path,
        *,
        port: int = 0,
        latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        listing: Form = "table",
        log: bool = True,
        many_ranges: bool = True,
    ) -> None:
        self.root = Path(root)
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.listing: Form = listing
        self.many_ranges = many_ranges
        self.stac = StacSite()
        self._wanted_port = port
        self._keep_log = log
        self._log: list[Progress] = []
        self._faults: list[Fault] = []
        self._book = FaultBook()
        self._running: _Running | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        if self._running is None:
            raise RuntimeError("the sample server is not running: call start() or use `with`")
        return f"http://{HOST}:{self._running.port}"

    @property
    def url(self) -> str:
        """Base of the archive, with a slash at the end."""
        return self.origin + BASE_PATH

    @property
    def stac_url(self) -> str:
        """Landing page of the STAC API over the same files."""
        return self.origin + STAC_PATH

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests so far, in the order in which they came."""
        names = tuple(field.name for field in fields(LoggedRequest))
        return [
            LoggedRequest(**{name: getattr(item, name) for name in names}) for item in self._log
        ]

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._log.clear()

    @property
    def faults(self) -> list[Fault]:
        """What goes wrong; the first fault that strikes a request is the one it gets.

        Setting the list begins all counts anew.
        """
        return self._faults

    @faults.setter
    def faults(self, faults: list[Fault]) -> None:
        self._faults = list(faults)
        self._book.reset()

    def start(self) -> Self:
        """Listen; returns when the port is open."""
        if self._running is not None:
            return self
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="s2l3a-sample", daemon=True)
        thread.start()
        try:
            self._running = asyncio.run_coroutine_threadsafe(self._open(thread), loop).result()
        except BaseException:
            _end_loop(loop, thread)
            raise
        return self

    def stop(self) -> None:
        """Close the port and all connections, and end the thread."""
        running, self._running = self._running, None
        if running is None:
            return
        asyncio.run_coroutine_threadsafe(_close(running.runner), running.loop).result()
        _end_loop(running.loop, running.thread)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    async def _open(self, thread: threading.Thread) -> _Running:
        runner = web.ServerRunner(web.Server(self._handle), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, listen(self._wanted_port, HOST), backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        return _Running(
            loop=asyncio.get_running_loop(),
            thread=thread,
            runner=runner,
            port=int(runner.addresses[0][1]),
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        progress = Progress(
            method=request.method,
            path=request.rel_url.path,
            started=time.monotonic(),
            peer_port=int(peer[1]) if peer else 0,
            cookie=request.headers.get("Cookie", ""),
            body=await request.read(),
        )
        if self._keep_log:
            self._log.append(progress)
        try:
            if self.latency_s > 0:
                await asyncio.sleep(self.latency_s)
            return await self._respond(request, progress)
        finally:
            progress.finished = time.monotonic()

    async def _respond(self, request: web.BaseRequest, progress: Progress) -> web.StreamResponse:
        path = request.rel_url.path
        found = self._find(path)
        if found is not None and found.is_file():
            header, size = request.headers.get("Range"), found.stat().st_size
            progress.range = asked_range(header, size)
            progress.ranges = asked_ranges(header, size)
        start = progress.ranges[0].start if progress.ranges else 0
        fault = self._book.choose(self._faults, method=request.method, path=path, start=start)
        if fault is not None and fault.kind in ("reset", "close"):
            return _hang_up(request, reset=fault.kind == "reset")
        if fault is not None and fault.kind == "stall":
            await asyncio.sleep(fault.seconds)
        if path == STAC_PATH or path.startswith(f"{STAC_PATH}/"):
            query = request.rel_url.query_string
            posted = progress.body if request.method == "POST" else None
            answer = self.stac.answer(self.root, self.origin, path, query, posted, progress.cookie)
        else:
            answer = self._answer(request, found)
        if fault is not None:
            answer = spoil(answer, fault, progress.range)
        progress.status = answer.status
        if fault is not None and fault.kind in ("truncate", "reset_mid", "extra"):
            return await _send_raw(request, answer, fault, progress)
        return await self._send(request, answer, fault, progress)

    def _find(self, path: str) -> Path | None:
        """Return what stands at a path, None where nothing does or it leads elsewhere.

        Only the names are judged: a link under the root may point out of it, as tests
        lay files of their own beside the sample's that way.
        """
        parts = [part for part in path.split("/") if part]
        if any(part in (".", "..") or _FORBIDDEN_IN_NAMES.search(part) for part in parts):
            return None
        found = self.root.joinpath(*parts)
        return found if found.exists() else None

    def _answer(self, request: web.BaseRequest, found: Path | None) -> Answer:
        path = request.rel_url.path
        if request.method not in ("GET", "HEAD"):
            return page_answer(405, "Method Not Allowed", {"Allow": "GET,HEAD"})
        if found is None or (found.is_file() and path.endswith("/")):
            return page_answer(404, "Not Found")
        if found.is_file():
            return file_answer(found, request.headers, many=self.many_ranges)
        if not path.endswith("/"):
            location = {"Location": f"{self.origin}{quote(path)}/"}
            return page_answer(301, "Moved Permanently", location)
        query = request.rel_url.query_string
        text = render_listing(path, read_folder(found), form=self.listing, query=query)
        return html_answer(200, text)

    async def _send(
        self,
        request: web.BaseRequest,
        answer: Answer,
        fault: Fault | None,
        progress: Progress,
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status, headers={**answer.headers, "Server": "Apache"}
        )
        response.content_length = answer.length
        await response.prepare(request)
        if request.method != "HEAD":
            async for piece in self._paced(answer, fault):
                progress.bytes_sent += len(piece)
                await response.write(piece)
        await response.write_eof()
        return response

    async def _paced(self, answer: Answer, fault: Fault | None) -> AsyncIterator[bytes]:
        if fault is not None and fault.kind in ("stall_mid", "drip"):
            body = answer.body()
            step = max(len(body) // 2, 1) if fault.kind == "stall_mid" else 1
            for at in range(0, len(body), step):
                if at > 0:
                    await asyncio.sleep(fault.seconds)
                yield body[at : at + step]
            return
        for piece in answer.pieces():
            await self._wait_for_link(len(piece))
            yield piece

    async def _wait_for_link(self, size: int) -> None:
        speed, running = self.bytes_per_s, self._running
        if speed is None or running is None:
            return
        now = time.monotonic()
        running.link_free_at = max(now, running.link_free_at) + size / speed
        await asyncio.sleep(running.link_free_at - now)


def serve_forever(
    root: Path,
    *,
    port: int = 8000,
    latency_s: float = 0.0,
    listing: Form = "table",
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve a folder until the user interrupts.

    Parameters
    ----------
    root : pathlib.Path
        The folder that is ``/``.
    port : int
        0 takes any free one.
    latency_s : float
        Wait before each answer.
    listing : {"table", "pre"}
        Form of the listings.
    ready : callable, optional
        Called with the base URL of the archive once the port is open.
    """
    server = SampleServer(root, port=port, latency_s=latency_s, listing=listing, log=False)
    with server:
        if ready is not None:
            ready(server.url)
        never = threading.Event()
        try:
            # Waiting in slices: Windows delivers Ctrl-C only between them.
            while not never.wait(0.2):
                pass
        except KeyboardInterrupt:
            return


async def _close(runner: web.ServerRunner) -> None:
    await asyncio.sleep(_ACCEPTING_S)  # asyncio leaks connections that come while it closes
    await runner.cleanup()


def _end_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def end_tasks() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end_tasks(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _hang_up(request: web.BaseRequest, *, reset: bool) -> web.StreamResponse:
    """Cut the connection; what is returned never reaches the client."""
    transport = request.transport
    if transport is not None:
        if reset:
            # Without lingering a close sends RST instead of FIN.
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.close()
    return web.Response(status=500)


async def _send_raw(
    request: web.BaseRequest, answer: Answer, fault: Fault, progress: Progress
) -> web.StreamResponse:
    """Write an answer whose body and Content-Length differ, then cut the connection.

    aiohttp holds a body to its Content-Length, so the bytes go to the transport directly.
    """
    body = answer.body()
    headers = {**answer.headers, "Content-Length": str(len(body))}
    sent = body + bytes(_EXTRA_BYTES) if fault.kind == "extra" else body[: len(body) // 2]
    lines = [f"HTTP/1.1 {answer.status} Spoilt"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if request.transport is not None:
        progress.bytes_sent = len(sent)
        request.transport.write("\r\n".join([*lines, "", ""]).encode() + sent)
        # Half of the body must be on its way before the cut.
        await asyncio.sleep(0.05)
    return _hang_up(request, reset=fault.kind == "reset_mid")
