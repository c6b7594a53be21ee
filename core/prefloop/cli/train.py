"""`prefloop train`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefloop.cli.common import configure_process, set_option
from prefloop.config import load_config
from prefloop.cpu import blas
from prefloop.embedded import resolve
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, DEFAULTS, Registry

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.runs.run import Run

_SLOW = f"mlx's own on this CPU, which is slow. To be several times faster: {blas.REMEDY}."


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@set_option
@click.option("--dry-run", is_flag=True, help="Load everything, print the plan, and prove that it can learn.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a stopped run.")
def train(config: Path | None, overrides: tuple[str, ...], dry_run: bool, resume: Path | None) -> None:
    """Train with CONFIG, or run the quick start where none is given.

    Exits with 0 when the run finished, 130 when it was stopped, 1 when it gave up, and 2 when something
    given is wrong.
    """
    if resume and (config or dry_run):
        raise UserError("--resume takes its configuration from the run: leave out CONFIG and --dry-run.")
    if resume:
        run_on(resume, overrides)
        return
    library = configure_process()
    settings = load_config(config or resolve("embedded:quickstart"), overrides)
    _say_blas(library)
    if dry_run:
        from prefloop.runs.preparation import dry_run as try_out

        try_out(settings, echo=click.echo)
    else:
        from prefloop.runs.training import train as train_from_start

        _end(train_from_start(settings, observers=_observers(settings)))


def run_on(path: Path, overrides: Sequence[str]) -> None:
    """Go on with the run in `path`."""
    library = configure_process()
    from prefloop.runs.training import resume, saved_config

    settings = saved_config(path, overrides)
    _say_blas(library)
    _end(resume(path, overrides=overrides, observers=_observers(settings)))


def _observers(settings: Config) -> list[object]:
    from prefloop.cli.interrupts import Interrupts

    # Interrupts come last: they stop the run, and the others are to hear of its last step.
    return [*_display(Registry(settings.plugins.disable)), Interrupts()]


def _display(registry: Registry) -> list[object]:
    """What shows the run on the terminal: nothing where the bundled plugins are left out."""
    if BUNDLED in registry.disabled:
        return []
    return [registry.component("observer", DEFAULTS["display"])()]


def _end(run: Run) -> None:
    sys.exit({"finished": 0, "stopped": 130}.get(run.status, 1))


def _say_blas(library: str | None) -> None:
    if blas.uses_linux_cpu_backend():
        click.echo(f"blas     {library or _SLOW}")
