"""Runs that `prefloop train --ranks` and `mlx.launch` start: what becomes of them when something breaks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from prefloop import load_config, open_run, train
from support.small_runs import lines, settings_for

PATIENCE = 240.0
LABEL = ("step", "prompt_id", "first", "second", "probability")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as one process makes it."""
    path = tmp_path_factory.mktemp("alone") / "run"
    train(load_config(settings_for(path)))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(json.dumps(settings_for(tmp_path / "run")))
    return file


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prefloop", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output, errors


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(run: Path) -> int:
    """How many steps have been written down."""
    file = run / "metrics.jsonl"
    return file.read_text().count('"loss"') if file.exists() else 0


def labels(run: Path) -> Counter[str]:
    rows: list[dict[str, Any]] = lines(run / "judgements.jsonl")
    return Counter(json.dumps([row[key] for key in LABEL]) for row in rows)


def assert_same_end(run: Path, other: Path) -> None:
    assert open_run(run).status == "finished"
    assert labels(run) == labels(other)
    found, expected = (load_file(path / "adapters.safetensors") for path in (run, other))
    assert found.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    assert max(np.abs(found[name] - expected[name]).max() for name in expected) <= 1e-5 * largest


def children(process: subprocess.Popen[str]) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


def test_a_run_goes_on_where_a_rank_is_killed(config: Path, alone: Path) -> None:
    run = config.parent / "run"
    process = start(config, "--ranks", "3", "--restart", "1")
    wait_for(process, lambda: steps(run) >= 3)
    os.kill(random.choice(children(process)), signal.SIGKILL)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert "was ended by SIGKILL: going on with 2 ranks, restart 1 of 1" in errors
    assert "Traceback" not in errors
    assert_same_end(run, alone)


def test_a_run_that_lost_a_rank_is_resumed_with_others(config: Path, alone: Path) -> None:
    run = config.parent / "run"
    process = start(config, "--ranks", "2", "--silent-after", "4")
    wait_for(process, lambda: steps(run) >= 3)
    os.kill(random.choice(children(process)), signal.SIGSTOP)
    code, _, errors = ended(process)
    assert code == 1
    assert "said nothing for 4 s, and the others stopped" in errors
    assert f"prefloop train --resume {run}" in errors
    assert open_run(run).status == "interrupted"
    assert ended(start("--resume", run, "--ranks", "3"))[0] == 0
    assert_same_end(run, alone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_ends_the_run_cleanly(
    config: Path, alone: Path, number: signal.Signals
) -> None:
    run = config.parent / "run"
    process = start(config, "--ranks", "2", "--restart", "2")
    wait_for(process, lambda: steps(run) >= 2)
    process.send_signal(number)
    code, _, errors = ended(process)
    assert code == 130, errors
    assert open_run(run).status == "stopped"
    taken = steps(run)
    assert 2 <= taken < 7
    assert max(open_run(run).checkpoints()) == taken
    assert ended(start("--resume", run))[0] == 0
    assert_same_end(run, alone)


def test_ranks_do_not_outlive_a_parent_that_is_killed(config: Path, alone: Path) -> None:
    run = config.parent / "run"
    process = start(config, "--ranks", "2")
    wait_for(process, lambda: steps(run) >= 2)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while open_run(run).status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ended(start("--resume", run, "--ranks", "2"))[0] == 0
    assert_same_end(run, alone)


def test_a_mistake_is_said_once(config: Path) -> None:
    settings = settings_for(config.parent / "run", prompts={"path": "there-is-none.jsonl"})
    config.write_text(json.dumps(settings))
    code, _, errors = ended(start(config, "--ranks", "2"))
    assert code == 2
    assert errors.count("error:") == 1
    assert "there-is-none.jsonl" in errors
    assert not (config.parent / "run").exists()


def test_mlx_launch_starts_the_same_command(config: Path, alone: Path) -> None:
    """mlx's own launcher, as it starts ranks on other machines."""
    launcher = "import sys; from mlx._distributed_utils.launch import main; sys.exit(main())"
    hosts = ["-n", "2", "--backend", "ring", "--hosts", "127.0.0.1", "--starting-port", "31500"]
    command = [
        sys.executable,
        "-c",
        launcher,
        *hosts,
        "--",
        sys.executable,
        "-m",
        "prefloop",
        "train",
        config,
    ]
    process = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert_same_end(config.parent / "run", alone)
