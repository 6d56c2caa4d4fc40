"""The policy on what the archive has not got: which months are opened, and what is told."""

from __future__ import annotations

from s2l3a_xr._errors import MissingError, MissingWarning, warn_user
from s2l3a_xr._gaps import judged_alone, missing_files, tell_lacks
from s2l3a_xr._inventory import Inventory
from s2l3a_xr._selection import Month, spans_text
from s2l3a_xr._texts import redact


def months_to_keep(inventory: Inventory, missing: str, *, judged: bool = False) -> list[Month]:
    """Apply the policy on what the archive has not got.

    Parameters
    ----------
    inventory : Inventory
        What there is.
    missing : {"warn", "keep", "raise"}
        The policy.
    judged : bool, default False
        Whether months without FLG have nothing, since all is masked by it.

    Returns
    -------
    list of Month
        Months of the result.

    Raises
    ------
    MissingError
        Nothing is there, or something is not and that is an error.
    """
    cells = judged_alone(inventory.cells, inventory.bands) if judged else inventory.cells
    there = {cell.month for cell in cells if any(cell.has)}
    empty = set(inventory.missing_months)
    unjudged = spans_text(sorted({*inventory.months} - there - empty))
    if inventory.available < len(inventory) and missing != "keep":
        kept = [cell for cell in cells if cell.month in there]
        gaps = _gaps(inventory)
        if lacks := tell_lacks(kept, inventory.bands, inventory.aoi, inventory.cover):
            gaps.append(lacks)
        text = f"the archive has {inventory.available} of {len(inventory)} files: {'; '.join(gaps)}"
        where = redact(inventory.archive_url)
        if not inventory.available:
            asked = f"bands {', '.join(inventory.bands)} of {', '.join(inventory.tiles)}"
            msg = (
                f"{text} ({asked} in {where}). Ask for other bands or "
                "months, or print search_l3a(…) of them to see what there is."
            )
            raise MissingError(msg, url=inventory.archive_url)
        if not there:
            msg = (
                f"{text} (in {where}). mask= and max_masked= judge by FLG, which no product has "
                "beside a band; leave them out. A mirror has the masks that were asked for by "
                "name: bands=[…, 'FLG']."
            )
            raise MissingError(msg, url=inventory.archive_url)
        if missing == "raise":
            msg = f"{text} (in {where}). missing='warn' leaves empty months out and goes on."
            raise MissingError(msg, url=inventory.archive_url)
        told = [f"{text}."]
        if empty:
            told.append("Empty months are left out.")
        if unjudged:
            told.append(f"Months without FLG to judge by are left out: {unjudged}.")
        warn_user(" ".join(told), MissingWarning)
    return [month for month in inventory.months if missing == "keep" or month in there]


def _gaps(inventory: Inventory) -> list[str]:
    empty = inventory.missing_months
    told = [f"nothing in {spans_text(empty)}"] if empty else []
    if partial := missing_files(inventory.cells, inventory.bands):
        where = "in other months " if empty else ""
        told.append(f"{where}{len(partial)} missing, first {partial[0]}")
    return told
