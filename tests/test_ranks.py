"""Ranks: several processes on loopback take the steps that one process would take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.ranks import ended, start
from support.shared_steps import STEPS

TESTS = str(Path(__file__).parent)
SCENARIOS = ("plain", "xpo", "rollout", "accumulation", "ties", "single", "mixture")


def outcomes(folder: Path, ranks: int, *names: str) -> dict[str, list[dict[str, Any]]]:
    """What each rank says of each scenario."""
    processes = start(ranks, folder, "-m", "support.shared_steps", str(folder), *names, PYTHONPATH=TESTS)
    for code, _, errors in ended(processes):
        assert code == 0, errors
    files = {name: [folder / f"{name}-{rank}-of-{ranks}.json" for rank in range(ranks)] for name in names}
    return {name: [json.loads(file.read_text()) for file in own] for name, own in files.items()}


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of two sets of tensors, relative to the largest number."""
    a, b = (np.concatenate([np.ravel(found[name]) for name in sorted(one)]) for found in (one, other))
    return float(np.abs(a - b).max() / np.abs(a).max())


def check_equal(alone: dict[str, Any], shared: list[dict[str, Any]]) -> None:
    """Each rank has taken the steps of the process that was alone, and moved as far as that."""
    for found in shared:
        for step, expected in zip(found["steps"], alone["steps"], strict=True):
            for exact in ("prompts", "tokens", "verdicts", "labelled"):
                assert step[exact] == expected[exact]
            assert step["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert apart(found["trained"], alone["trained"]) < 1e-5
        assert found["trained"] == shared[0]["trained"]  # the ranks themselves differ in no bit


def moved(found: dict[str, Any]) -> float:
    """The largest number in what was trained, of which one half begins at zero."""
    return max(float(np.abs(v).max()) for name, v in found["trained"].items() if name.endswith("lora_b"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a process that is alone makes of a scenario."""
    folder = tmp_path_factory.mktemp("alone")

    @cache
    def found(name: str) -> dict[str, Any]:
        return outcomes(folder, 1, name)[name][0]

    return found


def check_scenarios(names: Sequence[str], ranks: int, alone: Callable[[str], Any], folder: Path) -> None:
    shared = outcomes(folder, ranks, *names)
    for name in names:
        check_equal(alone(name), shared[name])
        assert len(shared[name][0]["steps"]) == STEPS
        assert moved(alone(name)) > 1e-3
        statuses = Counter(v[1] for step in shared[name][0]["steps"] for v in step["verdicts"])
        assert {"ok", "tie", "abstained"} <= set(statuses)


def test_two_ranks_take_the_steps_that_one_process_takes(alone: Any, tmp_path: Path) -> None:
    check_scenarios(["plain"], 2, alone, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_take_the_steps_that_one_process_takes(ranks: int, alone: Any, tmp_path: Path) -> None:
    """XPO, rollouts, accumulation, ties that teach, steps with fewer prompts than ranks, and mixtures."""
    check_scenarios(SCENARIOS, ranks, alone, tmp_path)


def test_every_prompt_comes_once_an_epoch(alone: Any) -> None:
    """Of 10 prompts, 4 a step: 5 steps are two epochs. With ranks the steps are the same, as tested above."""
    asked = [prompt for step in alone("plain")["steps"] for prompt in step["prompts"]]
    for epoch in range(8):
        assert max(Counter(asked[10 * epoch : 10 * epoch + 10]).values()) == 1


def test_a_judge_that_fails_on_one_rank_ends_all_at_the_same_step(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 2, "failing")["failing"]
    assert [one["end"] for one in found] == ["enough of it"] * 2
    assert [one["taken"] for one in found] == [2, 2]
    assert found[0]["trained"] == found[1]["trained"]
