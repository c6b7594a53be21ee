"""The order of prompts over epochs, and what is held out."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from prefloop.prompts.order import PromptOrder, order_of, shares, split_held_out
from prefloop.types import Prompt

sizes = st.integers(min_value=1, max_value=40)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(tokens=(i,), text=str(i)) for i in range(count)]


@given(count=sizes, batch=sizes, epochs=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_every_epoch_visits_every_prompt_once_whatever_the_batch_size(
    count: int, batch: int, epochs: int, seed: int
) -> None:
    order = PromptOrder(count, seed)
    drawn: list[int] = []
    while len(drawn) < epochs * count:
        drawn += order.indices(len(drawn), batch)
    for epoch in range(epochs):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(count=sizes, start=st.integers(0, 200), taken=st.integers(0, 60), seed=st.integers(0, 99))
def test_the_order_continues_exactly_from_any_position(count: int, start: int, taken: int, seed: int) -> None:
    whole = PromptOrder(count, seed).indices(0, start + taken)
    assert PromptOrder(count, seed).indices(start, taken) == whole[start:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = PromptOrder(30, 0).indices(0, 30), PromptOrder(30, 0).indices(30, 30)
    assert first != second
    assert first != PromptOrder(30, 1).indices(0, 30)
    assert first != list(range(30))


def test_the_order_never_changes_between_versions() -> None:
    # A saved run resumes in this order: a change here breaks every run that was begun before it.
    assert PromptOrder(8, 7).indices(0, 16) == [4, 0, 1, 7, 3, 6, 2, 5, 1, 2, 6, 4, 7, 5, 3, 0]


def test_an_empty_order_and_negative_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="count"):
        PromptOrder(0, 0)
    with pytest.raises(ValueError, match="at least 0"):
        PromptOrder(3, 0).indices(-1, 2)


@given(count=st.integers(0, 60), wanted=st.integers(0, 20), seed=st.integers(0, 99))
def test_held_out_prompts_are_taken_from_training_and_at_most_a_tenth(
    count: int, wanted: int, seed: int
) -> None:
    everything = prompts(count)
    train, held = split_held_out(everything, wanted, seed)
    assert len(held) == min(wanted, count // 10)
    assert [p for p in everything if p not in held] == list(train)
    assert (train, held) == split_held_out(everything, wanted, seed)


def test_another_seed_holds_out_others() -> None:
    assert split_held_out(prompts(100), 10, 0)[1] != split_held_out(prompts(100), 10, 1)[1]


@given(repeats=st.integers(1, 12), seed=st.integers(0, 99))
def test_copies_of_a_prompt_stay_on_one_side(repeats: int, seed: int) -> None:
    train, held = split_held_out(prompts(20) * repeats, 5, seed)
    assert not {p.tokens for p in train} & {p.tokens for p in held}
    assert len(held) <= 5
    assert len(train) + len(held) == 20 * repeats


# Mixtures

WEIGHTS = st.lists(st.floats(0.1, 10.0), min_size=2, max_size=5)


def mixed(counts: list[int]) -> list[Prompt]:
    """So many prompts of each source, no two of them equal."""
    of = [s for s, count in enumerate(counts) for _ in range(count)]
    return [Prompt(tokens=(i,), text=str(i), source=f"s{s}") for i, s in enumerate(of)]


@settings(deadline=None)
@given(data=st.data(), weights=WEIGHTS, seed=st.integers(0, 99))
def test_an_epoch_draws_every_source_in_proportion_to_its_weight(
    data: st.DataObject, weights: list[float], seed: int
) -> None:
    counts = [data.draw(st.integers(1, 30)) for _ in weights]
    everything = mixed(counts)
    order = order_of(everything, {f"s{i}": weight for i, weight in enumerate(weights)}, seed)
    size = len(everything)
    for epoch in range(3):
        drawn = Counter(everything[i].source for i in order.indices(epoch * size, size))
        for i, weight in enumerate(weights):
            exact = size * weight / sum(weights)
            assert drawn[f"s{i}"] >= 1
            assert abs(drawn[f"s{i}"] - exact) < len(weights)  # of whole numbers, each at least one


@given(counts=st.lists(st.integers(1, 20), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_source_is_visited_epoch_after_epoch_of_its_own(counts: list[int], seed: int) -> None:
    everything = mixed(counts)
    weights = {f"s{i}": float(i + 1) for i in range(len(counts))}
    drawn = [everything[i] for i in order_of(everything, weights, seed).indices(0, 4 * len(everything))]
    for i, count in enumerate(counts):
        own = [int(p.text) for p in drawn if p.source == f"s{i}"]
        rounds = [own[start : start + count] for start in range(0, len(own) - count + 1, count)]
        assert all(len(set(one)) == count for one in rounds)


@given(start=st.integers(0, 200), taken=st.integers(0, 60), seed=st.integers(0, 99))
def test_the_order_of_a_mixture_continues_exactly_from_any_position(
    start: int, taken: int, seed: int
) -> None:
    order = order_of(mixed([7, 13, 2]), {"s0": 1.0, "s1": 3.0, "s2": 0.5}, seed)
    assert order.indices(start, taken) == order.indices(0, start + taken)[start:]


def test_a_batch_of_a_mixture_has_the_sources_evenly_spread() -> None:
    everything = mixed([50, 150])
    order = order_of(everything, {"s0": 1.0, "s1": 3.0}, 0)
    for batch in range(50):
        drawn = [everything[i].source for i in order.indices(4 * batch, 4)]
        assert sorted(drawn) == ["s0", "s1", "s1", "s1"]


def test_the_order_of_a_mixture_never_changes_between_versions() -> None:
    order = order_of(mixed([3, 5]), {"s0": 1.0, "s1": 1.0}, 7)
    assert order.indices(0, 16) == [1, 4, 0, 6, 2, 3, 0, 5, 1, 7, 2, 6, 0, 3, 2, 4]


def test_equal_sources_are_shuffled_apart() -> None:
    order = order_of(mixed([12, 12]), {"s0": 1.0, "s1": 1.0}, 0)
    drawn = order.indices(0, 24)
    assert [i for i in drawn if i < 12] != [i - 12 for i in drawn if i >= 12]


@given(total=st.integers(0, 500), weights=WEIGHTS)
def test_shares_add_up_and_are_whole(total: int, weights: list[float]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total
    assert all(part >= (total >= len(weights)) for part in parts)


def test_a_weight_too_small_for_an_epoch_is_drawn_once() -> None:
    assert shares(100, [1e-9, 1.0, 1.0]) == [1, 50, 49]


def test_held_out_prompts_of_a_mixture_are_taken_by_weight_and_at_most_a_tenth_of_a_source() -> None:
    everything = mixed([400, 400, 20])
    train, held = split_held_out(everything, 40, 0, {"s0": 1.0, "s1": 3.0, "s2": 4.0})
    assert Counter(p.source for p in held) == {"s0": 5, "s1": 15, "s2": 2}
    assert [p for p in everything if p not in held] == list(train)


def test_copies_in_two_sources_stay_on_one_side() -> None:
    everything = [evolve(p, source=s) for s in ("s0", "s1") for p in prompts(40)]
    train, held = split_held_out(everything, 8, 0, {"s0": 1.0, "s1": 1.0})
    assert held
    assert not {p.tokens for p in train} & {p.tokens for p in held}


def test_a_source_without_a_weight_is_never_held_out() -> None:
    train, held = split_held_out(mixed([100, 100]), 10, 0, {"s1": 1.0})
    assert {p.source for p in held} == {"s1"}
    assert len(train) == 190
