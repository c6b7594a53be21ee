"""Optimism about value: SELM, and VPO, of which SELM is the case with the reference as its base policy.

Both regularise the reward that the labels leave undecided by the value ``J(r)`` that the best policy could
have under it:

    maximise over r    log-likelihood(r) + alpha J(r),
    J(r) = max over pi of  E_{y ~ pi, y' ~ base} [r(y) - r(y')] - beta KL(pi, ref).

The maximum over ``pi`` is reached by ``pi_r(y) = ref(y) exp(r(y) / beta) / Z``. Written in terms of it, as
DPO does, ``r(y) = beta log(pi_r(y) / ref(y)) + beta log Z``, the first expectation less the divergence is
``beta log Z``, which the second expectation takes away again. What is left is

    J = -beta E_{y' ~ base} [log pi_r(y') - log ref(y')],

and, with one sample ``y'`` for the expectation, ``-alpha beta (log pi(y') - log ref(y'))`` is the bonus: to
become less likely than under the reference where the base policy goes is to be optimistic elsewhere. With
``base = ref`` the bonus is, in expectation, ``alpha beta KL(ref, pi)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen
from attrs.validators import and_, gt, in_, lt

from prefloop import BaseBonus
from prefloop_bonus_pack.weight import ALPHA_HELP, Alpha, alpha_at, as_alpha, asked, check_alpha

if TYPE_CHECKING:
    from typing import Any

    import mlx.core as mx

    from prefloop import Progress, Scores
    from prefloop.types import Need

Base = Literal["reference", "chosen", "rejected"]
Outlook = Literal["optimism", "pessimism"]


def _beta() -> Any:
    return field(
        default=0.1,
        validator=and_(gt(0.0), lt(math.inf)),
        metadata={"help": "The beta of the loss: rewards are beta times a log-ratio."},
    )


def chosen_log_ratio(scores: Scores) -> mx.array:
    """``log pi - log ref`` of the chosen completion, ``[B]``."""
    return scores.policy_chosen - asked(scores.reference_chosen, "reference")


def rejected_log_ratio(scores: Scores) -> mx.array:
    """``log pi - log ref`` of the rejected completion, ``[B]``."""
    return scores.policy_rejected - asked(scores.reference_rejected, "reference")


def reference_log_ratio(scores: Scores) -> mx.array:
    """``log pi - log ref`` of the completion drawn from the reference, ``[B]``; zero where there is none."""
    chosen = asked(scores.chosen_from_reference, "reference_samples") * chosen_log_ratio(scores)
    rejected = asked(scores.rejected_from_reference, "reference_samples") * rejected_log_ratio(scores)
    return chosen + rejected


@frozen
class Selm(BaseBonus):
    """SELM: ``-alpha beta (log pi(y') - log ref(y'))`` for the completion ``y'`` drawn from the reference.

    Needs a sampler that draws one completion of each pair from the reference, such as
    ``policy-reference``. ``y'`` counts whether it was chosen or rejected.

    Source: Zhang et al., Self-Exploring Language Models, arXiv 2405.19332; this is what the authors'
    trainer subtracts from DPO's loss. TRL has no SELM. Its XPO trainer, and prefloop's own ``optimism``,
    subtract ``-alpha log pi(y')``: the same gradient where their alpha is ``alpha beta`` here, and values
    that differ by the constant ``log ref(y')``.
    """

    needs = frozenset({"reference", "reference_samples"})
    zero_at_reference = True

    alpha: Alpha = field(
        default=1e-3, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )
    beta: float = _beta()

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``; zero for a pair without a reference sample."""
        return -alpha_at(self.alpha, progress) * self.beta * reference_log_ratio(scores)


@frozen
class Vpo(BaseBonus):
    """VPO: ``-+ alpha beta (log pi(y') - log ref(y'))`` for ``y'`` from a base policy, minus for optimism.

    `base` says whose sample ``y'`` is. VPO's theory takes any fixed policy:

    - ``reference``: what the reference drew, which needs a sampler such as ``policy-reference``. With
      ``optimism`` this is SELM.
    - ``chosen`` or ``rejected``: the judge's winner or loser of each pair, for samplers that draw both from
      the policy. With ``optimism`` and ``rejected`` what lost is pushed below the reference; with
      ``pessimism`` and ``chosen`` what won is held up, as a supervised term on it would.

    ``optimism`` is for the online loop, ``pessimism`` for a fixed set of pairs, where what nobody labelled
    is better left alone. A base of both completions of a pair from the live policy is not offered: its
    gradient is zero in expectation, because ``E[grad log pi(y)] = 0``.

    Source: Cen et al., Value-Incentivized Preference Optimization, arXiv 2405.19320. TRL has no VPO.
    """

    zero_at_reference = True

    alpha: Alpha = field(
        default=1e-3, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )
    beta: float = _beta()
    outlook: Outlook = field(
        default="optimism",
        validator=in_(("optimism", "pessimism")),
        metadata={"help": "Lower (optimism) or raise (pessimism) the likelihood of the base's completion."},
    )
    base: Base = field(
        default="reference",
        validator=in_(("reference", "chosen", "rejected")),
        metadata={"help": "Whose completion: drawn from the reference, or the judge's chosen or rejected."},
    )

    @property
    def needs(self) -> frozenset[Need]:
        """What scoring has to provide for this base."""
        if self.base == "reference":
            return frozenset({"reference", "reference_samples"})
        return frozenset({"reference"})

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``."""
        log_ratio = {
            "reference": reference_log_ratio,
            "chosen": chosen_log_ratio,
            "rejected": rejected_log_ratio,
        }[self.base](scores)
        sign = -1 if self.outlook == "optimism" else 1
        return sign * alpha_at(self.alpha, progress) * self.beta * log_ratio
