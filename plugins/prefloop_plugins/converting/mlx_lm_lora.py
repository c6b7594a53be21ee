"""The dialect of mlx-lm-lora 5.10.2: a flat file, read by its ``train.py``. The run_spec.json of MLX LoRA
Studio has the same keys and a few of its own.

Its command line has defaults for 24 options, and a file sets only what has none: these keys do nothing in a
file (`Rule.ran_with` is what runs instead). Rules that take more than a line are in `mlx_lm_lora_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefloop_plugins.converting import mlx_lm_lora_rules as how
from prefloop_plugins.converting.dialect import ALGORITHM, JUDGE, Dialect
from prefloop_plugins.converting.rules import Given, Made, Rule, becomes, ignored, left_out, needless

OTHER_MODES = "Only other train modes read it."
NO_COLUMN = "The online modes read the prompt column only."
MANY_STEPS = "A step here is an update, there a batch."
REFERENCE = "The reference is quantized too; there it is not."
GROUPS = f"In groups of 64 weights, there of 128. {REFERENCE}"

RULES: Mapping[str, Rule] = {
    "train_mode": becomes("algorithm.use", make=how.train_mode),
    "model": becomes("model.path", default="mlx_model"),
    "load_in_4bits": becomes("model.quantize", GROUPS, make=how.quantize("4bit")),
    "load_in_6bits": becomes("model.quantize", GROUPS, make=how.quantize("6bit")),
    "load_in_8bits": becomes("model.quantize", GROUPS, make=how.quantize("8bit")),
    "load_in_mxfp4": becomes("model.quantize", REFERENCE, make=how.quantize("mxfp4")),
    "train_type": becomes("adapter.type"),
    "num_layers": becomes(
        "adapter.layers", about="Of the last layers, -1 for all.", make=how.layers, default=-1
    ),
    "lora_parameters.rank": becomes("adapter.rank"),
    "lora_parameters.scale": becomes(
        "adapter.scale", "The factor itself in both tools, not divided by the rank.", default=10.0
    ),
    "lora_parameters.dropout": becomes("adapter.dropout"),
    "lora_parameters.keys": becomes(
        "adapter.keys", instead="mlx-lm-lora does not read it: it adapts every linear layer."
    ),
    "lora_parameters.alpha": ignored("Its factor is scale; alpha divided by rank would be adapter.scale."),
    "resume_adapter_file": becomes("adapter.resume_from"),
    "reference_model_path": becomes("reference", about="The model itself is base here.", make=how.reference),
    "data": becomes(
        "prompts.path",
        about="A folder's train.jsonl, and its valid.jsonl for evaluations; or a Hub id.",
        make=how.data,
        default="data/",
    ),
    "hf_dataset": becomes(
        "prompts",
        about="Its path, config.name, prompt_feature and train_split, of slices [:N]; of a list the first.",
        make=how.hf_dataset,
    ),
    "prompt_feature": becomes("prompts.column"),
    "system_feature": ignored("Put the system message into the prompt's messages, or in prompts.system."),
    **dict.fromkeys(
        (
            *("completion_feature", "chosen_feature", "rejected_feature", "text_feature", "chat_feature"),
            *("type_feature", "preference_score_feature"),
        ),
        ignored(NO_COLUMN),
    ),
    "answer_feature": ignored(f"{NO_COLUMN} evaluation.answer_column here reports accuracy."),
    "max_seq_length": becomes(
        "prompts.max_length",
        "Longer prompts are dropped.",
        instead="mlx-lm-lora reads it in no online mode: it takes prompts of any length.",
    ),
    "judge": becomes("judge.model", about="`human` is judge.use: human.", make=how.judge),
    "judge_system": becomes(
        "judge.system",
        make=how.judge_system,
        instead="mlx-lm-lora does not read it: its judge is asked in its own words.",
    ),
    "judge_config.system_prompt": becomes(
        "judge.system",
        "It is the rubric here, without the lines that quote the prompt or an answer.",
        make=how.judge_template,
    ),
    "dpo_cpo_loss_type": becomes(
        "loss.use", about="In the form that it has there.", make=how.loss, ran_with="sigmoid"
    ),
    "beta": becomes("loss.beta"),
    "delta": becomes("loss.delta", make=how.delta, ran_with=50.0),
    "alpha": becomes(
        "algorithm.alpha", about="A list has a weight for each epoch.", make=how.alpha, ran_with=[1e-5]
    ),
    "temperature": becomes("sampler.temperature", make=how.temperature, ran_with=1.0),
    "max_completion_length": becomes("sampler.max_completion_length", ran_with=512),
    "batch_size": becomes("training.batch_size", default=1),
    "gradient_accumulation_steps": becomes("training.gradient_accumulation", ran_with=1),
    "micro_batch_size": becomes("training.micro_batch_size"),
    "iters": becomes("training.iters", MANY_STEPS, make=how.iters),
    "epochs": becomes("training.epochs", about="Where iters is not given.", make=how.epochs),
    "learning_rate": becomes(
        "training.learning_rate", about="Where lr_schedule is not given.", make=how.learning_rate
    ),
    "lr_schedule": becomes(
        "training.schedule", about="Its first argument is training.learning_rate.", make=how.lr_schedule
    ),
    "optimizer": becomes("training.optimizer.use", make=how.optimizer, default="adam"),
    "optimizer_config": becomes(
        "training.optimizer", about="The part of the optimizer in use.", make=how.optimizer_config
    ),
    "grad_checkpoint": becomes("training.gradient_checkpointing"),
    "seed": becomes("training.seed"),
    "steps_per_report": becomes("training.report_every", MANY_STEPS, make=how.steps("training.report_every")),
    "steps_per_eval": becomes(
        "training.evaluate_every",
        "Evaluations here are win rates against the start of the run, there a loss.",
        make=how.steps_per_eval,
        default=200,
    ),
    "val_batches": becomes(
        "evaluation.held_out", about="Where there is no valid.jsonl.", make=how.val_batches
    ),
    "save_every": becomes(
        "training.save_every",
        "Some checkpoints are kept here, all there; training.keep_last: null keeps all.",
        make=how.steps("training.save_every"),
    ),
    "adapter_path": becomes("output.path", about="Where it is new or empty.", make=how.adapter_path),
    "train": Rule("nothing to do", note="`prefloop train` trains.", make=how.train),
    "test": left_out("Nothing is tested after a run; `prefloop eval RUN` compares it with another model."),
    "test_batches": needless("It goes with test."),
    "fuse": left_out("No fused model is written; `python -m mlx_lm fuse --adapter-path RUN` makes one."),
    "lm_studio_name": left_out("Nothing is sent to LM Studio; fuse the adapters and copy the folder there."),
    "wandb": left_out("Metrics are in RUN/metrics.jsonl and the report; an observer can send them on."),
    "recurrence_chunk_size": left_out("mlx-lm's own recurrences are used.", idle=(64,)),
    "config": ignored("It names a file on the command line."),
    "mask_prompt": ignored("The online modes score completions."),
    "efficient_long_context": ignored(OTHER_MODES),
    **{
        key: Rule("ignored there", note=OTHER_MODES, ran_with=before)
        for key, before in {
            "sft_loss_type": "nll",
            "reward_scaling": 1.0,
            "dsla_loss": "dpo",
            "latent_weight": 0.1,
            "latent_margin": 0.05,
            "latent_gamma": 10.0,
            "latent_variant": "both",
            "latent_pooling": "answer_mean",
            "latent_layer": "final",
            "group_size": 4,
            "epsilon": 1e-4,
            "grpo_loss_type": "grpo",
            "importance_sampling_level": "token",
            "klpo_route": "token",
            "klpo_kl_estimator": "mc",
            "klpo_mc_samples": 128,
            "klpo_top_k": 128,
            "klpo_tail_floor": 1e-6,
        }.items()
    },
    **dict.fromkeys(
        (
            *("epsilon_high", "reward_weights", "reward_functions", "reward_functions_file"),
            *("lambda_mse_target", "tau_mse_target", "lambda_mse", "clip_epsilon_logits"),
            *("qat_enable", "qat_bits", "qat_group_size", "qat_mode", "qat_start_step", "qat_interval"),
        ),
        ignored(OTHER_MODES),
    ),
    # What MLX LoRA Studio writes besides
    "model_family": left_out("Only the text model is trained.", idle=("text",)),
    "vlm_model": left_out("Nothing is merged back into a vision-language model."),
    "vlm_output_path": left_out("Nothing is merged back into a vision-language model."),
    "vlm_dequantize": needless("It goes with vlm_model."),
    "fuse_dequantize": needless("It goes with fuse."),
    "fuse_remove_adapters": needless("It goes with fuse."),
    **dict.fromkeys(("top_p", "top_k", "min_p"), ignored("Only GRPO reads it; here it is in sampler.")),
    **dict.fromkeys(
        ("ftpo_context_feature", "ftpo_rejected_feature", "ftpo_chosen_feature", "seq_step_size"),
        ignored(OTHER_MODES),
    ),
    "dataset_system_prompt": becomes(
        "prompts.system", instead="mlx-lm-lora does not read it: prompts have no system message."
    ),
}
"""What becomes of every key that mlx-lm-lora reads or knows."""

IGNORED_IN_A_FILE = tuple(key for key, rule in RULES.items() if rule.ignored_in_a_file)
"""The 24 keys that do nothing in a file, as the command line has a default for them."""


def habits(given: Given) -> Mapping[str, Made]:
    """What mlx-lm-lora does without a key for it, where prefloop's default is another."""
    made = {
        "clipping": Made({"training.max_grad_norm": None}, "It does not clip gradients."),
        "sampling": Made({"sampler.top_p": 1.0}, "It samples from all tokens."),
    }
    if given("judge") not in (None, "human"):
        made["judge's order"] = Made(
            {"judge.orders": "random"},
            "It asks once, in a random order. `both` cancels a liking for a place, at twice the cost.",
        )
    if given("fuse") is None:
        note = "It writes a fused model by default; `python -m mlx_lm fuse --adapter-path RUN` makes one."
        made["fuse"] = Made({}, note, "not honoured")
    if given("iters") is None and given("epochs") is None:
        made["length"] = Made({"training.iters": 100}, "It trains for 100 batches.")
    if given("temperature") is None and given("train_mode") == "online_dpo":
        made["temperature"] = Made({"sampler.temperature": 1.0}, "It is the default of its command line.")
    if given("train_mode") == "xpo":
        made["XPO's bonus"] = Made(
            {"algorithm.estimator": "sampled"}, "Its gradient is zero in expectation; see docs/methods.md."
        )
    return made


MLX_LM_LORA = Dialect(
    name="mlx-lm-lora",
    tool="mlx-lm-lora",
    trainer="mlx-lm-lora",
    marks=frozenset(
        {
            *("train_mode", "train_type", "lora_parameters", "dpo_cpo_loss_type", "judge_config"),
            *("load_in_4bits", "load_in_6bits", "load_in_8bits", "load_in_mxfp4", "hf_dataset"),
        }
    ),
    rules=RULES,
    habits=habits,
    required={
        ALGORITHM: "train_mode is missing, which means sft: prefloop does online_dpo and xpo.",
        JUDGE: "judge is missing: name a model or human, or give --set judge=MODEL.",
    },
    ignores=lambda given: "model_family" not in given,
)
