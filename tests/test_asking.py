"""Judges are anybody's code: what one may not do to a run, and that no verdict it gave is asked again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve
from click.testing import CliRunner

from prefloop import BaseJudge, Completion, Pair, Prompt, StopRun, UserError, Verdict
from prefloop.cli import main
from prefloop.runs.ledger import CachedJudge, Ledger
from prefloop.runs.records import JudgeIdentity
from prefloop_plugins.judges.function import FunctionJudge
from prefloop_plugins.judges.llm import LlmJudge
from support.small_runs import lines
from support.terminals import Terminal

PAIRS = [Pair(Prompt((), f"p{i}"), Completion((), "aa"), Completion((), "b")) for i in range(5)]
IDENTITY = JudgeIdentity("mine", "1", "0" * 16)
Answers = Iterator[tuple[int, Verdict]]


def cached(judge: Any, folder: Path, **options: Any) -> CachedJudge:
    return CachedJudge(judge, IDENTITY, Ledger(folder / "ledger.jsonl"), lambda: 1, **options)


def at_the_third(do: Callable[[], object]) -> FunctionJudge:
    """A judge whose function does something on the third pair it is asked about."""
    asked: list[str] = []

    def call(prompt: str, first: str, second: str) -> bool:
        asked.append(prompt)
        if len(asked) == 3:
            do()
        return len(first) > len(second)

    return FunctionJudge(call=call)


def raising(error: BaseException) -> Callable[[], object]:
    def do() -> object:
        raise error

    return do


def hang() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # as code that tries again does
            continue


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), SystemExit("bye")], ids=repr)
def test_a_judge_does_not_end_the_process(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(StopRun, match=f"'mine' raised {type(error).__name__}, which would end") as stop:
        cached(at_the_third(raising(error)), tmp_path).judge(PAIRS)
    assert stop.value.failed
    assert len(lines(tmp_path / "ledger.jsonl")) == 2


def test_an_interrupt_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(StopRun, match="interrupted from the keyboard") as stop:
        cached(at_the_third(raising(KeyboardInterrupt())), tmp_path).judge(PAIRS)
    assert not stop.value.failed


@define
class OneByOne(BaseJudge):
    """Gives its verdicts by `answers`, and does something before the third."""

    do: Callable[[], object]
    interactive: bool = False

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [verdict for _, verdict in self.answers(pairs)]

    def answers(self, pairs: Sequence[Pair]) -> Answers:  # type: ignore[override]
        for place in range(len(pairs)):
            if place == 2:
                self.do()
            yield place, Verdict(0.9)


@pytest.mark.parametrize("judge", [at_the_third(hang), OneByOne(hang)], ids=["calls", "answers"])
def test_a_judge_that_hangs_stops_the_run(tmp_path: Path, judge: BaseJudge) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(
        StopRun, match=r"'mine' was not done within 0\.2 seconds \(judging\.timeout\)"
    ) as stop:
        cached(judge, tmp_path, timeout=0.2).judge(PAIRS)
    assert stop.value.failed
    assert len(lines(tmp_path / "ledger.jsonl")) == 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_judge_asked_for_a_batch_has_the_time_of_each_pair(tmp_path: Path) -> None:
    class Together:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            time.sleep(0.3)
            return [Verdict(0.9)] * len(pairs)

    assert len(cached(Together(), tmp_path, timeout=0.2).judge(PAIRS)) == len(PAIRS)
    with pytest.raises(StopRun, match=r"within 0\.2 seconds"):
        cached(Together(), tmp_path, timeout=0.2).judge([evolve(PAIRS[0], second=Completion((), "c"))])


def test_a_person_is_not_hurried(tmp_path: Path) -> None:
    person = OneByOne(lambda: time.sleep(0.2), interactive=True)
    assert len(cached(person, tmp_path, timeout=0.05).judge(PAIRS)) == len(PAIRS)


def test_a_child_that_comes_back_goes_no_further(tmp_path: Path) -> None:
    children: list[int] = []
    judge = at_the_third(lambda: children.append(os.fork()))
    assert len(cached(judge, tmp_path).judge(PAIRS)) == len(PAIRS)
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert len(lines(tmp_path / "ledger.jsonl")) == len(PAIRS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.9] * 5, r"judge 'mine' gave 0\.9 where a Verdict belongs"),
        ([None] * 5, "judge 'mine' gave None where a Verdict belongs"),
        (0.9, r"judge 'mine' gave 0\.9, not a list with a Verdict for each of 5 pairs"),
        ([Verdict(0.9)], "judge 'mine' gave 1 verdicts for 5 pairs"),
    ],
)
def test_what_is_no_verdict_is_named(tmp_path: Path, given: Any, message: str) -> None:
    class Gives:
        def judge(self, pairs: Sequence[Pair]) -> Any:
            return given

    with pytest.raises(UserError, match=message):
        cached(Gives(), tmp_path).judge(PAIRS)


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    class Elsewhere(OneByOne):
        def answers(self, pairs: Sequence[Pair]) -> Answers:  # type: ignore[override]
            yield 7, Verdict(0.9)

    with pytest.raises(UserError, match="a verdict for place 7 of 5 pairs"):
        cached(Elsewhere(list), tmp_path).judge(PAIRS)


# Verdicts are in the ledger as they come


def test_a_language_model_s_verdicts_are_written_after_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it goes on, it is asked in the same batches: a batch's numbers depend on who is in it."""
    calls: list[list[str]] = []
    broken = [True]

    def judge(self: LlmJudge, pairs: Sequence[Pair]) -> list[Verdict]:
        calls.append([pair.prompt.text for pair in pairs])
        if broken[0] and len(calls) == 3:
            raise RuntimeError("killed")
        return [Verdict(0.9)] * len(pairs)

    monkeypatch.setattr(LlmJudge, "judge", judge)
    assert (LlmJudge().pairs_per_call, LlmJudge(orders="fixed").pairs_per_call) == (8, 16)
    with pytest.raises(RuntimeError):
        cached(LlmJudge(batch_size=4), tmp_path).judge(PAIRS)
    assert calls == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert [line["prompt_id"] for line in lines(tmp_path / "ledger.jsonl")] == [
        p.prompt.id for p in PAIRS[:4]
    ]
    broken[0] = False
    assert len(cached(LlmJudge(batch_size=4), tmp_path).judge(PAIRS)) == len(PAIRS)
    assert calls[3:] == [["p4"]]


def test_what_a_server_answers_is_written_while_the_run_does_something_else(tmp_path: Path) -> None:
    go_on = threading.Event()

    class Elsewhere(OneByOne):
        def submit(self, pairs: Sequence[Pair]) -> Future[list[Verdict]]:  # type: ignore[override]
            raise AssertionError("its answers are taken one by one")

    judge = cached(Elsewhere(go_on.wait), tmp_path)
    assert judge.submit is not None
    first, second = judge.submit(PAIRS[:3]), judge.submit(PAIRS[3:])
    while not (file := tmp_path / "ledger.jsonl").exists() or len(lines(file)) < 4:
        time.sleep(0.01)
    go_on.set()
    assert len(first.result() + second.result()) == len(PAIRS)
    assert len(lines(file)) == len(PAIRS)


def test_what_goes_wrong_in_the_background_stops_the_run(tmp_path: Path) -> None:
    class Elsewhere(OneByOne):
        def submit(self, pairs: Sequence[Pair]) -> Future[list[Verdict]]:  # type: ignore[override]
            raise NotImplementedError

    for number, (do, message) in enumerate([(raising(SystemExit(0)), "SystemExit"), (hang, "was not done")]):
        (tmp_path / str(number)).mkdir()
        judge = cached(Elsewhere(do), tmp_path / str(number), timeout=0.1)
        assert judge.submit is not None
        with pytest.raises(StopRun, match=message):
            judge.submit(PAIRS).result()
        assert len(lines(tmp_path / str(number) / "ledger.jsonl")) == 2


# Whole runs

JUDGES = """
import os, signal, sys
from pathlib import Path

asked = Path("asked.txt")

def say(prompt, first, second):
    with asked.open("a") as file:
        print(repr((prompt, first, second)), file=file)
    return len(first) > len(second)

def killed(*pair):
    if asked.exists() and len(asked.read_text().splitlines()) == 2 and not Path("once").exists():
        Path("once").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return say(*pair)

def leaves(*pair):
    sys.exit()

def prints(prompt, first, second):
    print("A LINE OF THE JUDGE'S OWN")
    return say(prompt, first, second)
"""


def settings(judge: str) -> list[str]:
    given = {
        "judge": f"{{use: function, call: '{judge}'}}",
        "training": "{iters: 2, batch_size: 4}",
        "sampler.max_completion_length": 4,
        "evaluation.held_out": 0,
        "prompts": "prompts.jsonl",
        "output": "{path: run, report: false}",
    }
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"judges_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(JUDGES)
    prompts = "".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(8))
    (tmp_path / "prompts.jsonl").write_text(prompts)
    return tmp_path / name


def test_a_run_whose_judge_leaves_fails_and_the_dry_run_says_so(here: Path) -> None:
    run = CliRunner().invoke(main, ["train", *settings(f"{here.name}:leaves")])
    assert run.exit_code == 1
    manifest = json.loads(Path("run/run.json").read_text())
    assert manifest["status"] == "failed"
    assert "'prefloop:function' raised SystemExit, which would end the process" in manifest["reason"]
    dry = CliRunner().invoke(main, ["train", "--dry-run", *settings(f"{here.name}:leaves")])
    assert dry.exit_code == 2
    assert "error: judge: 'FunctionJudge' raised SystemExit" in dry.stderr


@pytest.mark.slow
def test_no_verdict_before_a_kill_is_asked_for_again(here: Path) -> None:
    command = [sys.executable, "-m", "prefloop", "train"]
    killed = subprocess.run([*command, *settings(f"{here.name}:killed")], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    asked = Path("asked.txt").read_text().splitlines()
    assert len(lines(Path("run/judgements.jsonl"))) == len(asked) == 2  # of the four pairs of the step
    subprocess.run([*command, "--resume", "run"], capture_output=True, check=True)
    asked = Path("asked.txt").read_text().splitlines()
    assert len(asked) == len(set(asked)) == len(lines(Path("run/judgements.jsonl")))


@pytest.mark.slow
def test_what_a_judge_prints_stands_above_the_bar(here: Path) -> None:
    person = Terminal(
        [sys.executable, "-m", "prefloop", "train", *settings(f"{here.name}:prints")], Path.cwd()
    )
    assert person.wait() == 0
    person.close()
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", person.text)
    printed = said.count("A LINE OF THE JUDGE'S OWN")
    whole = sum(line.strip() == "A LINE OF THE JUDGE'S OWN" for line in said.splitlines())
    assert printed == whole == len(Path("asked.txt").read_text().splitlines())
