"""`prefloop studio`: serves the pages on this machine and opens a browser."""

from __future__ import annotations

import ipaddress
import webbrowser
from pathlib import Path

import click

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
    from prefloop_studio.app import application
    from prefloop_studio.guard import hosts_of, token_of
    from prefloop_studio.library import Library
    from prefloop_studio.listening import listen, serve

    runs.mkdir(parents=True, exist_ok=True)
    token = token_of(Library(runs).own)
    with listen(host, port, PORT) as listening:
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
        serve(application(runs.resolve(), token, hosts_of(host, port)), listening)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
