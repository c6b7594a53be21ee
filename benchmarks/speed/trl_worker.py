"""TRL's worker: ``python -m benchmarks.speed.trl_worker JOB RESULT``, in its own environment.

`OnlineDPOTrainer` runs on PyTorch as it is. Its methods are timed and what they do is counted; prompts come
in the order that prefloop took them in. It has no pairwise judge but takes a reward for each completion: the
rule's. Weights are float32 and gradient checkpointing is off, which is the fastest that it does on a CPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.harness import worker
from benchmarks.speed import measuring
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

VERSIONS = ("trl", "torch", "peft", "accelerate", "transformers", "tokenizers", "numpy")


def run(job: dict[str, Any]) -> measuring.Result:
    """Train for the steps of `job` and report on those after the warm-up."""
    torch.set_num_threads(os.cpu_count() or 1)  # PyTorch counts two threads of one core as one
    trainer = TimedTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["policy"], dtype=torch.float32),
        reward_funcs=shorter,
        args=settings(job),
        train_dataset=Dataset.from_list([{"prompt": turn} for turn in turns(job)]),
        processing_class=endless_tokenizer(job["policy"]),
        peft_config=adapter() if job["adapter"]["type"] == "lora" else None,
    )
    watch = StepTimes()
    trainer.add_callback(watch)
    trainer.train()
    if trainer.state.global_step != job["warmup"] + job["steps"]:
        raise RuntimeError(f"TRL took {trainer.state.global_step} steps")
    return {
        **measuring.kept(
            job,
            step=watch.times.seconds,
            processor=watch.times.processor,
            sampled=trainer.sampled,
            scored=trainer.scored,
            questions=[0] * len(trainer.sampled),
            **trainer.seconds,
        ),
        "prompts": trainer.prompts,
        "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "first": trainer.first,
        **measuring.process_memory(),
    }


def settings(job: dict[str, Any]) -> OnlineDPOConfig:
    """What the other sides have as well: plain Adam, no clipping, a constant rate. The rest is default."""
    return OnlineDPOConfig(
        output_dir=job["scratch"],
        seed=job["seed"],
        per_device_train_batch_size=job["batch"],
        max_steps=job["warmup"] + job["steps"],
        train_sampling_strategy="sequential",
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        beta=[0.1],
        loss_type="sigmoid",
        temperature=0.8,
        max_new_tokens=job["completion"],
        use_cpu=job["device"] == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )


def adapter() -> LoraConfig:
    """LoRA of rank 8 and scale 20 on every linear layer; PEFT's factor is ``lora_alpha / r``."""
    return LoraConfig(
        r=8, lora_alpha=160, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def turns(job: dict[str, Any]) -> list[list[dict[str, str]]]:
    """Every prompt as a conversation, step after step."""
    return [[{"role": "user", "content": text}] for step in job["order"] for text in step]


def endless_tokenizer(folder: str) -> Any:
    """The tokenizer with a stop token that the model cannot sample: the first id beyond its vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<never sampled>"})
    return tokenizer


def shorter(completions: list[Any], **_: Any) -> list[float]:
    """The rule as a reward: the shorter answer is better, and the first where both are equally long."""
    return [-float(len(turns[0]["content"])) for turns in completions]


class TimedTrainer(OnlineDPOTrainer):  # type: ignore[misc]
    """The trainer, which counts its tokens and times its phases from outside."""

    def __init__(self, **arguments: Any) -> None:
        self.seconds: dict[str, list[float]] = {phase: [] for phase in measuring.PHASES}
        self.sampled: list[int] = []
        self.scored: list[int] = []
        self.prompts: list[list[str]] = []
        self.first: dict[str, list[float]] = {}
        super().__init__(**arguments)

    def _generate(self, *arguments: Any, **options: Any) -> Any:
        found = self._timed("sampling", super()._generate, *arguments, **options)
        self.sampled.append(int(found[3].sum()))
        return found

    def _calculate_rewards_from_functions(self, *arguments: Any, **options: Any) -> Any:
        return self._timed("judging", super()._calculate_rewards_from_functions, *arguments, **options)

    def _forward(self, model: Any, prompts: Any, seen: Any, ids: Any, mask: Any, *more: Any) -> Any:
        found = super()._forward(model, prompts, seen, ids, mask, *more)
        if torch.is_grad_enabled():  # the policy's pass, not the reference's
            self.scored.append(int(mask.sum()))
            # Of the last prompt's second completion, to see that another scorer finds the same.
            last = {"prompt": prompts[-1][seen[-1].bool()], "completion": ids[-1], "logprobs": found[-1]}
            self.first = self.first or {name: value.tolist() for name, value in last.items()}
        return found

    def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
        self.prompts.append([turn[0]["content"] for turn in inputs["prompt"]])
        found = self._timed("scoring", super().training_step, model, inputs, *more)
        self.seconds["scoring"][-1] -= sum(self.seconds[phase][-1] for phase in ("sampling", "judging"))
        return found

    def _timed(self, phase: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        found = function(*arguments, **options)
        self.seconds[phase].append(time.perf_counter() - started)
        return found


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """Seconds from the end of one step to that of the next."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times = measuring.Stopwatch()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.lap()


if __name__ == "__main__":
    worker.serve(run, VERSIONS)
