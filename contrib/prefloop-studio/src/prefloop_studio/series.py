"""The metrics of a run as columns, and few enough points of them to draw.

A long run has more steps than a screen has columns. Of the steps that fall onto one place the least and the
greatest value are kept, so no spike is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import asdict, define, field

from prefloop import Evaluation, StepMetrics, open_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MOST_POINTS = 2000
"""Points of one series that are sent."""
_KEPT = 8_000_000
"""Numbers that are kept of the runs looked at last, only to be quicker: then only what is new is read."""


@define
class Columns:
    """The metrics of a run until `cursor`, by name, one value for each step; NaN where there is none."""

    cursor: int = 0
    steps: NDArray[np.int64] = field(factory=lambda: np.empty(0, np.int64))
    values: dict[str, NDArray[np.float64]] = field(factory=dict)
    evaluations: list[dict[str, Any]] = field(factory=list)
    lock: Lock = field(factory=Lock, repr=False)

    @property
    def size(self) -> int:
        """How many numbers these are."""
        return len(self.steps) * (1 + len(self.values))

    def read(self, path: Path) -> None:
        """Take in what is new in the run's files."""
        with self.lock:
            found = open_run(path).metrics(self.cursor)
            if found.restarted:
                self.steps, self.values, self.evaluations = np.empty(0, np.int64), {}, []
            self.cursor = found.cursor
            steps = [r for r in found.records if isinstance(r, StepMetrics)]
            self.evaluations += [evaluation_row(r) for r in found.records if isinstance(r, Evaluation)]
            self._append(steps)

    def _append(self, new: Sequence[StepMetrics]) -> None:
        before = len(self.steps)
        self.steps = np.concatenate([self.steps, np.array([r.step for r in new], np.int64)])
        for name in {name for r in new for name in r.metrics} | self.values.keys():
            old = self.values.get(name, np.full(before, np.nan))
            fresh = np.array([r.metrics.get(name, np.nan) for r in new], np.float64)
            self.values[name] = np.concatenate([old, fresh])


class ColumnCache:
    """The columns of the runs that were looked at last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, Columns] = OrderedDict()
        self._lock = Lock()

    def __call__(self, path: Path) -> Columns:
        """The columns of the run in `path` as they are now."""
        with self._lock:
            columns = self._kept.setdefault(path, Columns())
            self._kept.move_to_end(path)
            while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > _KEPT:
                self._kept.popitem(last=False)
        columns.read(path)
        return columns


def points(columns: Columns, names: Sequence[str], most: int = MOST_POINTS) -> dict[str, Any]:
    """The series called `names` at common steps, at most `most` of them, and each whole series in numbers.

    ``{"steps": [...], "values": {name: [...]}, "table": {name: {latest, least, greatest}}}``
    """
    known = [name for name in names if name in columns.values]
    count = len(columns.steps)
    if count <= most:
        steps = columns.steps.tolist()
        values = {name: columns.values[name].tolist() for name in known}
        return {"steps": steps, "values": values}
    edges = np.linspace(0, count, max(1, most // 2) + 1).astype(np.int64)
    steps = np.stack([columns.steps[edges[:-1]], columns.steps[edges[1:] - 1]], axis=1).ravel().tolist()
    return {"steps": steps, "values": {name: _extremes(columns.values[name], edges) for name in known}}


def latest(columns: Columns, name: str) -> float | None:
    """The last value of a metric; None where it has none."""
    values = columns.values.get(name, np.empty(0))
    defined = np.flatnonzero(np.isfinite(values))
    return float(values[defined[-1]]) if len(defined) else None


def table(columns: Columns) -> dict[str, dict[str, float]]:
    """The latest, least and greatest value of every metric, and the latest step that has it."""
    rows = {}
    for name, values in columns.values.items():
        defined = np.flatnonzero(np.isfinite(values))
        if len(defined):
            there = values[defined]
            rows[name] = {
                "latest": float(there[-1]),
                "least": float(there.min()),
                "greatest": float(there.max()),
                "step": int(columns.steps[defined[-1]]),
            }
    return rows


def evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation without its pairs."""
    return {
        "step": evaluation.step,
        "judge": evaluation.judge,
        "win_rate": asdict(evaluation.win_rate),
        "others": [{"judge": o.judge, "win_rate": asdict(o.win_rate)} for o in evaluation.others],
        "teacher": evaluation.teacher,
        "metrics": dict(evaluation.metrics),
    }


def _extremes(values: NDArray[np.float64], edges: NDArray[np.int64]) -> list[float]:
    """Of each stretch between two edges the least and the greatest value, in the order in which they come."""
    found: list[float] = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:end]
        defined = part[np.isfinite(part)]
        if not len(defined):
            found += [float("nan")] * 2
            continue
        low, high = int(defined.argmin()), int(defined.argmax())
        found += [float(defined[min(low, high)]), float(defined[max(low, high)])]
    return found
