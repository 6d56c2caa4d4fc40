"""A server that fails as it is told to: ``/<token>/<kinds>:<how often>:<scope>/<file>``.

`kinds` are names of `faultkinds.SPOILERS` or ``s503`` and the like (``s429ra:6`` announces a
wait), mixed with ``+``; `how often` is a number, ``inf`` or a probability such as ``p0.4``;
`scope` is ``any``, ``header`` (a range from byte 0), ``tile`` (any other), ``listing`` or
``head``. ``/<token>/none/…`` never fails. A number counts for each path and first byte, or path
and last byte; dice are seeded by the token, so that runs repeat; each token has a log.

``python tests/faultserver.py --root DIR --port 0`` prints its URL. ``/_control/log?token=…``
gives a log as JSON and forgets it on DELETE, ``/_control/settings?latency_s=0.02`` turns knobs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, quote, unquote, urlsplit

from faultfiles import Answer, Request, asked_ranges, page, right_answer
from faultkinds import check_kind, spoil

HOST = "127.0.0.1"
_CONTROL = "_control"
_PLAIN = ":+"
_LARGE = 8 * 2**20
_SETTINGS = {"latency_s": float, "bytes_per_s": float, "many": lambda text: text in "1true"}


@dataclass(slots=True, kw_only=True)
class Entry:
    """A request and what became of it; times are `time.monotonic`."""

    received: float
    finished: float | None = None
    method: str
    path: str
    ranges: tuple[tuple[int, int], ...]
    headers: dict[str, str]
    status: int = 0
    kind: str | None = None
    """The fault that struck."""
    sent: int = 0
    """Bytes of the body handed to the socket."""
    peer_port: int


class _Book:
    """Keeps count of what struck, for one token and one wording of faults."""

    def __init__(self, token: str, spec: str) -> None:
        kinds, amount, scope = ("none", "0", "any") if spec == "none" else spec.rsplit(":", 2)
        self.kinds = [check_kind(kind) for kind in kinds.split("+")]
        self.probability = float(amount[1:]) if amount[0] == "p" else 1.0
        self.count = float("inf") if amount[0] == "p" else float(amount)
        if scope not in {"any", "header", "tile", "listing", "head"}:
            raise ValueError(f"unknown scope: {scope!r}")
        self.scope, self.seed = scope, f"{token} {spec}"
        self.struck: Counter[tuple[object, ...]] = Counter()
        self.seen: Counter[tuple[object, ...]] = Counter()

    def choose(self, request: Request) -> str | None:
        """Return the kind that strikes a request, and count it."""
        if self.scope not in {"any", request.scope}:
            return None
        start = request.ranges[0][0] if request.ranges else None
        stop = request.ranges[-1][1] if request.ranges else None
        first, last = (request.path, "from", start), (request.path, "to", stop)
        self.seen[first] += 1
        # By place and turn, not by order of arrival: requests overtake each other.
        dice = random.Random(f"{self.seed} {first} {self.seen[first]}")  # noqa: S311 - dice
        strikes, kind = dice.random() < self.probability, dice.choice(self.kinds)
        count = 1 if "once" in kind else self.count
        if not strikes or max(self.struck[first], self.struck[last]) >= count:
            return None
        self.struck[first] += 1
        self.struck[last] += 1
        return kind


class FaultServer:
    """Serve a folder from a thread, with faults; use it in a ``with``.

    Parameters
    ----------
    root : pathlib.Path
        The folder that is ``/<token>/<faults>/``.
    port : int
        0 takes any free one.
    many : bool
        Whether several ranges in one request are answered in parts; else it gets the whole file.
    latency_s : float
        Wait before each answer.
    bytes_per_s : float, optional
        Speed of the link that all connections share.
    most_per_s : float, optional
        Requests a second that are answered; the others get 429.
    tls : ssl.SSLContext, optional
        Speak https.
    """

    def __init__(
        self,
        root: Path,
        *,
        port: int = 0,
        many: bool = False,
        latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        most_per_s: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.root, self.port, self.tls = Path(root), port, tls
        self.many, self.latency_s, self.bytes_per_s = many, latency_s, bytes_per_s
        self.host = HOST
        """The name that URLs have; a certificate may want another one."""
        self._books: dict[tuple[str, str], _Book] = {}
        self._logs: dict[str, list[Entry]] = defaultdict(list)
        self._healed: set[str] = set()
        self._writers: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._link_free_at = 0.0
        self.most_per_s, self._bucket, self._filled_at = most_per_s, 1.0, time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
        self._ready, self._over = threading.Event(), asyncio.Event()

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def url(
        self,
        kind: str = "none",
        *,
        count: float = 1,
        p: float | None = None,
        scope: str = "any",
        path: str = "",
        token: str | None = None,
    ) -> str:
        """Make a URL with a token of its own, unless one is given."""
        amount = f"p{p:g}" if p is not None else f"{count:g}"
        spec = "none" if kind == "none" else f"{kind}:{amount}:{scope}"
        token = token or uuid.uuid4().hex[:12]
        _Book(token, spec)  # what can't be served should fail here
        return f"{self.origin}/{token}/{quote(spec, safe=_PLAIN)}/{path}"

    def log(self, url: str) -> list[Entry]:
        """Return what was asked under a URL's token (or the token itself), first one first."""
        token = urlsplit(url).path.split("/")[1] if "://" in url else url
        return list(self._logs[token])

    def heal(self, url: str) -> None:
        """Let nothing fail any more under a URL's token, from now on."""
        self._healed.add(urlsplit(url).path.split("/")[1])

    def clear(self, url: str) -> None:
        """Forget a token's log, not what has struck."""
        self._logs.pop(urlsplit(url).path.split("/")[1] if "://" in url else url, None)

    def start(self) -> None:
        """Open the port."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault server did not start")

    def stop(self) -> None:
        """Cut all connections and end."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def __enter__(self) -> FaultServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._accept, HOST, self.port, ssl=self.tls, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        for listening in server.sockets:  # asyncio leaks what it accepts in the turn that closes
            self._loop.remove_reader(listening.fileno())
        await asyncio.sleep(0.02)
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for writer in self._writers.values():
            writer.transport.abort()
        await asyncio.sleep(0.01)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known before its task begins: one that never begins can't clean up.
        self._writers[asyncio.ensure_future(self._connection(reader, writer))] = writer

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # the client has gone, or the server ends
        self._writers.pop(asyncio.current_task(), None)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; tell whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        received = time.monotonic()
        line, *fields = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        if length := int(headers.get("content-length", 0)):
            await reader.readexactly(length)
        token, _, rest = urlsplit(target).path.lstrip("/").partition("/")
        if token == _CONTROL:
            answer = self._controlled(method, rest, parse_qs(urlsplit(target).query))
            entry = Entry(received=0, method=method, path="", ranges=(), headers={}, peer_port=0)
        else:
            spec, _, path = (unquote(text) for text in rest.partition("/"))
            request = Request(
                method=method, path=path, headers=headers,
                prefix=f"/{token}/{quote(spec, safe=_PLAIN)}/", origin=self.origin,
                ranges=asked_ranges(headers.get("range"), self._size(path)),
            )  # fmt: skip
            entry = Entry(
                received=received, method=method, path=path, ranges=request.ranges,
                headers=headers, peer_port=writer.get_extra_info("peername")[1],
            )  # fmt: skip
            self._logs[token].append(entry)
            answer = self._judge(token, spec, request, entry)
        try:
            await self._send(reader, writer, answer, entry)
        finally:
            entry.finished = time.monotonic()
        wants_more = headers.get("connection", "").lower() != "close"
        return wants_more and answer.end == "keep" and answer.framing != "close"

    def _size(self, path: str) -> int:
        file = self.root / path
        return file.stat().st_size if ".." not in path and file.is_file() else 0

    def _judge(self, token: str, spec: str, request: Request, entry: Entry) -> Answer:
        try:
            book = self._books.setdefault((token, spec), _Book(token, spec))
        except ValueError as exc:
            return page(400, f"{exc}\n".encode())
        answer = right_answer(self.root, request, many=self.many)
        kind = book.choose(request) if token not in self._healed else None
        if self.most_per_s is not None and not self._may_answer(self.most_per_s, entry.received):
            kind = "s429"
        if kind not in {None, "none"}:
            entry.kind = kind
            answer = spoil(self.root, request, answer, str(kind))
        entry.status = 0 if answer.silent else answer.status
        return answer

    def _may_answer(self, most_per_s: float, now: float) -> bool:
        """Take a token from a bucket that holds those of half a second."""
        filled = self._bucket + (now - self._filled_at) * most_per_s
        self._bucket, self._filled_at = min(filled, max(1.0, most_per_s / 2)), now
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True

    def _controlled(self, method: str, path: str, query: dict[str, list[str]]) -> Answer:
        if path == "settings":
            for name, convert in _SETTINGS.items():
                if name in query:
                    setattr(self, name, convert(query[name][0]) or None)
            self.latency_s = self.latency_s or 0.0
            said: object = {name: getattr(self, name) for name in _SETTINGS}
        else:
            tokens = query.get("token") or list(self._logs)
            said = {token: [asdict(entry) for entry in self._logs[token]] for token in tokens}
            for token in tokens if method == "DELETE" else ():
                self._logs.pop(token, None)
        body = json.dumps(said).encode()
        return replace(page(200, body), headers={"Content-Type": "application/json"})

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        entry: Entry,
    ) -> None:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if answer.pause_at == -1:
            await _silence(reader, answer.pause_s)
        if not answer.silent:
            writer.write(answer.head)
            body = b"" if entry.method == "HEAD" else answer.body
            await self._send_body(reader, writer, replace(answer, body=body), entry)
        if answer.end == "rst":
            await asyncio.sleep(0.02 if entry.sent else 0)  # what was sent must arrive before
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _send_body(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        entry: Entry,
    ) -> None:
        body, stops = memoryview(answer.body), {answer.pause_at}
        step = answer.step
        if self.bytes_per_s:  # connections share the link packet by packet
            step = min(step, max(int(self.bytes_per_s / 100), 1460))
        if len(body) > _LARGE:  # or the log would count what only waits to be sent
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        at = 0
        while at < len(body):
            if at in stops:
                await _silence(reader, answer.pause_s)
            behind = min(stop for stop in (*stops, len(body)) if stop is not None and stop > at)
            piece = body[at : min(at + step, behind)]
            at += len(piece)
            await self._wait_for_link(len(piece))
            size = b"%x\r\n" % len(piece) if answer.framing == "chunked" else b""
            writer.write(size + piece + (b"\r\n" if size else b""))
            await writer.drain()
            entry.sent += len(piece)
            if answer.gap_s:
                await _silence(reader, answer.gap_s)
        if answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _wait_for_link(self, size: int) -> None:
        if self.bytes_per_s:
            now = time.monotonic()
            self._link_free_at = max(now, self._link_free_at) + size / self.bytes_per_s
            await asyncio.sleep(self._link_free_at - now)


async def _silence(reader: asyncio.StreamReader, seconds: float) -> None:
    """Wait, but no longer than the client does."""
    try:
        heard = await asyncio.wait_for(reader.read(1), seconds)
    except TimeoutError:
        return
    raise ConnectionResetError("the client hung up" if not heard else "the client is impatient")


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--bytes-per-s", type=float)
    parser.add_argument("--many", action="store_true", help="answer several ranges in parts")
    options = parser.parse_args()
    server = FaultServer(
        options.root, port=options.port, many=options.many, latency_s=options.latency,
        bytes_per_s=options.bytes_per_s,
    )  # fmt: skip
    with server, contextlib.suppress(KeyboardInterrupt):
        print(server.origin, flush=True)  # noqa: T201 - whoever started it waits for this
        threading.Event().wait()


if __name__ == "__main__":
    main()
