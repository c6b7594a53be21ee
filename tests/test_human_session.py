"""A person judges a run at the terminal: labels, second thoughts, interruptions, a kill, and on it goes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.terminals import QUIET, Terminal

SETTINGS: dict[str, Any] = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 40},
    "judge": "human",
    # Nobody is asked about equal answers: two in 100 at a temperature of 1.2, and none in 10^20 at this one.
    "sampler": {"max_completion_length": 12, "temperature": 5.0, "top_p": 1.0},
    "adapter": {"rank": 2, "layers": 1},
    "training": {"batch_size": 4, "iters": 2},
    "output": "run",
}


def sit_down(folder: Path) -> Terminal:
    """Start the run, or go on with it."""
    resumed = ["--resume", "run"] if (folder / "run" / "run.json").exists() else ["config.yaml"]
    return Terminal([sys.executable, "-m", "prefloop", "train", *resumed], folder, patience=120)


def ledger(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "run" / "judgements.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def pairs_of(rows: list[dict[str, Any]]) -> list[str]:
    return [json.dumps([r["prompt_id"], r["first"]["tokens"], r["second"]["tokens"]]) for r in rows]


@pytest.mark.slow
def test_a_human_session_survives_undo_garbage_kill_and_interrupt(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(SETTINGS))

    person = sit_down(tmp_path)
    person.answer(1, "1")
    person.answer(2, "t")
    person.answer(3, "u")  # second thoughts about the tie
    person.answer(2, "2")
    person.wait_for("pair 3 of")
    time.sleep(QUIET)
    for garbage in ("x", "\r", "7", " "):
        person.hint(garbage)
    person.press("s")
    person.wait_for("pair 4 of")
    time.sleep(QUIET)
    person.process.kill()
    person.close()

    # Five lines: the tie that was taken back is followed by its withdrawal and by the second answer.
    first = ledger(tmp_path)
    assert [r["status"] for r in first] == ["ok", "tie", "error", "ok", "abstained"]
    assert len(set(pairs_of(first))) == 3

    person = sit_down(tmp_path)  # only the fourth pair of the first step is left
    person.wait_for("pair 1 of 1")
    time.sleep(QUIET)
    person.press("\x03")
    assert person.wait() == 130
    person.close()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"

    person = sit_down(tmp_path)
    person.answer(1, "1")
    for number in (1, 2, 3, 4):
        person.answer(number, "2")
    assert person.wait() == 0
    person.close()

    rows = ledger(tmp_path)
    answered = [r for r in rows if r["status"] in ("ok", "abstained")]
    assert len(answered) == len(set(pairs_of(answered))) == 8, "a label was asked for twice, or lost"
    assert rows[: len(first)] == first
    assert [r["step"] for r in answered] == [1] * 4 + [2] * 4
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
