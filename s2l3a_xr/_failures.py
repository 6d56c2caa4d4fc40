"""What could not be read and became nodata: noted where it happens, told where it is asked for.

Rows are plain dicts of JSON's types, kept by request. A process keeps its own; a dask worker
also tells the scheduler (`distributed`'s structured events), which tells the client; a child of
dask's scheduler "processes" writes to a folder that its array names. Nothing of this happens
unless something failed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from s2l3a_xr._cluster import current_client, dask_worker
from s2l3a_xr._errors import GoneError, MissingWarning, ReadError, ReadFailedWarning
from s2l3a_xr._mosaic import rasterio_lock
from s2l3a_xr._tables import summed_up

_log = logging.getLogger(__name__)

Row: TypeAlias = dict[str, Any]

GONE, FAILED = "gone", "failed"

_PLACE = ("url", "status", "block", "start", "stop")
_NUMBERS = ("start", "stop", "http_status", "attempts")
# In a narrow terminal pandas leaves out the middle.
_COLUMNS = (
    *("month", "band", "tile", "http_status", "attempts", "item", "url", "when"),
    *("block", "start", "stop", "status", "cause"),
)
_NAMED = 3


class _Ledger:
    """What this process knows; forked children begin their own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = threading.Lock()
        self.rows: dict[str, dict[tuple[object, ...], Row]] = {}
        self.warned: set[tuple[str, str]] = set()
        self.folder: str | None = None
        self.heard: set[tuple[str, str]] = set()

    def keep(self, token: str, rows: Iterable[Row]) -> None:
        """Keep the latest row of each place."""
        with self.lock:
            kept = self.rows.setdefault(token, {})
            for row in rows:
                place = tuple(str(row[name]) for name in _PLACE)
                if place not in kept or kept[place]["when"] <= row["when"]:
                    kept[place] = row

    def new_to_warn(self, token: str, rows: Iterable[Row]) -> list[Row]:
        """Choose what nobody was warned of: each file that is gone, one failed read."""
        chosen = []
        with self.lock:
            for row in rows:
                key = (token, row["url"] if row["status"] == GONE else "")
                if key not in self.warned:
                    self.warned.add(key)
                    chosen.append(row)
        return chosen


_ledger = _Ledger()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ledger.forget)


def home_folder() -> str:
    """Name the folder in which child processes leave what they have to tell this one.

    Returns
    -------
    str
        A path that nobody can guess; made by the first child that needs it.
    """
    with _ledger.lock:
        if _ledger.folder is None:
            _ledger.folder = str(Path(tempfile.gettempdir()) / f"s2l3a_xr-{uuid.uuid4().hex}")
        return _ledger.folder


@atexit.register
def _clean_up() -> None:
    if _ledger.folder is not None:
        shutil.rmtree(_ledger.folder, ignore_errors=True)


def report(token: str, errors: Sequence[ReadError], *, home: str | None, quiet: bool) -> None:
    """Note what became nodata, and warn of what is new.

    Parameters
    ----------
    token : str
        Which request.
    errors : sequence of ReadError
        What happened.
    home : str or None
        Folder of the process that the array comes from, see `home_folder`.
    quiet : bool
        Whether files that are gone are no reason to warn.
    """
    rows = [_row(error) for error in errors]
    _ledger.keep(token, rows)
    loud = [row for row in rows if not (quiet and row["status"] == GONE)]
    worker = dask_worker()
    if worker is not None:
        # One event for each reading: the scheduler keeps the last 1000 of a topic.
        event = {"token": token, "rows": rows, "loud": [row["id"] for row in loud]}
        worker.log_event(_topic(token), event)
        if loud:  # the client warns; it may be this very process
            first = loud[0]
            _log.warning("%d reads became nodata: %s: %s", len(loud), first["url"], first["cause"])
        return
    if home not in {None, _ledger.folder} and multiprocessing.parent_process() is not None:
        _leave_at_home(token, rows, Path(str(home)))
    with rasterio_lock:  # or the warning may be hidden with rasterio's own
        _warn(token, loud)


def _row(error: ReadError) -> Row:
    is_gone = isinstance(error, GoneError)
    part = None if is_gone else error.byte_range
    start, stop = map(int, part) if part is not None else (None, None)
    return {
        "id": uuid.uuid4().hex,
        "when": time.time(),
        "url": error.url,
        "item": error.item,
        "tile": error.tile,
        "month": error.month,
        "band": error.band,
        "status": GONE if is_gone else FAILED,
        "block": list(map(int, error.block)) if error.block is not None else None,
        "start": start,
        "stop": stop,
        "http_status": error.status,
        "attempts": error.attempts,
        "cause": error.reason,
    }


def _warn(token: str, rows: Sequence[Row]) -> None:
    new = _ledger.new_to_warn(token, rows)
    gone = sorted({row["url"] for row in new if row["status"] == GONE})
    if gone:
        names = ", ".join(gone[:_NAMED]) + (", …" if len(gone) > _NAMED else "")
        warnings.warn(
            f"{len(gone)} listed file(s) are gone from the archive and count as nodata: {names}; "
            "da.l3a.failures() lists all, missing='raise' makes this an error.",
            MissingWarning,
            stacklevel=4,
        )
    for row in new:
        if row["status"] == FAILED:
            warnings.warn(
                "what could not be read is nodata, as fail_on_error=False asks for; the first is "
                f"{row['url']}: {row['cause']}; da.l3a.failures() lists all.",
                ReadFailedWarning,
                stacklevel=4,
            )


def failures_of(tokens: Iterable[str], home: str | None = None) -> list[Row]:
    """Tell what became nodata, in this process, its children and on the cluster.

    Parameters
    ----------
    tokens : iterable of str
        Which requests.
    home : str, optional
        Folder of the process that asks, where that is not this one.

    Returns
    -------
    list of dict
        The latest row of each place.
    """
    tokens = tuple(tokens)
    folder = home or _ledger.folder
    for token in tokens:
        if folder is not None:
            _ledger.keep(token, _read_home(token, Path(folder)))
        for event in _events(token):
            _ledger.keep(token, event["rows"])
    with _ledger.lock:
        return [row for token in tokens for row in _ledger.rows.get(token, {}).values()]


def failure_table(tokens: Iterable[str]) -> pd.DataFrame:
    """Tell what became nodata, as a table.

    Parameters
    ----------
    tokens : iterable of str
        Which requests.

    Returns
    -------
    pandas.DataFrame
        A row for each file or part of it, by month, band and place.
    """
    rows = [
        {**row, "block": tuple(row["block"]) if row["block"] else None}
        for row in failures_of(tokens)
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_NUMBERS, "Int64"))
    table["when"] = pd.to_datetime(table["when"].astype("float64"), unit="s", utc=True)
    table = table.sort_values(["month", "band", "url", "start", "block"], ignore_index=True)
    counts = Counter(table["status"])
    words = {GONE: "listed file(s) gone", FAILED: "part(s) not read"}
    told = ", ".join(f"{counts[kind]} {word}" for kind, word in words.items() if counts[kind])
    summary = f"{told}: nodata stands there" if told else "nothing failed in what was computed"
    return summed_up(table, summary)


def _leave_at_home(token: str, rows: Sequence[Row], home: Path) -> None:
    """Append to a file of this process's own, so that no two write to one."""
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        with (home / f"{token}.{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")
    except OSError as exc:
        _log.warning("failures can't be told to the process that asked: %s", exc)


def _read_home(token: str, home: Path) -> list[Row]:
    rows: list[Row] = []
    for path in home.glob(f"{token}.*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a child that was killed while it wrote
                rows += json.loads(line)
    return rows


def _topic(token: str) -> str:
    return f"s2l3a_xr-{token}"


def _events(token: str) -> list[Row]:
    client = current_client(of_worker=True)
    if client is None or client.asynchronous:
        return []
    try:
        return [event for _, event in client.get_events(_topic(token))]
    except OSError:  # the cluster went away; what it told before is known
        return []


def listen(name: Callable[[], str]) -> None:
    """Have the scheduler tell this process's client of a request's failures as they happen.

    So warnings are raised at the client, and what failed is known when the cluster is gone.

    Parameters
    ----------
    name : callable
        Gives the request's token, if there is a client at all.
    """
    client = current_client()
    if client is None or client.id.startswith("Client-worker-"):
        return
    token = name()
    if (client.id, token) not in _ledger.heard:
        _ledger.heard.add((client.id, token))
        client.subscribe_topic(_topic(token), _hear)


def _hear(event: tuple[float, Row]) -> None:
    _, told = event
    _ledger.keep(told["token"], told["rows"])
    with rasterio_lock:
        _warn(told["token"], [row for row in told["rows"] if row["id"] in told["loud"]])
