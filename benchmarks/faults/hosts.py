"""Case ``hosts``: hrefs and redirects to hosts and paths that nobody allowed.

The archive is at 127.0.0.1. The same server under the name ``localhost`` is another host for who
reads, and the server's log tells what was fetched under which name. A file on this machine is
the canary of local paths: its pixels are nowhere else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faults import scene
from faults.pool import Pool, Task
from faults.readers import OURS, READERS
from faults.report import Figure, Report, reached
from faults.server import Fault

_LIMIT_S = 20.0
_OTHER_HOST = "localhost"
_BAIT = 7777
"""Value of every pixel of the canary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lure:
    """One way to lead a reader elsewhere; TOKEN stands for the token of a run."""

    name: str
    fault: Fault = field(default_factory=Fault)
    href: str = ""
    """What the catalogue has instead of the file's URL."""
    folder: str = "deflate"
    local: bool = False
    """Whether it leads to the file on this machine."""


def run(pool: Pool) -> Report:
    """Lure everybody, and look what came out."""
    readers = pool.readers()
    canary = scene.file_of(pool.root, "lures/canary")
    scene.write(canary, np.full((scene.FILLED_PX,) * 2, _BAIT, np.int16), {})
    lures = list(_lures(pool, canary))
    cells = {name: [_lure(pool, name, lure) for lure in lures] for name in readers}
    shutil.rmtree(pool.root / "lures")
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
                peer=f"{best} {sent[best]}, by {fallen[best]} of {len(lures)} ways"
                if best
                else "-",
                ours="-" if ours is None else f"{ours}, by {fallen[OURS]} of {len(lures)} ways",
                goal="0",
                verdict=reached(None if ours is None else ours == 0),
            )
        ],
        head=("reader", *(lure.name for lure in lures)),
        rows=[[name, *(text for _, text in cells[name])] for name in readers],
        notes=(
            (
                "Bytes: bodies that the server sent under its other name, or pixels of the file on "
                "this machine, two bytes each."
            ),
            (
                "Readers without a catalogue get the href as their URL; lazycogs has one store "
                "for the archive, as it can't make one for plain http."
            ),
        ),
    )


def _lures(pool: Pool, canary: Path) -> Iterator[Lure]:
    place = pool.server.url(Fault(), canary.relative_to(pool.root).as_posix(), "TOKEN")
    there = place.replace("127.0.0.1", _OTHER_HOST)
    for scope, of in (("tile", "data"), ("any", "file")):
        fault = Fault(kind=f"redirhost:{_OTHER_HOST}", often="inf", scope=scope)
        yield Lure(name=f"redirect of {of} to another host", fault=fault)
    fault = Fault(kind="redirfile", often="inf", scope="any")
    yield Lure(name="redirect to file:", fault=fault)
    yield Lure(name="href to another host", href=there)
    yield Lure(name="href /vsicurl/", href=f"/vsicurl/{there}")
    yield Lure(name="href file:", href=canary.as_uri(), local=True)
    yield Lure(name="href /path", href=str(canary), local=True)
    targets = {"local file": str(canary), "raw local file": str(canary), "URL": f"/vsicurl/{there}"}
    for name, target in targets.items():
        folder = f"lures/vrt-{name.replace(' ', '-')}"
        made = scene.file_of(pool.root, folder)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(_vrt(target, raw=name.startswith("raw")))
        yield Lure(name=f"VRT of a {name}, as .tif", folder=folder, local=name != "URL")


def _vrt(target: str, *, raw: bool) -> str:
    band = (
        '<VRTRasterBand dataType="Int16" band="1" subClass="VRTRawRasterBand"><SourceFilename '
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


def _lure(pool: Pool, name: str, lure: Lure) -> tuple[int, str]:
    """Bytes that came from where nothing may come from, and the cell."""
    token = f"lure-{list(READERS).index(name)}-{''.join(filter(str.isalnum, lure.name))}"
    made, text = scene.file_of(pool.root, lure.folder), ""
    if lure.folder.startswith("lures"):
        text = made.read_text()
        made.write_text(text.replace("TOKEN", token))
    task = Task(
        reader=name,
        fault=lure.fault,
        folder=lure.folder,
        limit_s=_LIMIT_S,
        href=lure.href.replace("TOKEN", token),
        token=token,
    )
    outcome, pixels = pool.run_for_pixels(task)
    if text:
        made.write_text(text)
    log = pool.server.log(f"{pool.server.origin}/{token}/")
    size = sum(x["sent"] for x in log if x["headers"].get("host", "").startswith(_OTHER_HOST))
    size += _bait_bytes(pixels) if lure.local else 0
    return size, f"**{size}**" if size else f"0 ({outcome.verdict})"


def _bait_bytes(pixels: NDArray[Any] | None) -> int:
    """Count what came of the canary; a raw look into it gives other values than the archive's."""
    if pixels is None:
        return 0
    known = np.isin(pixels, scene.expected((scene.SEEDS,), scene.BANDS[:1]))
    return 2 * int(((pixels == _BAIT) | ~known & (pixels != scene.NODATA)).sum())
