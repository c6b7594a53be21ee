"""Reading: defaults, short forms, strictness, and every problem in one go."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefloop.config import (
    AdapterConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    PromptsConfig,
    ScheduleConfig,
    TrainingConfig,
    dump_config,
    load_config,
)
from prefloop.errors import UserError
from prefloop.optim import optimizer_classes
from prefloop.registry import Origin
from support.fake_plugins import Committee, Draws, Kl, Llm, NearLength, Plain, Sigmoid, Tracker

if TYPE_CHECKING:
    from prefloop.registry import Registry
    from support.config_files import Files


START = "model: m\nprompts: p.jsonl\n"
NONE = "null (nothing)"


def load(registry: Registry, **settings: Any) -> Config:
    return load_config({"model": "m", "prompts": "p.jsonl", **settings}, registry=registry)


def test_defaults_of_every_section(registry: Registry) -> None:
    config = load(registry)
    assert config.model == ModelConfig("m", "none", "auto", False)
    assert config.adapter == AdapterConfig("lora", 8, 20.0, 0.0, 16, None, None)
    assert config.prompts == PromptsConfig("p.jsonl", None, "train", None, None, False, 2048, "drop", None)
    assert config.training == TrainingConfig(
        4, 1, 1, None, None, 1e-5, OptimizerConfig("adamw"), None, 1.0, False, 0, 10, 0, 100
    )
    assert (config.reference, config.bonuses, config.observers) == ("base", (), ())
    assert (config.sampler, config.judge, config.loss) == (Draws(), Llm(), Sigmoid())
    assert config.evaluation.held_out == 64
    assert config.origins[Llm] == Origin("prefloop:llm", "1.2")
    assert "origins" not in dump_config(config)


def test_names_stand_for_components_with_default_options(registry: Registry) -> None:
    config = load(
        registry,
        judge="human",
        loss="sigmoid",
        bonuses=[{"use": "kl", "alpha": [1e-4, 1e-5]}],
        observers="acme:tracker",
        output="runs/x",
    )
    assert config.judge == Plain()
    assert config.bonuses == (Kl([1e-4, 1e-5]),)
    assert config.observers == (Tracker(),)
    assert config.output.path == "runs/x"
    assert load(registry, bonuses="kl").bonuses == (Kl(),)
    assert load(registry, bonuses={"use": "kl", "alpha": 1}).bonuses == (Kl(1.0),)


@pytest.mark.parametrize("text", ["Qwen/Qwen3-0.6B", "./my-judge", "embedded:judge"])
def test_a_judge_that_is_no_component_name_is_taken_as_a_model(registry: Registry, text: str) -> None:
    assert load(registry, judge=text).judge == Llm(text)
    assert load(registry, evaluation={"judge": text}).evaluation.judge == Llm(text)
    committee = load(registry, judge={"use": "committee", "members": [text, "human"]}).judge
    assert committee == Committee((Llm(text), Plain()))


def test_a_component_name_wins_over_a_folder_of_that_name(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "human").mkdir()
    assert load(registry, judge="mine").judge == Llm("mine")
    assert load(registry, judge="human").judge == Plain()


def test_qualified_names_and_clashes(registry: Registry) -> None:
    assert load(registry, judge="rival:near-length").judge == NearLength()
    with pytest.raises(UserError) as caught:
        load(registry, judge="near-length")
    assert caught.value.problems == (
        (
            "configuration: judge: judge 'near-length' is offered by several plugins: "
            "write 'acme:near-length' or 'rival:near-length'."
        ),
    )


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_reference_means_the_base_model(registry: Registry, empty: str | None) -> None:
    assert load(registry, reference=empty).reference == "base"


def test_numbers_in_the_file(files: Files) -> None:
    text = START + "training: {learning_rate: 1e-4, epochs: 2}\nbonuses: {use: kl, alpha: [1e-4, 1]}\n"
    config = load_config(files.write(text))
    assert (config.training.learning_rate, config.training.epochs) == (1e-4, 2.0)
    assert type(config.training.epochs) is float
    assert config.bonuses == (Kl([1e-4, 1.0]),)


def test_all_problems_of_a_file_at_once(files: Files) -> None:
    text = """\
model: {path: m, quantize: 5bit}
prompts: {split: test}
beta: 0.2
judge: {use: llm, sytem: x, orders: 7}
training:
  batch_size: 0
  iters: 1e3
  learning_rate: "1e-5"
  batch_size: 3
  seed: true
loss: {use: sigmoid, beta: -1, penalty: between}
"""
    assert files.problems(text, "sampler.temperature=warm") == [
        (
            "c.yaml:1: model.quantize: must be one of none, 4bit, 6bit, 8bit, mxfp4, not the text '5bit'. "
            "Did you mean '8bit'?"
        ),
        (
            "c.yaml:2: prompts.path: is missing. Hub id, folder, or JSONL, JSON, CSV or Parquet file of the "
            "prompts."
        ),
        "c.yaml:3: beta: there is no such option. Did you mean 'loss.beta'?",
        "c.yaml:4: judge.sytem: there is no such option. Did you mean 'system'?",
        "c.yaml:4: judge.orders: must be one of both, first, not the number 7.",
        "c.yaml:6: training.batch_size: must be >= 1, not 0.",
        "c.yaml:7: training.iters: must be a whole number, not the number 1e3. Write 1000.",
        "c.yaml:8: training.learning_rate: must be a number, not the text '1e-5'. Write it without quotes.",
        "c.yaml:9: training.batch_size: this key is given twice, first in line 6.",
        "c.yaml:10: training.seed: must be a whole number, not true.",
        "c.yaml:11: loss.beta: must be > 0, not -1.0.",
        "c.yaml:11: loss.penalty: must be in ('inside', 'outside') (got 'between').",
        "--set sampler.temperature=warm: must be a number, not the text 'warm'.",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jugde: human", "jugde: there is no such option. Did you mean 'judge'?"),
        ("lr: 3", ("lr: there is no such option. Known: adapter, algorithm, bonuses, evaluation, judge, "
         "judging, loss, model, observers, output, plugins, prompts, reference, sampler, training.")),
        ("path: x", ("path: there is no such option. "
         "Did you mean 'model.path', 'prompts.path' or 'output.path'?")),
        ("registry: x", ("registry: there is no such option. Known: adapter, algorithm, bonuses, evaluation, "
         "judge, judging, loss, model, observers, output, plugins, prompts, reference, sampler, training.")),
        ("judge: {use: human, tone: 1}", "judge.tone: there is no such option. There are none here."),
        ("judge: {use: llm, cache: {}}", ("judge.cache: there is no such option. "
         "Known: model, orders, system.")),
        ("judge: {use: llm, calls: 2}", ("judge.calls: there is no such option. "
         "Known: model, orders, system.")),
        ("judge: {model: m, beta: 1}", "judge.beta: there is no such option. Did you mean 'loss.beta'?"),
        ("judge: {use: llm, model: 3}", ("judge.model: must be text, not the number 3. "
         "Put it in quotes: '3'.")),
        ("judge: {use: llm, system: 1.10}", ("judge.system: must be text, not the number 1.10. "
         "Put it in quotes: '1.10'.")),
        ("judge: 3", "judge: must be a judge: a name, or a mapping with 'use', not the number 3."),
        ("judge: {use: [llm]}", "judge.use: must be the name of a judge, not a list."),
        ("judge: hunan", ("judge: there is no judge 'hunan'. Did you mean 'human'? "
         "Set aside as broken: shaky (ImportError: no module named 'shaky').")),
        ("judge: {use: committee}", "judge.members: is missing. The judges."),
        ("judge: {use: committee, members: [llm, {use: llm, order: first}]}",
         "judge.members.1.order: there is no such option. Did you mean 'orders'?"),
        ("judge: {use: committee, members: human, weights: {a: 1, b: x}}",
         "judge.weights.b: must be a number, not the text 'x'."),
        ("judge: {use: acme:angry, level: 10}", "judge: the level is over nine."),
        ("judge: {use: 'acme:near-length', tolerance: -1}", "judge.tolerance: must be >= 0, not -1."),
        ("bonuses:", f"bonuses: must be a list of bonuses, not {NONE}. Write [] for none."),
        ("bonuses: 3", "bonuses: must be a list of bonuses, not the number 3."),
        ("bonuses: [kl, {use: kl, alpha: [1, x]}]",
         "bonuses.1.alpha.1: must be a number, not the text 'x'."),
        ("bonuses: [{use: kl, alpha: x}]", ("bonuses.0.alpha: must be a number or a list of numbers, "
         "not the text 'x'.")),
        ("training:", f"training: must be a mapping, not {NONE}. Leave the key out to keep its defaults."),
        ("training: {thinking: yes}", ("training.thinking: there is no such option. "
         "Did you mean 'prompts.thinking'?")),
        ("training: {gradient_checkpointing: yes}", ("training.gradient_checkpointing: "
         "must be true or false, not the text 'yes'. Write true or false.")),
        ("training: {batch_size: '4'}", ("training.batch_size: must be a whole number, not the text '4'. "
         "Write it without quotes.")),
        ("training: {batch_size: 1_000}", ("training.batch_size: must be a whole number, "
         "not the text '1_000'. "
         "Write 1000.")),
        ("training: {learning_rate: .inf}", "training.learning_rate: must be a finite number, not .inf."),
        ("training: {learning_rate: .nan}", "training.learning_rate: must be a finite number, not .nan."),
        ("training: {learning_rate: 1e39}",
         "training.learning_rate: must be at most 3.4e+38, as float32 holds it, not 1e39."),
        ("bonuses: [{use: kl, alpha: .nan}]", "bonuses.0.alpha: must be a finite number, not .nan."),
        ("training: {epochs: 1e30}", "training.epochs: must be <= 1000000000.0, not 1e+30."),
        ("training: {learning_rate: true}", "training.learning_rate: must be a number, not true."),
        ("training: {iters: 10, epochs: 1}",
         "training: iters and epochs exclude each other: give one of them."),
        ("training: {optimizer: muom}", ("training.optimizer: there is no optimizer 'muom'. "
         "Did you mean 'muon'?")),
        ("training: {optimizer: {use: adamw, learning_rate: 1}}", ("training.optimizer.learning_rate: "
         "there is no such option. Did you mean 'training.learning_rate'?")),
        ("training: {optimizer: {use: adamw, betas: [0.9]}}",
         "training.optimizer.betas: must be a list of 2 numbers, not a list of 1."),
        ("training: {optimizer: {use: adadelta, rho: -1}}",
         "training.optimizer: AdaDelta rho should be >=0, -1.0 was provided instead."),
        ("training: {schedule: {warmup: 3}}", ("training.schedule.use: is missing. Schedule of "
         "mlx.optimizers, or constant; it starts from training.learning_rate.")),
        ("training: {schedule: linear_schedule}",
         "training.schedule.end: is missing. It takes a number."),
        ("training: {schedule: {use: cosine_decay, decay_steps: 0}}",
         "training.schedule: decay_steps must be at least 1, not 0."),
        ("training: {iters: 5, schedule: {use: cosine_decay, warmup: 5}}",
         "training.schedule.warmup: 5 steps of warm-up leave nothing of a run of 5 steps."),
        ("training: {evaluate_every: 5}\nevaluation: {held_out: 0}", ("training.evaluate_every: there is "
         "nothing to evaluate on: set evaluation.prompts, or evaluation.held_out above 0.")),
        ("adapter: {layers: 0}", "adapter.layers: must be at least 1, or -1 for all layers, not 0."),
        ("adapter: {dropout: 1}", "adapter.dropout: must be < 1, not 1.0."),
        ("adapter: {keys: q_proj}", "adapter.keys: must be a list of texts, not the text 'q_proj'."),
        ("output: ''", "output: must not be empty."),
        ("plugins: {disable: acme}", "plugins.disable: must be a list of texts, not the text 'acme'."),
        ("bonuses: optimism", ("bonuses.0: needs completions from the reference, and sampler "
         "'prefloop:policy' draws none. Use 'sampler: policy-reference'.")),
        ("algorithm: xpi", ("algorithm: there is no algorithm 'xpi'. Did you mean 'xpo'? "
         "Set aside as broken: shaky (ImportError: no module named 'shaky').")),
        ("algorithm: {use: xpo, alhpa: 2}",
         "algorithm.alhpa: there is no such option. Did you mean 'alpha'?"),
        ("algorithm: overreaching", ("algorithm: algorithm 'overreaching' sets 'training', but may set only "
         "sampler, judge, loss, bonuses.")),
    ],
)  # fmt: skip
def test_each_problem_names_its_line(files: Files, line: str, expected: str) -> None:
    assert files.problems(START + line) == [f"c.yaml:3: {expected}"]


def test_full_training_of_quantized_weights(files: Files) -> None:
    text = "model: {path: m, quantize: 4bit}\nprompts: p\nadapter: {type: full}\n"
    assert files.problems(text) == [
        (
            "c.yaml:3: adapter.type: full weights cannot be trained with 'model.quantize: 4bit', as "
            "quantized weights have no gradient. Use lora or dora, or 'quantize: none'."
        )
    ]


def test_missing_sections_are_named_in_the_first_line(files: Files) -> None:
    assert files.problems("judge: human") == [
        "c.yaml:1: model: is missing. The model that is trained: a Hub id or folder, or a mapping.",
        "c.yaml:1: prompts: is missing. The prompts: a Hub id, folder or file, a mapping, or a list to mix.",
    ]


def test_problems_of_a_mapping_have_no_line(registry: Registry) -> None:
    with pytest.raises(UserError) as caught:
        load(registry, training={"seed": -1, "learning_rate": math.nan}, model={"path": Path("m")})
    assert caught.value.problems == (
        "configuration: model.path: must be text, not a Python PosixPath.",
        "configuration: training.learning_rate: must be a finite number, not nan.",
        "configuration: training.seed: must be >= 0, not -1.",
    )
    with pytest.raises(UserError, match=r"^configuration: training: the key 3 is not text\.$"):
        load(registry, training={3: 4})
    endless: list[Any] = []
    endless.append(endless)
    for wrong, said in [
        (endless, "is nested too deeply."),
        (10**5000, "is too long a number."),
        (2**63, "must be a whole number of at most 64 bits"),
        ("\ud83d", "holds half a character"),
    ]:
        with pytest.raises(UserError, match=f"^configuration: training[.a-z0]*: {said}"):
            load(registry, training={"iters": wrong})


def test_optimizer_and_schedule_options(registry: Registry) -> None:
    training = load(
        registry,
        training={
            "optimizer": {"use": "adamw", "betas": [0.9, 0.95], "weight_decay": 0},
            "schedule": {"use": "cosine_decay", "warmup": 100, "end": 0, "decay_steps": 7},
        },
    ).training
    assert training.optimizer == OptimizerConfig("adamw", {"betas": (0.9, 0.95), "weight_decay": 0.0})
    assert training.schedule == ScheduleConfig("cosine_decay", 100, 0.0, {"end": 0.0, "decay_steps": 7})
    assert load(registry, training={"optimizer": "lion"}).training.optimizer == OptimizerConfig("lion")


@pytest.mark.parametrize("name", sorted(optimizer_classes()))
def test_every_optimizer_is_accepted_by_name(registry: Registry, name: str) -> None:
    assert load(registry, training={"optimizer": name}).training.optimizer == OptimizerConfig(name)


def test_disabled_plugins_are_left_out_before_names_are_looked_up(files: Files) -> None:
    text = START + "judge: near-length\nplugins: {disable: [Rival]}"
    assert load_config(files.write(text)).judge == NearLength()
    assert files.problems(text, "plugins.disable=[acme, rival]") == [
        (
            "c.yaml:3: judge: there is no judge 'near-length'. Known: committee, human, llm. Set aside as "
            "broken: shaky (ImportError: no module named 'shaky'). Disabled: acme, rival."
        )
    ]


def test_plugins_disable_has_no_effect_on_a_given_registry(registry: Registry) -> None:
    with pytest.raises(UserError, match="has no effect on the plugins that the program chose"):
        load(registry, plugins={"disable": ["acme"]})
