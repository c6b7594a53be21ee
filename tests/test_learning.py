"""What judges and samplers are told unasked: what a step was judged, and what a ledger knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from prefloop import (
    BaseSampler,
    Completion,
    Loop,
    Observer,
    Pair,
    Policy,
    Progress,
    Prompt,
    StopRun,
    Verdict,
)
from prefloop.config import TrainingConfig
from prefloop.ranks.sharing import draws_a_share
from prefloop.runs.ledger import CachedJudge, Ledger
from prefloop.runs.records import JudgeIdentity
from prefloop_plugins.samplers import PolicySampler
from support.loops import Longer, make_loop, prompts_of
from support.tiny_models import ModelFolder

PAIRS = [Pair(Prompt((), f"p{i}"), Completion((), "aa"), Completion((), "b")) for i in range(4)]
IDENTITY = JudgeIdentity("mine", "1", "0" * 16)


@define
class Listener:
    """Prefers the longer answer and writes down all that it is told, in order."""

    told: list[tuple[str, list[str]]] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self._note("judge", pairs)
        return Longer().judge(pairs)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        assert list(verdicts) == Longer().judge(pairs)
        self._note("learn", pairs)

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        assert list(verdicts) == Longer().judge(pairs)
        self._note("recall", pairs)

    def _note(self, what: str, pairs: Sequence[Pair]) -> None:
        self.told.append((what, [pair.prompt.text for pair in pairs]))


def cached(judge: Any, folder: Path, **options: Any) -> CachedJudge:
    return CachedJudge(judge, IDENTITY, Ledger(folder / "ledger.jsonl"), lambda: 1, **options)


def test_a_ledger_tells_what_it_knows_before_the_rest_is_asked_about(tmp_path: Path) -> None:
    cached(Longer(), tmp_path).judge(PAIRS[1:3])
    listener = Listener()
    judge = cached(listener, tmp_path)
    judge.judge(PAIRS)
    judge.judge(PAIRS)
    judge.learn(PAIRS[:1], Longer().judge(PAIRS[:1]))
    everything = ["p0", "p1", "p2", "p3"]
    assert listener.told == [
        ("recall", ["p1", "p2"]),
        ("judge", ["p0", "p3"]),
        ("recall", everything),
        ("learn", ["p0"]),
    ]


def test_an_evaluation_recalls_nothing(tmp_path: Path) -> None:
    listener = Listener()
    judge = cached(listener, tmp_path, evaluation=True)
    judge.judge(PAIRS[:1])
    judge.judge(PAIRS[:2])
    assert listener.told == [("judge", ["p0"]), ("judge", ["p1"])]


@pytest.mark.parametrize("rollout", [1, 3])
def test_a_loop_tells_each_step_once_and_in_order(model_folder: ModelFolder, rollout: int) -> None:
    steps: list[list[str]] = []

    class Watcher(Observer):
        def step_finished(self, step: Any) -> None:
            steps.append([pair.prompt.text for pair in step.pairs])

    listener, policy = Listener(), Policy.load(str(model_folder()))
    loop = make_loop(policy, listener, training={"rollout": rollout}, observers=[Watcher()])
    list(loop)
    assert [prompts for what, prompts in listener.told if what == "learn"] == steps
    assert len(steps) == 3


@frozen
class ListeningSampler(PolicySampler):
    """Writes down what it is told."""

    told: list[tuple[list[Pair], list[Verdict]]] = field(factory=list)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.told.append((list(pairs), list(verdicts)))


def listened(
    sampler: ListeningSampler, judge: Any, model_folder: ModelFolder, rollout: int = 1, **options: Any
) -> Loop:
    policy = Policy.load(str(model_folder()))
    training = TrainingConfig(batch_size=2, iters=3, rollout=rollout)
    return Loop(policy, prompts_of(policy), judge=judge, sampler=sampler, training=training, **options)


@pytest.mark.parametrize("rollout", [1, 3])
def test_a_sampler_hears_each_step_with_its_verdicts(model_folder: ModelFolder, rollout: int) -> None:
    sampler = ListeningSampler(max_completion_length=4)
    loop = listened(sampler, Longer(), model_folder, rollout=rollout)
    assert sampler.told == [(list(step.pairs), list(step.verdicts)) for step in loop]
    assert len(sampler.told) == 3


def test_ranks_share_what_a_sampler_draws_unless_its_own_calls_are_remembered() -> None:
    class Remembers(BaseSampler):
        def state(self) -> dict[str, Any]:
            return {}

    class Learns(Remembers):
        def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
            pass

    assert [draws_a_share(one()) for one in (BaseSampler, Remembers, Learns)] == [True, False, True]


def test_a_step_that_is_not_taken_is_not_learnt_from(model_folder: ModelFolder) -> None:
    class Stops(Observer):
        def pairs_judged(self, progress: Progress, pairs: Any, verdicts: Any) -> None:
            raise StopRun("enough")

    listener, sampler = Listener(), ListeningSampler(max_completion_length=4)
    loop = listened(sampler, listener, model_folder, observers=[Stops()])
    with pytest.raises(StopRun):
        loop.step()
    assert [what for what, _ in listener.told] == ["judge"]
    assert sampler.told == []
