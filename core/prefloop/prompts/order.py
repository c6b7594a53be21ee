"""Which prompts a step reads, and which are held out: pure functions of a seed."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import field, frozen
from attrs.validators import ge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop.types import Prompt


@lru_cache(maxsize=4)
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


def split_held_out(
    prompts: Sequence[Prompt], count: int, seed: int
) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """The prompts to train on and those held out, each in the order given.

    `count` are held out, or fewer where that is more than a tenth of all. Copies of one prompt stay
    on the same side: a held-out prompt is never trained on.
    """
    room = min(count, len(prompts) // 10)
    copies: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        copies.setdefault(prompt.tokens, []).append(index)
    groups = list(copies.values())
    held: set[int] = set()
    for place in _shuffled(len(groups), f"held out by seed {seed}"):
        if len(held) + len(groups[place]) <= room:
            held.update(groups[place])
    train = tuple(prompt for index, prompt in enumerate(prompts) if index not in held)
    return train, tuple(prompts[index] for index in sorted(held))
