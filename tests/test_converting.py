"""What the keys of other tools become: compared with those tools' own code, where it can be had."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.tuner.utils import build_schedule

from prefloop import load_config
from prefloop.config import Config
from prefloop.config.load import parse_override
from prefloop.config.options import options_of
from prefloop.config.yaml_nodes import Place, from_plain, read_text
from prefloop.errors import UserError
from prefloop.optim import make_schedule
from prefloop_plugins.converting.convert import DIALECTS, OURS, Conversion, convert, dialect_of
from prefloop_plugins.converting.mlx_lm_lora import IGNORED_IN_A_FILE, RULES
from prefloop_plugins.converting.rules import UNSET, Given
from prefloop_plugins.converting.trl import TRL
from support.foreign_configs import run_spec, trl_json

FLAT = {"train_mode": "online_dpo", "model": "m", "data": "an/id", "judge": "j/j"}


def conversion(settings: dict[str, Any], overrides: tuple[str, ...] = ()) -> Conversion:
    root = from_plain(settings, Place("old.yaml", 1))
    dialect = dialect_of(root)
    assert dialect is not None
    return convert(root, dialect, [parse_override(text) for text in overrides])


def converted(**settings: Any) -> Config:
    return load_config(conversion(FLAT | settings).root)


def entry(key: str, **settings: Any) -> Any:
    return next(e for e in conversion(FLAT | settings).account if e.key == key)


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "cosine_decay", "arguments": [3e-5, 20, 1e-6]},
        {"name": "linear_schedule", "arguments": [3e-5, 0.0, 20]},
        {"name": "exponential_decay", "arguments": [3e-5, 0.9]},
        {"name": "step_decay", "arguments": [3e-5, 0.5, 4]},
        {"name": "cosine_decay", "arguments": [3e-5, 20], "warmup": 5, "warmup_init": 1e-7},
    ],
    ids=str,
)
def test_a_schedule_gives_the_learning_rates_of_mlx_lm(schedule: dict[str, Any]) -> None:
    training = converted(iters=40, lr_schedule=schedule, learning_rate=1.0).training
    assert training.schedule is not None
    ours, theirs = make_schedule(training.schedule, training.learning_rate, 40), build_schedule(schedule)
    warmup = schedule.get("warmup", 0)
    for step in range(40):
        later = step + 1 if warmup and step > warmup else step  # mlx-lm stays at the top for a step more
        assert float(ours(mx.array(step))) == pytest.approx(float(theirs(mx.array(later))), rel=1e-5)


def test_studios_share_of_the_iterations_is_a_number_of_updates() -> None:
    schedule = {"name": "cosine_decay", "warmup": 0, "arguments": [2e-5, {"iters_fraction": 0.8}, 2e-6]}
    made = converted(iters=50, lr_schedule=schedule).training.schedule
    assert made is not None and made.options == {"decay_steps": 40, "end": 2e-6}
    made = converted(epochs=2, lr_schedule=schedule).training.schedule
    assert made is not None and made.options == {"end": 2e-6}  # its length is what remains, as always here


@pytest.mark.parametrize("iters", [1, 7, 8, 600])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_as_many_prompts_are_sampled_and_as_many_updates_made(iters: int, accumulated: int) -> None:
    updates = sum(it % accumulated == 0 or it == iters for it in range(1, iters + 1))  # as its loop has it
    settings = {"iters": iters, "gradient_accumulation_steps": accumulated, "batch_size": 3}
    training = converted(**settings, save_every=10, steps_per_report=10).training
    assert (training.iters, training.batch_size, training.gradient_accumulation) == (updates, 3, accumulated)
    assert training.report_every == training.save_every == math.ceil(10 / accumulated)


def theirs(loss: str, beta: float, delta: float, scores: dict[str, Any]) -> Any:
    """The losses of mlx-lm-lora in float64, as its trainers have them."""
    log_ratio = {
        side: scores[f"policy_{side}"] - scores[f"reference_{side}"] for side in ("chosen", "rejected")
    }
    if loss == "ipo":
        log_ratio = {side: log_ratio[side] / scores[f"{side}_tokens"] for side in log_ratio}
    margin = log_ratio["chosen"] - log_ratio["rejected"]
    nll = np.logaddexp(0.0, -beta * margin)
    if loss == "dpop":
        return nll + delta * np.maximum(0.0, -log_ratio["chosen"])
    return {"sigmoid": nll, "hinge": np.maximum(0.0, 1 - beta * margin), "ipo": (margin - 0.5 / beta) ** 2}[
        loss
    ]


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo", "dpop"])
def test_a_loss_is_that_of_mlx_lm_lora(loss: str) -> None:
    made = converted(dpo_cpo_loss_type=loss, beta=0.3, delta=2.0).loss
    rng = np.random.default_rng(0)
    sides = [f"{model}_{side}" for model in ("policy", "reference") for side in ("chosen", "rejected")]
    scores: dict[str, Any] = {name: -rng.uniform(1, 9, 6) for name in sides}
    scores |= {f"{side}_tokens": rng.integers(1, 9, 6).astype(float) for side in ("chosen", "rejected")}
    scores["margin"] = (scores["policy_chosen"] - scores["reference_chosen"]) - (
        scores["policy_rejected"] - scores["reference_rejected"]
    )
    namespace = type("Scores", (), {name: mx.array(value) for name, value in scores.items()})
    namespace.probability = mx.ones(6)  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.array(made(namespace())), theirs(loss, 0.3, 2.0, scores), rtol=1e-4)  # type: ignore[arg-type]


def test_what_the_file_leaves_out_is_as_there_and_not_as_here() -> None:
    """The defaults of `CONFIG_DEFAULTS` and of the command line, and what the trainers do without a key."""
    config = converted()
    assert (config.training.batch_size, config.training.iters, config.training.evaluate_every) == (
        1,
        100,
        200,
    )
    assert (config.adapter.rank, config.adapter.scale, config.adapter.layers) == (8, 10.0, -1)
    assert (config.training.optimizer.use, config.training.learning_rate) == ("adam", 1e-5)
    assert config.training.max_grad_norm is None
    sampling: Any = config.sampler
    assert (sampling.temperature, sampling.top_p, sampling.max_completion_length) == (1.0, 1.0, 512)
    judge: Any = config.judge
    assert judge.orders == "random"
    bonus: Any = converted(train_mode="xpo").bonuses[0]
    assert (bonus.alpha, bonus.estimator) == (1e-5, "sampled")
    assert converted(train_mode="xpo").sampler.temperature == 0.8  # type: ignore[attr-defined]


def at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_defaults_that_are_written_out_are_none_of_ours(dialect: Any) -> None:
    """Otherwise the account would say that prefloop does otherwise."""
    ours = load_config({"model": "m", "prompts": "p", "judge": "human"})
    for key, rule in dialect.rules.items():
        if rule.default is UNSET:
            continue
        made = rule(rule.default, Given({})).settings
        assert any(at(ours, path) != value for path, value in made.items()), key


def test_a_judges_template_becomes_a_rubric_and_keeps_what_it_calls_the_answers() -> None:
    template = (
        'Q: {prompt}\n{{"0": "{response0}"}}\n{{"1": "{response1}"}}\nPrefer {{short}} ones. Say 0 or 1.'
    )
    judge: Any = converted(judge_config={"system_prompt": template}).judge
    assert judge.system == "Prefer {short} ones. Say 0 or 1."
    assert judge.labels == ("0", "1")
    judge = converted(judge_config={"system_prompt": "Prefer short ones."}).judge
    assert (judge.system, judge.labels) == ("Prefer short ones.", ("A", "B"))
    found = entry("judge_config.system_prompt", judge_config={"system_prompt": "Prefer short ones."})
    assert "the judge sees no answers" in found.note


def test_two_rubrics_are_not_both_taken() -> None:
    both = {"judge_system": "Mine.", "judge_config": {"system_prompt": "Prefer short ones."}}
    assert converted(**both).judge.system == "Prefer short ones."  # type: ignore[attr-defined]
    assert entry("judge_system", **both).fate == "not honoured"
    assert entry("judge_system", judge_system="Mine.", judge="human").fate == "not honoured"


def test_a_person_judges_where_mlx_lm_lora_looks_for_a_model_called_human() -> None:
    assert type(converted(judge="human").judge).__name__ == "HumanJudge"
    assert "fails" in entry("judge", judge="human").note


def test_the_first_quantization_that_is_on_counts() -> None:
    assert converted(load_in_4bits=False).model.quantize == "none"
    assert converted(load_in_8bits="yes").model.quantize == "8bit"  # as YAML 1.1 reads it
    assert converted(load_in_mxfp4=True).model.quantize == "mxfp4"
    both = {"load_in_8bits": True, "load_in_6bits": True}
    assert converted(**both).model.quantize == "6bit"
    assert entry("load_in_8bits", **both).fate == "not honoured"


def test_full_training_is_of_every_weight_whatever_the_layers() -> None:
    adapter = converted(train_type="full", num_layers=4).adapter
    assert (adapter.type, adapter.layers) == ("full", -1)


def test_a_reference_that_is_the_model_takes_no_further_memory() -> None:
    assert converted(reference_model_path="m").reference == "base"
    assert converted(reference_model_path="other/one").reference == "other/one"


def test_data_of_a_folder_and_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    config = converted(data=str(tmp_path), val_batches=5)
    assert (config.prompts.path, config.evaluation.prompts) == (str(tmp_path / "train.jsonl"), None)
    assert config.evaluation.held_out == 5
    (tmp_path / "valid.jsonl").write_text("{}\n")
    config = converted(data=str(tmp_path), val_batches=5)
    assert config.evaluation.prompts == str(tmp_path / "valid.jsonl")
    assert entry("val_batches", data=str(tmp_path), val_batches=5).fate == "not honoured"
    assert converted(val_batches=0).evaluation.held_out == 0
    assert converted().prompts.path == "an/id"


def test_a_data_set_of_the_hub_with_options() -> None:
    dataset = {
        "path": "an/id",
        "config": {"name": "main", "revision": "v2"},
        "prompt_feature": "question",
        "valid_split": "train[-5%:]",
    }
    prompts = converted(hf_dataset=[dataset, {"path": "another/id"}]).prompts
    assert (prompts.path, prompts.name, prompts.column) == ("an/id", "main", "question")
    assert (prompts.split, prompts.limit) == ("train", None)
    note = entry("hf_dataset", hf_dataset=[dataset, {"path": "another/id"}]).note
    assert (
        "Not honoured: the slice [:80%] of the split, valid_split, config.revision, 1 more data sets" in note
    )
    assert "those of sft" in note
    whole = {"path": "an/id", "train_split": "test[:500]", "train_mode": "online_dpo"}
    prompts = converted(hf_dataset=whole).prompts
    assert (prompts.split, prompts.limit) == ("test", 500)


def test_weights_of_the_bonus() -> None:
    def alpha(value: Any, **settings: Any) -> Any:
        bonus: Any = converted(train_mode="xpo", alpha=value, **settings).bonuses[0]
        return bonus.alpha

    assert alpha(1e-4) == alpha([1e-4]) == alpha("1e-4") == 1e-4
    assert alpha("1e-4, 1e-5") == (1e-4, 1e-5)
    parts = "mlx-lm-lora cuts the run into 2 equal parts"
    assert parts in entry("alpha", train_mode="xpo", alpha=[1e-4, 1e-5], iters=10).note
    assert parts not in entry("alpha", train_mode="xpo", alpha=[1e-4, 1e-5], epochs=2).note
    with pytest.raises(UserError, match=r"old\.yaml:1: alpha: must be a number, or several with commas"):
        converted(train_mode="xpo", alpha="high")


def test_an_output_folder_with_files_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    assert converted(adapter_path=str(folder)).output.path == str(folder)
    folder.mkdir()
    (folder / "adapters.safetensors").touch()
    assert converted(adapter_path=str(folder)).output.path is None
    assert entry("adapter_path", adapter_path=str(folder)).fate == "not honoured"


def test_the_parts_of_the_other_optimizers_do_not_count() -> None:
    options = {"adam": {"betas": [0.8, 0.9]}, "adamw": {"weight_decay": 0.5}}
    made = converted(optimizer="AdamW", optimizer_config=options).training.optimizer
    assert (made.use, dict(made.options)) == ("adamw", {"weight_decay": 0.5})
    assert "not adam" in entry("optimizer_config", optimizer="AdamW", optimizer_config=options).note


def test_trl_leaves_room_for_the_completion_and_the_optimizer_of_pytorch() -> None:
    given = [parse_override(text) for text in ("model.path=m", "prompts.path=p", "judge=human")]
    root, _ = read_text(trl_json(max_length=300, max_new_tokens=100, warmup_steps=1), Place("c.json", 1))
    config = load_config(convert(root, TRL, given).root, given)
    assert (config.prompts.max_length, config.prompts.too_long) == (200, "truncate_left")
    assert config.training.optimizer.options["bias_correction"] is True
    assert config.training.schedule is not None and config.training.schedule.warmup == 1
    ipo, _ = read_text(trl_json(loss_type="ipo", beta=[0.2, 0.1], alpha=[1e-5, 1e-6]), Place("c.json", 1))
    config = load_config(convert(ipo, TRL, given).root, given)
    loss: Any = config.loss
    bonus: Any = config.bonuses[0]
    assert (loss.average, loss.beta, type(bonus).__name__, bonus.alpha) == (
        "sums",
        0.2,
        "Optimism",
        (1e-5, 1e-6),
    )


def test_what_the_command_line_replaces_is_said() -> None:
    made = conversion(FLAT | {"max_seq_length": 99, "system_feature": "s"}, ("prompts=p", "judge=human"))
    found = {e.key: e for e in made.account}
    assert found["max_seq_length"].note == "Longer prompts are dropped. --set prompts takes its place."
    assert found["judge's order"].note.endswith("--set judge takes its place.")


def test_a_section_that_is_empty_or_no_section() -> None:
    assert entry("judge_config", judge_config={}).fate == "nothing to do"
    assert entry("lora_parameters", lora_parameters=None).fate == "nothing to do"
    with pytest.raises(UserError, match=r"old\.yaml:1: judge_config: must be a mapping\."):
        converted(judge_config="strict")


ODD = [None, False, "", "x", 2.5, math.inf, [], ["a", None], {}, [{}], {"name": ["a"], "arguments": ["x"]}]
LEAST = {
    "mlx-lm-lora": FLAT | {"train_mode": "xpo"},
    "mlx-lora-studio": {"train_mode": "xpo", "model": "m", "dataset": "an/id", "judge": "j/j"},
    "trl": {
        "num_train_epochs": 1,
        "model_name_or_path": "m",
        "dataset_name": "an/id",
        "reward_model_path": "r",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_value_is_more_than_a_table_can_take(dialect: Any) -> None:
    """Whatever stands there, it is converted, or refused in a sentence that names the key."""
    for key in dialect.rules:
        section, dot, name = key.partition(".")
        for value in ODD:
            settings = LEAST[dialect.name] | {section: {name: value} if dot else value}
            try:
                made = convert(from_plain(settings, Place("old.yaml", 1)), dialect)
                assert any(e.key == key for e in made.account) or value in ({}, [])
            except UserError as error:
                assert str(error).startswith("old.yaml:"), (key, value)


def test_no_table_claims_a_key_that_only_prefloop_has() -> None:
    """By these keys a file with both is recognised."""
    assert {"prompts", "training", "sampler", "loss", "evaluation", "algorithm"} <= OURS
    for dialect in DIALECTS:
        assert not dialect.marks & options_of(Config).keys()


def test_twenty_four_keys_do_nothing_in_a_file() -> None:
    assert len(IGNORED_IN_A_FILE) == 24
    assert conversion(json.loads(run_spec())).account  # and in a run of MLX LoRA Studio they do something
    assert not any(
        e.ran_with for e in conversion(json.loads(run_spec())).account if e.key in IGNORED_IN_A_FILE
    )


def source_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent


@pytest.mark.slow
def test_the_table_has_every_key_of_mlx_lm_lora_and_knows_which_do_nothing_in_a_file() -> None:
    """Needs ``pip install --no-deps mlx-lm-lora==5.10.2``; its source is read, not run."""
    import argparse

    tree = ast.parse((source_of("mlx_lm_lora") / "train.py").read_text("utf-8"))
    parser = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build_parser")
    names: dict[str, Any] = {"argparse": argparse}
    exec(compile(ast.Module([parser], []), "train.py", "exec"), names)
    options = vars(names["build_parser"]().parse_args([]))
    del options["list_reward_functions"]  # prints a list and ends
    filled = {key: value for key, value in options.items() if value is not None}
    assert {key: RULES[key].ran_with for key in IGNORED_IN_A_FILE} == filled
    (defaults,) = (
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "CONFIG_DEFAULTS"
    )
    known = {key.partition(".")[0] for key in RULES}
    assert {*options, *defaults} <= known


@pytest.mark.slow
def test_the_table_has_every_field_of_trl() -> None:
    """Needs TRL, as in an environment of ``python -m benchmarks.others``."""
    source_of("trl")
    from trl.experimental.online_dpo import OnlineDPOConfig

    assert {field.name for field in dataclasses.fields(OnlineDPOConfig)} <= TRL.rules.keys()


def test_the_table_has_every_field_that_trl_wrote() -> None:
    assert json.loads(trl_json()).keys() <= TRL.rules.keys()
