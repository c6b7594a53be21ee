"""Runs of a few seconds on the embedded model, and what two of them must have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from prefloop import Step

SETTINGS: dict[str, Any] = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 40},
    "judge": {"use": "rule", "prefer": ["Sure", "hope"], "avoid": ["Really"], "length": "longer"},
    "sampler": {"max_completion_length": 8},
    "adapter": {"rank": 2, "layers": 1},
    "training": {
        "batch_size": 3,
        "iters": 7,
        "save_every": 2,
        "evaluate_every": 3,
        "learning_rate": 1e-3,
        "schedule": {"use": "cosine_decay", "warmup": 2},
    },
    "evaluation": {"held_out": 4},
}
TIMES = ("seconds", "tokens_per_second", "peak_memory_gb", "crc")


def settings_for(path: Path, **changes: Any) -> dict[str, Any]:
    """`SETTINGS` for a run in the folder `path`, without a report."""
    return {**SETTINGS, **changes, "output": {"path": str(path), "report": False}}


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def timeless(path: Path) -> list[dict[str, Any]]:
    """The records without what differs between any two runs: how long they took."""
    return [{k: v for k, v in record.items() if not k.startswith(TIMES)} for record in lines(path)]


def outcome(run: Path) -> tuple[bytes, list[dict[str, Any]], list[dict[str, Any]], dict[str, bytes]]:
    """Everything that a run must have in common with its uninterrupted twin."""
    judged = {json.dumps(row, sort_keys=True) for row in timeless(run / "judgements.jsonl")}
    assert len(judged) == len(lines(run / "judgements.jsonl")), "a pair was judged twice"
    metrics = timeless(run / "metrics.jsonl")
    evaluations = {file.name: file.read_bytes() for file in (run / "evaluations").iterdir()}
    adapters = (run / "adapters.safetensors").read_bytes()
    return adapters, metrics, sorted(map(json.loads, judged), key=str), evaluations


@frozen
class StopsAfter:
    """An observer that stops the run after a step: with `StopRun` cleanly, else as a crash would."""

    step: int
    error: Exception

    def step_finished(self, step: Step) -> None:
        if step.progress.step == self.step:
            raise self.error
