"""`--json`: every command has it, and prints one document on standard output and nothing else there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from prefloop import load_config, train
from prefloop.cli import main
from support.small_runs import settings_for

WITHOUT = {
    "label": "a person answers it at a terminal",
    "mcp": "it serves, until it is ended",
    "studio": "it serves, until it is ended",
    "worker": "it serves, until it is ended",
}
"""Commands that have no `--json`, and why; those of packages in contrib/ too, where they are installed."""


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_every_command_has_json_or_a_reason() -> None:
    lacking = {
        name for name, command in commands() if "--json" not in {o for p in command.params for o in p.opts}
    }
    assert lacking <= WITHOUT.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/run` is a run of two steps, `my.yaml` its configuration, `pairs.jsonl` a few labelled pairs."""
    folder = tmp_path_factory.mktemp("json")
    settings = settings_for(folder / "runs" / "run", training={"iters": 2, "save_every": 1})
    (folder / "my.yaml").write_text(json.dumps(settings))
    train(load_config(settings))
    pairs = [{"prompt": "Hi", "chosen": "Sure, hello there", "rejected": "Really"} for _ in range(2)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder


def document(folder: Path, *arguments: str, code: int = 0) -> Any:
    """What a command prints with `--json`, parsed as JSON is: without NaN."""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)


DOCUMENTS: dict[tuple[str, ...], set[str]] = {
    ("config", "validate", "my.yaml"): {"file", "valid"},
    ("config", "show", "my.yaml"): {"model", "prompts", "judge", "loss", "training", "plugins"},
    ("config", "init", "--output", "new.yaml"): {"file", "text"},
    ("plugins", "list"): {"components", "commands", "broken", "disabled"},
    ("plugins", "show", "loss", "ipo"): {"kind", "name", "distribution", "version", "doc", "options"},
    ("plugins", "new", "judge", "brevity"): {"folder", "files"},
    ("runs", "show", "runs/run"): {"run", "status", "summary", "plan"},
    ("runs", "resume", "runs/run"): {"run", "status", "summary", "plan"},
    ("train", "--resume", "runs/run"): {"run", "status", "summary", "plan"},
    ("report", "runs/run"): {"file"},
    ("export", "pairs", "runs/run", "--output", "set.jsonl"): {"file", "pairs", "left_out"},
    ("judge", "rule", "pairs.jsonl", "--set", "judge.length=longer"): {"file", "pairs", "judges", "between"},
    ("eval", "runs/run"): {"file", "policy", "against", "win_rate", "metrics", "notes"},
    ("train", "my.yaml", "--dry-run"): {"ready", "plan", "lines"},
    ("plan", "my.yaml", "--machines", "machines: 2, link: 1gbe"): {"link", "work", "phases", "ways"},
}
"""Commands, and keys that their document must have."""


@pytest.mark.parametrize("arguments", DOCUMENTS, ids=" ".join)
def test_the_documents(folder: Path, arguments: tuple[str, ...]) -> None:
    assert document(folder, *arguments).keys() >= DOCUMENTS[arguments]


def test_a_run_ends_with_what_runs_show_says_of_it(folder: Path) -> None:
    ended = document(folder, "train", "my.yaml", "--set", "output.path=runs/other")
    assert ended == document(folder, "runs", "show", "runs/other")
    assert (ended["status"], ended["summary"]["steps"]) == ("finished", 2)
    assert [run["run"] for run in document(folder, "runs", "list")] == ["runs/other", "runs/run"]


def test_config_show_loads_to_the_same(folder: Path) -> None:
    shown = document(folder, "config", "show", "my.yaml")
    assert load_config(shown) == load_config(folder / "my.yaml")


def test_plugins_check_says_what_failed(folder: Path) -> None:
    judge = (
        "from prefloop import Verdict, hookimpl\n"
        "class First:\n    symmetric = True\n"
        "    def judge(self, pairs):\n        return [Verdict(0.9) for _ in pairs]\n"
        "@hookimpl\ndef prefloop_judges():\n    return {'first': First}\n"
    )
    (folder / "first.py").write_text(judge)
    found = document(folder, "plugins", "check", "first.py", code=1)
    outcomes = {outcome["test"]: outcome["status"] for outcome in found["checked"][0]["outcomes"]}
    assert found["passed"] is False and outcomes["test_swapped_answers"] == "failed"


def test_an_error_is_a_line_on_standard_error_and_no_document(folder: Path) -> None:
    done = CliRunner().invoke(main, ["runs", "show", str(folder / "nowhere"), "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = CliRunner().invoke(main, ["export", "pairs", str(folder / "runs" / "run"), "--json"])
    assert (done.exit_code, done.stdout) == (2, "") and "--json goes with --output" in done.stderr
