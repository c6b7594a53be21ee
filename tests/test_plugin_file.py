"""A plugin in one Python file beside the configuration: named, trained with, resumed, and changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefloop import UserError, load_config, train
from prefloop.cli import main
from prefloop.registry import Registry
from support.small_runs import lines, outcome, settings_for

JUDGE = """\
from attrs import frozen
from prefloop import BaseJudge, Verdict, hookimpl
@frozen
class Brevity(BaseJudge):
    symmetric = True
    def judge(self, pairs):
        return [Verdict.from_scores(-len(p.first.text), -len(p.second.text)) for p in pairs]
@hookimpl
def prefloop_judges():
    return {"brevity": Brevity}
"""
HOOK = "import prefloop\n@prefloop.hookimpl\n"
WRONG = {
    "x = 1\ndef (\n": "my_judge.py:2: SyntaxError: invalid syntax.",
    "\n\nanswer = 1 / 0\n": "my_judge.py:3: ZeroDivisionError: division by zero",
    "raise SystemExit('gone')": "my_judge.py:1: SystemExit: gone",
    "import no_such_thing": "my_judge.py:1: ModuleNotFoundError: No module named 'no_such_thing'",
    HOOK + "def prefloop_judges():\n    return {'brevity': Brevity}\n": (
        "my_judge.py:4: NameError: name 'Brevity' is not defined"
    ),
    HOOK + "def prefloop_judges():\n    return {'brevity': 7}\n": "my_judge.py: TypeError: prefloop_judges: ",
    HOOK + "def prefloop_commands():\n    return {'a': prefloop.Command('a:b', 'c')}\n": "offers a command",
    "def prefloop_judges():\n    return {}\n": "offers no component",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One stands in it; `my_judge.py` and `my.json`, which is YAML too, lie in it."""
    (tmp_path / "my_judge.py").write_text(JUDGE)
    settings = settings_for(
        Path("run"),
        judge="brevity",
        plugins={"files": ["my_judge.py"]},
        training={"iters": 2, "save_every": 1},
    )
    (tmp_path / "my.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prefloop(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_a_file_is_trained_with_and_resumed_to_the_same_end(folder: Path) -> None:
    """From another folder: what the run's relative paths mean stays as it was."""
    assert prefloop("train", "my.yaml", "--set", "training.iters=4", "--set", "output.path=whole")[0] == 0
    assert prefloop("train", "my.yaml")[0] == 0
    resumed = ["train", "--resume", str(folder / "run"), "--set", "training.iters=4"]
    done = subprocess.run(
        [sys.executable, "-m", "prefloop", *resumed], cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert {row["judge"] for row in lines(folder / "run" / "judgements.jsonl")} == {"my-judge:brevity"}
    assert outcome(folder / "run")[0] == outcome(folder / "whole")[0]


def test_a_change_of_the_file_is_noticed_and_its_verdicts_are_asked_for_anew(folder: Path) -> None:
    assert prefloop("train", "my.yaml")[0] == 0
    (folder / "my_judge.py").write_text(JUDGE.replace("-len", "len"))
    code, _, said = prefloop("train", "--resume", "run", "--set", "training.iters=3")
    assert (code, said.count("\n")) == (2, 1)
    assert "changed: plugins.files 'my_judge.py'." in said
    before = lines(folder / "run" / "judgements.jsonl")
    assert prefloop("train", "--resume", "run", "--set", "training.iters=3", "--accept-change")[0] == 0
    after = lines(folder / "run" / "judgements.jsonl")
    changed = [row for row in after if row["judge_version"] != before[0]["judge_version"]]
    assert after[: len(before)] == before and changed == after[len(before) :] != []


def test_a_file_that_is_gone_ends_a_resume_in_a_line(folder: Path) -> None:
    train(load_config("my.yaml"))
    (folder / "my_judge.py").rename("my_judge2.py")
    code, _, said = prefloop("train", "--resume", "run", "--set", "training.iters=3")
    assert code == 2
    assert (
        "plugins.files.0: there is no file 'my_judge.py'" in said and "Did you mean 'my_judge2.py'?" in said
    )


@pytest.mark.parametrize("content", WRONG)
def test_what_is_wrong_in_a_file_is_one_line_with_its_place(folder: Path, content: str) -> None:
    (folder / "my_judge.py").write_text(content)
    code, _, said = prefloop("config", "validate", "my.yaml")
    assert (code, said.count("\n")) == (2, 1)
    assert "my.yaml:1: plugins.files.0: " in said and WRONG[content] in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.py", "there is no file 'nowhere.py'"),
        ("my_judge", "must be a Python file"),
        ("x" * 5000 + ".py", "is not a path that can be looked up"),
        ("folder.py", "'folder.py' cannot be read: Is a directory."),
        ("prefloop.py", "goes by the name 'prefloop', as another plugin does"),
    ],
)
def test_what_no_plugin_file_can_be(folder: Path, given: str, said: str) -> None:
    (folder / "prefloop.py").write_text(JUDGE)
    (folder / "folder.py").mkdir()
    with pytest.raises(UserError, match=said):
        load_config("my.yaml", [f"plugins.files=[{given}]"])


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "my-judge.py").write_text(JUDGE)
    with pytest.raises(UserError, match=r"'more/my-judge\.py' goes by the name 'my-judge'"):
        load_config("my.yaml", ["plugins.files=[my_judge.py, more/my-judge.py]"])


def test_the_file_beside_a_configuration_elsewhere_is_pointed_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match=f"The one beside the configuration is '{folder.name}/my_judge.py'"):
        load_config(f"{folder.name}/my.yaml")
    config = load_config(f"{folder.name}/my.yaml", [f"plugins.files=[{folder.name}/my_judge.py]"])
    assert type(config.judge).__name__ == "Brevity"


def test_nothing_is_loaded_that_no_configuration_names(folder: Path) -> None:
    (folder / "my_judge.py").write_text("raise AssertionError('loaded')")
    assert "brevity" not in {p.name for p in Registry().of_kind("judge")}
    without = ["--set", "plugins.files=[]", "--set", "judge={use: rule, length: longer}"]
    assert prefloop("config", "validate", "my.yaml", *without)[0] == 0
    with pytest.raises(UserError, match="there is no judge 'brevity'"):
        load_config({**json.loads(Path("my.yaml").read_text()), "plugins": {}})


def test_a_program_that_chose_its_plugins_adds_files_itself(folder: Path) -> None:
    registry = Registry()
    with pytest.raises(UserError, match="has no effect on the plugins that the program chose"):
        load_config("my.yaml", registry=registry)
    registry.add_file("my_judge.py")
    assert load_config("my.yaml", registry=registry).plugins.files == ("my_judge.py",)


def test_a_judge_in_a_file_is_tried_and_checked(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text(
        json.dumps({"prompt": "Hi", "chosen": "Yes", "rejected": "Oh no"}) + "\n"
    )
    named = ["--set", "plugins.files=[my_judge.py]"]
    code, printed, said = prefloop("judge", "brevity", "pairs.jsonl", "--json", *named)
    assert code == 0, said
    assert "my-judge:brevity" in printed
    assert prefloop("plugins", "check", "my_judge.py")[0] == 0
    assert "my-judge:brevity" in prefloop("plugins", "show", "judge", "brevity", "--file", "my_judge.py")[1]
    listed = json.loads(prefloop("plugins", "list", "--file", "my_judge.py", "--json")[1])["components"]
    assert {"brevity"} == {row["name"] for row in listed if row["distribution"] == "my-judge"}
    (folder / "my_judge.py").write_text(JUDGE.replace("-len(p.first", "len(p.first"))
    code, printed, _ = prefloop("plugins", "check", "my_judge.py")
    assert code == 1 and "swapping the answers moves" in printed


def test_an_evaluation_of_a_run_asks_the_judge_in_its_file(folder: Path) -> None:
    train(load_config("my.yaml"))
    code, printed, said = prefloop("eval", "run", "--json")
    assert code == 0, said
    assert "my-judge:brevity" in printed
