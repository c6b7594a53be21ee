"""A run that no longer gets better ends, and one may end with its best adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from prefloop import Evaluation, Rate, Run, StopRun, UserError, load_config, resume, train
from prefloop.evaluation import Evaluator
from prefloop.runs.training import evaluations_since_best
from support.small_runs import StopsAfter, lines

STILL: dict[str, Any] = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 60},
    "judge": {"use": "rule", "length": "longer"},
    "sampler": {"max_completion_length": 8},
    "adapter": {"rank": 2, "layers": 1},
    "training": {
        "batch_size": 3,
        "iters": 5,
        "learning_rate": 1e-12,
        "evaluate_every": 1,
        "early_stop": 2,
        "save_every": 0,
    },
    "evaluation": {"held_out": 6},
}
MOVING: dict[str, Any] = {
    **STILL,
    "training": {**STILL["training"], "learning_rate": 1e-3, "early_stop": None, "load_best": True},
}
RATES = (0.5, 0.25, 0.75, 0.5, 0.75, 0.5)
"""Win rates after each step of a run that is best after its second, and as good again after its fourth."""


def run_in(path: Path, settings: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {
        **settings,
        "training": {**settings["training"], **training},
        "output": {"path": str(path), "report": False},
    }


def rates(run: Run) -> dict[int, float]:
    metrics = lines(run.path / "metrics.jsonl")
    return {m["step"]: m["evaluation"]["win_rate"]["rate"] for m in metrics if "evaluation" in m}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations have the win rates of `RATES`, whatever was sampled and learnt."""
    real = Evaluator.__call__

    def evaluate(evaluator: Evaluator, step: int) -> Evaluation:
        return evolve(real(evaluator, step), win_rate=Rate(RATES[step], 0.0, 1.0, 6))

    monkeypatch.setattr(Evaluator, "__call__", evaluate)


def adapters(folder: Path) -> bytes:
    return (folder / "adapters.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("seen", "min_delta", "count"),
    [
        ([], 0.0, 0),
        ([0.5], 0.0, 0),
        ([0.5, 0.5], 0.0, 1),
        ([0.5, 0.6, 0.55, 0.6], 0.0, 2),
        ([0.5, 0.6, 0.55, 0.61], 0.0, 0),
        ([0.5, 0.53, 0.56], 0.05, 0),  # small gains add up
        ([0.5, 0.53, 0.54], 0.05, 2),
    ],
)
def test_evaluations_without_improvement_are_counted(seen: list[float], min_delta: float, count: int) -> None:
    assert evaluations_since_best(seen, min_delta) == count


def test_a_run_without_improvement_stops_early_and_can_go_on(tmp_path: Path) -> None:
    run = train(load_config(run_in(tmp_path / "run", STILL)))
    assert (run.status, run.summary["steps"]) == ("finished", 2)
    assert run.manifest["reason"] == (
        "ended early after step 2: the win rate has not improved in 2 evaluations (training.early_stop)"
    )
    assert sorted(rates(run)) == [0, 1, 2]
    best = run.summary["best"]
    assert (best["step"], best["checkpoint"]) == (1, "checkpoints/0000001")
    assert best["win_rate"]["rate"] == rates(run)[1]

    before = (run.path / "metrics.jsonl").read_bytes()
    again = resume(run.path)
    assert (again.status, again.summary["steps"], again.manifest["reason"]) == (
        "finished",
        2,
        run.manifest["reason"],
    )
    assert (run.path / "metrics.jsonl").read_bytes() == before
    further = resume(run.path, overrides=["training.early_stop=null"])
    assert (further.status, further.summary["steps"]) == ("finished", 5)
    assert "reason" not in further.manifest


@pytest.mark.usefixtures("scripted")
def test_load_best_ends_with_the_best_adapters(tmp_path: Path) -> None:
    run = train(load_config(run_in(tmp_path / "whole", MOVING)))
    assert rates(run) == dict(enumerate(RATES))
    assert [run.summary["best"]["step"], run.summary["adapters_step"], run.summary["steps"]] == [2, 2, 5]
    assert adapters(run.path) == adapters(run.path / run.summary["best"]["checkpoint"])
    assert adapters(run.path) != adapters(run.path / "checkpoints" / "0000005")
    assert run.summary["win_rate"]["after"]["rate"] == RATES[2]

    parts = train(
        load_config(run_in(tmp_path / "parts", MOVING)), observers=[StopsAfter(4, StopRun("enough"))]
    )
    assert parts.status == "stopped"
    assert adapters(parts.path) == adapters(parts.path / "checkpoints" / "0000004")
    parts = resume(parts.path)
    assert adapters(parts.path) == adapters(run.path)
    assert {**parts.summary, "seconds": 0} == {**run.summary, "seconds": 0}


def test_without_load_best_the_last_adapters_are_kept(tmp_path: Path) -> None:
    run = train(load_config(run_in(tmp_path / "run", MOVING, load_best=False, iters=3)))
    assert adapters(run.path) == adapters(run.path / "checkpoints" / "0000003")
    assert "adapters_step" not in run.summary
    assert run.summary["win_rate"]["after"]["rate"] == rates(run)[3]


def test_early_stopping_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    settings = run_in(tmp_path / "run", STILL) | {"prompts": {"path": "embedded:prompts", "limit": 9}}
    with pytest.raises(
        UserError, match=r"training.early_stop: nothing is evaluated .* set evaluation.prompts"
    ):
        train(load_config(settings))
    assert not (tmp_path / "run").exists()
