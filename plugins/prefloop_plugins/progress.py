"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from prefloop import Evaluation, Observer, RunView, Step
from prefloop_plugins.closing import closing_words
from prefloop_plugins.rates import interval


@define
class ProgressObserver(Observer):
    """Shows the plan, a line every ``training.report_every`` steps, and each evaluation."""

    console: Console = field(init=False, eq=False, factory=lambda: Console(highlight=False, soft_wrap=True))
    _every: int = field(init=False, default=10)
    _recent: list[Mapping[str, float]] = field(init=False, factory=list)
    _bar: Progress | None = field(init=False, default=None)
    _task: TaskID = field(init=False, default=TaskID(0))

    def run_started(self, run: RunView) -> None:
        self._every = run.settings["training"]["report_every"]
        for title, text in [*run.plan_lines, ("run", str(run.path))]:
            self.console.print(f"{title:<8} {text}", markup=False)
        if self.console.is_terminal and not run.asks_a_person:
            self._start_bar(run.manifest["plan"]["steps"])

    def step_finished(self, step: Step) -> None:
        self._recent.append(step.metrics)
        if self._bar:
            self._bar.update(self._task, completed=step.progress.step)
        if step.progress.step % self._every == 0 or step.progress.step == step.progress.steps:
            self._print(_report(step, self._recent))
            self._recent.clear()

    def evaluated(self, evaluation: Evaluation) -> None:
        rate = evaluation.win_rate
        line = (
            f"eval {evaluation.step}: win rate against the start {interval(rate)} on {rate.pairs} held-out "
            "prompts"
        )
        if "accuracy" in evaluation.metrics:
            line += f", right answers {evaluation.metrics['accuracy']:.0%}"
        self._print(line)

    def checkpoint_saved(self, step: int, path: str) -> None:
        self._print(f"saved {path}")

    def run_finished(self, run: RunView) -> None:
        if self._bar:
            self._bar.stop()
        self._print(closing_words(run))

    def _start_bar(self, steps: int) -> None:
        columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("step", total=steps)
        self._bar.start()

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False)


def _report(step: Step, recent: list[Mapping[str, float]]) -> str:
    """Means over the steps since the last report, of those metrics that every reader wants."""

    def mean(name: str) -> float | None:
        values = [metrics[name] for metrics in recent if name in metrics]
        return fmean(values) if values else None

    parts = [f"step {step.progress.step}/{step.progress.steps}"]
    for title, name, form in _SHOWN:
        if (value := mean(name)) is not None:
            parts.append(f"{title} {value:{form}}")
    return "  ".join(parts)


_SHOWN = (
    ("loss", "loss", ".4f"),
    ("bonus", "exploration_bonus", ".2e"),
    ("margin", "margin", "+.3f"),
    ("reward accuracy", "reward_accuracy", ".0%"),
    ("ties", "ties", ".0%"),
    ("errors", "errors", ".0%"),
    ("length", "completion_length", ".1f"),
    ("lr", "learning_rate", ".1e"),
    ("tok/s", "tokens_per_second", ".0f"),
    ("s", "seconds", ".2f"),
)
