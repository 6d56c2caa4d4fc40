"""What a header says of its pixels' place and meaning, without parsing any XML."""

from __future__ import annotations

import re
from typing import Any

from s2l3a_xr._errors import FormatError
from s2l3a_xr._tiff._directory import Directory, tag_name

_Pair = tuple[float, float]
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED, _UNIT = 1024, 1025, 2048, 3072, 3076
_IS_GEOGRAPHIC, _METRE = 2, 9001
_IS_POINT = {1: False, 2: True}
_SIX, _SIXTEEN = 6, 16
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|nan|inf)\s*", re.ASCII | re.I)
_ROLE = re.compile(rb"""\brole\s*=\s*["'](scale|offset)["']""")


def describe_place(directory: Directory) -> dict[str, Any]:
    """Read where an image lies, and what its values mean.

    Parameters
    ----------
    directory : Directory
        The image's.

    Returns
    -------
    dict
        Fields of an `Image`.

    Raises
    ------
    MissingBytesError, FormatError
        As `Directory.tag`; also for what is contradictory.
    """
    keys = _keys(directory)
    origin, size = _transform(directory)
    raster = keys.get(_RASTER, 1)
    if raster not in _IS_POINT:
        msg = f"the TIFF's raster type (GeoTIFF key {_RASTER}) is {raster}, which is not known"
        raise FormatError(msg)
    if _IS_POINT[raster] and origin and size:
        origin = (origin[0] - size[0] / 2, origin[1] + size[1] / 2)
    if keys.get(_UNIT, _METRE) != _METRE:
        msg = f"the TIFF's unit of length (GeoTIFF key {_UNIT}) is {keys[_UNIT]}, not {_METRE} (m)"
        raise FormatError(msg)
    is_geographic = keys.get(_MODEL) == _IS_GEOGRAPHIC or _PROJECTED not in keys
    text = directory.text(42113)
    return {
        "origin": origin,
        "pixel_size": size,
        "epsg": keys.get(_GEOGRAPHIC if is_geographic else _PROJECTED),
        "nodata": None if text is None else _number(text, 42113),
        "scaling": _scaling(directory),
    }


def _keys(directory: Directory) -> dict[int, int]:
    """Read GeoTIFF's keys that are whole numbers."""
    values = directory.integers(34735).tolist()
    if not values:
        return {}
    keys: dict[int, int] = {}
    head = [*values[:4], 0, 0, 0]
    if head[0] != 1 or len(values) < 4 * (1 + head[3]):
        msg = f"the TIFF's {tag_name(34735)} is broken: it begins {values[:4]}"
        raise FormatError(msg)
    for at in range(4, 4 + 4 * values[3], 4):
        key, place, _, value = values[at : at + 4]
        if key in keys:
            msg = f"the TIFF has its GeoTIFF key {key} twice"
            raise FormatError(msg)
        if place == 0:
            keys[key] = value
    return keys


def _transform(directory: Directory) -> tuple[_Pair | None, _Pair | None]:
    """Read the corner and the size of a pixel."""
    matrix, scale, tie = (directory.floats(code) for code in (34264, 33550, 33922))
    if matrix:
        if scale or tie or len(matrix) != _SIXTEEN:
            msg = f"the TIFF's {tag_name(34264)} is not the only one that says where it lies"
            raise FormatError(msg)
        across, x_turn, _, left, y_turn, down, _, top = matrix[:8]
        if x_turn or y_turn or any(matrix[12:15]) or matrix[15] != 1:
            msg = f"the TIFF's image is rotated ({tag_name(34264)} is {matrix}), north must be up"
            raise FormatError(msg)
        return (left, top), (across, -down)
    if not scale or not tie:
        return None, None
    if len(scale) < 2 or len(tie) != _SIX:  # noqa: PLR2004 - along x and y
        msg = (
            f"the TIFF has {len(scale)} numbers in {tag_name(33550)} and {len(tie)} in "
            f"{tag_name(33922)}, 3 and {_SIX} are expected"
        )
        raise FormatError(msg)
    size = (scale[0], scale[1])
    return (tie[3] - tie[0] * size[0], tie[4] + tie[1] * size[1]), size


def _number(text: str, code: int) -> float:
    if not _NUMBER.fullmatch(text):
        what = "nodata" if code == 42113 else "scale or offset"  # noqa: PLR2004
        msg = f"the TIFF's {what} {text[:80]!r} ({tag_name(code)}) is no number"
        raise FormatError(msg)
    return float(text)


def _scaling(directory: Directory) -> tuple[float, float]:
    """Find GDAL's scale and offset in its XML.

    The text is cut at its tags: an XML parser would also expand entities, and nothing else
    in there is of use.
    """
    found = {b"scale": 1.0, b"offset": 0.0}
    for item in (directory.text(42112) or "").encode().split(b"<Item")[1:]:
        attributes, _, rest = item.partition(b">")
        role = _ROLE.search(attributes)
        if role is not None:
            text = rest.partition(b"<")[0].decode("utf-8", "replace")
            found[role[1]] = _number(text, 42112)
    return found[b"scale"], found[b"offset"]
