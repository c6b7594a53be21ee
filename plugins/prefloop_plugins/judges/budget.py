"""Which pairs a person is asked about, where there are more than the person has time for.

First come the pairs in doubt, those of prompts that were asked about least often before others, and of these
the nearest to a tie. Of all other pairs that a cheaper judge has labelled, a coin draws the audit. The coin
knows neither the labels nor the budget, which is what makes its sample fair.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefloop import Pair, Verdict

_NUMBERS = 2**64


def hashed(*texts: str | int) -> int:
    """A number of 64 bits that depends on the texts alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(texts).encode()).digest()[:8], "big")


def key_of(pair: Pair) -> int:
    """A number that is the pair's."""
    return hashed(pair.prompt.id, pair.prompt.text, pair.first.text, pair.second.text)


def coin(pair: Pair, seed: int) -> float:
    """A number from 0 up to 1 that is drawn for a pair: the same for the same pair and seed."""
    return hashed(key_of(pair), seed) / _NUMBERS


def sureness(verdict: Verdict | None) -> float:
    """How far from a tie, 0 to one half. Who gave no label, or was not asked, is not sure at all."""
    return abs(verdict.probability - 0.5) if verdict is not None and verdict.status == "ok" else 0.0


def left_of(budget: int | None, spent: int) -> float:
    """What is left of a budget; without one there is no end."""
    return math.inf if budget is None else max(0, budget - spent)


@define
class Asked:
    """The pairs that a person was asked about, by `key_of`, each with a number for its prompt.

    They are entered once their step is learnt from, so that a checkpoint, which may be made in the middle of
    a step, holds whole steps only. What was answered ahead of that counts all the same.
    """

    learnt: dict[int, int] = field(factory=dict)
    ahead: dict[int, int] = field(factory=dict)
    this_step: int = 0
    """Of the step in question, how many answers there were before an interruption, without audits."""

    @property
    def labels(self) -> int:
        """How many labels were spent; who is shown a pair again in another step is not asked again."""
        return len(self.learnt | self.ahead)

    def note(self, pair: Pair, verdict: Verdict) -> None:
        """A person has answered; an answer that was taken back costs nothing."""
        if verdict.cost_a_label:
            self.ahead[key_of(pair)] = hashed(pair.prompt.text)
        else:
            self.ahead.pop(key_of(pair), None)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Enter what a step has cost."""
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict.cost_a_label:
                self.learnt[key_of(pair)] = hashed(pair.prompt.text)
                self.ahead.pop(key_of(pair), None)

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Take up a step of which these pairs are answered already."""
        self.this_step = 0
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict.cost_a_label and key_of(pair) not in self.learnt:
                self.note(pair, verdict)
                self.this_step += verdict.audit is None

    def first(self, pairs: Sequence[Pair], doubtful: Mapping[int, Verdict | None], count: int) -> list[int]:
        """Of the places of doubtful pairs so many, in the order in which they teach most."""
        times = Counter((self.learnt | self.ahead).values())
        prompts = {place: hashed(pairs[place].prompt.text) for place in doubtful}
        left, chosen = set(doubtful), []

        def rank(place: int) -> tuple[int, float, int]:
            return times[prompts[place]], sureness(doubtful[place]), key_of(pairs[place])

        for _ in range(count):
            chosen.append(min(left, key=rank))
            left.remove(chosen[-1])
            times[prompts[chosen[-1]]] += 1
        return chosen

    def state(self) -> dict[str, mx.array]:
        """Pairs and their prompts, uint64 of the shape ``[labels]``."""
        columns = zip(*sorted(self.learnt.items()), strict=True)
        return {
            f"asked/{name}": mx.array(np.array(column, np.uint64))
            for name, column in zip(("pairs", "prompts"), columns, strict=False)
        }

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from `state`."""
        if "asked/pairs" in state:
            pairs, prompts = (np.array(state[f"asked/{name}"]).tolist() for name in ("pairs", "prompts"))
            self.learnt = dict(zip(pairs, prompts, strict=True))
