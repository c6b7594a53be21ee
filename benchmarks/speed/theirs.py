"""mlx-lm-lora's worker: ``python -m benchmarks.speed.theirs JOB RESULT``, in its own environment.

Its training function runs as it is but for four things, none of which costs it time: what it asks of Metal is
answered where there is none, its batches come in the order that prefloop took them in, its phases are timed,
and what it samples, scores and asks its judge is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import worker
from benchmarks.speed import measuring


def run(job: dict[str, Any]) -> measuring.Result:
    """Train for the steps of `job` and report on those after the warm-up."""
    import mlx.core as mx
    import mlx.optimizers as optim
    import numpy as np
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load
    from mlx_lm_lora.trainer import online_dpo_trainer as trainer
    from mlx_lm_lora.utils import from_pretrained

    worker.stand_in_for_metal()
    mx.random.seed(job["seed"])
    np.random.seed(job["seed"])
    lora = {"rank": 8, "dropout": 0.0, "scale": 20.0, "num_layers": -1}
    adapters_wanted = job["adapter"]["type"] == "lora"
    policy, tokenizer, _ = from_pretrained(job["policy"], lora_config=lora if adapters_wanted else None)
    reference, _ = load(job["policy"])
    reference.freeze()
    judge: Any = None
    judge_tokenizer: Any = None
    if not job["rule"]:
        judge, judge_tokenizer = load(job["judge"])
        judge.freeze()
    probe = Probe(job, tokenizer, judge_tokenizer)
    probe.attach(trainer)
    adapters = Path(job["scratch"]) / "adapters.safetensors"
    arguments = trainer.OnlineDPOTrainingArgs(
        batch_size=job["batch"],
        iters=job["warmup"] + job["steps"],
        steps_per_report=1,
        steps_per_save=10**9,
        adapter_file=str(adapters),
        beta=0.1,
        loss_type="sigmoid",
        temperature=0.8,
        max_completion_length=job["completion"],
    )
    mx.eval(policy.parameters(), reference.parameters(), judge.parameters() if judge else [])
    held = measuring.held()
    probe.watch = measuring.Stopwatch()
    trainer.train_online_dpo(
        policy,
        reference,
        tokenizer,
        optim.Adam(learning_rate=1e-5),
        None,
        None,
        {"system_prompt": job["question"]},
        arguments,
        judge,
        judge_tokenizer,
        training_callback=probe,
    )
    weights: dict[str, mx.array] = dict(tree_flatten(policy.trainable_parameters()))
    trained = sum(value.size for value in weights.values())
    return {**measuring.memory(held), **probe.result(), "trained": trained}


class Probe:
    """Times and counts what the trainer does, and is told of the end of each step."""

    def __init__(self, job: dict[str, Any], tokenizer: Any, judge_tokenizer: Any) -> None:
        self.job, self.tokenizer, self.judge_tokenizer = job, tokenizer, judge_tokenizer
        self.watch = measuring.Stopwatch()
        self.seconds: dict[str, list[float]] = {phase: [] for phase in measuring.PHASES}
        self.sampled: list[int] = []
        self.scored: list[int] = []
        self.asked: list[tuple[int, str, str]] = []
        self.batches = iter(job["order"])
        self.prompted = 0

    def attach(self, trainer: Any) -> None:
        """Wrap the trainer's functions."""
        from mlx_lm_lora.trainer import judge

        trainer.iterate_online_dpo_batches = self.next_batch
        trainer.BatchGenerator = self._counting(trainer.BatchGenerator)
        trainer.generate_for_online_dpo = self._sampling(trainer.generate_for_online_dpo)
        trainer._preference_microbatches = self._scoring(trainer._preference_microbatches)
        judge.generate = self._answering(judge.generate)
        asked = _shorter if self.job["rule"] else trainer.LLMPairwiseJudge.judge
        timed = self._timed("judging", asked)
        trainer.LLMPairwiseJudge = type("Judge", (trainer.LLMPairwiseJudge,), {"judge": timed})

    def on_train_loss_report(self, _: Any) -> None:
        self.watch.lap()

    def on_val_loss_report(self, _: Any) -> None:
        raise AssertionError("nothing is validated here")

    def next_batch(self, **_: Any) -> Iterator[tuple[list[list[int]], list[str]]]:
        """The next prompts, as ids and as text, prepared as the trainer's data set prepares them."""
        turns = [[{"role": "user", "content": text}] for text in next(self.batches)]
        template, more = self.tokenizer.apply_chat_template, {"add_generation_prompt": True}
        prompts = [list(template(turn, **more)) for turn in turns]
        self.prompted = sum(map(len, prompts))
        yield prompts, [template(turn, tokenize=False, **more) for turn in turns]

    def result(self) -> measuring.Result:
        """What was measured and counted, without the warm-up."""
        return {
            **measuring.kept(
                self.job,
                step=self.watch.seconds,
                processor=self.watch.processor,
                sampled=self.sampled,
                scored=self.scored,
                questions=self._questions(),
                **self.seconds,
            ),
            "prompts": self.job["order"],
            "replies": sorted({reply for _, _, reply in self.asked}),
        }

    def _timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            found = function(*arguments, **options)
            self.seconds[phase].append(time.perf_counter() - started)
            return found

        return timed

    def _sampling(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._timed("sampling", generate)

        def sampling(*arguments: Any, **options: Any) -> Any:
            self.sampled.append(0)
            return timed(*arguments, **options)

        return sampling

    def _counting(self, generator: type) -> type:
        def next_generated(inner: Any, *arguments: Any, **options: Any) -> Any:
            found = generator.next_generated(inner, *arguments, **options)  # type: ignore[attr-defined]
            self.sampled[-1] += len(found)
            return found

        return type("Counting", (generator,), {"next_generated": next_generated})

    def _scoring(self, score: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._timed("scoring", score)

        def scoring(gradient: Any, model: Any, chosen: Any, rejected: Any, *more: Any, **options: Any) -> Any:
            tokens = sum(int(row.size) for row in (*chosen, *rejected))
            self.scored.append(tokens - 2 * self.prompted)  # a prompt stands before both of its completions
            return timed(gradient, model, chosen, rejected, *more, **options)

        return scoring

    def _answering(self, generate: Callable[..., str]) -> Callable[..., str]:
        def answering(model: Any, tokenizer: Any, prompt: str, **options: Any) -> str:
            # A pretrained judge may write more than a label. It is stopped after one token, which is less
            # work than it would be otherwise, and what is no label counts as the first.
            fewest = {"max_tokens": 1} if self.job["pretrained"] else {}
            reply = generate(model, tokenizer, prompt, **(options | fewest))
            if self.job["pretrained"] and reply not in self.job["labels"]:
                reply = self.job["labels"][0]
            self.asked.append((len(self.sampled), prompt, reply))
            return reply

        return answering

    def _questions(self) -> list[int]:
        """Tokens of the judge's questions in each step."""
        counts = [0] * len(self.sampled)
        for step, prompt, _ in self.asked:
            counts[step - 1] += len(self.judge_tokenizer.encode(prompt))
        return counts


def _shorter(_: Any, prompts: list[str], completions: list[list[str]], **__: Any) -> list[int]:
    """The rule: the shorter answer is better, and the first where both are equally long."""
    return [int(len(second) < len(first)) for first, second in completions]


if __name__ == "__main__":
    worker.serve(run, ("mlx-lm-lora", *measuring.SAME))
