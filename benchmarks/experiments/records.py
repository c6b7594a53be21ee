"""Runs on record: each is trained once, and an interrupted campaign goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attrs import asdict
from benchmarks.experiments.arm import Arm
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.statistics import MOST_SEEDS
from benchmarks.harness.worker import Record, device

FILE = records.RESULTS / "experiments.jsonl"

Curve = list[dict[str, float]]


class Records(records.Log):
    """What each arm came to with each seed."""

    def __init__(self, path: Path = FILE) -> None:
        super().__init__(path)

    def curves(self, arm: Arm) -> dict[int, Curve]:
        """The curves of an arm by their seeds."""
        found = {seed: self.find(settings_of(arm), seed) for seed in range(MOST_SEEDS)}
        return {seed: line["curve"] for seed, line in found.items() if line}

    def last(self, arm: Arm, measure: str) -> list[float]:
        """What was measured at the end, one value for each seed."""
        return [curve[-1][measure] for curve in self.curves(arm).values()]

    def missing(self, arms: Sequence[Arm], seeds: int) -> list[tuple[Arm, int]]:
        """What is not on record, each run once, seed by seed."""
        wanted = {str(settings_of(arm)): arm for arm in arms}.values()
        runs = [(arm, seed) for seed in range(seeds) for arm in wanted]
        return [(arm, seed) for arm, seed in runs if not self.find(settings_of(arm), seed)]


def train_missing(known: Records, arms: Sequence[Arm], seeds: int, jobs: int, seconds: float) -> int:
    """Train what is not on record; returns how many runs are still missing when the time is up."""
    runs, deadline = known.missing(arms, seeds), time.monotonic() + seconds
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker) as pool:
        waiting = runs[::-1]
        running: dict[Future[Record], tuple[Arm, int]] = {}
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < jobs and time.monotonic() < deadline:
                run = waiting.pop()
                running[pool.submit(_measured, *run)] = run
            done = next(as_completed(running))
            run = running.pop(done)
            found = done.result()
            known.add(settings_of(run[0]), run[1], found)
            print(f"{run[0].name}, seed {run[1]}: {found['cpu_seconds']} s", flush=True)
    return len(waiting)


def settings_of(arm: Arm) -> dict[str, Any]:
    """Everything about an arm but its name, as JSON; without the options of what is as prefloop has it."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(arm)))
    as_it_is = {"name", *(part for part in ("labels", "optimizer", "adapter", "bits") if not settings[part])}
    return {name: value for name, value in settings.items() if name not in as_it_is}


def _start_worker() -> None:
    os.nice(15)


def _measured(arm: Arm, seed: int) -> Record:
    """A run's curve, the processor's seconds for it, and what it was made with."""
    from benchmarks.experiments.training import train

    started = time.process_time()
    curve = train(arm, seed)
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "provenance": records.provenance(device(), installed(("prefloop", "mlx", "mlx-lm"))),
        "curve": curve,
    }
