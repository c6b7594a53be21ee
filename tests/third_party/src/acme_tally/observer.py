"""An observer that hears every event of a run, and reads the run through its typed view."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field

from prefloop import Evaluation, Observer, Pair, Progress, RunView, Step, Verdict


@define
class Scoreboard(Observer):
    """Writes ``scoreboard.json`` into the run's folder when the run ends."""

    events: list[str] = field(factory=list, init=False)
    best_loss: float | None = field(default=None, init=False)

    def run_started(self, run: RunView) -> None:
        training = run.settings["training"]
        self.events.append(f"run_started {run.name} {run.status} batch {training['batch_size']}")
        for title, _ in run.plan_lines:
            self.events.append(f"plan {title}")

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        ties = sum(verdict.status == "tie" for verdict in verdicts)
        self.events.append(f"pairs_judged {progress.step} {len(pairs)} pairs, {ties} ties")

    def step_finished(self, step: Step) -> None:
        loss = step.metrics.get("loss")
        if loss is not None and (self.best_loss is None or loss < self.best_loss):
            self.best_loss = loss
        self.events.append(f"step_finished {step.progress.step}")

    def evaluated(self, evaluation: Evaluation) -> None:
        self.events.append(f"evaluated {evaluation.step} on {evaluation.win_rate.pairs} pairs")

    def checkpoint_saved(self, step: int, path: str) -> None:
        self.events.append(f"checkpoint_saved {step} {Path(path).name}")

    def run_finished(self, run: RunView) -> None:
        self.events.append(f"run_finished {run.status}")
        board = {"events": self.events, "best_loss": self.best_loss, "judged": len(run.judgements().records)}
        (run.path / "scoreboard.json").write_text(json.dumps(board), encoding="utf-8")
