"""prefloop's worker: ``python -m benchmarks.speed.ours JOB RESULT``.

Steps are timed from outside, and what they did is counted. An earlier commit is measured by its own copy of
this file, so its place and what it reads and writes stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from benchmarks.harness import worker
from benchmarks.speed import measuring, words


def run(job: dict[str, Any]) -> measuring.Result:
    """Take the steps of `job` and report on those after the warm-up."""
    from benchmarks.harness.internals import blas

    blas.use_fastest()  # before mlx is imported, as the command line does it; off where both sides share one
    import mlx.core as mx
    from attrs import evolve

    loop = make_loop(job)
    mx.eval(loop.policy.model.parameters())
    held = measuring.held()
    watch = measuring.Stopwatch()
    steps: list[Any] = []
    training, warm_up = loop.training, evolve(loop.training, rollout=1)
    loop.training = warm_up if job["warmup"] else training
    for step in loop:
        watch.lap()
        steps.append(step)
        if len(steps) >= job["warmup"]:
            loop.training = training  # only whole rollouts are timed
    questions = [asked(loop.policy.tokenizer, job, s.pairs) for s in steps]
    orders = 2 if job["orders"] == "both" else 1
    return {
        **measuring.memory(held),
        "kept_of_question": common([ids for step in questions for ids in step]),
        **measuring.kept(
            job,
            step=measuring.shared(watch.seconds, job["warmup"], training.rollout),
            processor=measuring.shared(watch.processor, job["warmup"], training.rollout),
            prompted=[sum(len(p.prompt.tokens) for p in s.pairs) for s in steps],
            sampled=[sum(len(c.tokens) for p in s.pairs for c in (p.first, p.second)) for s in steps],
            scored=[round(_scored(s.metrics)) for s in steps],
            questions=[orders * sum(map(len, step)) for step in questions],
            **{phase: [s.metrics[f"seconds_{phase}"] for s in steps] for phase in measuring.PHASES},
        ),
        "prompts": [[p.prompt.text for p in s.pairs] for s in steps],
        "trained": sum(v.size for v in loop.policy.trainable().values()),
    }


def make_loop(job: dict[str, Any]) -> Any:
    """The loop with everything loaded."""
    from prefloop import Loop, Policy, component
    from prefloop.config import AdapterConfig, OptimizerConfig, TrainingConfig

    adapter = AdapterConfig(**{"rank": 8, "scale": 20.0, "layers": -1, **job.get("adapter", {})})
    policy = Policy.load(job["policy"], adapter, seed=job["seed"])
    return Loop(
        policy,
        [policy.encode(text) for text in job["prompts"]],
        judge=_judge(job),
        sampler=component("sampler", "policy")(
            temperature=0.8, top_p=1.0, max_completion_length=job["completion"]
        ),
        loss=component("loss", "sigmoid")(beta=0.1),
        bonuses=[component("bonus", name)() for name in job.get("bonuses", ())],
        training=TrainingConfig(
            batch_size=job["batch"],
            iters=job["warmup"] + job["steps"],
            learning_rate=1e-5,
            optimizer=OptimizerConfig("adam"),
            max_grad_norm=None,
            seed=job["seed"],
            **job.get("training", {}),
        ),
        ties="keep",  # a tie is scored and learnt from like any other pair, as it is on the other side
    )


def _judge(job: dict[str, Any]) -> Any:
    from prefloop import component

    if job.get("rule"):
        return component("judge", "rule")(length="shorter")
    judge = component("judge", "llm")(
        model=job["judge"],
        system=job["rubric"],
        orders=job["orders"],
        labels=words.LABELS,
        tie_margin=0.0,
        min_label_mass=0.0,
    )
    judge.prepare()
    return judge


def _scored(metrics: Any) -> float:
    both: float = metrics["chosen_length"] + metrics["rejected_length"]
    return both * float(metrics["labelled"])


def asked(tokenizer: Any, job: dict[str, Any], pairs: Any) -> list[list[int]]:
    """The tokens of the questions that pairs are judged by, in one order, from their public text."""
    from benchmarks.harness.internals import fence_for, user_message

    found = []
    for pair in () if job.get("rule") else pairs:
        texts = (pair.prompt.text, pair.first.text, pair.second.text)
        user = user_message(*texts, labels=words.LABELS, fence=fence_for(*texts))
        messages = [{"role": "system", "content": job["rubric"]}, {"role": "user", "content": user}]
        found.append(list(tokenizer.apply_chat_template(messages, add_generation_prompt=True)))
    return found


def common(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with."""
    if not rows:
        return 0
    ends = zip(min(rows), max(rows), strict=False)  # those that differ first
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))


if __name__ == "__main__":
    worker.serve(run, measuring.SAME)
