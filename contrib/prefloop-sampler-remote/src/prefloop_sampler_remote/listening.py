"""The socket that a worker listens on, and serving."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from prefloop import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PORT = "Take another --port; 0 is a free one"
HOST = "--host takes an address or name of this machine; 0.0.0.0 is all of its addresses"


def listen(host: str, port: int) -> socket.socket:
    """A socket that lets connections wait until they are served. Raises `UserError`."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except (OSError, UnicodeError) as error:  # the latter of what is no host's name
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        number = getattr(error, "errno", None)
        advice = PORT if number in (errno.EADDRINUSE, errno.EACCES) else HOST
        raise UserError(f"cannot listen on {host}:{port}: {reason}. {advice}.") from error
    return listening


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer what comes in, until the process is ended."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
