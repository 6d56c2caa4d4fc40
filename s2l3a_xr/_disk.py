"""Files that are whole or not there, whatever ends the process that writes them.

A file is written in a hidden folder beside its place, ``.s2l3a-MACHINE-PID.part-UUID``: made anew,
so it is nobody else's, follows no link and can be found when its process is dead. Complete, the
file is brought to the disk and moved to its name in one step, which replaces a link there
instead of writing through it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from s2l3a_xr._errors import ExportError, S2L3AError

_PART = re.compile(r"\.s2l3a-([0-9a-f]{8})-(\d{1,10})\.part-[0-9a-f]{32}", re.ASCII)

_STALE_S = 86_400.0
"""Untouched for so long, what another machine left is left over; whether it runs can't be asked."""

_SWEEP_AGAIN_S = 60.0

_TOO_LONG = 206
"""What Windows calls a path of more than 260 characters; it has no errno of its own."""

_mine: set[str] = set()
_swept: dict[Path, float] = {}


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Lend a place to write a file to, which becomes the target when nothing failed.

    Parameters
    ----------
    target : Path
        Where the file goes; what is there is replaced at the end.

    Yields
    ------
    Path
        The place; its last part is the target's.

    Raises
    ------
    ExportError
        The disk is full, the folder is not there or can't be written, the name is too long.
    """
    with told(target), set_aside(target.parent) as folder:
        place = folder / target.name
        yield place
        move_whole(place, target)


@contextlib.contextmanager
def told(place: object) -> Iterator[None]:
    """Name what can't be written where the system only says why.

    Parameters
    ----------
    place : object
        A path, or what else can be printed.

    Yields
    ------
    None
        Once.

    Raises
    ------
    ExportError
        The disk is full, the folder is not there or can't be written, the name is too long.
    """
    try:
        yield
    except OSError as exc:
        if isinstance(exc, S2L3AError):
            raise
        msg = f"{place} can't be written: {exc}"
        raise ExportError(msg, hint=what_helps(exc, place)) from exc


def move_whole(place: Path, target: Path) -> None:
    """Bring a complete file to the disk and give it its name.

    Parameters
    ----------
    place : Path
        The file.
    target : Path
        Its name, on the same disk; what is there is replaced.
    """
    _settle(place)
    place.replace(target)
    _settle_folder(target.parent)


@contextlib.contextmanager
def set_aside(folder: Path) -> Iterator[Path]:
    """Lend a hidden folder, and remove what dead processes left of theirs.

    Parameters
    ----------
    folder : Path
        In which it is made.

    Yields
    ------
    Path
        The hidden folder, this process's alone; gone at the end.
    """
    sweep(folder)
    part = folder / f".s2l3a-{_machine()}-{os.getpid()}.part-{uuid.uuid4().hex}"
    _mine.add(part.name)
    try:
        part.mkdir(mode=0o700)
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _mine.discard(part.name)


def sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder; at most once a minute, as it may hold thousands.

    Parameters
    ----------
    folder : Path
        The folder.
    """
    if time.monotonic() - _swept.get(folder, -_SWEEP_AGAIN_S) < _SWEEP_AGAIN_S:
        return
    _swept[folder] = time.monotonic()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            told = _PART.fullmatch(entry.name)
            if (
                told
                and entry.is_dir(follow_symlinks=False)
                and _is_left_over(Path(entry.path), told[1], int(told[2]))
            ):
                shutil.rmtree(entry.path, ignore_errors=True)


def publish_new(place: Path, target: Path) -> bool:
    """Give a complete file a further name that nothing has yet.

    Parameters
    ----------
    place : Path
        The file.
    target : Path
        The name, on the same disk.

    Returns
    -------
    bool
        False where something has the name already.
    """
    _settle(place)
    try:
        os.link(place, target)
    except FileExistsError:
        return False
    except OSError:  # a disk without links
        if target.exists():
            return False
        place.rename(target)
    return True


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    ExportError
        It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:
        msg = f"the folder {folder} can't be made: a file has that name; choose another folder."
        raise ExportError(msg) from exc
    except OSError as exc:
        msg = f"the folder {folder} can't be made: {exc.strerror or exc}; choose another place."
        raise ExportError(msg) from exc


def try_name(target: Path) -> None:
    """Find out whether a file can be written, before there is anything to write.

    Parameters
    ----------
    target : Path
        The file; nothing is done to it.

    Raises
    ------
    ExportError
        The folder can't be written, or the name is too long for it.
    """
    with told(target), set_aside(target.parent) as folder:
        (folder / target.name).touch()


def what_helps(exc: OSError, place: object) -> str:
    """Say what to do about a file that can't be written.

    Parameters
    ----------
    exc : OSError
        Why not.
    place : object
        The file's path, or what else is printed.

    Returns
    -------
    str
        The next step.
    """
    if exc.errno in {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)}:
        return "make room, or choose a folder on another disk"
    if exc.errno == errno.ENAMETOOLONG or getattr(exc, "winerror", None) == _TOO_LONG:
        return "choose a folder with a shorter path"
    if isinstance(exc, IsADirectoryError):
        return "a folder has that name: remove it, or choose another folder"
    # Windows lets nobody replace what a program holds open.
    if isinstance(exc, PermissionError) and isinstance(place, Path) and place.is_file():
        return "close it in other programs (a GIS, eCognition), or see who may write there"
    return "see who may write there, or choose another folder"


def _settle(place: Path) -> None:
    """Bring a file to the disk: a name must not outlive the bytes when the power fails."""
    with place.open("rb+") as file:
        os.fsync(file.fileno())


def _settle_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder can't be opened there; the journal keeps renames
    with contextlib.suppress(OSError):  # some network file systems refuse
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _is_left_over(part: Path, machine: str, pid: int) -> bool:
    if part.name in _mine:
        return False
    if machine == _machine() and (pid == os.getpid() or not _runs(pid)):
        return True
    touched = [path.stat().st_mtime for path in (part, *part.iterdir())]
    return time.time() - max(touched) > _STALE_S


def _runs(pid: int) -> bool:
    """Tell whether a process may be alive."""
    if os.name != "posix":
        return True  # asking would be Ctrl-C there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


@functools.cache
def _machine() -> str:
    """Name the machine; containers that number processes on their own are machines too."""
    numbers = ""
    with contextlib.suppress(OSError):
        numbers = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]
