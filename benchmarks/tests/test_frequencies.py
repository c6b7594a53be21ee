"""The engines are held against the model's probabilities, and what is wrong is noticed."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve
from benchmarks.frequencies import (
    CONTROL,
    ENGINES,
    FILTERED,
    PLAIN,
    Engine,
    Fit,
    Tokens,
    compare,
    decided_by,
    likely,
    measure,
    moved_policy,
    row,
)
from benchmarks.harness.internals import Stops, adapters

FEW = evolve(PLAIN, max_tokens=2)


@pytest.mark.parametrize(("chi_square", "freedom"), [(18.307, 10), (67.505, 50), (233.994, 200)])
def test_p_is_that_of_the_tables(chi_square: float, freedom: int) -> None:
    """The 95 % quantiles of the chi-square distribution."""
    assert Fit(freedom + 1, freedom, chi_square).p == pytest.approx(0.05, abs=1e-3)


def test_what_is_rare_or_not_named_is_one_cell() -> None:
    """Of 100 draws 60 and 30 are expected, and 10 of all others."""
    expected: dict[Tokens, float] = {(1,): 0.6, (2,): 0.3, (3,): 0.04, (4,): 0.03}
    counts: Counter[Tokens] = Counter({(1,): 54, (2,): 33, (3,): 4, (9,): 9})
    cells, chi_square = compare(counts, expected)
    assert cells == 3
    assert chi_square == pytest.approx(6**2 / 60 + 3**2 / 30 + 3**2 / 10)


def test_likely_completions_and_the_rest_make_up_one() -> None:
    policy, prompts = moved_policy("embedded")
    ends = Stops.of(policy.tokenizer).ends
    for sampling in (FEW, FILTERED):
        found = likely(policy.model, prompts[0], sampling, ends, 1e-5)
        assert 0.97 < sum(found.values()) < 1 + 1e-6
        assert all(ends(one) or len(one) == sampling.max_tokens for one in found)
    assert len({len(prompt.tokens) for prompt in prompts}) == 2, "of unequal length"


@pytest.mark.parametrize("name", [name for name in ENGINES if "SmolLM2" not in name])
def test_adapters_are_folded_where_the_table_says_so(name: str) -> None:
    engine = ENGINES[name]
    policy, _ = moved_policy(engine.model)
    with decided_by(engine):
        assert (adapters.fuse_adapters(policy.model) is not policy.model) == engine.folded


def test_draws_of_the_policy_are_told_from_those_of_its_reference() -> None:
    few = Engine(sampling=FEW, calls=2)
    assert measure(few).p > 1e-4
    assert measure(few, against_reference=True).p < 1e-6


def test_every_engine_and_the_control_have_a_row_of_their_own() -> None:
    found = {"cells": 11, "freedom": 10, "chi_square": 18.307}
    rows = [row(name, found) for name in [*ENGINES, CONTROL]]
    assert len({tuple(one) for one in rows}) == len(rows)
    assert {one[-1] for one in rows} == {"0.05"}
