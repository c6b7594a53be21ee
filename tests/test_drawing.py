"""Drawing: the distribution is the one that the settings describe, whoever draws.

The expected distribution is computed apart, in float64: the filters by rank and mass at temperature one, as
mlx-lm documents them, and the temperature on what they leave.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from benchmarks.frequencies import distribution

from prefloop import Sampling
from prefloop.cpu.kernels import NumpySampler, lowest_kept
from prefloop.sampling.pool import TokenSampler
from prefloop.sampling.row_numbers import RowNumbers

DRAWS = 40_000
SETTINGS = {
    "plain": Sampling(1.0, 1.0),
    "cooler": Sampling(0.6, 1.0),
    "hotter": Sampling(1.7, 1.0),
    "nucleus": Sampling(1.0, 0.8),
    "likeliest": Sampling(1.0, 1.0, 5),
    "least share": Sampling(1.0, 1.0, 0, 0.1),
    "nucleus, cooler": Sampling(0.7, 0.9),
    "nucleus, hotter": Sampling(2.0, 0.5),
    "all": Sampling(1.3, 0.9, 6, 0.05),
    "all the vocabulary": Sampling(1.0, 1.0, 19),
}
LOGITS = np.random.default_rng(5).normal(size=(2, 19)).astype(np.float32) * 1.5


def chi_square(drawn: Any, expected: Any) -> float:
    """Standard deviations by which the counts lie off; tokens that must not come may not."""
    counts = np.bincount(drawn, minlength=len(expected))
    assert not counts[expected == 0].any()
    wanted = DRAWS * expected[expected > 0]
    statistic = float(((counts[expected > 0] - wanted) ** 2 / wanted).sum())
    freedom = max(1, len(wanted) - 1)
    return (statistic - freedom) / (2 * freedom) ** 0.5


def sampler_of(sampling: Sampling, seed: int, host: bool) -> TokenSampler:
    """One that draws with NumPy, as on a CPU, or with mlx."""
    sampler = TokenSampler(sampling, seed)
    sampler._numpy = NumpySampler(sampling) if host else None
    return sampler


@pytest.mark.parametrize("host", [True, False], ids=["numpy", "mlx"])
@pytest.mark.parametrize("name", SETTINGS)
def test_token_frequencies_match_their_probabilities(name: str, host: bool) -> None:
    """Over the rows of many pools, whose rows have random numbers of their own, and over their tokens."""
    sampling, tokens = SETTINGS[name], 40
    rows = DRAWS // tokens
    sampler, logits = sampler_of(sampling, 11, host), mx.array(np.repeat(LOGITS, rows, axis=0))
    drawn = np.array([sampler(logits).tolist() for _ in range(tokens)]).reshape(tokens, 2, rows)
    for row, logit in zip(drawn.transpose(1, 0, 2).reshape(2, DRAWS), LOGITS, strict=True):
        assert abs(chi_square(row, distribution(logit, sampling))) < 5


@pytest.mark.parametrize("host", [True, False], ids=["numpy", "mlx"])
def test_a_row_draws_the_same_whatever_is_drawn_beside_it(host: bool) -> None:
    """In another pool, at another place in it, and with rows beside it that have ended."""
    sampling, random = Sampling(1.0, 0.9), np.random.default_rng(3)
    logits = [mx.array(random.normal(size=(6, 300)).astype(np.float32)) for _ in range(5)]
    whole = sampler_of(sampling, 2, host)
    expected = np.array([whole(one).tolist() for one in logits])
    parts = [sampler_of(sampling, 2, host) for _ in range(2)]
    for token, one in enumerate(logits):
        rows = [4, 1, 3] if token < 3 else [3, 4]
        assert parts[0](one[mx.array(rows)], rows).tolist() == expected[token, rows].tolist()
        rows = [0, 5, 2]
        assert parts[1](one[mx.array(rows)], rows).tolist() == expected[token, rows].tolist()


def test_neighbouring_rows_seeds_and_tokens_are_independent() -> None:
    """No correlation between the numbers of adjacent rows, of adjacent seeds, or of successive tokens."""
    drawn = np.array([RowNumbers(seed).uniforms(range(60), 200) for seed in range(10)])
    for one, other in (
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn[1:], drawn[:-1]),
        (drawn[..., 1:], drawn[..., :-1]),
    ):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 5 / one.size**0.5


@pytest.mark.parametrize("name", ["nucleus", "nucleus, cooler", "all"])
def test_filters_keep_the_right_number_of_tokens_of_a_large_vocabulary(name: str) -> None:
    random = np.random.default_rng(2)
    rows = [random.normal(size=30_000) * spread for spread in (0.05, 1.0, 4.0)]  # flat, usual, sharp
    logits = np.stack(rows).astype(np.float32)
    logits -= logits.max(axis=-1, keepdims=True)
    sampling = SETTINGS[name]
    lowest = np.max(np.broadcast_arrays(*lowest_kept(logits, sampling)), axis=0)
    kept = (logits >= lowest).sum(axis=-1)
    wanted = [(distribution(row, sampling) > 0).sum() for row in logits]
    assert kept == pytest.approx(wanted, rel=1e-4, abs=1)


def test_every_token_of_a_partial_block_can_be_drawn() -> None:
    """Each token of a vocabulary that fills no whole block can be drawn, the last one too."""
    uniforms = np.random.default_rng(0).random((20_000, 2))
    drawn = np.array(NumpySampler(Sampling(1.0, 1.0))(mx.zeros((20_000, 301)), uniforms))
    assert sorted(set(drawn.tolist())) == list(range(301))
    assert abs(drawn.mean() - 150) < 2.5  # four standard errors


@pytest.mark.parametrize("host", [True, False], ids=["numpy", "mlx"])
def test_a_certain_token_is_always_drawn(host: bool) -> None:
    logits = np.full((4, 700), -np.inf, dtype=np.float32)
    places = [0, 127, 128, 699]
    logits[range(4), places] = [-3e4, 0.0, 88.0, 3e4]
    sampling = Sampling(0.8, 0.95, 0, 0.1 if host else 0.0)
    assert sampler_of(sampling, 1, host)(mx.array(logits)).tolist() == places


def test_zero_temperature_is_greedy_whatever_else_is_set() -> None:
    sampler = TokenSampler(Sampling(0.0, 0.5, 3, 0.2), seed=0)
    assert sampler(mx.array(LOGITS)).tolist() == LOGITS.argmax(-1).tolist()


@pytest.mark.parametrize("sampling", [Sampling(0.8, 1.0), Sampling(0.8, 0.9)], ids=["plain", "filtered"])
def test_draws_are_decided_by_the_seed(sampling: Sampling) -> None:
    logits = mx.array(np.repeat(LOGITS, 50, axis=0))

    def drawn(seed: int) -> list[Any]:
        sampler = TokenSampler(sampling, seed)
        return [sampler(logits).tolist() for _ in range(3)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    first, second, third = drawn(3)
    assert first != second != third
