"""The command line. Importing it loads neither mlx nor the libraries that load models."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from prefloop.cli.config import config
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.plugins import plugins
from prefloop.cli.runs import runs
from prefloop.cli.train import train
from prefloop.deprecated import FormerKeyWarning
from prefloop.errors import UserError
from prefloop.text import printable


class Main(PluggedGroup):
    """Prints a `UserError` as one line for each problem, with exit code 2, and a line for each former key."""

    def main(self, *args: Any, **settings: Any) -> Any:
        try:
            with _former_keys_printed():
                return super().main(*args, **settings)
        except (UserError, ImportError) as error:
            if "libmlx" in str(error):  # what the dynamic linker did not find
                error = UserError(_NO_BACK_END)
            if not isinstance(error, UserError):
                raise
            for problem in error.problems:
                click.echo(f"error: {printable(problem)}", err=True)
            sys.exit(2)


_NO_BACK_END = (
    "mlx cannot be loaded: on Linux it computes nothing without a back end. Install one: "
    "pip install 'prefloop[cpu]', or pip install 'prefloop[cuda]' for an NVIDIA card."
)


@contextlib.contextmanager
def _former_keys_printed() -> Iterator[None]:
    """Print a line, once, for each former key of a configuration, of which Python would say nothing."""
    printed = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, FormerKeyWarning):
                show(message, category, *place, **more)
            elif str(message) not in printed:
                printed.add(str(message))
                click.echo(f"warning: {printable(str(message))}", err=True)

        warnings.simplefilter("always", FormerKeyWarning)
        warnings.showwarning = print_line
        yield


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prefloop")
def main() -> None:
    """Online preference optimisation of language models on Apple MLX.

    `prefloop train` without a configuration runs the quick start: offline, on a tiny embedded model.
    """


for command in (train, runs, config, plugins):
    main.add_command(command)
