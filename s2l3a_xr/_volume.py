"""How much an export would write, said before it begins."""

from __future__ import annotations

import numpy as np

from s2l3a_xr._errors import ExportError
from s2l3a_xr._inventory import volume_text
from s2l3a_xr._raster import Raster

MAX_BYTES = 20_000_000_000
"""More than this is not written unless the user says so; a month of all Germany is 12 GB a band."""


class VolumeError(ExportError):
    """An export is larger than the user may have meant."""


def check_volume(count: int, raster: Raster, max_bytes: float | None) -> None:
    """Refuse to write more files than the user allows.

    Parameters
    ----------
    count : int
        Files that are still to be written.
    raster : Raster
        What each of them is.
    max_bytes : float or None
        Most bytes of all of them, unpacked; None for no limit.

    Raises
    ------
    VolumeError
        They are more.
    """
    each = raster.width * raster.height * np.dtype(raster.dtype).itemsize
    what = f"{count} files of {raster.width} x {raster.height} pixels, unpacked,"
    check_bytes(count * each, what, max_bytes)


def check_bytes(size: int, what: str, max_bytes: float | None) -> None:
    """Refuse what is larger than the user allows.

    Parameters
    ----------
    size : int
        Bytes.
    what : str
        What they are, for the message.
    max_bytes : float or None
        Most bytes; None for no limit.

    Raises
    ------
    VolumeError
        They are more.
    """
    if max_bytes is not None and size > max_bytes:
        msg = (
            f"{what} are {volume_text(size)}, more than {volume_text(max_bytes)}; take a smaller "
            "area, fewer months or bands, or a coarser resolution, or pass max_bytes=None (--yes) "
            "if you mean it."
        )
        raise VolumeError(msg)
