"""A file server that behaves like a distant one: latency, a shared link, a request log.

One thread, one ``selectors`` loop, ``os.sendfile``: about 2 GB/s on loopback, so that it is
never what a benchmark measures. It runs in its own process (``Server``) and ends with the
process that started it.

The model of the network:

- a connection is ready two latencies after it was accepted (TCP and TLS);
- an answer begins one latency after its request, or after the connection became ready;
- all answers share one link of ``mbit`` megabits a second, in turns of 16 KiB. The link
  never idles while something waits to be sent, and saves nothing up while nothing does.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import _germany

_CONTROL = "/_control/"
_MODIFIED = "Sun, 28 Nov 2021 06:15:00 GMT"
_BOUNDARY = b"00000000000000000042"
_TURN = 16 << 10
_TURN_UNCAPPED = 1 << 20
_TIMER_S = 0.001
"""Grain of epoll's timeouts; answers go out at the nearest tick, not the next."""
_BUSY_SAVINGS_S = 0.05
"""A server held up by the machine makes up this much of the link's lost time."""


@dataclass(slots=True)
class Record:
    """One request as the log keeps it."""

    method: str
    path: str
    status: int
    start: int
    """First byte asked for."""
    stop: int
    """One past the last byte asked for."""
    sent: int = 0
    """Body bytes that went out."""
    at_s: float = 0.0
    """Arrival, seconds since the log was cleared."""
    parts: list[tuple[int, int]] = field(default_factory=list)
    """First byte and one past the last of each range of a multipart answer."""


@dataclass(slots=True, eq=False)
class _Connection:
    sock: socket.socket
    ready_at: float
    inbox: bytes = b""
    head: bytes | memoryview = b""
    body: bytes | memoryview = b""
    file: int | None = None
    position: int = 0
    remaining: int = 0
    record: Record | None = None
    close: bool = False
    busy: bool = False
    blocked: bool = False


@dataclass(slots=True)
class _Link:
    latency_s: float = 0.0
    mbit: float = 0.0
    tokens: float = 0.0
    filled_at: float = 0.0


@dataclass(slots=True)
class _Log:
    since: float = field(default_factory=time.perf_counter)
    cpu_before_s: float = field(default_factory=time.process_time)
    records: list[Record] = field(default_factory=list)
    connections: int = 0


class _Loop:
    """The server itself."""

    def __init__(self, root: Path, listener: socket.socket) -> None:
        self.root = root
        self.listener = listener
        self.link = _Link()
        self.log = _Log()
        self.files: dict[str, tuple[int, int]] = {}
        self.waiting: list[tuple[float, int, _Connection]] = []
        self.active: deque[_Connection] = deque()
        self.serial = 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, None)

    def run(self, parent: int) -> None:
        """Serve until the parent's pipe closes."""
        self.selector.register(parent, selectors.EVENT_READ, "parent")
        while True:
            for key, mask in self.selector.select(self._timeout()):
                if key.data == "parent":
                    return
                if key.data is None:
                    self._accept()
                elif mask & selectors.EVENT_WRITE:
                    self._unblock(key.data)
                else:
                    self._receive(key.data)
            now = time.perf_counter()
            while self.waiting and self.waiting[0][0] <= now + _TIMER_S / 2:
                self._activate(heapq.heappop(self.waiting)[2])
            self._pump()

    def _timeout(self) -> float | None:
        if any(not connection.blocked for connection in self.active):
            return _TIMER_S if self.link.mbit else 0
        if self.waiting:
            return max(self.waiting[0][0] - time.perf_counter(), 0)
        return None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready_at = time.perf_counter() + 2 * self.link.latency_s
                connection = _Connection(sock=sock, ready_at=ready_at)
                self.selector.register(sock, selectors.EVENT_READ, connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.inbox += data
        self._next_request(connection)

    def _next_request(self, connection: _Connection) -> None:
        if connection.busy:
            return
        head, end, rest = connection.inbox.partition(b"\r\n\r\n")
        if not end:
            return
        connection.inbox = rest
        connection.busy = True
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        connection.close = headers.get("connection", "").lower() == "close"
        now = time.perf_counter()
        if target.startswith(_CONTROL):
            self._control(connection, target)
            self._activate(connection)
            return
        if connection.ready_at:
            self.log.connections += 1
        due = max(now, connection.ready_at) + self.link.latency_s
        connection.ready_at = 0.0
        self._answer(connection, method, target, headers.get("range", ""))
        if due > now:
            self.serial += 1
            heapq.heappush(self.waiting, (due, self.serial, connection))
        else:
            self._activate(connection)

    def _control(self, connection: _Connection, target: str) -> None:
        url = urlsplit(target)
        verb, options = url.path.removeprefix(_CONTROL), dict(parse_qsl(url.query))
        payload: Any = "done"
        if verb == "set":
            self.link.latency_s = float(options["latency_s"])
            self.link.mbit = float(options["mbit"])
        elif verb == "reset":
            self.log = _Log()
        elif verb == "log":
            payload = {
                "connections": self.log.connections,
                "cpu_s": time.process_time() - self.log.cpu_before_s,
                "records": [asdict(record) for record in self.log.records],
            }
        self._respond(connection, 200, "application/json", json.dumps(payload).encode())

    def _answer(self, connection: _Connection, method: str, target: str, wanted: str) -> None:
        path = urlsplit(target).path
        at_s = time.perf_counter() - self.log.since
        connection.record = Record(method, path, 0, 0, 0, at_s=at_s)
        self.log.records.append(connection.record)
        page = _germany.page(path) if path.startswith(_germany.PREFIX) else None
        if page is not None:
            self._respond(connection, 200, "text/html;charset=UTF-8", page)
        else:
            self._answer_file(connection, path, wanted)
        if method == "HEAD":
            connection.body = b""
            connection.remaining = 0

    def _answer_file(self, connection: _Connection, path: str, wanted: str) -> None:
        if path.endswith("/"):
            file, size = self._open(path + "index.html")
            kind = "text/html;charset=UTF-8"
        else:
            file, size = self._open(path)
            kind = "image/tiff"
        if file == _FOLDER:
            self._respond(connection, 301, "text/html", b"moved", f"Location: {path}/\r\n")
        elif file == _ABSENT:
            self._respond(connection, 404, "text/html", b"<html><h1>Not Found</h1></html>")
        else:
            self._respond_file(connection, (file, size), kind, wanted)

    def _open(self, path: str) -> tuple[int, int]:
        """Descriptor and size of a file, kept open."""
        if path not in self.files:
            local = self.root / path.lstrip("/")
            if ".." in path or not local.exists():
                return _ABSENT, 0
            if local.is_dir():
                return _FOLDER, 0
            self.files[path] = os.open(local, os.O_RDONLY), local.stat().st_size
        return self.files[path]

    def _respond_file(
        self, connection: _Connection, opened: tuple[int, int], kind: str, wanted: str
    ) -> None:
        file, size = opened
        if "," in wanted:
            self._respond_parts(connection, opened, kind, wanted)
            return
        start, stop = _parse_range(wanted, size)
        if start >= stop:
            self._respond(connection, 416, kind, b"", f"Content-Range: bytes */{size}\r\n")
            return
        more = f'ETag: "{size:x}"\r\nAccept-Ranges: bytes\r\n'
        if wanted:
            more += f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n"
        self._begin(connection, 206 if wanted else 200, kind, stop - start, more)
        connection.file, connection.position, connection.remaining = file, start, stop - start
        if connection.record is not None:
            connection.record.start, connection.record.stop = start, stop

    def _respond_parts(
        self, connection: _Connection, opened: tuple[int, int], kind: str, wanted: str
    ) -> None:
        """Answer several ranges as Apache and nginx do."""
        file, size = opened
        spans = wanted.removeprefix("bytes=").split(",")
        parts = [_parse_range(f"bytes={span.strip()}", size) for span in spans]
        body = b"".join(
            b"\r\n--%s\r\nContent-Type: %s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
            % (_BOUNDARY, kind.encode(), start, stop - 1, size)
            + os.pread(file, stop - start, start)
            for start, stop in parts
        )
        kind = f"multipart/byteranges; boundary={_BOUNDARY.decode()}"
        more = f'ETag: "{size:x}"\r\nAccept-Ranges: bytes\r\n'
        self._respond(connection, 206, kind, body + b"\r\n--%s--\r\n" % _BOUNDARY, more)
        if connection.record is not None:
            connection.record.parts = parts

    def _respond(
        self, connection: _Connection, status: int, kind: str, body: bytes, more: str = ""
    ) -> None:
        self._begin(connection, status, kind, len(body), more)
        connection.body = memoryview(body)
        if connection.record is not None:
            connection.record.stop = len(body)

    def _begin(
        self, connection: _Connection, status: int, kind: str, length: int, more: str
    ) -> None:
        connection.head = memoryview(
            (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: bench\r\n"
                f"Content-Type: {kind}\r\nContent-Length: {length}\r\n"
                f"Last-Modified: {_MODIFIED}\r\n{more}\r\n"
            ).encode()
        )
        if connection.record is not None:
            connection.record.status = status

    def _activate(self, connection: _Connection) -> None:
        if not self.active:
            self.link.tokens, self.link.filled_at = 0.0, time.perf_counter()
        self.active.append(connection)

    def _unblock(self, connection: _Connection) -> None:
        connection.blocked = False
        self.selector.modify(connection.sock, selectors.EVENT_READ, connection)

    def _pump(self) -> None:
        """Give every answer that can be sent its turn, as far as the link allows."""
        if self.link.mbit and self.active:
            now = time.perf_counter()
            rate = self.link.mbit * 125_000
            earned = (now - self.link.filled_at) * rate
            self.link.tokens = min(self.link.tokens + earned, _BUSY_SAVINGS_S * rate)
            self.link.filled_at = now
        rounds = 64 if self.link.mbit else 1
        for _ in range(rounds):
            if not self._one_round():
                return

    def _one_round(self) -> bool:
        """Whether anything was sent."""
        progress = False
        for _ in range(len(self.active)):
            connection = self.active.popleft()
            if connection.blocked or (self.link.mbit and self.link.tokens <= 0):
                self.active.append(connection)
                continue
            progress = True
            if self._send(connection):
                self._finish(connection)
            else:
                self.active.append(connection)
        return progress

    def _send(self, connection: _Connection) -> bool:
        """Send a turn of an answer; whether the connection is done with it."""
        turn = _TURN if self.link.mbit else _TURN_UNCAPPED
        try:
            if connection.head:
                connection.head = connection.head[connection.sock.send(connection.head) :]
            elif connection.body:
                sent = connection.sock.send(connection.body[:turn])
                connection.body = connection.body[sent:]
                self._count(connection, sent)
            elif connection.file is not None and connection.remaining:
                sent = os.sendfile(
                    connection.sock.fileno(),
                    connection.file,
                    connection.position,
                    min(turn, connection.remaining),
                )
                connection.position += sent
                connection.remaining -= sent
                self._count(connection, sent)
        except BlockingIOError:
            connection.blocked = True
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
            self.selector.modify(connection.sock, events, connection)
        except OSError:
            connection.close = True
            return True
        return not (connection.head or connection.body or connection.remaining)

    def _count(self, connection: _Connection, sent: int) -> None:
        self.link.tokens -= sent
        if connection.record is not None:
            connection.record.sent += sent

    def _finish(self, connection: _Connection) -> None:
        connection.busy = False
        connection.record, connection.file = None, None
        if connection.close:
            self._drop(connection)
        else:
            self._next_request(connection)

    def _drop(self, connection: _Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(connection.sock)
        connection.sock.close()
        with contextlib.suppress(ValueError):
            self.active.remove(connection)
        self.waiting = [entry for entry in self.waiting if entry[2] is not connection]
        heapq.heapify(self.waiting)


_ABSENT, _FOLDER = -1, -2
_REASONS = {200: "OK", 206: "Partial Content", 301: "Moved Permanently", 404: "Not Found"}
_REASONS[416] = "Range Not Satisfiable"


def _parse_range(wanted: str, size: int) -> tuple[int, int]:
    """First byte and one past the last of a ``Range`` header (one range only)."""
    if not wanted:
        return 0, size
    first, _, last = wanted.removeprefix("bytes=").split(",")[0].partition("-")
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a server saw since its log was cleared."""

    connections: int
    records: tuple[Record, ...]
    server_cpu_s: float = 0.0

    @property
    def tif(self) -> tuple[Record, ...]:
        """Requests for files, without listings."""
        return tuple(record for record in self.records if record.path.endswith(".tif"))

    @property
    def sent(self) -> int:
        """Body bytes sent in all."""
        return sum(record.sent for record in self.records)

    def repeated(self) -> int:
        """Bytes of files that were sent more than once."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for record in self.tif:
            if record.method == "GET":
                whole = (record.start, record.start + record.sent)
                spans.setdefault(record.path, []).extend(map(tuple, record.parts or [whole]))
        return sum(_overlap(sorted(ranges)) for ranges in spans.values())


def _overlap(ranges: list[tuple[int, int]]) -> int:
    reached, twice = 0, 0
    for start, stop in ranges:
        twice += max(min(stop, reached) - start, 0)
        reached = max(reached, stop)
    return twice


class Server:
    """The server in a process of its own, as a context manager."""

    def __init__(self, root: Path) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(root), str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        listener.close()

    def __enter__(self) -> Server:
        self.traffic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)

    def shape(self, *, latency_s: float, mbit: float) -> None:
        """Set latency and link; no cap where ``mbit`` is 0."""
        self._ask(f"set?latency_s={latency_s}&mbit={mbit}")

    def reset(self) -> None:
        """Clear the log."""
        self._ask("reset")

    def traffic(self) -> Traffic:
        """Read the log."""
        answer = self._ask("log")
        records = tuple(Record(**record) for record in answer["records"])
        return Traffic(
            connections=answer["connections"], records=records, server_cpu_s=answer["cpu_s"]
        )

    def _ask(self, verb: str) -> Any:
        return control(self.url, verb)


def control(url: str, verb: str) -> Any:
    """Speak to the control end of a server, from any process."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + _CONTROL + verb, timeout=30) as response:
        return json.load(response)


def _main() -> None:
    root, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    with contextlib.suppress(KeyboardInterrupt):
        _Loop(root, listener).run(sys.stdin.fileno())


if __name__ == "__main__":
    _main()
