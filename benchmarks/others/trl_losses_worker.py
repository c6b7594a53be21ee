"""Worker that reports what TRL's losses give for fixed random log-probabilities, in TRL's environment.

TRL's own methods run, unchanged: `DPOTrainer._compute_loss` and `OnlineDPOTrainer.training_step`, on an
object that has just what they read. In the place of models stand tables of log-probabilities, so that the
gradient is the one in each token's log-probability.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks.harness import worker
from trl import DPOTrainer
from trl.experimental.online_dpo import OnlineDPOTrainer

PAIRS, PROMPT, LONGEST = 8, 3, 12
BETAS = (0.1, 0.5)
LOSSES = {"DPOTrainer": ("sigmoid", "hinge", "ipo"), "OnlineDPOTrainer": ("sigmoid", "ipo")}


def tables(seed: int) -> dict[str, torch.Tensor]:
    """Policy and reference ``[2 pairs, LONGEST]``, chosen rows first, and the mask of completion tokens.

    The values are multiples of 1/256, which float32 adds exactly. Those of the policy lie around the
    reference's, so far off that some margins are beyond the hinge.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, LONGEST + 1, 2 * PAIRS)
    mask = np.arange(LONGEST) < lengths[:, None]
    reference = -rng.integers(1, 1500, mask.shape) / 256
    policy = np.minimum(reference + rng.integers(-500, 501, mask.shape) / 256, -1 / 256)
    as_float = {"policy": policy * mask, "reference": reference * mask, "mask": mask}
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in as_float.items()}


class Table(torch.nn.Module):
    """Stands in for a model with TRL's fused head: gives the log-probabilities that it was made with."""

    is_gradient_checkpointing = False

    def __init__(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        super().__init__()
        self.values, self.mask = values, mask

    def forward(self, **_: Any) -> SimpleNamespace:
        before = torch.zeros(len(self.values), PROMPT - 1)  # log-probabilities of the prompt's tokens
        found = torch.cat([before, self.values * self.mask], dim=1)
        rest = {name: torch.zeros_like(found) for name in ("entropy", "mean_logits", "is_top1")}
        return SimpleNamespace(log_probs=found, **rest | {"is_top1": rest["is_top1"].bool()})


def accelerator() -> SimpleNamespace:
    """One process and no device but the CPU."""
    same = {name: lambda value: value for name in ("gather", "gather_for_metrics", "unwrap_model")}
    return SimpleNamespace(device=torch.device("cpu"), backward=lambda loss: loss.backward(), **same)


def dpo(loss: str, beta: float, table: dict[str, torch.Tensor], leaf: torch.Tensor) -> torch.Tensor:
    """`DPOTrainer`'s loss of the batch."""
    settings = dict.fromkeys(("use_weighting", "aux_loss_enabled", "precompute_ref_logps"), False)
    trainer = SimpleNamespace(
        model=Table(leaf, table["mask"]),
        ref_model=Table(table["reference"], table["mask"]),
        accelerator=accelerator(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        **settings,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[loss],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    completion = torch.cat([torch.zeros(2 * PAIRS, PROMPT), table["mask"]], dim=1).long()
    ids = torch.zeros_like(completion)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": completion}
    found: torch.Tensor = DPOTrainer._compute_loss(trainer, trainer.model, inputs, False)
    found.backward()
    return found


def online_dpo(loss: str, beta: float, table: dict[str, torch.Tensor], leaf: torch.Tensor) -> torch.Tensor:
    """`OnlineDPOTrainer`'s loss of the batch; the rewards prefer the first half, which is the chosen one."""
    model = Table(leaf, table["mask"])
    values = {"policy": leaf, "reference": table["reference"]}
    sides = iter(values.values())
    ids = torch.ones(2 * PAIRS, LONGEST).long()
    mask = table["mask"].long()
    trainer = SimpleNamespace(
        model=SimpleNamespace(disable_adapter=nullcontext),
        ref_model=None,
        accelerator=accelerator(),
        args=SimpleNamespace(
            use_vllm=False,
            missing_eos_penalty=None,
            loss_type=loss,
            torch_empty_cache_steps=None,
            optim=None,
            n_gpu=1,
            gradient_accumulation_steps=1,
        ),
        beta=beta,
        eos_token_ids=[0],
        reward_funcs=[None],
        stats=defaultdict(list),
        processing_class=SimpleNamespace(batch_decode=lambda ids, **_: [""] * len(ids)),
        _generate=lambda *_: (ids[:, :PROMPT], ids[:, :PROMPT], ids, mask, None),
        _forward=lambda *_: next(sides),
        _calculate_rewards_from_functions=lambda **_: torch.arange(2 * PAIRS).flip(0).float(),
    )
    found: torch.Tensor = OnlineDPOTrainer.training_step(trainer, model, {"prompt": [""] * PAIRS})
    return found


def cases(table: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Every loss at every beta: the mean over the pairs, and its gradient in the policy's table."""
    found = []
    for trainer, losses in LOSSES.items():
        function = dpo if trainer == "DPOTrainer" else online_dpo
        for loss in losses:
            for beta in BETAS:
                leaf = table["policy"].clone().requires_grad_()
                value = function(loss, beta, table, leaf).item()
                gradient = leaf.grad.tolist()
                found.append(
                    {"trainer": trainer, "loss": loss, "beta": beta, "value": value, "gradient": gradient}
                )
    return found


def run(_: dict[str, Any]) -> dict[str, Any]:
    """The tables and TRL's answers to them."""
    table = tables(seed=0)
    return {"tables": {name: value.tolist() for name, value in table.items()}, "cases": cases(table)}


if __name__ == "__main__":
    worker.serve(run, ("trl", "torch"))
