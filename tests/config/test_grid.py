"""Several runs from one command: which there are, what they are called, and what is no grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefloop.config.dump import to_plain
from prefloop.config.grid import Member, members_of
from prefloop.errors import UserError

FILE = "model: m\nprompts: p\njudge: {use: rule, length: longer}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(FILE)
    (tmp_path / "b.yaml").write_text(FILE + "training: {seed: 7}\nbonuses: [{use: kl, alpha: 0.1}]\n")
    return tmp_path


def made(
    *sources: str, sets: Sequence[str] = (), grids: Sequence[str] = (), seeds: int | None = None
) -> list[Member]:
    return members_of([Path(source) for source in sources], sets, grids, seeds)


def names(
    *sources: str, sets: Sequence[str] = (), grids: Sequence[str] = (), seeds: int | None = None
) -> list[str]:
    return [member.name for member in made(*sources, sets=sets, grids=grids, seeds=seeds)]


def test_configurations_values_and_seeds_multiply(here: Path) -> None:
    found = made("a.yaml", "b.yaml", sets=["loss.beta=[0.05,0.1]"], seeds=2)
    assert [member.name for member in found] == [
        "a-beta0.05-seed0",
        "a-beta0.05-seed1",
        "a-beta0.1-seed0",
        "a-beta0.1-seed1",
        "b-beta0.05-seed7",
        "b-beta0.05-seed8",
        "b-beta0.1-seed7",
        "b-beta0.1-seed8",
    ]
    last = found[-1]
    assert (last.config.loss.beta, last.config.training.seed) == (0.1, 8)  # type: ignore[attr-defined]
    assert (last.setting, str(last.source)) == ("b-beta0.1", "b.yaml")
    assert last.varied == {"loss.beta": 0.1, "training.seed": 8}


def test_one_run_is_one_run(here: Path) -> None:
    [member] = made("a.yaml", sets=["loss.beta=0.2"])
    assert (member.name, member.varied) == ("a", {})
    assert names("a.yaml", grids=["loss.beta=0.2"]) == ["a-beta0.2"]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("adapter.keys=[q_proj, up_proj]", "adapter.keys", ["q_proj", "up_proj"]),
        ("bonuses.0.alpha=[0.2, 0.1]", "bonuses.0.alpha", [0.2, 0.1]),
        ("bonuses=[kl, {use: kl, alpha: 2}]", "bonuses.1.alpha", 2),
        ("evaluation.judge=[training, {use: rule, length: shorter}]", "evaluation.judge.0", "training"),
    ],
)
def test_a_list_is_the_value_of_a_key_that_takes_one(here: Path, text: str, key: str, value: object) -> None:
    [member] = made("b.yaml", sets=[text])
    found = to_plain(member.config, member.config.origins)
    for part in key.split("."):
        found = found[int(part)] if part.isdecimal() else found[part]
    assert (member.name, found) == ("b", value)


def test_a_grid_of_lists_is_asked_for(here: Path) -> None:
    found = made("b.yaml", grids=["bonuses.0.alpha=[0.2,0.1],3"])
    assert [member.config.bonuses[0].alpha for member in found] == [(0.2, 0.1), 3.0]  # type: ignore[attr-defined]
    assert [member.name for member in found] == ["b-alpha-0.2-0.1", "b-alpha3"]
    keys = made("b.yaml", grids=["adapter.keys=[[q_proj],[v_proj, k_proj]]"])
    assert [member.config.adapter.keys for member in keys] == [("q_proj",), ("v_proj", "k_proj")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sets": ["algorithm=[online_dpo,xpo]"]}, ["a-online_dpo", "a-xpo"]),
        ({"sets": ["model=[org/One-1B, ./two]"]}, ["a-One-1B", "a-two"]),
        ({"sets": ["training.learning_rate=[1e-4,2e-4]"]}, ["a-learning_rate1e-4", "a-learning_rate2e-4"]),
        ({"sets": ["training.max_kl=[null,5]"]}, ["a-max_kl-null", "a-max_kl5"]),
        ({"grids": ["training.load_best=false,true", "training.evaluate_every=[5]"]}, []),
        ({"grids": ["training.optimizer=adamw,sgd"]}, ["a-adamw", "a-sgd"]),
        ({"sets": ["training.seed=[3,5]"]}, ["a-seed3", "a-seed5"]),
        ({"sets": ["training.seed=4"], "seeds": 2}, ["a-seed4", "a-seed5"]),
        (
            {"grids": ["loss={use: sigmoid},{use: sigmoid, beta: 0.3}"]},
            ["a-loss1", "a-loss2"],
        ),
        (
            {"grids": ["sampler.temperature=0.5,1", "evaluation.temperature=0.0,1"]},
            [
                f"a-sampler.temperature{one}-evaluation.temperature{two}"
                for one in ("0.5", "1")
                for two in ("0.0", "1")
            ],
        ),
    ],
)
def test_names_say_what_is_in_a_run(here: Path, given: dict[str, list[str]], expected: list[str]) -> None:
    if not expected:
        expected = ["a-load_best-false-evaluate_every5", "a-load_best-true-evaluate_every5"]
    assert names("a.yaml", **given) == expected  # type: ignore[arg-type]


def test_a_value_below_a_grid_is_set_after_it(here: Path) -> None:
    for given in ({"grids": ["loss=sigmoid,ipo"]}, {"sets": ["loss=[sigmoid,ipo]"]}):
        sets = [*given.get("sets", []), "loss.beta=0.3"]
        found = made("a.yaml", sets=sets, grids=given.get("grids", []))
        assert [member.config.loss.beta for member in found] == [0.3, 0.3]  # type: ignore[attr-defined]


def test_files_of_one_name_are_told_apart_by_their_folders(here: Path) -> None:
    (here / "old").mkdir()
    (here / "old" / "a.yaml").write_text(FILE + "loss: ipo\n")
    assert names("a.yaml", "old/a.yaml") == [f"{here.name}-a", "old-a"]


MISTAKES = {
    "loss.betta=[1,2]": "--set loss.betta=[1,2]: there is no such option. Did you mean 'beta'?",
    "loss.beta=[0.1,x]": "--set loss.beta=x: must be a number, not the text 'x'.",
    "loss.beta=[]": "--set loss.beta=[]: there is no value to try. Write --set loss.beta=[V1,V2].",
    "loss.beta=[0.1,0.1]": "--set loss.beta=[0.1,0.1]: the value 0.1 is there twice.",
    "adapter.keys=[1,2]": "--set adapter.keys=[1,2]: adapter.keys.0: must be text, not the number 1.",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_wrong_with_a_list_is_said(here: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        made("a.yaml", sets=[text])
    assert caught.value.problems[0].startswith(MISTAKES[text])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"grids": ["loss.beta"]},
            "--grid loss.beta: must have the form KEY.PATH=VALUE, such as loss.beta=0.2.",
        ),
        ({"grids": ["loss.beta=1,x"]}, "--grid loss.beta=x: must be a number, not the text 'x'."),
        (
            {"grids": ["loss.beta=1,2"], "sets": ["loss.beta=3"]},
            "loss.beta is given twice, and one of them is a",
        ),
        ({"grids": ["loss.beta=1,2", "loss.beta=3,4"]}, "loss.beta is given twice, and one of them is a"),
        (
            {"grids": ["training.seed=1,2"], "seeds": 2},
            "--seeds: the seeds are given by training.seed already.",
        ),
        ({"seeds": 1001}, "that would be 1,001 runs; one command makes at most 1,000."),
        ({"grids": ["loss=sigmoid,{use: sigmoid}"]}, "'a-loss1' and 'a-loss2' would be the same run"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said(here: Path, given: dict[str, list[str]], says: str) -> None:
    with pytest.raises(UserError) as caught:
        made("a.yaml", **given)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)


def test_what_is_wrong_with_any_configuration_is_said_once(here: Path) -> None:
    (here / "c.yaml").write_text(FILE + "trainning: {iters: 3}\n")
    (here / "d.yaml").write_text(FILE + "loss: {beta: x}\n")
    with pytest.raises(UserError) as caught:
        made("a.yaml", "c.yaml", "d.yaml", grids=["training.iters=3,4"], seeds=3)
    assert caught.value.problems == (
        "c.yaml:4: trainning: there is no such option. Did you mean 'training'?",
        "d.yaml:4: loss.beta: must be a number, not the text 'x'.",
    )


def test_one_file_twice_and_two_equal_files_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match=r"\./a.yaml: is given twice|a.yaml: is given twice"):
        made("a.yaml", "./a.yaml")
    (here / "e.yaml").write_text(FILE)
    with pytest.raises(UserError, match="'a' and 'e' would be the same run: their settings are equal"):
        made("a.yaml", "e.yaml")


def test_a_key_that_one_configuration_does_not_have_is_said(here: Path) -> None:
    (here / "g.yaml").write_text("model: m\nprompts: p\njudge: {use: llm, model: x}\n")
    with pytest.raises(UserError) as caught:
        made("a.yaml", "g.yaml", sets=["judge.system=[x,y]"])
    assert str(caught.value).startswith("--set judge.system=x: there is no such option.")
    assert names("g.yaml", sets=["judge.system=[x,y]"]) == ["g-x", "g-y"]


def test_a_pipe_is_read_once(here: Path) -> None:
    """As ``prefloop train <(make-config)`` gives one."""
    end, other = os.pipe()
    with os.fdopen(other, "w") as written:
        written.write(FILE)
    [member] = made(f"/dev/fd/{end}", sets=["adapter.keys=[q_proj]"])
    os.close(end)
    assert member.config.adapter.keys == ("q_proj",)
