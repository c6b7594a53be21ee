"""The sampler on the embedded policy, by the kit, with judges that fail, and in a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

import prefloop
from prefloop import (
    Completion,
    Pair,
    Policy,
    Progress,
    Prompt,
    Sampling,
    StopRun,
    UserError,
    Verdict,
    component,
)
from prefloop_sampler_best_of_n.sampler import BestOfN
from prefloop_testing import SamplerSuite

LONGER = component("judge", "rule")(length="longer")
SHORT = {"max_completion_length": 12}


class TestElimination(SamplerSuite):
    component = BestOfN(LONGER, n=3, temperature=1.0, **SHORT)


class TestRoundRobin(SamplerSuite):
    component = BestOfN(LONGER, n=4, tournament="round-robin", temperature=1.0, **SHORT)


class TestWorstOfFive(SamplerSuite):
    component = BestOfN(LONGER, n=7, rejected="worst-of-5", temperature=1.0, **SHORT)


class TestTwoDeviationsBelow(SamplerSuite):
    component = BestOfN(LONGER, n=4, tournament="round-robin", rejected="mean-2sd", temperature=1.0, **SHORT)


@frozen
class Draws:
    """Stands for a policy: its completions are the given texts, in turn."""

    texts: Sequence[str]
    seen: list[Any] = field(factory=list)
    prompts_before: int = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int) -> list[Completion]:
        self.seen.append((tuple(prompts), sampling, seed))
        return [Completion((1,), self.texts[i % len(self.texts)]) for i in range(len(prompts))]


@define
class Watched:
    """Prefers the longer text, and remembers what it was asked."""

    verdict: Verdict | None = None
    asked: list[int] = field(factory=list)
    prepared: int = 0

    def prepare(self) -> None:
        self.prepared += 1

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.asked.append(len(pairs))
        given: list[Verdict] = LONGER.judge(pairs)
        return given if self.verdict is None else [self.verdict] * len(pairs)


def sample(sampler: BestOfN, texts: Sequence[str], *, prompts: int = 1, seed: int = 0) -> list[Pair]:
    asked = [Prompt((i,), f"prompt {i}") for i in range(prompts)]
    policy: Any = Draws(texts)
    return sampler.sample(policy, asked, Progress(1, 1, 0.0, 1.0, seed))


@pytest.mark.parametrize("tournament", ["elimination", "round-robin"])
def test_best_and_worst_in_an_order_that_tells_nothing(tournament: Any) -> None:
    sampler = BestOfN(LONGER, n=5, tournament=tournament)
    pairs = sample(sampler, ["aaa", "a", "aaaaa", "aa", "aaaa"], prompts=200)
    assert {frozenset((p.first.text, p.second.text)) for p in pairs} == {frozenset(("a", "aaaaa"))}
    assert 70 < sum(p.first.text == "a" for p in pairs) < 130
    again = sample(sampler, ["aaa", "a", "aaaaa", "aa", "aaaa"], prompts=200)
    other = sample(sampler, ["aaa", "a", "aaaaa", "aa", "aaaa"], prompts=200, seed=2)
    assert pairs == again != other


def test_all_prompts_are_drawn_at_once_and_each_round_is_judged_at_once() -> None:
    judge, policy = Watched(), Draws(["aaa", "a", "aaaa", "aa"])
    prompts = [Prompt((i,), f"prompt {i}") for i in range(8)]
    sampler = BestOfN(judge, n=4, temperature=0.7, **SHORT)
    any_policy: Any = policy
    for _ in range(2):
        sampler.sample(any_policy, prompts, Progress(1, 1, 0.0, 1.0, 5))
    repeated = tuple(p for p in prompts for _ in range(4))
    assert policy.seen == [(repeated, Sampling(0.7, 0.95, 0, 0.0, 12), 5)] * 2
    assert judge.asked == [16, 8, 8] * 2  # ceil(3 * 4 / 2) - 2 = 4 for each prompt
    assert judge.prepared == 1


def test_equal_texts_enter_once() -> None:
    judge = Watched()
    [two] = sample(BestOfN(judge, n=4), ["b", "b", "aa", "b"])
    assert {two.first.text, two.second.text} == {"b", "aa"}
    [same] = sample(BestOfN(judge, n=4), ["b"])
    assert (same.first.text, same.second.text) == ("b", "b")
    assert judge.asked == []


@pytest.mark.parametrize("tournament", ["elimination", "round-robin"])
def test_the_worst_of_five_is_that_of_any_five(tournament: Any) -> None:
    """Of eight completions, whose worst one is among five of them in five cases of eight."""
    texts = ["a" * i for i in range(1, 9)]
    sampler = BestOfN(LONGER, n=8, tournament=tournament, rejected="worst-of-5")
    ends = [sorted((p.first.text, p.second.text)) for p in sample(sampler, texts, prompts=400)]
    assert {best for _, best in ends} == {texts[-1]}
    assert {worst for worst, _ in ends} == {*texts[:4]}
    assert 210 < sum(worst == "a" for worst, _ in ends) < 290


def test_an_outlier_is_passed_over() -> None:
    """Of 24 texts, all but two of which are equally good, the worst is too bad to be two deviations below."""
    texts = ["aa"] + [f"a{i:02}" for i in range(22)] + ["a"]
    options: dict[str, Any] = {"n": 24, "tournament": "round-robin"}
    [worst] = sample(BestOfN(LONGER, **options), texts)
    [nearest] = sample(BestOfN(LONGER, **options, rejected="mean-2sd"), texts)
    assert "a" in (worst.first.text, worst.second.text)
    assert "aa" in (nearest.first.text, nearest.second.text)


@pytest.mark.parametrize("verdict", [Verdict.tie(), Verdict.abstain("shy")])
def test_a_judge_that_cannot_say_leaves_it_to_chance(verdict: Verdict) -> None:
    pairs = sample(BestOfN(Watched(verdict), n=4), ["a", "aa", "aaa", "aaaa"], prompts=100)
    assert len({p.first.text for p in pairs}) == 4
    assert all(p.first != p.second for p in pairs)


@frozen
class Fails:
    """Raises, or gives too few verdicts."""

    error: Exception | None = None

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        if self.error:
            raise self.error
        return [Verdict(1.0)]


def test_failures_say_whose_they_are() -> None:
    texts = ["a", "aa", "aaa", "aaaa"]
    with pytest.raises(StopRun, match=r"sampler\.judge: it can rank nothing: no server") as stopped:
        sample(BestOfN(Watched(Verdict.error("no server"))), texts)
    assert stopped.value.failed
    with pytest.raises(UserError, match=r"sampler\.judge: judge 'Fails' gave 1 verdicts for 2 pairs"):
        sample(BestOfN(Fails()), texts)
    with pytest.raises(StopRun, match=r"sampler\.judge: spent") as stopped:
        sample(BestOfN(Fails(StopRun("spent", [Verdict(1.0)]))), texts)
    assert stopped.value.verdicts == () and not stopped.value.failed


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="'n' must be >= 2"):
        BestOfN(LONGER, n=1)
    with pytest.raises(ValueError, match="'rejected: mean-2sd' goes by scores, which 'tournament: elim"):
        BestOfN(LONGER, rejected="mean-2sd")
    with pytest.raises(ValueError, match="'judge' must not ask a person"):
        BestOfN(component("judge", "human")())


def test_a_run_with_it_learns_from_its_pairs(tmp_path: Path) -> None:
    policy = Policy.load("embedded:policy")
    prompts = [policy.encode(f"What does a {animal} say?") for animal in ("cow", "dog", "cat", "duck")]
    training = prefloop.load_config(
        {
            "model": "embedded:policy",
            "prompts": "embedded:prompts",
            "training": {"batch_size": 4, "iters": 1},
            "output": {"path": str(tmp_path / "run")},
        }
    ).training
    sampler = BestOfN(LONGER, n=4, temperature=1.0, **SHORT)
    [step] = prefloop.Loop(policy, prompts, judge=LONGER, sampler=sampler, training=training)
    assert step.metrics["labelled"] > 0
    assert {p.prompt for p in step.pairs} <= set(prompts)


def test_is_found_by_name() -> None:
    assert component("sampler", "best-of-n") is BestOfN
    assert component("sampler", "prefloop-sampler-best-of-n:best-of-n") is BestOfN


def test_the_plugin_module_imports_no_mlx() -> None:
    code = (
        "import sys, prefloop_sampler_best_of_n as p; p.prefloop_samplers(); sys.exit('mlx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
