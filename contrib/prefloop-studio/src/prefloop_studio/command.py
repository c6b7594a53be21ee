"""`prefloop studio`: serves the pages on this machine and opens a browser."""

from __future__ import annotations

import ipaddress
import socket
import webbrowser
from pathlib import Path

import click

from prefloop import UserError
from prefloop.cli.common import PathOnDisk

PORT = 8137


@click.command()
@click.argument("runs", default="runs", type=PathOnDisk(file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port to listen on; {PORT}, or a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
def studio(runs: Path, port: int | None, host: str, no_browser: bool) -> None:
    """Train, watch, label and talk to models in the browser; RUNS is the folder of runs (by default: runs).

    Runs are processes of their own: they go on when this one ends.
    """
    import uvicorn

    from prefloop_studio.app import application
    from prefloop_studio.guard import hosts_of, token_of
    from prefloop_studio.library import Library

    runs.mkdir(parents=True, exist_ok=True)
    token = token_of(Library(runs).own)
    with _listen(host, port) as listening:
        port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/#token={token}"
        click.echo(f"studio   {address}")
        if not _is_loopback(host):
            click.echo(
                "warning: others in your network can reach this address, and the connection is not "
                "encrypted. Whoever learns the address can read and change your runs.",
                err=True,
            )
        if not no_browser:
            webbrowser.open(address)
        app = application(runs.resolve(), token, hosts_of(host, port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        server.run(sockets=[listening])


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket on `port`; where none was given on the usual one, or a free one. Raises `UserError`."""
    for wanted in [port] if port is not None else [PORT, 0]:
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
    hint = f" Another program may be listening there: try --port {(port or PORT) + 1}." if port else ""
    raise UserError(f"cannot listen on {host}:{port or PORT}: {problem.strerror}.{hint}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
