"""What a report knows of a run, read from its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from prefloop.types import Rate

START = "start"
"""What an evaluation of a run's own compares the policy with."""

Level = Literal["warning", "note", "fine", "unknown"]


@frozen
class Answer:
    """One side of a compared pair."""

    text: str
    tokens: int | None = None
    stopped: bool = True


@frozen
class Compared:
    """A held-out prompt with the policy's answer, the other one, and the probability that ours is better."""

    prompt: str
    ours: Answer
    theirs: Answer
    probability: float = 0.5
    status: str = "ok"
    prompt_id: str | None = None
    reason: str | None = None


@frozen
class Evaluated:
    """The policy after `step` steps against something, on held-out prompts."""

    step: int
    win_rate: Rate
    metrics: Mapping[str, float] = field(factory=dict)
    judge: str = ""
    against: str = START
    pairs: tuple[Compared, ...] = ()


@frozen
class Judged:
    """A line of the ledger, without its texts. Lengths are in tokens, stop token included."""

    step: int
    lengths: tuple[int, int]
    probability: float
    """That the first one is better."""
    status: str = "ok"
    orders: tuple[float, float] | None = None
    """The same asked in each order, where both were asked."""
    equal: bool = False
    """Both answers have the same text: there is nothing to prefer."""
    exchangeable: bool = True
    """Both are the policy's, so either was as likely to come first."""

    @property
    def prefers_first(self) -> bool | None:
        """The label, or None where there is none."""
        if self.status != "ok" or self.probability == 0.5:
            return None
        return self.probability > 0.5


@frozen
class RunFiles:
    """Everything a report shows of one run."""

    name: str
    manifest: Mapping[str, Any] = field(factory=dict)
    config: str = ""
    """The text of ``config.yaml``."""
    settings: Mapping[str, str] = field(factory=dict)
    """Its settings by key path, as they are written there."""
    steps: tuple[Mapping[str, float], ...] = ()
    """The lines of ``metrics.jsonl`` for steps, numbers only."""
    evaluations: tuple[Evaluated, ...] = ()
    """Against the run's start by the run's own judge, by step."""
    others: tuple[Evaluated, ...] = ()
    """Against something else, or by another judge."""
    judged: tuple[Judged, ...] = ()
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
    def before(self) -> Evaluated | None:
        """The first evaluation, where it was made before training."""
        return self.evaluations[0] if self.evaluations and self.evaluations[0].step == 0 else None

    @property
    def after(self) -> Evaluated | None:
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
