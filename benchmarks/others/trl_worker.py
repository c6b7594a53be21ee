"""TRL's worker, in its own environment.

`OnlineDPOTrainer` runs as it is. It takes no pairwise judge, but a reward for each completion: the rule's
score. Its PEFT adapters are written with mlx-lm's names and shapes, so that one evaluator reads everybody's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.others import task
from benchmarks.others.task import Job, Place
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer


class RuleReward:
    """The rule's score of each completion; counts the pairs that were judged by it."""

    __name__ = "rule"

    def __init__(self, score: Callable[[str], float]) -> None:
        self.score = score
        self.pairs = 0

    def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        self.pairs += len(completions) // 2
        return [float(self.score(turns[0]["content"])) for turns in completions]


def train(job: Job, place: Place) -> dict[str, Any]:
    """Train, and leave the adapters."""
    tokenizer = AutoTokenizer.from_pretrained(place.model)
    policy = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.float32)
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in place.rows()]
    reward = RuleReward(job.task.score)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = OnlineDPOTrainer(
            model=policy,
            reward_funcs=reward,
            args=settings(job, scratch),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=task.RANK,
                lora_alpha=task.SCALE * task.RANK,  # PEFT's factor is lora_alpha / r
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        trainer.train()
        for step in job.task.saves:
            saved = load_file(Path(scratch) / f"checkpoint-{step}" / "adapter_model.safetensors")
            save_file(as_mlx(saved), place.adapters(step))
    return {"judgements": reward.pairs, "probe": probe(trainer.model, tokenizer, job.task.probe)}


def settings(job: Job, scratch: str) -> OnlineDPOConfig:
    """What the task prescribes, float32 on the CPU; everything else is TRL's default."""
    return OnlineDPOConfig(
        output_dir=scratch,
        seed=job.seed,
        per_device_train_batch_size=job.task.batch_size,
        dataloader_drop_last=True,  # as many prompts in every step as the others have
        max_steps=job.task.steps,
        save_steps=job.task.save_every,
        learning_rate=job.learning_rate,
        lr_scheduler_type="cosine",
        beta=[task.BETA],
        loss_type="sigmoid",
        temperature=task.TEMPERATURE,
        top_p=task.TOP_P,
        max_new_tokens=job.task.max_tokens,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
    )


def as_mlx(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """PEFT's ``lora_A [r, in]``, ``lora_B [out, r]`` as mlx-lm's ``lora_a [in, r]``, ``lora_b [r, out]``."""
    names = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b"}
    found = {}
    for name, value in saved.items():
        module, kind = name.removeprefix("base_model.model.").split(".lora_")
        found[f"{module}.{names[f'lora_{kind}']}"] = value.T.contiguous()
    return found


@torch.no_grad()
def probe(policy: Any, tokenizer: Any, prompt: str) -> list[float]:
    """Logits after one prompt, to see that whoever evaluates reads the adapters in the same way."""
    policy.eval()
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    logits: list[float] = policy(**inputs).logits[0, -1].tolist()
    return logits


if __name__ == "__main__":
    task.serve(train, ("trl", "torch", "transformers", "peft"))
