"""COPO's bonus: likelihood for what has seldom been written, by a pseudo-count of its words.

Where the reward is linear in features ``x`` of a completion, what labels leave open about it is in
proportion to ``u = sqrt(x^T (X^T X + lambda I)^-1 x)``, with the features of all that was judged as the rows
of ``X``. If every completion had a feature of its own this would be ``1 / sqrt(N + lambda)``, with the number
N of times that it was judged. So N, as that formula has it for any features, is a pseudo-count. To raise
``E_{y ~ pi} [u(y)]`` is to explore, and the gradient of that is ``E_{y ~ pi} [u(y) grad log pi(y)]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from attrs import define, field
from attrs.validators import gt
from numpy.typing import NDArray

from prefloop import BaseBonus, Completion, Pair, Verdict
from prefloop_bonus_pack.weight import ALPHA_HELP, Alpha, alpha_at, as_alpha, asked, check_alpha

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Progress, Scores

PLACES = 1024
"""Features: places for words. Two share one where their hashes agree (Weinberger et al., arXiv 0902.2206)."""
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(completions: Sequence[Completion]) -> NDArray[np.float32]:
    """Which words and marks occur in each, as a row of length 1, or of 0 without any: ``[B, PLACES]``.

    The hash is CRC-32, which is the same in every process.
    """
    found = np.zeros((len(completions), PLACES), np.float32)
    for row, completion in zip(found, completions, strict=True):
        row[[crc32(word.encode()) % PLACES for word in _WORD.findall(completion.text.lower())]] = 1
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    return found


@define(eq=False, kw_only=True)
class Copo(BaseBonus):
    """``alpha (u_c log pi(y_c) + u_r log pi(y_r))`` with ``u = 1 / sqrt(N + prior)``, a constant.

    N is the pseudo-count of a completion's words among all that was judged so far, both completions of every
    pair, this step's included. Completions of the same words have the same N, whatever the prompt; N is how
    often they were judged where these words occur in nothing else. One without words has ``u = 0``.

    Its gradient is, in expectation, that of ``alpha`` times the mean of ``u`` over the policy, for
    completions drawn from the policy at temperature 1 and untruncated. Pairs that tie get no label and so no
    bonus: what is left is no fair sample.

    The authors count by a network that is trained to predict coin flips from the hidden states of prompt and
    completion, between rounds of sampling, and weight a completion by how much likelier it has become since
    it was drawn. Here words stand for hidden states and the formula for the network, and there is no such
    weight, as the loop draws anew for every step.

    Source: Bai et al., Online Preference Alignment for Language Models via Count-based Exploration, arXiv
    2501.12735.
    """

    needs = frozenset({"completions"})
    sign = -1

    alpha: Alpha = field(
        default=1e-3, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )
    prior: float = field(
        default=1.0,
        validator=gt(0.0),
        metadata={"help": "Is added to every count: more makes less of what is new."},
    )
    _seen: NDArray[np.float32] = field(
        init=False, factory=lambda: np.zeros((PLACES, PLACES), np.float32), repr=False
    )
    """``X^T X``, of all that was judged."""

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``, never positive."""
        both = (asked(side, "completions") for side in (scores.chosen, scores.rejected))
        chosen, rejected = self._novelty([completion for side in both for completion in side]).split(2)
        value = chosen * scores.policy_chosen + rejected * scores.policy_rejected
        return alpha_at(self.alpha, progress) * value

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Count what was judged, whatever was said of it."""
        words = words_of([completion for pair in pairs for completion in (pair.first, pair.second)])
        self._seen = self._seen + words.T @ words

    def state(self) -> Mapping[str, mx.array]:
        """What was counted."""
        import mlx.core as mx

        return {"seen": mx.array(self._seen)} if self._seen.any() else {}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from `state`."""
        self._seen = np.array(state["seen"])

    def _novelty(self, completions: Sequence[Completion]) -> mx.array:
        """``u`` of each, ``[B]``."""
        import mlx.core as mx

        words = words_of(completions)
        known = np.flatnonzero(self._seen.diagonal() + words.sum(axis=0))  # the other places add nothing
        words, seen = words[:, known], self._seen[np.ix_(known, known)]
        solved = np.linalg.solve(seen + self.prior * np.eye(len(known)), words.T)
        return mx.array(np.sqrt(np.einsum("bw,wb->b", words, solved)).astype(np.float32))
