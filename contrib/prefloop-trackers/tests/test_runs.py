"""Real runs with every tracker that is installed, offline: killed, taken up again, and read back."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import reading
from attrs import frozen

from prefloop import Evaluation, StepMetrics, open_run

pytestmark = pytest.mark.slow

STEPS, SAVE_EVERY, REPORT_EVERY, PAIRS = 60, 20, 20, 3
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "wandb": {"mode": "offline"},
    "trackio": {},
    "tensorboard": {},
    "mlflow": {},
    "swanlab": {"mode": "offline"},
}
MODULES = {
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "tensorboard": ("tensorboardX", "tensorboard"),  # which reads what the other one wrote
    "mlflow": ("mlflow", "sqlalchemy"),  # which the whole of mlflow brings, for its database
    "swanlab": ("swanlab",),
}
INSTALLED = [name for name, modules in MODULES.items() if all(map(importlib.util.find_spec, modules))]


def config(folder: Path, observers: list[dict[str, Any]], steps: int = STEPS) -> Path:
    """A configuration file. JSON is YAML."""
    settings = {
        "model": "embedded:policy",
        "judge": {"use": "rule", "length": "shorter"},
        "prompts": {"path": "embedded:prompts", "limit": 40},
        "evaluation": {"held_out": 4, "judge": ["training", {"use": "rule", "length": "longer"}]},
        "sampler": {"max_completion_length": 8},
        "adapter": {"rank": 2, "layers": 1},
        "training": {
            "batch_size": 2,
            "iters": steps,
            "save_every": SAVE_EVERY,
            "report_every": REPORT_EVERY,
            "learning_rate": 1e-5,
        },
        "output": {"path": str(folder / "run")},
        "observers": observers,
    }
    (folder / "config.yaml").write_text(json.dumps(settings))
    return folder / "config.yaml"


def environment(folder: Path) -> dict[str, str]:
    away = {"HOME": str(folder), "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    return os.environ | away


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prefloop", "train", *arguments]
    out = (folder / "out.txt").open("a")
    return subprocess.Popen(
        command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, text=True, env=environment(folder)
    )


def told(run: Path, names: list[str]) -> int:
    """The last step that all of them have been told."""
    try:
        return min(json.loads((run / "trackers" / f"{name}.json").read_text())["step"] for name in names)
    except (OSError, ValueError):
        return -1


@frozen
class Killed:
    run: Path
    at: dict[str, int]
    """The last step that each tracker had been told when the run was killed."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """A run that was killed some steps after a checkpoint, and taken up again."""
    folder = tmp_path_factory.mktemp("killed")
    options = {name: dict(OPTIONS[name]) for name in INSTALLED}
    if "mlflow" in options:
        from mlflow.tracking import MlflowClient

        options["mlflow"]["tracking_uri"] = f"sqlite:///{folder / 'mlflow.db'}"
        MlflowClient(options["mlflow"]["tracking_uri"]).search_experiments()  # makes the database
    observers = [{"use": name, "pairs": PAIRS, **given} for name, given in options.items()]
    process, run = start(folder, str(config(folder, observers))), folder / "run"
    quick = [name for name in INSTALLED if name != "mlflow"]  # importing it takes longer than the run
    while process.poll() is None and not (
        told(run, quick) % SAVE_EVERY in range(4, 15) and told(run, quick) > 24
    ):
        time.sleep(0.01)
    assert process.poll() is None, (folder / "out.txt").read_text()
    process.kill()
    process.wait()
    at = {name: told(run, [name]) for name in quick}
    assert start(folder, "--resume", "run").wait(timeout=600) == 0, (folder / "out.txt").read_text()
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    yield Killed(run, at)
    os.environ.pop("TRACKIO_DIR")
    if before:
        os.environ["TRACKIO_DIR"] = before


@pytest.fixture(params=list(OPTIONS))
def tracker(request: pytest.FixtureRequest) -> str:
    if request.param not in INSTALLED:
        pytest.skip(f"not all of {', '.join(MODULES[request.param])} is installed")
    return str(request.param)


def test_a_killed_run_goes_on_as_one_with_every_step_once(killed: Killed, tracker: str) -> None:
    assert killed.at.get(tracker, 25) % SAVE_EVERY > 0, "it was killed at a checkpoint, which proves nothing"
    found = getattr(reading, tracker)(killed.run)
    assert len(found.ids) == 1
    records = open_run(killed.run).metrics().records
    steps = [made for made in records if isinstance(made, StepMetrics)]
    assert len(steps) == STEPS
    for name in ("loss", "learning_rate", "completion_length", "epoch"):
        values = [(made.step, made.metrics.get(name, math.nan)) for made in steps]
        expected = [(step, value) for step, value in values if math.isfinite(value)]
        points = sorted(found.numbers[f"train/{name}"])
        assert [step for step, _ in points] == [step for step, _ in expected], name
        assert [v for _, v in points] == pytest.approx([v for _, v in expected], rel=1e-4, abs=1e-6), name


def test_evaluations_are_there_by_judge_with_their_intervals(killed: Killed, tracker: str) -> None:
    found = getattr(reading, tracker)(killed.run)
    made = [m for m in open_run(killed.run).metrics().records if isinstance(m, Evaluation)]
    assert [m.step for m in made] == [0, STEPS]
    for name, rates in (
        ("eval/win_rate", [m.win_rate for m in made]),
        ("eval/prefloop-rule/win_rate", [m.win_rate for m in made]),
        ("eval/prefloop-rule-2/win_rate", [m.others[0].win_rate for m in made]),
    ):
        for ending, side in (("", "rate"), ("_low", "low"), ("_high", "high")):
            expected = [(m.step, getattr(r, side)) for m, r in zip(made, rates, strict=True)]
            points = sorted(found.numbers[name + ending])
            assert [step for step, _ in points] == [step for step, _ in expected], name
            assert [v for _, v in points] == pytest.approx([v for _, v in expected], abs=1e-6), name


def test_configuration_pairs_and_report_are_there(killed: Killed, tracker: str) -> None:
    found = getattr(reading, tracker)(killed.run)
    assert float(found.config["training.learning_rate"]) == 1e-5
    assert found.config["judge.use"] == "prefloop:rule"
    assert set(found.tables["pairs/train"]) >= {STEPS}
    assert set(found.tables["pairs/train"]) <= set(range(REPORT_EVERY, STEPS + 1, REPORT_EVERY))
    assert set(found.tables["pairs/eval"]) >= {STEPS}
    assert any("report" in file for file in found.files)


def wait_until(done: Callable[[], bool], process: subprocess.Popen[str], out: Path) -> None:
    until = time.monotonic() + 240
    while not done():
        assert process.poll() is None and time.monotonic() < until, out.read_text()
        time.sleep(0.02)


def processes_below(parent: int, name: str) -> list[int]:
    """Ids of the descendants of a process that are called `name`."""
    command = ["ps", "-A", "-o", "pid=,ppid=,comm="]
    rows = [line.split(None, 2) for line in subprocess.check_output(command, text=True).splitlines()]
    family, grown = {parent}, True
    while grown:
        born = {int(pid) for pid, ppid, _ in rows if int(ppid) in family} - family
        family, grown = family | born, bool(born)
    return [int(pid) for pid, _, comm in rows if int(pid) in family and name in comm]


def test_a_run_outlives_the_service_of_wandb(tmp_path: Path) -> None:
    if "wandb" not in INSTALLED:
        pytest.skip("prefloop-trackers[wandb] is not installed")
    out, run = tmp_path / "out.txt", tmp_path / "run"
    process = start(tmp_path, str(config(tmp_path, [{"use": "wandb", "mode": "offline", "wait": 30}])))
    wait_until(lambda: told(run, ["wandb"]) >= 3, process, out)
    services = processes_below(process.pid, "wandb-core")
    assert services
    for service in services:
        os.kill(service, signal.SIGKILL)
    assert process.wait(timeout=300) == 0, out.read_text()
    assert open_run(run).status == "finished"
    assert "wandb failed, and the run goes on without it:" in out.read_text()
    found = reading.wandb(run)
    assert len(found.ids) == 1
    assert sorted(step for step, _ in found.numbers["train/epoch"]) == list(range(1, STEPS + 1))


@pytest.mark.skipif(
    "mlflow" not in INSTALLED, reason="the whole of mlflow, with its server, is not installed"
)
def test_a_run_outlives_the_server_of_mlflow(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    log = (tmp_path / "server.txt").open("w")
    server = subprocess.Popen(
        command, cwd=tmp_path, stdout=log, stderr=log, env=environment(tmp_path), start_new_session=True
    )
    try:
        address, out, run = f"http://127.0.0.1:{port}", tmp_path / "out.txt", tmp_path / "run"
        wait_until(lambda: is_up(f"{address}/health"), server, tmp_path / "server.txt")
        observers = [{"use": "mlflow", "tracking_uri": address, "wait": 5}]
        process = start(tmp_path, str(config(tmp_path, observers, steps=120)))
        wait_until(lambda: told(run, ["mlflow"]) >= 3, process, out)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
    assert process.wait(timeout=300) == 0, out.read_text()
    assert open_run(run).status == "finished"
    said = out.read_text()
    assert said.count("mlflow failed, and the run goes on without it:") == 1
    assert re.search(r"mlflow lacks \d+ of \d+ entries", said)


def is_up(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
