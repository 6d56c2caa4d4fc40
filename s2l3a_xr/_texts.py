"""What is shown to people: without secrets, and without what commands a terminal."""

from __future__ import annotations

import re

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
