"""What computing an array will fetch, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from s2l3a_xr._errors import SelectionError
from s2l3a_xr._inventory import volume_text
from s2l3a_xr._reading import plan_request
from s2l3a_xr._rehearsal import record_reads
from s2l3a_xr._tables import summed_up
from s2l3a_xr._texts import redact
from s2l3a_xr._transport import run_with_session

# In a narrow terminal pandas leaves out the middle, where what is long and matters least stands.
_COLUMNS = ["tile", "month", "band", "start", "url", "stop", "bytes", "blocks"]


def plan_array(da: xr.DataArray) -> pd.DataFrame:
    """Say what computing an array will fetch, see ``da.l3a.plan``.

    Parameters
    ----------
    da : xarray.DataArray
        As opened, or made from it by lazy steps.

    Returns
    -------
    pandas.DataFrame
        A row for each byte range, with a summary in ``attrs``.

    Raises
    ------
    SelectionError
        The pixels have been computed, or come from elsewhere.
    """
    found = record_reads(da if da.chunks else da.chunk(-1))
    if found is None:
        msg = (
            "there is nothing to plan: the array's pixels have been computed, or do not come "
            "from one open_l3a; ask the array that was opened."
        )
        raise SelectionError(msg)
    request, reads = found
    planned = run_with_session(
        request.transport, lambda session: plan_request(session, request, reads)
    )
    table = pd.DataFrame(
        [
            (
                source.tile.name,
                source.month,
                source.band,
                part.start,
                redact(source.url),
                part.stop,
                part.stop - part.start,
                len(part.targets),
            )
            for source, part in planned
        ],
        columns=_COLUMNS,
    )
    return _summed_up(table)


def join_plans(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Make one plan of those of several bands, which have no block in common.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        As `plan_array` gives them.

    Returns
    -------
    pandas.DataFrame
        All their rows.
    """
    return _summed_up(pd.concat(tables, ignore_index=True))


def _summed_up(table: pd.DataFrame) -> pd.DataFrame:
    summary = (
        f"{table['url'].nunique()} files, {len(table)} ranges, "
        f"{volume_text(int(table['bytes'].sum()))} in {int(table['blocks'].sum())} blocks"
    )
    return summed_up(table, summary)
