"""An interrupted run, taken up again, ends as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from attrs import evolve, field, frozen

from prefloop import Pair, Run, Step, StopRun, UserError, Verdict, load_config, resume, train
from support.loops import Longer
from support.small_runs import SETTINGS, StopsAfter, lines, outcome, settings_for, timeless


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = train(load_config(settings_for(tmp_path_factory.mktemp("whole") / "run")))
    assert run.status == "finished"
    return outcome(run.path)


@pytest.mark.parametrize("step", [1, 2, 3, 6, 7])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, uninterrupted: Any, step: int) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    run = train(config, observers=[StopsAfter(step, StopRun("enough for today"))])
    assert (run.status, run.summary["steps"]) == ("stopped", step)
    assert resume(run.path).status == "finished"
    assert outcome(run.path) == uninterrupted


@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, uninterrupted: Any, step: int
) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    with pytest.raises(RuntimeError):
        train(config, observers=[StopsAfter(step, RuntimeError("power cut"))])
    assert resume(tmp_path / "run").status == "finished"
    assert outcome(tmp_path / "run") == uninterrupted


def test_a_run_killed_again_and_again_ends_the_same(tmp_path: Path, uninterrupted: Any) -> None:
    """SIGKILL at random moments, loading and saving included; the long campaign is in test_faults."""
    run = tmp_path / "run"
    (tmp_path / "config.yaml").write_text(json.dumps(settings_for(run)))
    dice = random.Random(1)
    for _ in range(2):
        _kill_after(_start(_command(run), tmp_path), run, dice.uniform(0.0, 1.5))
    assert _start(_command(run), tmp_path).wait(timeout=300) == 0
    assert outcome(run) == uninterrupted


def _command(run: Path) -> list[str]:
    return ["train", "--resume", str(run)] if (run / "run.json").exists() else ["train", "config.yaml"]


def _kill_after(process: subprocess.Popen[bytes], run: Path, seconds: float) -> None:
    """Let the process load, and kill it so long after it took the run up, which a finished one is not."""
    taken = run / ".lock"
    before = taken.stat().st_mtime_ns if taken.exists() else 0
    _wait_for(lambda: process.poll() is not None or (taken.exists() and taken.stat().st_mtime_ns > before))
    time.sleep(seconds)
    process.kill()
    process.wait()


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "prefloop", *command]
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_exits_with_130(
    tmp_path: Path, uninterrupted: Any, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    (tmp_path / "config.yaml").write_text(json.dumps(settings_for(run)))
    process = _start(["train", "config.yaml"], tmp_path)
    _wait_for(lambda: (run / "metrics.jsonl").exists() and len(lines(run / "metrics.jsonl")) >= 2)
    process.send_signal(number)
    assert process.wait(timeout=120) in (130, 0)
    manifest = json.loads((run / "run.json").read_text())
    if process.returncode == 130:
        assert manifest["status"] == "stopped"
        assert manifest["reason"] == f"stopped by {number.name}"
        assert (run / "adapters.safetensors").exists()
        resume(run)
    assert outcome(run) == uninterrupted


@frozen
class StopsEvaluating:
    """Stops the run once so much of a phase is done, in the evaluation after so many steps."""

    step: int
    phase: str
    done: int
    steps: list[int] = field(factory=list)

    def step_finished(self, step: Step) -> None:
        self.steps.append(step.progress.step)

    def evaluating(self, phase: str, done: int, total: int) -> None:
        if len(self.steps) == self.step and phase == self.phase and done >= self.done:
            raise StopRun("time for tea")


@pytest.mark.parametrize(
    ("step", "phase", "done"),
    [(0, "sampled", 0), (0, "judged", 4), (3, "sampled", 3), (3, "measured", 1), (7, "judged", 0)],
)
def test_an_evaluation_that_is_stopped_is_made_again(
    tmp_path: Path, uninterrupted: Any, step: int, phase: str, done: int
) -> None:
    """It leaves no record but the verdicts that were given, and nobody is asked for these again."""
    stops = StopsEvaluating(step, phase, done)
    stopped = train(load_config(settings_for(tmp_path / "run")), observers=[stops])
    assert (stopped.status, stopped.manifest["reason"]) == ("stopped", "time for tea")
    evaluated = [made.step for made in stopped.evaluations()]
    assert evaluated == [number for number in (0, 3, 6) if number < step]
    if step == 0:  # later ones may be about answers that were judged before
        assert len(lines(stopped.path / "judgements.jsonl")) == (4 if phase == "judged" else 0)
    assert resume(stopped.path).status == "finished"
    assert outcome(stopped.path) == uninterrupted


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.02)


class OneByOne:
    """A person of few words: tells each verdict as it comes, and leaves after so many."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.asked: list[str] = []

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        for place, pair in enumerate(pairs):
            if len(self.asked) == self.patience:
                raise StopRun("time for tea")
            self.asked.append(f"{pair.prompt.id} {pair.first.text} {pair.second.text}")
            yield place, Verdict(float(len(pair.first.text) > len(pair.second.text)))

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [verdict for _, verdict in self.answers(pairs)]


def test_no_label_of_a_person_is_asked_for_twice(tmp_path: Path) -> None:
    asked: list[str] = []
    run: Run | None = None
    for patience in (5, 4, 100):  # 5 is in the middle of the second step of three pairs
        judge = OneByOne(patience)
        training = {**SETTINGS["training"], "evaluate_every": 0}
        config = load_config(settings_for(tmp_path / "run", training=training, evaluation={"held_out": 0}))
        config = evolve(config, judge=judge)
        run = resume(run.path, config=config) if run else train(config)
        asked += judge.asked
    assert run is not None
    assert run.status == "finished"
    assert len(asked) == len(set(asked)) == 3 * 7


def test_a_torn_last_line_is_repaired(tmp_path: Path, uninterrupted: Any) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    run = train(config, observers=[StopsAfter(4, StopRun("enough"))])
    for name in ("metrics.jsonl", "judgements.jsonl"):
        with (run.path / name).open("ab") as stream:
            stream.write(b'{"step": 5, "first": {"te')
    resume(run.path)
    assert outcome(run.path) == uninterrupted


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    run = train(config, observers=[StopsAfter(4, StopRun("enough"))])
    (run.path / "checkpoints" / "0000004" / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"0000004' is damaged.*Remove it to go on from the one before"):
        resume(run.path)


def test_two_processes_cannot_have_one_run(tmp_path: Path) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    run = train(config, observers=[StopsAfter(1, StopRun("enough"))])
    with (run.path / ".lock").open("ab") as stream:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="in use by another process"):
            resume(run.path)


def test_changed_settings_of_a_started_run_are_refused(tmp_path: Path) -> None:
    config = load_config(settings_for(tmp_path / "run", training={"batch_size": 3, "iters": 2}))
    run = train(config)
    with pytest.raises(UserError, match=r"loss.beta from 0.1 to 0.2.*change only .*training.epochs"):
        resume(run.path, overrides=["loss.beta=0.2"])
    with pytest.raises(UserError, match=r"has taken 2 steps already: training\.iters: 1 would end before"):
        resume(run.path, overrides=["training.iters=1"])
    longer = resume(run.path, overrides=["training.iters=4", "training.report_every=1"])
    assert longer.summary["steps"] == 4


def test_a_run_saved_with_a_former_key_is_resumed(tmp_path: Path, uninterrupted: Any) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    run = train(config, observers=[StopsAfter(2, StopRun("enough for today"))])
    _as_saved_before(run.path / "config.yaml", max_same_outcome="max_one_kind", answer_column="answer")
    with pytest.warns(DeprecationWarning) as caught:
        assert resume(run.path).status == "finished"
    lines = sorted({str(w.message).partition(": ")[2].partition(";")[0] for w in caught})
    assert lines == [
        "evaluation.answer: is now evaluation.answer_column",
        "judging.max_one_kind: is now judging.max_same_outcome",
    ]
    assert outcome(run.path) == uninterrupted


def _as_saved_before(file: Path, **former: str) -> None:
    """Rewrite the configuration of a run with the names that keys had, signed as the run would have."""
    text = file.read_text().partition("\n")[2]
    for now, before in former.items():
        assert f" {now}: " in text
        text = text.replace(f" {now}: ", f" {before}: ")
    digest = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(f"# sha256 of what follows: {digest}\n{text}")


def test_a_longer_run_equals_one_that_was_long_from_the_start(tmp_path: Path) -> None:
    short = settings_for(tmp_path / "short", training={"batch_size": 3, "iters": 3, "learning_rate": 1e-3})
    whole = settings_for(tmp_path / "long", training={"batch_size": 3, "iters": 5, "learning_rate": 1e-3})
    train(load_config(whole))
    train(load_config(short))
    resume(tmp_path / "short", overrides=["training.iters=5"])
    adapters = [(tmp_path / name / "adapters.safetensors").read_bytes() for name in ("short", "long")]
    assert adapters[0] == adapters[1]


def test_a_run_with_a_schedule_cannot_be_lengthened(tmp_path: Path) -> None:
    run = train(load_config(settings_for(tmp_path / "run")), observers=[StopsAfter(1, StopRun("enough"))])
    with pytest.raises(UserError, match="its learning-rate schedule 'cosine_decay' was laid out over it"):
        resume(run.path, overrides=["training.iters=9"])


def test_a_rollout_survives_a_kill(tmp_path: Path) -> None:
    """Sampled before steps 1, 4 and 7, saved after step 4, killed after step 5."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    plain, sampler = settings_for(run), {"max_completion_length": 8}
    settings = plain | {"training": {**plain["training"], "rollout": 3}, "sampler": sampler}
    train(load_config(settings | {"output": str(whole)}))
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    process = subprocess.run([sys.executable, "-c", KILLED, "config.yaml", "5"], cwd=tmp_path, check=False)
    assert process.returncode == -signal.SIGKILL
    assert max(folder.name for folder in (run / "checkpoints").iterdir()) == "0000004", "not in mid-round"
    assert resume(run).status == "finished"
    assert outcome(run) == outcome(whole)


KILLED = """
import os, signal, sys
from prefloop.cpu import blas

blas.use_fastest()  # before mlx is imported: the tests' own library, as others round otherwise
from prefloop import load_config, train

class Kill:
    def step_finished(self, step):
        if step.progress.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

train(load_config(sys.argv[1]), observers=[Kill()])
"""


@frozen
class Hesitant:
    """A bonus that is worth more from call to call."""

    calls: list[int] = field(factory=list)

    def __call__(self, scores: Any, progress: Any) -> mx.array:
        self.calls.append(1)
        return 0.01 * len(self.calls) * scores.policy_chosen

    def state(self) -> dict[str, mx.array]:
        return {"calls": mx.array(len(self.calls))}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.calls[:] = [1] * int(state["calls"].item())


def test_the_state_of_any_component_is_restored(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "whole", bonuses=[])
    train(evolve(load_config(plain), bonuses=(Hesitant(),)))
    config = load_config(settings_for(tmp_path / "run", bonuses=[]))
    train(evolve(config, bonuses=(Hesitant(),)), observers=[StopsAfter(4, StopRun("enough"))])
    resume(tmp_path / "run", config=evolve(config, bonuses=(Hesitant(),)))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_dora_and_full_fine_tuning_resume_exactly(tmp_path: Path, kind: str) -> None:
    adapters = []
    for name, observers in (("whole", []), ("parts", [StopsAfter(3, StopRun("enough"))])):
        settings = settings_for(tmp_path / name, adapter={"type": kind, "rank": 2, "layers": 1})
        run = train(load_config(settings), observers=observers)
        if run.status == "stopped":
            run = resume(run.path)
        adapters.append((run.path / "adapters.safetensors").read_bytes())
    assert adapters[0] == adapters[1]


def test_the_newest_the_best_and_some_over_the_run_are_kept(tmp_path: Path) -> None:
    training = {"batch_size": 3, "iters": 8, "save_every": 1, "evaluate_every": 2, "keep_last": 2}
    training["keep_spread"] = 1
    run = train(load_config(settings_for(tmp_path / "run", training=training)))
    kept = sorted(int(folder.name) for folder in (run.path / "checkpoints").iterdir())
    metrics = [m for m in timeless(run.path / "metrics.jsonl") if "evaluation" in m and m["step"] > 0]
    best = max(metrics, key=lambda m: m["evaluation"]["win_rate"]["rate"])["step"]
    assert kept == sorted({4, 7, 8, best})


@frozen
class Explodes:
    """A loss that is NaN from its second step on."""

    calls: list[int] = field(factory=list)

    def __call__(self, scores: Any) -> mx.array:
        self.calls.append(1)
        return scores.margin * (float("nan") if len(self.calls) > 1 else 1.0)


def test_steps_with_an_undefined_gradient_are_left_out_and_end_the_run(tmp_path: Path) -> None:
    training = {"batch_size": 3, "iters": 20, "max_skipped": 3}
    config = load_config(settings_for(tmp_path / "run", training=training, evaluation={"held_out": 0}))
    run = train(evolve(config, loss=Explodes(), judge=Longer()))  # it labels every pair
    assert run.status == "failed"
    assert "infinite or undefined for 3 steps in a row" in run.manifest["reason"]
    metrics = timeless(run.path / "metrics.jsonl")
    assert [m["skipped"] for m in metrics] == [0.0, 1.0, 1.0, 1.0]
    assert metrics[1]["grad_norm"] is None
    trained = mx.load(str(run.path / "adapters.safetensors"))
    assert isinstance(trained, dict)
    assert all(bool(mx.all(mx.isfinite(value))) for value in trained.values())


def test_a_run_that_needs_more_memory_than_allowed_is_refused(tmp_path: Path) -> None:
    training = {**SETTINGS["training"], "memory_limit_gb": 0.0001}
    with pytest.raises(UserError, match=r"training.memory_limit_gb allows 0.1 MB.*memory_limit_gb: 0"):
        train(load_config(settings_for(tmp_path / "run", training=training)))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_with_a_clear_message(tmp_path: Path, uninterrupted: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        with pytest.raises(UserError, match=r"cannot write to .*No space left on device.*--resume"):
            train(load_config(settings_for(disk / "run")))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert resume(disk / "run").status == "finished"
        assert outcome(disk / "run") == uninterrupted
    finally:
        subprocess.run(["umount", str(disk)], check=True)
