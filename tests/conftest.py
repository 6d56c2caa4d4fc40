"""What all tests share: no network but loopback, hypothesis profiles, the golden files."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import rasterio
from faultserver import FaultServer
from rasterio.transform import from_origin
from rasterio.windows import Window

from s2l3a_xr import _listing
from s2l3a_xr._product import BANDS, Product
from s2l3a_xr._tiles import SIDE_M, tile_named
from s2l3a_xr._transport import _patience

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

_network_allowed = threading.Event()


class NetworkBlockedError(RuntimeError):
    """A test reached for the network. No OSError, which a retry would swallow."""


def _is_here(host: object) -> bool:
    if not host or host in ("localhost", socket.gethostname()):
        return True
    try:
        ip = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _stay_here(event: str, args: tuple) -> None:
    """Refuse names and TCP connections of other machines; an audit hook sees every socket."""
    if event == "socket.connect":
        sock, address = args
        # AF_UNIX stays on the machine, and connecting a datagram socket sends nothing.
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if _network_allowed.is_set() or _is_here(host):
        return
    if str(host).endswith(".invalid"):  # what any resolver has to say, RFC 6761
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    raise NetworkBlockedError(f"{event} of {host!r}: mark the test with `network` if it must")


sys.addaudithook(_stay_here)


@pytest.fixture(autouse=True)
def _network_if_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("network"):
        _network_allowed.set()
    yield
    _network_allowed.clear()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again as often as ever, and ten times as soon."""
    monkeypatch.setattr(_patience, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(_listing, "_PAUSES_S", (0.01, 0.02))


@pytest.fixture(scope="session")
def fault_server(sample_root: Path) -> Iterator[FaultServer]:
    """Serve the sample archive with faults, which each test words in a URL of its own."""
    with FaultServer(sample_root) as running:
        yield running


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the golden files, beside the checkout or where S2L3A_SHARED points."""
    folder = Path(os.environ.get("S2L3A_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no golden files: {folder} is missing (S2L3A_SHARED=folder points elsewhere)")
    return folder


@pytest.fixture(scope="session")
def lay_file() -> Callable[..., Path]:
    """Return a function that writes a full-size file in DLR's layout, sparse but for its pixels."""

    def lay(
        root: Path,
        pixels: np.ndarray,
        *,
        at: tuple[int, int] = (0, 0),
        tile: str = "32UPC",
        month: int = 3,
        band: str = "B4",
        resolution_m: int | None = None,
        **options: object,
    ) -> Path:
        layer, place = BANDS[band], tile_named(tile)
        step = resolution_m or layer.resolution_m
        side = SIDE_M // step
        product = Product(tile=tile, year=2021, month=month)
        path = root / "S2_L3A_WASP" / "files" / product.file(layer, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": pixels.dtype,
            "crs": place.crs, "transform": from_origin(place.left, place.top, step, step),
            "nodata": None if layer.kind == "flag" else -10000, "sparse_ok": True, "tiled": True,
            "blockxsize": 256, "blockysize": 256, "compress": "DEFLATE", **options,
        }  # fmt: skip
        window = Window(at[1], at[0], pixels.shape[1], pixels.shape[0])
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels, 1, window=window)
        return path

    return lay
