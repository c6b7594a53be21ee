"""DPO that does not pay for length. Notation: `prefloop_loss_pack.shared`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
from attrs import field, frozen
from attrs.validators import and_, ge

from prefloop_loss_pack.shared import FINITE, beta, nll

if TYPE_CHECKING:
    from prefloop import Scores


def length_dpo(margin: mx.array, extra_tokens: mx.array, beta: float, alpha: float) -> mx.array:
    """``-log s(beta d + alpha n)``, ``n`` tokens more in the chosen completion, ``[B]`` to ``[B]``."""
    return nll(beta * margin + alpha * extra_tokens)


@frozen
class LengthDpo:
    """Length-regularised DPO (R-DPO): ``-log s(beta d + alpha (|c| - |r|))``, with lengths in tokens.

    It is DPO for a reward from which `alpha` per token is taken off. A chosen completion that is the longer
    one has part of its margin from length already, so it pulls less; a shorter one pulls more. The stop
    token counts.

    Source: Park et al., Disentangling Length from Quality in Direct Preference Optimization, arXiv
    2403.19159. TRL (0.19) does not have it; its ``ld_alpha`` is LD-DPO, arXiv 2409.06411, which weighs the
    tokens past the shorter length.
    """

    beta: float = beta()
    alpha: float = field(
        default=0.01,
        validator=and_(ge(0.0), FINITE),
        metadata={"help": "What a token costs, in units of beta times the margin; 0 is plain DPO."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        extra = scores.chosen_tokens - scores.rejected_tokens
        return length_dpo(scores.margin, extra, self.beta, self.alpha)
