"""`prefloop train`, and how a signal ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from prefloop.cli.common import (
    PathOnDisk,
    accept_option,
    configure_process,
    json_option,
    print_json,
    set_option,
    words_aside,
)
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
    from prefloop.runs.view import RunView

_SLOW = f"mlx's own on this CPU, which is slow. To be several times faster: {blas.REMEDY}."


@click.command()
@click.argument("config", required=False, type=PathOnDisk())
@set_option
@click.option("--dry-run", is_flag=True, help="Load everything, print the plan, and prove that it can learn.")
@click.option("--resume", type=PathOnDisk(), metavar="RUN", help="Go on with a stopped run.")
@accept_option
@json_option
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    resume: Path | None,
    accept_change: bool,
    as_json: bool,
) -> None:
    """Train with CONFIG, or run the quick start where none is given.

    With --json, progress goes to standard error, and the end is a document: what `prefloop runs show` says.

    Exits with 0 when the run finished, 130 when it was stopped, 1 when it gave up, and 2 when something
    given is wrong.
    """
    if resume and (config or dry_run):
        raise UserError("--resume takes its configuration from the run: leave out CONFIG and --dry-run.")
    if accept_change and not resume:
        raise UserError("--accept-change goes with --resume: a new run has nothing that could have changed.")
    if resume:
        run_on(resume, overrides, accept_change, as_json)
        return
    with words_aside(as_json):
        library = configure_process()
        settings = load_config(config or resolve("embedded:quickstart"), overrides)
        _say_blas(library)
        if not dry_run:
            from prefloop.runs.training import train as train_from_start

            run = train_from_start(settings, observers=_observers(settings))
    if dry_run:
        _try_out(settings, as_json)
    else:
        _end(run, as_json)


def run_on(path: Path, overrides: Sequence[str], accept_change: bool, as_json: bool) -> None:
    """Go on with the run in `path`."""
    with words_aside(as_json):
        run = _gone_on(path, overrides, accept_change)
    if run:
        _end(run, as_json)
    elif as_json:
        print_json(about_run(open_run(path)))


def _gone_on(path: Path, overrides: Sequence[str], accept_change: bool) -> Run | None:
    """The run in `path` once it has ended; None where nothing was left to do."""
    library = configure_process()
    from prefloop.runs.training import is_complete, resume, saved_config

    settings = saved_config(path, overrides)
    if is_complete(open_run(path), settings):
        click.echo(f"'{path}' is finished: nothing is left to do. --set training.iters=N makes it longer.")
        return None
    _say_blas(library)
    return resume(path, config=settings, observers=_observers(settings), accept_change=accept_change)


def _try_out(settings: Config, as_json: bool) -> None:
    """The dry run: its lines, or as a document the plan in numbers and the lines that say it."""
    from prefloop.runs.preparation import dry_run

    if not as_json:
        dry_run(settings, echo=click.echo)
        return
    lines: list[str] = []
    with words_aside(as_json):
        plan = dry_run(settings, echo=lines.append)
    print_json({"ready": True, "plan": asdict(plan), "lines": lines})


def about_run(run: RunView) -> dict[str, Any]:
    """What ``run.json`` says, with what became of the run."""
    return {"run": str(run.path), **run.manifest, "status": run.status}


def _observers(settings: Config) -> list[object]:
    """What shows the run on the terminal, unless the bundled plugins are left out, and `Interrupts`.

    These come last: they stop the run, and the other one is to hear of its last step.
    """
    registry = Registry(settings.plugins.disable)
    if BUNDLED in registry.disabled:
        return [Interrupts()]
    return [registry.component("observer", DEFAULTS["display"])(), Interrupts()]


def _end(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(about_run(run))
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
