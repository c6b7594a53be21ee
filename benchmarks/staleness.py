"""What is learnt where pairs are so many updates old: ``python -m benchmarks.staleness``.

The task and the settings are those of the experiment `freshness`, at 60 updates. A sampler that draws
elsewhere is asked for as many steps ahead as its ``max_staleness`` allows; here one stands in that answers at
once, so that every pair, but for the first steps', has that age: the worst that workers can bring about. Runs
on record are not made again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from statistics import fmean
from typing import Any

import click
from attrs import define
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import MOST_SEEDS, interval
from benchmarks.harness.worker import device

from prefloop import BaseSampler, Loop, Pair, Policy, Progress, Prompt, Sampling, component
from prefloop.cli.common import configure_process
from prefloop.config import TrainingConfig

RESULTS = records.RESULTS / "staleness.jsonl"
STALENESS = (0, 2, 8, 32)
STEPS, BATCH = 60, 8
RATES = (1e-4, 5e-5)
"""The learning rate of the experiment, and half of it."""
ARMS = [(rate, staleness) for rate in RATES for staleness in STALENESS]
SHOWN = {"win_rate": "win rate", "accuracy": "right answers", "length": "characters"}
SHARES = ("win_rate", "accuracy")
Found = dict[str, Any]


@define(eq=False)
class Ahead(BaseSampler):
    """The sampler `policy`, asked for steps ahead, whose pairs are there at once."""

    sampling: Sampling
    max_staleness: int
    version: int = 0
    policy: Policy | None = None

    def follow(self, policy: Policy, version: int) -> None:
        self.policy, self.version = policy, version

    def submit(self, prompts: Sequence[Prompt], progress: Progress) -> Future[list[Pair]]:
        assert self.policy
        drawn: Future[list[Pair]] = Future()
        pairs = self.sample(self.policy, prompts, progress)
        drawn.set_result([pair.of_version(self.version) for pair in pairs])
        return drawn

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        twice = [prompt for prompt in prompts for _ in range(2)]
        drawn = policy.generate(twice, self.sampling, seed=progress.seed)
        return [Pair(p, drawn[2 * i], drawn[2 * i + 1]) for i, p in enumerate(prompts)]


def train(rate: float, staleness: int, seed: int, steps: int = STEPS) -> dict[str, float]:
    """What the policy's answers are worth after training with pairs of this age."""
    from benchmarks.experiments.task import TASKS, build_judge
    from benchmarks.experiments.training import SAMPLING, Measure, _prompts

    began = time.perf_counter()
    policy = Policy.load("embedded:policy", seed=seed)
    prompts, held_out = (_prompts(policy, name) for name in ("prompts", "held_out"))
    loop = Loop(
        policy,
        prompts,
        judge=build_judge({"use": "faulty"}, TASKS["warm"], seed),
        sampler=Ahead(SAMPLING, staleness),
        loss=component("loss", "sigmoid")(),
        training=TrainingConfig(batch_size=BATCH, iters=steps, seed=seed, learning_rate=rate),
    )
    taken = list(loop)
    assert max(step.metrics["age_max"] for step in taken) == min(staleness, steps - 1)
    measured = Measure(policy, held_out, TASKS["warm"], seed)(steps)
    age = fmean(step.metrics["age"] for step in taken)
    return {**measured, "age": age, "seconds": time.perf_counter() - began}


def table(log: records.Log) -> str:
    """A line for each staleness: means over seeds with Student's interval."""
    rows = []
    for arm in ARMS:
        runs = [line["found"] for seed in range(MOST_SEEDS) if (line := log.find(settings_of(*arm), seed))]
        cells = [interval([run[name] for run in runs], share=name in SHARES).text() for name in SHOWN]
        age = f"{fmean(run['age'] for run in runs):.1f}"
        rows.append([f"{arm[0]:g}", str(arm[1]), age, str(len(runs)), *cells])
    return markdown(("learning rate", "`max_staleness`", "mean age", "seeds", *SHOWN.values()), rows)


def block(name: str) -> str:
    """What the pages show: the table, or `origin`, what it was measured with."""
    writers = {"table": table, "origin": lambda log: records.origin(list(log.lines.values()))}
    return writers[name](records.Log(RESULTS))


def settings_of(rate: float, staleness: int) -> Found:
    """What a run on record is found by."""
    return {"max_staleness": staleness, "steps": STEPS, "batch": BATCH, "learning_rate": rate}


@click.command(help="Train what is not on record with pairs of different ages, and fill in the pages.")
@click.option("--seeds", default=5, type=click.IntRange(2, MOST_SEEDS), show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Runs side by side, one thread each.")
def main(seeds: int, jobs: int) -> None:
    from benchmarks import pages

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    log, kept = (
        records.Log(RESULTS),
        records.provenance(device(), installed(("mlx", "mlx-lm", "prefloop"))),
    )
    wanted = [(*arm, seed) for seed in range(seeds) for arm in ARMS]
    missing = [(*arm, seed) for *arm, seed in wanted if not log.find(settings_of(*arm), seed)]
    with ProcessPoolExecutor(jobs, get_context("spawn"), configure_process) as pool:
        futures = {pool.submit(train, *run): run for run in missing}
        for done in as_completed(futures):
            *arm, seed = futures[done]
            log.add(settings_of(*arm), seed, {"found": done.result(), "provenance": kept})
            click.echo(
                f"learning rate {arm[0]:g}, max_staleness {arm[1]}, seed {seed}: {json.dumps(done.result())}"
            )
    log.tidy((settings_of(*arm), seed) for arm in ARMS for seed in range(MOST_SEEDS))
    click.echo(table(log))
    pages.write()


if __name__ == "__main__":
    main()
