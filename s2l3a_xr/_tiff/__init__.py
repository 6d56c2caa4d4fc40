"""The parts of TIFF that a reader of blocks needs: a header's layout, a block's pixels."""

from s2l3a_xr._tiff._blocks import decode_block, unwrap_block
from s2l3a_xr._tiff._bytes import HEADER_BYTES, HEADER_CAP, MissingBytesError, SparseBytes
from s2l3a_xr._tiff._header import parse_header, parse_overviews, read_description
from s2l3a_xr._tiff._layout import (
    DEFLATES,
    HORIZONTAL,
    LZW,
    NO_PREDICTOR,
    NONE,
    Image,
    Layout,
)
from s2l3a_xr._tiff._writing import Head, plan_copy

__all__ = [
    "DEFLATES",
    "HEADER_BYTES",
    "HEADER_CAP",
    "HORIZONTAL",
    "LZW",
    "NONE",
    "NO_PREDICTOR",
    "Head",
    "Image",
    "Layout",
    "MissingBytesError",
    "SparseBytes",
    "decode_block",
    "parse_header",
    "parse_overviews",
    "plan_copy",
    "read_description",
    "unwrap_block",
]
