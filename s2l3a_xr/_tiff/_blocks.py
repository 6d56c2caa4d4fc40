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
        The packed block, with its leader and trailer.
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
    data = unwrap_block(layout, data, index)
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


def unwrap_block(layout: Layout, data: bytes | memoryview, index: tuple[int, int]) -> memoryview:
    """Hold a block against the leader and trailer around it, and take them off.

    Parameters
    ----------
    layout : Layout
        Of the file.
    data : bytes
        The packed block, with its leader and trailer.
    index : tuple of int
        Its row and column of blocks.

    Returns
    -------
    memoryview
        The packed block.

    Raises
    ------
    FormatError
        They are those of another block, or of none; the caller adds the URL.
    """
    whole = memoryview(data)
    end = len(whole) - layout.trailer
    block = whole[layout.leader : end]
    if layout.leader and int.from_bytes(whole[: layout.leader], "little") != len(block):
        size = int.from_bytes(whole[: layout.leader], "little")
        msg = f"the block is not in its place: {size} bytes stand there instead of {len(block)}"
        raise FormatError(msg, block=index)
    if len(block) >= layout.trailer > 0 and whole[end:] != block[-layout.trailer :]:
        msg = "the block is not whole: its last bytes are not those that GDAL repeats behind it"
        raise FormatError(msg, block=index)
    return block


def _unpack(
    compression: int,
    data: Any,  # noqa: ANN401 - imagecodecs takes any buffer and does not say so
    size: int,
) -> memoryview:
    if compression == NONE:
        return memoryview(data)
    if compression in DEFLATES:
        unpacked = imagecodecs.deflate_decode(data, out=size)  # compares its checksum
        if imagecodecs.deflate_adler32(unpacked).to_bytes(4, "big") != data[-4:]:
            msg = "something stands behind its end"
            raise ValueError(msg)
    elif compression == LZW:
        # What does not fit is left out without a word, so there is room for a byte too many.
        unpacked = imagecodecs.lzw_decode(data, out=size + 1)
    else:
        unpacked = imagecodecs.zstd_decode(data, out=size)
    return memoryview(unpacked)


def _undo_float_predictor(
    raw: memoryview, dtype: np.dtype[Any], shape: tuple[int, int]
) -> np.ndarray:
    """Join the byte planes of a row: most significant first whatever the byte order."""
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(shape[0], -1)
    summed = np.cumsum(planes, axis=1, dtype=np.uint8)
    joined = summed.reshape(shape[0], dtype.itemsize, shape[1]).transpose(0, 2, 1)
    big_endian = np.ascontiguousarray(joined).view(dtype.newbyteorder(">"))
    return big_endian.reshape(shape).astype(dtype.newbyteorder("="))
