"""Sampling: token ids with their stop token, seeded, whatever the model can batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from attrs import evolve

from prefloop import Policy, Prompt, Sampling
from prefloop.config import AdapterConfig
from prefloop.model.adapters import fuse_adapters
from prefloop.model.mlx_lm_internals import keys_and_values
from prefloop.sampling import Generator, pool
from prefloop.sampling.generator import _by_length, _one_by_one
from prefloop.sampling.pool import Request, TokenSampler, sample_pool
from support.family_traits import TRAITS
from support.tiny_models import ModelFolder
from support.tiny_tokenizer import TURN

LONG = Sampling(temperature=1.0, top_p=1.0, max_tokens=12)


@pytest.fixture(scope="module")
def policy(model_folder: ModelFolder) -> Policy:
    return Policy.load(str(model_folder("qwen3")))


@pytest.fixture(scope="module")
def prompts(policy: Policy) -> list[Prompt]:
    return [policy.encode(text) for text in ("Hi", "What does a cow say?", "Why is that, and since when?")]


class Scripted(nn.Module):
    """Says the same tokens whatever it is asked: position counts, so its cache holds only that."""

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.script = tuple(script)
        self.vocabulary = vocabulary
        self.layers: list[Any] = []

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        following = dict(zip((-1, *self.script), self.script, strict=False))
        rows = [[following.get(t, self.script[0]) for t in row] for row in tokens.tolist()]
        return 100.0 * (mx.array(rows)[..., None] == mx.arange(self.vocabulary)).astype(mx.float32)


def test_the_stop_token_is_kept_and_the_text_is_without_it(policy: Policy, prompts: list[Prompt]) -> None:
    stop = policy.tokenizer.eos_token_id
    said = policy.tokenizer.encode("cow")
    generator = Generator(Scripted([*said, stop], 400), policy.tokenizer)
    for completion in generator(prompts, Sampling(max_tokens=20), seed=0):
        assert completion.tokens == (*said, stop)
        assert completion.stopped
        assert completion.text == "cow"


@pytest.mark.parametrize("engine", [sample_pool, _by_length, _one_by_one])
@pytest.mark.parametrize(
    ("said", "stop", "kept", "text"),
    [
        ("A cow says moo. A dog", [" moo"], "A cow says moo", "A cow says"),
        ("A cow says moo. A dog", ["says moo", "never"], "A cow says moo", "A cow "),
        ("One.#Two", ["#", "e.#"], "One.#", "One."),
        ("Oñ→ cow", ["→"], "Oñ→", "Oñ"),  # of three tokens, each a byte
        ("A cow says moo", ["A cow says moo"], "A cow says moo", ""),
        ("A cow<|im_start|> says", [TURN], f"A cow{TURN}", "A cow"),
        ("A cow<|im_start|> says", [f"cow{TURN}"], f"A cow{TURN}", "A"),
    ],
)
def test_a_row_ends_at_a_stop_text(
    policy: Policy, prompts: list[Prompt], engine: Any, said: str, stop: list[str], kept: str, text: str
) -> None:
    tokens = policy.tokenizer.encode(said)
    generator = Generator(Scripted(tokens, 400), policy.tokenizer)
    generator._engines = [engine]
    for completion in generator(prompts, Sampling(max_tokens=40, stop=tuple(stop)), seed=0):
        assert completion.stopped
        assert completion.text == text
        assert policy.tokenizer.decode(list(completion.tokens)).startswith(kept)  # what was sampled is scored
        assert completion.tokens == tuple(tokens[: len(completion.tokens)])
        before = policy.tokenizer.decode(list(completion.tokens[:-1]))
        assert not any(one in before for one in stop)  # it ends at once


def test_a_row_ends_at_a_stop_id(policy: Policy, prompts: list[Prompt]) -> None:
    cow = policy.tokenizer.encode("A cow says")
    generator = Generator(Scripted(cow, 400), policy.tokenizer)
    for completion in generator(prompts, Sampling(max_tokens=20, stop=(cow[2],)), seed=0):
        assert (completion.tokens, completion.stopped) == (tuple(cow[:3]), True)
        assert completion.text == policy.tokenizer.decode(cow[:2])


def test_rows_that_end_at_a_stop_text_leave_the_others_as_they_were(policy: Policy) -> None:
    prompts = [Prompt(tokens, "") for tokens in RAGGED]
    free = policy.generate(prompts, GREEDY, seed=0)
    stop = free[0].text[3:5]
    stopped = policy.generate(prompts, evolve(GREEDY, stop=(stop,)), seed=0)
    assert stopped[0].text == free[0].text.partition(stop)[0]
    for whole, cut in zip(free, stopped, strict=True):
        assert cut.tokens == whole.tokens[: len(cut.tokens)]
        assert cut.text == whole.text.partition(stop)[0]


@pytest.mark.parametrize("wrong", ["", -1, True])
def test_what_cannot_be_a_stop_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="takes texts and token ids, not"):
        Sampling(stop=("fine", wrong))


def test_a_completion_at_the_limit_is_cut(policy: Policy, prompts: list[Prompt]) -> None:
    said = policy.tokenizer.encode("cow")
    generator = Generator(Scripted([*said, *said], 400), policy.tokenizer)
    for completion in generator(prompts, Sampling(max_tokens=2), seed=0):
        assert len(completion.tokens) == 2
        assert not completion.stopped


def test_the_same_seed_gives_the_same_completions(policy: Policy, prompts: list[Prompt]) -> None:
    first = policy.generate(prompts, LONG, seed=3)
    assert policy.generate(prompts, LONG, seed=3) == first
    assert policy.generate(prompts, LONG, seed=4) != first


GREEDY = Sampling(temperature=0.0, max_tokens=14)


def never(row: Sequence[int]) -> bool:
    return False


ROOM = 1 << 30
RAGGED = [tuple(range(7, 7 + count)) for count in (5, 1, 19, 12, 5, 3)]
LONGER = [prompt for prompt in RAGGED if len(prompt) > 1]
ENGINES = {"one pool": sample_pool, "pools of equal length": _by_length, "one by one": _one_by_one}


@pytest.mark.parametrize("family", TRAITS)
def test_greedy_pool_sampling_equals_the_model_alone(model_folder: ModelFolder, family: str) -> None:
    """Forked caches, padding and rows that leave change nothing, whatever the model keeps."""
    policy = Policy.load(str(model_folder(family)), AdapterConfig(type="full", layers=-1))
    stop = _stop_for_some(policy, RAGGED)
    twice = [prompt for prompt in RAGGED for _ in range(2)]
    expected = _greedy_by_hand(policy, twice, GREEDY.max_tokens, {stop})
    assert len(set(map(len, expected))) > 1  # some rows leave early
    generator = Generator(policy.model, policy.tokenizer)
    assert generator._sample(twice, GREEDY, lambda row: row[-1] == stop, 0) == expected
    assert generator._engines[0] is ENGINES[TRAITS[family].sampling]


@pytest.mark.parametrize("engine", [sample_pool, _by_length, _one_by_one])
@pytest.mark.parametrize("room", [1, ROOM])
def test_every_engine_gives_the_same_greedy_completions(policy: Policy, engine: Any, room: int) -> None:
    expected = _greedy_by_hand(policy, RAGGED, GREEDY.max_tokens, set())
    ended: list[int] = []
    request = Request(RAGGED, TokenSampler(GREEDY, 0), never, room, ended.append)
    assert engine(policy.model, request) == expected
    assert sum(ended) == len(RAGGED)
    assert len(ended) >= GREEDY.max_tokens  # it hears of every token


def _stop_for_some(policy: Policy, prompts: Sequence[tuple[int, ...]]) -> int:
    """A token that ends some of the greedy rows, and not all of them at once."""
    rows = _greedy_by_hand(policy, prompts, GREEDY.max_tokens, set())
    places = {
        token: {row.index(token) if token in row else -1 for row in rows} for token in set(sum(rows, ()))
    }
    return max(sorted(places), key=lambda token: len(places[token]))


def _greedy_by_hand(
    policy: Policy, prompts: Sequence[tuple[int, ...]], count: int, stop: set[int]
) -> list[tuple[int, ...]]:
    """Argmax of the whole row again for each token: no cache, no batch."""
    done: dict[tuple[int, ...], tuple[int, ...]] = {}
    for prompt in set(prompts):
        row: list[int] = []
        while len(row) < count and (not row or row[-1] not in stop):
            output = policy.model(mx.array([[*prompt, *row]]))
            row.append(int(mx.argmax(output[0, -1]).item()))
        done[prompt] = tuple(row)
    return [done[prompt] for prompt in prompts]


class Counting(nn.Module):
    """A model that says what shapes it was asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.asked: list[tuple[int, ...]] = []
        self.inner = model
        self.layers = model.layers

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        self.asked.append(tokens.shape)
        logits: mx.array = self.inner(tokens, cache=cache)
        return logits


def test_equal_prompts_are_read_once_and_finished_rows_leave_the_batch(policy: Policy) -> None:
    asked = (RAGGED[0], RAGGED[4], RAGGED[2])  # two of them are equal
    stop = _stop_for_some(policy, asked)
    model = Counting(policy.model)
    twice = [prompt for prompt in asked for _ in range(2)]
    rows = sample_pool(model, Request(twice, TokenSampler(GREEDY, 0), lambda row: row[-1] == stop, ROOM))
    shortest, longest = sorted(map(len, {*asked}))
    prefills = [shape for shape in model.asked if shape[1] > 1]
    assert prefills == [(2, longest - 1), (1, shortest - 1)]  # both, and the one that they are checked by
    steps = [shape[0] for shape in model.asked if shape[1] == 1 and shape[0] > 1]
    assert steps[0] == 6
    assert sum(steps) < 6 * max(map(len, rows))


def test_prompts_of_similar_length_are_read_together(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PREFILL_STEP", 12)
    prompts = [(1,) * length for length in (9, 3, 4, 30, 3, 1)]
    groups = [[len(prompt) for prompt in group] for group in pool._groups(prompts)]
    assert groups == [[1], [3, 4], [9], [30]]
    model = Counting(policy.model)
    pool._prefill(model, [(1,) * 30])
    assert model.asked == [(1, 12), (1, 12), (1, 5)]


def test_what_is_read_together_is_what_each_prompt_gives_alone(policy: Policy) -> None:
    for prompt, caches in zip(LONGER, pool._prefill(policy.model, LONGER), strict=True):
        for cache, alone in zip(caches, pool._read_alone(policy.model, prompt[:-1]), strict=True):
            assert cache.offset == alone.offset == len(prompt) - 1
            for found, wanted in zip(keys_and_values(cache), keys_and_values(alone), strict=True):
                assert found.shape == wanted.shape
                assert mx.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("prompts", [LONGER, LONGER[:1] * 2], ids=["ragged", "equal"])
def test_a_pool_has_room_for_its_completions_and_no_more(policy: Policy, prompts: Any) -> None:
    prefilled = dict(zip(prompts, pool._prefill(policy.model, prompts), strict=True))
    request = Request(prompts, TokenSampler(GREEDY, 0), never, ROOM)
    made = pool._Pool(policy.model, request, prefilled)
    made.run()
    longest = max(map(len, prompts)) - 1
    assert {cache.keys.shape[2] for cache in made.caches} == {longest + GREEDY.max_tokens}


def test_rows_of_unequal_length_are_checked_once(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")), AdapterConfig(type="full"))  # nothing to fold in
    model = Counting(policy.model)
    ragged = [Prompt(tokens, "") for tokens in LONGER]
    generator = Generator(model, policy.tokenizer)
    alone = []
    for seed in range(2):
        model.asked.clear()
        generator(ragged, LONG, seed=seed)
        alone.append(sum(shape[0] == 1 and shape[1] > 1 for shape in model.asked))
    assert alone == [1, 0]


def test_more_rows_than_fit_are_sampled_in_parts(policy: Policy, prompts: list[Prompt]) -> None:
    model = Counting(policy.model)
    sample_pool(model, Request(RAGGED, TokenSampler(GREEDY, 0), never, 1))
    assert max(shape[0] for shape in model.asked) == 1
    narrow = Generator(policy.model, policy.tokenizer, pool_bytes=1)
    assert [len(c.tokens) > 0 for c in narrow(prompts, LONG, seed=0)] == [True] * 3
    assert narrow(prompts, LONG, seed=0) == narrow(prompts, LONG, seed=0)


def test_a_model_that_cannot_take_ragged_rows_is_sampled_by_length(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("gemma2")))
    ragged = [policy.encode(text) for text in ("Hi", "Ho", "What does a cow say?")]
    completions = policy.generate(ragged, LONG, seed=0)
    assert len(completions) == 3
    assert all(c.tokens for c in completions)
    # The choice is remembered, so the failing engine is not tried again.
    assert policy._generators["policy"]._engines[0] is _by_length


def test_a_wrongly_broadcast_attention_mask_is_detected(model_folder: ModelFolder) -> None:
    """Gemma 2's mask is broadcast along the wrong axis where there are as many rows as key heads."""
    policy = Policy.load(str(model_folder("gemma2")))
    two = [RAGGED[0], RAGGED[2]]
    with pytest.raises(ValueError, match="rows of unequal length disturb each other"):
        sample_pool(policy.model, Request(two, TokenSampler(GREEDY, 0), never, ROOM))


class Unbatchable:
    """A cache that can neither be put together nor lose a row."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.state: list[mx.array] = []
        self.nbytes = 8


class Remembering(Scripted):
    """A scripted model with a cache of its own kind."""

    def make_cache(self) -> list[Unbatchable]:
        return [Unbatchable()]


def test_a_cache_that_cannot_be_batched_is_sampled_one_by_one(policy: Policy, prompts: list[Prompt]) -> None:
    said = policy.tokenizer.encode("cow")
    generator = Generator(Remembering([*said, policy.tokenizer.eos_token_id], 400), policy.tokenizer)
    assert [c.text for c in generator(prompts, Sampling(max_tokens=20), seed=0)] == ["cow"] * 3
    assert generator._engines == [_one_by_one]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_adapters_are_merged_for_sampling_where_that_loses_nothing(
    model_folder: ModelFolder, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy.load(str(model_folder("qwen3")), AdapterConfig(type=kind, rank=4))
    mx.random.seed(1)
    for _, module in policy.model.named_modules():
        if "lora_b" in module:
            module.lora_b = 0.05 * mx.random.normal(module.lora_b.shape)
    tokens = mx.array([RAGGED[2]])
    folded = fuse_adapters(policy.model)
    assert not any("lora_a" in module for _, module in folded.named_modules())
    assert any("lora_a" in module for _, module in policy.model.named_modules())
    assert mx.allclose(folded(tokens), policy.model(tokens), rtol=1e-4, atol=1e-4)
    assert not mx.allclose(folded(tokens), policy.reference(tokens), rtol=1e-2, atol=1e-2)
    monkeypatch.setattr("prefloop.model.adapters.FUSE_LIMIT", 0)
    assert fuse_adapters(policy.model) is policy.model


def test_adapters_stay_unmerged_where_merging_would_round_them_away(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    policy.model.set_dtype(mx.bfloat16)
    assert fuse_adapters(policy.model) is policy.model
    plain = Policy.load(str(model_folder("qwen3")), AdapterConfig(type="full", layers=-1))
    assert fuse_adapters(plain.model) is plain.model


def test_completions_of_the_reference_have_it_as_source(policy: Policy, prompts: list[Prompt]) -> None:
    assert {c.source for c in policy.generate(prompts, LONG, seed=0, source="reference")} == {"reference"}


def test_no_prompts_give_no_completions(policy: Policy) -> None:
    assert policy.generate([], LONG, seed=0) == []


def test_a_stop_text_may_hold_special_tokens_and_letters_of_many_bytes(policy: Policy) -> None:
    ids = policy.tokenizer.encode("caé<|im_start|>us")
    assert len(set(ids)) == len(ids)
    generator = Generator(Scripted(ids, len(policy.tokenizer)), policy.tokenizer)
    for stop, text in (("é<|im_start|>u", "ca"), ("<|im_start|>us", "caé")):
        (said,) = generator([policy.encode("Hi")], Sampling(max_tokens=20, stop=(stop,)), seed=0)
        assert (said.text, said.stopped) == (text, True)
    (said,) = generator([policy.encode("Hi")], Sampling(max_tokens=2, stop=("é",)), seed=0)
    assert not said.stopped
