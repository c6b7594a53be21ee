"""One training run of an experiment, and what it came to in truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean

from attrs import evolve, frozen
from benchmarks.experiments.arms import Arm, Options
from benchmarks.experiments.task import TASKS, Person, Worth, build_judge, hits, options_of
from benchmarks.harness.internals import load_prompts
from scripts.embedded.facts import is_right, style_score

from prefloop import Loop, Policy, Prompt, Sampling, Step, component
from prefloop.config import PromptsConfig, TrainingConfig
from prefloop.types import PERSON

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=24)
STARTS, DRAWS = 8, 2
"""Answers to each held-out question: the start's, drawn once, and the policy's at each evaluation."""


def train(arm: Arm, seed: int) -> list[dict[str, float]]:
    """Train from the start and return what was measured, at even distances in steps from 0 to the end."""
    policy = Policy.load("embedded:policy", seed=seed)
    prompts, held_out = (_prompts(policy, name) for name in ("prompts", "held_out"))
    worth = TASKS[arm.task]
    loop = _loop(arm, seed, policy, prompts)
    measure = Measure(policy, held_out, worth, seed)
    due = {round(loop.steps * i / arm.evaluations) for i in range(1, arm.evaluations + 1)}
    rows: list[dict[str, float]] = [{"step": 0, **measure(0)}]
    labels: list[bool] = []
    asked = 0
    for step in loop:
        labels += _right_labels(step, worth)
        asked += sum(isinstance(loop.judge, Person) or v.by == PERSON for v in step.verdicts)
        if step.progress.step in due:
            known = {"right_labels": fmean(labels)} if labels else {}
            known |= {"asked": asked} if asked else {}
            rows.append({"step": step.progress.step, **measure(step.progress.step), **known})
    return [{name: round(value, 5) for name, value in row.items()} for row in rows]


def _loop(arm: Arm, seed: int, policy: Policy, prompts: Sequence[Prompt]) -> Loop:
    training = TrainingConfig(
        batch_size=arm.batch,
        rollout=arm.rollout,
        iters=arm.steps,
        seed=seed,
        learning_rate=arm.learning_rate,
    )
    judge = build_judge(arm.judge, TASKS[arm.task], seed)
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_completion_length": SAMPLING.max_tokens}
    offline = arm.sampler["use"] == "dataset"
    if offline:
        prompts = _judged_file(Loop(policy, prompts, judge=judge, training=training), sampling)
        judge = component("judge", "label")()
        training = evolve(training, iters=arm.steps * arm.epochs)
        sampling = {"max_completion_length": SAMPLING.max_tokens}
    return Loop(
        policy,
        prompts,
        judge=judge,
        sampler=component("sampler", arm.sampler["use"])(**sampling, **options_of(arm.sampler)),
        loss=component("loss", arm.loss["use"])(**options_of(arm.loss)),
        bonuses=[component("bonus", b["use"])(**options_of(b)) for b in arm.bonuses],
        training=training,
        ties=arm.ties,
    )


def _judged_file(loop: Loop, sampling: Options) -> list[Prompt]:
    """What online DPO would ask its judge, had the policy never moved: the rows of a preference data set."""
    sampler = component("sampler", "policy")(**sampling)
    rows = []
    for number in range(loop.steps):
        asked = [loop.prompts[i] for i in loop.order.indices(number * loop.batch_size, loop.batch_size)]
        pairs = sampler.sample(loop.policy, asked, loop.progress(number + 1))
        for pair, verdict in zip(pairs, loop.judge.judge(pairs), strict=True):
            label = {True: "first", False: "second", None: "tie"}[verdict.prefers_first]
            row = {"first": pair.first.text, "second": pair.second.text, "label": label}
            rows.append(evolve(pair.prompt, fields={**pair.prompt.fields, **row}))
    return rows


@frozen(eq=False)
class Measure:
    """What the policy's answers to held-out questions are worth in truth, whoever judges the training."""

    policy: Policy
    prompts: Sequence[Prompt]
    worth: Worth
    seed: int

    def __call__(self, step: int) -> dict[str, float]:
        drawn = _draw(self.policy, self.prompts, DRAWS, 2**41 + 1000 * self.seed + step)
        answers = [text for texts in zip(*drawn, strict=True) for text in texts]
        asked = [prompt for prompt in self.prompts for _ in range(DRAWS)]
        rows = list(zip(asked, answers, strict=True))
        return {
            "win_rate": self._win_rate(drawn),
            "worth": fmean(self.worth(prompt, text) for prompt, text in rows),
            "accuracy": fmean(is_right(text, prompt.fields["answer"]) for prompt, text in rows),
            "style": fmean(map(style_score, answers)),
            "jackpots": fmean(map(hits, answers)),
            "length": fmean(map(len, answers)),
        }

    def _win_rate(self, drawn: Sequence[Sequence[str]]) -> float:
        """Over all pairs of an answer with one of the start's to the same question; a tie is half a win."""
        worths = [
            [[self.worth(p, text) for text in texts] for p, *texts in zip(self.prompts, *side, strict=True)]
            for side in (drawn, start_answers())
        ]
        return fmean(
            (a > b) + (a == b) / 2 for ours, theirs in zip(*worths, strict=True) for a in ours for b in theirs
        )


@cache
def start_answers() -> list[list[str]]:
    """Answers of the policy before any training: `STARTS` lists, in the order of the questions."""
    policy = Policy.load("embedded:policy")
    return _draw(policy, _prompts(policy, "held_out"), STARTS, 2**40)


def _draw(policy: Policy, prompts: Sequence[Prompt], times: int, seed: int) -> list[list[str]]:
    drawn = policy.generate([*prompts] * times, SAMPLING, seed=seed)
    return [[c.text for c in drawn[i : i + len(prompts)]] for i in range(0, len(drawn), len(prompts))]


def _prompts(policy: Policy, name: str) -> Sequence[Prompt]:
    return load_prompts(PromptsConfig(path=f"embedded:{name}"), policy.tokenizer).prompts


def _right_labels(step: Step, worth: Worth) -> list[bool]:
    """Of the labels of a step that can be right or wrong, which are right."""
    right = []
    for pair, verdict in zip(step.pairs, step.verdicts, strict=True):
        better = worth(pair.prompt, pair.first.text) - worth(pair.prompt, pair.second.text)
        if better and verdict.prefers_first is not None:
            right.append(verdict.prefers_first == (better > 0))
    return right
