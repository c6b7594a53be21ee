"""What commands share, those of plugins too: the ``--set`` option, and how a process that computes begins."""

from __future__ import annotations

import os

import click

from prefloop.cpu import blas

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one setting, such as judge.temperature=0.2. May be given several times.",
)

accept_option = click.option(
    "--accept-change",
    is_flag=True,
    help="Go on although the model, prompts or judge changed; the run's record says so.",
)


def configure_process() -> str | None:
    """Keep the libraries' own advice out of the output, and load a fast BLAS before anything imports mlx.

    Returns the library, or None where none was found or needed.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return blas.use_fastest()
