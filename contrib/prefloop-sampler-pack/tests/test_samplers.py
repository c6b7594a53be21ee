"""The samplers by the kit, on made-up completions, and in runs that are interrupted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import field, frozen

from prefloop import (
    Completion,
    Pair,
    Progress,
    Prompt,
    Sampling,
    Verdict,
    component,
    load_config,
    open_run,
    resume,
    train,
)
from prefloop_sampler_pack import samplers
from prefloop_sampler_pack.belief import believe
from prefloop_sampler_pack.samplers import Exploring, Optimistic, Thompson
from prefloop_sampler_pack.words import WORDS
from prefloop_testing import SamplerSuite

SHORT = {"temperature": 1.0, "top_p": 1.0, "max_completion_length": 12}


class TestThompson(SamplerSuite):
    component = Thompson(n=4, **SHORT)


class TestOptimistic(SamplerSuite):
    component = Optimistic(n=4, **SHORT)


@frozen
class Draws:
    """Stands for a policy: its completions are the given texts, in turn."""

    texts: Sequence[str]
    seen: list[Any] = field(factory=list)
    prompts_before: int = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int) -> list[Completion]:
        self.seen.append((tuple(prompts), sampling, seed))
        return [Completion((1,), self.texts[i % len(self.texts)]) for i in range(len(prompts))]


def sample(sampler: Exploring, texts: Sequence[str], *, prompts: int = 1, seed: int = 0) -> list[Pair]:
    asked = [Prompt((i,), f"prompt {i}") for i in range(prompts)]
    policy: Any = Draws(texts)
    return sampler.sample(policy, asked, Progress(1, 1, 0.0, 1.0, seed))


def told(
    sampler: Exploring, better: str, worse: str, times: int, verdict: Verdict | None = None
) -> Exploring:
    pair = Pair(Prompt((), "p"), Completion((1,), better), Completion((1,), worse))
    sampler.learn([pair] * times, [verdict or Verdict(1.0)] * times)
    return sampler


def chosen(pairs: Sequence[Pair]) -> list[str]:
    return [text for pair in pairs for text in (pair.first.text, pair.second.text)]


@pytest.mark.parametrize("kind", [Thompson, Optimistic])
def test_without_labels_every_completion_may_be_in_a_pair_in_either_place(kind: Any) -> None:
    texts = ["moo", "baa", "meow", "woof"]
    pairs = sample(kind(n=4), texts, prompts=400)
    assert all(pair.first != pair.second for pair in pairs)
    if kind is Thompson:  # of completions that are equally unsure the other takes the first ones
        counts = [chosen(pairs).count(text) for text in texts]
        assert 150 < min(counts) <= max(counts) < 250
    firsts = [pair.first.text for pair in pairs]
    assert 150 < sum(first == min(chosen([pair])) for first, pair in zip(firsts, pairs, strict=True)) < 250


@pytest.mark.parametrize("kind", [Thompson, Optimistic])
def test_what_has_won_is_in_the_pair_and_what_has_lost_is_not(kind: Any) -> None:
    sampler = told(kind(n=4), "moo", "baa", 40)
    told(sampler, "woof", "baa", 40)
    drawn = chosen(sample(sampler, ["moo", "baa", "woof", "baa"], prompts=100))
    assert drawn.count("moo") > 90 and drawn.count("woof") > 90 and drawn.count("baa") < 10


def test_the_optimist_tries_what_no_label_is_about() -> None:
    sampler = told(Optimistic(n=3), "moo", "baa", 40)
    drawn = chosen(sample(sampler, ["moo", "baa", "never seen"], prompts=20))
    assert drawn.count("never seen") == 20
    sober = told(Optimistic(n=3, optimism=0.0), "moo", "baa", 40)
    assert chosen(sample(sober, ["moo", "baa", "never seen"], prompts=20)).count("moo") == 20


def test_an_answer_of_many_words_may_be_worth_no_more_than_one_of_few() -> None:
    texts = ["hm", "what a great many words this has", "yes no"]
    nothing = believe(np.zeros((0, 0)), np.zeros(0, np.float32))
    mean, covariance = Optimistic()._believed([Completion((1,), text) for text in texts], nothing)
    assert not mean.any() and np.ptp(np.diagonal(covariance)) == pytest.approx(0)


def test_thompson_tries_it_as_often_as_it_may_be_the_best() -> None:
    """Two words of prior deviation 1 each against one that has won 40 times."""
    sampler = told(Thompson(n=3, prior=1.0), "moo", "baa", 40)
    drawn = chosen(sample(sampler, ["moo", "baa", "never"], prompts=400))
    assert drawn.count("never") > 250 and drawn.count("moo") > 250 and drawn.count("baa") > 10


def test_all_prompts_are_drawn_at_once() -> None:
    prompts, policy = [Prompt((i,), f"prompt {i}") for i in range(3)], Draws(["a", "b", "c", "d"])
    any_policy: Any = policy
    Thompson(n=4, temperature=0.7, max_completion_length=12).sample(
        any_policy, prompts, Progress(1, 1, 0, 1, 5)
    )
    assert policy.seen == [(tuple(p for p in prompts for _ in range(4)), Sampling(0.7, 0.95, 0, 0.0, 12), 5)]


def test_equal_texts_count_once() -> None:
    [two] = sample(Thompson(n=4), ["b", "b", "aa", "b"])
    assert {two.first.text, two.second.text} == {"b", "aa"}
    [same] = sample(Thompson(n=4), ["b"])
    assert (same.first.text, same.second.text) == ("b", "b")


def test_only_labels_and_ties_are_remembered_and_only_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = told(Thompson(), "moo", "baa", 1, Verdict.abstain("shy"))
    told(sampler, "moo", "baa", 1, Verdict.error("no server"))
    assert sampler.state() == {}
    told(sampler, "moo", "baa", 2, Verdict.tie())
    told(sampler, "moo", "baa", 1, Verdict(0.75))
    assert sampler.state()["targets"].tolist() == [0.5, 0.5, 0.75]
    assert sampler.state()["words"].sum(axis=2).tolist() == [[1, 1, 1], [1, 1, 1]]
    monkeypatch.setattr(samplers, "REMEMBERED", 2)
    told(sampler, "moo", "baa", 1, Verdict(0.25))
    assert sampler.state()["targets"].tolist() == [0.75, 0.25]
    assert sampler.state()["words"].shape == (2, 2, WORDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "'n' must be >= 2"),
        ({"prior": 0.0}, "'prior' must be > 0"),
        ({"optimism": -1.0}, "must be >= 0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimistic(**options)


def settings(folder: Path, **training: Any) -> dict[str, Any]:
    return {
        "model": "embedded:policy",
        "prompts": "embedded:prompts",
        "algorithm": "optimistic",
        "sampler": {"n": 4, **SHORT},
        "judge": {"use": "rule", "length": "longer"},
        "training": {"batch_size": 4, "iters": 6, "learning_rate": 1e-4, **training},
        "output": {"path": str(folder)},
    }


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    """Stopped after three steps it goes on from the labels of those: the same pairs, the same adapters."""
    train(load_config(settings(tmp_path / "whole")))
    train(load_config(settings(tmp_path / "parts", iters=3)))
    resume(tmp_path / "parts", overrides=["training.iters=6"])
    whole, parts = (open_run(tmp_path / name) for name in ("whole", "parts"))
    judged, again = ([j.pair for j in run.judgements().records if not j.evaluation] for run in (whole, parts))
    assert judged == again and len(judged) == 24
    saved = [mx.load(str(run.path / "adapters.safetensors")) for run in (whole, parts)]
    assert all((saved[0][name] == saved[1][name]).all() for name in saved[0])


def test_ranks_draw_their_shares_from_what_all_have_learnt(tmp_path: Path, alone_and_in_ranks: Any) -> None:
    """Two of them ask for the pairs that one process asks for, step by step."""
    alone, ranks = alone_and_in_ranks(settings(tmp_path, iters=3))
    assert ranks == alone and len(alone) == 12


def test_they_are_found_by_name() -> None:
    assert component("sampler", "thompson") is Thompson
    assert component("sampler", "optimistic") is Optimistic
    assert component("algorithm", "optimistic")().settings()["sampler"] == {"use": "optimistic"}


def test_the_plugin_module_imports_no_mlx() -> None:
    code = "import sys, prefloop_sampler_pack as p; p.prefloop_samplers(); sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
