"""prefloop's worker.

`Job.changes` names what is done in another tool's way, one difference at a time, to see what each accounts
for:

- ``ties``: where the rule sees no difference, a coin decides instead of no label being given (mlx-lm-lora;
  TRL, which then prefers the completion that was sampled first);
- ``no-stop``: the stop token is not trained on (mlx-lm-lora);
- ``no-clip``: gradients are not clipped (mlx-lm-lora);
- ``torch-adam``: Adam's bias correction, and no weight decay (TRL);
- ``prompt``: the prompt's tokens are scored with the completion's (mlx-lm-lora);
- ``sampled``: XPO's bonus is the log-ratio of what was sampled (mlx-lm-lora).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from attrs import evolve, field, frozen
from benchmarks.others import task
from benchmarks.others.task import Job, Place

from prefloop import Completion, Loop, Pair, Policy, Progress, Prompt, Sampler, Verdict, component
from prefloop.config import AdapterConfig, OptimizerConfig, ScheduleConfig, TrainingConfig

ADAPTER = AdapterConfig(rank=task.RANK, scale=task.SCALE, layers=-1)


@frozen
class RuleJudge:
    """The rule; `coin` decides where it sees no difference, if there is one."""

    score: Callable[[str], float]
    coin: random.Random | None = None
    asked: list[int] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.asked.append(len(pairs))
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        first, second = self.score(pair.first.text), self.score(pair.second.text)
        if first == second and self.coin:
            return Verdict(float(self.coin.random() < 0.5))
        return Verdict.from_scores(first, second)


@frozen
class WithoutStop:
    """Draws as `sampler` does and leaves the stop token out of what is trained on."""

    sampler: Sampler

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        pairs = self.sampler.sample(policy, prompts, progress)
        return [evolve(p, first=_cut(p.first), second=_cut(p.second)) for p in pairs]


@frozen
class WithPrompt:
    """Draws as `sampler` does and counts all of the prompt but its first token to the completion."""

    sampler: Sampler

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        return [_moved(pair) for pair in self.sampler.sample(policy, prompts, progress)]


def _moved(pair: Pair) -> Pair:
    ids = pair.prompt.tokens
    first, second = (evolve(c, tokens=ids[1:] + c.tokens) for c in (pair.first, pair.second))
    return Pair(evolve(pair.prompt, tokens=ids[:1]), first, second)


def _cut(completion: Completion) -> Completion:
    return evolve(completion, tokens=completion.tokens[:-1]) if completion.stopped else completion


def train(job: Job, place: Place) -> dict[str, Any]:
    """Train, and leave the adapters."""
    policy = Policy.load(place.model, ADAPTER, seed=job.seed)
    judge = RuleJudge(job.task.score, random.Random(job.seed) if "ties" in job.changes else None)
    loop = Loop(
        policy,
        [policy.encode(row["prompt"]) for row in place.rows()],
        judge=judge,
        sampler=_sampler(job),
        loss=component("loss", "sigmoid")(beta=task.BETA),
        bonuses=_bonuses(job),
        training=_training(job),
    )
    for step in loop:
        if step.progress.step in job.task.saves:
            mx.save_safetensors(place.adapters(step.progress.step), policy.trainable())
    return {"judgements": sum(judge.asked), "probe": probe(policy, job.task.probe)}


def _sampler(job: Job) -> Sampler:
    sampler: Sampler = component("sampler", "policy")(
        temperature=task.TEMPERATURE, top_p=task.TOP_P, max_completion_length=job.task.max_tokens
    )
    if "no-stop" in job.changes:
        sampler = WithoutStop(sampler)
    return WithPrompt(sampler) if "prompt" in job.changes else sampler


def _bonuses(job: Job) -> list[Any]:
    if job.algorithm != "xpo":
        return []
    estimator = "sampled" if "sampled" in job.changes else "exact"
    return [component("bonus", "kl")(alpha=job.alpha, estimator=estimator)]


def _training(job: Job) -> TrainingConfig:
    torch_adam = {"bias_correction": True, "weight_decay": 0.0}
    return TrainingConfig(
        batch_size=job.task.batch_size,
        iters=job.task.steps,
        learning_rate=job.learning_rate,
        optimizer=OptimizerConfig("adamw", torch_adam if "torch-adam" in job.changes else {}),
        schedule=ScheduleConfig("cosine_decay"),
        max_grad_norm=None if "no-clip" in job.changes else 1.0,
        seed=job.seed,
    )


def probe(policy: Policy, prompt: str) -> list[float]:
    """Logits after one prompt, as the other workers report them."""
    policy.model.eval()
    ids = mx.array([policy.encode(prompt).tokens])
    logits: list[float] = policy.model(ids)[0, -1].astype(mx.float32).tolist()
    return logits


if __name__ == "__main__":
    task.serve(train, ("prefloop", "mlx-lm", "mlx"))
