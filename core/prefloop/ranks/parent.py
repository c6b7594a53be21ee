"""Whether a launcher has started this process, and what it and `prefloop train --ranks` say to each other.

The two share a socket, which is closed where either of them is gone, however that came about: no rank
outlives its parent.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

FD = "PREFLOOP_PARENT"
"""The environment variable with the number of the socket's descriptor."""
LOST = 75
"""The exit code of a rank that ended because another one, or its parent, is gone: ``EX_TEMPFAIL``."""
MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""What the launchers of MPI tell a process, of which mlx reads the rest itself."""

_socket: socket.socket | None = None


def is_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher has started this process as one of several."""
    return "MLX_RANK" in environment or any(environment.get(name, "1") != "1" for name in MPI)


def attach() -> bool:
    """Watch the parent from here on, where there is one: whether there is."""
    global _socket
    number = os.environ.pop(FD, None)  # what this process starts has another parent
    if number is not None:
        _socket = socket.socket(fileno=int(number))
        _socket.set_inheritable(False)
        threading.Thread(target=_watch, args=(_socket,), name="parent", daemon=True).start()
    return _socket is not None


def tell(**what: Any) -> bool:
    """Tell the parent, where there is one: whether there is."""
    if _socket:
        try:
            _socket.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            os._exit(LOST)
    return _socket is not None


def _watch(parent: socket.socket) -> None:
    try:
        while parent.recv(64):
            pass
    except OSError:
        pass
    os._exit(LOST)
