"""Configurations of other tools, in the shapes that their pages show, with values of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FLAT = {
    "the README's online DPO, as a file": """\
model: Qwen/Qwen3-0.6B
train: true
train_mode: online_dpo
data: ./online_data
judge: Qwen/Qwen3-4B
alpha: 2e-5
""",
    "the skill's online DPO": """\
model: Qwen/Qwen3-0.6B
data: ./online_data
train: true
train_type: dora
train_mode: online_dpo
judge: Qwen/Qwen3-4B
judge_config:
  system_prompt: |
    Question: {prompt}
    First: {response0}
    Second: {response1}
    Prefer the answer a nurse would give. Return only 0 or 1.
reference_model_path: Qwen/Qwen3-0.6B
dpo_cpo_loss_type: dpop
delta: 25.0
beta: 0.2
temperature: 0.7
max_completion_length: 24
micro_batch_size: 1
gradient_accumulation_steps: 2
iters: 4
""",
    "a long XPO": """\
model: "Qwen/Qwen3-0.6B"
train: yes
load_in_4bits: true
train_type: lora
train_mode: xpo
judge: "Qwen/Qwen3-4B"
alpha: [1e-4, 1e-5]
dpo_cpo_loss_type: ipo
data: "./online_data"
seed: 7
num_layers: 2
batch_size: 2
epochs: 2
val_batches: 5
steps_per_report: 1
steps_per_eval: 4
save_every: 4
adapter_path: "xpo-adapters"
optimizer: adamw
optimizer_config:
  adam: {betas: [0.9, 0.98]}
  adamw: {weight_decay: 0.05}
lr_schedule:
  name: cosine_decay
  warmup: 2
  warmup_init: 1e-7
  arguments: [3e-5, 12, 1e-6]
lora_parameters: {rank: 4, dropout: 0.05, scale: 16.0}
max_seq_length: 256
grad_checkpoint: true
fuse: false
""",
}
NESTED = {
    "the README's form": """\
# Written by MLX LoRA Studio
train_mode: online_dpo
model: Qwen/Qwen3-0.6B
judge: Qwen/Qwen3-4B
dataset:
  - ./online_data
adapter:
  type: lora
  rank: 4
  alpha: 8
  dropout: 0.0
  target_modules: [q_proj, v_proj]
optim:
  learning_rate: 1.0e-4
  schedule: cosine
  warmup_steps: 1
  weight_decay: 0.01
  grad_accumulation_steps: 2
train:
  max_steps: 3
  batch_size: 2
  max_seq_len: 256
  save_every: 4
output:
  adapter_path: ~/Library/Application Support/MLXLoRAStudio/runs/<id>/adapter
""",
    "XPO with a rubric": """\
train_mode: xpo
model: Qwen/Qwen3-0.6B
judge: Qwen/Qwen3-4B
judge_system: Prefer the answer that names its source.
dataset: ./online_data
adapter: {type: dora, rank: 2, scale: 20.0}
optim: {learning_rate: 2.0e-5, schedule: constant}
train: {iters: 2, batch_size: 1, alpha: 1e-4, beta: 0.05, temperature: 0.8}
""",
}


def run_spec(**changes: Any) -> str:
    """What MLX LoRA Studio writes beside a run: every option of its form, as JSON."""
    spec: dict[str, Any] = {
        "model": "Qwen/Qwen3-0.6B",
        "model_family": "text",
        "train": True,
        "train_type": "lora",
        "train_mode": "xpo",
        "sft_loss_type": "nll",
        "optimizer": "adamw",
        "data": "./online_data",
        "seed": 3,
        "num_layers": 2,
        "batch_size": 2,
        "iters": 6,
        "epochs": None,
        "gradient_accumulation_steps": 2,
        "val_batches": 5,
        "learning_rate": 2e-5,
        "lr_schedule": {
            "name": "cosine_decay",
            "warmup": 1,
            "warmup_init": 1e-7,
            "arguments": [2e-5, {"iters_fraction": 0.5}, 2e-6],
        },
        "steps_per_report": 2,
        "steps_per_eval": 6,
        "adapter_path": "studio-run",
        "save_every": 6,
        "test": False,
        "test_batches": 100,
        "max_seq_length": 256,
        "grad_checkpoint": True,
        "efficient_long_context": False,
        "seq_step_size": 512,
        "mask_prompt": False,
        "fuse": True,
        "fuse_dequantize": True,
        "fuse_remove_adapters": True,
        "beta": 0.1,
        "reward_scaling": 1.0,
        "dpo_cpo_loss_type": "sigmoid",
        "delta": 50.0,
        "lambda_mse_target": 0.05,
        "tau_mse_target": 1.0,
        "lambda_mse": 0.4,
        "clip_epsilon_logits": 2.0,
        "group_size": 4,
        "epsilon": 0.0001,
        "max_completion_length": 24,
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "grpo_loss_type": "grpo",
        "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0},
        "load_in_4bits": False,
        "load_in_6bits": False,
        "load_in_8bits": False,
        "load_in_mxfp4": False,
        "qat_enable": False,
        "qat_bits": 8,
        "qat_group_size": 64,
        "qat_mode": "affine",
        "qat_start_step": 1,
        "qat_interval": 1,
        "vlm_dequantize": True,
        "judge": "Qwen/Qwen3-4B",
        "judge_system": "Prefer the shorter answer.",
        "alpha": "1e-4, 1e-5",
        "prompt_feature": "prompt",
    }
    return json.dumps(spec | changes, indent=2)


TRL_JSON = Path(__file__).parent / "trl_online_dpo.json"
"""What ``OnlineDPOConfig(...).to_json_string()`` of TRL 1.16.0 with transformers 5.24.0 came to."""


def trl_json(**changes: Any) -> str:
    """The same with other values; `XPOConfig` had ``alpha`` besides."""
    return json.dumps(json.loads(TRL_JSON.read_text("utf-8")) | changes, indent=2)


TRL_SCRIPT = """\
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: online_data/train.jsonl
reward_model_path: some/reward-model
learning_rate: 5.0e-6
output_dir: script-run
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
max_steps: 10
max_new_tokens: 24
warmup_ratio: 0.1
lr_scheduler_type: cosine
missing_eos_penalty: 1.0
eval_strategy: steps
eval_steps: 5
use_peft: true
lora_r: 4
lora_alpha: 8
push_to_hub: true
"""
PUBLISHED: dict[str, tuple[str, str]] = {
    **{name: ("old.yaml", text) for name, text in (FLAT | NESTED).items()},
    "a run of MLX LoRA Studio": ("run_spec.json", run_spec()),
    "TRL's OnlineDPOConfig": ("config.json", trl_json()),
    "TRL's XPOConfig": ("config.json", trl_json(alpha=[2e-5, 1e-5], loss_type="ipo", top_k=50)),
    "TRL's script": ("config.yaml", TRL_SCRIPT),
}
"""Nine configurations by what they are: the name of the file, and its text."""
