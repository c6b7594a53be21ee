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
from prefloop.errors import Notice, UserError
from prefloop.text import in_a_line


class Main(PluggedGroup):
    """Prints a `UserError` as one line for each problem, with exit code 2, and one for each warning.

    Ctrl-C ends a command with 130, as it does in a shell; click's 1 is that of a run which failed.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            sys.exit(130)

    def main(self, *args: Any, **settings: Any) -> Any:
        try:
            with _warnings_printed():
                return super().main(*args, **settings)
        except (UserError, ImportError) as error:
            if "libmlx" in str(error):  # what the dynamic linker did not find
                error = UserError(_NO_BACK_END)
            if not isinstance(error, UserError):
                raise
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
            sys.exit(2)


_SHOWN = (FormerKeyWarning, Notice)
_NO_BACK_END = (
    "mlx cannot be loaded: on Linux it computes nothing without a back end. Install one: "
    "pip install 'prefloop[cpu]', or pip install 'prefloop[cuda]' for an NVIDIA card."
)


@contextlib.contextmanager
def _warnings_printed() -> Iterator[None]:
    """Print a line, once, for each former key of a configuration and each notice."""
    printed = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, _SHOWN):
                show(message, category, *place, **more)
            elif str(message) not in printed:
                printed.add(str(message))
                click.echo(f"warning: {in_a_line(str(message))}", err=True)

        for kind in _SHOWN:
            warnings.simplefilter("always", kind)
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
