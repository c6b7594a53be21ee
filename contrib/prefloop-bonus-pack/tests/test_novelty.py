"""COPO's bonus by the kit, against counts and by enumeration, and in a run that is interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import (
    Completion,
    Pair,
    Progress,
    Prompt,
    Scores,
    Verdict,
    component,
    load_config,
    open_run,
    resume,
    train,
)
from prefloop_bonus_pack.novelty import PLACES, Copo, words_of
from prefloop_testing import BonusSuite

START = Progress(1, 10, 0.0, 2.0)


class TestCopo(BonusSuite):
    component = Copo(alpha=0.1)


def said(text: str) -> Completion:
    return Completion((1,), text)


def judged(bonus: Copo, *texts: str, verdict: Verdict | None = None) -> Copo:
    """The bonus after pairs of two equal texts each were judged."""
    pairs = [Pair(Prompt((), "p"), said(text), said(text)) for text in texts]
    bonus.learn(pairs, [verdict or Verdict(1.0)] * len(pairs))
    return bonus


def novelty(bonus: Copo, *texts: str) -> list[float]:
    """What a nat of each text's log-probability is worth."""
    one, zero = mx.ones(len(texts)), mx.zeros(len(texts))
    completions = [said(text) for text in texts]
    scores = Scores(one, zero, None, None, one, one, one, chosen=completions, rejected=completions)
    found: Any = bonus(scores, START).tolist()
    return [value / float(bonus.alpha) for value in found]  # type: ignore[arg-type]


def test_it_is_one_by_the_root_of_a_count_where_texts_share_no_word() -> None:
    bonus = judged(Copo(alpha=0.5, prior=2.0), *["a cow"] * 3, "big dogs")  # each counts twice
    expected = [1 / (6 + 2) ** 0.5, 1 / (2 + 2) ** 0.5, 1 / 2**0.5, 0.0]
    assert novelty(bonus, "A cow", "big dogs", "never said", " ") == pytest.approx(expected, rel=1e-5)
    assert novelty(Copo(), "a cow") == pytest.approx([1.0])


def test_it_is_what_labels_leave_open_of_a_linear_reward() -> None:
    """The deviation of a Bayesian regression on words, with every word of its own column, in float64."""
    seen = ["a cow says moo .", "a dog says woof .", "sure ! a cow says moo .", "a cow says moo ."]
    asked = ["sure ! a dog says woof .", "a cow says moo .", "sure thing ."]
    vocabulary = sorted({word for text in seen + asked for word in text.split()})

    def rows(texts: list[str]) -> Any:
        found = np.array([[float(word in text.split()) for word in vocabulary] for text in texts])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    x, y = np.repeat(rows(seen), 2, axis=0), rows(asked)
    covariance = np.linalg.inv(x.T @ x + 0.3 * np.eye(len(vocabulary)))
    expected = np.sqrt(np.diagonal(y @ covariance @ y.T))
    assert novelty(judged(Copo(prior=0.3), *seen), *asked) == pytest.approx(expected, rel=1e-4)
    assert expected[2] == max(expected) and expected[1] == min(expected)


def test_its_gradient_is_that_of_the_mean_novelty_of_what_the_policy_says() -> None:
    """Summed over all pairs of four completions, each weighted by its probability."""
    texts = ["a cow", "big dogs", "sure thing", "a dog"]
    bonus = judged(Copo(alpha=0.7), "a cow", "a cow", "big dogs")
    worth, logits = mx.array(novelty(bonus, *texts)), mx.array([1.5, -0.3, 0.2, -2.0])
    chosen, rejected = [i for i in range(4) for _ in range(4)], [*range(4)] * 4
    weights = mx.softmax(logits)[mx.array(chosen)] * mx.softmax(logits)[mx.array(rejected)]

    def drawn(z: mx.array) -> mx.array:
        log_policy, one = z - mx.logsumexp(z), mx.ones(16)
        scores = Scores(
            log_policy[mx.array(chosen)],
            log_policy[mx.array(rejected)],
            *(None, None, one, one, one),
            chosen=[said(texts[i]) for i in chosen],
            rejected=[said(texts[i]) for i in rejected],
        )
        return (weights * bonus(scores, START)).sum()

    exact = mx.grad(lambda z: 2 * 0.7 * (mx.softmax(z) * worth).sum())(logits)
    np.testing.assert_allclose(mx.grad(drawn)(logits), exact, rtol=1e-4, atol=1e-6)
    assert mx.abs(exact).max().item() > 0.05


def test_whatever_was_judged_counts_both_completions_of_it() -> None:
    bonus = Copo()
    bonus.learn([Pair(Prompt((), "p"), said("a cow"), said("big dogs"))], [Verdict.tie()])
    judged(bonus, "a cow", verdict=Verdict.error("no server"))
    expected = [1 / (3 + 1) ** 0.5, 1 / (1 + 1) ** 0.5]
    assert novelty(bonus, "a cow", "big dogs") == pytest.approx(expected, rel=1e-5)


def test_words_and_marks_count_once_in_small_letters() -> None:
    one, again, empty = words_of([said("Moo, moo!"), said("! moo ,"), said("")])
    assert (one == again).all() and one.shape == (PLACES,) and (one > 0).sum() == 3
    assert np.linalg.norm(one) == pytest.approx(1) and not empty.any()


def test_nothing_seen_is_no_state() -> None:
    assert Copo().state() == {}
    bonus = Copo()
    bonus.restore(judged(Copo(), "a cow").state())
    assert novelty(bonus, "a cow") == pytest.approx([1 / 3**0.5])


def test_no_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="'prior' must be > 0"):
        Copo(prior=0.0)


def settings(folder: Path, **training: Any) -> dict[str, Any]:
    return {
        "model": "embedded:policy",
        "prompts": "embedded:prompts",
        "sampler": {"temperature": 1.0, "top_p": 1.0, "max_completion_length": 12},
        "judge": {"use": "rule", "length": "longer"},
        "bonuses": [{"use": "kl"}, {"use": "copo", "alpha": 0.1}],
        "training": {"batch_size": 4, "iters": 6, "learning_rate": 1e-4, **training},
        "evaluation": {"held_out": 0},
        "output": {"path": str(folder), "report": False},
    }


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    """Stopped after three steps it comes to the same adapters as a run that was not."""
    train(load_config(settings(tmp_path / "whole")))
    train(load_config(settings(tmp_path / "parts", iters=3)))
    resume(tmp_path / "parts", overrides=["training.iters=6"])
    whole, parts = (
        mx.load(str(open_run(tmp_path / name).path / "adapters.safetensors")) for name in ("whole", "parts")
    )
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_words_are_the_same_in_every_process() -> None:
    code = (
        "from prefloop import Completion as C; from prefloop_bonus_pack.novelty import words_of as w; "
        "print(*w([C((), 'Sure thing!')])[0].nonzero()[0])"
    )
    said_by = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert (
        said_by[0] == said_by[1] == " ".join(map(str, words_of([said("Sure thing!")])[0].nonzero()[0])) + "\n"
    )


def test_it_is_found_by_name() -> None:
    assert component("bonus", "copo") is Copo
