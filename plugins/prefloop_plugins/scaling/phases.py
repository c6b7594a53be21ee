"""How long the phases of a step take on a machine, as lines over its pairs, from runs that were measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from attrs import evolve, frozen

from prefloop.errors import UserError
from prefloop.runs.records import StepMetrics
from prefloop.runs.view import open_run

DIVIDED = ("sampling", "judging", "scoring")
"""The phases that take longer with more pairs; an update does not."""
WARM_UP = 1
"""First steps that do not count, or first rollout: mlx makes kernels and buffers in them."""
Rows = Sequence[Mapping[str, float]]
"""The metrics of steps."""


@frozen
class Line:
    """Seconds of a phase: `fixed`, and `each` for a pair."""

    fixed: float
    each: float

    def __call__(self, pairs: float) -> float:
        return self.fixed + self.each * pairs if pairs else 0.0

    def faster(self, speed: float) -> Line:
        return Line(self.fixed / speed, self.each / speed)


@frozen
class Phases:
    """What a step takes on one machine."""

    sampling: Line
    judging: Line
    scoring: Line
    update: float
    tokens: float
    """Mean tokens of a completion."""
    spread: tuple[float, ...]
    """Seconds of each measured step, over the mean of its size."""
    sizes: tuple[int, ...]
    """Pairs of the steps that were measured. From one size, seconds are taken to go with the pairs."""
    steps: int
    source: str

    def step(self, pairs: int) -> float:
        """Seconds of a step on the machine alone."""
        return self.sampling(pairs) + self.judging(pairs) + self.scoring(pairs) + self.update

    def faster(self, speed: float) -> Phases:
        """Those of a machine of `speed` times this speed."""
        return evolve(
            self,
            sampling=self.sampling.faster(speed),
            judging=self.judging.faster(speed),
            scoring=self.scoring.faster(speed),
            update=self.update / speed,
        )

    def words(self, pairs: int) -> str:
        parts = [f"{name} {getattr(self, name)(pairs):.3g} s" for name in DIVIDED]
        sizes = " and ".join(map(str, self.sizes))
        spread = float(np.std(self.spread))
        return (
            f"{', '.join(parts)}, update {self.update:.3g} s for {pairs} pairs, spread {spread:.0%} "
            f"({self.source}: {self.steps} steps of {sizes} pairs)"
        )


def phases_of(rows: Rows, source: str) -> Phases:
    """The phases of steps that were measured: a line through the means of each size, where there are several.

    Raises `UserError` where there is none.
    """
    by_size: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    for row in rows:
        by_size[int(row["pairs"])].append(row)
    if not by_size:
        raise UserError(f"{source}: no step is measured there after the first, which does not count.")
    lines = {name: _line({n: _mean(own, name) for n, own in by_size.items()}) for name in DIVIDED}
    return Phases(
        **lines,
        update=_mean(rows, "update"),
        tokens=fmean(row["completion_length"] for row in rows),
        spread=tuple(factor for own in by_size.values() for factor in _factors(own)),
        sizes=tuple(sorted(by_size)),
        steps=len(rows),
        source=source,
    )


def _line(means: Mapping[int, float]) -> Line:
    """The line through mean seconds by pairs; through zero from one size. Nothing takes negative time."""
    sizes, seconds = list(means), list(means.values())
    if len(sizes) > 1:
        each, fixed = (float(value) for value in np.polyfit(sizes, seconds, 1))
        if each >= 0 and fixed >= 0:
            return Line(fixed, each)
        if each < 0:
            return Line(fmean(seconds), 0.0)
    return Line(0.0, sum(seconds) / sum(sizes))


def _factors(rows: Rows) -> list[float]:
    seconds = [sum(row.get(f"seconds_{name}", 0.0) for name in DIVIDED) for row in rows]
    mean = fmean(seconds)
    return [one / mean for one in seconds] if mean else [1.0] * len(rows)


def _mean(rows: Rows, phase: str) -> float:
    return fmean(row.get(f"seconds_{phase}", 0.0) for row in rows)


def rows_of_run(path: Path, trained: int) -> list[Mapping[str, float]]:
    """What was measured in the steps of a run, but for the first.

    Raises `UserError` where it trained other than `trained` parameters, as it is of another model or adapter,
    and where several ranks shared it, as a share's seconds are not those of its pairs.
    """
    run = open_run(path)
    if (ranks := run.manifest.get("ranks", 1)) != 1:
        raise UserError(
            f"{path}: {ranks} ranks shared its run, so its seconds are those of a share and of waiting for "
            "the others: measure with a run of one process."
        )
    if run.plan and run.plan.trained_parameters != trained:
        raise UserError(
            f"{path}: its run trained {run.plan.trained_parameters:,} parameters and this configuration "
            f"trains {trained:,}: measure with the same model and adapter."
        )
    pooled = int(run.settings.get("training", {}).get("rollout", WARM_UP))
    steps = [m for m in run.metrics().records if isinstance(m, StepMetrics)]
    known = [one.metrics for one in steps if one.step > max(pooled, WARM_UP)]
    return [row for row in known if row.get("seconds_scoring") and row.get("pairs")]


def phases_of_runs(paths: Sequence[Path], trained: int) -> Phases:
    """The phases in several runs of one configuration, whose batches may differ. Raises `UserError`."""
    rows = [row for path in paths for row in rows_of_run(path, trained)]
    return phases_of(rows, ", ".join(map(str, paths)))
