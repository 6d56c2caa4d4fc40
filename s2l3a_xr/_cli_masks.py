"""Options about masks, and what they mean to the library."""

from __future__ import annotations

from typing import Any

import click

from s2l3a_xr._cli_options import option, together

mask_options = together(
    option(
        "Masks",
        "--mask",
        metavar="CLASSES",
        help="Write nodata where FLG says so: cloud,snow of nodata, cloud, snow, water, land.",
    ),
    option(
        "Masks",
        "--max-masked",
        type=float,
        metavar="SHARE",
        help="Leave out months of which a larger share of the area (0 to 1) is nodata or of the "
        "classes in --mask, by default cloud and snow.",
    ),
    option(
        "Masks",
        "--flag-encoding",
        type=click.Choice(["classes", "bits"]),
        help="What the numbers in FLG mean. [default: classes]",
    ),
)
"""What the masks are used for."""


def take_masks(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options about masks out of what was given, checked before anything is asked.

    Parameters
    ----------
    given : dict
        All options; these are removed.

    Returns
    -------
    dict
        Keywords of ``open_l3a``; only those that were given.

    Raises
    ------
    SelectionError
        There is no such class or share.
    """
    from s2l3a_xr._flags import check_share, read_classes  # noqa: PLC0415 - heavy; --help stays quick

    words = {name: given.pop(name) for name in ("mask", "max_masked", "flag_encoding")}
    if words["mask"] is not None:
        parts = [part.strip() for part in words["mask"].split(",")]
        words["mask"] = read_classes([int(p) if p.isdigit() else p for p in parts], "--mask")
    check_share(words["max_masked"], "--max-masked ")
    return {name: value for name, value in words.items() if value is not None}


def with_flags(bands: list[str], masks: dict[str, Any]) -> list[str]:
    """Search for FLG too where it is needed.

    Parameters
    ----------
    bands : list of str
        What is wanted.
    masks : dict
        From `take_masks`.

    Returns
    -------
    list of str
        The same, and FLG behind it perhaps.
    """
    if not masks:
        return bands
    from s2l3a_xr._open import with_flags as with_flags_too  # noqa: PLC0415 - heavy; --help stays quick

    return list(with_flags_too(tuple(bands)))
