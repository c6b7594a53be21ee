"""The socket that a worker listens on, and serving."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from prefloop import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, and accepts once it is served. Raises `UserError`."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Another program may listen "
            f"there: try --port {port + 1}."
        ) from error
    return listening


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer what comes in, until the process is ended."""
    import uvicorn

    listening.listen()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
