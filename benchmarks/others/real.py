"""SmolLM2 towards VADER's sentiment with each tool: ``python -m benchmarks.others real``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from benchmarks.experiments.ground import FEW_HELD_OUT, SENTENCES
from benchmarks.experiments.task import TASKS
from benchmarks.experiments.training import Measurement
from benchmarks.harness import environments, records, smollm2
from benchmarks.harness.internals import load_adapters
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import interval
from benchmarks.harness.worker import Record
from benchmarks.harness.workers import run_worker
from benchmarks.others.prefloop_worker import ADAPTER, probe
from benchmarks.others.task import Job, Place
from benchmarks.speed import english

from prefloop import Policy

FILE = records.RESULTS / "others-real.jsonl"
RATES = {"prefloop": (4e-5, 2e-4), "mlx-lm-lora": (4e-5, 2e-4), "trl": (2e-4, 8e-4)}
"""2e-4 for everybody, and one more: lower where Adam has no bias correction, which lengthens early steps."""
HEADS = {
    "win_rate": "win rate",
    "cheerful": "TextBlob",
    "nats": "nats from the start",
    "perplexity": "perplexity",
    "facts": "facts known",
    "variety": "distinct-2",
}
SHARES = frozenset({"win_rate", "facts", "variety"})


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Seed by seed, so that an interrupted campaign has every tool."""
    return [
        Job(tool, seed, rate, goal="sentences")
        for seed in seeds
        for tool, rates in RATES.items()
        for rate in rates
    ]


@frozen(eq=False)
class Campaign:
    """Trains what is not on record."""

    cache: Path
    log: records.Log = field(factory=lambda: records.Log(FILE))

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


def measured(job: Job, place: Place, probed: Sequence[float]) -> dict[str, Any]:
    """What the adapters of a run are worth, read by prefloop, and how far its logits are from the tool's."""
    policy = Policy.load(place.model, ADAPTER)
    measure = Measurement(policy, SENTENCES, TASKS["bright"], job.seed)
    curve = []
    for step in job.task.saves:
        load_adapters(policy.model, place.adapters(step))
        curve.append({"step": step, **measure(step)})
    difference = np.abs(np.array(probed) - np.array(probe(policy, job.task.probe)))
    return {"curve": curve, "logit_difference": float(difference.max())}


def settings_of(job: Job) -> dict[str, Any]:
    return {name: value for name, value in json.loads(json.dumps(vars(job))).items() if name != "seed"}


def table() -> str:
    """A line for each tool and rate: what it ends with, with Student's intervals over its seeds."""
    lines = []
    for (tool, rate), found in _by_arm().items():
        ends = [line["curve"][-1] for line in found]
        cells = [interval([end[name] for end in ends], share=name in SHARES).text() for name in HEADS]
        lines.append([tool, f"{rate:g}", str(len(ends)), *cells])
    return markdown(("tool", "learning rate", "seeds", *HEADS.values()), lines, numbers=False)


def origin() -> str:
    return records.origin([line for found in _by_arm().values() for line in found])


def _by_arm() -> dict[tuple[str, float], list[Record]]:
    found: dict[tuple[str, float], list[Record]] = {}
    for line in records.Log(FILE).lines.values():
        found.setdefault((line["settings"]["tool"], line["settings"]["learning_rate"]), []).append(line)
    return dict(sorted(found.items()))
