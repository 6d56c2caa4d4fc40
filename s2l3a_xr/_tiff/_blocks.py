"""From a block's bytes to its pixels."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np

from s2l3a_xr._errors import FormatError
from s2l3a_xr._tiff._layout import DEFLATES, FLOAT, HORIZONTAL, LZW, NONE, Layout


def decode_block(layout: Layout, data: bytes | memoryview, index: tuple[int, int]) -> np.ndarray:
    """Unpack one block.

    Parameters
    ----------
    layout : Layout
        Of the file.
    data : bytes
        The packed block.
    index : tuple of int
        Its row and column of blocks.

    Returns
    -------
    ndarray of the layout's dtype in native byte order, shape (block height, block width)
        The pixels; a last strip is shorter.

    Raises
    ------
    FormatError
        The bytes do not unpack to a block; the caller adds the URL.
    """
    shape = layout.block_shape(index[0])
    size = shape[0] * shape[1] * layout.dtype.itemsize
    try:
        raw = _unpack(layout.compression, data, layout.raw_block_bytes)
    except (RuntimeError, ValueError, MemoryError) as exc:
        msg = f"the block does not unpack: {exc}"
        raise FormatError(msg, block=index) from exc
    if len(raw) == layout.raw_block_bytes:
        shape = (layout.block_height, layout.block_width)
    elif len(raw) != size:
        msg = f"the block unpacks to {len(raw)} bytes, not to {size}"
        raise FormatError(msg, block=index)
    if layout.predictor == FLOAT:
        return _undo_float_predictor(raw, layout.dtype, shape)
    block = np.frombuffer(raw, dtype=layout.dtype).reshape(shape)
    native = block.astype(layout.dtype.newbyteorder("="), copy=False)
    if layout.predictor == HORIZONTAL:
        bits = np.dtype(f"u{native.itemsize}")  # floats are differenced as integers too
        native = np.cumsum(native.view(bits), axis=1, dtype=bits).view(native.dtype)
    return native


def _unpack(compression: int, data: Any, size: int) -> bytes | memoryview:  # noqa: ANN401 - any buffer
    if compression == NONE:
        return memoryview(data)
    if compression in DEFLATES:
        unpacked = imagecodecs.deflate_decode(data, out=size)
    elif compression == LZW:
        unpacked = imagecodecs.lzw_decode(data, out=size)
    else:
        unpacked = imagecodecs.zstd_decode(data, out=size)
    return memoryview(unpacked)


def _undo_float_predictor(
    raw: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, int]
) -> np.ndarray:
    """Join the byte planes of a row: most significant first whatever the byte order."""
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(shape[0], -1)
    summed = np.cumsum(planes, axis=1, dtype=np.uint8)
    joined = summed.reshape(shape[0], dtype.itemsize, shape[1]).transpose(0, 2, 1)
    big_endian = np.ascontiguousarray(joined).view(dtype.newbyteorder(">"))
    return big_endian.reshape(shape).astype(dtype.newbyteorder("="))
