"""`prefloop train`, and how a signal ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from prefloop.cli.common import PathOnDisk, accept_option, configure_process, set_option
from prefloop.cli.reporting import report_option, with_reports
from prefloop.components import Observer
from prefloop.config import load_config
from prefloop.cpu import blas
from prefloop.embedded import resolve
from prefloop.errors import StopRun, UserError
from prefloop.registry import BUNDLED, DEFAULTS, Registry
from prefloop.runs.view import open_run
from prefloop.types import Evaluation, Step

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.runs.run import Run

_SLOW = f"mlx's own on this CPU, which is slow. To be several times faster: {blas.REMEDY}."


@click.command()
@click.argument("config", required=False, type=PathOnDisk())
@set_option
@click.option("--dry-run", is_flag=True, help="Load everything, print the plan, and prove that it can learn.")
@click.option("--resume", type=PathOnDisk(), metavar="RUN", help="Go on with a stopped run.")
@accept_option
@report_option
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    resume: Path | None,
    accept_change: bool,
    report_to: str,
) -> None:
    """Train with CONFIG, or run the quick start where none is given.

    Exits with 0 when the run finished, 130 when it was stopped, 1 when it gave up, and 2 when something
    given is wrong.
    """
    if resume and (config or dry_run):
        raise UserError("--resume takes its configuration from the run: leave out CONFIG and --dry-run.")
    if accept_change and not resume:
        raise UserError("--accept-change goes with --resume: a new run has nothing that could have changed.")
    if report_to and resume:
        raise UserError("--report-to goes with a new run: one that goes on has the observers it began with.")
    if resume:
        run_on(resume, overrides, accept_change)
        return
    library = configure_process()
    source = config or resolve("embedded:quickstart")
    settings = load_config(source, with_reports(source, overrides, report_to))
    _say_blas(library)
    if dry_run:
        from prefloop.runs.preparation import dry_run as try_out

        try_out(settings, echo=click.echo)
    else:
        from prefloop.runs.training import train as train_from_start

        _end(train_from_start(settings, observers=_observers(settings)))


def run_on(path: Path, overrides: Sequence[str], accept_change: bool) -> None:
    """Go on with the run in `path`."""
    library = configure_process()
    from prefloop.runs.training import is_complete, resume, saved_config

    settings = saved_config(path, overrides)
    if is_complete(open_run(path), settings):
        click.echo(f"'{path}' is finished: nothing is left to do. --set training.iters=N makes it longer.")
        return
    _say_blas(library)
    run = resume(path, config=settings, observers=_observers(settings), accept_change=accept_change)
    _end(run)


def _observers(settings: Config) -> list[object]:
    """What shows the run on the terminal, unless the bundled plugins are left out, and `Interrupts`.

    These come last: they stop the run, and the other one is to hear of its last step.
    """
    registry = Registry(settings.plugins.disable)
    if BUNDLED in registry.disabled:
        return [Interrupts()]
    return [registry.component("observer", DEFAULTS["display"])(), Interrupts()]


def _end(run: Run) -> None:
    sys.exit({"finished": 0, "stopped": 130}.get(run.status, 1))


def _say_blas(library: str | None) -> None:
    if blas.uses_linux_cpu_backend():
        click.echo(f"blas     {library or _SLOW}")


class Interrupts(Observer):
    """Ctrl-C and SIGTERM end the run after the step it is in, or in an evaluation; a second one at once.

    What is on the disk is whole at any moment.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def run_started(self, run: Any) -> None:
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def step_finished(self, step: Step) -> None:
        self._stop_if_asked()

    def evaluating(self, phase: str, done: int, total: int) -> None:
        self._stop_if_asked()

    def evaluated(self, evaluation: Evaluation) -> None:
        self._stop_if_asked()

    def run_finished(self, run: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop_if_asked(self) -> None:
        if self.received:
            raise StopRun(f"stopped by {self.received}")

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        click.echo("Stopping after this step, or in this evaluation. Once more to leave at once.", err=True)
