"""What trackers are told of a run: numbers with their names, and tables of pairs, each at a step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from prefloop import Evaluation, Pair, Rate, Step, StepMetrics, Verdict

Kind = Literal["step", "evaluation"]
TRAIN, EVAL = "train", "eval"
COUNTS: Mapping[Kind, str] = {"step": f"{TRAIN}/step", "evaluation": f"{EVAL}/step"}
"""Numbers that are the step itself: their largest value tells how far a tracked run was told. They come
first, so that what was written is not written again where a kill cuts the numbers of a step apart."""
Rows = Sequence[Mapping[str, str | float]]


@frozen
class Entry:
    """Either numbers, or the rows of a table that is called `table`."""

    kind: Kind
    step: int
    numbers: Mapping[str, float] = field(factory=dict)
    table: str = ""
    rows: Rows = ()


def of_step(measured: Step | StepMetrics) -> Entry:
    """The metrics of a step, under the names of ``metrics.jsonl``; what is not defined is left out."""
    step = measured.progress.step if isinstance(measured, Step) else measured.step
    numbers = {f"{TRAIN}/{name}": value for name, value in measured.metrics.items()}
    return Entry("step", step, _finite({COUNTS["step"]: step} | numbers))


def of_evaluation(evaluation: Evaluation) -> Entry:
    """The win rates by every judge, each with its interval, and the other metrics."""
    numbers = {f"{EVAL}/{name}": value for name, value in evaluation.metrics.items()}
    numbers |= _rates(f"{EVAL}/win_rate", evaluation.win_rate)
    for judge, rate in _by_judge(evaluation):
        numbers |= _rates(f"{EVAL}/{judge}/win_rate", rate)
    return Entry("evaluation", evaluation.step, _finite({COUNTS["evaluation"]: evaluation.step} | numbers))


def table_of_pairs(
    kind: Kind, step: int, pairs: Sequence[Pair], verdicts: Sequence[Verdict], judge: str
) -> Entry:
    """What was judged and how."""
    name = f"pairs/{TRAIN if kind == 'step' else EVAL}"
    rows = [_row(step, *judged, judge) for judged in zip(pairs, verdicts, strict=False)]
    return Entry(kind, step, table=name, rows=rows)


def largest(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The largest value under each name."""
    values: dict[str, float] = {}
    for name, value in found:
        values[name] = max(value, values.get(name, value))
    return values


def markdown(rows: Rows) -> str:
    """The table as text, for trackers that have no tables. Texts are shown as they are, in one line each."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(_cell, row.values())) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(step: int, pair: Pair, verdict: Verdict, judge: str) -> dict[str, str | float]:
    return {
        "step": step,
        "prompt": pair.prompt.text,
        "first": pair.first.text,
        "second": pair.second.text,
        "probability": verdict.probability,
        "status": verdict.status,
        "judge": judge,
    }


def _by_judge(evaluation: Evaluation) -> Iterator[tuple[str, Rate]]:
    if evaluation.judge:
        yield _name(evaluation.judge), evaluation.win_rate
    for other in evaluation.others:
        yield _name(other.judge), other.win_rate


def _name(judge: str) -> str:
    """A judge's name as every tracker takes it in the name of a metric."""
    return re.sub(r"[^\w.-]+", "-", judge)


def _rates(name: str, rate: Rate) -> dict[str, float]:
    if not rate.pairs:
        return {f"{name}_pairs": 0.0}
    return {
        name: rate.rate,
        f"{name}_low": rate.low,
        f"{name}_high": rate.high,
        f"{name}_pairs": float(rate.pairs),
    }


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _cell(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    return value.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ⏎ ")
