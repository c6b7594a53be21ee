"""The `learned` judge in runs and at the command line: taught by a cascade, killed and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import pairs, write_pairs

from prefloop import UserError, open_run
from prefloop_judge_learned.judge import LearnedJudge

PERSON = """
import os, signal
from prefloop import Verdict

asked = 0

def says(prompt, first, second):
    global asked
    asked += 1
    if asked == int(os.environ.get("KILLED_AT", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
    warmth = first.count("!") - second.count("!")
    return Verdict(0.5 if warmth == 0 else float(warmth > 0), by="person")
"""
"""A person who counts exclamation marks, and whose answers kill the process when they are asked to."""


def settings(steps: int = 12, **others: Any) -> dict[str, Any]:
    learned = {"use": "learned", "model": "embedded:policy", "heads": 12}
    return {
        "model": "embedded:policy",
        "prompts": "embedded:prompts",
        "judge": {"use": "cascade", "members": [learned, {"use": "function", "call": "person:says"}]},
        "sampler": {"max_completion_length": 24},
        "training": {"batch_size": 6, "iters": steps, "learning_rate": 1e-3, "save_every": 4},
        "evaluation": {"held_out": 0},
        "output": {"path": "run", "report": False},
        **others,
    }


def prefloop(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "person.py").write_text(PERSON)
    command = [sys.executable, "-m", "prefloop", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def trained(folder: Path, **others: Any) -> Path:
    """A whole run in `folder`."""
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(settings(**others)))
    done = prefloop(folder, "train", "config.yaml")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def came_to(run: Path) -> Any:
    """Weights as bytes, and verdicts; lines that come again after a checkpoint count once."""
    judged = {j.key: j.verdict for j in open_run(run).judgements().records}
    return (run / "adapters.safetensors").read_bytes(), judged


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "whole")


def test_it_takes_over_from_the_person_and_is_right(whole: Path) -> None:
    judged = [j for j in open_run(whole).judgements().records if j.verdict.status == "ok"]
    own = [j for j in judged if j.verdict.by == "members.0"]
    warmer = [j.pair.first.text.count("!") - j.pair.second.text.count("!") for j in own]
    right = [j.verdict.prefers_first == (more > 0) for j, more in zip(own, warmer, strict=True) if more]
    assert len(right) > 10 and np.mean(right) > 0.7  # of 20, a coin does so in one run of 50
    assert min(j.step for j in judged if j.verdict.by == "person") == 1 < min(j.step for j in own)


@pytest.mark.slow
@pytest.mark.parametrize("question", [3, 20, 32])
def test_a_run_that_is_killed_at_a_question_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Path, question: int
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(settings()))
    killed = prefloop(tmp_path, "train", "config.yaml", KILLED_AT=str(question))
    assert killed.returncode == -signal.SIGKILL
    again = prefloop(tmp_path, "train", "--resume", "run")
    assert again.returncode == 0, again.stderr
    assert came_to(tmp_path / "run") == came_to(whole)


def test_it_begins_with_what_a_person_said_in_an_earlier_run(whole: Path) -> None:
    """With the person's labels and ties, and none of its own verdicts."""
    records = open_run(whole).judgements().records
    person = [j for j in records if j.verdict.by == "person" and j.verdict.status in ("ok", "tie")]
    judge = LearnedJudge(model="embedded:policy", labels=(str(whole),))
    judge.prepare()
    assert 0 < len(judge.state()["targets"]) == len({j.key for j in person}) < len(records)
    verdicts = judge.judge([j.pair for j in records if j.verdict.by == "members.0"])
    assert sum(v.status == "ok" for v in verdicts) > 0


def test_labels_of_a_run_of_another_judge_are_all_its_verdicts(tmp_path: Path) -> None:
    run = trained(tmp_path / "rule", steps=2, judge={"use": "rule", "length": "shorter"})
    judge = LearnedJudge(model="embedded:policy", labels=(str(run),))
    judge.prepare()
    given = [j for j in open_run(run).judgements().records if j.verdict.status in ("ok", "tie")]
    assert len(judge.state()["targets"]) == len({j.key for j in given}) > 0


def test_a_run_without_labels_is_refused_before_anything_is_written(tmp_path: Path, whole: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "run.json").write_text((whole / "run.json").read_text())
    (empty / "judgements.jsonl").touch()
    with pytest.raises(UserError, match=r"labels\.0: .*empty.* holds no label"):
        LearnedJudge(model="embedded:policy", labels=(str(empty),)).prepare()
    learned = {"use": "learned", "model": "embedded:policy", "labels": ["empty"]}
    (tmp_path / "config.yaml").write_text(json.dumps(settings(judge=learned)))
    done = prefloop(tmp_path, "train", "config.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "labels.0: " in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_damaged_ledger_is_named(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "run.json").write_text((whole / "run.json").read_text())
    (tmp_path / "judgements.jsonl").write_text('{"step": 1\n')
    with pytest.raises(UserError, match=r"judgements\.jsonl:1 is broken JSON"):
        LearnedJudge(model="embedded:policy", labels=(str(tmp_path),)).prepare()


def test_the_command_judge_reports_on_what_it_learnt_from_a_file(tmp_path: Path) -> None:
    """Agreement and reliability on pairs that it has not seen."""
    write_pairs(tmp_path / "labels.jsonl", pairs(60))
    write_pairs(tmp_path / "fresh.jsonl", pairs(80, seed=1))
    judge = {"use": "learned", "model": "embedded:policy", "labels": ["labels.jsonl"]}
    (tmp_path / "config.yaml").write_text(json.dumps(settings(judge=judge)))
    done = prefloop(tmp_path, "judge", "config.yaml", "fresh.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["judges"]
    assert found["judge"] == "prefloop-judge-learned:learned"
    assert found["agreement"]["rate"] > 0.95 and found["abstentions"] < 0.5
    assert found["calibration"]["ece"] < 0.15
    assert found["position"]["gap"] < 1e-6
