"""Trains every row with every seed, keeps what is done, and puts it together."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from attrs import asdict, define, field
from benchmarks.experiments.intervals import half_width
from benchmarks.others import rows, task
from benchmarks.others.evaluating import Referee
from benchmarks.others.rows import Row
from benchmarks.others.task import Job, Place
from benchmarks.others.workshop import Workshop

from prefloop.embedded import local_path

Record = dict[str, Any]
AT_ONCE = 2
"""Runs of one process: what is interrupted loses no more."""


@define
class Bench:
    """Runs jobs, each once: what was measured stands in a file and is read from there the next time."""

    shop: Workshop
    done: dict[Job, Record] = field(init=False, factory=dict)
    _referee: Referee | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            record = json.loads(line)
            job = Job(**{**record["job"], "changes": tuple(record["job"]["changes"])})
            self.done[job] = record

    @property
    def log(self) -> Path:
        return self.shop.folder / "runs.jsonl"

    @property
    def referee(self) -> Referee:
        self._referee = self._referee or Referee(self.shop.start_model())
        return self._referee

    def run(self, table: Iterable[Row], seeds: Sequence[int]) -> list[Record]:
        """The rows of a table, each with its seeds put together."""
        return [self._row(row, seeds) for row in table]

    def _row(self, row: Row, seeds: Sequence[int]) -> Record:
        jobs = [row.job(seed) for seed in seeds]
        if missing := [job for job in jobs if job not in self.done]:
            print(f"{row.table}: {row.name}, {len(missing)} runs at {row.learning_rate:g}", flush=True)
            for i in range(0, len(missing), AT_ONCE):
                self._train(row.tool, missing[i : i + AT_ONCE])
        return summary(row, [self.done[job] for job in jobs])

    def _train(self, tool: str, jobs: Sequence[Job]) -> None:
        model, prompts = str(self.shop.start_model()), str(local_path("embedded:prompts"))
        with tempfile.TemporaryDirectory(dir=self.shop.folder) as runs:
            places = [Place(model, prompts, f"{runs}/{job.seed}") for job in jobs]
            given = [{"job": vars(j), "place": vars(p)} for j, p in zip(jobs, places, strict=True)]
            self.shop.run(tool, given)
            for job, place in zip(jobs, places, strict=True):
                self._keep(job, self.referee(place))

    def _keep(self, job: Job, found: Record) -> None:
        line = json.dumps({"job": vars(job), **found})
        with self.log.open("a") as file:
            file.write(line + "\n")
        self.done[job] = json.loads(line)


def summary(row: Row, records: Sequence[Record]) -> Record:
    """A row with mean and interval over its seeds, step by step."""
    steps = records[0]["evaluations"]
    return {
        **asdict(row),
        "seeds": [r["job"]["seed"] for r in records],
        "judgements": sorted({r["judgements"] for r in records}),
        "logit_difference": max(r["logit_difference"] for r in records),
        "versions": records[0]["versions"],
        "evaluations": {
            step: {name: spread([r["evaluations"][step][name] for r in records]) for name in steps[step]}
            for step in steps
        },
    }


def spread(values: Sequence[float]) -> Record:
    """Mean and 95 % interval over seeds."""
    half = half_width(values) if len(values) > 1 else None
    return {"mean": fmean(values), "half": half, "values": list(values)}


def best(sweep: Iterable[Record]) -> dict[str, float]:
    """Each tool's learning rate with the highest win rate at the end that leaves the facts right.

    Of equals it is the lowest; where none leaves them right, the lowest of all.
    """
    found: dict[str, tuple[float, float]] = {}
    for row in sweep:
        end = row["evaluations"][str(task.STEPS)]
        kept = end["facts_right"]["mean"] >= rows.FACTS_KEPT
        reached = end["win_rate"]["mean"] if kept else 0.0
        if row["tool"] not in found or reached > found[row["tool"]][0]:
            found[row["tool"]] = (reached, row["learning_rate"])
    return {tool: rate for tool, (_, rate) in found.items()}


def measure(shop: Workshop, seeds: Sequence[int]) -> Record:
    """Every table of the page."""
    bench = Bench(shop)
    swept = bench.run(rows.sweep(), rows.SWEEP_SEEDS)
    return {
        "task": {name.lower(): value for name, value in vars(task).items() if name.isupper()},
        "start": bench.referee.start,
        "same rate": bench.run(rows.same_rate(), seeds),
        "sweep": swept,
        "best rate": bench.run(rows.best_rate(best(swept)), seeds),
        "differences": bench.run(rows.differences(), seeds),
        "xpo": bench.run(rows.xpo(), seeds),
    }
