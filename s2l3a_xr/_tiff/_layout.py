"""Where the blocks of an image lie, and how they are packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

NONE, LZW, ZSTD, OLD_ZSTD = 1, 5, 50000, 34926
DEFLATES = frozenset({8, 32946})
NO_PREDICTOR, HORIZONTAL, FLOAT = 1, 2, 3


class Tag(NamedTuple):
    """A tag as it stands in a file.

    Parameters
    ----------
    code, kind, number : int
        TIFF's numbers: which tag, type and number of values.
    data : bytes
        The values, in the file's byte order.
    """

    code: int
    kind: int
    number: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """What a header says of one image, but for the table of its blocks.

    Parameters
    ----------
    width, height : int
        Pixels of the image.
    block_width, block_height : int
        Pixels of a block; a strip is as wide as the image.
    dtype : numpy.dtype
        Of the pixels, with the file's byte order.
    compression, predictor : int
        TIFF's numbers.
    nodata : float or None
        GDAL's nodata value.
    origin : tuple of float or None
        Outer corner (x, y) of the first pixel.
    pixel_size : tuple of float or None
        Size of a pixel along x and y, both positive for a north-up image.
    epsg : int or None
        CRS of the image.
    scaling : tuple of float
        GDAL's scale and offset, which make other values of what is stored.
    """

    width: int
    height: int
    block_width: int
    block_height: int
    dtype: np.dtype[Any]
    compression: int
    predictor: int
    nodata: float | None = None
    origin: tuple[float, float] | None = None
    pixel_size: tuple[float, float] | None = None
    epsg: int | None = None
    scaling: tuple[float, float] = (1.0, 0.0)

    @property
    def raw_block_bytes(self) -> int:
        """Length of an unpacked whole block."""
        return self.block_width * self.block_height * self.dtype.itemsize

    @property
    def is_tiled(self) -> bool:
        """Whether blocks are padded to full size at the image's edges."""
        return self.block_width != self.width

    def block_shape(self, row: int) -> tuple[int, int]:
        """Shape of the blocks in one row of blocks.

        Parameters
        ----------
        row : int
            Row of blocks.

        Returns
        -------
        tuple of int
            ``(height, width)``; only the last strip is shorter.
        """
        if self.is_tiled or self.block_height * (row + 1) <= self.height:
            return self.block_height, self.block_width
        # A single tile as wide as the image is padded, a last strip is not: the byte count
        # tells them apart when the block is unpacked.
        return self.height - self.block_height * row, self.block_width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout(Image):
    """An image, and where its blocks lie in the file.

    Parameters
    ----------
    offsets, counts : ndarray of int64, shape (block rows, block columns)
        Place and length of each block; both zero for one that was never written.
    byte_order : str
        The file's, ``<`` or ``>``; a dtype of one byte has none.
    tags : tuple of Tag
        What says where the image lies and what nodata is.
    leader, trailer : int
        Bytes before and behind each block by which it can be checked; they belong to no block's
        count. GDAL's cloud-optimised files have them.
    """

    offsets: np.ndarray
    counts: np.ndarray
    byte_order: str = "<"
    tags: tuple[Tag, ...] = ()
    leader: int = 0
    trailer: int = 0

    def span(self, block: tuple[int, int]) -> tuple[int, int]:
        """Say where a block stands in the file.

        Parameters
        ----------
        block : tuple of int
            Row and column of blocks.

        Returns
        -------
        tuple of int
            Its first byte and the byte behind its last one, with leader and trailer.
        """
        start = int(self.offsets[block])
        return start - self.leader, start + int(self.counts[block]) + self.trailer
