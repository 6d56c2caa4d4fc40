"""Case ``hosts``: hrefs and redirects to hosts and paths that nobody allowed.

A second server and a file on this machine are the canaries: both hold pixels that are nowhere
else. What the second server sent is in its log; what came from the file is in the pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faults import scene
from faults.pool import Pool, Task
from faults.readers import OURS, READERS
from faults.report import Figure, Report, reached
from faults.server import Fault, FaultServer

_LIMIT_S = 20.0
_SIDE_PX = scene.FILLED_PX
_BAIT = 7777
"""Value of every pixel of the canaries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lure:
    """One way to lead a reader elsewhere."""

    name: str
    fault: Fault = Fault()
    href: str = ""
    """What the catalogue has instead of the file's URL."""
    folder: str = "deflate"


def run(pool: Pool) -> Report:
    """Lure everybody, and look what came out."""
    readers = pool.readers()
    with tempfile.TemporaryDirectory() as folder:
        canary = scene.file_of(Path(folder), "canary")
        scene.write(canary, np.full((_SIDE_PX, _SIDE_PX), _BAIT, np.int16), {})
        with FaultServer(Path(folder)) as elsewhere:
            lures = list(_lures(pool, elsewhere, canary))
            cells = {
                name: [_lure(pool, elsewhere, name, lure) for lure in lures] for name in readers
            }
    _remove_vrt(pool)
    fallen = {name: sum(bool(size) for size, _ in cells[name]) for name in readers}
    sent = {name: sum(size for size, _ in cells[name]) for name in readers}
    peers = [name for name in readers if name != OURS]
    best = min(peers, key=fallen.__getitem__, default=None)
    ours = sent.get(OURS)
    return Report(
        title="Hosts and paths that nobody allowed",
        figures=[
            Figure(
                text="bytes from hosts and paths that are not allowed",
                peer=f"{best} {sent[best]}, by {fallen[best]} of {len(lures)} ways" if best else "-",
                ours="-" if ours is None else f"{ours}, by {fallen[OURS]} of {len(lures)} ways",
                goal="0",
                verdict=reached(None if ours is None else ours == 0),
            )
        ],
        head=("reader", *(lure.name for lure in lures)),
        rows=[[name, *(text for _, text in cells[name])] for name in readers],
        notes=(
            "Bytes: bodies that the other server sent, or pixels of the local file, two bytes "
            "each. Readers without a catalogue are given the href as their URL.",
        ),
    )


def _lures(pool: Pool, elsewhere: FaultServer, canary: Path) -> Iterator[Lure]:
    there = elsewhere.url(Fault(), "canary", "TOKEN")
    path = there.removeprefix("http://") + "/" + _below(canary)
    for scope in ("tile", "any"):
        fault = Fault(kind=f"redirhost:{path}", often="inf", scope=scope)
        yield Lure(name=f"redirect to another port ({scope})", fault=fault)
    file = canary.as_uri()
    yield Lure(name="redirect to file:", fault=Fault(kind=f"redirfile:{file}", often="inf", scope="any"))
    yield Lure(name="href to another port", href=f"http://{path}")
    yield Lure(name="href file:", href=file)
    yield Lure(name="href /path", href=str(canary))
    yield Lure(name="href /vsicurl/", href=f"/vsicurl/http://{path}")
    for name, target in (("local file", str(canary)), ("URL", f"/vsicurl/http://{path}")):
        for raw in (False, True):
            if raw and name == "URL":
                continue
            folder = f"vrt-{'raw-' * raw}{name.split()[0]}"
            made = scene.file_of(pool.root, folder)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(_vrt(target, raw=raw))
            yield Lure(name=f"VRT{' raw' * raw} of a {name}, as .tif", folder=folder)


def _below(path: Path) -> str:
    return path.as_posix().partition("/canary/")[2]


def _vrt(target: str, *, raw: bool) -> str:
    band = (
        f'<VRTRasterBand dataType="Int16" band="1" subClass="VRTRawRasterBand"><SourceFilename '
        f'relativetoVRT="0">{target}</SourceFilename><ImageOffset>99999</ImageOffset><PixelOffset>2'
        "</PixelOffset><LineOffset>0</LineOffset></VRTRasterBand>"
        if raw
        else '<VRTRasterBand dataType="Int16" band="1"><NoDataValue>-10000</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{target}</SourceFilename><SourceBand>1'
        "</SourceBand></SimpleSource></VRTRasterBand>"
    )
    return (
        '<VRTDataset rasterXSize="10980" rasterYSize="10980"><SRS>EPSG:32632</SRS>'
        f"<GeoTransform>600000, 10, 0, 5800020, 0, -10</GeoTransform>{band}</VRTDataset>"
    )


def _remove_vrt(pool: Pool) -> None:
    for folder in pool.root.glob("vrt-*"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()


def _lure(pool: Pool, elsewhere: FaultServer, name: str, lure: Lure) -> tuple[int, str]:
    """Bytes that came from where nothing may come from, and the cell."""
    token = f"{list(READERS).index(name)}x{abs(hash(lure)) % 10**9}"
    href = lure.href.replace("TOKEN", token)
    fault = replace(lure.fault, kind=lure.fault.kind.replace("TOKEN", token))
    vrt = scene.file_of(pool.root, lure.folder)
    if lure.folder.startswith("vrt"):
        original = vrt.read_text()
        vrt.write_text(original.replace("TOKEN", token))
    task = Task(reader=name, fault=fault, folder=lure.folder, limit_s=_LIMIT_S, href=href)
    outcome, pixels = pool.run_for_pixels(task)
    if lure.folder.startswith("vrt"):
        vrt.write_text(original)
    sent = sum(x["sent"] for x in elsewhere.log(f"{elsewhere.origin}/{token}/"))
    size = sent or 2 * _baits(pixels)
    return size, f"**{size}**" if size else f"0 ({outcome.verdict})"


def _baits(pixels: NDArray[Any] | None) -> int:
    return 0 if pixels is None else int((pixels == _BAIT).sum())
