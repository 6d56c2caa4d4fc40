"""Ports on which this process listens."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"

_ports: set[int] = set()
"""Where this process has listened."""


def listen(port: int = 0, host: str = HOST) -> socket.socket:
    """Open a port of this machine.

    Parameters
    ----------
    port : int, default 0
        0 is a free one that this process has not had before: what is read of a server is
        remembered by its address, and another server's files would be taken for its own.
    host : str, default "127.0.0.1"
        Whose.

    Returns
    -------
    socket.socket
        It listens.

    Raises
    ------
    OSError
        The port is taken.
    """
    passed_over = []
    try:
        while True:
            listener = socket.create_server((host, port), backlog=1024)
            number = listener.getsockname()[1]
            if port or number not in _ports:
                _ports.add(number)
                return listener
            passed_over.append(listener)  # held, so that it is not offered again
    finally:
        for other in passed_over:
            other.close()
