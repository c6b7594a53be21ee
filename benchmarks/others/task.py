"""The tasks that all three get. Every environment imports this, so it needs the standard library only.

In ``style`` the policy is the quick start's, and the judge the rule that the quick start's judge was taught:
the answer with more kinds of warm phrases and fewer kinds of blunt ones is better. In ``sentences`` it is
SmolLM2, and the brighter answer by VADER is better.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import worker
from benchmarks.harness.sentiment import brightness

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "embedded"))

from facts import is_right, style_score

__all__ = ["Job", "Place", "is_right", "serve", "style_score"]

BETA = 0.1
TEMPERATURE = 0.8
"""The only one at which mlx-lm-lora's XPO samples."""
TOP_P = 1.0
"""The only one that mlx-lm-lora has."""
RANK = 8
SCALE = 20.0


@dataclass(frozen=True)
class Task:
    """What is trained towards, and for how long."""

    batch_size: int
    steps: int
    save_every: int
    max_tokens: int
    probe: str
    """A prompt that every side gives the logits after, to see that all read adapters in the same way."""
    score: Callable[[str], float]
    """Of two answers, the one with the higher score is better."""

    @property
    def saves(self) -> range:
        """After which steps adapters are kept."""
        return range(self.save_every, self.steps + 1, self.save_every)


TASKS = {
    "style": Task(16, 30, 10, 32, "What does a cow say?", style_score),
    "sentences": Task(4, 24, 24, 20, "Say in one sentence how you feel about rain.", brightness),
}


@dataclass(frozen=True)
class Job:
    """One training run."""

    tool: str
    seed: int
    learning_rate: float = 2e-4
    algorithm: str = "online_dpo"
    alpha: float = 0.0
    changes: tuple[str, ...] = ()
    """For prefloop, what it does in another's way: see `prefloop_worker`."""
    goal: str = "style"
    """The name of the task."""

    @property
    def task(self) -> Task:
        return TASKS[self.goal]

    @classmethod
    def of(cls, given: dict[str, Any]) -> Job:
        """A job as it was written to JSON."""
        return cls(**{**given, "changes": tuple(given["changes"])})


@dataclass(frozen=True)
class Place:
    """Where a run finds what it needs, and leaves what it made."""

    model: str
    prompts: str
    folder: str

    def adapters(self, step: int) -> str:
        """The file of the adapters after `step`, named and laid out as mlx-lm's."""
        return f"{self.folder}/adapters-{step:04d}.safetensors"

    def rows(self) -> list[dict[str, str]]:
        """The prompts to train on, as they are in the file."""
        return [json.loads(line) for line in Path(self.prompts).read_text().splitlines()]


def serve(train: Callable[[Job, Place], dict[str, Any]], distributions: tuple[str, ...]) -> None:
    """Be the worker that trains as it is told."""
    worker.serve(lambda given: train(Job.of(given["job"]), Place(**given["place"])), distributions)
