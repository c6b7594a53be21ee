"""An entropy bonus that keeps the policy's next-token distributions from collapsing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from prefloop import BaseBonus
from prefloop_bonus_pack.weight import ALPHA_HELP, Alpha, alpha_at, as_alpha, asked, check_alpha

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Progress, Scores, TokenScores


@frozen
class Entropy(BaseBonus):
    """``-alpha / 2`` times the sum over both completions' tokens of ``(log pi(y_t | y_<t))^2``.

    Its gradient is, in expectation, that of ``alpha`` times the entropy ``H(pi(. | y_<t))`` of each
    position, summed over the completions:

        grad H = -E[log pi(y) grad log pi(y)] = E[grad (-(log pi(y))^2 / 2)],    as E[grad log pi(y)] = 0.

    Its value is not the entropy. The plain ``-log pi(y_t)`` is that in expectation, but its gradient is zero
    in expectation, so it would explore nothing; the entropy itself needs the whole vocabulary, which scores
    do not hold.

    "In expectation" means completions drawn from the policy at temperature 1 and untruncated; otherwise the
    estimate is biased. Prefixes are taken as given. Single estimates are noisy: keep alpha small, and the
    batch large.

    Source: the k2 estimator of Schulman, Approximating KL Divergence,
    http://joschu.net/blog/kl-approx.html, against the uniform distribution; entropy regularisation goes back
    to Williams and Peng, Function Optimization using Connectionist Reinforcement Learning Algorithms, 1991.
    """

    needs = frozenset({"per_token"})
    sign = -1

    alpha: Alpha = field(
        default=1e-4, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``, never positive."""
        chosen = _squares(asked(scores.chosen_per_token, "per_token"))
        rejected = _squares(asked(scores.rejected_per_token, "per_token"))
        return -alpha_at(self.alpha, progress) * (chosen + rejected) / 2


def _squares(tokens: TokenScores) -> mx.array:
    """The squared log-probability of every completion token, summed: ``[B, T]`` to ``[B]``."""
    return (tokens.policy * tokens.mask).square().sum(axis=-1)
