"""The plan of a run: how much memory it needs, and how a step is divided to fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import asdict, evolve

from prefloop import (
    BaseJudge,
    Completion,
    Loop,
    Pair,
    Policy,
    PreferenceBatch,
    Prompt,
    StopRun,
    UserError,
    Verdict,
    load_config,
)
from prefloop.config import AdapterConfig, OutputConfig
from prefloop.loop import TARGET_MICRO_BATCH_TOKENS
from prefloop.runs.plan import Division, Memory, size_words
from prefloop.runs.planning import SHARE, Estimator, check_memory, divide
from prefloop.runs.preparation import dry_run, prepare
from prefloop.runs.training import resume, train
from prefloop_plugins.judges.committee import CommitteeJudge
from prefloop_plugins.judges.llm import LlmJudge
from support.loops import make_loop
from support.small_runs import StopsAfter, outcome, settings_for
from support.tiny_models import ModelFolder

SMALL = {"batch_size": 6, "iters": 4, "save_every": 2, "learning_rate": 1e-3}


def batch_of(loop: Loop, lengths: list[int]) -> PreferenceBatch:
    """Pairs whose chosen completions have these lengths and whose rejected ones are one token longer."""
    prompts = tuple(loop.prompts[: len(lengths)])
    made = [[Completion(tuple(range(3, 3 + n + more)), "", False) for n in lengths] for more in (0, 1)]
    count = len(lengths)
    weights = tuple(1.0 if i % 2 else 0.5 for i in range(count))
    return PreferenceBatch(prompts, tuple(made[0]), tuple(made[1]), (0.9,) * count, weights)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_add_up_to_the_gradient_of_the_whole(model_folder: ModelFolder, size: int) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    loop = make_loop(policy, training={"batch_size": 6, "micro_batch_size": size})
    batch = batch_of(loop, [5, 2, 9, 2, 7, 4])
    progress, weight = loop.progress(1), sum(batch.weight)
    whole = flat(loop.gradient(batch, progress, weight)[0])
    parts = list(loop._micro_batches(batch))
    assert max(map(len, parts)) == size
    lengths = [len(c.tokens) for part in parts for c in part.chosen]
    assert lengths == sorted(lengths)
    added = sum(flat(loop.gradient(part, progress, weight)[0]) for part in parts)
    assert np.linalg.norm(added - whole) <= 1e-5 * np.linalg.norm(whole)
    assert np.linalg.norm(whole) > 0


def flat(gradient: Any) -> Any:
    from mlx.utils import tree_flatten

    return np.concatenate([np.asarray(g).ravel() for _, g in sorted(tree_flatten(gradient))]).astype(float)


def test_a_batch_that_fits_is_not_divided(model_folder: ModelFolder) -> None:
    loop = make_loop(Policy.load(str(model_folder("qwen3"))), training={"batch_size": 6})
    (part,) = loop._micro_batches(batch_of(loop, [5, 2, 9, 2, 7, 4]))
    assert [len(c.tokens) for c in part.chosen] == [5, 2, 9, 2, 7, 4]


def test_a_batch_with_too_many_tokens_is_divided_into_equal_parts(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(Policy.load(str(model_folder("qwen3"))), training={"batch_size": 6})
    batch = batch_of(loop, [5, 2, 9, 2, 7, 4])
    monkeypatch.setitem(TARGET_MICRO_BATCH_TOKENS, mx.default_device().type.name, batch.tokens // 3 + 1)
    parts = list(loop._micro_batches(batch))
    assert [len(c.tokens) for part in parts for c in part.chosen] == [2, 2, 4, 5, 7, 9]
    assert [len(part) for part in parts] == [2, 2, 2]


def test_with_all_weights_twice_as_much_is_scored_at_once(model_folder: ModelFolder) -> None:
    folder = str(model_folder("qwen3"))
    tokens = 4 * TARGET_MICRO_BATCH_TOKENS[mx.default_device().type.name]
    parts = {}
    for kind in ("lora", "full"):
        policy = Policy.load(folder, AdapterConfig(type=kind))
        loop = make_loop(policy, training={"gradient_checkpointing": True})
        assert loop.lanes == 1
        parts[kind] = loop.pairs_at_once(8, tokens)
    assert parts == {"lora": 2, "full": 4}


@pytest.mark.parametrize(
    ("algorithm", "alpha", "iters", "warns"),
    [
        ("xpo", [1e-4, 1e-5], 5, True),  # 10 of 12 prompts
        ("xpo", [1e-4, 1e-5], 6, True),  # the second epoch would begin with the next step
        ("xpo", [1e-4, 1e-5], 7, False),
        ("xpo", [1e-4], 5, False),
        ("xpo", 1e-4, 5, False),
        ("xpo_paper", [1e-4, 1e-5], 5, True),
    ],
)
def test_a_schedule_that_never_leaves_its_first_value_is_in_the_plan(
    tmp_path: Path, algorithm: str, alpha: Any, iters: int, warns: bool
) -> None:
    settings = settings_for(tmp_path / "run", training={"batch_size": 2, "iters": iters})
    settings |= {
        "algorithm": {"use": algorithm, "alpha": alpha},
        "prompts": {"path": "embedded:prompts", "limit": 12},
        "evaluation": {"held_out": 0},
    }
    plan = prepare(load_config(settings)).plan
    told = [text for title, text in plan.lines() if title == "warning"]
    sentence = (
        "bonuses.0: its schedule has 2 values, one for each epoch, but this run ends in the first: it never "
        "leaves its first value."
    )
    assert told == [sentence] * warns


@pytest.mark.parametrize(
    ("budget", "asked", "micro_batch", "pool"),
    [
        (1000.0, None, 8, 900),
        (150.0, None, 5, 50),
        (109.0, None, 1, 9),
        (50.0, None, 1, 0),
        (120.0, 3, 3, 20),
    ],
)
def test_micro_batches_have_as_many_pairs_as_fit_the_budget(
    model_folder: ModelFolder, budget: float, asked: int | None, micro_batch: int, pool: int
) -> None:
    """A hundred bytes are held, and each pair takes ten more while it is scored."""

    def estimate(pairs: int, pool_bytes: int) -> Memory:
        return Memory(60, 20, 15, 5, min(40, pool_bytes), 10 * pairs)

    training = {"batch_size": 8, "micro_batch_size": asked}
    loop = make_loop(Policy.load(str(model_folder("qwen3"))), training=training)
    assert divide(estimate, loop, budget) == Division(micro_batch, pool)


@pytest.mark.skipif(mx.default_device().type != mx.DeviceType.cpu, reason="measured on mlx's CPU back end")
@pytest.mark.parametrize("adapter", ["lora", "dora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_planned_scoring_memory_matches_the_measured_peak(
    model_folder: ModelFolder, adapter: str, checkpointing: bool
) -> None:
    training = {"batch_size": 8, "micro_batch_size": 8, "gradient_checkpointing": checkpointing}
    policy = Policy.load(str(model_folder("qwen3")), AdapterConfig(type=adapter, rank=8, layers=-1))
    loop = make_loop(policy, training=training)
    batch = batch_of(loop, [63] * 8)
    longest = max(len(p.tokens) for p in loop.prompts)
    planned = Estimator(loop, longest, 64)(8, 1 << 30).activations
    loop.gradient(batch, loop.progress(1), 8.0)  # what is found out once is found out now
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(loop.gradient(batch, loop.progress(1), 8.0))
    assert planned == pytest.approx(mx.get_peak_memory() - held, rel=0.2)


@pytest.mark.skipif(mx.default_device().type != mx.DeviceType.cpu, reason="measured on mlx's CPU back end")
@pytest.mark.parametrize("limit", [None, 0.015])
def test_planned_cache_memory_matches_the_peak_of_an_evaluation(limit: float | None) -> None:
    training = {"memory_limit_gb": limit, "batch_size": 8}
    judge = {"use": "llm", "model": "embedded:judge"}
    config = load_config(
        {"model": "embedded:policy", "prompts": "embedded:prompts", "judge": judge, "training": training}
    )
    prepared = prepare(config).with_components()
    assert prepared.evaluator is not None
    evaluator = evolve(prepared.evaluator, sampling=evolve(prepared.evaluator.sampling, temperature=2.0))
    memory = prepared.plan.memory
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    evaluator.sample()
    assert memory.caches == pytest.approx(mx.get_peak_memory() - before, rel=0.2)


@pytest.mark.skipif(mx.default_device().type != mx.DeviceType.cpu, reason="measured on mlx's CPU back end")
@pytest.mark.parametrize(("orders", "words"), [("both", 60), ("both", 1), ("fixed", 60)])
def test_planned_judging_memory_matches_the_measured_peak(orders: str, words: int) -> None:
    judge = LlmJudge("embedded:judge", orders=orders)
    assert judge.pass_bytes(8, 9, 9, 9) == 0, "what is not loaded takes nothing yet"
    judge.prepare()
    texts = [" ".join([chr(97 + i), *["word"] * words]) for i in range(8)]
    answers = [" ".join([side, *["yes"] * 20]) for side in ("a", "b")]
    encode = judge._loaded.tokenizer.encode
    prompt, answer = len(encode(texts[0])), len(encode(answers[0]))
    pairs = [Pair(Prompt((1,), text), *(Completion((1,), a) for a in answers)) for text in texts]
    judge.judge(pairs)  # what is found out once is found out now
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    judge.judge(pairs)
    planned = judge.pass_bytes(len(pairs), prompt, prompt, answer)
    assert planned == pytest.approx(mx.get_peak_memory() - held, rel=0.35)
    committee = CommitteeJudge([Coin(), judge])
    assert committee.pass_bytes(len(pairs), prompt, prompt, answer) == planned


class Coin(BaseJudge):
    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict.tie() for _ in pairs]


def test_the_plan_counts_what_the_judge_takes(tmp_path: Path) -> None:
    judge = {"use": "llm", "model": "embedded:judge"}
    prepared = prepare(load_config(settings_for(tmp_path / "run", training=SMALL, judge=judge)))
    assert prepared.plan.memory.judging == 0 and "judging" not in prepared.plan.memory.words()
    memory = prepared.with_components().plan.memory
    assert memory.judging > 0 and f"judging {size_words(memory.judging)}, " in memory.words()
    alone = evolve(memory, caches=0, activations=0, update=0)
    assert alone.total == memory.held + memory.judging


def test_a_resumed_run_keeps_its_micro_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever memory there is by then: rounding depends on how a step is divided."""
    config = load_config(settings_for(tmp_path / "run", training=SMALL))
    assert prepare(config).plan.division.micro_batch == 6
    needed = prepare(config).with_components().plan.memory
    machine = (needed.held + needed.activations / 2) / SHARE
    monkeypatch.setattr("prefloop.runs.planning.machine_memory", lambda: machine)
    whole = train(evolve(config, output=OutputConfig(str(tmp_path / "whole"), report=False)))
    division = whole.plan.division
    assert 1 <= division.micro_batch < 6
    stopped = train(config, observers=[StopsAfter(2, StopRun("enough"))])
    assert stopped.manifest["plan"]["division"] == asdict(division)
    monkeypatch.undo()
    resumed = resume(stopped.path)
    assert resumed.plan.division == division
    assert outcome(resumed.path) == outcome(whole.path)


def test_where_the_estimate_was_not_fitted_the_plan_warns_instead_of_refusing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(settings_for(tmp_path / "run", training={**SMALL, "memory_limit_gb": 0.0001}))
    for fitted in (True, False):
        monkeypatch.setattr("prefloop.runs.planning.on_cpu", lambda fitted=fitted: fitted)
        plan = prepare(config).plan
        if fitted:
            assert plan.warnings == ()
            with pytest.raises(UserError, match=r"this run needs .* training.memory_limit_gb allows 0.1 MB"):
                check_memory(plan, 0.0001)
        else:
            (warning,) = plan.warnings
            assert warning.startswith(
                f"this run needs {plan.memory.words()}. training.memory_limit_gb allows"
            )
            check_memory(plan, 0.0001)
            assert prepare(load_config(settings_for(tmp_path / "run", training=SMALL))).plan.warnings == ()


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_the_plan_says_that_quantized_weights_are_slow_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: str
) -> None:
    model = {"path": "embedded:policy", "quantize": quantize}
    config = load_config(settings_for(tmp_path / "run", training=SMALL, model=model))
    for on_cpu in (True, False):
        monkeypatch.setattr("prefloop.runs.planning.on_cpu", lambda on_cpu=on_cpu: on_cpu)
        said = [text for text in prepare(config).plan.warnings if "quantized, which is slow" in text]
        assert len(said) == (on_cpu and quantize == "4bit")


def test_an_explicit_micro_batch_size_is_kept(model_folder: ModelFolder) -> None:
    loop = make_loop(
        Policy.load(str(model_folder("qwen3"))), training={"batch_size": 4, "micro_batch_size": 9}
    )
    roomy = evolve(loop.training, micro_batch_size=3)
    assert divide(Estimator(loop, 20, 8), loop, 1e12).micro_batch == 4
    loop.training = roomy
    assert divide(Estimator(loop, 20, 8), loop, 1.0).micro_batch == 3


def test_a_dry_run_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    sampler = {"max_completion_length": 10**9}
    config = load_config(settings_for(tmp_path / "run", sampler=sampler))
    with pytest.raises(UserError, match=r"^this run needs about .* Lower .*max_completion_length"):
        dry_run(config, echo=lambda _: None)
