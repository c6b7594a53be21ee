"""Numbers that are not finite end a run as failed, and are never what it leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import define, evolve, frozen

from prefloop import (
    Completion,
    Evaluation,
    Pair,
    Policy,
    Sampling,
    Scores,
    StopRun,
    UserError,
    Verdict,
    load_config,
    resume,
    train,
)
from prefloop.components import Observer
from prefloop.evaluation.evaluator import divergence
from prefloop.evaluation.stats import wilson
from prefloop.metrics import distinct
from prefloop.model.weight_sharing import arrays
from prefloop.runs.checkpoint import prune, ranked
from prefloop.runs.preparation import dry_run
from prefloop.settings import TrainingConfig
from support.small_runs import lines, settings_for


def trained_tensors(folder: Path) -> dict[str, mx.array]:
    return dict(mx.load(str(folder / "adapters.safetensors")))


def all_finite(tensors: dict[str, mx.array]) -> bool:
    return all(bool(mx.isfinite(tensor).all().item()) for tensor in tensors.values())


@define
class Poisoned(Observer):
    """Makes a tensor NaN, in the policy or the optimizer, after a step."""

    poison: Callable[[Any], None]
    step: int
    loop: Any = None

    def step_finished(self, step: Any) -> None:
        if step.progress.step == self.step:
            self.poison(self.loop)


def poison_weights(policy: Policy) -> None:
    name, value = next(iter(policy.trainable().items()))
    policy.model.load_weights([(name, mx.full(value.shape, math.nan))], strict=False)


def run_poisoned(
    tmp_path: Path, poison: Callable[[Any], None], step: int, monkeypatch: Any, **changes: Any
) -> Any:
    """A run whose loop is changed after a step, as by a numeric accident."""
    from prefloop.runs import training

    loops: list[Any] = []
    real = training.prepare

    def prepare(*arguments: Any) -> Any:
        prepared = real(*arguments)
        loops.append(prepared.loop)
        observer.loop = prepared.loop
        return prepared

    monkeypatch.setattr(training, "prepare", prepare)
    observer = Poisoned(poison, step)
    return train(load_config(settings_for(tmp_path / "run")), observers=[observer])


def test_weights_that_are_not_finite_end_the_run_and_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_poisoned(tmp_path, lambda loop: poison_weights(loop.policy), 5, monkeypatch)
    assert run.status == "failed"
    assert "made trained weights NaN or infinite" in run.manifest["reason"]
    assert run.manifest["resumable"] is False
    assert max(run.checkpoints()) == 4
    assert run.summary["adapters_step"] == 4
    for folder in (run.path, *run.checkpoints().values()):
        assert all_finite(trained_tensors(folder)), folder
    last = trained_tensors(run.checkpoints()[4])
    assert all(mx.array_equal(value, last[name]) for name, value in trained_tensors(run.path).items())


def test_without_a_checkpoint_no_adapters_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_poisoned(tmp_path, lambda loop: poison_weights(loop.policy), 1, monkeypatch)
    assert run.status == "failed" and run.checkpoints() == {}
    assert not (run.path / "adapters.safetensors").exists()
    assert json.loads((run.path / "run.json").read_text())["status"] == "failed"


def test_an_optimizer_that_is_not_finite_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(loop: Any) -> None:
        state = arrays(loop.optimizer.state)
        name = next(name for name in state if name.endswith(".v"))
        value = loop.optimizer.state
        *path, last = name.split(".")
        for key in path:
            value = value[int(key)] if isinstance(value, list) else value[key]
        value[last] = mx.full(value[last].shape, math.inf)

    run = run_poisoned(tmp_path, poison, 5, monkeypatch)
    assert run.status == "failed"
    assert "'optimizer." in run.manifest["reason"]
    assert max(run.checkpoints()) == 4


def test_a_learning_rate_that_blows_the_weights_up(tmp_path: Path) -> None:
    training = {"batch_size": 3, "iters": 4, "learning_rate": 1e38, "save_every": 1}
    run = train(load_config(settings_for(tmp_path / "run", training=training)))
    assert run.status == "failed"
    assert "learning_rate" in run.manifest["reason"]
    assert not (run.path / "adapters.safetensors").exists() or all_finite(trained_tensors(run.path))


@frozen
class Undefined:
    """A loss whose value is NaN and whose gradient is zero: a gradient norm alone would not tell."""

    def __call__(self, scores: Scores) -> mx.array:
        return mx.stop_gradient(scores.policy_chosen * math.nan) + 0.0 * mx.sigmoid(scores.policy_chosen)


def test_a_loss_without_a_value_teaches_nothing_and_ends_the_run(tmp_path: Path) -> None:
    config = evolve(load_config(settings_for(tmp_path / "run")), loss=Undefined())
    run = train(config)
    assert run.status == "failed"
    assert "the loss or its gradient was infinite or undefined for 5 steps" in run.manifest["reason"]
    steps = [line for line in lines(run.path / "metrics.jsonl") if "loss" in line]
    assert [(line["loss"], line["skipped"]) for line in steps] == [(None, 1.0)] * 5
    untouched = Policy.load("embedded:policy", config.adapter, seed=config.training.seed).trainable()
    saved = trained_tensors(run.path)
    assert all(mx.array_equal(value, untouched[name]) for name, value in saved.items())


def test_skipped_steps_are_counted_across_an_interruption(tmp_path: Path) -> None:
    class Stops(Observer):
        def step_finished(self, step: Any) -> None:
            if step.progress.step == 3:
                raise StopRun("a person")

    config = evolve(load_config(settings_for(tmp_path / "run")), loss=Undefined())
    assert train(config, observers=[Stops()]).status == "stopped"
    run = resume(tmp_path / "run", config=config)
    assert run.status == "failed"
    assert "for 5 steps in a row" in run.manifest["reason"] and run.summary["steps"] == 5


# Sampling and evaluating


@pytest.fixture
def policy() -> Policy:
    return Policy.load("embedded:policy")


def test_nothing_is_sampled_from_undefined_logits(policy: Policy) -> None:
    prompts = [policy.encode("What does a cow say?"), policy.encode("Name a fruit, please.")]
    sampling = Sampling(max_tokens=4)
    assert policy.generate(prompts, sampling, seed=1)
    weight = policy.model.model.norm.weight
    policy.model.model.norm.weight = mx.full(weight.shape, math.nan)
    for temperature in (0.0, 1.0):
        with pytest.raises(StopRun, match="became NaN or infinite") as stopped:
            policy.generate(prompts, evolve(sampling, temperature=temperature), seed=1)
        assert stopped.value.failed and not stopped.value.resumable


def test_logits_of_minus_infinity_for_some_tokens_are_fine(policy: Policy) -> None:
    from prefloop.sampling.pool import TokenSampler

    sampler = TokenSampler(Sampling(temperature=1.0), 0)
    sampler(mx.array([[0.0, -math.inf, 1.0]]))
    assert sampler.sound.item()
    with np.errstate(invalid="ignore"):
        sampler(mx.array([[-math.inf, -math.inf]]))
    assert not sampler.sound.item()


def test_an_evaluation_of_undefined_log_probabilities_is_an_end_and_no_traceback(policy: Policy) -> None:
    prompt = policy.encode("What does a cow say?")
    completion = policy.completion("moo")
    assert math.isfinite(divergence(policy, [prompt] * 2, [completion] * 2, 8)["kl"])
    poison_weights(policy)
    with pytest.raises(StopRun, match="log-probabilities of held-out completions"):
        divergence(policy, [prompt] * 2, [completion] * 2, 8)


# The dry run


@frozen
class Steep:
    """A loss whose gradient is NaN where its value is finite: the square root at zero, times zero."""

    def __call__(self, scores: Scores) -> mx.array:
        zero = scores.policy_chosen - mx.stop_gradient(scores.policy_chosen)
        return mx.sqrt(zero) * 0.0


@frozen
class Says:
    verdict: Verdict

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self.verdict] * len(pairs)


def test_a_dry_run_does_not_take_nan_for_a_gradient(tmp_path: Path) -> None:
    config = evolve(load_config(settings_for(tmp_path / "run")), loss=Steep())
    with pytest.raises(UserError, match=r"gradient of \d+ trainable tensors is NaN or infinite, of '.*lora"):
        dry_run(config, echo=lambda _: None)


def test_a_dry_run_shows_a_judge_that_only_fails_or_goes_by_place(tmp_path: Path) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    with pytest.raises(UserError, match=r"judge: all of its \d verdicts are errors. The last one: no key"):
        dry_run(evolve(config, judge=Says(Verdict.error("no key"))), echo=lambda _: None)
    said: list[str] = []
    dry_run(evolve(config, judge=Says(Verdict(0.52, orders=(0.9, 0.14)))), echo=said.append)  # type: ignore[arg-type]
    assert any("it contradicts itself on" in line for line in said)


# The best evaluation, and which checkpoints stay


def evaluation(step: int, rate: float, variety: float) -> Evaluation:
    return Evaluation(step, evolve(wilson(5, 10), rate=rate), {"distinct_2": variety}, (), ())


def test_a_collapsed_policy_is_not_the_best() -> None:
    made = [
        evaluation(0, 0.5, 0.8),
        evaluation(1, 0.7, 0.7),
        evaluation(2, 0.9, 0.5),
        evaluation(3, 1.0, 0.003),
    ]
    assert [e.step for e in ranked(made)] == [2, 1, 3]
    unknown = [evolve(e, metrics={}) for e in made]  # of an older version
    assert [e.step for e in ranked(unknown)] == [3, 2, 1]


def test_checkpoints_are_kept_at_the_end_at_the_best_and_over_the_run(tmp_path: Path) -> None:
    keep = TrainingConfig(keep_last=2, keep_best=1, keep_spread=2)
    made = [evaluation(0, 0.5, 0.8), evaluation(20, 0.9, 0.8), evaluation(90, 0.8, 0.8)]
    for step in range(10, 101, 10):
        (tmp_path / "checkpoints" / f"{step:07d}").mkdir(parents=True)
        prune(tmp_path, keep, 90, [e for e in made if e.step <= step])
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [20, 30, 60, 90, 100]


# What steps report


def test_distinct_bigrams_by_hand() -> None:
    completions = [Completion((1, 2, 1, 2, 9), "", stopped=True), Completion((1, 2, 3), "", stopped=False)]
    assert distinct(completions, 2) == 3 / 5  # 12 21 12 | 12 23
    assert math.isnan(distinct([Completion((1, 9), "")], 2))


def test_a_step_reports_its_variety_and_its_divergence(tmp_path: Path) -> None:
    run = train(load_config(settings_for(tmp_path / "run")))
    steps = [line for line in lines(run.path / "metrics.jsonl") if "completion_length" in line]
    for line in steps:
        assert 0 < line["distinct_2"] <= 1
        if line["labelled"]:
            expected = (line["log_ratio_chosen"] + line["log_ratio_rejected"]) / 2
            assert np.isclose(line["kl"], expected, rtol=1e-6, atol=1e-9)
    assert steps[0]["kl"] == pytest.approx(0.0, abs=1e-4)


def test_answers_that_the_policy_did_not_draw_say_nothing_of_its_divergence(tmp_path: Path) -> None:
    changes = {"sampler": {"use": "policy-reference", "max_completion_length": 8}}
    run = train(load_config(settings_for(tmp_path / "run", **changes)))
    assert all("kl" not in line for line in lines(run.path / "metrics.jsonl") if "completion_length" in line)


def test_a_failed_first_evaluation_is_said_before_any_step(tmp_path: Path) -> None:
    config = load_config(settings_for(tmp_path / "run"))
    judge = Says(Verdict.error("no key"))
    run = train(evolve(config, evaluation=evolve(config.evaluation, judge=judge)))
    assert run.status == "failed" and run.summary["steps"] == 0
    assert "the judge of evaluations" in run.manifest["reason"] and "no key" in run.manifest["reason"]
