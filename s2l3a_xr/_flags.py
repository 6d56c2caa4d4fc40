"""What the mask layers say: classes of pixels, weights, mean dates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._product import NODATA

FlagEncoding = Literal["classes", "bits"]
Mask: TypeAlias = "str | int | Iterable[str | int] | Literal[False] | None"
"""Classes by name or number."""

CLASSES = ("nodata", "cloud", "snow", "water", "land")
"""What FLG tells apart: the class' number is its position, or that of its bit."""

UNKNOWN = 255
"""FLG of pixels that no file gives."""

WEIGHT_SCALE = 1000
"""The weight of observations is the stored number divided by this."""

_LAST_DAY = 366
_AT_ONCE = ("cloud", "snow")


def read_classes(mask: Mask, name: str = "mask") -> tuple[int, ...]:
    """Take what a user wrote for classes.

    Parameters
    ----------
    mask : str, int, iterable of those, False or None
        ``("cloud", "snow")``, ``1``; False and None are none.
    name : str, default "mask"
        The keyword, for messages.

    Returns
    -------
    tuple of int
        Ascending numbers of classes.

    Raises
    ------
    SelectionError
        There is no such class.

    Examples
    --------
    >>> read_classes(("snow", "cloud")), read_classes("cloud"), read_classes(False)
    ((1, 2), (1,), ())
    """
    if mask is None or mask is False:
        return ()
    is_one = isinstance(mask, str) or not isinstance(mask, Iterable)
    asked: list[Any] = [mask] if is_one else list(mask)  # type: ignore[arg-type]
    found = {_number(item) for item in asked}
    if None in found or not found:
        known = ", ".join(f"{value} {text!r}" for value, text in enumerate(CLASSES))
        said = f"{name}={mask!r}", f"{name}={_AT_ONCE}; False is none"
        if name.startswith("--"):  # as it is written on the command line
            said = f"{name} {','.join(map(str, asked))}", f"{name} cloud,snow"
        msg = f"{said[0]} must be some of {known}, by name or number, such as {said[1]}."
        raise SelectionError(msg)
    return tuple(sorted(number for number in found if number is not None))


def _number(item: object) -> int | None:
    if isinstance(item, str) and item.strip().lower() in CLASSES:
        return CLASSES.index(item.strip().lower())
    is_number = isinstance(item, int | np.integer) and not isinstance(item, bool)
    return int(item) if is_number and 0 <= item < len(CLASSES) else None  # type: ignore[call-overload, operator]


def check_encoding(encoding: str) -> None:
    """Refuse an encoding of FLG that there is not.

    Parameters
    ----------
    encoding : str
        What the user wrote.

    Raises
    ------
    SelectionError
        It is neither ``"classes"`` nor ``"bits"``.
    """
    if encoding not in {"classes", "bits"}:
        msg = f"flag_encoding={encoding!r} must be 'classes' (0 to 4) or 'bits' (1, 2, 4, 8, 16)."
        raise SelectionError(msg)


def check_share(max_masked: float | None, name: str = "max_masked=") -> None:
    """Refuse what is no share.

    Parameters
    ----------
    max_masked : float or None
        What the user wrote.
    name : str, default "max_masked="
        What stands before it, for messages.

    Raises
    ------
    SelectionError
        It is not within 0 to 1.
    """
    if max_masked is None:
        return
    is_number = isinstance(max_masked, int | float | np.number)
    if not is_number or isinstance(max_masked, bool) or not 0 <= max_masked <= 1:
        msg = f"{name}{max_masked!r} must be a share of the area, 0 to 1, such as 0.2."
        raise SelectionError(msg)


def strange_flag(flags: np.ndarray, encoding: str) -> str | None:
    """Say what is wrong with pixels of FLG.

    Parameters
    ----------
    flags : ndarray of uint8
        As stored.
    encoding : {"classes", "bits"}
        What the numbers mean.

    Returns
    -------
    str or None
        None where each of them has a meaning.
    """
    most = _highest(encoding)
    highest = int(flags.max(initial=0))
    if highest <= most:
        return None
    if encoding == "bits":
        return f"FLG holds {highest}; as bits it can be {most} at most: no FLG of this product"
    return (
        f"FLG holds {highest}, which is none of its classes "
        f"({', '.join(f'{i} {name}' for i, name in enumerate(CLASSES))}). DLR's page calls FLG "
        "bitwise (bit 0 nodata, 1 cloud, 2 snow, 3 water, 4 land), while the processor writes "
        "classes; flag_encoding='bits' reads it as bits"
    )


def _highest(encoding: str) -> int:
    return len(CLASSES) - 1 if encoding == "classes" else 2 ** len(CLASSES) - 1


def class_table(encoding: str) -> np.ndarray:
    """Tell which class a pixel of FLG counts as.

    Parameters
    ----------
    encoding : {"classes", "bits"}
        What the numbers mean.

    Returns
    -------
    ndarray of uint8, shape (256,)
        Number of the class by value, `UNKNOWN` for others. Of several bits the lowest counts;
        none at all is nodata.
    """
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    for value in range(_highest(encoding) + 1):
        if encoding == "classes":
            table[value] = value
        else:  # the lowest bit's number
            table[value] = (value & -value).bit_length() - 1 if value else 0
    return table


def hiding_table(classes: tuple[int, ...], encoding: str) -> np.ndarray:
    """Tell which pixels a mask hides.

    Parameters
    ----------
    classes : tuple of int
        Numbers of the classes that are masked.
    encoding : {"classes", "bits"}
        What the numbers mean; any of several bits will do.

    Returns
    -------
    ndarray of bool, shape (256,)
        By value of FLG; what is unknown is hidden.
    """
    values = np.arange(256)
    if encoding == "classes":
        hidden: np.ndarray = np.isin(values, classes)
    else:
        hidden = (values & sum(1 << number for number in classes)) != 0
        hidden[0] = 0 in classes
    hidden[UNKNOWN] = True
    return hidden


def flag_attrs(encoding: str) -> dict[str, Any]:
    """Say what the numbers of FLG mean, by the CF conventions.

    Parameters
    ----------
    encoding : {"classes", "bits"}
        What the numbers mean.

    Returns
    -------
    dict
        ``flag_values`` or ``flag_masks`` (ndarray of uint8), and ``flag_meanings``.
    """
    numbers = np.arange(len(CLASSES), dtype=np.uint8)
    if encoding == "classes":
        return {"flag_values": numbers, "flag_meanings": " ".join(CLASSES)}
    return {"flag_masks": np.uint8(1) << numbers, "flag_meanings": " ".join(CLASSES)}


def decode_weight(weights: np.ndarray) -> np.ndarray:
    """Give the weight of the observations that pixels are made of.

    Parameters
    ----------
    weights : ndarray of int16
        WGT as stored.

    Returns
    -------
    ndarray of float32
        NaN for nodata, 0 for never seen clear.
    """
    scaled = weights.astype(np.float32) / np.float32(WEIGHT_SCALE)
    scaled[weights == NODATA] = np.nan
    return scaled


def decode_days(days: np.ndarray, when: np.datetime64) -> np.ndarray:
    """Give the mean date of the observations that pixels are made of.

    Around New Year a mosaic holds days of two years: the year is that which brings the day
    nearest to the mosaic's own date.

    Parameters
    ----------
    days : ndarray of int16
        DTS as stored: 1 January is 0.
    when : numpy.datetime64
        Date of the mosaic.

    Returns
    -------
    ndarray of datetime64[ns]
        NaT for nodata.

    Raises
    ------
    SelectionError
        A number is no day of a year.

    Examples
    --------
    >>> decode_days(np.array([9, 363, -10000]), np.datetime64("2021-01-15"))
    array(['2021-01-10T00:00:00.000000000', '2020-12-29T00:00:00.000000000',
           'NaT'], dtype='datetime64[ns]')
    """
    has = days != NODATA
    outside = days[has & ((days < 0) | (days > _LAST_DAY))]
    if outside.size:
        msg = (
            f"DTS holds {outside[0]} in the mosaic of {str(when)[:7]}, which is no day of a year "
            f"(0 is 1 January, {NODATA} nodata): a damaged file, or no numbers as they are stored; "
            "ask the array that was opened, or leave the month out."
        )
        raise SelectionError(msg)
    near = when.astype("datetime64[D]")
    years = near.astype("datetime64[Y]") + np.arange(-1, 2).astype("timedelta64[Y]")
    numbers = np.arange(_LAST_DAY + 1)
    each = years.astype("datetime64[D]")[:, None] + numbers.astype("timedelta64[D]")
    closest = np.abs(each - near).argmin(axis=0)
    table = np.append(each[closest, numbers], np.datetime64("NaT", "D"))
    found: np.ndarray = table.astype("datetime64[ns]")[np.where(has, days, _LAST_DAY + 1)]
    return found
