"""The one stage that speaks http(s), and the door to every other place that fsspec knows."""

from s2l3a_xr._transport._guard import check_host
from s2l3a_xr._transport._hosts import asked_at
from s2l3a_xr._transport._polite import working_for
from s2l3a_xr._transport._probe import Peer, Probe, Prober
from s2l3a_xr._transport._session import (
    Session,
    is_http,
    is_local,
    passing_session,
    run_with_session,
)
from s2l3a_xr._transport._settings import Reply, Transport
from s2l3a_xr._transport._tally import COUNTED, Tally

__all__ = [
    "COUNTED",
    "Peer",
    "Probe",
    "Prober",
    "Reply",
    "Session",
    "Tally",
    "Transport",
    "asked_at",
    "check_host",
    "is_http",
    "is_local",
    "passing_session",
    "run_with_session",
    "working_for",
]
