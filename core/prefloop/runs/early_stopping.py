"""Which evaluations of a run are its best, and whether it has waited long enough for a better one."""

from __future__ import annotations

from collections.abc import Sequence

from prefloop.config import TrainingConfig
from prefloop.types import Evaluation


def ranked(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations made after a step, those with the highest win rate first; the earlier of equal ones."""
    return sorted((e for e in evaluations if e.step), key=lambda e: e.win_rate.rate, reverse=True)


def is_over(evaluations: Sequence[Evaluation], training: TrainingConfig) -> bool:
    """Whether the last ``training.early_stop`` evaluations have brought nothing better."""
    if training.early_stop is None:
        return False
    return stale([e.win_rate.rate for e in evaluations], training.min_delta) >= training.early_stop


def stale(rates: Sequence[float], min_delta: float) -> int:
    """How many of the last rates are not more than `min_delta` above the best before them.

    Small gains add up: what is compared with is the last rate that was better, not the last rate.
    """
    best, count = -1.0, 0
    for rate in rates:
        better = best < 0 or rate > best + min_delta
        best, count = (rate, 0) if better else (best, count + 1)
    return count


def told(training: TrainingConfig, step: int) -> str:
    """Why a run ended before its last step."""
    return (
        f"ended early after step {step}: the win rate has not improved in {training.early_stop} evaluations "
        "(training.early_stop)"
    )
