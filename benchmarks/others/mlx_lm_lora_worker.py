"""mlx-lm-lora's worker, in its own environment.

Its training functions run as they are, but for two things. What they ask of Metal is answered where there is
none. And its judge, which asks a language model for ``0`` or ``1``, is replaced by the rule; where the rule
sees no difference it says ``0``, as that judge is told to, after the same random exchange of the two answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from benchmarks.harness import worker
from benchmarks.others import task
from benchmarks.others.task import Job, Place
from mlx_lm.utils import load
from mlx_lm_lora.trainer import online_dpo_trainer, xpo_trainer
from mlx_lm_lora.trainer.datasets import CacheDataset, PromptDataset
from mlx_lm_lora.utils import from_pretrained


class RuleJudge(online_dpo_trainer.LLMPairwiseJudge):
    """In the place of `LLMPairwiseJudge`, with its interface."""

    asked = 0
    score: Callable[[str], float]

    def judge(self, prompts: list[str], completions: list[list[str]], **_: Any) -> list[int]:
        flips = np.random.randint(0, 2, len(prompts)).astype(bool)
        RuleJudge.asked += len(prompts)
        return [self._rank(pair, flip) for pair, flip in zip(completions, flips, strict=True)]

    def _rank(self, pair: list[str], flip: bool) -> int:
        first, second = map(RuleJudge.score, reversed(pair) if flip else pair)
        return int(second > first) ^ int(flip)


def train(job: Job, place: Place) -> dict[str, Any]:
    """Train as `mlx_lm_lora.train` does, and leave the adapters."""
    mx.random.seed(job.seed)
    np.random.seed(job.seed)
    lora = {"rank": task.RANK, "dropout": 0.0, "scale": task.SCALE, "num_layers": -1}
    policy, tokenizer, _ = from_pretrained(place.model, lora_config=lora)
    reference, _ = load(place.model)
    reference.freeze()
    RuleJudge.asked, RuleJudge.score = 0, staticmethod(job.task.score)
    options: dict[str, Any] = {
        "batch_size": job.task.batch_size,
        "iters": job.task.steps,
        "steps_per_report": job.task.steps,
        "steps_per_save": job.task.save_every,
        "adapter_file": f"{place.folder}/adapters.safetensors",
        "beta": task.BETA,
        "loss_type": "sigmoid",
        "temperature": task.TEMPERATURE,
        "max_completion_length": job.task.max_tokens,
    }
    if job.algorithm == "xpo":
        function, arguments = xpo_trainer.train_xpo, xpo_trainer.XPOTrainingArgs(alpha=[job.alpha], **options)
    else:
        function = online_dpo_trainer.train_online_dpo
        arguments = online_dpo_trainer.OnlineDPOTrainingArgs(**options)
    function(
        model=policy,
        ref_model=reference,
        tokenizer=tokenizer,
        optimizer=optim.AdamW(optim.cosine_decay(job.learning_rate, job.task.steps)),
        train_dataset=CacheDataset(PromptDataset(place.rows(), tokenizer)),
        args=arguments,
    )
    for step in job.task.saves:
        mx.save_safetensors(place.adapters(step), mx.load(f"{place.folder}/{step:07d}_adapters.safetensors"))
    return {"judgements": RuleJudge.asked, "probe": probe(policy, tokenizer, job.task.probe)}


def probe(policy: Any, tokenizer: Any, prompt: str) -> list[float]:
    """Logits after one prompt, to see that whoever evaluates reads the adapters in the same way."""
    policy.eval()
    turn = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True)
    logits: list[float] = policy(mx.array([list(ids)]))[0, -1].astype(mx.float32).tolist()
    return logits


if __name__ == "__main__":
    worker.stand_in_for_metal()
    for trainer in (online_dpo_trainer, xpo_trainer):
        trainer.LLMPairwiseJudge = RuleJudge
    task.serve(train, ("mlx-lm-lora", "mlx-lm", "mlx"))
