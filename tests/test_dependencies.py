"""What a run depends on is recorded, and a change of it is noticed when the run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import prefloop.beginning
from prefloop import BaseJudge, StopRun, UserError, adapt, load_config, open_run, resume, train
from prefloop.beginning import Beginning, begun, dated
from prefloop.cli import main
from prefloop.embedded import local_path
from support.small_runs import StopsAfter, lines, outcome, settings_for

COWS = "def taste(prompt, first, second):\n    return len(first) > len(second)\n"
DATED = (
    "{{ 'Today is ' + strftime_now('%d %b %Y') + '. ' }}{% for m in messages %}{{ m.content }}{% endfor %}"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, prompts with answers, a judge's code and a configuration; one stands in it."""
    for name in ("policy", "judge"):
        shutil.copytree(local_path(f"embedded:{name}"), tmp_path / name)
    rows = [{"prompt": f"What does animal {i} say?", "answer": str(i)} for i in range(30)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "cows.py").write_text(COWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**changes: Any) -> dict[str, Any]:
    return settings_for(
        Path("run"),
        **{
            "model": "./policy",
            "prompts": {"path": "p.jsonl"},
            "judge": {"use": "function", "call": "cows:taste"},
            "evaluation": {"held_out": 4, "answer_column": "answer"},
            "training": {"batch_size": 3, "iters": 3, "save_every": 1},
        }
        | changes,
    )


def stopped(**changes: Any) -> Path:
    """A run that was stopped after its first step."""
    return train(load_config(settings(**changes)), observers=[StopsAfter(1, StopRun("enough"))]).path


def edit(path: str, before: str, after: str) -> None:
    file = Path(path)
    file.write_text(file.read_text().replace(before, after))


def flip(path: str) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


CHANGES = {
    "model './policy'": lambda: flip("policy/model.safetensors"),
    "judge 'cows.py'": lambda: edit("cows.py", ">", "<"),
    "evaluation.judge './judge'": lambda: flip("judge/model.safetensors"),
    "prompts": lambda: edit("p.jsonl", "animal 7 ", "animal seven "),
    "columns beside the prompts": lambda: edit("p.jsonl", ': "', ': "x'),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_refused_and_goes_on_where_it_is_accepted(project: Path, what: str) -> None:
    evaluation = {"held_out": 4} | ({"judge": "./judge"} if what.startswith("evaluation") else {})
    run = stopped(evaluation=evaluation)
    before = (run / "run.json").read_bytes()
    CHANGES[what]()
    with pytest.raises(UserError, match=rf"has changed: .*{what}.*--resume run --accept-change"):
        resume(run)
    assert (run / "run.json").read_bytes() == before
    sys.modules.pop("cows", None)
    assert resume(run, accept_change=True).status == "finished"
    changes = json.loads((run / "run.json").read_text())["changes"]
    (change,) = [change for change in changes if change["what"] == what]
    assert change["step"] == 1
    assert change["before"] != change["after"] == open_run(run).manifest["depends_on"][what]
    assert datetime.fromisoformat(change["at"])
    assert resume(run, overrides=["training.iters=4"]).status == "finished", "it is the run's own now"


def test_another_model_is_not_evaluated_under_the_adapters_of_a_run(project: Path) -> None:
    stopped()
    flip("policy/model.safetensors")
    done = CliRunner().invoke(main, ["eval", "run"])
    assert done.exit_code == 2
    assert "model './policy' is no longer what 'run' was trained with" in done.stderr


def test_judges_that_are_made_of_judges_depend_on_what_those_do(project: Path) -> None:
    members = ["./judge", {"use": "function", "call": "cows:taste"}, "label"]
    config = load_config(settings(judge={"use": "committee", "members": members}))
    assert adapt(config.judge, BaseJudge).depends_on() == ["./judge", str(project / "cows.py")]


def test_swapped_answers_of_an_offline_run_are_noticed(project: Path) -> None:
    rows = [{"prompt": f"Say {i}.", "chosen": "Sure.", "rejected": "No."} for i in range(20)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {"held_out": 0}
    of_file = {"sampler": "dataset", "judge": "label", "evaluation": evaluation, "adapter": {"rank": 2}}
    run = stopped(**of_file)
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in swapped))
    with pytest.raises(UserError, match="has changed: columns beside the prompts"):
        resume(run)


def test_the_machine_may_change_and_that_is_said(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = stopped()
    manifest = json.loads((run / "run.json").read_text())
    manifest["machine"]["device"] = "abacus"
    (run / "run.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING, "prefloop"):
        assert resume(run).status == "finished"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "The last bits may differ from here on, as the machine has changed: device from aba"
    )
    assert [change["what"] for change in open_run(run).manifest["changes"]] == ["device"]


def test_a_run_of_a_version_that_recorded_nothing_goes_on(project: Path) -> None:
    run = stopped()
    manifest = json.loads((run / "run.json").read_text())
    for key in ("depends_on", "machine", "began", "lines", "wrote"):
        del manifest[key]
    (run / "run.json").write_text(json.dumps(manifest))
    assert resume(run).status == "finished"
    assert open_run(run).manifest["depends_on"].keys() >= {"model './policy'", "prompts"}


def test_a_run_and_its_evaluation_keep_the_date_on_which_it_began(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "policy" / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((project / "policy" / "tokenizer_config.json").read_text())
    (project / "policy" / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": DATED}))
    on(monkeypatch, 2026, 3, 1)
    whole = train(load_config({**settings(), "output": {"path": "whole", "report": False}})).path
    run = stopped()
    on(monkeypatch, 2026, 3, 2)
    assert resume(run).status == "finished"
    assert outcome(run) == outcome(whole)
    assert CliRunner().invoke(main, ["eval", "run"]).exit_code == 0
    of_run, again = (project / "run" / "evaluations" / name for name in ("0000003", "final-against-start"))
    pairs = [json.loads(Path(f"{file}.json").read_text())["pairs"] for file in (of_run, again)]
    assert pairs[0] == pairs[1]
    anew = train(load_config({**settings(), "output": {"path": "anew", "report": False}}))
    assert anew.manifest["depends_on"]["prompts"] != open_run(run).manifest["depends_on"]["prompts"]


def on(monkeypatch: pytest.MonkeyPatch, *day: int) -> None:
    """Let it be that day."""

    class Day(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Day:
            return cls(*day)

    monkeypatch.setattr(prefloop.beginning, "datetime", Day)


class Tokenizer:
    chat_template = (
        """{{ strftime_now("%d %b %Y") }}, {{ strftime_now( '%Y' ) }} {{ my_strftime_now("%d") }}"""
    )


def test_only_the_date_of_a_template_is_written_out() -> None:
    assert dated(Tokenizer()) == {}
    with begun(Beginning(Path(), datetime(2026, 3, 1))):
        written = dated(Tokenizer())["chat_template"]
    assert written == """{{ '01 Mar 2026' }}, {{ '2026' }} {{ my_strftime_now("%d") }}"""


def test_relative_paths_mean_the_same_from_any_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = stopped().resolve()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree("judge", elsewhere / "policy")  # another model under the same name
    monkeypatch.chdir(elsewhere)
    sys.modules.pop("cows", None)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part not in ("", str(project))])
    assert resume(run).status == "finished"
    done = CliRunner().invoke(main, ["eval", str(run)])
    assert done.exit_code == 0, done.output


def test_a_project_that_was_moved_is_found_from_where_one_stands(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stopped()
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.move(project, moved)
    project.mkdir()
    monkeypatch.chdir(moved)
    sys.modules.pop("cows", None)
    assert resume("run").status == "finished"
    monkeypatch.chdir(moved.parent)
    with pytest.raises(
        UserError, match=r"model './policy': there is no such folder.* looked for in .* and in .*moved0"
    ):
        resume(moved / "run", overrides=["training.iters=4"])


def test_a_run_of_a_release_that_lacked_a_key_is_as_complete_as_it_was(project: Path) -> None:
    run = train(load_config(settings())).path
    title, settings_then = (run / "config.yaml").read_text().split("\n", 1)
    assert "  ranks: auto\n" in settings_then
    older = settings_then.replace("  ranks: auto\n", "")
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (settings_then, older)]
    (run / "config.yaml").write_text(title.replace(*digests) + "\n" + older)
    done = CliRunner().invoke(main, ["runs", "resume", "run"])
    assert (done.exit_code, "nothing is left to do" in done.stdout) == (0, True)
    assert resume(run, overrides=["training.iters=4"]).summary["steps"] == 4


def test_a_finished_run_has_nothing_left_to_do(project: Path) -> None:
    run = train(load_config(settings())).path
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    done = CliRunner().invoke(main, ["runs", "resume", "run"])
    assert (done.exit_code, done.stdout.splitlines()[-1][:47]) == (
        0,
        "'run' is finished: nothing is left to do. --set",
    )
    assert resume(run).status == "finished"
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(
        UserError, match="'run' has taken 3 steps, and its checkpoints are gone: put them back"
    ):
        resume(run, overrides=["training.iters=4"])
    assert len(lines(run / "metrics.jsonl")) == 5


def test_a_longer_run_has_the_plan_of_its_length(project: Path) -> None:
    run = train(load_config(settings())).path
    resume(run, overrides=["training.iters=5"])
    found = open_run(run)
    assert (found.summary["steps"], found.plan and found.plan.steps) == (5, 5)
