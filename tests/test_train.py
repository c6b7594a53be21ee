"""A whole run from a configuration, and the directory it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import frozen

from prefloop import (
    Config,
    Evaluation,
    Pair,
    Run,
    Step,
    StopRun,
    UserError,
    Verdict,
    load_config,
    resume,
    train,
)
from support import small_runs
from support.small_runs import lines

SETTINGS: dict[str, Any] = {
    **small_runs.SETTINGS,
    "sampler": {"max_completion_length": 12},
    "training": {"batch_size": 4, "iters": 3, "save_every": 2, "evaluate_every": 2, "learning_rate": 1e-2},
    "evaluation": {"held_out": 4, "answer_column": "answer"},
}


def config_for(path: Path, **changes: Any) -> Config:
    return load_config({**SETTINGS, **changes, "output": {"path": str(path), "report": False}})


class Ear:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.compared: list[tuple[int, Pair]] = []

    def run_started(self, run: Run) -> None:
        self.heard.append("started")

    def step_finished(self, step: Step) -> None:
        self.heard.append(f"step {step.progress.step}")

    def evaluated(self, evaluation: Evaluation) -> None:
        self.heard.append(f"evaluated {evaluation.step}")
        self.compared += [(evaluation.step, pair) for pair in evaluation.pairs]

    def checkpoint_saved(self, step: int, path: str) -> None:
        self.heard.append(f"saved {step}")

    def run_finished(self, run: Run) -> None:
        self.heard.append(f"{run.status}")


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    ear = Ear()
    run = train(config_for(tmp_path / "run"), observers=[ear])

    told = (
        "started, evaluated 0, step 1, step 2, evaluated 2, saved 2, step 3, evaluated 3, saved 3, finished"
    )
    assert ", ".join(ear.heard) == told

    metrics = lines(run.path / "metrics.jsonl")
    assert [m["step"] for m in metrics] == [0, 1, 2, 2, 3, 3]
    assert [m["step"] for m in metrics if "evaluation" in m] == [0, 2, 3]

    ledger = lines(run.path / "judgements.jsonl")
    first: dict[Pair, int] = {}
    for step, pair in ear.compared:
        first.setdefault(pair, step)  # a pair that comes again is not asked about again
    assert [row["step"] for row in ledger if "evaluation" in row] == list(first.values())
    assert len(ear.compared) == 3 * 4
    ledger = [row for row in ledger if "evaluation" not in row]
    assert [row["step"] for row in ledger] == [1] * 4 + [2] * 4 + [3] * 4
    assert {row["judge"] for row in ledger} == {"prefloop:rule"}
    for row in ledger:
        assert row["first"]["tokens"]
        assert row["prompt_id"].startswith("prompts.jsonl:")

    manifest = json.loads((run.path / "run.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 0
    assert manifest["versions"]["mlx"]
    for side in ("before", "after"):
        rate = manifest["summary"]["win_rate"][side]
        assert rate["pairs"] == 4
        assert rate["low"] <= rate["rate"] <= rate["high"]
        assert 0 <= manifest["summary"]["accuracy"][side] <= 1
    assert len(manifest["summary"]["examples"]) == 3

    for folder in (run.path, run.path / "checkpoints" / "0000002"):
        assert (folder / "adapters.safetensors").is_file()
        assert (folder / "adapter_config.json").is_file()
    assert not list(run.path.rglob("*.tmp"))


def test_the_saved_configuration_gives_the_same_run_again(tmp_path: Path) -> None:
    first = train(config_for(tmp_path / "first"))
    again = load_config(first.path / "config.yaml", [f"output.path={tmp_path / 'second'}"])
    second = train(again)
    adapters = [run.path / "adapters.safetensors" for run in (first, second)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    judged = [
        [
            {k: v for k, v in row.items() if k not in ("seconds", "crc")}
            for row in lines(run.path / "judgements.jsonl")
        ]
        for run in (first, second)
    ]
    assert judged[0] == judged[1]


def test_held_out_prompts_are_never_trained_on(tmp_path: Path) -> None:
    seen: set[str] = set()
    compared: set[str] = set()

    class Both:
        def step_finished(self, step: Step) -> None:
            seen.update(p.prompt.text for p in step.pairs)

        def evaluated(self, evaluation: Evaluation) -> None:
            compared.update(p.prompt.text for p in evaluation.pairs)

    training = {"batch_size": 4, "epochs": 1}
    train(config_for(tmp_path / "run", training=training), observers=[Both()])
    assert len(compared) == 4
    assert len(seen) == 36
    assert not seen & compared


@frozen
class GivesUp:
    """Judges one pair of the second step, then stops the run as a person does."""

    calls: list[int]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.calls.append(len(pairs))
        if len(self.calls) == 2:
            raise StopRun("quit by the person who judges", [Verdict(0.9)])
        return [Verdict(0.9) for _ in pairs]


def embedded_judge(config: Config, judge: Any) -> Config:
    from attrs import evolve

    return evolve(config, judge=judge, evaluation=evolve(config.evaluation, held_out=0))


def test_a_judge_that_stops_the_run_loses_no_verdict(tmp_path: Path) -> None:
    run = train(embedded_judge(config_for(tmp_path / "run"), GivesUp([])))
    assert run.status == "stopped"
    assert run.manifest["reason"] == "quit by the person who judges"
    assert [row["step"] for row in lines(run.path / "judgements.jsonl")] == [1] * 4 + [2]
    assert (run.path / "adapters.safetensors").is_file()


@frozen
class Breaks:
    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        raise RuntimeError("the server is gone")


def test_a_failed_run_has_the_reason_in_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the server is gone"):
        train(embedded_judge(config_for(tmp_path / "run"), Breaks()))
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["status"] == "failed"
    assert manifest["reason"] == "the server is gone"


EVENTS = ["run_started", "pairs_judged", "step_finished", "evaluated", "checkpoint_saved"]


def raises(event: str, error: Exception) -> SimpleNamespace:
    """An observer that raises `error` when it hears of `event`."""

    def method(*_: object) -> None:
        raise error

    return SimpleNamespace(**{event: method})


@pytest.mark.parametrize("event", EVENTS)
def test_an_observer_that_fails_at_any_event_fails_the_run(event: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no more"):
        train(config_for(tmp_path / "run"), observers=[raises(event, RuntimeError("no more"))])
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (manifest["status"], manifest["reason"]) == ("failed", "no more")


@pytest.mark.parametrize(("failed", "status"), [(False, "stopped"), (True, "failed")])
@pytest.mark.parametrize("event", EVENTS)
def test_an_observer_may_stop_the_run_at_any_event(
    event: str, failed: bool, status: str, tmp_path: Path
) -> None:
    ear, stop = Ear(), StopRun("enough", failed=failed)
    run = train(config_for(tmp_path / "run"), observers=[raises(event, stop), ear])
    manifest = json.loads((run.path / "run.json").read_text())
    taken = {"step_finished": 1, "checkpoint_saved": 2}.get(event, 0)
    assert (manifest["status"], manifest["reason"], manifest["summary"]["steps"]) == (status, "enough", taken)
    assert list(run.checkpoints()) == [taken]
    assert (run.path / "adapters.safetensors").is_file()
    assert ear.heard[0] == "started", "others hear of an event at which one stops the run"
    assert ear.heard[-2:] == [f"saved {taken}", status]
    assert len(set(ear.heard)) == len(ear.heard), "nothing is told twice"
    assert resume(run.path).summary["steps"] == 3


def test_an_observer_that_stops_at_every_checkpoint_gives_its_first_reason(tmp_path: Path) -> None:
    observers = [raises("step_finished", StopRun("first")), raises("checkpoint_saved", StopRun("second"))]
    run = train(config_for(tmp_path / "run"), observers=observers)
    assert (run.status, run.manifest["reason"]) == ("stopped", "first")


def test_a_run_that_has_ended_keeps_its_status_whatever_an_observer_does(tmp_path: Path) -> None:
    ear = Ear()
    stopped = raises("run_finished", StopRun("too late", failed=True))
    run = train(config_for(tmp_path / "run"), observers=[stopped, ear])
    assert (run.status, ear.heard[-1], "reason" in run.manifest) == ("finished", "finished", False)
    with pytest.raises(RuntimeError, match="no more"):
        train(config_for(tmp_path / "other"), observers=[raises("run_finished", RuntimeError("no more"))])
    assert json.loads((tmp_path / "other" / "run.json").read_text())["status"] == "finished"


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run = train(config_for(tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds a run already"):
        train(config_for(tmp_path / "run"))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_runs_without_a_path_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, "training": {"batch_size": 1, "iters": 1}, "evaluation": {"held_out": 0}}
    paths = [str(train(load_config(settings)).path) for _ in range(2)]
    assert paths == ["runs/online_dpo-policy-1", "runs/online_dpo-policy-2"]


def test_nothing_is_printed_unless_an_observer_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(config_for(tmp_path / "run"))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
