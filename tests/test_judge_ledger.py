"""`prefloop judge` keeps a person's answers: a session survives quitting and a kill, and goes on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prefloop import UserError
from prefloop.cli import main
from prefloop_plugins.judging.kept import ledger_beside, open_ledger
from support.terminals import QUIET, Terminal

KEPT = "pairs.judgements.jsonl"
COUNTING = """
from pathlib import Path
def call(prompt, first, second):
    with Path("calls.txt").open("a") as file:
        print(prompt, file=file)
    return len(first) > len(second)
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [
        {"prompt": f"p{i}", "first": f"longer {i}", "second": f"s{i}", "label": "first"} for i in range(4)
    ]
    rows[1]["second"] = rows[1]["first"]  # equal answers: nobody is asked
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def no_terminal_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefloop_plugins.judges.human.check_terminal", lambda: None)


def judge(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["judge", *arguments])


def lines(path: str = KEPT) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def sit_down(*arguments: str) -> Terminal:
    return Terminal(
        [sys.executable, "-m", "prefloop", "judge", "human", "pairs.jsonl", *arguments], Path.cwd()
    )


def test_a_session_survives_a_kill_and_quitting_and_goes_on(tmp_path: Path) -> None:
    person = sit_down()
    person.answer(1, "1")
    person.wait_for("pair 2 of 3")
    time.sleep(QUIET)
    person.process.kill()
    person.close()
    assert [line["status"] for line in lines()] == ["tie", "ok"]
    assert lines()[0]["reason"] == "both answers are the same"

    person = sit_down()
    person.answer(1, "t")
    person.answer(2, "u")  # second thoughts
    person.answer(1, "2")
    person.answer(2, "\x03")
    assert person.wait() == 130
    person.close()
    assert [line["status"] for line in lines()] == ["tie", "ok", "tie", "error", "ok"]
    assert "pairs judged" in person.text
    assert "3 (3 labelled)" in person.text  # of both sessions, and the pair of equal answers
    assert f"kept in {KEPT}; the same command goes on from here" in person.text

    person = sit_down()
    person.answer(1, "s")
    assert person.wait() == 0
    person.close()
    assert "4 (4 labelled)" in person.text
    assert [line["prompt_id"][-1] for line in lines()] == ["2", "1", "3", "3", "3", "4"]


def test_answers_that_are_all_there_are_reported_without_a_question(no_terminal_needed: None) -> None:
    person = sit_down("--limit", "2")
    person.answer(1, "1")
    assert person.wait() == 0
    person.close()
    done = judge("human", "pairs.jsonl", "--limit", "2", "--json")
    assert done.exit_code == 0, done.stderr
    (found,) = json.loads(done.stdout)["judges"]
    assert (found["pairs"], found["ties"], found["pairs_per_second"]) == (2, 0.5, None)


def test_any_judge_keeps_its_verdicts_where_it_is_said() -> None:
    Path("counting.py").write_text(COUNTING)
    Path("counting.yaml").write_text("judge: {use: function, call: 'counting:call'}\n")
    assert judge("counting.yaml", "pairs.jsonl").exit_code == 0
    assert not list(Path().glob("*judgements*"))
    asked = len(Path("calls.txt").read_text().splitlines())
    for limit, more in (("2", 3), ("4", 4), ("4", 0)):  # both orders; equal answers have one
        done = judge("counting.yaml", "pairs.jsonl", "--ledger", "mine.jsonl", "--limit", limit, "--json")
        assert done.exit_code == 0, done.stderr
        calls = len(Path("calls.txt").read_text().splitlines())
        assert calls - asked == more
        asked = calls
    (found,) = json.loads(done.stdout)["judges"]
    assert found["agreement"]["rate"] == 0.75  # the label of the pair of equal answers is first
    assert len(lines("mine.jsonl")) == 7


@pytest.mark.parametrize(
    "pairs", ["embedded:held_out", "folder", "run", "run/judgements.jsonl", "owner/name"]
)
def test_nothing_is_written_beside_what_is_no_file_of_one_s_own(pairs: str) -> None:
    Path("folder").mkdir()
    Path("run").mkdir()
    Path("run/judgements.jsonl").touch()
    assert ledger_beside(pairs) is None


def test_a_file_of_pairs_has_its_ledger_beside_it() -> None:
    assert ledger_beside("pairs.jsonl") == Path(KEPT)


def test_a_person_is_not_asked_where_nothing_would_be_kept(no_terminal_needed: None) -> None:
    Path("folder").mkdir()
    Path("folder/pairs.jsonl").write_bytes(Path("pairs.jsonl").read_bytes())
    done = judge("human", "folder")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: folder is no file that answers can be kept beside: name one for them with --ledger FILE.\n"
    )


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("notes.txt", b"a torn last line would be cut off", "is there already and holds something else"),
        ("notes.jsonl", b'{"note": 1}\n', "is there already and holds something else"),
        ("steps.jsonl", b'{"step": 1}', "steps.jsonl:1: this line is damaged"),
        ("steps.jsonl", b'{"step": 1}\n{"step": 2', "steps.jsonl:1: this line is damaged"),
        ("judgements.jsonl", b"", "has the name of a run's own"),
        ("nowhere/mine.jsonl", None, "cannot be made: its folder is not there"),
        (".", None, "is no file that can be read and written"),
        ("pairs.jsonl", None, "is the file of pairs itself"),
    ],
)
def test_a_ledger_is_never_somebody_s_other_file(path: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        Path(path).write_bytes(content)
    before = {file: file.read_bytes() for file in Path().iterdir()}
    with pytest.raises(UserError, match=problem):
        open_ledger(Path(path), "pairs.jsonl")
    assert {file: file.read_bytes() for file in Path().iterdir()} == before


def test_a_torn_last_line_of_a_ledger_is_cut_off() -> None:
    Path(KEPT).write_bytes(b'{"step": 0, "judge": "prefl')
    open_ledger(Path(KEPT), "pairs.jsonl")
    assert Path(KEPT).read_bytes() == b""


def test_a_person_is_not_compared_with_the_same_answers(no_terminal_needed: None) -> None:
    done = judge("human", "pairs.jsonl", "--against", "human")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --against: both judges are the same")
    assert not Path(KEPT).exists()
