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
from benchmarks.experiments.training import Arm, train

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "benchmarks" / "results" / "experiments.jsonl"
PAGES = ROOT / "docs" / "experiments"
SEEDS = 10
"""At most, of each arm."""

Curve = list[dict[str, float]]
Line = dict[str, Any]


class Records:
    """What each arm came to with each seed, as lines of a file."""

    def __init__(self, path: Path = FILE) -> None:
        self.path = path
        self._lines: dict[str, Line] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            self._remember(json.loads(line))

    def _remember(self, line: Line) -> None:
        self._lines[_key(line["settings"], line["seed"])] = line

    def curves(self, arm: Arm) -> dict[int, Curve]:
        """The curves of an arm by their seeds."""
        settings = settings_of(arm)
        found = {line["seed"]: line["curve"] for line in self._lines.values() if line["settings"] == settings}
        return dict(sorted(found.items()))

    def last(self, arm: Arm, measure: str) -> list[float]:
        """What was measured at the end, one value for each seed."""
        return [curve[-1][measure] for curve in self.curves(arm).values()]

    def missing(self, arms: Sequence[Arm], seeds: int) -> list[tuple[Arm, int]]:
        """What is not on record, each run once, seed by seed."""
        wanted = {_key(settings_of(arm), seed): (arm, seed) for seed in range(seeds) for arm in arms}
        return [run for key, run in wanted.items() if key not in self._lines]

    def add(self, arm: Arm, seed: int, curve: Curve, seconds: float) -> None:
        """Write a run down as soon as it is done."""
        line = {"settings": settings_of(arm), "seed": seed, "cpu_seconds": round(seconds, 1), "curve": curve}
        self._remember(line)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def tidy(self, arms: Sequence[Arm]) -> None:
        """Put the lines in order, without those that belong to no arm any more."""
        wanted = [_key(settings_of(arm), seed) for arm in arms for seed in range(SEEDS)]
        self._lines = {key: self._lines[key] for key in wanted if key in self._lines}
        self.path.write_text("".join(json.dumps(x) + "\n" for x in self._lines.values()), encoding="utf-8")


def train_missing(records: Records, arms: Sequence[Arm], seeds: int, jobs: int, seconds: float) -> int:
    """Train what is not on record; returns how many runs are still missing when the time is up."""
    runs, deadline = records.missing(arms, seeds), time.monotonic() + seconds
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker) as pool:
        waiting = runs[::-1]
        running: dict[Future[tuple[Curve, float]], tuple[Arm, int]] = {}
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < jobs and time.monotonic() < deadline:
                run = waiting.pop()
                running[pool.submit(_timed, *run)] = run
            done = next(as_completed(running))
            run = running.pop(done)
            records.add(*run, *done.result())
            print(f"{run[0].name}, seed {run[1]}: {done.result()[1]:.1f} s", flush=True)
    return len(waiting)


def settings_of(arm: Arm) -> dict[str, Any]:
    """Everything about an arm but its name, as JSON."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(arm)))
    del settings["name"]
    return settings


def _key(settings: dict[str, Any], seed: int) -> str:
    return json.dumps([settings, seed], sort_keys=True)


def _start_worker() -> None:
    os.nice(15)


def _timed(arm: Arm, seed: int) -> tuple[Curve, float]:
    started = time.process_time()
    return train(arm, seed), time.process_time() - started
