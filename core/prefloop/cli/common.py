"""What commands share, those of plugins too: ``--set``, ``--json``, paths, how a computing process begins."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from prefloop.cpu import blas
from prefloop.embedded import local_path
from prefloop.errors import UserError
from prefloop.text import printable_json

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

retry_option = click.option(
    "--retry-failed", is_flag=True, help="Of a queue, try the runs that failed again."
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and no words.")


@contextlib.contextmanager
def words_aside(as_json: bool) -> Iterator[None]:
    """Print what is for people on standard error, where a JSON document is to stand alone on the other."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def print_json(value: Any) -> None:
    """Print `value` as the one document of a command with `json_option`."""
    click.echo(printable_json(value))


def write_new(output: Path, text: str) -> None:
    """Write a file that is not there yet. Raises `UserError` where it is, or cannot be written."""
    try:
        with output.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{output}: exists already. Give another --output, or remove it.") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}.") from None


class PathOnDisk(click.Path):
    """A path, there or not. Raises `UserError` for one that no file could have."""

    def __init__(self, *, file_okay: bool = True) -> None:
        super().__init__(path_type=Path, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        local_path(os.fsdecode(value))
        return Path(os.fsdecode(super().convert(value, param, ctx)))


def configure_process() -> str | None:
    """Keep the libraries' own advice out of the output, and load a fast BLAS, then mlx.

    Ctrl-C ends the process at once while mlx begins, which makes an error of its own out of an interrupt.
    Returns the BLAS library, or None where none was found or needed.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    library = blas.use_fastest()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import mlx.core  # noqa: F401
    finally:
        signal.signal(signal.SIGINT, before)
    return library
