"""Losses that hold each completion to the reference on its own, not the difference of the two alone.

DPO may lower both likelihoods as long as the margin grows; these say where each of them should go.
Notation: `prefloop_loss_pack.shared`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
from attrs import frozen

from prefloop_loss_pack.shared import beta, log_ratios, nll

if TYPE_CHECKING:
    from prefloop import Scores


def apo_zero(chosen: mx.array, rejected: mx.array, beta: float) -> mx.array:
    """``s(-beta u_c) + s(beta u_r)`` of the log-ratios ``u``, ``[B]`` to ``[B]``."""
    return mx.sigmoid(-beta * chosen) + mx.sigmoid(beta * rejected)


@frozen
class ApoZero:
    """APO-zero: the chosen completion becomes likelier, the rejected one less likely.

    ``(1 - s(beta u_c)) + s(beta u_r)`` with the log-ratios ``u``: between 0 and 2. For chosen completions
    that are better than what the policy says by itself.

    Source: D'Oosterlinck et al., Anchored Preference Optimization, arXiv 2408.06266, equation 7 (to which
    a constant 1 is added, so that no loss is negative). TRL's ``loss_type="apo_zero"`` has the same form.
    """

    beta: float = beta()

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return apo_zero(*log_ratios(scores), self.beta)


def apo_down(chosen: mx.array, rejected: mx.array, beta: float) -> mx.array:
    """``s(beta u_c) + s(-beta (u_c - u_r))`` of the log-ratios ``u``, ``[B]`` to ``[B]``."""
    return mx.sigmoid(beta * chosen) + mx.sigmoid(-beta * (chosen - rejected))


@frozen
class ApoDown:
    """APO-down: both completions become less likely, the rejected one more so.

    ``s(beta u_c) + (1 - s(beta (u_c - u_r)))`` with the log-ratios ``u``: between 0 and 2. For chosen
    completions that are worse than what the policy says by itself, which pairs sampled from the policy
    rarely are: it is here for prompts whose completions come from elsewhere.

    Source: D'Oosterlinck et al., Anchored Preference Optimization, arXiv 2408.06266, equation 8 (to which
    a constant 1 is added, so that no loss is negative). TRL's ``loss_type="apo_down"`` has the same form.
    """

    beta: float = beta()

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return apo_down(*log_ratios(scores), self.beta)


def nca(chosen: mx.array, rejected: mx.array, beta: float) -> mx.array:
    """``-log s(x_c) - (log s(-x_c) + log s(-x_r)) / 2`` with ``x = beta u``, ``[B]`` to ``[B]``."""
    x, y = beta * chosen, beta * rejected
    return nll(x) + (nll(-x) + nll(-y)) / 2


@frozen
class Nca:
    """NCA on pairs: noise-contrastive, each completion against the reference.

    ``-log s(x_c) - (log s(-x_c) + log s(-x_r)) / 2`` with ``x = beta u`` and the log-ratios ``u``. The
    chosen reward is drawn to ``log 2`` rather than to infinity, so its likelihood does not fall as it does
    under DPO.

    Source: Chen et al., Noise Contrastive Alignment of Language Models with Explicit Rewards, arXiv
    2402.05369, the form for two completions and a hard label. TRL's ``loss_type="nca_pair"`` has the same
    form.
    """

    beta: float = beta()

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return nca(*log_ratios(scores), self.beta)


def sppo_hard(chosen: mx.array, rejected: mx.array, beta: float) -> mx.array:
    """``(u_c - 1 / (2 beta))^2 + (u_r + 1 / (2 beta))^2`` of the log-ratios ``u``, ``[B]`` to ``[B]``."""
    target = 1 / (2 * beta)
    return mx.square(chosen - target) + mx.square(rejected + target)


@frozen
class SppoHard:
    """SPPO with hard labels: each log-ratio is drawn to its own target, ``1 / (2 beta)`` up or down.

    ``(u_c - (P_c - 1/2) / beta)^2 + (u_r - (P_r - 1/2) / beta)^2`` with the log-ratios ``u`` and the
    probabilities of winning against the policy ``P_c = 1``, ``P_r = 0``. The paper's ``eta`` is ``1 / beta``.
    It takes the policy before each round as the reference; ``reference: start`` is one such round.

    Source: Wu et al., Self-Play Preference Optimization for Language Model Alignment, arXiv 2405.00675,
    equation 4.7. TRL's ``loss_type="sppo_hard"`` has the same form.
    """

    beta: float = beta(0.001)

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return sppo_hard(*log_ratios(scores), self.beta)
