"""Workers that vanish, stand still, come later, or are the wrong ones; runs that are killed and go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_sampling import loop, sampler

from conftest import Process, Start
from prefloop import Loop, Policy, Step, UserError, open_run
from prefloop.cli.common import configure_process
from prefloop.config import AdapterConfig
from prefloop.runs.records import StepMetrics

STALENESS = 3


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def check_versions(step: Step, bound: int = STALENESS) -> None:
    """Every completion is of a known version that is not too old, and the metric says its age."""
    versions = [c.version for pair in step.pairs for c in (pair.first, pair.second)]
    assert all(version is not None for version in versions)
    ages = [step.progress.step - 1 - (version or 0) for version in versions]
    assert 0 <= min(ages) <= max(ages) <= bound
    assert step.metrics["age_max"] == max(ages)


def until(steps: Iterator[Step], workers: int, most: int = 400) -> None:
    """Take steps until so many workers answer."""
    for step in steps:
        check_versions(step)
        if step.metrics["remote_workers"] == workers:
            return
        time.sleep(0.05)
        most -= 1
        assert most, f"there are never {workers} workers"
    raise AssertionError("the run has ended")


@pytest.mark.slow
def test_workers_are_killed_added_and_stopped_and_the_run_goes_on(start: Start, token_file: Path) -> None:
    one, two, port = start(), start(), free_port()
    urls = [one.url, two.url, f"http://127.0.0.1:{port}"]
    remote = sampler(urls, token_file, max_staleness=STALENESS, timeout=2.0, portion=1)
    trained = loop(remote, iters=1000)
    steps = iter(trained)
    until(steps, workers=2)
    one.running.send_signal(signal.SIGKILL)
    until(steps, workers=1)
    three = start(port)
    until(steps, workers=2)
    os.kill(two.running.pid, signal.SIGSTOP)
    until(steps, workers=1)
    os.kill(two.running.pid, signal.SIGCONT)
    until(steps, workers=2)
    for process in (two, three):
        process.running.send_signal(signal.SIGKILL)
    until(steps, workers=0)
    alone = next(steps)
    check_versions(alone)
    assert alone.metrics["remote_here"] > 0
    remote.close()


def test_a_worker_may_come_after_the_learner(start: Start, token_file: Path) -> None:
    port = free_port()
    remote = sampler([f"http://127.0.0.1:{port}"], token_file, max_staleness=1, portion=2)
    steps = iter(loop(remote, iters=1000))
    first = next(steps)
    check_versions(first, 1)
    assert first.metrics["remote_here"] == 8 and first.metrics["remote_workers"] == 0
    start(port)
    until(steps, workers=1)
    later = next(steps), next(steps), next(steps)
    assert later[-1].metrics["remote_here"] == 0
    remote.close()


def test_wrong_workers_are_found_before_the_run(
    worker: Process, start: Start, token_file: Path, tmp_path: Path
) -> None:
    policy = Policy.load("embedded:policy")
    other = tmp_path / "token"
    other.write_text("another-token-of-the-tests")
    nobody = f"http://127.0.0.1:{free_port()}"
    for remote, words in (
        (sampler(worker, other), "does not take the token"),
        (sampler(start(model="embedded:judge").url.split(), token_file), "another base model"),
        (sampler(worker, token_file, max_completion_length=9000), "8,192"),
        (sampler(worker, tmp_path / "none"), "the token cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            remote.check_policy(policy, [])
        remote.close()
    full = Policy.load("embedded:policy", AdapterConfig(type="full", layers=1))
    with pytest.raises(UserError, match="lora or dora"):
        sampler([nobody], token_file).check_policy(full, [])
    unreachable = sampler([nobody], token_file)
    unreachable.check_policy(policy, [])  # it may come yet
    unreachable.close()


def test_a_rollout_longer_than_the_bound_is_refused(token_file: Path) -> None:
    from attrs import evolve

    remote = sampler(["http://127.0.0.1:1"], token_file, max_staleness=2)
    made = loop(remote)
    with pytest.raises(UserError, match="max_staleness allows 2"):
        Loop(
            made.policy,
            made.prompts,
            judge=made.judge,
            sampler=remote,
            training=evolve(made.training, rollout=4),
        )


CONFIG = """
model: embedded:policy
judge: {use: rule, prefer: [Sure, hope], length: longer}
prompts: embedded:prompts
sampler: {use: remote, workers: [WORKER], token_file: TOKEN, max_completion_length: 12,
  max_staleness: STALENESS, portion: 2, pause: 0.2, timeout: 5}
training: {batch_size: 4, iters: 12, learning_rate: 1.0e-3, save_every: 2}
output: {path: RUN, report: false}
"""


def written(tmp_path: Path, worker: Process, token_file: Path, staleness: int, name: str) -> Path:
    run = tmp_path / name
    text = CONFIG.replace("WORKER", worker.url).replace("TOKEN", str(token_file)).replace("RUN", str(run))
    (tmp_path / f"{name}.yaml").write_text(text.replace("STALENESS", str(staleness)))
    return run


def prefloop(*arguments: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "prefloop", *map(str, arguments)])


def killed_at(run: Path, process: subprocess.Popen[bytes], step: int) -> None:
    """Kill a run once it has a checkpoint of that step or a later one."""
    while not (run / "run.json").exists() or max(open_run(run).checkpoints(), default=0) < step:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.02)
    process.kill()
    process.wait()


def adapters(run: Path) -> Any:
    import mlx.core as mx

    found: Any = mx.load(str(run / "adapters.safetensors"))
    return {name: value.tolist() for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, 4])
def test_a_killed_run_goes_on(worker: Process, token_file: Path, tmp_path: Path, staleness: int) -> None:
    """With staleness 0 to the same end as a whole one; otherwise every version is in the ledger."""
    configure_process()
    run = written(tmp_path, worker, token_file, staleness, "killed")
    killed_at(run, prefloop("train", tmp_path / "killed.yaml"), 4)
    assert prefloop("train", "--resume", run).wait() == 0
    view = open_run(run)
    assert view.status == "finished"
    judged = [j for j in view.judgements().records if not j.evaluation]
    assert len(judged) >= 12 * 4
    assert all(c.version is not None for j in judged for c in (j.pair.first, j.pair.second))
    taken = [m for m in view.metrics().records if isinstance(m, StepMetrics)]
    assert len(taken) == 12
    assert all(m.metrics["age_max"] <= staleness for m in taken)
    if not staleness:
        whole = written(tmp_path, worker, token_file, staleness, "whole")
        assert prefloop("train", tmp_path / "whole.yaml").wait() == 0
        assert adapters(run) == adapters(whole)
