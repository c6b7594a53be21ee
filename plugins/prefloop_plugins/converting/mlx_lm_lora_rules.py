"""What becomes of those keys of mlx-lm-lora that mean something else here, or depend on others."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from prefloop_plugins.converting.rules import Given, Made, Make, not_honoured, one_of, switch, whole

MODES = ("online_dpo", "xpo")
QUANTIZED = ("load_in_4bits", "load_in_6bits", "load_in_8bits", "load_in_mxfp4")
SCHEDULES = {
    "cosine_decay": ("decay_steps", "end"),
    "linear_schedule": ("end", "steps"),
    "exponential_decay": ("decay_rate",),
    "step_decay": ("decay_rate", "step_size"),
}
"""Schedules of mlx, and what their arguments after the learning rate are called."""
SLOT = re.compile(r"\{(?:prompt|response0|response1)\}")


def train_mode(value: Any, given: Given) -> Made:
    if not one_of(value, MODES):
        raise ValueError(
            f"prefloop does online preference optimisation, train_mode: {' or '.join(MODES)}, not {value!r}."
            + (" With pairs of your own, `algorithm: offline_dpo` is DPO." if value == "dpo" else "")
        )
    return Made({"algorithm.use": value})


def quantize(kind: str) -> Make:
    """The first of these keys that is on counts, as there."""

    def make(value: Any, given: Given) -> Made:
        if not switch(value):
            return Made(fate="nothing to do")
        first = next(key for key in QUANTIZED if switch(given(key)))
        if not first.endswith(kind.removesuffix("bit") + "bits") and first != f"load_in_{kind}":
            return not_honoured(f"{first} is on too, and counts in both tools.")
        return Made({"model.quantize": kind})

    return make


def layers(value: Any, given: Given) -> Made:
    if given("train_type") == "full":
        return Made({"adapter.layers": -1}, "mlx-lm-lora trains every weight with train_type: full.")
    return Made({"adapter.layers": value})


def reference(value: Any, given: Given) -> Made:
    if value in ("", given("model")):
        return Made({"reference": "base"}, "The model itself, without the adapters, in no further memory.")
    return Made({"reference": value})


def data(value: Any, given: Given) -> Made:
    """A folder holds train.jsonl and may hold valid.jsonl; anything else is a data set of the Hub."""
    if given("hf_dataset"):
        return not_honoured("hf_dataset is given too, and counts in both tools.")
    if not isinstance(value, str):
        return Made({"prompts.path": value})
    folder = Path(value).expanduser()
    if not (folder.is_dir() or value.startswith((".", "/", "~")) or value.endswith("/")):
        note = "Of the Hub, the split train; held-out prompts take the place of the split valid."
        return Made({"prompts.path": value}, note)
    made: dict[str, Any] = {"prompts.path": str(Path(value) / "train.jsonl")}
    if (folder / "valid.jsonl").is_file():
        made["evaluation.prompts"] = str(Path(value) / "valid.jsonl")
        return Made(made, "test.jsonl is not read.")
    return Made(made, "There is no valid.jsonl: up to a tenth of the prompts are held out for evaluations.")


def hf_dataset(value: Any, given: Given) -> Made:
    """A mapping, or a list of them, of which the first is taken."""
    first, *others = value if isinstance(value, list) and value else [value]
    if not isinstance(first, dict) or not isinstance(first.get("path"), str):
        raise ValueError("must be a mapping with a path, or a list of such mappings.")
    options = first.get("config") or {}
    if not isinstance(options, dict):
        raise ValueError(f"config must be a mapping, not {options!r}.")
    options = dict(options)
    made, left = _split(str(first.get("train_split", "train[:80%]")))
    made |= {"prompts.path": first["path"]}
    made |= {"prompts.name": options.pop("name")} if "name" in options else {}
    made |= {"prompts.column": first["prompt_feature"]} if "prompt_feature" in first else {}
    left += sorted(first.keys() - {"path", "config", "train_split", "prompt_feature", "train_mode"})
    left += [f"config.{key}" for key in options]
    left += [f"{len(others)} more data sets, which one file can hold"] if others else []
    note = f"Not honoured: {', '.join(left)}." if left else ""
    if first.get("train_mode") != given("train_mode"):
        note += " mlx-lm-lora takes such rows for those of sft, unless train_mode stands here as well."
    return Made(made, note.strip())


def _split(text: str) -> tuple[dict[str, Any], list[str]]:
    """The split, the first so many rows of it, and a slice of another kind, which is not honoured."""
    name, _, part = text.partition("[")
    made: dict[str, Any] = {"prompts.split": name}
    if count := re.fullmatch(r":(\d+)\]", part):
        return made | {"prompts.limit": int(count[1])}, []
    return made, [f"the slice [{part} of the split"] if part else []


def judge(value: Any, given: Given) -> Made:
    if value == "human":
        note = "A person at the terminal. mlx-lm-lora 5.10.2 looks for a model of that name and fails."
        return Made({"judge.use": "human"}, note)
    note = "Its probability is read, where mlx-lm-lora takes an unreadable reply for the second answer."
    return Made({"judge.use": "llm", "judge.model": value}, note)


def judge_system(value: Any, given: Given) -> Made:
    if value == "":
        return Made(fate="nothing to do")
    if given("judge") == "human":
        return not_honoured("A person is asked without a rubric.")
    if "judge_config.system_prompt" in given:
        return not_honoured("judge_config.system_prompt is given too, and counts.")
    return Made({"judge.system": value}, "It is the rubric here, given word for word.")


def judge_template(value: Any, given: Given) -> Made:
    """There it is the whole question, with places for the prompt and the answers; here only its rubric."""
    if given("judge") == "human":
        return not_honoured("A person is asked without a rubric.")
    if not isinstance(value, str):
        return Made({"judge.system": value})
    kept = [line for line in value.splitlines() if not SLOT.search(line)]
    rubric = "\n".join(kept).replace("{{", "{").replace("}}", "}").strip()
    labels = {"judge.labels": ["0", "1"]} if re.search(r"\b[01]\b", value) else {}
    if not SLOT.search(value):
        note = "It is the rubric here. There the judge sees no answers, as it has no {response0}."
        return Made({"judge.system": rubric, **labels}, note)
    return Made(({"judge.system": rubric} if rubric else {}) | labels)


def loss(value: Any, given: Given) -> Made:
    made: dict[str, Any] = {"loss.use": value}
    if value == "dpop":
        return Made(made | {"loss.penalty": "outside"}, "The penalty stands outside the sigmoid, as there.")
    if value == "ipo":
        return Made(
            made | {"loss.average": "tokens"}, "Means over the completion, there over the prompt too."
        )
    return Made(made)


def delta(value: Any, given: Given) -> Made:
    if given("dpo_cpo_loss_type") != "dpop":
        return Made({}, "Only the loss dpop has it.", "ignored there")
    return Made({"loss.delta": value})


def alpha(value: Any, given: Given) -> Made:
    if given("train_mode") != "xpo":
        return Made({}, "Only train_mode: xpo has it.", "ignored there")
    if isinstance(value, str):
        value = _numbers(value)
    if not isinstance(value, list) or len(value) == 1:
        return Made({"algorithm.alpha": value[0] if isinstance(value, list) else value})
    note = (
        ""
        if given("iters") is None and given("epochs") == len(value)
        else (f"One weight an epoch, the last held; mlx-lm-lora cuts the run into {len(value)} equal parts.")
    )
    return Made({"algorithm.alpha": value}, note)


def _numbers(text: str) -> list[float]:
    """``1e-4, 1e-5`` as MLX LoRA Studio writes it."""
    try:
        return [float(part) for part in text.strip("[] ").split(",")]
    except ValueError:
        raise ValueError(f"must be a number, or several with commas between them, not {text!r}.") from None


def temperature(value: Any, given: Given) -> Made:
    instead = "mlx-lm-lora's XPO does not read it: it samples at 0.8." if given("train_mode") == "xpo" else ""
    return Made({"sampler.temperature": value}, ran_with=instead if value != 0.8 else "")


def _accumulated(value: Any, given: Given) -> Any:
    """Batches as updates."""
    batches = given("gradient_accumulation_steps", 1)
    return math.ceil(value / batches) if whole(value) and whole(batches) else value


def iters(value: Any, given: Given) -> Made:
    updates = _accumulated(value, given)
    batches = given("gradient_accumulation_steps", 1)
    note = f"Updates; of {batches} batches each, as many prompts as there." if updates != value else ""
    return Made({"training.iters": updates}, note)


def steps(to: str) -> Make:
    """So many batches, as updates."""

    def make(value: Any, given: Given) -> Made:
        return Made({to: _accumulated(value, given)})

    return make


def steps_per_eval(value: Any, given: Given) -> Made:
    if given("val_batches") == 0:
        return Made({}, "With val_batches: 0 nothing is evaluated.", "ignored there")
    note = "Evaluations here are win rates against the start of the run, there a loss."
    return Made({"training.evaluate_every": _accumulated(value, given)}, note)


def epochs(value: Any, given: Given) -> Made:
    if "iters" in given:
        return Made({}, "iters is given too, and counts in both tools.", "ignored there")
    note = "A pass over the prompts; there as many batches, drawn with replacement."
    return Made({"training.epochs": value}, note)


def learning_rate(value: Any, given: Given) -> Made:
    if given("lr_schedule"):
        return Made({}, "The first argument of lr_schedule counts in both tools.", "ignored there")
    return Made({"training.learning_rate": value})


def lr_schedule(value: Any, given: Given) -> Made:
    """mlx-lm's form: a name, the arguments in their order, and a warm-up."""
    if not value:
        return Made(fate="nothing to do")
    if not isinstance(value, dict) or not isinstance(value.get("arguments"), list) or not value["arguments"]:
        raise ValueError("must have a name and arguments, of which the first is the learning rate.")
    unknown = sorted(value.keys() - {"name", "arguments", "warmup", "warmup_init"})
    if unknown:
        raise ValueError(f"has no key '{unknown[0]}'; it takes name, arguments, warmup and warmup_init.")
    name, (rate, *arguments) = value.get("name"), value["arguments"]
    if not one_of(name, SCHEDULES):
        raise ValueError(f"there is no schedule {name!r}; mlx has {', '.join(SCHEDULES)}.")
    if len(arguments) > len(SCHEDULES[name]):
        raise ValueError(f"{name} takes {len(SCHEDULES[name])} arguments after the learning rate.")
    made = {"training.learning_rate": rate, "training.schedule.use": name}
    for key in ("warmup", "warmup_init"):
        if value.get(key):
            made[f"training.schedule.{key}"] = value[key]
    for key, argument in zip(SCHEDULES[name], arguments, strict=False):
        if (number := _length(argument, given)) is not None:
            made[f"training.schedule.{key}"] = number
    return Made(made, "Its steps are updates in both tools.")


def _length(argument: Any, given: Given) -> Any:
    """MLX LoRA Studio writes a share of the iterations; without their number it is the whole run."""
    if not isinstance(argument, dict):
        return argument
    share, total = argument.get("iters_fraction"), given("iters")
    return max(1, int(total * share)) if whole(total) and isinstance(share, int | float) else None


def optimizer(value: Any, given: Given) -> Made:
    return Made({"training.optimizer.use": value.lower() if isinstance(value, str) else value})


def optimizer_config(value: Any, given: Given) -> Made:
    """A mapping for each optimizer, of which that of the one in use counts."""
    if not isinstance(value, dict) or not all(isinstance(part or {}, dict) for part in value.values()):
        raise ValueError("must have a mapping of options under the name of an optimizer.")
    chosen = str(given("optimizer", "adam")).lower()
    options = value.get(chosen) or {}
    others = [key for key in value if key != chosen and value[key]]
    note = f"Only the part of the optimizer in use counts, not {', '.join(others)}." if others else ""
    if not options:
        return Made({}, note, "ignored there" if others else "nothing to do")
    return Made({f"training.optimizer.{key}": option for key, option in options.items()}, note)


def val_batches(value: Any, given: Given) -> Made:
    folder = Path(str(given("data", "data/"))).expanduser()
    if value == 0:
        return Made({"evaluation.held_out": 0}, "There is no evaluation.")
    if (folder / "valid.jsonl").is_file() and not given("hf_dataset"):
        return not_honoured("Every prompt of valid.jsonl is evaluated; shorten the file for fewer.")
    batch = given("batch_size", 1)
    if not whole(value) or not whole(batch):
        return not_honoured("Up to 64 prompts are held out, at most a tenth of them (evaluation.held_out).")
    return Made({"evaluation.held_out": value * batch}, "Prompts, at most a tenth of those in the file.")


def adapter_path(value: Any, given: Given) -> Made:
    folder = Path(str(value)).expanduser()
    if "<" in str(value):
        return not_honoured("It is a placeholder; the run goes to a new folder in runs/.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return not_honoured("It holds files already; the run goes to a new folder in runs/.")
    return Made({"output.path": value}, "A run's folder, with the adapters in it.")


def train(value: Any, given: Given) -> Made:
    if switch(value) is False:
        return not_honoured("`prefloop train` trains; `prefloop eval RUN` compares a run with another model.")
    return Made(fate="nothing to do")
