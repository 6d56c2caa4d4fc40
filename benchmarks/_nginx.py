"""nginx on loopback with a configuration of its own, for the cases without latency."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from _server import Record, Traffic

_CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format bench '$request_method $uri $status $body_bytes_sent $http_range';
  access_log {folder}/access.log bench;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  types {{ image/tiff tif; text/html html; }}
  server {{
    listen 127.0.0.1:{port} backlog=256;
    root {root};
    index index.html;
  }}
}}
"""


def find_nginx() -> str | None:
    """Path of the program, None where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """nginx serving a folder, as a context manager."""

    def __init__(self, root: Path, program: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-nginx-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = self._folder / "nginx.conf"
        user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(user=user, folder=self._folder, root=root, port=port))
        self._skip = 0
        self._process = subprocess.Popen(
            [program, "-p", str(self._folder), "-c", str(config), "-e", f"{self._folder}/error.log"]
        )

    def __enter__(self) -> Nginx:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(100):
            try:
                opener.open(self.url + "/S2_L3A_WASP/", timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError(f"nginx did not start: {(self._folder / 'error.log').read_text()}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def reset(self) -> None:
        """Forget the requests so far."""
        self._skip = len(self._lines())

    def traffic(self) -> Traffic:
        """Read the requests since the last reset (nginx does not count connections)."""
        records = []
        for line in self._lines()[self._skip :]:
            method, path, status, sent, wanted = line.split(" ", 4)
            start = int(wanted[6:].partition("-")[0] or 0) if wanted.startswith("bytes=") else 0
            records.append(
                Record(method, path, int(status), start, start + int(sent), sent=int(sent))
            )
        return Traffic(connections=0, records=tuple(records))

    def _lines(self) -> list[str]:
        log = self._folder / "access.log"
        return log.read_text().splitlines() if log.exists() else []
