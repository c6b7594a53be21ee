"""An evaluation as a file: ``evaluations/<step>.json`` in the run directory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict

from prefloop.types import Completion, Evaluation, Pair, Verdict

FOLDER = "evaluations"


def file_of(run: Path, step: int) -> Path:
    """Where the evaluation made after `step` steps of training goes."""
    return run / FOLDER / f"{step:07d}.json"


def files(run: Path) -> dict[int, Path]:
    """The evaluations made in training, by their step; those of `prefloop eval` have other names."""
    found = {int(p.stem): p for p in (run / FOLDER).glob("*.json") if p.stem.isdecimal()}
    return dict(sorted(found.items()))


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything of an evaluation, as JSON."""
    judged = zip(evaluation.pairs, evaluation.verdicts, strict=True)
    return {
        "step": evaluation.step,
        "judge": evaluation.judge,
        "against": evaluation.against,
        "win_rate": asdict(evaluation.win_rate),
        "metrics": finite(evaluation.metrics),
        "pairs": [_pair(pair, verdict) for pair, verdict in judged],
    }


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN: they are null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _pair(pair: Pair, verdict: Verdict) -> dict[str, Any]:
    return {
        "prompt": pair.prompt.text,
        "prompt_id": pair.prompt.id or None,
        "ours": _answer(pair.first),
        "theirs": _answer(pair.second),
        "probability": verdict.probability,
        "status": verdict.status,
        "orders": verdict.orders and list(verdict.orders),
        "reason": verdict.reason,
    }


def _answer(completion: Completion) -> dict[str, Any]:
    return {"text": completion.text, "tokens": len(completion.tokens), "stopped": completion.stopped}
