"""`prefloop eval`: how good the policy of a run is, against its start or any other model."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefloop.beginning import begun
from prefloop.cli.common import (
    PathOnDisk,
    configure_process,
    json_option,
    print_json,
    set_option,
    words_aside,
)
from prefloop.errors import StopRun, UserError
from prefloop.runs.view import EVALUATIONS, LEDGER
from prefloop.text import printable

if TYPE_CHECKING:
    from prefloop.components import Judge
    from prefloop.registry import Origin
    from prefloop.types import Evaluation
    from prefloop_plugins.commands.evaluating import LoadedEvaluation


@click.command("eval")
@click.argument("run", type=PathOnDisk())
@click.option(
    "--against",
    metavar="MODEL",
    default="start",
    show_default=True,
    help="start or base of the run, another run, or a model.",
)
@click.option("--checkpoint", metavar="STEP", help="A checkpoint's step, or best, instead of the end.")
@click.option("--judge", metavar="CONFIG", help="Another judge than the run's evaluations have.")
@click.option("--prompts", metavar="PATH", help="Other prompts than those that the run held out.")
@set_option
@click.option("--output", type=PathOnDisk(), help="The file to write, not one in the run.")
@json_option
def evaluate(
    run: Path,
    against: str,
    checkpoint: str | None,
    judge: str | None,
    prompts: str | None,
    overrides: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare the policy of RUN with another model, prompt by prompt, by a judge.

    --judge is a configuration, a judge's name or a model, as for prefloop judge. --set changes settings of
    the run that matter here, such as evaluation.temperature, or those of the judge. Everything is written
    to a file in RUN/evaluations.

    Exits with 0, with 130 when the judge or the keyboard stopped it, with 1 when the judge failed, and with 2
    when something is wrong.
    """
    with words_aside(as_json):
        configure_process()
        from prefloop_plugins.commands.evaluating import load_evaluation

        given, rest = _judge(judge, overrides)
        file = output or _free(run, checkpoint or "final", against)
        if file.exists():
            raise UserError(f"{file}: exists already. Give another --output, or remove it.")
        loaded = load_evaluation(
            run, against=against, which=checkpoint, judge=given, prompts=prompts, overrides=rest
        )
        with _written(run), begun(loaded.began):  # a judge's questions may have a date as well
            evaluation = _evaluate(run, loaded)
            about = _write(file, loaded, evaluation)
    from prefloop_plugins.commands.eval_table import checks, notes, show

    if as_json:
        said = [*notes(loaded, evaluation), *checks(run, evaluation)]
        print_json({"file": str(file), **about, "notes": said})
        return
    show(run, loaded, evaluation)
    click.echo(f"\nWrote {printable(str(file))}, with every pair of answers.")


def _judge(given: str | None, overrides: Sequence[str]) -> tuple[tuple[Judge, Origin] | None, Sequence[str]]:
    """The judge that was named, with the overrides that are its, and the other overrides."""
    if given is None:
        return None, overrides
    from prefloop.config import load_judge

    own = [text for text in overrides if text.startswith("judge.")]
    return load_judge(given, own), [text for text in overrides if text not in own]


def _free(run: Path, which: str, against: str) -> Path:
    """The first file name in the run's folder of evaluations that is not taken."""
    other = re.sub(r"[^\w.-]+", "-", Path(against).name) or "model"
    stem = f"{which}-against-{other}"
    names = (f"{stem}.json" if n == 1 else f"{stem}-{n}.json" for n in itertools.count(1))
    return next(run / EVALUATIONS / name for name in names if not (run / EVALUATIONS / name).exists())


def _evaluate(run: Path, loaded: LoadedEvaluation) -> Evaluation:
    """Sample, judge, measure. Verdicts are kept in a ledger, so that nothing is asked twice."""
    from attrs import evolve

    from prefloop.components import BaseJudge, adapt
    from prefloop.runs.judges import panel
    from prefloop.runs.ledger import CachedJudge, Ledger

    evaluator, step = loaded.evaluator, loaded.snapshot.step
    (run / EVALUATIONS).mkdir(exist_ok=True)
    ledger = Ledger(run / EVALUATIONS / LEDGER)
    cached = partial(CachedJudge, ledger=ledger, step=lambda: step, evaluation=True)
    judges = [adapt(one.judge, BaseJudge) for one in loaded.judges]
    try:
        with _at_work(silent=any(judge.interactive for judge in judges)) as tell:
            return panel(evolve(evaluator, tell=tell), loaded.judges, cached)(step)
    except (StopRun, KeyboardInterrupt) as stop:
        reason = stop.reason if isinstance(stop, StopRun) else "interrupted from the keyboard"
        click.echo(f"Stopped: {printable(reason)}. The same command goes on from here.", err=True)
        sys.exit(1 if isinstance(stop, StopRun) and stop.failed else 130)
    finally:
        for judge in judges:
            judge.close()


@contextlib.contextmanager
def _at_work(*, silent: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show on the terminal how far it is, by what is yielded, unless a person is answering there."""
    from rich.console import Console

    console = Console(stderr=True)
    if silent or not console.is_terminal:
        yield lambda phase, done, total: None
        return
    with console.status("sampling") as status:
        yield lambda phase, done, total: status.update(f"{phase} {done} of {total}")


@contextlib.contextmanager
def _written(run: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to '{error.filename or run}': {error.strerror}.") from error


def _write(file: Path, loaded: LoadedEvaluation, evaluation: Evaluation) -> dict[str, Any]:
    """Write everything into `file`; what it holds besides the pairs."""
    from prefloop.evaluation.stats import completion_metrics
    from prefloop.runs.files import rewrite_json
    from prefloop.runs.records import evaluation_to_json, finite

    about = evaluation_to_json(evaluation)
    pairs = about.pop("pairs")
    about |= {
        "policy": loaded.snapshot.label,
        "prompts": loaded.source,
        "their_metrics": finite(completion_metrics([pair.second for pair in evaluation.pairs])),
    }
    rewrite_json(file, {**about, "pairs": pairs})
    return about
