"""`prefloop config`: write a file to start from, check one, show what one comes to."""

from __future__ import annotations

from pathlib import Path

import click

from prefloop.cli.common import set_option
from prefloop.errors import UserError

_file = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """Write, check and show configuration files."""


@config.command()
@click.option("--algorithm", metavar="NAME", help="The algorithm to write it for, such as xpo.")
@click.option("--output", type=click.Path(path_type=Path), help="The file to write, instead of printing.")
def init(algorithm: str | None, output: Path | None) -> None:
    """Write a configuration in which every option is explained."""
    from prefloop.config.template import template

    text = template(algorithm)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{output}: exists already. Give another --output, or remove it.") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {output}. Fill in model.path and prompts.path, then run: prefloop train {output}")


@config.command()
@_file
@set_option
def validate(file: Path, overrides: tuple[str, ...]) -> None:
    """Check FILE, and say everything that is wrong with it."""
    from prefloop.config import load_config

    load_config(file, overrides)
    click.echo(f"{file}: OK")


@config.command()
@_file
@set_option
def show(file: Path, overrides: tuple[str, ...]) -> None:
    """Print what FILE comes to, with the algorithm's settings and every default."""
    from prefloop.config import dump_config, load_config

    click.echo(dump_config(load_config(file, overrides)), nl=False)
