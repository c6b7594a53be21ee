"""Runs of any of the tools: each is trained once, in a process of its own, and measured by what it left."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import environments, records
from benchmarks.harness.worker import Record
from benchmarks.harness.workers import run_worker
from benchmarks.others.task import Job, Place


class Runs:
    """Trains `model` on the file `prompts`, where that is not in `log`. `cache` keeps environments."""

    def __init__(self, cache: Path, log: Path, model: Path, prompts: Path) -> None:
        self.cache = cache
        self.log = records.Log(log)
        self.model = model
        self.prompts = prompts

    def trained(self, job: Job, name: str) -> Record:
        """What a run came to; it is trained where it is not on record."""
        settings = {name: value for name, value in vars(job).items() if name != "seed"}
        if found := self.log.find(settings, job.seed):
            return found
        print(f"{name}, {job.learning_rate:g}, seed {job.seed}", flush=True)
        self.log.add(settings, job.seed, self._train(job))
        return self.trained(job, name)

    def _train(self, job: Job) -> Record:
        python = environments.interpreter(job.tool, self.cache) if job.tool != "prefloop" else ""
        module = f"benchmarks.others.{job.tool.replace('-', '_')}_worker"
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            place = Place(str(self.model), str(self.prompts), folder)
            found = run_worker(module, {"job": vars(job), "place": vars(place)}, python=python)
            return {
                "judgements": found["judgements"],
                **self.measured(job, place, found["probe"]),
                "provenance": records.provenance(found["device"], found["versions"]),
            }

    def measured(self, job: Job, place: Place, probed: Sequence[float]) -> Record:
        """What is measured of the adapters in `place`; `probed` are the logits that the tool gave."""
        raise NotImplementedError
