"""Paths in the forms that users write."""

from __future__ import annotations

import os
from pathlib import Path

from s2l3a_xr._errors import InputError
from s2l3a_xr._texts import printable

_SHOWN = 200


def take_path(place: object, what: str, error: type[InputError]) -> Path:
    """Take what a user wrote for a file or folder, which need not be there.

    Parameters
    ----------
    place : object
        A text or path; ``~`` is the user's home.
    what : str
        What it is for, such as ``directory``, for messages.
    error : type
        Which error to raise.

    Returns
    -------
    pathlib.Path
        Absolute.

    Raises
    ------
    InputError
        Of the given type: it is no path, or none that this system can have.

    Examples
    --------
    >>> take_path("a/b.json", "inventory", InputError).name
    'b.json'
    """
    if not isinstance(place, str | os.PathLike):
        msg = f"{what} must be a path, not a {type(place).__name__}: give a text or pathlib.Path."
        raise error(msg)
    try:
        path = Path(place).expanduser().absolute()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, RuntimeError, TypeError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        shown = printable(str(place))[:_SHOWN]
        msg = f"{what} {shown!r} can't be a path here: {reason}; choose another."
        raise error(msg) from exc
    return path
