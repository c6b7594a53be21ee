"""The order of prompts over epochs, and what is held out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefloop.prompts.order import PromptOrder, split_held_out
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
