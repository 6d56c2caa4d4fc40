"""All errors and warnings of the package, as one tree.

::

    S2L3AError
    ├── InputError (also ValueError)     what the caller asked for can't be done
    │   ├── AoiError                     the area of interest
    │   ├── SelectionError               years, months, bands, chunks, options
    │   └── ExportError                  the array or the folder to be written
    ├── ArchiveError                     a listing or catalogue can't be understood
    │   └── MissingError                 the archive has not got what was asked for
    └── ReadError                        bytes or pixels could not be read
        ├── TransportError               the connection or the server's answer
        │   └── GoneError                the server says that there is no such file
        ├── FileChangedError             the file was replaced while it was read
        └── FormatError                  the file is not the TIFF that it must be

    S2L3AWarning (also UserWarning)
    ├── AoiWarning                       the area was repaired or reaches past the tiles
    ├── MissingWarning                   months, tiles or files that the archive lacks
    └── ReadFailedWarning                a failed read became nodata, as was asked for

Every error carries what is known of the place in its attributes (``url``, ``item``,
``tile``, ``band``, ``month``, ``block``, ``byte_range``, ``status``, ``attempts``) and
survives pickle: the message is the only positional argument, all else lives in ``__dict__``.
User info and queries of URLs reach neither messages nor attributes.
"""

from __future__ import annotations

import inspect
import re
import warnings

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s<>]+")
_USER_INFO = re.compile(r"(?<=//)[^/\s?#]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)


def redact(url: str) -> str:
    """Return a URL without user info and query, fit for messages and logs.

    Parameters
    ----------
    url : str
        Any URL or path.

    Returns
    -------
    str
        The same place without secrets.

    Examples
    --------
    >>> redact("https://me:secret@example.org/a.tif?token=1")
    'https://example.org/a.tif'
    """
    if "://" not in url:
        return url
    return _QUERY.sub("", _USER_INFO.sub("", url))


def _redact_text(text: str) -> str:
    """Redact every URL in a sentence, and leave what closes it."""

    def clean(found: re.Match[str]) -> str:
        url = found[0].rstrip("'\",;:.)]}")
        return redact(url) + found[0][len(url) :]

    return _URL.sub(clean, text)


class S2L3AError(Exception):
    """Base of every error that this package raises.

    Parameters
    ----------
    message : str
        What went wrong, where, and what to do next; URLs in it are redacted.
    **place : object
        Facts of the place, kept as attributes.
    """

    def __init__(self, message: str, **place: object) -> None:
        super().__init__(_redact_text(message))
        self.__dict__.update(place)


class InputError(S2L3AError, ValueError):
    """What the caller asked for can't be done."""


class AoiError(InputError):
    """The area of interest can't be used."""


class SelectionError(InputError):
    """Years, months, bands, chunks or options can't be used."""


class ExportError(InputError):
    """An array can't be written where and how it was asked."""


class ArchiveError(S2L3AError):
    """A listing or catalogue can't be read or understood."""


class MissingError(ArchiveError):
    """The archive has not got what was asked for."""


class ReadError(S2L3AError):
    """Bytes or pixels of one file could not be read.

    Parameters
    ----------
    reason : str
        What went wrong and what to do next.
    url : str
        The file; user info and query never reach the message.
    item, tile, band, month : str, optional
        The product, its tile, the band and ``YYYY-MM``.
    block : tuple of int, optional
        Row and column of the TIFF block.
    byte_range : tuple of int, optional
        First byte and the byte behind the last one.
    status : int, optional
        HTTP status of the last answer.
    attempts : int, optional
        How often it was tried.
    """

    reason: str
    url: str
    item: str | None
    tile: str | None
    band: str | None
    month: str | None
    block: tuple[int, int] | None
    byte_range: tuple[int, int] | None
    status: int | None
    attempts: int | None

    def __init__(self, reason: str, **place: object) -> None:
        fields = dict.fromkeys(
            ("item", "tile", "band", "month", "block", "byte_range", "status", "attempts")
        )
        super().__init__(reason, **{**fields, "url": "", **place})
        self.url, self.reason = redact(self.url), str(self.args[0])

    def at(self, **place: object) -> ReadError:
        """Add facts of the place that the raiser could not know.

        Parameters
        ----------
        **place : object
            Attributes to fill in where they are still unknown.

        Returns
        -------
        ReadError
            This error.
        """
        for name, value in place.items():
            if getattr(self, name, None) in {None, ""}:
                setattr(self, name, redact(value) if isinstance(value, str) else value)
        return self

    def __str__(self) -> str:
        where = [self.url]
        for label, value in (
            ("band", self.band),
            ("month", self.month),
            ("block", self.block),
            ("HTTP status", self.status),
            ("attempts", self.attempts),
        ):
            if value is not None:
                where.append(f"{label} {value}")
        if self.byte_range is not None:
            where.append(f"bytes {self.byte_range[0]}-{self.byte_range[1] - 1}")
        return f"{self.reason} [{', '.join(filter(None, where))}]"


class TransportError(ReadError):
    """The connection broke or the server's answer can't be used."""


class GoneError(TransportError):
    """The server says that there is no such file (404, 410)."""


class FileChangedError(ReadError):
    """The file was replaced on the server while it was being read."""


class FormatError(ReadError):
    """The file is not the TIFF that it must be."""


class S2L3AWarning(UserWarning):
    """Base of every warning that this package raises."""


class AoiWarning(S2L3AWarning):
    """The area was repaired, or reaches past the offered tiles."""


class MaskedWarning(S2L3AWarning):
    """Months that are left out, since too much of the area is masked."""


class MissingWarning(S2L3AWarning):
    """Months, tiles or files that the archive has not got."""


class ReadFailedWarning(S2L3AWarning):
    """What could not be read became nodata, as ``fail_on_error=False`` asks for."""


def warn_user(message: str, category: type[S2L3AWarning]) -> None:
    """Warn of what a user's line brought about, naming that line and none of this package.

    Parameters
    ----------
    message : str
        What it is, and what to do.
    category : type
        Which kind of warning.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("s2l3a_xr."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
