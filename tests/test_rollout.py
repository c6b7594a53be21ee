"""Rollouts: the prompts of several steps, sampled and judged together from the policy as it was."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import mlx.core as mx
import pytest
from attrs import define, field

from prefloop import BaseJudge, Loop, Pair, Policy, Progress, Prompt, StopRun, Verdict
from prefloop.config import TrainingConfig
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_plugins.samplers import PolicySampler

QUESTIONS = [f"What does a {animal} say?" for animal in ("cow", "dog", "cat", "duck")]
RULE = RuleJudge(prefer=["Sure", "hope"], length="longer")


def loop(rollout: int, judge: Any = RULE, iters: int = 5, stream: bool = False) -> Loop:
    policy = Policy.load("embedded:policy")
    prompts = [policy.encode(question) for question in QUESTIONS]
    return Loop(
        policy,
        iter(prompts * iters) if stream else prompts,
        judge=judge,
        sampler=PolicySampler(max_completion_length=10),
        training=TrainingConfig(batch_size=4, iters=iters, learning_rate=3e-3, rollout=rollout),
    )


def drawn_by(policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
    return PolicySampler(max_completion_length=10).sample(policy, prompts, progress)


def test_a_rollout_is_one_pool_of_the_policy_before_its_first_step() -> None:
    start, trained = Policy.load("embedded:policy"), loop(3)
    for rollout in (range(1, 4), range(4, 6)):  # the last one is shorter
        prompts = [prompt for step in rollout for prompt in trained.prompts_of(step)]
        expected = drawn_by(start, prompts, trained.progress(rollout[0]))
        steps = [trained.step() for _ in rollout]
        assert [pair for step in steps for pair in step.pairs] == expected
        assert [step.metrics["age"] for step in steps] == list(range(len(rollout)))
        assert list(steps[-1].pairs) != drawn_by(trained.policy, prompts[-4:], steps[-1].progress)
        start.model.load_weights(list(trained.policy.trainable().items()), strict=False)


def test_each_step_trains_on_its_own_prompts_in_their_order() -> None:
    orders = [[[pair.prompt for pair in step.pairs] for step in loop(rollout)] for rollout in (1, 2, 5, 9)]
    assert all(order == orders[0] for order in orders)


def test_a_rollout_of_one_step_says_no_age() -> None:
    assert all("age" not in step.metrics for step in loop(1, iters=2))


def test_a_stream_is_read_as_far_as_the_rollout() -> None:
    streamed = loop(2, iters=3, stream=True)
    assert streamed.stream is not None
    streamed.step()
    assert len(list(streamed.stream)) == 4
    assert len(list(streamed)) == 1  # what was sampled is trained on


def test_the_time_of_a_pool_is_shared_out_among_its_steps() -> None:
    first, second, third = loop(3, iters=3)
    for phase in ("seconds_sampling", "seconds_judging"):
        assert first.metrics[phase] == second.metrics[phase] == third.metrics[phase] > 0


@define
class Elsewhere(BaseJudge):
    """Answers a batch when the next one is asked for, or when it is waited for."""

    asked: list[int] = field(factory=list)
    waited: list[int] = field(factory=list)
    stop_at: int = -1

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return RULE.judge(pairs)

    def submit(self, pairs: Sequence[Pair]) -> Any:  # type: ignore[override]
        number, outer = len(self.asked), self
        self.asked.append(len(pairs))

        class Answer(Future[list[Verdict]]):
            def result(self, timeout: float | None = None) -> list[Verdict]:
                if number == outer.stop_at:
                    outer.stop_at = -1
                    raise StopRun("enough")
                outer.waited.append(number)
                return outer.judge(pairs)

        return Answer()


def test_a_judge_elsewhere_is_asked_about_all_and_waited_for_step_by_step() -> None:
    judge = Elsewhere()
    trained = loop(3, judge, iters=3)
    waited = []
    for _ in trained:
        waited.append(list(judge.waited))
    assert judge.asked == [4, 4, 4]
    assert waited == [[0], [0, 1], [0, 1, 2]]


def run_through(trained: Loop) -> Loop:
    for _ in trained:
        pass
    return trained


def weights(trained: Loop) -> dict[str, list[Any]]:
    return {name: value.tolist() for name, value in trained.policy.trainable().items()}


def test_a_stop_in_mid_rollout_loses_no_pair() -> None:
    whole, stopped = (
        run_through(loop(3, Elsewhere(), iters=3)),
        loop(3, judge := Elsewhere(stop_at=1), iters=3),
    )
    stopped.step()
    with pytest.raises(StopRun):
        stopped.step()
    assert len(stopped.rollouts) == 2
    run_through(stopped)
    assert judge.asked == [4, 4, 4]
    assert weights(stopped) == weights(whole)


def test_rollouts_of_one_are_what_they_always_were() -> None:
    """A rollout of 1 samples each step from the policy as it is, with the seed of that step."""
    trained = loop(1, iters=2)
    live = Policy.load("embedded:policy")
    for number in (1, 2):
        expected = drawn_by(live, trained.prompts_of(number), trained.progress(number))
        assert list(trained.step().pairs) == expected
        live.model.load_weights(list(trained.policy.trainable().items()), strict=False)
        mx.eval(live.model.parameters())
