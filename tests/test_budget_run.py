"""Runs in which a person has a budget: killed in the middle of a step, they end as if they had not been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefloop import open_run
from prefloop.types import PERSON
from prefloop_plugins.closing import closing_words
from prefloop_plugins.report.audited import audit_in
from prefloop_plugins.report.page import page
from prefloop_plugins.report.reading import read_run
from support.small_runs import lines, outcome, settings_for

BUDGET = 13
SCRIPT = """
import os, signal, sys
from pathlib import Path
from attrs import evolve, frozen
from prefloop import BaseJudge, Verdict, load_config, resume, train
from prefloop_plugins.judges.budget import coin
from prefloop_plugins.judges.cascade import CascadeJudge

ANSWERS = Path("answers.txt")
config, members, killed_at = sys.argv[1], sys.argv[2], int(sys.argv[3])

@frozen
class Cheap(BaseJudge):
    def judge(self, pairs):
        return [Verdict(0.3 + 0.6 * coin(pair, 7)) for pair in pairs]

@frozen
class Person(BaseJudge):
    interactive = True

    def answers(self, pairs):
        for place, pair in enumerate(pairs):
            with ANSWERS.open("a+") as file:
                file.seek(0)
                if len(file.readlines()) == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                print(coin(pair, 0), file=file)
            yield place, Verdict(float(pair.first.text > pair.second.text))

    def judge(self, pairs):
        return [verdict for _, verdict in self.answers(pairs)]

of = [Person()] if members == "alone" else [Cheap(), Person()]
options = {"budget": 13, "budget_per_step": 2, "audit": 0.0 if members == "alone" else 0.3}
loaded = evolve(load_config(config), judge=CascadeJudge(of, **options))
run = Path(loaded.output.path)
print((resume(run, config=loaded) if (run / "run.json").exists() else train(loaded)).status)
"""


def start(
    folder: Path, members: str, killed_at: int = -1, **training: Any
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    settings = settings_for(folder / "run", judge={"use": "rule", "length": "longer"}, evaluation=None)
    settings["training"] = {
        **settings["training"],
        "batch_size": 6,
        "iters": 7,
        "evaluate_every": 0,
        **training,
    }
    del settings["evaluation"]
    (folder / "config.yaml").write_text(json.dumps(settings))
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "config.yaml", members, str(killed_at)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def answers(folder: Path) -> list[str]:
    return (folder / "answers.txt").read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize("rollout", [1, 3])
def test_a_budget_is_spent_alike_after_kills_in_the_middle_of_steps(tmp_path: Path, rollout: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start(whole, "both", rollout=rollout)
    assert done.stdout.split("\n")[-2] == "finished", done.stderr
    said = f"labels   the budget of {BUDGET} is spent; the run goes on with the other members"
    assert done.stdout.count(said) == 1
    assert len(answers(whole)) == BUDGET
    for at in (1, 4, 5, 9, 12):
        assert start(killed, "both", at, rollout=rollout).returncode == -signal.SIGKILL
    assert start(killed, "both", rollout=rollout).stdout.endswith("finished\n")
    assert answers(killed) == answers(whole)
    assert len(set(answers(killed))) == BUDGET, "a label was asked for twice"
    (whole / "run" / "evaluations").mkdir(exist_ok=True)
    (killed / "run" / "evaluations").mkdir(exist_ok=True)
    assert outcome(killed / "run") == outcome(whole / "run")


@pytest.mark.slow
def test_what_the_audit_found_is_told_by_the_run_and_its_report(tmp_path: Path) -> None:
    assert start(tmp_path, "both").stdout.endswith("finished\n")
    folder = tmp_path / "run"
    run = read_run(folder)
    verdicts = [judged.verdict for judged in run.judged]
    asked = [v for v in verdicts if v.by == PERSON]
    audits = [v for v in asked if v.audit == 0.3]
    found = audit_in(run)
    assert found is not None
    assert (found.asked, found.audited) == (len(asked), len(audits)) == (BUDGET, len(audits))
    assert audits
    steps = [line for line in lines(folder / "metrics.jsonl") if "evaluation" not in line]
    assert sum(line.get("asked", 0) for line in steps) == BUDGET
    assert sum(line.get("audited", 0) for line in steps) == len(audits)
    assert sum(line.get("reversed", 0) for line in steps) == sum(v.reverses for v in audits)
    words = f"A person was asked about {BUDGET} of {BUDGET} pairs, {len(audits)} of them drawn"
    assert words in closing_words(open_run(folder))
    html = page([run])
    assert words in html
    assert "labels used that the person would reverse" in html


@pytest.mark.slow
def test_a_person_alone_ends_the_run_when_the_budget_is_spent(tmp_path: Path) -> None:
    done = start(tmp_path, "alone", 5)
    assert done.returncode == -signal.SIGKILL
    assert start(tmp_path, "alone", iters=20).stdout.endswith("stopped\n")
    run = open_run(tmp_path / "run")
    assert (run.manifest["reason"], run.manifest["resumable"]) == ("the budget of 13 labels is spent", False)
    assert run.summary["steps"] == 7  # two labels a step
    assert len(set(answers(tmp_path))) == len(answers(tmp_path)) == BUDGET
    words = closing_words(run)
    assert f"A person was asked about {BUDGET} of {BUDGET} pairs" in words
    assert "Stopped after 7 of 20 steps: the budget of 13 labels is spent." in words
    assert "--resume" not in words
