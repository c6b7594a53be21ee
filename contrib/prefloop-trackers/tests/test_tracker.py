"""What all trackers have in common, with one that hangs, raises and forgets as a test decides."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import define, field

from prefloop import Observer, Step, StopRun, UserError, load_config, resume, train
from prefloop.cli.reporting import reports
from prefloop_testing import ObserverSuite
from prefloop_trackers.entries import Rows, markdown
from prefloop_trackers.secrets import HIDDEN, without_secrets
from prefloop_trackers.tensorboard_tracker import TensorBoard
from prefloop_trackers.tracker import Start, Tracker

TOKEN = "hf_" + "a1B2" * 8


@define(eq=False)
class Diary(Tracker):
    """Writes down what it is told. `faults` has what it raises, call after call."""

    label: ClassVar[str] = "diary"
    library: ClassVar[str] = "json"

    opened: list[Start] = field(init=False, factory=list)
    told: list[tuple[int, Mapping[str, float]]] = field(init=False, factory=list)
    tables: list[tuple[int, str, Rows]] = field(init=False, factory=list)
    reports: list[str] = field(init=False, factory=list)
    ended: list[str] = field(init=False, factory=list)
    faults: list[Exception] = field(init=False, factory=list)
    table_fault: Exception | None = field(init=False, default=None)
    hangs: threading.Event | None = field(init=False, default=None)
    kept: Mapping[str, float] | None = field(init=False, default=None)

    def known(self) -> Mapping[str, float] | None:
        return self.kept

    def open(self, start: Start) -> str:
        self.opened.append(start)
        return start.id or "page-1"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        if self.hangs:
            self.hangs.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.told.append((step, numbers))

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        if self.table_fault:
            raise self.table_fault
        self.tables.append((step, name, rows))

    def attach(self, report: Path) -> None:
        self.reports.append(report.read_text())

    def end(self, status: str) -> None:
        self.ended.append(status)

    def steps(self) -> list[int]:
        return [step for step, numbers in self.told if "train/epoch" in numbers]


@pytest.mark.skipif(not importlib.util.find_spec("tensorboardX"), reason="tensorboardX is not installed")
class TestTensorBoard(ObserverSuite):
    component = TensorBoard()


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": "embedded:policy",
        "judge": {"use": "rule", "length": "shorter"},
        "prompts": {"path": "embedded:prompts", "limit": 20},
        "evaluation": {"held_out": 2},
        "sampler": {"max_completion_length": 4},
        "adapter": {"rank": 2, "layers": 1},
        "training": {"batch_size": 2, "iters": 4, "save_every": 2, "report_every": 2},
        "output": {"path": str(folder / "run"), "report": False},
    } | more


def observed(folder: Path, *observers: Observer, **more: Any) -> Any:
    return train(load_config(settings(folder, **more)), observers=observers)


def test_it_is_told_steps_evaluations_pairs_and_the_configuration(tmp_path: Path) -> None:
    diary = Diary(pairs=1)
    run = observed(tmp_path, diary)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "evaluation" not in line]
    assert diary.steps() == [line["step"] for line in trained] == [1, 2, 3, 4]
    told = [numbers for _, numbers in diary.told if "train/epoch" in numbers]
    for line, numbers in zip(trained, told, strict=True):
        expected = {f"train/{k}": v for k, v in line.items() if k not in ("step", "crc") and v is not None}
        assert {k: v for k, v in numbers.items() if k in expected} == pytest.approx(expected)
    rates = [
        (step, numbers["eval/win_rate_low"]) for step, numbers in diary.told if "eval/win_rate" in numbers
    ]
    assert rates == [(e["step"], e["evaluation"]["win_rate"]["low"]) for e in lines if "evaluation" in e]
    assert [(step, name, len(rows)) for step, name, rows in diary.tables] == [
        (0, "pairs/eval", 1),
        (2, "pairs/train", 1),
        (4, "pairs/train", 1),
        (4, "pairs/eval", 1),
    ]
    ledger = [json.loads(line) for line in (run.path / "judgements.jsonl").read_text().splitlines()]
    first = next(row for row in ledger if row["step"] == 2 and not row.get("evaluation"))
    shown = diary.tables[1][2][0]
    assert (shown["first"], shown["status"]) == (first["first"]["text"], first["status"])
    assert (shown["probability"], shown["judge"]) == (first["probability"], first["judge"])
    assert diary.opened[0].config["training.batch_size"] == 2
    assert diary.ended == ["finished"]


def test_a_tracker_that_hangs_holds_up_no_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary(wait=0.2)
    diary.hangs = threading.Event()
    run = observed(tmp_path, diary)
    assert run.status == "finished"
    assert [r.message for r in caplog.records if "diary" in r.message] == [
        "diary did not come to an end within 0.2 s; it is not waited for.",
        "diary lacks 10 of 10 entries (0 attempts failed); the run's own files have them all.",
    ]
    diary.hangs.set()


def test_after_an_outage_it_is_told_all_in_order_and_the_fault_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefloop_trackers.tracker.LONGEST_PAUSE", 0.05)
    diary = Diary()
    diary.faults += [OSError(f"no route to https://me:pw@host with {TOKEN}"), OSError("again")]
    assert observed(tmp_path, diary).status == "finished"
    assert diary.steps() == [1, 2, 3, 4]
    said = [r.message for r in caplog.records if "diary" in r.message]
    assert said == [
        f"diary failed, and the run goes on without it: no route to https://{HIDDEN}host with {HIDDEN}"
    ]
    assert [start.id for start in diary.opened] == [None, "page-1", "page-1"]


def test_one_that_always_fails_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary(pairs=0)
    diary.faults += [OSError("down")] * 1000
    assert observed(tmp_path, diary).status == "finished"
    assert caplog.records[-1].message.startswith("diary lacks 6 of 6 entries")
    assert [r.message for r in caplog.records if "goes on without it: down" in r.message] != []


def test_a_table_that_cannot_be_shown_holds_up_no_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    diary.table_fault = TypeError("no tables here")
    observed(tmp_path, diary)
    assert diary.steps() == [1, 2, 3, 4]
    assert "diary lacks 4 of 10 entries (4 attempts failed)" in caplog.text


def test_a_run_that_goes_on_tells_the_rest_and_nothing_twice(tmp_path: Path) -> None:
    """Steps 1 to 3 were told, the checkpoint is of step 2: step 3 is taken once more and not told again."""

    class Dies(Observer):
        def step_finished(self, step: Step) -> None:
            if step.progress.step == 3:
                until = time.monotonic() + 20
                while before.steps() != [1, 2, 3] and time.monotonic() < until:
                    time.sleep(0.01)
                raise RuntimeError("killed")

    before, after = Diary(), Diary()
    with pytest.raises(RuntimeError, match="killed"):
        observed(tmp_path, before, Dies())
    resume(tmp_path / "run", observers=[after])
    assert (before.steps(), after.steps()) == ([1, 2, 3], [4])
    assert [start.id for start in after.opened] == ["page-1"]
    before._finish()
    assert before.ended == ["failed"]


def test_what_a_kill_cut_off_of_a_step_is_told_by_the_run_that_goes_on(tmp_path: Path) -> None:
    """Of step 2, its count and its loss were written, and its epoch was not."""
    before, after = Diary(), Diary()
    observed(tmp_path, before)
    everything = next(numbers for step, numbers in before.told if step == 2)
    after.kept = dict.fromkeys(everything, 2.0) | {"train/epoch": 1.0, "eval/step": 4.0}
    resume(tmp_path / "run", overrides=["training.iters=6"], observers=[after])
    told = [(step, numbers) for step, numbers in after.told if "train/epoch" in numbers]
    assert told[0] == (2, {"train/epoch": everything["train/epoch"]})
    assert [step for step, _ in told] == [2, 3, 4, 5, 6]


def test_what_was_never_told_is_told_by_the_run_that_goes_on(tmp_path: Path) -> None:

    class Stops(Observer):
        def step_finished(self, step: Step) -> None:
            if step.progress.step == 3:
                raise StopRun("enough")

    gone, after = Diary(wait=0.0), Diary()
    gone.hangs = threading.Event()
    observed(tmp_path, gone, Stops())
    resume(tmp_path / "run", observers=[after])
    assert after.steps() == [1, 2, 3, 4]
    assert [step for step, numbers in after.told if "eval/win_rate" in numbers] == [0, 4]


def test_the_report_is_attached_unless_a_token_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = {"output": {"path": str(tmp_path / "run")}}
    diary = Diary()
    observed(tmp_path, diary, **output)
    assert ["</html>" in report for report in diary.reports] == [True]
    monkeypatch.setenv("SOME_TOKEN", "embedded:policy")
    other = Diary()
    observed(tmp_path, other, output={"path": str(tmp_path / "other")})
    assert (other.reports, other.ended) == ([], ["finished"])
    assert other.opened[0].config["model.path"] == HIDDEN
    assert "diary is not given the report" in caplog.text


def test_secrets_are_hidden_by_name_by_look_and_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct horse")
    hidden = {
        "judge.api_key": "x",
        "judge.request.Authorization": "y",
        "a.password": "z",
        "bonuses.0": TOKEN,
        "prompts.path": "https://me:pw@host/rows",
        "judge.system": "say correct horse",
    }
    shown = {
        "training.seed": 1,
        "judge.api_key_env": "OPENAI_API_KEY",
        "judge.max_tokens": 8,
        "a.token": None,
    }
    found = without_secrets(hidden | shown)
    assert {key: found[key] for key in shown} == shown
    assert all(HIDDEN in found[key] for key in hidden)
    assert found["judge.system"] == f"say {HIDDEN}"


def test_a_table_as_text_stays_in_its_cells() -> None:
    rows = [{"prompt": "a|b\nc", "probability": 0.25}]
    assert markdown(rows).splitlines() == [
        "| prompt | probability |",
        "| --- | --- |",
        r"| a\|b ⏎ c | 0.25 |",
    ]


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard", "mlflow", "swanlab"])
@pytest.mark.parametrize("key", ["api_key", "token", "password"])
def test_a_token_is_refused_as_an_option(tmp_path: Path, name: str, key: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(settings(tmp_path, observers=[{"use": name, key: TOKEN}]))
    (line,) = caught.value.problems
    assert f"observers.0.{key}: there is no such option. A key, token or password is no part of" in line
    assert TOKEN not in line


def test_a_token_is_refused_inside_another_option(tmp_path: Path) -> None:
    for options in (
        {"use": "wandb", "entity": TOKEN},
        {"use": "mlflow", "tracking_uri": "http://me:pw@host"},
    ):
        with pytest.raises(UserError, match="holds what looks like a token or a password") as caught:
            load_config(settings(tmp_path, observers=[options]))
        assert TOKEN not in str(caught.value) and "pw" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard", "mlflow", "swanlab"])
def test_one_that_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as caught:
        train(load_config(settings(tmp_path, observers=[name])))
    assert str(caught.value) == (
        f"observers.0: {name} is not installed: pip install 'prefloop-trackers[{name}]', or leave it out."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_without_a_key_it_says_so_before_anything_is_written(tmp_path: Path, name: str) -> None:
    pytest.importorskip(name, reason=f"prefloop-trackers[{name}] is not installed")
    with pytest.raises(UserError, match=f"{name} has no key: run `{name} login`, set .*_API_KEY, or write"):
        train(load_config(settings(tmp_path, observers=[name])))
    assert not (tmp_path / "run").exists()


def test_report_to_adds_trackers_to_those_that_are_there(tmp_path: Path) -> None:
    given = settings(tmp_path, observers=[{"use": "wandb", "project": "mine"}])
    added = reports(load_config(given), "wandb, tensorboard")
    observers = load_config(given, added).observers
    assert [type(o).__name__ for o in observers] == ["Wandb", "TensorBoard"]
    assert observers[0].project == "mine"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"--report-to: .* observer 'wandbb'\. Did you mean 'wandb'\?"):
        reports(load_config(given), "wandbb")
