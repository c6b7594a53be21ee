"""Losses that take it that some labels are wrong. Notation: `prefloop_loss_pack.shared`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mlx.core as mx
from attrs import field, frozen
from attrs.validators import and_, ge, gt, lt

from prefloop_loss_pack.shared import beta, nll

if TYPE_CHECKING:
    from prefloop import Scores


def robust(margin: mx.array, beta: float, epsilon: float) -> mx.array:
    """``((1 - e) (-log s(beta d)) - e (-log s(-beta d))) / (1 - 2 e)``, ``[B]`` to ``[B]``."""
    x = beta * margin
    return ((1 - epsilon) * nll(x) - epsilon * nll(-x)) / (1 - 2 * epsilon)


@frozen
class Robust:
    """Robust DPO: an unbiased estimate of DPO's loss on clean labels, where a share of them is flipped.

    ``((1 - e) l(c, r) - e l(r, c)) / (1 - 2 e)`` with DPO's loss ``l`` and the flip rate ``e``, its
    `epsilon`. In expectation over the flips this is ``l`` on the labels as they were; cDPO, the
    `label_smoothing` of prefloop's own ``sigmoid``, is biased and adds the second term instead. The loss of
    a pair can be negative: it falls without bound as the margin grows.

    Source: Ray Chowdhury et al., Provably Robust DPO, arXiv 2403.00409. TRL's ``loss_type=
    "robust"`` has the same form, with `epsilon` as ``label_smoothing``.
    """

    beta: float = beta()
    epsilon: float = field(
        default=0.1,
        validator=and_(ge(0.0), lt(0.5)),
        metadata={"help": "The share of labels taken to be flipped, from 0 (plain DPO) to below 0.5."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return robust(scores.margin, self.beta, self.epsilon)


def exo(margin: mx.array, beta: float, epsilon: float) -> mx.array:
    """``KL((s(x), s(-x)), (1 - e, e))`` with ``x = beta d``, ``[B]`` to ``[B]``."""
    x = beta * margin
    toward = mx.sigmoid(x) * (-nll(x) - math.log1p(-epsilon))
    return toward + mx.sigmoid(-x) * (-nll(-x) - math.log(epsilon))


@frozen
class Exo:
    """EXO on pairs: the reverse KL between what the policy prefers and what the label says.

    ``s(x) log(s(x) / (1 - e)) + s(-x) log(s(-x) / e)`` with ``x = beta d``: zero where the policy prefers
    the chosen one with probability ``1 - e``, and it rises again beyond. `epsilon` is above 0, as the
    divergence from a certain label is infinite. DPO minimises the forward KL, which covers; this one seeks
    the mode. Where the policy is sure of the wrong answer the gradient fades, as ``s(x)`` does.

    Source: Ji et al., Towards Efficient Exact Optimization of Language Model Alignment, arXiv 2402.00856,
    equation 16. TRL's ``loss_type="exo_pair"`` has the same form, with `epsilon` as ``label_smoothing``.
    """

    beta: float = beta()
    epsilon: float = field(
        default=1e-3,
        validator=and_(gt(0.0), lt(0.5)),
        metadata={"help": "The probability left to the rejected completion, above 0 and below 0.5."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return exo(scores.margin, self.beta, self.epsilon)
