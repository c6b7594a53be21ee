"""Which prompts a step reads, and which are held out: pure functions of a seed."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import field, frozen
from attrs.validators import ge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefloop.types import Prompt


@lru_cache(maxsize=16)
def _shuffled(count: int, key: str) -> tuple[int, ...]:
    """0 to `count` - 1 in random order.

    Sorted by `random.random`, the one generator that Python promises never to change, and seeded by
    text, which it hashes the same on every machine: a resumed run may have newer libraries.
    """
    draw = random.Random(key).random
    return tuple(sorted(range(count), key=lambda _: draw()))


@frozen
class PromptOrder:
    """Epoch after epoch of `count` prompts, each epoch visiting every prompt once in its own order.

    Nothing is remembered between calls, so a run resumes exactly from the number of prompts drawn.
    Batches run across the end of an epoch: no remainder is dropped or comes back sooner.
    """

    count: int = field(validator=ge(1))
    seed: int

    def indices(self, start: int, count: int) -> list[int]:
        """The `count` prompts that follow the first `start` ones. Raises `ValueError` below 0."""
        if start < 0 or count < 0:
            raise ValueError(f"start and count are at least 0, not {start} and {count}")
        places = (divmod(position, self.count) for position in range(start, start + count))
        return [_shuffled(self.count, f"epoch {epoch} of seed {self.seed}")[place] for epoch, place in places]


@frozen
class MixtureOrder:
    """Draws from several sources in proportion to their `weights`, evenly spread.

    `sources` are the places of each source's prompts. An epoch is as many prompts as all sources have
    together, of which each source has its share in whole numbers, and every epoch has the same pattern of
    sources. Within its own draws, a source is visited epoch after epoch as by `PromptOrder`. Nothing is
    remembered between calls.
    """

    sources: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    seed: int

    def indices(self, start: int, count: int) -> list[int]:
        """The `count` prompts that follow the first `start` ones. Raises `ValueError` below 0."""
        if start < 0 or count < 0:
            raise ValueError(f"start and count are at least 0, not {start} and {count}")
        pattern = _pattern(sum(map(len, self.sources)), self.weights)
        quotas = shares(len(pattern), self.weights)
        drawn = []
        for epoch, place in (divmod(position, len(pattern)) for position in range(start, start + count)):
            source, earlier = pattern[place]
            own = self.sources[source]
            round_, rank = divmod(epoch * quotas[source] + earlier, len(own))
            key = f"epoch {round_} of source {source} of seed {self.seed}"
            drawn.append(own[_shuffled(len(own), key)[rank]])
        return drawn


@lru_cache(maxsize=4)
def _pattern(length: int, weights: tuple[float, ...]) -> tuple[tuple[int, int], ...]:
    """Which source each place of an epoch is for, and how many earlier places are for the same one."""
    own = ((s, i, quota) for s, quota in enumerate(shares(length, weights)) for i in range(quota))
    spread = sorted(((i + 0.5) / quota, s, i) for s, i, quota in own)
    return tuple((s, i) for _, s, i in spread)


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` divided in proportion to `weights`, in whole numbers.

    The largest remainders are rounded up. Everyone gets something where there is enough for all.
    """
    least = int(total >= len(weights))
    exact = [total * (weight / sum(weights)) for weight in weights]
    parts = [max(least, int(share)) for share in exact]
    while left := total - sum(parts):
        sign = 1 if left > 0 else -1
        places = [i for i, part in enumerate(parts) if sign > 0 or part > least]
        parts[max(places, key=lambda i: sign * (exact[i] - parts[i]))] += sign
    return parts


def order_of(
    prompts: Sequence[Prompt], weights: Mapping[str, float], seed: int
) -> PromptOrder | MixtureOrder:
    """In which order prompts are drawn: those of a mixture by the weights of their sources."""
    if not weights:
        return PromptOrder(len(prompts), seed)
    places: dict[str, list[int]] = {source: [] for source in weights}
    for place, prompt in enumerate(prompts):
        places[prompt.source].append(place)
    there = {source: tuple(own) for source, own in places.items() if own}
    return MixtureOrder(tuple(there.values()), tuple(weights[source] for source in there), seed)


def split_held_out(
    prompts: Sequence[Prompt], count: int, seed: int, weights: Mapping[str, float] | None = None
) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """The prompts to train on and those held out, each in the order given.

    `count` are held out, or fewer where that is more than a tenth of all; of a mixture so many of each source
    as its weight says, and at most a tenth of it. Copies of one prompt stay on the same side: a held-out
    prompt is never trained on.
    """
    sources = [prompt.source if weights else "" for prompt in prompts]
    weights, sizes = weights or {"": 1.0}, Counter(sources)
    quotas = zip(weights, shares(count, tuple(weights.values())), strict=True)
    room = {source: min(quota, sizes[source] // 10) for source, quota in quotas}
    copies: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        copies.setdefault(prompt.tokens, []).append(index)
    groups = list(copies.values())
    held: set[int] = set()
    for place in _shuffled(len(groups), f"held out by seed {seed}"):
        needed = Counter(sources[i] for i in groups[place])
        if all(count <= room.get(source, 0) for source, count in needed.items()):
            held.update(groups[place])
            room = {source: left - needed[source] for source, left in room.items()}
    train = tuple(prompt for index, prompt in enumerate(prompts) if index not in held)
    return train, tuple(prompts[index] for index in sorted(held))
