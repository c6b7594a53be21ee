"""One training run of an experiment, and what it came to in truth."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import fmean
from typing import Any

from attrs import evolve, frozen
from benchmarks.experiments.arm import Arm, Options
from benchmarks.experiments.ground import Ground, ground_of
from benchmarks.experiments.task import TASKS, FaultyJudge, Person, Worth, build_judge, options_of
from benchmarks.harness.statistics import win_rate

from prefloop import Completion, Loop, Pair, Policy, Prompt, Sampler, Step, Verdict, component
from prefloop.config import OptimizerConfig, TrainingConfig
from prefloop.types import PERSON

DRAWS = 2
"""The policy's answers to each held-out prompt at each evaluation."""


def train(arm: Arm, seed: int) -> list[dict[str, float]]:
    """Train from the start and return what was measured, at even distances in steps from 0 to the end."""
    ground, worth = ground_of(arm.task, arm.bits), TASKS[arm.task]
    policy = ground.load(seed, arm.adapter)
    loop = _loop(arm, seed, policy, ground)
    measure = Measurement(policy, ground, worth, seed)
    due = {round(loop.steps * i / arm.evaluations) for i in range(1, arm.evaluations + 1)}
    rows: list[dict[str, float]] = [{"step": 0, **_at_start(arm.task, arm.bits, seed)}]
    labels: list[bool] = []
    asked = 0
    seconds = -time.process_time()
    for step in loop:
        labels += _right_labels(step, worth)
        asked += sum(isinstance(loop.judge, Person) or v.by == PERSON for v in step.verdicts)
        if step.progress.step in due:
            known = {"right_labels": fmean(labels)} if labels else {}
            known |= {"asked": asked} if asked else {}
            seconds += time.process_time()
            known |= {"seconds": seconds / step.progress.step}
            rows.append({"step": step.progress.step, **measure(step.progress.step), **known})
            seconds -= time.process_time()
    return [{name: round(value, 5) for name, value in row.items()} for row in rows]


@cache
def _at_start(task: str, bits: int, seed: int) -> dict[str, float]:
    """What is measured before training, which changes nothing of the model whatever is trained."""
    ground = ground_of(task, bits)
    return Measurement(ground.load(seed), ground, TASKS[task], seed)(0)


def _loop(arm: Arm, seed: int, policy: Policy, ground: Ground) -> Loop:
    training = TrainingConfig(
        batch_size=arm.batch,
        rollout=arm.rollout,
        iters=arm.steps,
        seed=seed,
        learning_rate=arm.learning_rate,
        optimizer=OptimizerConfig(options=arm.optimizer),
    )
    prompts, longest = ground.prompts(policy), ground.sampling.max_tokens
    temperature = ground.sampling.temperature
    sampling = {"temperature": temperature, "top_p": 1.0, "max_completion_length": longest}
    judge = build_judge(arm.judge, TASKS[arm.task], seed)
    if arm.labels:
        pools = evolve(training, batch_size=arm.batch * arm.rollout)
        told = Loop(policy, prompts, judge=FaultyJudge(TASKS[arm.task]), training=pools)
        _teach(judge, told, sampling, arm.labels)
    offline = arm.sampler["use"] == "dataset"
    if offline:
        prompts = _judged_file(Loop(policy, prompts, judge=judge, training=training), sampling)
        judge = component("judge", "label")()
        training = evolve(training, iters=arm.steps * arm.epochs)
        sampling = {"max_completion_length": longest}
    return Loop(
        policy,
        prompts,
        judge=judge,
        sampler=_sampler(arm, sampling, seed),
        loss=component("loss", arm.loss["use"])(**options_of(arm.loss)),
        bonuses=[component("bonus", b["use"])(**options_of(b)) for b in arm.bonuses],
        training=training,
        ties=arm.ties,
    )


def _sampler(arm: Arm, sampling: Options, seed: int) -> Sampler:
    options = {**sampling, **options_of(arm.sampler)}
    if "judge" in options:  # that ranks
        options["judge"] = build_judge(options["judge"], TASKS[arm.task], seed)
    made: Sampler = component("sampler", arm.sampler["use"])(**options)
    return made


def _teach(judge: Any, loop: Loop, sampling: Options, labels: int) -> None:
    """Have a judge that learns hear so many true labels, on pairs of the start, before training."""
    judged = list(_judged(loop, sampling, math.ceil(labels / loop.batch_size)))[:labels]
    pairs, verdicts = zip(*judged, strict=True)
    judge.learn(pairs, [evolve(verdict, by=PERSON) for verdict in verdicts])


def _judged_file(loop: Loop, sampling: Options) -> list[Prompt]:
    """What online DPO would ask its judge, had the policy never moved: the rows of a preference data set."""
    rows = []
    for pair, verdict in _judged(loop, sampling, loop.steps):
        label = {True: "first", False: "second", None: "tie"}[verdict.prefers_first]
        row = {"first": pair.first.text, "second": pair.second.text, "label": label}
        rows.append(evolve(pair.prompt, fields={**pair.prompt.fields, **row}))
    return rows


def _judged(loop: Loop, sampling: Options, steps: int) -> Iterator[tuple[Pair, Verdict]]:
    """The pairs of so many steps from the policy as it is, and what the loop's judge says of them."""
    sampler = component("sampler", "policy")(**sampling)
    for number in range(steps):
        asked = [loop.prompts[i] for i in loop.order.indices(number * loop.batch_size, loop.batch_size)]
        pairs = sampler.sample(loop.policy, asked, loop.progress(number + 1))
        yield from zip(pairs, loop.judge.judge(pairs), strict=True)


@frozen(eq=False)
class Measurement:
    """What the policy's answers to held-out prompts are worth in truth, whoever judges the training."""

    policy: Policy
    ground: Ground
    worth: Worth
    seed: int

    def __call__(self, step: int) -> dict[str, float]:
        prompts = self.ground.held_out(self.policy)
        drawn = self.ground.draw(self.policy, prompts, DRAWS, 2**41 + 1000 * self.seed + step)
        worths = self._worths(prompts, drawn)
        answers = [row for texts in drawn for row in zip(prompts, texts, strict=True)]
        return {
            "win_rate": win_rate(worths, self._worths(prompts, self.ground.start_answers())),
            "worth": fmean(value for own in worths for value in own),
            **{name: measure(self.policy, answers) for name, measure in self.ground.measures.items()},
        }

    def _worths(self, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]]) -> list[list[float]]:
        """Prompt by prompt, what each of its answers is worth."""
        return [[self.worth(p, c.text) for c in own] for p, *own in zip(prompts, *drawn, strict=True)]


def _right_labels(step: Step, worth: Worth) -> list[bool]:
    """Of the labels of a step that can be right or wrong, which are right."""
    right = []
    for pair, verdict in zip(step.pairs, step.verdicts, strict=True):
        better = worth(pair.prompt, pair.first.text) - worth(pair.prompt, pair.second.text)
        if better and verdict.prefers_first is not None:
            right.append(verdict.prefers_first == (better > 0))
    return right
