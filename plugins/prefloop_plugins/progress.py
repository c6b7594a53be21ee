"""Progress of a run: a bar on a terminal, plain lines elsewhere, and a warning where something falls off."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from prefloop import Evaluation, Observer, Pair, RunView, Step, StepMetrics, Verdict
from prefloop import Progress as Place
from prefloop.text import duration
from prefloop_plugins.alarms import Alarms
from prefloop_plugins.closing import closing_words
from prefloop_plugins.rates import interval

QUIET = 60.0
"""Seconds of an evaluation after which a line says how far it is, where there is no bar to show it."""
REMEMBERED = 24 * 3600.0
"""Seconds over which the speed is taken: rich's own 30 would leave slow steps without a time."""


@define
class ProgressObserver(Observer):
    """Shows the plan, lines every ``training.report_every`` steps, each evaluation, and what falls off."""

    console: Console = field(init=False, eq=False, factory=lambda: Console(highlight=False, soft_wrap=True))
    _every: int = field(init=False, default=10)
    _recent: list[Mapping[str, float]] = field(init=False, factory=list)
    _alarms: Alarms = field(init=False, factory=Alarms)
    _bar: Progress | None = field(init=False, default=None)
    _steps: TaskID = field(init=False, default=TaskID(0))
    _evaluation_bar: TaskID | None = field(init=False, default=None)
    _heard: float = field(init=False, factory=time.monotonic)

    def run_started(self, run: RunView) -> None:
        self._every = run.settings["training"]["report_every"]
        for title, text in [*run.plan_lines, ("run", str(run.path))]:
            self._print(f"{title:<8} {text}")
        self._catch_up(run)
        if self.console.is_terminal and not run.asks_a_person:
            self._start_bar(run.manifest["plan"]["steps"])

    def pairs_judged(self, progress: Place, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self._warn(f"step {progress.step}", self._alarms.judged(pairs, verdicts))

    def step_finished(self, step: Step) -> None:
        self._recent.append(step.metrics)
        if self._bar:
            self._bar.update(self._steps, completed=step.progress.step)
        if step.progress.step % self._every == 0 or step.progress.step == step.progress.steps:
            self._print(_report(step, self._recent))
            self._recent.clear()
        self._warn(f"step {step.progress.step}", self._alarms.stepped(step.metrics))

    def evaluating(self, phase: str, done: int, total: int) -> None:
        if self._bar:
            if self._evaluation_bar is None:
                self._evaluation_bar = self._bar.add_task("evaluation")
            text = f"evaluation, {phase}"
            self._bar.update(self._evaluation_bar, description=text, completed=done, total=total)
        elif time.monotonic() - self._heard >= QUIET:
            self._print(f"evaluating: {phase} {done} of {total}")

    def evaluated(self, evaluation: Evaluation) -> None:
        if self._bar and self._evaluation_bar is not None:
            self._bar.remove_task(self._evaluation_bar)
            self._evaluation_bar = None
        for line in _evaluation(evaluation):
            self._print(line)
        self._warn(f"eval {evaluation.step}", self._alarms.evaluated(evaluation))

    def checkpoint_saved(self, step: int, path: str) -> None:
        self._print(f"saved {path}")

    def run_finished(self, run: RunView) -> None:
        if self._bar:
            self._bar.stop()
        self._print(closing_words(run))

    def _catch_up(self, run: RunView) -> None:
        """What a resumed run is compared with: its own first steps and first evaluation."""
        steps = [made for made in run.metrics().records if isinstance(made, StepMetrics)]
        for made in steps:
            list(self._alarms.stepped(made.metrics))
        taken = max((made.step for made in steps), default=0)
        for judgement in run.judgements().records if taken else ():
            if not judgement.evaluation and judgement.step <= taken:
                list(self._alarms.judged([judgement.pair], [judgement.verdict]))
        for evaluation in run.evaluations():
            list(self._alarms.evaluated(evaluation))
        self._alarms.forget()

    def _start_bar(self, steps: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True, speed_estimate_period=REMEMBERED)
        self._steps = self._bar.add_task("step", total=steps)
        self._bar.start()

    def _warn(self, where: str, texts: Iterator[str]) -> None:
        for text in texts:
            self._print(f"warning  {where}: {text}")

    def _print(self, line: str) -> None:
        self._heard = time.monotonic()
        self.console.print(line, markup=False)


def _evaluation(evaluation: Evaluation) -> Iterator[str]:
    """Who won, and below it what a win rate alone would hide."""
    rate, where = evaluation.win_rate, f"eval {evaluation.step}: "
    if rate.pairs:
        line = f"win rate against the start {interval(rate)} on {rate.pairs} held-out prompts"
    else:
        line = f"no win rate: the judge gave no verdict on {len(evaluation.pairs)} held-out prompts"
    if "accuracy" in evaluation.metrics:
        line += f", right answers {evaluation.metrics['accuracy']:.0%}"
    yield where + line
    for source, own in evaluation.source_rates.items():
        yield " " * len(where) + f"of {source} {interval(own)} on {own.pairs}"
    for other in evaluation.others:
        yield " " * len(where) + f"by {other.judge} {interval(other.win_rate)}"
    yield " " * len(where) + _shown([evaluation.metrics], _ANSWERS)


def _report(step: Step, recent: Sequence[Mapping[str, float]]) -> str:
    """Means over the steps since the last report: how it learns, and below it how answers and judge are."""
    where = f"step {step.progress.step}/{step.progress.steps}"
    left = (step.progress.steps - step.progress.step) * fmean(metrics["seconds"] for metrics in recent)
    first = f"{where}  {_shown(recent, _LEARNING)}" + (f"  {duration(left)} left" if left else "")
    return f"{first}\n{' ' * len(where)}  {_shown(recent, _ANSWERS)}"


def _shown(recent: Sequence[Mapping[str, float]], columns: Sequence[tuple[str, str, str]]) -> str:
    """Means of those metrics that there are, with their titles."""
    parts = []
    for title, name, form in columns:
        values = [metrics[name] for metrics in recent if math.isfinite(metrics.get(name, math.nan))]
        if values:
            parts.append(f"{title} {fmean(values):{form}}")
    return "  ".join(parts)


_LEARNING = (
    ("loss", "loss", ".4f"),
    ("bonus", "exploration_bonus", ".2e"),
    ("margin", "margin", "+.3f"),
    ("reward accuracy", "reward_accuracy", ".0%"),
    ("lr", "learning_rate", ".1e"),
    ("tok/s", "tokens_per_second", ".0f"),
    ("s", "seconds", ".2f"),
)
_ANSWERS = (
    ("length", "completion_length", ".1f"),
    ("stopped", "stop_rate", ".0%"),
    ("distinct-2", "distinct_2", ".2f"),
    ("KL", "kl", ".2f"),
    ("ties", "ties", ".0%"),
    ("errors", "errors", ".0%"),
    ("gap", "position_gap", ".2f"),
)
