"""`open_run`: a run is read from its files, whatever state they are in, and nothing of it is changed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from prefloop import (
    Evaluation,
    Pair,
    Run,
    Step,
    StepMetrics,
    StopRun,
    UserError,
    Verdict,
    load_config,
    open_run,
    resume,
    train,
)
from prefloop.runs.files import append_lines, sealed_lines
from prefloop.runs.view import read_new
from support.run_files import evaluation, judgement, lines_of, step_line, write_run
from support.small_runs import settings_for

WRITER = """
import json, os, signal, sys, time
from pathlib import Path

path, steps, killed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "killed"
with path.open("ab", buffering=0) as file:
    for step in range(1, steps + 1):
        line = json.dumps({"step": step, "loss": step / 8}).encode() + b"\\n"
        for piece in (line[:7], line[7:-1], line[-1:]):
            file.write(piece)
            if step % 10 == 0:
                time.sleep(0.002)
            if killed and step == steps and piece is not line[-1:]:
                os.kill(os.getpid(), signal.SIGKILL)
"""
"""Appends a line for each step, in pieces; one that is killed leaves the last of them half written."""


def steps_in(records: tuple[Any, ...]) -> list[int]:
    return [record.step for record in records]


def test_a_cursor_gives_each_line_of_a_growing_file_once(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", status="running"))
    metrics = run.path / "metrics.jsonl"
    metrics.unlink()
    assert run.metrics().cursor == 0
    arguments = [sys.executable, "-c", WRITER, str(metrics), "300", "whole"]
    writer = subprocess.Popen(arguments)
    seen: list[int] = []
    cursor, readings, over = 0, 0, False
    while not over:
        over = writer.poll() is not None  # and then read once more
        new = run.metrics(cursor)
        assert not new.restarted
        readings += bool(new.records)
        seen += steps_in(new.records)
        cursor = new.cursor
    assert seen == list(range(1, 301))
    assert readings > 1, "the writer was never seen at work"
    assert cursor == metrics.stat().st_size
    assert run.problems == ()
    assert open_run(run.path).metrics(cursor).records == ()


def test_a_run_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", status="running"))
    metrics = run.path / "metrics.jsonl"
    metrics.unlink()
    done = subprocess.run([sys.executable, "-c", WRITER, str(metrics), "5", "killed"])
    assert done.returncode < 0
    for name in (".0000009.tmp", ".0000003.old", "0000004"):
        (run.path / "checkpoints" / name).mkdir(parents=True)
    (run.path / ".run.json.tmp").write_text('{"status": "fin')
    new = run.metrics()
    assert steps_in(new.records) == [1, 2, 3, 4]
    assert list(open_run(run.path).checkpoints()) == [4]
    assert (open_run(run.path).status, run.problems) == ("interrupted", ())
    assert metrics.read_bytes().endswith(b'\n{"step"')
    with metrics.open("ab") as file:
        file.write(b': 5, "loss": 0.5}\n')
    assert steps_in(run.metrics(new.cursor).records) == [5]


def test_half_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run"))
    whole = run.judgements()
    assert len(whole.records) == 30
    line = sealed_lines([judgement(31, "a", "b", 0.7)])
    with (run.path / "judgements.jsonl").open("ab", buffering=0) as file:
        file.write(line[:40])
        assert run.judgements(whole.cursor) == run.judgements(whole.cursor)
        assert run.judgements(whole.cursor).records == ()
        assert run.judgements(whole.cursor).cursor == whole.cursor
        file.write(line[40:])
    (added,) = run.judgements(whole.cursor).records
    assert (added.step, added.pair.first.text, added.verdict) == (31, "a", Verdict(0.7, orders=(0.7, 0.7)))
    assert run.problems == ()


def test_damaged_lines_are_named_by_file_and_line(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run"))
    ledger = run.path / "judgements.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"status": "ok"', b'"status": "no"')
    lines[3] = b'{"step": 4}\n'
    ledger.write_bytes(b"".join(lines))
    found = run.judgements()
    assert len(found.records) == 28
    changed, foreign = map(str, run.problems)
    assert changed == "judgements.jsonl:2 is damaged: its checksum does not fit."
    assert foreign.startswith("judgements.jsonl:4 is not a judgement: it lacks a prompt, two completions, ")
    with ledger.open("ab") as file:
        file.write(b"{oops\n" + sealed_lines([judgement(31, "a", "b", 0.7)]))
    new = run.judgements(found.cursor)
    assert [(problem.file, problem.line) for problem in new.problems] == [("judgements.jsonl", 31)]
    assert "judgements.jsonl:31 is broken JSON" in str(new.problems[0])
    assert steps_in(new.records) == [31]
    assert [problem.line for problem in run.problems] == [2, 4, 31]
    run.judgements()
    assert [problem.line for problem in run.problems] == [2, 4, 31], "each is named once"


def test_a_file_that_was_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    """A run that goes on from a checkpoint cuts off what it is going to write again."""
    run = open_run(write_run(tmp_path / "run"))
    cursor = run.metrics().cursor
    kept = sealed_lines(lines_of([evaluation(0, 0.5)], 3))
    (run.path / "metrics.jsonl").write_bytes(kept)
    shorter = run.metrics(cursor)
    assert (shorter.restarted, steps_in(shorter.records)) == (True, [0, 1, 2, 3])
    assert not run.metrics(shorter.cursor).restarted
    assert run.metrics(-1).restarted
    inside = run.metrics(shorter.cursor - 3)
    assert (inside.restarted, len(inside.records), inside.cursor) == (True, 4, len(kept))
    (run.path / "metrics.jsonl").unlink()
    gone = run.metrics(shorter.cursor)
    assert (gone.records, gone.cursor, gone.restarted) == ((), 0, True)
    assert [str(problem) for problem in run.problems] == ["There is no metrics.jsonl."]


def test_a_young_run_lacks_only_what_it_has_not_written_yet(tmp_path: Path) -> None:
    """The same files are missing of a run that has ended."""
    for status in ("running", "finished"):
        run = write_run(tmp_path / status, status=status)
        for name in ("metrics.jsonl", "judgements.jsonl"):
            (run / name).unlink()
        shutil.rmtree(run / "evaluations")
    young, over = open_run(tmp_path / "running"), open_run(tmp_path / "finished")
    for run in (young, over):
        assert (run.metrics().records, run.judgements().records, run.evaluations()) == ((), (), [])
    assert (young.problems, young.judgements().problems) == ((), ())
    assert [damage.file for damage in over.problems] == ["metrics.jsonl", "judgements.jsonl"]
    young.metrics(cursor=100)
    assert [str(damage) for damage in young.problems] == ["There is no metrics.jsonl."], "it was there"


def test_a_run_that_ends_before_the_first_verdict_lacks_nothing(tmp_path: Path) -> None:
    found: list[tuple[str, object]] = []

    class Looks:
        def run_started(self, run: Run) -> None:
            seen = open_run(run.path)
            read = (seen.metrics(), seen.judgements(), seen.evaluations(), seen.settings)
            found.append((seen.status, seen.problems if read else None))
            raise StopRun("enough")

    run = open_run(train(load_config(settings_for(tmp_path / "run")), observers=[Looks()]).path)
    assert (run.metrics().records, run.judgements().records) == ((), ())
    assert [*found, (run.status, run.problems)] == [("running", ()), ("stopped", ())]


def test_a_run_of_an_older_version_is_opened(tmp_path: Path) -> None:
    """It has no plan of its memory, no checksums, and no files of its evaluations."""
    run = write_run(tmp_path / "run", plan={"steps": 30, "prompts": 9}, summary={"steps": 30})
    shutil.rmtree(run / "evaluations")
    old = "".join(json.dumps(line) + "\n" for line in lines_of([evaluation(0, 0.5), evaluation(30, 0.8)], 30))
    (run / "metrics.jsonl").write_text(old)
    (run / "config.yaml").unlink()
    found = open_run(run)
    assert (found.plan, found.plan_lines, found.asks_a_person) == (None, [], False)
    assert [(e.step, e.win_rate.rate, e.pairs) for e in found.evaluations()] == [(0, 0.5, ()), (30, 0.8, ())]
    assert math.isnan(found.evaluations()[0].metrics["length_controlled_win_rate"])
    assert (found.settings, found.config_text, found.checkpoints()) == ({}, "", {})
    assert [str(problem) for problem in found.problems] == ["There is no config.yaml."]


def test_evaluations_of_training_and_those_of_prefloop_eval_are_apart(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run"))
    folder = run.path / "evaluations"
    other = {**evaluation(30, 0.6), "against": "base", "judge": "other:judge"}
    (folder / "final-against-base.json").write_text(json.dumps(other))
    (folder / "0000020.json").write_text('{"step": 20, "win_rate": {"rate": 2}}')
    (folder / "judgements.jsonl").write_text("the ledger of prefloop eval\n")
    assert [e.step for e in run.evaluations()] == [0, 30]
    last = run.evaluations()[-1]
    assert (last.win_rate.rate, last.judge, last.against) == (0.8, "prefloop:llm", "start")
    assert (last.pairs[19].first.text, last.pairs[19].second.text) == ("answer 19", "old 19")
    assert (last.verdicts[0].prefers_first, last.verdicts[19].probability) == (False, 1.0)
    found = run.other_evaluations()
    assert list(found) == ["final-against-base"]
    assert (found["final-against-base"].against, found["final-against-base"].judge) == ("base", "other:judge")
    assert [str(problem) for problem in run.problems] == ["evaluations/0000020.json is damaged and left out."]


def test_the_log_is_read_from_a_cursor(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run"))
    assert (run.log().records, run.problems) == ((), ()), "a run on a terminal has none"
    log = run.path / "log.txt"
    log.write_bytes("step 1/3  loss 0.7\nné \xff".encode("latin-1"))
    first = run.log()
    assert first.records == ("step 1/3  loss 0.7",)
    with log.open("ab") as file:
        file.write(b"\n")
    assert run.log(first.cursor).records == ("n\ufffd \ufffd",)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "'run' holds no run: there is no run.json in it."),
        ({"run": ""}, "'run' holds no run: there is no run.json in it."),
        ({"run/run.json": "{"}, "'run/run.json' cannot be read: "),
        ({"run/run.json": "[" * 100_000}, "'run/run.json' cannot be read: "),
        ({"run/run.json": "[]"}, "'run/run.json' is not what a run writes: it has no summary."),
    ],
)
def test_where_there_is_no_run_one_line_says_so(
    files: dict[str, str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    with pytest.raises(UserError) as caught:
        open_run("run")
    assert str(caught.value).startswith(problem)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run"))
    (run.path / "metrics.jsonl").chmod(0)
    assert run.metrics().records == ()
    assert [str(problem) for problem in run.problems] == ["metrics.jsonl cannot be read: Permission denied."]


@frozen
class Watches:
    """An observer that reads the run of which it is told, as another program would."""

    path: Path
    seen: list[Any] = field(factory=list)
    judged: list[tuple[Pair, Verdict]] = field(factory=list)
    evaluations: list[Evaluation] = field(factory=list)

    def step_finished(self, step: Step) -> None:
        run = open_run(self.path)
        new = run.metrics(self.seen[-1].cursor if self.seen else 0)
        assert (run.status, new.restarted) == ("running", False)
        self.seen.append(new)
        self.judged.extend(zip(step.pairs, step.verdicts, strict=True))

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Watches]:
    path = tmp_path_factory.mktemp("watched") / "run"
    training = {"batch_size": 3, "iters": 3, "save_every": 2, "evaluate_every": 2}
    watcher = Watches(path)
    return train(load_config(settings_for(path, training=training)), observers=[watcher]), watcher


def test_a_run_is_seen_while_it_is_written(watched: tuple[Run, Watches]) -> None:
    _, watcher = watched
    seen = [steps_in(new.records) for new in watcher.seen]
    assert seen == [[0, 1], [2], [2, 3]]  # evaluated after 0 and 2


def test_what_is_read_is_what_the_run_was(watched: tuple[Run, Watches]) -> None:
    live, watcher = watched
    run = open_run(live.path)
    assert (run.status, run.summary, run.name) == ("finished", live.summary, "run")
    assert (run.plan, run.plan_lines, run.settings) == (live.plan, live.plan_lines, live.settings)
    assert run.settings["training"]["iters"] == 3
    assert list(run.checkpoints()) == [2, 3]
    steps = [made for made in run.metrics().records if isinstance(made, StepMetrics)]
    assert steps_in(tuple(steps)) == [1, 2, 3]
    assert all(made.metrics["loss"] > 0 for made in steps)
    judged = [j for j in run.judgements().records if not j.evaluation]
    assert [(j.pair.first, j.pair.second, j.verdict) for j in judged] == [
        (pair.first, pair.second, verdict) for pair, verdict in watcher.judged
    ]
    assert [j.pair.prompt.text for j in judged] == [pair.prompt.text for pair, _ in watcher.judged]
    for found, made in zip(run.evaluations(), watcher.evaluations, strict=True):
        assert (found.step, found.win_rate, found.judge) == (made.step, made.win_rate, made.judge)
        assert found.metrics == pytest.approx(dict(made.metrics), nan_ok=True)
        assert [pair.first.text for pair in found.pairs] == [pair.first.text for pair in made.pairs]
        assert list(found.verdicts) == list(made.verdicts)
    assert run.problems == ()


def test_a_run_that_is_made_longer_has_the_longer_plan(watched: tuple[Run, Watches], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(watched[0].path, tmp_path / "run"))
    resume(copy, overrides=["training.iters=4"])
    run = open_run(copy)
    assert run.plan is not None and watched[0].plan.steps == 3
    assert (run.plan.steps, run.plan.division) == (4, watched[0].plan.division)
    assert run.summary["steps"] == 4


def test_reading_changes_nothing_and_needs_no_right_to_write(watched: tuple[Run, Watches]) -> None:
    run = open_run(watched[0].path)

    def state() -> dict[str, tuple[bytes, int]]:
        files = (path for path in run.path.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    whole = (run.path / "metrics.jsonl").read_bytes()
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"half')
    torn = state()
    for _ in range(2):
        (run.metrics(), run.judgements(), run.log(), run.evaluations(), run.other_evaluations())
        (run.settings, run.config_text, run.checkpoints(), run.plan, run.problems)
    assert state() == torn
    (run.path / "metrics.jsonl").write_bytes(whole)


def test_looking_at_runs_loads_nothing_of_the_engine() -> None:
    heavy = {"mlx", "numpy", "yaml", "cattrs", "click", "datasets", "transformers"}
    parts = {f"prefloop.{part}" for part in ("components", "settings", "registry", "loop", "config")}
    code = f"import sys, prefloop.runs.view; print(*sorted({heavy | parts} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_reading_what_is_new_takes_no_longer_in_a_long_file(tmp_path: Path) -> None:
    """The bytes that are read are those after the cursor."""
    file = tmp_path / "metrics.jsonl"
    append_lines(file, [step_line(step) for step in range(1, 500)])
    read: list[bytes] = []
    cursor = file.stat().st_size
    append_lines(file, [step_line(500)])
    new = read_new(file, cursor, read.append)
    assert (len(new.records), len(read)) == (1, 1)
