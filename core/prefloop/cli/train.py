"""`prefloop train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from prefloop import blas
from prefloop.config import Config, load_config
from prefloop.embedded import resolve

_SLOW = f"mlx's own on this CPU, which is slow. To be several times faster: {blas.REMEDY}."


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable."
)
@click.option(
    "--dry-run", is_flag=True, help="Load everything, print the plan, and prove that learning can happen."
)
def train(config: Path | None, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Train with CONFIG, or run the quick start where none is given.

    Exits with 0 when the run finished, 130 when it was stopped, and 2 when something given is wrong.
    """
    _quiet()
    library = blas.use_fastest() if blas.matters() else None  # before anything imports mlx
    settings = load_config(config or resolve("embedded:quickstart"), overrides)
    if blas.matters():
        click.echo(f"blas     {library or _SLOW}")
    if dry_run:
        from prefloop.dry_run import check

        check(settings, echo=click.echo)
        return
    _train(settings, quickstart=config is None)


def _train(settings: Config, *, quickstart: bool) -> None:
    from prefloop.cli.closing import closing_words
    from prefloop.train import train as run_training

    progress = settings.registry.component("observer", "progress")()
    run = run_training(settings, observers=[progress])
    click.echo(closing_words(run, quickstart=quickstart))
    if run.status == "stopped":
        sys.exit(130)


def _quiet() -> None:
    """Keep the libraries' own advice out of the output."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
