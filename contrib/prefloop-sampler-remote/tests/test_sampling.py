"""Workers sample what the learner would: the same tokens for the same adapters and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Process
from prefloop import BaseJudge, Loop, Pair, Policy, Verdict
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_plugins.samplers import PolicySampler
from prefloop_sampler_remote.sampler import RemoteSampler
from prefloop_testing import SamplerSuite

QUESTIONS = [f"What does a {animal} say?" for animal in ("cow", "dog", "cat", "duck")]
RULE = RuleJudge(prefer=["Sure", "hope"], length="longer")


class UndecidedJudge(BaseJudge):
    """One that abstains from everything."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.5, status="abstained") for _ in pairs]


def sampler(worker: Process | list[str], token_file: Path, **options: Any) -> RemoteSampler:
    urls = [worker.url] if isinstance(worker, Process) else worker
    quick: dict[str, Any] = {"max_completion_length": 10, "pause": 0.2, "timeout": 5.0}
    return RemoteSampler(workers=tuple(urls), token_file=str(token_file), **(quick | options))


def loop(drawn_by: Any, *, adapter: AdapterConfig | None = None, iters: int = 4) -> Loop:
    policy = Policy.load("embedded:policy", adapter)
    return Loop(
        policy,
        [policy.encode(question) for question in QUESTIONS],
        judge=RULE,
        sampler=drawn_by,
        training=TrainingConfig(batch_size=4, iters=iters, learning_rate=3e-3),
    )


@pytest.mark.parametrize("adapter", [AdapterConfig(), AdapterConfig(type="dora", rank=4, layers=2)])
def test_at_staleness_zero_a_worker_draws_what_the_learner_would(
    worker: Process, token_file: Path, adapter: AdapterConfig
) -> None:
    remote = sampler(worker, token_file, max_staleness=0, portion=3)
    expected = [step.pairs for step in loop(PolicySampler(max_completion_length=10), adapter=adapter)]
    steps = list(loop(remote, adapter=adapter))
    remote.close()
    assert [step.pairs for step in steps] == expected
    assert [step.metrics["age"] for step in steps] == [0.0] * 4
    assert all(step.metrics["remote_here"] == 0 for step in steps)


def test_where_no_worker_answers_the_learner_draws_the_same(token_file: Path) -> None:
    remote = sampler(["http://127.0.0.1:1"], token_file, max_staleness=0, portion=1)
    expected = [step.pairs for step in loop(PolicySampler(max_completion_length=10), iters=2)]
    steps = list(loop(remote, iters=2))
    remote.close()
    assert [step.pairs for step in steps] == expected
    assert all(step.metrics["remote_here"] == 8 for step in steps)


def test_a_step_that_changes_nothing_has_a_version_all_the_same(worker: Process, token_file: Path) -> None:
    remote = sampler(worker, token_file, max_staleness=0)
    trained = loop(remote)
    trained.judge = UndecidedJudge()
    steps = list(trained)
    remote.close()
    assert [step.metrics["remote_retried"] for step in steps] == [0.0] * 4
    assert [pair.first.version for step in steps for pair in step.pairs[:1]] == [0, 1, 2, 3]


class TestRemote(SamplerSuite):
    """prefloop's conformance kit, with a worker."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _component(cls, worker: Process, token_file: Path) -> Iterator[None]:
        cls.component = sampler(worker, token_file)
        yield
        cls.component.close()
