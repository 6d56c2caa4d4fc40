"""Unpacked blocks and headers kept on disk, for this process, others, and later ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)

_TRUSTED_S = 86_400.0
"""How long a kept header is believed without asking the server again."""

_KEEP_SHARE = 0.8
"""What is left, of the limit, after old entries were dropped."""

_LOOK_SHARE = 0.05
"""What may be written, of the limit, before the folder is measured again."""

_STALE_PART_S = 3600.0
_LEAP_S = 60.0

_SUM_BYTES = 4
"""At the end of each entry. Entries are not brought to the disk before they get their names, which
would cost more than reading them again: after a power failure there may be zeros under one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHeader:
    """The first bytes of a file, and what told the file from others.

    Parameters
    ----------
    total : int
        Size of the file.
    stamp : tuple of str
        ETag and Last-Modified.
    pieces : tuple of tuple of (int and bytes)
        Where each piece begins, and its bytes.
    """

    total: int
    stamp: tuple[str, ...]
    pieces: tuple[tuple[int, bytes], ...]


class Store:
    """A folder of small files, each complete or not there.

    Many processes may use one folder: entries are written aside and renamed, and two that
    write the same entry write the same bytes. When the limit is passed, the entries that
    were not used for longest go.

    Parameters
    ----------
    folder : pathlib.Path
        Made when the first entry is kept.
    limit_bytes : int
        Most bytes that the folder may hold.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._since_look = limit_bytes
        self._lock = threading.Lock()
        self._told = False

    def block(self, key: object, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray | None:
        """Get a block's pixels.

        Parameters
        ----------
        key : object
            File, its stamp and the block; its ``repr`` counts.
        dtype : numpy.dtype
            Of the pixels, native byte order.
        shape : tuple of int
            ``(height, width)``.

        Returns
        -------
        ndarray or None
            None where it is not kept.
        """
        path = self._path("block", key)
        data = self._read(path)
        if data is None or data.size != shape[0] * shape[1] * dtype.itemsize:
            return None
        self._used(path)
        return data.view(dtype).reshape(shape)

    def has_block(self, key: object) -> bool:
        """Tell whether a block is kept.

        Parameters
        ----------
        key : object
            As for `block`.

        Returns
        -------
        bool
            True where `block` would find it.
        """
        return self._path("block", key).exists()

    def keep_block(self, key: object, pixels: np.ndarray) -> None:
        """Keep a block's pixels.

        Parameters
        ----------
        key : object
            As for `block`.
        pixels : ndarray
            What to keep.
        """
        self._write(self._path("block", key), np.ascontiguousarray(pixels).data.cast("B"))

    def header(self, url: str) -> KeptHeader | None:
        """Get a file's header, if it was read within the last day.

        Parameters
        ----------
        url : str
            The file.

        Returns
        -------
        KeptHeader or None
            None where it is not kept, or too old.
        """
        path = self._path("header", url)
        try:
            if not -_LEAP_S < time.time() - path.stat().st_mtime < _TRUSTED_S:
                return None  # too old, or of a time that the clock has not reached
            data = self._read(path)
            if data is None:
                return None
            line, _, body = data.tobytes().partition(b"\n")
            facts = json.loads(line)
            pieces = []
            for start, size in facts["pieces"]:
                pieces.append((start, body[:size]))
                body = body[size:]
            if body or any(len(data) != size for (_, size), (_, data) in
                           zip(facts["pieces"], pieces, strict=True)):  # fmt: skip
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return KeptHeader(total=facts["total"], stamp=tuple(facts["stamp"]), pieces=tuple(pieces))

    def keep_header(self, url: str, header: KeptHeader) -> None:
        """Keep a file's header.

        Parameters
        ----------
        url : str
            The file; only a hash of it is written.
        header : KeptHeader
            What to keep.
        """
        facts = {
            "total": header.total,
            "stamp": header.stamp,
            "pieces": [(start, len(data)) for start, data in header.pieces],
        }
        body = b"".join(data for _, data in header.pieces)
        self._write(self._path("header", url), json.dumps(facts).encode() + b"\n" + body)

    def forget_header(self, url: str) -> None:
        """Drop a header that turned out to be stale.

        Parameters
        ----------
        url : str
            The file.
        """
        with contextlib.suppress(OSError):
            self._path("header", url).unlink()

    def _read(self, path: Path) -> np.ndarray | None:
        """Give an entry's bytes, uint8; None where it is not there, or rotten."""
        try:
            data = np.fromfile(path, dtype="u1")
        except OSError:
            return None
        body = data[:-_SUM_BYTES]
        if data.size < _SUM_BYTES or data[-_SUM_BYTES:].tobytes() != _checksum(body.data):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return body

    def _path(self, kind: str, key: object) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:40]}.{kind}"

    def _used(self, path: Path) -> None:
        """Note the use, at most once an hour: writing times costs more than reading."""
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_PART_S:
                os.utime(path)

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        """Write aside and rename; a full or read-only disk costs the cache, and that is told."""
        temporary = path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.write(_checksum(data))
            temporary.replace(path)
        except OSError as exc:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._tell(exc)
            return
        with self._lock:
            self._since_look += len(data)
            look = self._since_look > self._limit * _LOOK_SHARE
            if look:
                self._since_look = 0
        if look:
            self._drop_old()

    def _tell(self, error: OSError) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            _log.warning(
                "the cache folder %s can't be written, so nothing is kept for later: %s; "
                "see who may write there and how much space is left, or name another cache_dir",
                self._folder,
                error.strerror or error,
            )

    def _drop_old(self) -> None:
        entries = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                entries.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        stale = time.time() - _STALE_PART_S
        is_full = total > self._limit
        for used, size, path in sorted(entries):
            is_left_over = path.suffix == ".part" and used < stale
            if is_left_over or (is_full and total > self._limit * _KEEP_SHARE):
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM_BYTES, "little")
