"""`prefloop plugins new`: a package to begin a plugin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from prefloop.cli.common import PathOnDisk, json_option, print_json
from prefloop_plugins.scaffold import NEW


@click.command("new")
@click.argument("kind", type=click.Choice(NEW))
@click.argument("name")
@click.option(
    "--folder",
    type=PathOnDisk(file_okay=False),
    default=".",
    help="Where to put it; here by default.",
)
@json_option
def new_plugin(kind: str, name: str, folder: Path, as_json: bool) -> None:
    """Write a package with a NAME of KIND, a component or a command, that works and whose tests pass.

    It is made for you to change: an example of its kind with options, tests by the conformance kit, a
    README, a licence and continuous integration.
    """
    from prefloop_plugins.scaffold import write

    package = write(kind, name, folder)
    if as_json:
        print_json({"folder": str(package.folder), "files": [str(path) for path in package.files]})
        return
    for path in package.files:
        click.echo(path)
    click.echo(
        f"\nNext:\n  cd {shlex.quote(str(package.folder))}\n"
        "  pip install -U pip && pip install -e . --group test\n  pytest\n"
        + (f"  prefloop {name} --help" if kind == "command" else f"  prefloop plugins show {kind} {name}")
    )
