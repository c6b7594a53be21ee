"""`prefloop mcp`: serves tools to the program that started it, or on this machine's loopback address."""

from __future__ import annotations

from pathlib import Path

import click

from prefloop.cli.common import PathOnDisk

HOST = "127.0.0.1"
PORT = 8138


@click.command()
@click.argument("runs", default="runs", type=PathOnDisk(file_okay=False))
@click.option("--http", is_flag=True, help="Listen on this machine instead of standard input and output.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port for --http; {PORT}, or a free one.")
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="DIR",
    type=PathOnDisk(file_okay=False),
    help="Let configurations name what is in DIR, such as a folder of models. May be given several times.",
)
@click.option("--read-only", is_flag=True, help="Leave out every tool that changes something or computes.")
def mcp(runs: Path, http: bool, port: int | None, allowed: tuple[Path, ...], read_only: bool) -> None:
    """Give an agent tools to watch and start runs, by the Model Context Protocol; RUNS is their folder.

    Configurations may name paths in the current folder only. An agent that may start runs may run the Python
    code that lies there, as you do.
    """
    from prefloop_mcp.fence import Fence
    from prefloop_mcp.server import server

    runs = runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    fence = Fence(Path.cwd().resolve(), tuple(folder.resolve() for folder in allowed))
    serving = server(runs, fence, read_only=read_only)
    if not http:
        serving.run("stdio")
        return
    from prefloop_studio.guard import Guard, hosts_of, token_of
    from prefloop_studio.library import Library
    from prefloop_studio.listening import listen, serve

    token = token_of(Library(runs).own)
    with listen(HOST, port, PORT) as listening:
        port = listening.getsockname()[1]
        click.echo(f"mcp      http://{HOST}:{port}/mcp")
        click.echo(f"token    in {Library(runs).own / 'token'}, as 'Authorization: Bearer TOKEN'")
        serve(Guard(serving.streamable_http_app(), token, hosts_of(HOST, port), closed="/"), listening)
