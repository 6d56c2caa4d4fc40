"""Pieces of a file that stand for the whole of it."""

from __future__ import annotations

import io
from typing import Any


class MissingBytesError(Exception):
    """The header reaches past the bytes at hand.

    Parameters
    ----------
    start, stop : int
        The bytes that are needed as well.
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__(start, stop)
        self.start = start
        self.stop = stop


class SparseBytes(io.RawIOBase):
    """Pieces of a file that pretend to be the whole of it.

    Parameters
    ----------
    total : int
        Size of the whole file.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total
        self._position = 0
        self._pieces: list[tuple[int, bytes]] = []

    def add(self, start: int, data: bytes) -> None:
        """Take a piece.

        Parameters
        ----------
        start : int
            Where it lies in the file.
        data : bytes
            The piece.
        """
        self._pieces.append((start, data))

    @property
    def total(self) -> int:
        """Size of the whole file."""
        return self._total

    @property
    def pieces(self) -> tuple[tuple[int, bytes], ...]:
        """Where each piece begins, and its bytes."""
        return tuple(self._pieces)

    @property
    def held(self) -> int:
        """Bytes of all pieces."""
        return sum(len(data) for _, data in self._pieces)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be positioned."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as every file does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._total}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Say where it stands."""
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read, as every file does; a hole raises `MissingBytesError`."""
        start = self._position
        stop = self._total if size is None or size < 0 else min(start + size, self._total)
        if stop <= start:
            return b""
        for first, data in self._pieces:
            if first <= start and stop <= first + len(data):
                self._position = stop
                return data[start - first : stop - first]
        raise MissingBytesError(start, stop)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Read into a buffer, as every file does."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
