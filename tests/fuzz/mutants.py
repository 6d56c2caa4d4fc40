"""Spoil headers and blocks of real-size files and read them: ``python -m tests.fuzz.mutants``.

Each mutant is read as a user's file would be, header, check against its tile, blocks. What
matters: nothing but typed errors that name the file (and the block, where its bytes are wrong),
nothing slow, little memory, and no pixels that differ from the original's in silence. Where a
tag was spoilt into another that is legal as well, or a codec has no checksum, no reader can
tell: such classes are printed, and marked below.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from s2l3a_xr._errors import FormatError, ReadError
from s2l3a_xr._fetch import BlockReader
from s2l3a_xr._plan import Target
from s2l3a_xr._sample import CogSpec, write_cog
from s2l3a_xr._source import Source, read_header
from s2l3a_xr._tiff import Layout, SparseBytes, parse_header
from s2l3a_xr._tiles import tile_named
from s2l3a_xr._transport import Session, Transport, run_with_session
from tests.fuzz.mutate import mutate

_SPEC = CogSpec(
    width=5490, height=5490, epsg=32632, left=600000, top=5800020, resolution_m=20, nodata=-10000,
    overviews=(),
)  # fmt: skip
SPECS = {
    "deflate": _SPEC,
    "deflate, framed": replace(_SPEC, ghost=True, overviews=(2, 4)),
    "deflate, predictor 2": replace(_SPEC, predictor=2),
    "lzw, framed": replace(_SPEC, compression="lzw", ghost=True),
    "lzw": replace(_SPEC, compression="lzw"),
    "zstd": replace(_SPEC, compression="zstd"),
    "none": replace(_SPEC, compression="none"),
}
"""What is spoilt: DLR's likely layout first."""

CHECKED = ("deflate", "deflate, framed", "deflate, predictor 2")
"""Those whose every byte is under a checksum: no spoilt block of them may pass."""

LONGEST_S, MOST_MB = 5, 300
_BLOCKS = ((0, 0), (0, 1), (1, 0), (1, 1))
_NOWHERE = (slice(0), slice(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A file, its header's length, and its pixels."""

    content: bytes
    layout: Layout
    header_bytes: int
    pixels: dict[tuple[int, int], np.ndarray]


@dataclass(slots=True)
class Outcome:
    """What became of the mutants of one file."""

    errors: int = 0
    alike: int = 0
    silent: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0
    peak_mb: float = 0.0


def lay_original(name: str) -> Original:
    """Lay one of the files in memory."""
    rows, columns = np.mgrid[:500, :500]
    pixels = (rows * 3 + columns * 7 + (rows * columns) % 11).astype("int16")
    stream = io.BytesIO()
    write_cog(stream, pixels, SPECS[name])
    content = stream.getvalue()
    file = SparseBytes(len(content))
    file.add(0, content)
    layout = parse_header(file, name)
    written = layout.offsets[layout.counts > 0]
    with tempfile.TemporaryDirectory() as folder:
        before = _read(content, Path(folder, "a.tif"))
    return Original(
        content=content, layout=layout, header_bytes=int(written.min()) - layout.leader,
        pixels=before,
    )  # fmt: skip


def _read(content: bytes, path: Path) -> dict[tuple[int, int], np.ndarray]:
    """Read four blocks of a file, as the package reads every file."""
    path.write_bytes(content)
    source = Source(
        url=str(path), item="SENTINEL2X_20210315-000000-000_L3A_T32UPC_C_V1-2", band="B5",
        month="2021-03", tile=tile_named("32UPC"), resolution_m=20, dtype="int16",
    )  # fmt: skip
    found: dict[tuple[int, int], np.ndarray] = {}

    async def read(session: Session) -> None:
        header = await read_header(session, source, overviews=True)
        reader = BlockReader(
            session=session, url=source.url, header=header, image=header.layout, requests=1,
            put=lambda target, block: found.__setitem__(target.block, block),
        )  # fmt: skip
        targets = [
            Target(block=block, output=_NOWHERE, source=_NOWHERE, is_whole=True, is_shared=False)
            for block in _BLOCKS
        ]
        written = [target for target in targets if header.layout.counts[target.block]]
        await reader.bring(written)

    try:
        run_with_session(Transport(), read)
    finally:
        path.unlink()
    return found


def spoil(original: Original, random: np.random.Generator) -> tuple[str, bytes]:
    """Spoil either the header or one of the blocks; say which."""

    def choose(most: int) -> int:
        return int(random.integers(0, max(1, most)))

    content = original.content
    if choose(2):
        where = (200, 700, original.header_bytes)[choose(3)]
        return "header", mutate(content[:where], choose) + content[where:]
    start, stop = original.layout.span(_BLOCKS[choose(len(_BLOCKS))])
    damaged = mutate(content[start:stop], choose)
    if choose(2):  # what follows stays in its place
        damaged = damaged[: stop - start].ljust(stop - start, b"\0")
    return "block", content[:start] + damaged + content[stop:]


def attempt(original: Original, part: str, content: bytes, folder: Path, tally: Outcome) -> None:
    """Read one mutant, and count what comes of it."""
    path = folder / f"{tally.errors + tally.alike + tally.silent.total()}.tif"
    began = time.perf_counter()
    try:
        pixels = _read(content, path)
    except ReadError as exc:
        assert exc.url == str(path), exc
        assert isinstance(exc, FormatError), exc
        assert part == "header" or exc.block is not None, exc
        tally.errors += 1
    else:
        if pixels.keys() == original.pixels.keys() and all(
            np.array_equal(block, original.pixels[index]) for index, block in pixels.items()
        ):
            tally.alike += 1
        else:
            tally.silent[f"{part}: {_difference(original, content)}"] += 1
    tally.slowest_s = max(tally.slowest_s, time.perf_counter() - began)


def _difference(original: Original, content: bytes) -> str:
    """Say what a mutant's header says otherwise."""
    file = SparseBytes(len(content))
    file.add(0, content)
    layout, before = parse_header(file, ""), original.layout
    facts = ("predictor", "dtype", "compression", "leader", "trailer", "nodata", "block_width")
    told = [
        f"{name} {getattr(before, name)} became {getattr(layout, name)}"
        for name in facts
        if getattr(before, name) != getattr(layout, name)
    ]
    if not np.array_equal(before.offsets, layout.offsets):
        told.append("other places in the block table")
    if not np.array_equal(before.counts, layout.counts):
        told.append("other lengths in the block table")
    return ", ".join(told) or "the same header"


def run(name: str, number: int, seed: int) -> Outcome:
    """Read mutants of one file.

    Parameters
    ----------
    name : str
        One of `SPECS`.
    number : int
        How many.
    seed : int
        Equal seeds give equal mutants.

    Returns
    -------
    Outcome
        What became of them.
    """
    random = np.random.default_rng([seed, [*SPECS].index(name)])
    original, tally = lay_original(name), Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(number):
            part, content = spoil(original, random)
            attempt(original, part, content, Path(folder), tally)
    tally.peak_mb = _peak_mb()
    return tally


def _peak_mb() -> float:
    """Give this process's peak; what getrusage says includes who started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(name: str, number: int, seed: int) -> Outcome | str:
    """Do the same in a process of its own, which may abort, hang or eat memory.

    Parameters
    ----------
    name, number, seed
        As for `run`.

    Returns
    -------
    Outcome or str
        What happened instead, where the process did not come to an end.
    """
    command = [sys.executable, "-m", "tests.fuzz.mutants", "--only", name]
    command += ["--number", f"{number}", "--seed", f"{seed}"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60 + number / 5
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode:
        return f"ends with {done.returncode}: {done.stderr[-2000:]}"
    told = json.loads(done.stdout)
    return Outcome(**{**told, "silent": collections.Counter(told["silent"])})


def main() -> int:
    """Print the figures; 1 where one is not what it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", choices=SPECS, help="this file, here, as JSON")
    options = parser.parse_args()
    if options.only:
        tally = run(options.only, options.number, options.seed)
        print(json.dumps({name: getattr(tally, name) for name in tally.__dataclass_fields__}))
        return 0
    began, share = time.monotonic(), -(-options.number // len(SPECS))
    tallies: dict[str, Outcome] = {}
    broken = passed = 0
    for name in SPECS:
        found = run_apart(name, share, options.seed)
        if isinstance(found, str):
            print(f"{name:21} {found}")
            broken += 1
            continue
        tallies[name] = tally = found
        passed += name in CHECKED and any(what.startswith("block") for what in tally.silent)
        print(
            f"{name:21} {tally.errors:5} typed errors, {tally.alike:5} same pixels, "
            f"{tally.silent.total():4} other pixels, slowest {1e3 * tally.slowest_s:.0f} ms"
        )
        for what, count in tally.silent.most_common():
            print(f"{'':21} {count:5} x {what}")
    slowest = max((tally.slowest_s for tally in tallies.values()), default=0)
    peak = max((tally.peak_mb for tally in tallies.values()), default=0)
    print(
        f"{share * len(SPECS)} mutants in {time.monotonic() - began:.0f} s: {broken} aborts, hangs "
        f"or untyped errors, slowest {slowest:.2f} s, peak {peak:.0f} MB; under a checksum "
        f"{'some' if passed else 'no'} spoilt block passed"
    )
    return bool(broken or passed or slowest > LONGEST_S or peak > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
