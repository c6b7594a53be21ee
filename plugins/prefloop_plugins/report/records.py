"""What a report knows of a run, read from its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from prefloop.runs.records import Judgement
from prefloop.types import Evaluation

Level = Literal["warning", "note", "fine", "unknown"]


@frozen
class RunFiles:
    """Everything a report shows of one run, as `reading` has picked it."""

    name: str
    manifest: Mapping[str, Any] = field(factory=dict)
    config: str = ""
    """The text of ``config.yaml``."""
    settings: Mapping[str, str] = field(factory=dict)
    """Its settings by key path, as they are written there."""
    steps: tuple[Mapping[str, float], ...] = ()
    """The lines of ``metrics.jsonl`` for steps, numbers only."""
    evaluations: tuple[Evaluation, ...] = ()
    """Against the run's start by the run's own judge, by step. A metric that is not defined is left out."""
    others: tuple[Evaluation, ...] = ()
    """Against something else, or by another judge."""
    judged: tuple[Judgement, ...] = ()
    """The training pairs in the ledger, each once."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""

    def about(self, *path: str) -> Any:
        """A value of ``run.json`` by its keys, or None where it is not there."""
        found: Any = self.manifest
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def count(self, *path: str) -> int | None:
        """The same where it is a whole number."""
        found = self.about(*path)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def status(self) -> str:
        return str(self.about("status") or "unknown")

    @property
    def before(self) -> Evaluation | None:
        """The first evaluation, where it was made before training."""
        return self.evaluations[0] if self.evaluations and self.evaluations[0].step == 0 else None

    @property
    def after(self) -> Evaluation | None:
        """The evaluation of what the run ended with: the last, or with ``load_best`` the best."""
        trained = [e for e in self.evaluations if e.step > 0]
        chosen = [e for e in trained if e.step == self.best_loaded] or trained
        return chosen[-1] if chosen else None

    @property
    def best_loaded(self) -> int | None:
        """The step whose adapters the run ended with, where it put back the best ones."""
        return self.count("summary", "adapters_step")

    def change(self, metric: str) -> tuple[float, float] | None:
        """A metric of the evaluations before and after; None where either lacks it."""
        if self.before is None or self.after is None:
            return None
        before, after = self.before.metrics.get(metric), self.after.metrics.get(metric)
        return None if before is None or after is None else (before, after)


@frozen
class Finding:
    """What a check of the honesty panel says."""

    level: Level
    title: str
    text: str
