"""``--ranks``, ``--restart`` and ``--silent-after``: a run that several processes share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from attrs import frozen

from prefloop.cli.about import about_run
from prefloop.cli.common import print_json
from prefloop.errors import UserError
from prefloop.ranks.parent import attach, is_rank, tell
from prefloop.runs.view import open_run

_SILENT_AFTER = 30.0

_OPTIONS = (
    click.option(
        "--ranks",
        type=click.IntRange(min=1, max=256),
        metavar="N",
        help="Share the run between N processes of this machine.",
    ),
    click.option(
        "--restart",
        "restarts",
        type=click.IntRange(min=0),
        metavar="N",
        help="With --ranks: where one is lost, go on from the last checkpoint with the others, N times.",
    ),
    click.option(
        "--silent-after",
        type=click.FloatRange(min=1.0, max=86_400.0),
        metavar="SECONDS",
        help=f"How long a rank may give no sign of life before the others end; by default {_SILENT_AFTER:g}.",
    ),
)


def rank_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that can start ranks."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_rank_options(ranks: int | None, restarts: int | None, silent_after: float | None) -> None:
    """Raises `UserError` where they make no sense."""
    if restarts is not None and not ranks:
        raise UserError("--restart goes with --ranks: only what was started here can be started again.")
    if silent_after is not None and not (ranks or is_rank() or attach()):
        raise UserError("--silent-after is for ranks, and this process is alone: add --ranks N.")
    if ranks and is_rank():
        raise UserError(
            "--ranks starts ranks on this machine, and this process is one already, of mlx.launch or MPI: "
            "leave it out there."
        )


@frozen
class Given:
    """What was given to a `prefloop train` that is to be started as ranks."""

    configs: tuple[Path, ...]
    resume: Path | None
    overrides: tuple[str, ...]
    accept_change: bool
    report_to: str
    silent_after: float | None
    as_json: bool

    def command(self, run: Path | None) -> list[str]:
        """The command of a rank, which begins or goes on with `run`."""
        program = [sys.executable, "-m", "prefloop", "train"]
        always = ["--silent-after", str(self.silent_after)] if self.silent_after else []
        always += ["--json"] * self.as_json
        if run and not self.resume:
            return [*program, "--resume", str(run), *always]
        first = ["--resume", str(self.resume)] if self.resume else [*map(str, self.configs)]
        first += [part for text in self.overrides for part in ("--set", text)]
        first += ["--accept-change"] * self.accept_change
        first += ["--report-to", self.report_to] if self.report_to else []
        return [*program, *first, *always]


def start_ranks(given: Given, ranks: int, restarts: int) -> NoReturn:
    """Start ranks of a command, and end as they do; where they end in order, they print the document."""
    from prefloop.ranks.launching import launch

    code, run = launch(given.command, ranks, restarts, given.silent_after or _SILENT_AFTER)
    if given.as_json and run and open_run(run).status == "interrupted":
        print_json(about_run(open_run(run)))
    sys.exit(code)


@contextmanager
def as_rank(silent_after: float | None) -> Iterator[None]:
    """Be one of the ranks that a launcher has started, if it has; a process alone does nothing here."""
    if not is_rank():
        tell(joined=True)
        yield
        tell(done=True)
        return
    from prefloop.ranks.group import joined
    from prefloop.ranks.heart import beating

    with beating(joined(), silent_after or _SILENT_AFTER):
        yield
