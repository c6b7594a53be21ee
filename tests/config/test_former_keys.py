"""Keys and values under former names: they work for a version, and a line says what they are now."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from attrs import field, frozen
from click.testing import CliRunner

from prefloop.cli import main
from prefloop.config import EvaluationConfig, JudgingConfig, PromptsConfig, load_config, load_judge
from prefloop.hooks import hookimpl
from prefloop.settings import about
from support.config_files import Files
from support.fake_plugins import EntryPoint

START = "model: m\nprompts: p\njudge: human\n"
LATER = "the former key goes in a later version."
VALUE_LATER = "the former one goes in a later version."


@frozen
class Strict:
    """A third party's judge, one of whose options had two other names."""

    level: int = field(default=1, metadata=about("How strict.", formerly=("rigour", "rigor")))
    tone: str = field(default="dry", metadata=about("How it speaks.", former_values={"flat": "dry"}))

    def judge(self, pairs: Any) -> list[Any]:
        return []


@frozen
class Stern:
    """A preset that uses a former name itself."""

    def settings(self) -> dict[str, Any]:
        return {"sampler": "policy", "judge": {"use": "acme:strict", "rigour": 3}, "loss": "sigmoid"}


@pytest.fixture
def strict(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins of the other tests, and one more."""
    import importlib.metadata

    offered = {"prefloop_judges": {"strict": Strict}, "prefloop_algorithms": {"stern": Stern}}
    plugin = SimpleNamespace(**{hook: _hook(hook, named) for hook, named in offered.items()})
    points = [p for p in importlib.metadata.entry_points(group="prefloop") if p.dist.name != "acme"]
    points.append(EntryPoint("acme", plugin))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)


def _hook(name: str, offered: dict[str, type]) -> Any:
    def hook() -> dict[str, type]:
        return offered

    hook.__name__ = name
    return hookimpl(hook)


def loaded(files: Files, text: str, *overrides: str) -> tuple[Any, list[str]]:
    """The configuration, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = load_config(files.write(text), overrides)
    assert all(issubclass(w.category, DeprecationWarning) for w in caught)
    assert {w.filename for w in caught} <= {__file__}
    return config, [str(w.message).replace(str(files.path), "c.yaml") for w in caught]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "judging: {max_one_kind: 0.5}",
            "judging: {max_same_outcome: 0.5}",
            f"c.yaml:4: judging.max_one_kind: is now judging.max_same_outcome; {LATER}",
        ),
        (
            "evaluation: {answer: right}",
            "evaluation: {answer_column: right}",
            f"c.yaml:4: evaluation.answer: is now evaluation.answer_column; {LATER}",
        ),
    ],
)
def test_a_former_key_works_with_a_line(files: Files, old: str, new: str, line: str) -> None:
    before, told = loaded(files, START + old)
    after, nothing = loaded(files, START + new)
    assert (before, told, nothing) == (after, [line], [])


def test_a_former_value_works_with_a_line(files: Files) -> None:
    config, told = loaded(files, "model: m\nprompts:\n  path: p\n  too_long: left\n")
    assert config.prompts.too_long == "truncate_left"
    assert told == [f"c.yaml:4: prompts.too_long: the value left is now truncate_left; {VALUE_LATER}"]


def test_overrides_by_former_keys_and_values(files: Files) -> None:
    given = ("judging.max_one_kind=0.5", "prompts.too_long=left")
    config, told = loaded(files, START + "judging: {max_same_outcome: 0.9}", *given)
    assert (config.judging.max_same_outcome, config.prompts.too_long) == (0.5, "truncate_left")
    assert told == [
        f"--set judging.max_one_kind=0.5: is now judging.max_same_outcome; {LATER}",
        f"--set prompts.too_long=left: the value left is now truncate_left; {VALUE_LATER}",
    ]
    config, told = loaded(files, START + "judging: {max_one_kind: 0.9}", "judging.max_same_outcome=0.5")
    assert config.judging.max_same_outcome == 0.5
    assert len(told) == 1


def test_both_names_at_once_are_an_error(files: Files) -> None:
    text = START + "judging:\n  max_one_kind: 0.5\n  max_same_outcome: 0.5\n"
    assert files.problems(text) == [
        (
            "c.yaml:5: judging.max_one_kind: is the former name of 'max_same_outcome', which is given too. "
            "Remove one of them."
        )
    ]


def test_a_former_key_is_checked_like_the_present_one(files: Files) -> None:
    assert files.problems(START + "judging: {max_one_kind: 2}") == [
        "c.yaml:4: judging.max_same_outcome: must be <= 1, not 2.0."
    ]
    assert files.problems(START, "judging.max_one_kind=2") == [
        "--set judging.max_one_kind=2: must be <= 1, not 2.0."
    ]


@pytest.mark.parametrize("name", ["rigour", "rigor"])
def test_an_option_of_a_third_party(strict: None, tmp_path: Path, name: str) -> None:
    files = Files(tmp_path)
    config, told = loaded(files, f"model: m\nprompts: p\njudge: {{use: strict, {name}: 4, tone: flat}}\n")
    assert config.judge == Strict(4, "dry")
    assert told == [
        f"c.yaml:3: judge.{name}: is now judge.level; {LATER}",
        f"c.yaml:3: judge.tone: the value flat is now dry; {VALUE_LATER}",
    ]
    nested = (
        f"model: m\nprompts: p\njudge: {{use: committee, members: [human, {{use: strict, {name}: 4}}]}}\n"
    )
    config, told = loaded(files, nested, "judge.members.1.tone=flat")
    assert config.judge.members[1] == Strict(4)
    assert told[0] == f"c.yaml:3: judge.members.1.{name}: is now judge.members.1.level; {LATER}"


def test_former_options_over_those_of_a_preset(strict: None, tmp_path: Path) -> None:
    files = Files(tmp_path)
    start = "model: m\nprompts: p\nalgorithm: stern\n"
    config, told = loaded(files, start)
    assert config.judge == Strict(3)
    assert told == [f"algorithm 'stern': judge.rigour: is now judge.level; {LATER}"]
    assert loaded(files, start + "judge: {level: 5}")[0].judge == Strict(5)
    assert loaded(files, start + "judge: {rigor: 5}")[0].judge == Strict(5)
    assert loaded(files, start, "judge.rigor=5")[0].judge == Strict(5)


def test_the_judge_alone(strict: None, tmp_path: Path) -> None:
    file = Files(tmp_path).write("judge: {use: strict, rigour: 2}")
    with pytest.warns(DeprecationWarning, match="judge.rigour: is now judge.level"):
        judge, _ = load_judge(str(file))
    assert judge == Strict(2)


def test_the_command_line_prints_each_line_once(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(START + "judging: {max_one_kind: 0.5}\n")
    done = CliRunner().invoke(main, ["config", "validate", str(file)])
    assert (done.exit_code, done.stdout) == (0, f"{file}: OK\n")
    assert (
        done.stderr == f"warning: {file}:4: judging.max_one_kind: is now judging.max_same_outcome; {LATER}\n"
    )


def test_settings_made_by_a_program() -> None:
    with pytest.warns(DeprecationWarning, match=r"EvaluationConfig\.answer is now answer_column"):
        settings = EvaluationConfig(answer="right")  # type: ignore[call-arg]
    assert settings == EvaluationConfig(answer_column="right")
    with pytest.warns(DeprecationWarning, match=r"EvaluationConfig\.answer is now answer_column"):
        assert settings.answer == "right"  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match=r"JudgingConfig\.max_one_kind is now max_same_outcome"):
        assert attrs.evolve(JudgingConfig(), max_one_kind=0.5).max_same_outcome == 0.5  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"PromptsConfig\.too_long='left' is now 'truncate_left'"):
        assert PromptsConfig("p", too_long="left").too_long == "truncate_left"  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="'JudgingConfig' object has no attribute 'max_kind'"):
        JudgingConfig().max_kind  # type: ignore[attr-defined]  # noqa: B018
