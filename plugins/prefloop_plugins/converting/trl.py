"""The dialect of TRL: what ``OnlineDPOConfig`` and ``XPOConfig`` write as JSON, and the YAML of its scripts.

The fields are those of TRL 1.16.0 with transformers 5.24, of ``XPOConfig`` as long as TRL had it, and of the
arguments that TRL's scripts read beside them.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefloop_plugins.converting import trl_rules as how
from prefloop_plugins.converting.dialect import JUDGE, MODEL, PROMPTS, Dialect
from prefloop_plugins.converting.rules import Given, Made, Rule, becomes, ignored, left_out, needless

SCRIPT = needless("What the program or the command line says.")
CUDA = needless("It concerns PyTorch, CUDA or several machines.")
TALK = needless("It concerns what TRL prints and where.")
LOADER = needless("It concerns how PyTorch loads rows.")
HUB = left_out("Nothing is uploaded.", idle=("<HUB_TOKEN>", "<PUSH_TO_HUB_TOKEN>"))
VLLM = needless("Completions are sampled by mlx-lm.")

RULES: Mapping[str, Rule] = {
    "model_name_or_path": becomes("model.path"),
    "dataset_name": becomes("prompts.path"),
    "dataset_config": becomes("prompts.name"),
    "dataset_train_split": becomes("prompts.split"),
    "output_dir": becomes("output.path", make=how.output_dir),
    "per_device_train_batch_size": becomes(
        "training.batch_size", "Prompts a batch, of the one device.", default=8
    ),
    "gradient_accumulation_steps": becomes("training.gradient_accumulation"),
    "num_train_epochs": becomes("training.epochs", make=how.epochs, default=3.0),
    "max_steps": becomes("training.iters", "Updates in both tools.", make=how.max_steps),
    "learning_rate": becomes("training.learning_rate", default=5e-7),
    "lr_scheduler_type": becomes("training.schedule", make=how.scheduler, default="linear"),
    "lr_scheduler_kwargs": left_out("Only the schedule's usual form is converted; see training.schedule."),
    **dict.fromkeys(("warmup_steps", "warmup_ratio"), becomes("training.schedule.warmup", make=how.warmup)),
    "optim": becomes("training.optimizer", make=how.optimizer, default="adamw_torch_fused"),
    "optim_args": left_out("Give the optimizer's options in training.optimizer."),
    "weight_decay": becomes(
        "training.optimizer.weight_decay", make=how.of_adamw("weight_decay"), default=0.0
    ),
    "adam_beta1": becomes("training.optimizer.betas", make=how.betas),
    "adam_beta2": needless("It goes with adam_beta1."),
    "adam_epsilon": becomes("training.optimizer.eps", make=how.of_adamw("eps")),
    "max_grad_norm": becomes("training.max_grad_norm", make=how.max_grad_norm),
    "gradient_checkpointing": becomes("training.gradient_checkpointing", default=True),
    "seed": becomes("training.seed", default=42),
    "logging_steps": becomes("training.report_every", make=how.logging_steps),
    "eval_strategy": becomes("training.evaluate_every", make=how.eval_strategy),
    "eval_steps": needless("It goes with eval_strategy."),
    "save_strategy": becomes("training.save_every", make=how.save_strategy),
    "save_steps": becomes("training.save_every", make=how.save_steps, default=500),
    "save_total_limit": becomes("training.keep_last"),
    "load_best_model_at_end": becomes("training.load_best", make=how.load_best),
    "max_new_tokens": becomes("sampler.max_completion_length", default=64),
    "max_length": becomes("prompts.max_length", make=how.max_length, default=512),
    "temperature": becomes("sampler.temperature", default=0.9),
    "top_p": becomes("sampler.top_p", default=1.0),
    "top_k": becomes("sampler.top_k"),
    "min_p": becomes("sampler.min_p"),
    "beta": becomes("loss.beta", make=how.beta),
    "loss_type": becomes("loss.use", make=how.loss),
    **dict.fromkeys(("alpha", "alpha_list"), becomes("algorithm", make=how.alpha)),
    "reward_model_path": becomes(
        "judge.model",
        "With judge.use: reward. TRL's trainer does not read it, its script does.",
        make=how.reward_model,
    ),
    "judge": left_out("TRL's judges are other classes: give --set judge=MODEL."),
    "trust_remote_code": becomes("model.trust_remote_code"),
    **dict.fromkeys(("dtype", "torch_dtype"), becomes("model.dtype", make=how.dtype)),
    "model_init_kwargs": becomes("model.dtype", make=how.model_init_kwargs),
    "use_peft": becomes("adapter.type", make=how.use_peft),
    "lora_r": becomes("adapter.rank", make=how.of_peft("adapter.rank")),
    "lora_alpha": becomes("adapter.scale", make=how.lora_alpha),
    "lora_dropout": becomes("adapter.dropout", make=how.of_peft("adapter.dropout")),
    "lora_target_modules": becomes("adapter.keys", make=how.target_modules),
    "use_dora": becomes("adapter.type", make=how.use_dora),
    "load_in_4bit": becomes("model.quantize", make=how.quantize(4)),
    "load_in_8bit": becomes("model.quantize", make=how.quantize(8)),
    "model_revision": left_out("Give a folder as model.path for another revision.", idle=("main",)),
    "lora_modules_to_save": left_out("Only adapters are trained with adapter.type: lora."),
    "use_rslora": left_out("adapter.scale is the factor: alpha divided by the root of the rank."),
    "repetition_penalty": left_out("Samplers here have no such penalty.", idle=(1.0,)),
    "generation_kwargs": left_out("Give the sampler's options in sampler."),
    "missing_eos_penalty": left_out("No judge here has such a penalty; sampler.max_completion_length cuts."),
    "reward_weights": left_out("`judge: {use: committee, ...}` weighs several judges."),
    "disable_dropout": needless("Only adapter.dropout drops anything here."),
    "bf16": left_out("Mixed precision is PyTorch's; model.dtype: bfloat16 is the nearest."),
    "fp16": left_out("Mixed precision is PyTorch's; model.dtype: float16 is the nearest."),
    "resume_from_checkpoint": left_out("`prefloop train --resume RUN` goes on with a run."),
    "report_to": left_out(
        "Metrics are in RUN/metrics.jsonl; an observer can send them on.", idle=("none", ["none"])
    ),
    "neftune_noise_alpha": left_out("No noise is added to embeddings."),
    "label_smoothing_factor": ignored(
        "Its loss has no such term; loss.label_smoothing here is cDPO.", idle=0.0
    ),
    "data_seed": left_out("training.seed is the one seed."),
    "auto_find_batch_size": left_out("Memory is planned: training.micro_batch_size takes what fits."),
    "metric_for_best_model": left_out("The best checkpoint is that of the best win rate."),
    "eval_on_start": needless("Every run is evaluated at its start."),
    "optim_target_modules": left_out("training.optimizer is for all trained tensors."),
    "train_sampling_strategy": left_out("Prompts come in an order drawn by the seed.", idle=("random",)),
    "group_by_length": left_out("Prompts come in an order drawn by the seed."),
    "full_determinism": needless("A run draws everything from its seed."),
    "gradient_checkpointing_kwargs": CUDA,
    **dict.fromkeys(how.HUB, HUB),
    "hub_strategy": needless("It goes with push_to_hub."),
    "use_vllm": VLLM,
    **dict.fromkeys(how.VLLM, VLLM),
    **dict.fromkeys(how.CUDA, CUDA),
    **dict.fromkeys(how.LOADER, LOADER),
    **dict.fromkeys(how.TALK, TALK),
    **dict.fromkeys(how.SCRIPT, SCRIPT),
}
"""What becomes of every key."""


def habits(given: Given) -> Mapping[str, Made]:
    """What TRL does without a key for it, where prefloop's default is another."""
    return {"algorithm": Made({"algorithm.use": "online_dpo"}, "It has no alpha, as XPOConfig has.")}


TRL = Dialect(
    name="trl",
    tool="TRL",
    trainer="TRL",
    marks=frozenset(
        {
            *("per_device_train_batch_size", "num_train_epochs", "model_name_or_path", "lr_scheduler_type"),
        }
    ),
    rules=RULES,
    habits=habits,
    required={
        MODEL: "TRL's configuration does not name the model: give --set model.path=MODEL.",
        PROMPTS: "TRL's configuration does not name the prompts: give --set prompts.path=FILE_OR_ID.",
        JUDGE: "TRL's configuration does not name a judge: give --set judge=MODEL.",
    },
    remark="TRL's configuration does not say whether adapters are trained: prefloop trains LoRA "
    "adapters, unless adapter.type is full.",
)
