"""``--set``: any depth, below short forms and presets, with the checks of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefloop.config import OptimizerConfig, load_config
from prefloop.embedded import resolve
from prefloop.errors import UserError
from prefloop.registry import Registry
from support.fake_plugins import Committee, Kl, Llm, Plain, Sigmoid

if TYPE_CHECKING:
    from support.config_files import Files

START = "model: m\nprompts: p\n"


def test_override_values_are_yaml(files: Files) -> None:
    overrides = [
        "training.learning_rate=1e-4",
        "prompts.system=no",
        "training.max_grad_norm=",
        "bonuses=[{use: kl, alpha: [1e-4, 1e-5]}]",
        "judge.system=a = b",
    ]
    config = load_config(files.write(START), overrides)
    assert config.training.learning_rate == 1e-4
    assert config.prompts.system == "no"
    assert config.training.max_grad_norm is None
    assert config.bonuses == (Kl([1e-4, 1e-5]),)
    assert config.judge == Llm(system="a = b")


def test_overrides_reach_below_short_forms(files: Files) -> None:
    path = files.write(START + "judge: Qwen/Other\nbonuses: kl\ntraining: {optimizer: adamw}\n")
    overrides = [
        "judge.orders=first",
        "bonuses.0.alpha=1e-4",
        "prompts.split=test",
        "training.optimizer.weight_decay=0.5",
    ]
    config = load_config(path, overrides)
    assert config.judge == Llm("Qwen/Other", orders="first")
    assert config.bonuses == (Kl(1e-4),)
    assert (config.prompts.path, config.prompts.split) == ("p", "test")
    assert config.training.optimizer == OptimizerConfig("adamw", {"weight_decay": 0.5})


def test_overrides_reach_inside_nested_components(files: Files) -> None:
    path = files.write(START + "judge: {use: committee, members: [human, ./local]}\n")
    config = load_config(path, ["judge.members.1.system=Be kind.", "judge.weights.a=2", "judge.chair=human"])
    assert config.judge == Committee((Plain(), Llm("./local", "Be kind.")), {"a": 2.0}, Plain())


def test_overrides_replace_whole_components(files: Files) -> None:
    path = files.write(START + "judge: {use: llm, orders: first}\n")
    assert load_config(path, ["judge=human"]).judge == Plain()
    assert load_config(path, ["judge=./other"]).judge == Llm("./other")


def test_overrides_go_on_top_of_a_preset(files: Files) -> None:
    path = files.write(START)
    config = load_config(path, ["bonuses.0.alpha=2", "algorithm=xpo", "loss.beta=3", "judge=human"])
    assert config.bonuses == (Kl(2.0),)
    assert config.loss == Sigmoid(3.0)
    assert config.judge == Plain()
    assert load_config(path, ["algorithm=xpo", "algorithm.alpha=7"]).bonuses == (Kl(7.0),)
    assert load_config(path, ["judge.use=human", "algorithm=xpo"]).judge == Plain()


def test_the_last_override_wins(files: Files) -> None:
    assert load_config(files.write(START), ["loss.beta=1", "loss.beta=2"]).loss == Sigmoid(2.0)


@pytest.mark.parametrize("text", ["judge", "=1", "judge..model=x", ""])
def test_malformed_overrides_are_refused(files: Files, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(files.write(START), [text])
    expected = f"--set {text}: must have the form KEY.PATH=VALUE, such as loss.beta=0.2."
    assert caught.value.problems == (expected,)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.beta=no", "must be a number, not the text 'no'."),
        ("loss.beta=-1", "must be > 0, not -1.0."),
        ("loss.beta=[1", "is not valid YAML at column 3: expected ',' or ']', but got '<stream end>'."),
        ("loss.beta={a: 1, a: 2}", "loss.beta.a: this key is given twice."),
        ("loss.bta=1", "there is no such option. Did you mean 'beta'?"),
        ("beta=1", "there is no such option. Did you mean 'loss.beta'?"),
        ("los.beta=1", "los: there is no such option. Did you mean 'loss'?"),
        ("bonuses.0.alpha=[1, x]", "bonuses.0.alpha.1: must be a number, not the text 'x'."),
        ("bonuses.1.alpha=1", "'1' must be a number from 0 to 0."),
        ("bonuses.first.alpha=1", "'first' must be a number from 0 to 0."),
        ("training.seed.low=1", "'training.seed' is the number 3, so nothing can be set below it."),
    ],
)
def test_overrides_are_checked_like_the_file(files: Files, override: str, expected: str) -> None:
    text = START + "training: {seed: 3}\nbonuses: [kl]\n"
    assert files.problems(text, override) == [f"--set {override}: {expected}"]


def test_an_algorithm_override_that_changes_nothing(files: Files) -> None:
    text = START + "sampler: policy\njudge: llm\nloss: {use: sigmoid, beta: 1}\nbonuses: []\n"
    full = text.replace("policy", "{use: policy, temperature: 1}").replace("llm", "{use: llm, orders: both}")
    assert files.problems(full, "algorithm=xpo") == [
        (
            "--set algorithm=xpo: changes nothing, as the file sets sampler, judge, loss, bonuses itself. "
            "Remove some there."
        )
    ]
    assert load_config(files.write(text), ["algorithm=xpo"]).bonuses == ()
    assert load_config(files.write(full + "algorithm: xpo"), ["algorithm=prefloop:xpo"]).bonuses == ()


@pytest.mark.parametrize("index", ["²", "٣", "-1", "1", "9" * 5000])
def test_an_index_is_a_place_in_the_list(files: Files, index: str) -> None:
    problems = files.problems(START + "bonuses: kl\n", f"bonuses.{index}.alpha=1")
    assert len(problems) == 1
    assert "must be a number from 0 to 0." in problems[0]


def test_the_packaged_file_is_not_blamed_for_an_override() -> None:
    overrides = ["loss.beta=0.2", "training.iters=3", "training.epochs=3", "training.evaluate_every=0"]
    with pytest.raises(UserError) as caught:
        load_config(resolve("embedded:quickstart"), overrides, registry=Registry())
    named = "--set training.iters=3 --set training.epochs=3 --set training.evaluate_every=0"
    message = "training: iters and epochs exclude each other: give one of them."
    assert caught.value.problems == (f"{named}: {message}",)


@pytest.mark.parametrize("override", ["{0}", "loss.{0}=1", "loss.beta={0}", "loss={0}", "training.iters={1}"])
def test_a_message_is_a_short_line_whatever_it_quotes(files: Files, override: str) -> None:
    for name in ("k" * 10_000, "a\nb\x1b[31m\u202e" * 400):
        problems = files.problems(START, override.format(name, "9" * 4000))
        assert len(problems) == 1
        assert problems[0].isprintable()
        assert len(problems[0]) < 700


def test_many_problems_are_a_few_lines(files: Files) -> None:
    problems = files.problems(START + "".join(f"key{i}: 1\n" for i in range(2000)))
    assert len(problems) == 21
    assert problems[-1] == "… and 1,980 more"


def test_a_plus_in_the_place_of_an_index_is_one_more_entry(files: Files) -> None:
    """Of a list in the file, in short form or not there at all, and of what a preset sets."""
    for written in ("bonuses: [kl]\n", "bonuses: kl\n"):
        config = load_config(
            files.write(START + written), ["bonuses.+={use: kl, alpha: 2}", "bonuses.1.alpha=3"]
        )
        assert config.bonuses == (Kl(), Kl(3.0))
    bare = load_config(files.write(START), ["bonuses.+=kl", "bonuses.+={use: kl, alpha: 2}"])
    assert bare.bonuses == (Kl(), Kl(2.0))
    preset = load_config(files.write(START), ["algorithm=xpo", "bonuses.+={use: kl, alpha: 9}"]).bonuses
    assert [type(bonus) for bonus in preset] == [Kl, Kl]
    assert preset[-1] == Kl(9.0)
    with pytest.raises(UserError, match=r"--set bonuses\.\+=kk: bonuses\.0: there is no bonus 'kk'"):
        load_config(files.write(START), ["bonuses.+=kk"])


def test_a_key_or_token_is_sent_to_the_environment_and_not_quoted(files: Files) -> None:
    path = files.write(START + "loss: {use: sigmoid, hub_token: hf_0123456789}\n")
    with pytest.raises(
        UserError, match=r"loss\.hub_token: there is no such option\. A key, token or"
    ) as caught:
        load_config(path)
    assert "hf_0123" not in str(caught.value)
