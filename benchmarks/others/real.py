"""SmolLM2 towards VADER's sentiment with each tool: ``python -m benchmarks.others real``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.ground import FEW_HELD_OUT, SENTENCES
from benchmarks.experiments.task import TASKS
from benchmarks.experiments.training import Measurement
from benchmarks.harness import smollm2
from benchmarks.harness.internals import load_adapters
from benchmarks.harness.worker import Record
from benchmarks.others.evaluating import logit_difference
from benchmarks.others.prefloop_worker import ADAPTER
from benchmarks.others.runs import Runs
from benchmarks.others.tables import REAL
from benchmarks.others.task import Job, Place
from benchmarks.speed import english

from prefloop import Policy

GOAL = "sentences"
RATES = {"prefloop": (4e-5, 2e-4), "mlx-lm-lora": (4e-5, 2e-4), "trl": (2e-4, 8e-4)}
"""One for everybody, and one more: lower where Adam has no bias correction, which lengthens early steps."""


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Seed by seed, so that an interrupted campaign has every tool."""
    return [
        Job(tool, seed, rate, goal=GOAL) for seed in seeds for tool, rates in RATES.items() for rate in rates
    ]


class Campaign(Runs):
    """Trains SmolLM2 and keeps what is finished in the repository."""

    def __init__(self, cache: Path) -> None:
        asked = english.one_sentence()[FEW_HELD_OUT:]
        prompts = cache / "one-sentence.jsonl"
        cache.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"prompt": prompt}) + "\n" for prompt in asked)
        prompts.write_text("".join(lines), encoding="utf-8")
        super().__init__(cache, REAL, Path(smollm2.folder()), prompts)

    def run(self, wanted: Sequence[Job]) -> None:
        for job in wanted:
            self.trained(job, job.tool)

    def measured(self, job: Job, place: Place, probed: Sequence[float]) -> Record:
        policy = Policy.load(place.model, ADAPTER)
        load_adapters(policy.model, place.adapters(job.task.steps))
        found = Measurement(policy, SENTENCES, TASKS["bright"], job.seed)(job.task.steps)
        return {"measured": found, "logit_difference": logit_difference(policy, job.task, probed)}
