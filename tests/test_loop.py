"""The loop, by what it changes: one step moves every trainable tensor and nothing else."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import evolve, frozen
from mlx.utils import tree_flatten

from prefloop import (
    BaseBonus,
    Completion,
    Loop,
    Pair,
    Policy,
    PreferenceBatch,
    Prompt,
    Step,
    StopRun,
    UserError,
    Verdict,
    component,
)
from prefloop.components import PendingVerdicts
from prefloop.config import AdapterConfig, ModelConfig, TrainingConfig
from prefloop.metrics import batch_sums
from prefloop.types import Scores
from support.loops import Longer, make_loop, prompts_of
from support.tiny_models import ModelFolder, build

LOSSES = {
    "sigmoid": {},
    "hinge": {},
    "ipo": {},
    "dpop": {"delta": 5.0},
}
BONUSES: dict[str, tuple[str, dict[str, Any]] | None] = {
    "none": None,
    "kl-exact": ("kl", {"alpha": 0.1}),
    "kl-k2": ("kl", {"alpha": 0.1, "estimator": "k2"}),
    "kl-sampled": ("kl", {"alpha": 0.1, "estimator": "sampled"}),
    "optimism": ("optimism", {"alpha": 0.1}),
}
TYPES = {
    "lora": (ModelConfig(path="?"), AdapterConfig(rank=4)),
    "dora": (ModelConfig(path="?"), AdapterConfig(type="dora", rank=4)),
    "full": (ModelConfig(path="?"), AdapterConfig(type="full", layers=-1)),
    "full-last-layer": (ModelConfig(path="?"), AdapterConfig(type="full", layers=1)),
    "4bit-lora": (ModelConfig(path="?", quantize="4bit"), AdapterConfig(rank=4)),
}


@frozen
class Fixed:
    """Gives the verdicts it was told to give."""

    verdicts: tuple[Verdict, ...]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return list(itertools.islice(itertools.cycle(self.verdicts), len(pairs)))


def tensors(module: Any) -> dict[str, mx.array]:
    """Copies that stay as they are."""
    copies = {name: mx.array(value) for name, value in tree_flatten(module.parameters())}
    mx.eval(copies)
    return copies


def changed(before: dict[str, mx.array], after: dict[str, mx.array]) -> set[str]:
    return {name for name in before if not mx.array_equal(before[name], after[name])}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("bonus", BONUSES)
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_move_every_trainable_tensor_and_nothing_else(
    model_folder: ModelFolder, loss: str, bonus: str, kind: str
) -> None:
    model, adapter = TYPES[kind]
    policy = Policy.load(evolve(model, path=str(model_folder("qwen3"))), adapter)
    term = BONUSES[bonus]
    loop = make_loop(
        policy,
        sampler="policy-reference" if bonus == "optimism" else "policy",
        loss=component("loss", loss)(**LOSSES[loss]),
        bonuses=[component("bonus", term[0])(**term[1])] if term else [],
    )
    before, reference = tensors(policy.model), tensors(policy.reference)
    # An adapter's first factor gets no gradient while the second is zero, so the first step moves only that.
    steps = [loop.step(), loop.step()]
    assert changed(before, tensors(policy.model)) == set(policy.trainable())
    assert changed(reference, tensors(policy.reference)) == set()
    assert all(step.metrics["labelled"] == 2 for step in steps)
    assert ("exploration_bonus" in steps[0].metrics) == (term is not None)


def test_pairs_without_a_label_move_nothing_and_are_counted(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    verdicts = (Verdict.tie(), Verdict.error("unreadable"), Verdict.abstain(), Verdict(0.5))
    loop = make_loop(policy, Fixed(verdicts), training={"batch_size": 4})
    before = tensors(policy.model)
    step = loop.step()
    assert changed(before, tensors(policy.model)) == set()
    assert step.metrics["labelled"] == 0
    assert step.metrics["ties"] == 0.5
    assert step.metrics["errors"] == step.metrics["abstentions"] == 0.25


def test_an_asynchronous_judge_works_while_the_rest_is_sampled(model_folder: ModelFolder) -> None:
    events: list[str] = []

    class Elsewhere(Longer):
        def submit(self, pairs: Sequence[Pair]) -> Any:
            events.append(f"submitted {len(pairs)}")
            return PendingVerdicts(lambda: self.waited(pairs))

        def waited(self, pairs: Sequence[Pair]) -> list[Verdict]:
            events.append(f"waited for {len(pairs)}")
            return self.judge(pairs)

    policy = Policy.load(str(model_folder("qwen3")))
    step = make_loop(policy, Elsewhere(), training={"batch_size": 3}).step()
    assert events == ["submitted 2", "submitted 1", "waited for 2", "waited for 1"]
    assert step.verdicts == Longer().judge(step.pairs)
    assert len({p.prompt.text for p in step.pairs}) == 3


def test_a_stop_in_one_half_of_the_batch_still_waits_for_the_other(model_folder: ModelFolder) -> None:
    waited: list[int] = []

    class Stops(Longer):
        def submit(self, pairs: Sequence[Pair]) -> Any:
            return PendingVerdicts(lambda: self.waited(len(pairs)))

        def waited(self, count: int) -> list[Verdict]:
            waited.append(count)
            raise StopRun(f"stopped at {count}")

    policy = Policy.load(str(model_folder("qwen3")))
    with pytest.raises(StopRun, match="stopped at 2"):
        make_loop(policy, Stops(), training={"batch_size": 3}).step()
    assert waited == [2, 1]


def test_an_unlabelled_pair_changes_no_gradient(model_folder: ModelFolder) -> None:
    """A tie beside a label must give the same update as the label alone, not half of it."""
    moved = []
    for verdicts in ((Verdict(0.9), Verdict.tie()), (Verdict(0.9), Verdict.error("x"))):
        policy = Policy.load(str(model_folder("qwen3")))
        make_loop(policy, Fixed(verdicts)).step()
        moved.append(policy.trainable())
    assert changed(moved[0], moved[1]) == set()

    policy = Policy.load(str(model_folder("qwen3")))
    loop = make_loop(policy, Fixed((Verdict(0.9), Verdict.tie())))
    step = loop.step()
    assert step.metrics["labelled"] == 1
    assert changed(moved[0], policy.trainable()) == set()


@pytest.mark.parametrize(("loss", "ties"), [("sigmoid", "half"), ("hinge", "half"), ("soft", "keep")])
def test_a_counted_tie_pulls_both_ways(model_folder: ModelFolder, loss: str, ties: str) -> None:
    """By symmetry the gradient of a tie vanishes while policy and reference are equal."""
    policy = Policy.load(str(model_folder("qwen3")))
    component_of = component("loss", "sigmoid" if loss == "soft" else loss)
    options = {"soft_labels": True} if loss == "soft" else {}
    loop = make_loop(policy, Fixed((Verdict.tie(),)), loss=component_of(**options), ties=ties)
    metrics = loop.step().metrics
    assert metrics["labelled"] == 2
    assert metrics["grad_norm"] == pytest.approx(0.0, abs=1e-4)  # a label's is about 20 to 40
    assert metrics["loss"] == pytest.approx({"hinge": 1.0}.get(loss, math.log(2)), rel=1e-5)


def test_a_tie_counts_half_in_each_direction() -> None:
    pair = Pair(Prompt((1,), "p"), Completion((2,), "a"), Completion((3,), "b"))
    batch = PreferenceBatch.from_verdicts([pair, pair], [Verdict(0.2), Verdict.tie()], "half")
    assert [c.text for c in batch.chosen] == ["b", "a", "b"]
    assert batch.probability == (0.8, 1.0, 1.0)
    assert batch.weight == (1.0, 0.5, 0.5)
    kept = PreferenceBatch.from_verdicts([pair], [Verdict.tie()], "keep")
    assert (kept.probability, kept.weight) == ((0.5,), (1.0,))
    assert len(PreferenceBatch.from_verdicts([pair], [Verdict.error("?")], "half")) == 0


def test_gradient_accumulation_equals_one_large_batch(model_folder: ModelFolder) -> None:
    moved = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        policy = Policy.load(str(model_folder("qwen3")))
        training = {"batch_size": size, "gradient_accumulation": accumulation, "optimizer": _sgd()}
        make_loop(policy, training=training).step()
        moved.append(policy.trainable())
    for other in moved[1:]:
        for name, value in moved[0].items():
            assert mx.allclose(value, other[name], rtol=1e-3, atol=1e-6), name


def _sgd() -> Any:
    from prefloop.config import OptimizerConfig

    return OptimizerConfig(use="sgd")


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_other_families_train(model_folder: ModelFolder, family: str) -> None:
    policy = Policy.load(str(model_folder(family)))
    loop = make_loop(policy)
    before = tensors(policy.model)
    list(loop)
    assert changed(before, tensors(policy.model)) == set(policy.trainable())


def test_two_runs_with_one_seed_are_identical(model_folder: ModelFolder) -> None:
    runs = []
    for _ in range(2):
        policy = Policy.load(str(model_folder("qwen3")), seed=3)
        steps = list(make_loop(policy, training={"seed": 3}))
        runs.append((policy.trainable(), [s.pairs for s in steps], [s.metrics["loss"] for s in steps]))
    assert changed(runs[0][0], runs[1][0]) == set()
    assert runs[0][1:] == runs[1][1:]


def test_gradient_checkpointing_changes_nothing_but_memory(model_folder: ModelFolder) -> None:
    moved = []
    for checkpointing in (False, True):
        policy = Policy.load(str(model_folder("llama")))
        make_loop(policy, training={"gradient_checkpointing": checkpointing, "optimizer": _sgd()}).step()
        moved.append(policy.trainable())
    for name, value in moved[0].items():
        assert mx.allclose(value, moved[1][name], rtol=1e-4, atol=1e-7), name


def test_prompts_left_over_at_the_end_of_an_epoch_are_used(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    loop = make_loop(policy, training={"batch_size": 3, "epochs": 2.0, "iters": None})
    seen = [pair.prompt.text for step in loop for pair in step.pairs]
    texts = sorted(prompt.text for prompt in loop.prompts)
    assert sorted(seen[:8]) == sorted(seen[8:]) == texts
    assert loop.steps == 6
    assert [round(loop.progress(n).epoch, 3) for n in (1, 4)] == [0.0, 1.125]


def test_observers_need_not_have_every_method(model_folder: ModelFolder) -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[Step] = []

        def step_finished(self, step: Step) -> None:
            self.heard.append(step)

    ear = Ear()
    policy = Policy.load(str(model_folder("qwen3")))
    steps = list(make_loop(policy, observers=[ear, object()]))
    assert ear.heard == steps
    assert [s.progress.step for s in steps] == [1, 2, 3]


def test_the_metrics_of_a_step(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    kl = component("bonus", "kl")(alpha=0.5)
    loop = make_loop(policy, Fixed((Verdict(0.8, orders=(0.9, 0.7)), Verdict(0.3))), bonuses=[kl])
    loop.step()
    step = loop.step()
    metrics = step.metrics
    assert metrics["kl"] == pytest.approx((metrics["log_ratio_chosen"] + metrics["log_ratio_rejected"]) / 2)
    answers = [c.tokens[: len(c.tokens) - c.stopped] for p in step.pairs for c in (p.first, p.second)]
    twos = [two for answer in answers for two in pairwise(answer)]
    assert metrics["distinct_2"] == pytest.approx(len(set(twos)) / len(twos))
    assert metrics["loss"] == pytest.approx(metrics["preference_loss"] - metrics["exploration_bonus"])
    kls = metrics["kl_chosen"] + metrics["kl_rejected"]
    assert kls > 0
    assert metrics["chosen_reward"] == pytest.approx(0.1 * metrics["log_ratio_chosen"])
    assert metrics["rejected_reward"] == pytest.approx(0.1 * metrics["log_ratio_rejected"])
    assert metrics["reward_accuracy"] in (0.0, 0.5, 1.0)
    assert metrics["exploration_bonus"] == pytest.approx(0.5 * kls)
    assert metrics["margin"] == pytest.approx(metrics["chosen_reward"] - metrics["rejected_reward"])
    assert metrics["position_gap"] == pytest.approx(0.2)
    assert metrics["learning_rate"] == pytest.approx(1e-2)
    assert metrics["grad_norm"] > 0
    phases = [metrics[f"seconds_{p}"] for p in ("sampling", "judging", "scoring", "update")]
    assert sum(phases) == pytest.approx(metrics["seconds"])


def test_a_loss_without_a_reference_skips_its_pass(model_folder: ModelFolder) -> None:
    @frozen
    class ReferenceFree:
        needs = frozenset()

        def __call__(self, scores: Any) -> mx.array:
            assert scores.reference_chosen is None
            return scores.policy_rejected - scores.policy_chosen

    policy = Policy.load(str(model_folder("qwen3")))
    policy.reference = None  # type: ignore[assignment]  # a pass over it would fail
    step = make_loop(policy, loss=ReferenceFree()).step()
    metrics = step.metrics
    assert not {"kl_chosen", "kl_rejected", "log_ratio_chosen", "log_ratio_rejected"} & set(metrics)
    assert metrics["chosen_reward"] == pytest.approx(metrics["chosen_logprob"])


def test_a_bonus_hears_what_was_judged_before_it_reads_it(model_folder: ModelFolder) -> None:
    """Pair by pair, in the order of their length: all are known by then, with the step's others."""

    class Remembers(BaseBonus):
        needs = frozenset({"completions"})
        known: list[Pair] = []
        read: list[int] = []

        def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
            self.known += [
                p if v.prefers_first else p.swapped() for p, v in zip(pairs, verdicts, strict=True)
            ]

        def __call__(self, scores: Scores, progress: Any) -> mx.array:
            assert scores.chosen and scores.rejected
            written = {(p.first.tokens, p.second.tokens) for p in self.known}
            for both in zip(scores.chosen, scores.rejected, strict=True):
                assert tuple(c.tokens for c in both) in written
            self.read.append(len(self.known))
            return 0.1 * scores.policy_chosen

    loop = make_loop(
        Policy.load(str(model_folder("qwen3"))),
        bonuses=[Remembers()],
        training={"batch_size": 2, "micro_batch_size": 1, "iters": 2},
    )
    assert [len(step.pairs) for step in loop] == [2, 2]
    assert set(Remembers.read) == {2, 4}


@pytest.mark.parametrize("exact", [True, False])
def test_metrics_of_labelled_pairs_against_numpy(exact: bool) -> None:
    random = np.random.default_rng(0)
    chosen, rejected, reference_chosen, reference_rejected, kl_chosen, kl_rejected, losses = random.normal(
        size=(7, 9)
    )
    weights = random.uniform(0.5, 1.0, size=9)
    arrays = (chosen, rejected, reference_chosen, reference_rejected, np.ones(9), np.ones(9), np.ones(9))
    scores = Scores(*(mx.array(values.astype(np.float32)) for values in arrays))
    if exact:
        scores = evolve(scores, kl_chosen=mx.array(kl_chosen), kl_rejected=mx.array(kl_rejected))
    sums = batch_sums(scores, mx.array(losses), mx.zeros(9), mx.array(weights))
    found = {name: value.item() / sums["pairs"].item() for name, value in sums.items()}  # type: ignore[operator]

    def mean(values: np.ndarray) -> Any:
        return pytest.approx(np.average(values, weights=weights), abs=1e-5)

    assert found["log_ratio_chosen"] == mean(chosen - reference_chosen)
    assert found["log_ratio_rejected"] == mean(rejected - reference_rejected)
    assert found["reward_accuracy"] == mean(chosen - reference_chosen > rejected - reference_rejected)
    assert found.get("kl_chosen") == (mean(kl_chosen) if exact else None)
    assert found.get("kl_rejected") == (mean(kl_rejected) if exact else None)


@pytest.mark.parametrize("where", ["loss", "bonuses"])
def test_a_loss_or_bonus_that_reduces_is_named(model_folder: ModelFolder, where: str) -> None:
    class Reduced:
        def __call__(self, scores: Any, progress: Any = None) -> mx.array:
            return scores.margin.mean()

    policy = Policy.load(str(model_folder("qwen3")))
    component_or_list: Any = [Reduced()] if where == "bonuses" else Reduced()
    with pytest.raises(UserError, match=r"Reduced gave values of shape \(\) for 2 pairs"):
        make_loop(policy, **{where: component_or_list}).step()


def test_a_batch_larger_than_the_prompts_is_refused(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    with pytest.raises(UserError, match=r"a step takes 18 prompts .* only 8 to train on"):
        make_loop(policy, training={"batch_size": 9, "gradient_accumulation": 2})


def test_a_judge_that_gives_too_few_verdicts_is_named(model_folder: ModelFolder) -> None:
    class Lazy:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            return [Verdict(0.9)]

    with pytest.raises(UserError, match="judge 'Lazy' gave 1 verdicts for 2 pairs"):
        make_loop(Policy.load(str(model_folder("qwen3"))), Lazy()).step()


def test_an_iterator_of_prompts_is_read_as_it_comes(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    read: list[Prompt] = []

    def stream() -> Iterator[Prompt]:
        for prompt in prompts_of(policy, 100):
            read.append(prompt)
            yield prompt

    steps = []
    for step in streaming(policy, stream(), iters=2):
        steps.append(step)
        assert len(read) == 3 * len(steps), "only as far as the next step needs"
    assert [pair.prompt for step in steps for pair in step.pairs] == read
    assert [(s.progress.epoch, s.progress.epochs) for s in steps] == [(0.0, 1.0), (0.5, 1.0)]


def test_an_iterator_of_prompts_may_end_before_the_run(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    loop = streaming(policy, iter(prompts_of(policy, 4)), iters=50)
    assert [len(step.pairs) for step in loop] == [3, 1]
    with pytest.raises(UserError, match="there is no step left after 2"):
        loop.step()


def test_an_iterator_of_prompts_has_no_epochs(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    with pytest.raises(UserError, match=r"training\.epochs: an iterator of prompts can be read only once"):
        streaming(policy, iter(prompts_of(policy)), epochs=1.0)


def test_a_run_of_no_prompt_is_refused(model_folder: ModelFolder) -> None:
    with pytest.raises(UserError, match=r"^training\.epochs: 0\.01 of a pass over the prompts is none\.$"):
        make_loop(Policy.load(str(model_folder("qwen3"))), training={"iters": None, "epochs": 0.01})


def test_a_finished_loop_takes_no_further_step(model_folder: ModelFolder) -> None:
    loop = make_loop(Policy.load(str(model_folder("qwen3"))), training={"iters": 1})
    loop.step()
    assert list(loop) == []
    with pytest.raises(UserError, match="there is no step left after 1"):
        loop.step()


def test_an_iterator_of_prompts_never_leaves_the_first_value_of_a_schedule(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    bonus = component("bonus", "kl")
    schedule, constant = bonus(alpha=[1e-4, 1e-5]), bonus(alpha=1e-4)
    with pytest.warns(
        UserWarning, match=r"^bonuses\.1: its schedule has 2 values, .* an iterator of prompts"
    ):
        Loop(policy, iter(prompts_of(policy)), judge=Longer(), bonuses=[constant, schedule])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Loop(policy, iter(prompts_of(policy)), judge=Longer(), bonuses=[constant])


def streaming(policy: Policy, prompts: Iterator[Prompt], **training: Any) -> Loop:
    sampler = component("sampler", "policy")(max_completion_length=4)
    settings = TrainingConfig(**{"batch_size": 3} | training)
    return Loop(policy, prompts, judge=Longer(), sampler=sampler, training=settings)


def test_a_gradient_is_given_back_while_it_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all weights are updated, no second gradient is there, but what mlx begins ahead (2.4 before)."""
    policy = Policy.load(str(build(tmp_path, vocabulary=4096)), AdapterConfig(type="full", layers=-1))
    loop = make_loop(policy, training={"max_grad_norm": 1.0})
    sizes = [value.nbytes for value in policy.trainable().values()]
    taken: list[float] = []
    whole = loop.total_gradient

    def total_gradient(*arguments: Any) -> Any:
        found = whole(*arguments)
        taken.append(mx.get_active_memory())
        mx.reset_peak_memory()
        return found

    monkeypatch.setattr(loop, "total_gradient", total_gradient)
    for _ in range(2):
        loop.step()
    over = (mx.get_peak_memory() - taken[-1]) / sum(sizes)
    assert over < 1.5, f"{over:.2f} of what is trained"
