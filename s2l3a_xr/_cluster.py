"""What this process knows of a dask cluster that it belongs to; distributed is optional."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Callable
from typing import Any

from s2l3a_xr._errors import S2L3AError

VERSION_HINT = (
    "install the same version of s2l3a_xr, with the same dependencies, where the client, the "
    "scheduler and all workers run, and start them again"
)

_LONGEST_S = 30.0
_checked: set[str] = set()
"""Clients whose schedulers have this version."""


def dask_worker() -> Any:  # noqa: ANN401 - distributed is an optional extra
    """Give the worker whose task this thread runs.

    Returns
    -------
    distributed.Worker or None
        None outside a task.
    """
    distributed = sys.modules.get("distributed")
    with contextlib.suppress(AttributeError, ValueError):
        return distributed.get_worker()  # type: ignore[union-attr]
    return None


def current_client(*, of_worker: bool = False) -> Any:  # noqa: ANN401 - distributed is an optional extra
    """Give the client that is open in this process, or in a task that of its worker.

    Parameters
    ----------
    of_worker : bool, default False
        Whether a task's own client will do.

    Returns
    -------
    distributed.Client or None
        None where there is none.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    with contextlib.suppress(ValueError):
        return distributed.get_client() if of_worker else distributed.Client.current()
    return None


def own_version() -> str:
    """Give the version of this package.

    Returns
    -------
    str
        As ``s2l3a_xr.__version__``.
    """
    return str(sys.modules["s2l3a_xr"].__version__)  # it stands above all modules


def check_version(version: str, origin: str) -> None:
    """Refuse what another version pickled.

    Parameters
    ----------
    version : str
        Who pickled it.
    origin : str
        The machine on which that was.

    Raises
    ------
    S2L3AError
        The versions differ.
    """
    ours = own_version()
    if version != ours:
        msg = (
            f"an array comes from s2l3a_xr {version} on {origin}, and here on {platform.node()} is "
            f"{ours}; {VERSION_HINT}."
        )
        raise S2L3AError(msg)


def check_cluster(client: Any = None, *, timeout_s: float = 30.0) -> dict[str, str]:  # noqa: ANN401
    """See whether a dask cluster has this very version of s2l3a_xr everywhere.

    Parameters
    ----------
    client : distributed.Client, optional
        The current one unless given.
    timeout_s : float, default 30
        Longest wait for the scheduler, and then for the workers.

    Returns
    -------
    dict of str
        The version by address, the scheduler's first.

    Raises
    ------
    S2L3AError
        There is no cluster, or scheduler or workers lack the package, have another version, or
        do not answer.

    Examples
    --------
    >>> from distributed import Client, LocalCluster
    >>> with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
    ...     with Client(cluster) as client:
    ...         found = check_cluster(client)
    >>> len(found)
    2
    """
    client = client or current_client()
    if client is None:
        msg = "there is no dask cluster to check; make a distributed.Client first."
        raise S2L3AError(msg)
    question = _question()
    try:
        found = {
            f"scheduler {client.scheduler.address}": client.run_on_scheduler(
                question, callback_timeout=timeout_s
            )
        }
        workers = client.run(question, on_error="return", callback_timeout=timeout_s)
    except TimeoutError as exc:
        msg = f"the scheduler or a worker did not answer within {timeout_s:g} s; see their logs."
        raise S2L3AError(msg) from exc
    found |= {f"worker {address}": said for address, said in workers.items()}
    ours = own_version()
    wrong = [f"{where}: {said}" for where, said in found.items() if said != ours]
    if wrong:
        msg = (
            f"the client on {platform.node()} has s2l3a_xr {ours}, but {'; '.join(wrong)}; "
            f"{VERSION_HINT}."
        )
        raise S2L3AError(msg)
    return found


def check_scheduler(client: Any) -> None:  # noqa: ANN401 - distributed is an optional extra
    """Refuse a scheduler that can't take an array, since it lacks this package.

    It unpacks all that it is sent, and says little of what went wrong. Each is asked once.

    Parameters
    ----------
    client : distributed.Client
        Of that scheduler.

    Raises
    ------
    S2L3AError
        The package is not there, or is another version.
    """
    if client.id in _checked or client.asynchronous:
        return
    said = client.run_on_scheduler(_question(), callback_timeout=_LONGEST_S)
    if said != own_version():
        msg = (
            f"the scheduler at {client.scheduler.address} can't take arrays of s2l3a_xr "
            f"{own_version()}, which the client on {platform.node()} has: {said}; {VERSION_HINT}."
        )
        raise S2L3AError(msg)
    _checked.add(client.id)


def _question() -> Callable[[], str]:
    def ask() -> str:  # within a function, so that it is sent whole and not by its name
        import importlib  # noqa: PLC0415 - runs elsewhere
        import platform  # noqa: PLC0415 - runs elsewhere

        try:
            return str(importlib.import_module("s2l3a_xr").__version__)
        except Exception as exc:  # whatever hinders it
            return f"no s2l3a_xr on {platform.node()} ({exc!r})"

    return ask
