"""A server on this machine: the socket that it listens on, and serving."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from prefloop import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def listen(host: str, port: int | None, usual: int) -> socket.socket:
    """A socket on `port`; where none was given on `usual`, or a free one. Raises `UserError`."""
    for wanted in [port] if port is not None else [usual, 0]:
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wanted))
            listening.listen()  # the address is printed and opened before the server accepts
        except OSError as error:
            listening.close()
            problem = error
            continue
        return listening
    hint = f" Another program may be listening there: try --port {(port or usual) + 1}." if port else ""
    raise UserError(f"cannot listen on {host}:{port or usual}: {problem.strerror}.{hint}")


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer what comes in, until the process is ended."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    server.run(sockets=[listening])
