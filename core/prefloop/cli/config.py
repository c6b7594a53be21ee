"""`prefloop config`: check a configuration file, and show what one comes to."""

from __future__ import annotations

from pathlib import Path

import click

from prefloop.cli.common import PathOnDisk, json_option, print_json, set_option
from prefloop.cli.plugged import PluggedGroup
from prefloop.text import in_a_line

_file = click.argument("file", type=PathOnDisk())


@click.group(cls=PluggedGroup)
def config() -> None:
    """Write, check and show configuration files."""


@config.command()
@_file
@set_option
@json_option
def validate(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check FILE, and say everything that is wrong with it."""
    from prefloop.cli.loading import Loader

    Loader()(file, overrides)
    if as_json:
        print_json({"file": str(file), "valid": True})
    else:
        click.echo(f"{in_a_line(str(file))}: OK")


@config.command()
@_file
@set_option
@json_option
def show(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print what FILE comes to, with the algorithm's settings and every default."""
    from prefloop.cli.loading import Loader
    from prefloop.config import dump_config
    from prefloop.config.dump import to_plain

    config = Loader()(file, overrides)
    if as_json:
        print_json(to_plain(config, config.origins))
    else:
        click.echo(dump_config(config), nl=False)
