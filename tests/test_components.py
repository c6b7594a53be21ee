"""A plain object and a base class with every ability: core works with either, and asks in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from prefloop import (
    BaseBonus,
    BaseJudge,
    BaseLoss,
    BaseSampler,
    Observer,
    Pair,
    Sampling,
    Scores,
    UserError,
    Verdict,
    adapt,
)
from prefloop.components import required_and_abilities
from prefloop.registry import KINDS

ROOT = Path(__file__).resolve().parent.parent
BASES = [kind.base for kind in KINDS.values() if kind.name != "algorithm"]


class PlainJudge:
    symmetric = True
    interactive = 1

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.75) for _ in pairs]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        yield from enumerate(self.judge(pairs))


def test_a_plain_object_keeps_what_it_has_and_gets_defaults_for_the_rest() -> None:
    plain = PlainJudge()
    judge = adapt(plain, BaseJudge)
    judge.prepare()
    judge.close()
    assert plain.prepared == 1
    assert (judge.symmetric, bool(judge.interactive), judge.evaluates) == (True, True, True)
    assert judge.submit is None
    assert judge.answers is not None
    assert list(judge.answers([])) == []
    assert judge.state() == {}
    assert type(judge).__name__ == "PlainJudge"  # messages name the class that the user wrote


def test_a_component_that_is_of_the_base_class_is_itself() -> None:
    class Mine(BaseJudge):
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            return []

    mine = Mine()
    assert adapt(mine, BaseJudge) is mine
    assert adapt(adapt(PlainJudge(), BaseJudge), BaseJudge).symmetric


def test_a_plain_loss_with_a_beta_reports_rewards_by_it() -> None:
    class Squared:
        beta = 0.25

        def __call__(self, scores: Scores) -> mx.array:
            return scores.margin

    loss = adapt(Squared(), BaseLoss)
    assert (loss.reward_scale, loss.needs, loss.soft_labels) == (0.25, {"reference"}, False)


def test_a_plain_function_is_a_loss_and_a_bonus() -> None:
    def one(*_: Any) -> mx.array:
        return mx.array([1.0])

    scores: Any = None
    progress: Any = None
    assert adapt(one, BaseLoss)(scores).item() == 1.0
    assert adapt(one, BaseBonus)(scores, progress).item() == 1.0


def test_a_plain_sampler_without_sampling_is_taken_to_draw_as_the_bundled_one_does() -> None:
    class Echo:
        def sample(self, policy: Any, prompts: Any, progress: Any) -> list[Pair]:
            return []

    sampler = adapt(Echo(), BaseSampler)
    assert sampler.sampling == Sampling()
    assert sampler.reference_samples is False
    sampler.check_prompts([])


def test_an_observer_with_one_method_hears_the_other_events_too() -> None:
    class Ear:
        heard: list[int] = []

        def checkpoint_saved(self, step: int, path: str) -> None:
            self.heard.append(step)

    observer, run = adapt(Ear(), Observer), Any
    observer.run_started(run)  # type: ignore[arg-type]
    observer.checkpoint_saved(3, "checkpoints/3")
    assert Ear.heard == [3]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_every_ability_has_a_docstring_or_a_description(base: type) -> None:
    source = (ROOT / "core" / "prefloop" / "components.py").read_text("utf-8")
    for name in required_and_abilities(base):
        documented = getattr(getattr(base, name), "__doc__", None) or f"{name}: " in source
        assert documented, name


@pytest.mark.parametrize(
    ("given", "base", "message"),
    [
        ("rule", BaseJudge, "'rule' is no judge: it has no method judge()."),
        (len, BaseJudge, "len is no judge: it has no method judge()."),
        (PlainJudge, BaseJudge, "PlainJudge is a class, not a judge: pass an instance of it."),
        (BaseJudge(), BaseJudge, "BaseJudge is no judge: it has no method judge()."),
        ("ipo", BaseLoss, "'ipo' is no loss: it has nothing to be called."),
        (BaseBonus(), BaseBonus, "BaseBonus is no bonus: it has nothing to be called."),
        ({"use": "policy"}, BaseSampler, "{'use': 'policy'} is no sampler: it has no method sample()."),
        (lambda step: 1, Observer, "is no observer: it has none of the methods run_started, pairs_judged,"),
    ],
)
def test_what_cannot_be_a_component_is_refused_in_one_sentence(
    given: object, base: type, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        adapt(given, base)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1
