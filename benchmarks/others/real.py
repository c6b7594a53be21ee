"""SmolLM2 towards VADER's sentiment with each tool: ``python -m benchmarks.others real``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import field, frozen
from benchmarks.experiments.ground import FEW_HELD_OUT, SENTENCES
from benchmarks.experiments.task import TASKS
from benchmarks.experiments.training import Measurement
from benchmarks.harness import environments, records, smollm2
from benchmarks.harness.internals import load_adapters
from benchmarks.harness.worker import Record
from benchmarks.harness.workers import run_worker
from benchmarks.others.prefloop_worker import ADAPTER, probe
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


@frozen(eq=False)
class Campaign:
    """Trains what is not on record."""

    cache: Path
    log: records.Log = field(factory=lambda: records.Log(REAL))

    def run(self, wanted: Sequence[Job]) -> None:
        for job in wanted:
            if not self.log.find(settings_of(job), job.seed):
                print(f"{job.tool}, {job.learning_rate:g}, seed {job.seed}", flush=True)
                self.log.add(settings_of(job), job.seed, self._train(job))

    def _train(self, job: Job) -> Record:
        python = environments.interpreter(job.tool, self.cache) if job.tool != "prefloop" else ""
        module = f"benchmarks.others.{job.tool.replace('-', '_')}_worker"
        with tempfile.TemporaryDirectory() as name:
            prompts = Path(name, "prompts.jsonl")
            asked = english.one_sentence()[FEW_HELD_OUT:]
            lines = (json.dumps({"prompt": prompt}) + "\n" for prompt in asked)
            prompts.write_text("".join(lines), encoding="utf-8")
            place = Place(smollm2.folder(), str(prompts), name)
            found = run_worker(module, {"job": vars(job), "place": vars(place)}, python=python)
            return {
                "judgements": found["judgements"],
                **measured(job, place, found["probe"]),
                "provenance": records.provenance(found["device"], found["versions"]),
            }


def measured(job: Job, place: Place, probed: Sequence[float]) -> Record:
    """What a run's adapters are worth as prefloop reads them, and how far its logits are from the tool's."""
    policy = Policy.load(place.model, ADAPTER)
    load_adapters(policy.model, place.adapters(job.task.steps))
    difference = np.abs(np.array(probed) - np.array(probe(policy, job.task.probe)))
    found = Measurement(policy, SENTENCES, TASKS["bright"], job.seed)(job.task.steps)
    return {"measured": found, "logit_difference": float(difference.max())}


def settings_of(job: Job) -> Record:
    return {name: value for name, value in json.loads(json.dumps(vars(job))).items() if name != "seed"}
