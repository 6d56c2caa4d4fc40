"""Pieces of a file that stand for the whole of it."""

from __future__ import annotations

from collections.abc import Iterator

from s2l3a_xr._errors import FormatError

HEADER_BYTES = 32 * 1024
"""First guess at a header's length: a COG of 10980 x 10980 with blocks of 256 fits in."""

HEADER_CAP = 8 * 2**20
"""Most bytes that are read of a header, where nothing else is said."""


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


class SparseBytes:
    """Pieces of a file that pretend to be the whole of it.

    Parameters
    ----------
    total : int
        Size of the whole file.
    cap : int, default 8 MiB
        Most bytes that one parsing takes: what a header claims to need beyond is refused before
        it is fetched or unpacked.
    """

    def __init__(self, total: int, cap: int = HEADER_CAP) -> None:
        self.total = total
        self._cap = cap
        self._taken = 0
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
    def pieces(self) -> tuple[tuple[int, bytes], ...]:
        """Where each piece begins, and its bytes."""
        return tuple(self._pieces)

    @property
    def held(self) -> int:
        """Bytes of all pieces."""
        return sum(len(data) for _, data in self._pieces)

    def begin(self) -> bytes:
        """Start parsing anew.

        Returns
        -------
        bytes
            The first 80 bytes, or what is at hand of them.
        """
        self._taken = 0
        return next((data[:80] for start, data in self._pieces if start == 0), b"")

    def read(self, start: int, stop: int) -> bytes:
        """Get some bytes.

        Parameters
        ----------
        start, stop : int
            First byte and the byte behind the last one.

        Returns
        -------
        bytes
            All of them.

        Raises
        ------
        MissingBytesError
            They are not all at hand.
        FormatError
            They are not in the file, or too many; the caller adds the URL.
        """
        if start < 0 or stop > self.total:
            msg = f"the TIFF's header points at bytes {start} to {stop}, the file has {self.total}"
            raise FormatError(msg)
        self._taken += stop - start
        if self._taken > self._cap:
            msg = (
                f"the TIFF's header is longer than {self._cap} bytes, which "
                "Transport(max_header_bytes=…) allows"
            )
            raise FormatError(msg)
        return b"".join(self._gather(start, stop))

    def _gather(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            for first, data in self._pieces:
                part = data[start - first : stop - first] if first <= start else b""
                if part:
                    yield part
                    start += len(part)
                    break
            else:
                raise MissingBytesError(start, stop)
