"""The nested dialect in the README of MLX LoRA Studio: sections adapter, optim, train and output.

Every key of mlx-lm-lora may stand at the top or in a section as well: the page shows supervised fine-tuning
only, and does not say where those of the online modes go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefloop_plugins.converting import mlx_lm_lora
from prefloop_plugins.converting.dialect import Dialect
from prefloop_plugins.converting.rules import Given, Made, Rule, becomes, one_of, whole

SECTIONS = frozenset({"adapter", "optim", "train", "output"})
NAMES = {
    "adapter.type": "train_type",
    "adapter.rank": "lora_parameters.rank",
    "adapter.scale": "lora_parameters.scale",
    "adapter.dropout": "lora_parameters.dropout",
    "optim.grad_accumulation_steps": "gradient_accumulation_steps",
    "train.max_seq_len": "max_seq_length",
    "train.max_steps": "max_steps",
    "optim.schedule": "schedule",
    "optim.warmup_steps": "warmup_steps",
    "optim.weight_decay": "weight_decay",
    "adapter.alpha": "lora_alpha",
    "adapter.target_modules": "target_modules",
}
"""Keys of a section by their names in the table."""
SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "cosine": {"training.schedule.use": "cosine_decay"},
    "linear": {"training.schedule.use": "linear_schedule", "training.schedule.end": 0.0},
    "constant": {},
}
MODULES = {
    **{name: f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{name: f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
}
"""The usual linear layers, as mlx-lm calls them within a layer."""


def canonical(key: str) -> str:
    """The name in the table of a key as it is written."""
    section, dot, name = key.partition(".")
    return NAMES.get(key, name if dot and section in SECTIONS else key)


def schedule(value: Any, given: Given) -> Made:
    if not one_of(value, SCHEDULES):
        raise ValueError(f"there is no schedule {value!r}; there are {', '.join(SCHEDULES)}.")
    use = SCHEDULES[value]
    if not use and given("warmup_steps"):
        use = {"training.schedule.use": "constant"}
    return Made(use, fate="became" if use else "nothing to do")


def warmup_steps(value: Any, given: Given) -> Made:
    if not value:
        return Made(fate="nothing to do")
    use = {} if "schedule" in given else {"training.schedule.use": "constant"}
    return Made(use | {"training.schedule.warmup": value})


def weight_decay(value: Any, given: Given) -> Made:
    if "optimizer" in given:
        return Made({"training.optimizer.weight_decay": value})
    return Made(
        {"training.optimizer.use": "adamw", "training.optimizer.weight_decay": value},
        "With AdamW, as Adam has none.",
    )


def lora_alpha(value: Any, given: Given) -> Made:
    rank = given("lora_parameters.rank", 8)
    factor = value / rank if isinstance(value, int | float) and whole(rank) else value
    return Made({"adapter.scale": factor}, f"alpha divided by the rank, {rank}.")


def target_modules(value: Any, given: Given) -> Made:
    names = [MODULES.get(str(name), name) for name in value] if isinstance(value, list) else value
    return Made({"adapter.keys": names})


def dataset(value: Any, given: Given) -> Made:
    first, *others = value if isinstance(value, list) and value else [value]
    made = mlx_lm_lora.RULES["data"](first, given)
    note = f" Not honoured: {', '.join(map(str, others))}; put them into one file." if others else ""
    return Made(made.settings, made.note + note, made.fate)


OWN: Mapping[str, Rule] = {
    "dataset": becomes("prompts.path", make=dataset),
    "lora_alpha": becomes("adapter.scale", make=lora_alpha),
    "target_modules": becomes("adapter.keys", make=target_modules),
    "schedule": becomes("training.schedule.use", make=schedule),
    "warmup_steps": becomes("training.schedule.warmup", make=warmup_steps),
    "weight_decay": becomes("training.optimizer.weight_decay", make=weight_decay),
    "max_steps": becomes("training.iters", "Updates in both."),
}


def habits(given: Given) -> Mapping[str, Made]:
    """Those of mlx-lm-lora, but for what a key of this dialect says."""
    made = dict(mlx_lm_lora.habits(given))
    if "max_steps" in given:
        made.pop("length", None)
    return made


STUDIO = Dialect(
    name="mlx-lora-studio",
    tool="MLX LoRA Studio",
    trainer="mlx-lm-lora",
    marks=frozenset({"dataset", "optim", "train"}),
    rules={**mlx_lm_lora.RULES, **OWN},
    habits=habits,
    required=mlx_lm_lora.MLX_LM_LORA.required,
    remark="mlx-lm-lora 5.10.2 reads none of the sections adapter, optim, train and output, nor dataset: "
    "`mlx_lm_lora -c` on this file runs with its own defaults for all of them.",
    own_sections=SECTIONS,
    canonical=canonical,
    spellings=frozenset(NAMES),
)
