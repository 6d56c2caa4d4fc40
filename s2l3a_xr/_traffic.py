"""What was asked of hosts to read a request, by process; workers tell the client of it.

Each process keeps totals and tells them anew after each reading, so that word which comes twice,
late or not at all changes nothing in the end. It goes the way of failures: `distributed`'s
structured events.
"""

from __future__ import annotations

import os
import platform
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from s2l3a_xr._agreement import hear
from s2l3a_xr._cluster import check_scheduler, current_client, dask_worker
from s2l3a_xr._inventory import volume_text
from s2l3a_xr._tables import summed_up
from s2l3a_xr._transport import COUNTED, Tally


class _Book:
    """Totals by request and process; forked children begin their own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = threading.Lock()
        self.process = uuid.uuid4().hex
        self.totals: dict[str, dict[str, dict[str, Any]]] = {}
        self.own: dict[str, Tally] = {}
        self.heard: set[tuple[str, str]] = set()

    def keep(self, word: dict[str, Any]) -> None:
        """Keep what a process said last; it only ever counts up."""
        with self.lock:
            known = self.totals.setdefault(word["token"], {})
            before = known.get(word["id"])
            if before is None or before["turn"] < word["turn"]:
                known[word["id"]] = word


_book = _Book()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_book.forget)


def note_traffic(token: str, tally: Tally, versions: str, taken: Mapping[str, str]) -> None:
    """Add what one reading asked for, and tell the client if this is a worker.

    Parameters
    ----------
    token : str
        Which request.
    tally : Tally
        What was counted.
    versions : str
        What the array's versions of files are called.
    taken : mapping of str
        Those that the reading took first; the client hears of them too.
    """
    worker = dask_worker()
    with _book.lock:
        total = _book.own.setdefault(token, Counter())
        total.update(tally)
        total["", "turn"] += 1
        hosts: dict[str, dict[str, int]] = {}
        for (host, what), amount in total.items():
            hosts.setdefault(host, {})[what] = amount
        turn = hosts.pop("")["turn"]
    word = {
        "token": token,
        "id": _book.process,
        "process": f"{platform.node()}:{os.getpid()}" if worker is None else worker.address,
        "turn": turn,
        "hosts": hosts,
    }
    _book.keep(word)
    if worker is not None:
        told = {"versions": versions, "taken": dict(taken)} if taken else {}
        worker.log_event(_topic(token), word | told)


def traffic_table(tokens: Iterable[str]) -> pd.DataFrame:
    """Tell what was asked of hosts, as a table.

    Parameters
    ----------
    tokens : iterable of str
        Which requests.

    Returns
    -------
    pandas.DataFrame
        A row for each host and process.
    """
    tokens = tuple(tokens)
    for token in tokens:
        for word in _events(token):
            _book.keep(word)
    with _book.lock:
        words = [word for token in tokens for word in _book.totals.get(token, {}).values()]
    rows = [
        {
            "host": host,
            "process": word["process"],
            **{what: counts.get(what, 0) for what in COUNTED},
        }
        for word in words
        for host, counts in word["hosts"].items()
    ]
    table = pd.DataFrame(rows, columns=["host", "process", *COUNTED])
    table = table.astype(dict.fromkeys(COUNTED, "int64"))
    table = table.groupby(["host", "process"], as_index=False).sum()
    asked, size, again = (int(table[what].sum()) for what in ("requests", "bytes", "retries"))
    summary = f"{asked} requests, {volume_text(size)}; {again} had to be repeated"
    return summed_up(table, summary if asked else "nothing was asked of any host")


def listen_to_traffic(name: Callable[[], str]) -> None:
    """Have the scheduler tell this process's client what workers ask for, as it happens.

    Parameters
    ----------
    name : callable
        Gives the request's token, if there is a client at all.

    Raises
    ------
    S2L3AError
        The scheduler lacks this package, or has another version.
    """
    client = current_client()
    if client is None or client.id.startswith("Client-worker-"):
        return
    check_scheduler(client)
    token = name()
    if (client.id, token) not in _book.heard:
        _book.heard.add((client.id, token))
        client.subscribe_topic(_topic(token), _hear)


def _hear(event: tuple[float, dict[str, Any]]) -> None:
    _, word = event
    _book.keep(word)
    if "taken" in word:
        hear(word["versions"], word["taken"])


def _topic(token: str) -> str:
    return f"s2l3a_xr-{token}-requests"


def _events(token: str) -> list[dict[str, Any]]:
    """Ask the scheduler what it remembers: of each topic the last 1000 events."""
    client = current_client(of_worker=True)
    if client is None or client.asynchronous:
        return []
    try:
        return [event for _, event in client.get_events(_topic(token))]
    except OSError:  # the cluster went away; what it told before is known
        return []
