"""Tables that say in one line what they amount to."""

from __future__ import annotations

import html

import pandas as pd


class Table(pd.DataFrame):  # type: ignore[misc]  # pandas brings no types
    """A DataFrame that prints ``attrs["summary"]`` above its rows.

    What is made from it by pandas is a plain DataFrame: its rows are others. An empty one
    prints the summary alone.
    """

    def __repr__(self) -> str:
        summary = str(self.attrs.get("summary", ""))
        if not summary:
            return str(super().__repr__())
        return summary if self.empty else f"{summary}\n{super().__repr__()}"

    def _repr_html_(self) -> str | None:
        body = super()._repr_html_()
        if body is None:  # pandas is asked for plain text
            return None
        summary = str(self.attrs.get("summary", ""))
        return f"<div>{html.escape(summary)}{'' if summary and self.empty else body}</div>"


def summed_up(table: pd.DataFrame, summary: str) -> Table:
    """Give a table its line.

    Parameters
    ----------
    table : pandas.DataFrame
        Any.
    summary : str
        What its rows amount to.

    Returns
    -------
    Table
        The same rows.
    """
    told = Table(table)
    told.attrs["summary"] = summary
    return told
