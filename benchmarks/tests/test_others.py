"""How learning beside other tools is summed up, and a run of prefloop's own worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.others import learning, rows, tables
from benchmarks.others.evaluating import STYLE


def test_spread_is_the_interval_of_the_mean_by_students_t() -> None:
    found = learning.spread([0.5, 0.6, 0.7, 0.8, 0.9])
    assert found["mean"] == pytest.approx(0.7)
    assert found["half"] == pytest.approx(2.776 * np.std([0.5, 0.6, 0.7, 0.8, 0.9], ddof=1) / 5**0.5)


def test_the_best_rate_wins_most_without_losing_the_facts() -> None:
    def row(tool: str, rate: float, win_rate: float, facts: float) -> dict[str, Any]:
        end = {"win_rate": {"mean": win_rate}, "facts_right": {"mean": facts}}
        return {"tool": tool, "learning_rate": rate, "evaluations": {"30": end}}

    swept = [
        row("a", 1.0, 0.7, 1.0),
        row("a", 2.0, 0.8, 0.9),
        row("a", 4.0, 0.8, 0.95),
        row("a", 8.0, 0.9, 0.4),
    ]
    assert learning.best([*swept, row("b", 1.0, 0.9, 0.1), row("b", 2.0, 0.6, 1.0)]) == {"a": 2.0, "b": 2.0}


def test_a_run_is_trained_once_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of prefloop has the judgements of the task, and a second call finds it on record."""
    campaign = learning.Campaign(tmp_path)
    [found] = campaign.run(rows.same_rate()[:1], range(1))
    assert found["judgements"] == [STYLE.steps * STYLE.batch_size]
    assert found["logit_difference"] < 1e-4
    steps = found["evaluations"]
    assert [int(step) for step in steps] == [*STYLE.saves]
    assert steps["30"]["win_rate"]["mean"] > campaign.referee.start["win_rate"]
    monkeypatch.setattr(campaign, "_train", lambda job: pytest.fail("it was on record"))
    assert campaign.run(rows.same_rate()[:1], range(1)) == [found]


def test_a_line_for_each_tool_and_rate_on_the_real_model() -> None:
    """Student's interval of 0.5 and 0.7 is 0.6 ± 12.706 · 0.1, which is cut off where a share ends."""

    def line(tool: str, rate: float, **measured: float) -> dict[str, Any]:
        found = {**dict.fromkeys(tables.REAL_COLUMNS, 0.0), **measured}
        return {"settings": {"tool": tool, "learning_rate": rate}, "measured": found}

    lines = [line("trl", 2e-4, win_rate=0.5), *[line("prefloop", 4e-5)] * 2, line("trl", 2e-4, win_rate=0.7)]
    one, other = [row.split(" | ") for row in tables.real(lines).splitlines()[2:]]
    assert one[:2] == ["| prefloop", "4e-05"] and other[:3] == ["| trl", "0.0002", "0.60 (0.00 to 1.00)"]
