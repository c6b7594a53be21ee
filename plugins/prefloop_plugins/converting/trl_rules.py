"""What becomes of those keys of TRL that mean something else here, or depend on others."""

from __future__ import annotations

from typing import Any

from prefloop_plugins.converting.mlx_lm_lora_rules import adapter_path
from prefloop_plugins.converting.rules import (
    Given,
    Made,
    Make,
    not_honoured,
    one_of,
    switch,
    whole,
    without_point,
)
from prefloop_plugins.converting.studio import MODULES

SMALLER = {"8bit": "Its states are in full here, not in 8 bits.", "4bit": "Its states are in full here."}
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {"use": "linear_schedule", "end": 0.0},
    "cosine": {"use": "cosine_decay"},
    "constant_with_warmup": {"use": "constant"},
}
DTYPES = ("auto", "float32", "bfloat16", "float16")
HUB = (
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_always_push", "hub_revision", "hub_token"),
    *("push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token"),
)
VLLM = (
    *("vllm_model_impl", "vllm_structured_outputs_regex", "vllm_gpu_memory_utilization", "vllm_mode"),
    *("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout"),
    *("vllm_group_port", "vllm_tensor_parallel_size", "vllm_enable_sleep_mode", "gpu_memory_utilization"),
    *("vllm_guided_decoding_regex", "cache_implementation", "use_transformers_paged"),
)
CUDA = (
    *("accelerator_config", "activation_checkpointing", "activation_checkpointing_kwargs", "local_rank"),
    *("attn_implementation", "average_tokens_across_devices", "batch_eval_metrics", "bf16_full_eval"),
    *("bnb_4bit_quant_storage", "bnb_4bit_quant_type", "ddp_backend", "ddp_broadcast_buffers"),
    *("ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "ddp_timeout", "deepspeed"),
    *("ds3_gather_for_generation", "enable_jit_checkpoint", "eval_accumulation_steps", "eval_delay"),
    *("eval_do_concat_batches", "eval_use_gather_object", "fp16_backend", "fp16_full_eval", "fp16_opt_level"),
    *("fsdp", "fsdp_config", "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap"),
    *("greater_is_better", "half_precision_backend", "include_for_metrics", "include_inputs_for_metrics"),
    *("include_tokens_per_second", "jit_mode_eval", "liger_kernel_config", "mp_parameters", "no_cuda"),
    *("overwrite_output_dir", "parallelism_config", "past_index", "per_device_eval_batch_size"),
    *("per_gpu_eval_batch_size", "per_gpu_train_batch_size", "prediction_loss_only", "ray_scope"),
    *("restore_callback_states_from_checkpoint", "save_on_each_node", "save_only_model", "save_safetensors"),
    *("split_batches", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torchdynamo"),
    *("torch_empty_cache_steps", "tpu_metrics_debug", "tpu_num_cores", "use_bnb_nested_quant", "use_cache"),
    *("use_cpu", "use_ipex", "use_legacy_prediction_loop", "use_liger_kernel", "use_mps_device"),
)
LOADER = (
    *("dataloader_drop_last", "dataloader_in_order", "dataloader_multiprocessing_context"),
    *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory"),
    *("dataloader_prefetch_factor", "dataset_num_proc", "dataset_streaming", "dispatch_batches"),
    *("ignore_data_skip", "label_names", "length_column_name", "remove_unused_columns"),
)
TALK = (
    *("debug", "disable_tqdm", "include_num_input_tokens_seen", "log_level", "log_level_replica"),
    *("log_on_each_node", "logging_dir", "logging_first_step", "logging_nan_inf_filter", "logging_strategy"),
    *("project", "run_name", "skip_memory_metrics", "trackio_bucket_id", "trackio_space_id"),
    *("trackio_static_space_id",),
)
SCRIPT = ("do_eval", "do_predict", "do_train", "dataset_test_split", "lora_task_type", "ignore_bias_buffers")


def output_dir(value: Any, given: Given) -> Made:
    return adapter_path(value, given) if value != "trainer_output" else Made(fate="nothing to do")


def _by_steps(given: Given) -> bool:
    steps = given("max_steps", -1)
    return isinstance(steps, int | float) and steps > 0


def epochs(value: Any, given: Given) -> Made:
    if _by_steps(given):
        return Made({}, "max_steps is given too, and counts in both tools.", "ignored there")
    return Made({"training.epochs": value})


def max_steps(value: Any, given: Given) -> Made:
    return Made({"training.iters": value}) if _by_steps(given) else Made(fate="nothing to do")


def scheduler(value: Any, given: Given) -> Made:
    if value == "constant":
        return Made(fate="nothing to do")
    if not one_of(value, SCHEDULES):
        return not_honoured(f"The learning rate stays as it is; {', '.join(SCHEDULES)} are converted.")
    return Made({f"training.schedule.{key}": option for key, option in SCHEDULES[value].items()})


def warmup(value: Any, given: Given) -> Made:
    """A number of updates, or a share of them below 1."""
    if not value:
        return Made(fate="nothing to do")
    if not one_of(given("lr_scheduler_type", "linear"), SCHEDULES):
        return not_honoured("The schedule that it goes with is not converted.")
    if isinstance(value, float) and value < 1:
        if not _by_steps(given):
            return not_honoured("A share of a run in epochs; give a number in training.schedule.warmup.")
        value = round(value * given("max_steps"))
    return Made({"training.schedule.warmup": without_point(value)})


def _is_adamw(given: Given) -> bool:
    return "adamw" in str(given("optim", "adamw_torch"))


def optimizer(value: Any, given: Given) -> Made:
    name = str(value)
    note = next((said for kind, said in SMALLER.items() if kind in name), "")
    if _is_adamw(given):
        settings = {"training.optimizer.use": "adamw", "training.optimizer.bias_correction": True}
        return Made(settings, note or "With the bias correction that PyTorch's has.")
    for use in ("lion", "adafactor", "rmsprop", "adagrad", "sgd"):
        if use in name:
            return Made({"training.optimizer.use": use}, note)
    return not_honoured("mlx has no such optimizer; prefloop's default is AdamW.")


def of_adamw(option: str) -> Make:
    """An option of AdamW; other optimizers are left with their own."""

    def make(value: Any, given: Given) -> Made:
        if not _is_adamw(given):
            return not_honoured("Give the optimizer's options in training.optimizer.")
        return Made({f"training.optimizer.{option}": value})

    return make


def betas(value: Any, given: Given) -> Made:
    return of_adamw("betas")([value, given("adam_beta2", 0.999)], given)


def max_grad_norm(value: Any, given: Given) -> Made:
    return Made({"training.max_grad_norm": value or None})


def logging_steps(value: Any, given: Given) -> Made:
    value = without_point(value)
    if not whole(value):
        return not_honoured("Reports come every so many updates: training.report_every.")
    return Made({"training.report_every": value})


def eval_strategy(value: Any, given: Given) -> Made:
    if value == "no":
        return Made(fate="nothing to do")
    steps = without_point(given("eval_steps", given("logging_steps", 10)))
    if value != "steps" or not whole(steps):
        return not_honoured("Evaluations come every so many updates: training.evaluate_every.")
    return Made({"training.evaluate_every": steps}, "Win rates against the start of the run.")


def save_strategy(value: Any, given: Given) -> Made:
    if value == "no":
        return Made({"training.save_every": 0}, "The end is saved in any case.")
    if value == "steps":
        return Made(fate="nothing to do")
    return not_honoured("Checkpoints come every so many updates: training.save_every.")


def save_steps(value: Any, given: Given) -> Made:
    if given("save_strategy", "steps") != "steps":
        return Made({}, "Only save_strategy: steps reads it.", "ignored there")
    return Made({"training.save_every": without_point(value)})


def load_best(value: Any, given: Given) -> Made:
    if not switch(value):
        return Made(fate="nothing to do")
    if given("eval_strategy", "no") != "steps":
        return not_honoured("It goes by evaluations during the run: set training.evaluate_every.")
    return Made({"training.load_best": True}, "By win rate.")


def max_length(value: Any, given: Given) -> Made:
    """There prompt and completion together, cut on the left."""
    tokens = given("max_new_tokens", 64)
    room = max(1, value - tokens) if whole(value) and whole(tokens) else value
    note = "For the prompt, without the completion's tokens."
    return Made({"prompts.max_length": room, "prompts.too_long": "truncate_left"}, note)


def beta(value: Any, given: Given) -> Made:
    if not isinstance(value, list):
        return Made({"loss.beta": value})
    note = "The first of them: beta stays the same in all epochs here." if len(value) > 1 else ""
    return Made({"loss.beta": value[0]} if value else {}, note)


def loss(value: Any, given: Given) -> Made:
    if value == "ipo":
        return Made({"loss.use": "ipo", "loss.average": "sums"}, "Of sums, as TRL's Online DPO has it.")
    return Made({"loss.use": value})


def alpha(value: Any, given: Given) -> Made:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    note = "One completion is the reference's, as in TRL and the paper."
    return Made({"algorithm.use": "xpo_paper", "algorithm.alpha": value}, note)


def reward_model(value: Any, given: Given) -> Made:
    return Made({"judge.use": "reward", "judge.model": value})


def dtype(value: Any, given: Given) -> Made:
    if not one_of(value, DTYPES):
        return not_honoured(f"model.dtype takes {', '.join(DTYPES)}.")
    return Made({"model.dtype": value})


def model_init_kwargs(value: Any, given: Given) -> Made:
    if not value:
        return Made(fate="nothing to do")
    options = dict(value) if isinstance(value, dict) else {str(value): True}
    number = options.pop("dtype", options.pop("torch_dtype", None))
    made = dtype(number, given) if number is not None else Made(fate="nothing to do")
    left = f"Not honoured: {', '.join(options)}." if options else ""
    fate = made.fate if made.settings or not options else "not honoured"
    return Made(made.settings, " ".join(filter(None, (made.note, left))), fate)


def use_peft(value: Any, given: Given) -> Made:
    if switch(value):
        note = "On all layers, as with PEFT; PEFT takes fewer modules where none are named."
        return Made({"adapter.type": "lora", "adapter.layers": -1}, note)
    return Made({"adapter.type": "full", "adapter.layers": -1}, "Every weight is trained, as there.")


def of_peft(to: str) -> Make:
    """An option of adapters, which counts where they are used."""

    def make(value: Any, given: Given) -> Made:
        return Made({to: value}) if switch(given("use_peft")) else Made(fate="nothing to do")

    return make


def lora_alpha(value: Any, given: Given) -> Made:
    if not switch(given("use_peft")):
        return Made(fate="nothing to do")
    rank = given("lora_r", 16)
    factor = value / rank if isinstance(value, int | float) and whole(rank) else value
    return Made({"adapter.scale": factor}, f"alpha divided by the rank, {rank}.")


def target_modules(value: Any, given: Given) -> Made:
    if not switch(given("use_peft")) or value == "all-linear":
        return Made(fate="nothing to do")
    names = [value] if isinstance(value, str) else value
    mapped = [MODULES.get(str(name), name) for name in names] if isinstance(names, list) else names
    return Made({"adapter.keys": mapped})


def use_dora(value: Any, given: Given) -> Made:
    if not switch(value) or not switch(given("use_peft")):
        return Made(fate="nothing to do")
    return Made({"adapter.type": "dora"})


def quantize(bits: int) -> Make:
    def make(value: Any, given: Given) -> Made:
        if not switch(value):
            return Made(fate="nothing to do")
        return Made({"model.quantize": f"{bits}bit"}, "mlx's quantization, not bitsandbytes'.")

    return make
