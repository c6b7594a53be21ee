"""The command line. Importing it loads neither mlx nor the libraries that load models."""

from __future__ import annotations

import sys
from typing import Any

import click

from prefloop.cli.config import config
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.plugins import plugins
from prefloop.cli.runs import runs
from prefloop.cli.train import train
from prefloop.errors import UserError
from prefloop.text import printable


class Main(PluggedGroup):
    """Turns a `UserError` into one line for each problem and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            for problem in error.problems:
                click.echo(f"error: {printable(problem)}", err=True)
            sys.exit(2)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prefloop")
def main() -> None:
    """Online preference optimisation of language models on Apple MLX.

    `prefloop train` without a configuration runs the quick start: offline, on a tiny embedded model.
    """


for command in (train, runs, config, plugins):
    main.add_command(command)
