"""A queue of real runs: killed, taken up again and failing in the middle, it comes to the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefloop.runs.holding import holder_of
from support.small_runs import SETTINGS, outcome

NAMES = [f"{config}-seed{seed}" for config in ("a", "b") for seed in (0, 1, 2)]
LONG_ENOUGH = {**SETTINGS["training"], "iters": 14}
"""So that a run is still going on when it is killed."""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prefloop", "train", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder: Path, *arguments: str) -> tuple[int, str]:
    process = start(folder, *arguments)
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.02)


def taking_steps(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and len(metrics.read_bytes().splitlines()) >= 2


def write_configs(folder: Path, **configs: dict[str, Any]) -> None:
    for name, changes in configs.items():
        settings = {**SETTINGS, "output": {"report": False}, **changes}
        (folder / f"{name}.yaml").write_text(json.dumps(settings))


def statuses(queue: Path) -> dict[str, str]:
    return {file.parent.name: json.loads(file.read_text())["status"] for file in queue.glob("*/run.json")}


@pytest.mark.slow
def test_a_queue_that_is_killed_again_and_again_comes_to_the_same(tmp_path: Path) -> None:
    """A run, the queue with its run, the queue alone, whose run goes on; then it is asked to stop."""
    write_configs(
        tmp_path, a={"training": LONG_ENOUGH}, b={"training": {**LONG_ENOUGH, "learning_rate": 5e-4}}
    )
    given = ("a.yaml", "b.yaml", "--seeds", "3", "--output")
    code, said = finish(tmp_path, *given, "whole")
    assert code == 0, said
    assert "6 of 6 runs are finished." in said

    queue = tmp_path / "killed"
    process = start(tmp_path, *given, "killed")
    wait_for(lambda: taking_steps(queue / NAMES[1]))
    os.kill(holder_of(queue / NAMES[1]) or 0, signal.SIGKILL)
    wait_for(lambda: taking_steps(queue / NAMES[2]))
    assert process.poll() is None  # the queue goes on with the next
    run = holder_of(queue / NAMES[2])
    process.kill()
    os.kill(run or 0, signal.SIGKILL)
    process.communicate()
    assert statuses(queue) == {NAMES[0]: "finished", NAMES[1]: "running", NAMES[2]: "running"}

    process = start(tmp_path, "--resume", "killed")
    wait_for(lambda: taking_steps(queue / NAMES[3]))
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()  # what the run prints from here on, nobody reads
    assert holder_of(queue / NAMES[3])  # it goes on, and whoever takes up the queue waits for it
    process = start(tmp_path, "--resume", "killed")
    wait_for(lambda: taking_steps(queue / NAMES[4]))
    process.terminate()
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert f"The queue was killed, and '{NAMES[3]}' of it goes on. Waiting for its end." in said
    assert "To go on:\n  prefloop train --resume killed" in said
    assert statuses(queue) == {**dict.fromkeys(NAMES[:4], "finished"), NAMES[4]: "stopped"}

    code, said = finish(tmp_path, "--resume", "killed")
    assert code == 0, said
    assert NAMES[0] not in said.partition("By setting")[0]  # what is finished is left alone
    assert {name: outcome(queue / name) for name in NAMES} == {
        name: outcome(tmp_path / "whole" / name) for name in NAMES
    }
    tables = [
        (at / "comparison.md").read_text().partition("## By run")[0] for at in (queue, tmp_path / "whole")
    ]
    assert tables[0].splitlines()[4:] == tables[1].splitlines()[4:]


@pytest.mark.slow
def test_a_run_that_fails_in_the_middle_keeps_no_other_from_its_turn(tmp_path: Path) -> None:
    (tmp_path / "taste.py").write_text(
        "def prefer(prompt, first, second):\n    raise RuntimeError('no key')\n"
    )
    write_configs(
        tmp_path,
        a={},
        bad={"judge": {"use": "function", "call": "taste:prefer"}},
        gone={"model": "./gone"},
        z={},
    )
    write_configs(tmp_path, z={"adapter": {"rank": 4, "layers": 1}})
    code, said = finish(tmp_path, "a.yaml", "bad.yaml", "gone.yaml", "z.yaml", "--output", "queue")
    assert code == 1
    queue = tmp_path / "queue"
    assert statuses(queue) == {"a": "finished", "bad": "failed", "z": "finished"}
    assert "gone failed: model './gone': there is no such folder." in said
    assert "no key" in said.partition("By run")[2]

    before = outcome(queue / "a")
    code, said = finish(tmp_path, "--resume", "queue")
    assert (code, "── run" in said) == (1, False)  # nothing is left but what failed

    (tmp_path / "taste.py").write_text(
        "def prefer(prompt, first, second):\n    return len(first) > len(second)\n"
    )
    (tmp_path / "gone.yaml").unlink()  # the queue has its own
    code, said = finish(tmp_path, "--resume", "queue", "--retry-failed", "--accept-change")
    assert code == 1
    assert [s for s in said.splitlines() if s.startswith("──")] == [
        "── run 2 of 4: bad",
        "── run 3 of 4: gone",
    ]
    assert statuses(queue) == {"a": "finished", "bad": "finished", "z": "finished"}
    assert outcome(queue / "a") == before


@pytest.mark.slow
def test_a_run_of_a_queue_is_the_run_alone(tmp_path: Path) -> None:
    """Its configuration is complete, and what it learns does not depend on the queue."""
    write_configs(tmp_path, a={})
    code, said = finish(tmp_path, "a.yaml", "--set", "loss.beta=[0.05,0.5]", "--output", "queue")
    assert code == 0, said
    alone = ["queue/a-beta0.5.yaml", "--set", "output.path=alone"]
    assert finish(tmp_path, *alone)[0] == 0
    assert outcome(tmp_path / "alone") == outcome(tmp_path / "queue" / "a-beta0.5")
    assert outcome(tmp_path / "alone") != outcome(tmp_path / "queue" / "a-beta0.05")
    one = ("--grid", "loss.beta=0.5", "--seeds", "1")  # one run is a run as ever
    assert finish(tmp_path, "a.yaml", *one, "--set", "output.path=today")[0] == 0
    assert outcome(tmp_path / "today") == outcome(tmp_path / "alone")


@pytest.mark.slow
def test_a_dry_run_of_several_tries_each_setting_once_and_writes_nothing(tmp_path: Path) -> None:
    write_configs(tmp_path, a={})
    code, said = finish(tmp_path, "a.yaml", "--grid", "loss=sigmoid,ipo", "--seeds", "2", "--dry-run")
    assert code == 0, said
    assert said.count("Nothing was written. Everything is ready to train.") == 2
    assert "── a-sigmoid-seed0" in said
    assert "── a-ipo-seed0" in said
    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]
