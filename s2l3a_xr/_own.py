"""What is in the place of what is to be written, and whether this package wrote it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from s2l3a_xr._disk import told
from s2l3a_xr._errors import ExportError
from s2l3a_xr._paths import take_path

MEMBER = "s2l3a_xr"
"""Where the head stands in a GeoJSON, and in a Parquet file's metadata."""

_HEAD_BYTES = 4096
_BEGINNING = re.compile(rb'"%b"\s*:\s*\{\s*"format"\s*:\s*"([a-z0-9_ ]+)"' % MEMBER.encode())
_STORES = (
    ("zarr.json",),
    (".zgroup",),
    (".zarray",),
    (".zmetadata",),
    ("snapshots", "transactions"),
)
"""What is in Zarr stores, and in Icechunk's."""

_FILES = frozenset({".tif", ".tiff"})


def kind_of(path: Path) -> str:
    """Tell what a GeoJSON of this package says that it is.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Such as ``s2l3a_xr inventory``; empty for what is none of this package's.

    Raises
    ------
    OSError, RecursionError
        It can't be read.
    """
    data = path.read_bytes()
    try:
        document = json.loads(data)
    except ValueError:  # cut, or damaged: perhaps it begins as it was written
        found = _BEGINNING.search(data[:_HEAD_BYTES])
        return found[1].decode() if found else ""
    head = document.get(MEMBER) if isinstance(document, dict) else None
    return str(head.get("format", "")) if isinstance(head, dict) else ""


def check_own(target: Path, is_own: Callable[[Path], bool], what: str) -> None:
    """Refuse to replace what this package did not write.

    Parameters
    ----------
    target : Path
        The file that is to be written.
    is_own : callable
        Looks at a file that is there; where it can't, the file is foreign.
    what : str
        What may be replaced, such as ``inventory``.

    Raises
    ------
    ExportError
        Something else is there.
    """
    with told(target):
        if not target.is_file():
            return
    with contextlib.suppress(OSError, RecursionError, ValueError):
        if is_own(target):
            return
    msg = (
        f"{target} is there already and is no {what} that this package wrote; choose another "
        "name or folder, or remove it."
    )
    raise ExportError(msg)


def check_no_input(target: Path, given: str, what: str) -> None:
    """Refuse to replace what is read.

    Parameters
    ----------
    target : Path
        The file that is to be written.
    given : str
        What is read as the user typed it, perhaps no path.
    what : str
        What would be written, such as ``--save``.

    Raises
    ------
    ExportError
        They are one file.
    """
    try:
        is_same = bool(given) and target.samefile(Path(given).expanduser())
    except (OSError, RuntimeError, ValueError):  # no path, or nothing is there
        return
    if is_same:
        msg = f"{what} would replace {target}, the AOI itself; choose another name or folder."
        raise ExportError(msg)


def take_folder(directory: str | os.PathLike[str]) -> Path:
    """Take what a user wrote for the folder that GeoTIFFs go to.

    Parameters
    ----------
    directory : str or path
        Need not be there.

    Returns
    -------
    pathlib.Path
        Absolute; nothing is done to it.

    Raises
    ------
    ExportError
        It has the name of a file, or is in a Zarr store, which may be replaced as a whole.
    """
    folder = take_path(directory, "directory", ExportError)
    if folder.suffix.lower() in _FILES and not folder.exists():
        msg = (
            f"{folder} has the name of a file, and a folder is needed; give the folder alone: the "
            "files in it are named by month and band, such as s2_l3a_20210515_red.tif."
        )
        raise ExportError(msg)
    for place in (*reversed(folder.parents), folder):
        if any(all((place / name).exists() for name in names) for names in _STORES):
            msg = f"{place} is a Zarr store, and other files are lost with it; give another folder."
            raise ExportError(msg)
    return folder
