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
``tile``, ``band``, ``month``, ``block``, ``byte_range``, ``status``, ``attempts``), says what
to do next, and survives pickle: the message is the only positional argument, all else lives in
``__dict__``. User info and queries of URLs reach neither messages nor attributes, and neither do
characters that command a terminal: much of what errors tell was written by servers.
"""

from __future__ import annotations

import inspect
import re
import warnings

# Servers choose these texts: no pattern may take longer than the text is long.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s<>]+")
_USER_INFO = re.compile(r"(?<=//)[^/\s?#]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_LINE_BREAKS = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_COMMANDS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, marks that turn the direction of writing, and halves of characters."""


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


def printable(text: str) -> str:
    r"""Return a text in which nothing commands the terminal that shows it.

    Parameters
    ----------
    text : str
        Perhaps of a server or file.

    Returns
    -------
    str
        With escapes in place of control characters; tabs and line feeds stay.

    Examples
    --------
    >>> printable("red \x1b[31malert")
    'red \\x1b[31malert'
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""Make one line of a text, fit to be shown.

    Parameters
    ----------
    text : str
        Perhaps of a server or file.

    Returns
    -------
    str
        URLs in it are redacted, what closes them stays; control characters are escaped.

    Examples
    --------
    >>> one_line("see http://me:secret@example.org/a?b,\nor not")
    'see http://example.org/a, or not'
    """

    def redacted(found: re.Match[str]) -> str:
        url = found[0].rstrip("'\",;:.)]}")
        return redact(url) + found[0][len(url) :]

    lines = (line.strip(" \t") for line in _LINE_BREAKS.split(text))
    return printable(_URL.sub(redacted, " ".join(filter(None, lines)).strip()))


class S2L3AError(Exception):
    """Base of every error that this package raises.

    Parameters
    ----------
    message : str
        What went wrong and where; URLs in it are redacted.
    **place : object
        Facts of the place, kept as attributes; and ``hint``, what to do next, where the
        message does not say so itself. It ends every message: no server's text suppresses it.
    """

    hint: str = ""

    def __init__(self, message: str, **place: object) -> None:
        super().__init__(one_line(message))
        self._keep(place)

    def _keep(self, place: dict[str, object]) -> None:
        for name, value in place.items():
            clean = one_line(value) if isinstance(value, str) else value
            setattr(self, name, redact(str(clean)) if name == "url" else clean)

    def __str__(self) -> str:
        return self._with_hint(str(self.args[0]))

    def _with_hint(self, text: str) -> str:
        if not self.hint:
            return text
        return f"{text} {self.hint}" if text.endswith(".") else f"{text}; {self.hint}"


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
        What went wrong.
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
    hint : str, optional
        What to do next; what helps with errors of its kind by default.
    """

    hint = "fail_on_error=False (--keep-going) goes on without it and lists it"

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
        super().__init__(reason, **{**dict.fromkeys(_PLACE), "url": "", **place})
        self.reason = str(self.args[0])

    @property
    def place(self) -> dict[str, object]:
        """What is known of the place, for an error that takes this one's stead."""
        known = {name: getattr(self, name) for name in ("url", *_PLACE)}
        return {name: value for name, value in known.items() if value not in {None, ""}}

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
        unknown = {n: v for n, v in place.items() if getattr(self, n, None) in {None, ""}}
        self._keep(unknown)
        return self

    def __str__(self) -> str:
        where = [self.url]
        for label, value in (
            ("product", None if (self.item or "") in self.url else self.item),
            ("tile", None if self.item else self.tile),
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
        known = ", ".join(filter(None, where))
        return self._with_hint(f"{self.reason} [{known}]" if known else self.reason)


_PLACE = ("item", "tile", "band", "month", "block", "byte_range", "status", "attempts")


class TransportError(ReadError):
    """The connection broke or the server's answer can't be used."""

    hint = "try again later; `s2l3a doctor URL` tells how the server behaves"

    def __init__(self, reason: str, **place: object) -> None:
        helps = _HINTS.get(place.get("status"))
        super().__init__(reason, **({"hint": helps} if helps else {}) | place)


_LOGIN = "the server does not allow you in: log in, ask its operator, or use another archive"
_HINTS: dict[object, str] = {
    400: "the server takes this address for wrong: see whether a browser shows something there",
    401: _LOGIN,
    403: _LOGIN,
    407: "the proxy wants a login: name user and password in HTTPS_PROXY or HTTP_PROXY",
    416: "the file became shorter: search and open it again",
}
"""What to do about some statuses; all others pass or not."""


class GoneError(TransportError):
    """The server says that there is no such file (404, 410)."""

    hint = "search again, it may have moved; missing='warn' reads what is gone as nodata"


class FileChangedError(ReadError):
    """The file was replaced on the server while it was being read."""

    hint = "open it again and read all of it: an array has pixels of one version of each file alone"


class FormatError(ReadError):
    """The file is not the TIFF that it must be."""

    hint = (
        "tell the archive's operator if it stays so; fail_on_error=False (--keep-going) goes on "
        "without it and lists it"
    )


class S2L3AWarning(UserWarning):
    """Base of every warning that this package raises.

    Parameters
    ----------
    message : str
        What it is, and what to do; cleaned like an error's.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class AoiWarning(S2L3AWarning):
    """The area was repaired, or reaches past the offered tiles."""


class MaskedWarning(S2L3AWarning):
    """Months that are left out, since too much of the area is masked."""


class MissingWarning(S2L3AWarning):
    """Months, tiles or files that the archive has not got."""


class ReadFailedWarning(S2L3AWarning):
    """What could not be read became nodata, as ``fail_on_error=False`` asks for."""


_BEHIND_USERS = ("s2l3a_xr.", "xarray.backends.")


def warn_user(message: str, category: type[S2L3AWarning]) -> None:
    """Warn of what a user's line brought about, naming that line and none of ours or xarray's.

    Parameters
    ----------
    message : str
        What it is, and what to do.
    category : type
        Which kind of warning.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_BEHIND_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
