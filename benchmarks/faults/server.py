"""The fault server of the tests, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from _environments import HERE

_PROGRAM = HERE.parent / "tests" / "faultserver.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, how often and where, as the server takes it."""

    kind: str = "none"
    """One of its kinds, or several with ``+`` between them."""
    often: str = "1"
    """A number of times for each range, ``inf``, or a probability such as ``p0.2``."""
    scope: str = "tile"

    def __str__(self) -> str:
        """Write it as URLs have it."""
        return "none" if self.kind == "none" else f"{self.kind}:{self.often}:{self.scope}"


class FaultServer:
    """Serve a folder with faults; a context manager."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, str(_PROGRAM), "--root", str(root), "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.origin = self._process.stdout.readline().strip()

    def __enter__(self) -> FaultServer:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(10)

    def url(self, fault: Fault, folder: str, token: str = "") -> str:
        """Give a folder's URL, with a token of its own unless one is given."""
        token = token or uuid.uuid4().hex[:12]
        return f"{self.origin}/{token}/{quote(str(fault), safe=':+')}/{folder}"

    def log(self, url: str) -> list[dict[str, Any]]:
        """Return what was asked under a URL's token, first one first."""
        token = url.removeprefix(self.origin).split("/")[1]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.origin}/_control/log?token={token}", timeout=30) as answer:
            entries: list[dict[str, Any]] = json.load(answer)[token]
        return entries
