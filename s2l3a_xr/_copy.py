"""One file of a mirror: a sparse TIFF that has some blocks of the original."""

from __future__ import annotations

import asyncio
import logging
import mmap
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from s2l3a_xr._disk import make_folder, whole_file
from s2l3a_xr._errors import ExportError, FormatError
from s2l3a_xr._identity import check_same
from s2l3a_xr._loop import gather, in_thread
from s2l3a_xr._plan import Range, Target, group_ranges, merge_ranges
from s2l3a_xr._source import Header, Source
from s2l3a_xr._tiff import (
    Head,
    Layout,
    MissingBytesError,
    SparseBytes,
    parse_header,
    plan_copy,
    read_description,
    unwrap_block,
)
from s2l3a_xr._transport import Reply, Session

_log = logging.getLogger(__name__)

_MARK = "s2l3a_xr: some blocks of "
_NO_SUM = "--------"
_CLASSIC_LIMIT = 2**32
_SUM = re.compile(r"(.*), checksum ([0-9a-f]{8})", re.ASCII | re.DOTALL)
_NOWHERE = (slice(0), slice(0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """One file to be written.

    Parameters
    ----------
    source : Source
        The original.
    header : Header
        Its header.
    path : Path
        Where the copy goes.
    head : Head
        The copy's layout and first bytes.
    old : Layout or None
        Of the copy that is there; its blocks are taken over.
    """

    source: Source
    header: Header
    path: Path
    head: Head
    old: Layout | None


def plan_file(source: Source, header: Header, path: Path, wanted: np.ndarray) -> Copy | None:
    """Plan what a copy will hold.

    Parameters
    ----------
    source : Source
        The original.
    header : Header
        Its header.
    path : Path
        Where the copy goes.
    wanted : ndarray of bool, shape (block rows, block columns)
        The blocks that it must have.

    Returns
    -------
    Copy or None
        None where the copy that is there has it all.

    Raises
    ------
    ExportError
        Another file is in the place.
    """
    stamp = " ".join(header.stamp)
    mark = f"{_MARK}{source.item} {source.band}, {header.total} bytes, {stamp}".strip(", ")
    mark = mark.encode("ascii", "replace").decode("ascii")
    there = _look(path)
    old = None
    if there is not None:
        layout = there.layout
        is_alike = _packing(layout) == _packing(header.layout)
        held = layout.counts > 0 if is_alike else np.zeros_like(wanted)
        is_same = is_alike and bool((layout.counts == header.layout.counts)[wanted].all())
        if is_same and there.is_sound and there.mark in {mark, None}:
            return None
        if there.mark is None:
            msg = f"{path} is no file of a mirror and lacks what is needed; use another folder."
            raise ExportError(msg)
        wanted = wanted | (held & (header.layout.counts > 0))
        old = layout if there.mark == mark and there.is_sound else None
    mark = f"{mark}, checksum {_NO_SUM}"
    try:
        head = plan_copy(header.layout, wanted, mark)
    except ValueError as exc:
        raise FormatError(str(exc), **source.place) from exc
    return Copy(source=source, header=header, path=path, head=head, old=old)


def _packing(layout: Layout) -> tuple[object, ...]:
    """Give what must be equal so that blocks of one file can stand in another."""
    return (
        layout.width, layout.height, layout.block_width, layout.block_height, layout.dtype,
        layout.compression, layout.predictor, layout.byte_order, layout.tags,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _There:
    """A file in a copy's place; without a mark it is none of a mirror's."""

    layout: Layout
    mark: str | None
    is_sound: bool


def _look(path: Path) -> _There | None:
    """Read a file's header and hold its blocks against their checksum; None where none is."""
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            # One of ours that was cut off is to be known by its header.
            layout, description = _parse(data, _CLASSIC_LIMIT, path)
            if not description.startswith(_MARK):
                layout, _ = _parse(data, len(data), path)
                return _There(layout=layout, mark=None, is_sound=True)
            told = _SUM.fullmatch(description)
            sums = np.zeros(layout.counts.shape, "<u4")
            for block in zip(*np.nonzero(layout.counts), strict=True):
                start = int(layout.offsets[block])
                sums[block] = zlib.crc32(data[start : start + int(layout.counts[block])])
    except FileNotFoundError:
        return None
    except (FormatError, MissingBytesError, OSError, ValueError) as exc:
        msg = f"{path} is there and can't be read ({exc}); remove it, or use another folder."
        raise ExportError(msg) from exc
    is_sound = told is not None and told[2] == _total(sums)
    if not is_sound:
        _log.warning("%s is damaged and is made anew", path)
    return _There(layout=layout, mark=told[1] if told else "", is_sound=is_sound)


def _parse(data: mmap.mmap, total: int, path: Path) -> tuple[Layout, str]:
    """Read a header and its description, as of a file of so many bytes."""
    file = SparseBytes(max(total, len(data)))
    file.add(0, data)  # type: ignore[arg-type]  # reads as bytes do, without being read whole
    return parse_header(file, str(path)), read_description(file, str(path))


def _total(sums: np.ndarray) -> str:
    """Make one checksum of those of all blocks, row by row."""
    return f"{zlib.crc32(sums.tobytes()):08x}"


async def write_copy(session: Session, copy: Copy, requests: int) -> None:
    """Write one copy, complete or not at all.

    Parameters
    ----------
    session : Session
        This process's connections.
    copy : Copy
        What to write.
    requests : int
        At least so many requests are made, where there is enough to ask for.

    Raises
    ------
    ReadError
        The original can't be read.
    ExportError
        The copy can't be written.
    """
    await in_thread(make_folder, copy.path.parent)
    with whole_file(copy.path) as place:
        sums = np.zeros(copy.head.layout.counts.shape, "<u4")
        with await in_thread(_begin, place, copy, sums) as file:
            await _bring(session, copy, requests, file, sums)
            await in_thread(_end, file, copy, sums)


def _begin(place: Path, copy: Copy, sums: np.ndarray) -> IO[bytes]:
    """Write the head, and the blocks that the copy before had."""
    file = place.open("xb")
    file.write(copy.head.data)
    if copy.old is not None:
        with copy.path.open("rb") as before:
            for block in zip(*np.nonzero(copy.old.counts), strict=True):
                before.seek(int(copy.old.offsets[block]))
                file.seek(int(copy.head.layout.offsets[block]))
                data = before.read(int(copy.old.counts[block]))
                file.write(data)
                sums[block] = zlib.crc32(data)
    return file


def _end(file: IO[bytes], copy: Copy, sums: np.ndarray) -> None:
    """Write down the checksum, for which the head has room."""
    file.seek(copy.head.data.index(_NO_SUM.encode()))
    file.write(_total(sums).encode())


async def _bring(
    session: Session, copy: Copy, requests: int, file: IO[bytes], sums: np.ndarray
) -> None:
    """Fetch the other blocks and put each in its place."""
    new = copy.head.layout
    held = np.zeros(new.counts.shape, bool) if copy.old is None else copy.old.counts > 0
    targets = [
        Target(
            block=(row, column), output=_NOWHERE, source=_NOWHERE, is_whole=True, is_shared=False
        )
        for row, column in np.argwhere((new.counts > 0) & ~held).tolist()
    ]
    url, header = copy.source.url, copy.header
    ranges = merge_ranges(targets, header.layout)
    lock = asyncio.Lock()

    async def fetch(group: Sequence[Range]) -> None:
        replies: list[tuple[Range, Reply]] = []
        async with session.slots:
            await session.read_many(
                url,
                [(part.start, part.stop) for part in group],
                lambda position, reply: replies.append((group[position], reply)),
            )
            for part, reply in replies:
                await check_same(session, header.pin(url), reply, (part.start, part.stop))
                async with lock:
                    data = memoryview(reply.data)
                    await in_thread(_put, file, part, data, header.layout, new, sums)

    many = session.takes_many(url)
    await gather(map(fetch, group_ranges(ranges, requests if many else len(ranges) or 1)))


def _put(
    file: IO[bytes], part: Range, data: memoryview, old: Layout, new: Layout, sums: np.ndarray
) -> None:
    for target in part.targets:
        start, stop = old.span(target.block)
        block = unwrap_block(old, data[start - part.start : stop - part.start], target.block)
        file.seek(int(new.offsets[target.block]))
        file.write(block)
        sums[target.block] = zlib.crc32(block)
