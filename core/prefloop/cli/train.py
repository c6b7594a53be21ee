"""`prefloop train`, and how a signal ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from attrs import asdict

from prefloop.cli.about import about_run, runs_of_queue
from prefloop.cli.common import (
    PathOnDisk,
    accept_option,
    configure_process,
    json_option,
    print_json,
    retry_option,
    set_option,
    words_aside,
)
from prefloop.cli.loading import Loader
from prefloop.cli.queue import go_on, train_several, try_several
from prefloop.cli.ranks import Given, as_rank, check_rank_options, rank_options, start_ranks
from prefloop.cli.reporting import report_option
from prefloop.components import Observer
from prefloop.config.grid import members_of
from prefloop.cpu import blas
from prefloop.embedded import resolve
from prefloop.errors import StopRun, UserError
from prefloop.ranks.parent import attach, is_rank, tell
from prefloop.registry import BUNDLED, DEFAULTS, Registry
from prefloop.runs.queue import is_queue
from prefloop.runs.view import open_run
from prefloop.types import Evaluation, Step

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.config.grid import Member
    from prefloop.runs.run import Run

_ONE_RUN = "ranks share one run, and this is a queue of several: train them one by one, or without ranks."
_SLOW = f"mlx's own on this CPU, which is slow. To be several times faster: {blas.REMEDY}."


@click.command()
@click.argument("configs", nargs=-1, type=PathOnDisk(), metavar="[CONFIG]...")
@set_option
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="KEY=V1,V2",
    help="A run with each of these values. May be given several times: each value with each.",
)
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="N runs of each, with as many seeds.")
@click.option("--output", type=PathOnDisk(), metavar="DIR", help="Folder of several runs.")
@click.option("--dry-run", is_flag=True, help="Load everything, print the plan, and prove that it can learn.")
@click.option(
    "--resume", type=PathOnDisk(), metavar="RUN", help="Go on with a stopped run, or a queue of several."
)
@retry_option
@accept_option
@report_option
@rank_options
@json_option
def train(
    configs: tuple[Path, ...],
    overrides: tuple[str, ...],
    grids: tuple[str, ...],
    seeds: int | None,
    output: Path | None,
    dry_run: bool,
    resume: Path | None,
    retry_failed: bool,
    accept_change: bool,
    report_to: str,
    ranks: int | None,
    restarts: int | None,
    silent_after: float | None,
    as_json: bool,
) -> None:
    """Train with CONFIG, or run the quick start where none is given.

    Several CONFIG, several values (--grid KEY=V1,V2, or --set KEY=[V1,V2] where KEY takes no list) and
    several seeds make a queue: a run of each with each, one after the other, and a comparison at the end.

    With --json, progress goes to standard error, and the end is a document: what `prefloop runs show` says,
    or of a queue what `prefloop runs list` does.

    Exits with 0 when the run finished, 130 when it was stopped, 1 when it gave up, and 2 when something
    given is wrong.
    """
    if resume and (configs or dry_run):
        raise UserError("--resume takes its configuration from the run: leave out CONFIG and --dry-run.")
    if resume and (grids or seeds or output):
        raise UserError("--resume goes on with what is there: leave out --grid, --seeds and --output.")
    if accept_change and not resume:
        raise UserError("--accept-change goes with --resume: a new run has nothing that could have changed.")
    if retry_failed and not resume:
        raise UserError("--retry-failed goes with --resume: a new queue has nothing that could have failed.")
    if report_to and resume:
        raise UserError("--report-to goes with a new run: one that goes on has the observers it began with.")
    check_rank_options(ranks, restarts, silent_after)
    attach()
    if ranks:
        if len(configs) > 1 or grids or seeds or output or (resume and is_queue(resume)):
            raise UserError(_ONE_RUN)
        if dry_run:
            raise UserError("--dry-run tries a run in one process: leave out --ranks.")
        given = Given(configs, resume, overrides, accept_change, report_to, silent_after, as_json)
        start_ranks(given, ranks, restarts or 0)
    if resume:
        run_on(resume, overrides, accept_change, retry_failed, as_json, silent_after)
        return
    sources = configs or (Path(resolve("embedded:quickstart")),)
    with words_aside(as_json):
        library = configure_process()
        members = members_of(sources, overrides, grids, seeds, Loader(report_to))
    if len(members) > 1:
        if is_rank():
            raise UserError(_ONE_RUN)
        asked = {"configs": list(map(str, sources)), "set": overrides, "grid": grids, "seeds": seeds}
        _several(members, output, asked, dry_run, as_json)
    if output:
        raise UserError("--output names the folder of several runs; for one write --set output=DIR.")
    settings = members[0].config
    if dry_run:
        _try_out(settings, library, as_json)
        return
    with words_aside(as_json):
        _say_blas(library)
        from prefloop.runs.training import train as train_from_start

        with as_rank(silent_after):
            run = train_from_start(settings, observers=_observers(settings))
    _end(run, as_json)


def run_on(
    path: Path,
    overrides: Sequence[str],
    accept_change: bool,
    retry_failed: bool,
    as_json: bool,
    silent_after: float | None,
) -> None:
    """Go on with the run or the queue in `path`."""
    if is_queue(path):
        with words_aside(as_json):
            code = go_on(path, overrides, accept_change=accept_change, retry_failed=retry_failed)
        _end_queue(path, code, as_json)
    if retry_failed:
        raise UserError(f"--retry-failed is for a queue, and '{path}' is none: a run goes on in any case.")
    with words_aside(as_json):
        run = _gone_on(path, overrides, accept_change, silent_after)
    if run:
        _end(run, as_json)
    elif as_json:
        print_json(about_run(open_run(path)))


def _gone_on(
    path: Path, overrides: Sequence[str], accept_change: bool, silent_after: float | None
) -> Run | None:
    """The run in `path` once it has ended; None where nothing was left to do."""
    library = configure_process()
    from prefloop.runs.training import is_complete, resume, saved_config

    settings = saved_config(path, overrides)
    if is_complete(open_run(path), settings):
        click.echo(f"'{path}' is finished: nothing is left to do. --set training.iters=N makes it longer.")
        return None
    _say_blas(library)
    with as_rank(silent_after):
        return resume(path, config=settings, observers=_observers(settings), accept_change=accept_change)


def _several(
    members: Sequence[Member], output: Path | None, asked: Mapping[str, Any], dry_run: bool, as_json: bool
) -> NoReturn:
    """Train or try a queue of runs."""
    if dry_run:
        with words_aside(as_json):
            code = try_several(members, asked["set"])
        if as_json:
            print_json({"ready": code == 0, "runs": [member.name for member in members]})
        sys.exit(code)
    with words_aside(as_json):
        path, code = train_several(members, output, asked)
    _end_queue(path, code, as_json)


def _try_out(settings: Config, library: str | None, as_json: bool) -> None:
    """The dry run: its lines, or as a document the plan in numbers and the lines that say it."""
    from prefloop.runs.preparation import dry_run

    if not as_json:
        _say_blas(library)
        dry_run(settings, echo=click.echo)
        return
    lines: list[str] = []
    with words_aside(as_json):
        plan = dry_run(settings, echo=lines.append)
    print_json({"ready": True, "plan": asdict(plan), "lines": lines})


def _observers(settings: Config) -> list[object]:
    """What shows the run on the terminal, unless the bundled plugins are left out, and `Interrupts`.

    These come last: they stop the run, and the other one is to hear of its last step. Of several ranks the
    first one shows the run.
    """
    from prefloop.ranks.group import joined

    registry = Registry(settings.plugins.disable)
    if BUNDLED in registry.disabled or not joined().first:
        return [Interrupts()]
    return [registry.component("observer", DEFAULTS["display"])(), Interrupts()]


def _end(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(about_run(run))
    sys.exit({"finished": 0, "stopped": 130}.get(run.status, 1))


def _end_queue(path: Path, code: int, as_json: bool) -> NoReturn:
    if as_json:
        print_json(runs_of_queue(path))
    sys.exit(code)


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
        tell(stopping=self.received)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        click.echo("Stopping after this step, or in this evaluation. Once more to leave at once.", err=True)
