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
    ├── MaskedWarning                    months left out, too much of which is masked
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
import warnings

from s2l3a_xr._texts import one_line, redact


class S2L3AError(Exception):
    """Base of every error that this package raises.

    Parameters
    ----------
    message : str
        What went wrong and where; URLs in it are redacted.
    **place : object
        Facts of the place, kept as attributes; and ``hint``, what to do next, where the
        message does not say so itself. It ends every message: no server's text suppresses it.

    Examples
    --------
    >>> import s2l3a_xr
    >>> try:
    ...     s2l3a_xr.open_l3a("nowhere.geojson")
    ... except s2l3a_xr.S2L3AError as error:
    ...     print(error)
    no such AOI file: 'nowhere.geojson' (looked in ...); check the path.
    """

    hint: str = ""
    """What to do next; empty where the message says so itself."""

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
    """What the caller asked for can't be done.

    Examples
    --------
    >>> import s2l3a_xr
    >>> issubclass(s2l3a_xr.InputError, ValueError)
    True
    """


class AoiError(InputError):
    """The area of interest can't be used.

    Examples
    --------
    >>> import s2l3a_xr
    >>> s2l3a_xr.buffer_aoi((11.68, 51.94, 11.70, 51.96), -2000)
    Traceback (most recent call last):
    s2l3a_xr._errors.AoiError: nothing of the AOI ... is left ...; give a smaller distance.
    """


class SelectionError(InputError):
    """Years, months, bands, chunks or options can't be used.

    Examples
    --------
    >>> import s2l3a_xr
    >>> s2l3a_xr.open_l3a((11.68, 51.94, 11.70, 51.96), time="2021-13")
    Traceback (most recent call last):
    s2l3a_xr._errors.SelectionError: time='2021-13': '2021-13' is no month; write '2021-03', ...
    """


class ExportError(InputError):
    """An array can't be written where and how it was asked.

    Examples
    --------
    >>> import s2l3a_xr, xarray as xr
    >>> s2l3a_xr.to_geotiff(xr.DataArray([1]), "out")
    Traceback (most recent call last):
    s2l3a_xr._errors.ExportError: the array has no 'time' coordinate, ...; add it with ...
    """


class ArchiveError(S2L3AError):
    """A listing or catalogue can't be read or understood.

    Examples
    --------
    >>> import s2l3a_xr
    >>> url = "http://127.0.0.1:8000/eoc/ogc/stac/v1"  # s2l3a serve-sample
    >>> archive = s2l3a_xr.StacArchive(url, collection="S2_L3A")
    >>> s2l3a_xr.search_l3a((11.68, 51.94, 11.70, 51.96), archive=archive)
    Traceback (most recent call last):
    s2l3a_xr._errors.ArchiveError: ... has no collection 'S2_L3A'; it has S2_L3A_WASP...
    """


class MissingError(ArchiveError):
    """The archive has not got what was asked for.

    Examples
    --------
    >>> import s2l3a_xr
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> s2l3a_xr.open_l3a((11.68, 51.94, 11.70, 51.96), time="2021-07", archive=archive)
    Traceback (most recent call last):
    s2l3a_xr._errors.MissingError: the archive has nothing for 2021-07 ... Ask for other ...
    """


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

    Examples
    --------
    >>> from s2l3a_xr import ReadError
    >>> error = ReadError("the block does not unpack", url="https://me:secret@example.org/B4.tif")
    >>> error.at(band="B4", block=(3, 5)).place
    {'url': 'https://example.org/B4.tif', 'band': 'B4', 'block': (3, 5)}
    >>> error.url, error.block, error.status
    ('https://example.org/B4.tif', (3, 5), None)
    >>> print(error)
    the block does not unpack [https://example.org/B4.tif, band B4, block (3, 5)]; ...
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
        """Dict of what is known of the place, by name."""
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
    """The connection broke or the server's answer can't be used.

    Examples
    --------
    >>> from s2l3a_xr import TransportError
    >>> print(TransportError("no byte came for 10 s", url="https://example.org/B4.tif", attempts=3))
    no byte came for 10 s [https://example.org/B4.tif, attempts 3]; try again later; ...
    """

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
    """The server says that there is no such file (404, 410, 451).

    Examples
    --------
    >>> from s2l3a_xr import GoneError
    >>> print(GoneError("there is no such file", url="https://example.org/B4.tif"))
    there is no such file [https://example.org/B4.tif]; search again, it may have moved; ...
    """

    hint = "search again, it may have moved; missing='warn' reads what is gone as nodata"


class FileChangedError(ReadError):
    """The file was replaced on the server while it was being read.

    Examples
    --------
    >>> from s2l3a_xr import FileChangedError
    >>> print(FileChangedError("it is another file now", url="https://example.org/B4.tif"))
    it is another file now [https://example.org/B4.tif]; open it again and read all of it: ...
    """

    hint = "open it again and read all of it: an array has pixels of one version of each file alone"


class FormatError(ReadError):
    """The file is not the TIFF that it must be.

    Examples
    --------
    >>> from s2l3a_xr import FormatError
    >>> print(FormatError("this is no TIFF file", url="https://example.org/B4.tif"))
    this is no TIFF file [https://example.org/B4.tif]; tell the archive's operator ...
    """

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

    Examples
    --------
    >>> import s2l3a_xr, warnings
    >>> archive = "http://127.0.0.1:8000/S2_L3A_WASP/files/"  # s2l3a serve-sample
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always", s2l3a_xr.S2L3AWarning)
    ...     da = s2l3a_xr.open_l3a((11.7, 51.9, 11.8, 52), time="2021-06/2021-08", archive=archive)
    >>> print(told[0].message)
    the archive has 8 of 12 files: nothing in 2021-07. Empty months are left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class AoiWarning(S2L3AWarning):
    """The area was repaired, or reaches past the offered tiles.

    Examples
    --------
    >>> import s2l3a_xr, warnings
    >>> warnings.simplefilter("error", s2l3a_xr.AoiWarning)  # an area that is not whole is an error
    """


class MaskedWarning(S2L3AWarning):
    """Months that are left out, since too much of the area is masked.

    Examples
    --------
    >>> import s2l3a_xr, warnings
    >>> warnings.simplefilter("ignore", s2l3a_xr.MaskedWarning)  # which they are is of no interest
    """


class MissingWarning(S2L3AWarning):
    """Months, tiles or files that the archive has not got.

    Examples
    --------
    >>> import s2l3a_xr, warnings
    >>> warnings.simplefilter("ignore", s2l3a_xr.MissingWarning)  # it has been told
    """


class ReadFailedWarning(S2L3AWarning):
    """What could not be read became nodata, as ``fail_on_error=False`` asks for.

    Examples
    --------
    >>> import s2l3a_xr, warnings
    >>> warnings.simplefilter("ignore", s2l3a_xr.ReadFailedWarning)  # da.l3a.failures() tells it
    """


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
