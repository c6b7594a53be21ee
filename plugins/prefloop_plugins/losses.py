"""The DPO family of losses: what each labelled pair costs, as a pure function of its `Scores`.

Throughout, ``c`` is the chosen completion, ``r`` the rejected one, ``s`` the logistic function, and
log-probabilities are sums over completion tokens in nats. The margin is
``d = (log pi(c) - log ref(c)) - (log pi(r) - log ref(r))``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import mlx.core as mx
from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, lt

from prefloop import BaseLoss

if TYPE_CHECKING:
    from prefloop import Scores

POSITIVE = and_(gt(0.0), lt(math.inf))
NOT_NEGATIVE = and_(ge(0.0), lt(math.inf))


class _Scaled(BaseLoss):
    """A loss whose rewards are ``beta`` times the log-ratio, as in DPO."""

    __slots__ = ()

    beta: float

    @property
    def reward_scale(self) -> float:
        return self.beta


@frozen
class Sigmoid(_Scaled):
    """DPO: ``-log s(beta d)``.

    With a probability ``p`` that the label is right: ``-p log s(beta d) - (1 - p) log s(-beta d)``.
    `soft_labels` takes ``p`` from the verdict, and `label_smoothing` then mixes it with its opposite:
    ``p <- (1 - e) p + e (1 - p)``. Without either, ``p`` is 1.

    Sources: Rafailov et al., Direct Preference Optimization, arXiv 2305.18290, equation 7; Mitchell, A
    note on DPO with noisy preferences (cDPO), https://ericmitchell.ai/cdpo.pdf.
    """

    beta: float = field(
        default=0.1,
        validator=POSITIVE,
        metadata={"help": "How strongly the policy is held to the reference; larger holds it closer."},
    )
    soft_labels: bool = field(
        default=False,
        metadata={"help": "Weigh both labels by the judge's probability instead of taking the likelier."},
    )
    label_smoothing: float = field(
        default=0.0,
        validator=[ge(0), lt(0.5)],
        metadata={"help": "The share of labels taken to be wrong (cDPO), from 0 to below 0.5."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        x = self.beta * scores.margin
        p = scores.probability if self.soft_labels else 1.0
        p = (1 - self.label_smoothing) * p + self.label_smoothing * (1 - p)
        return p * _nll(x) + (1 - p) * _nll(-x)


@frozen
class Hinge(_Scaled):
    """SLiC's hinge on DPO's margin: ``max(0, 1 - beta d)``.

    Source: Zhao et al., SLiC-HF, arXiv 2305.10425, with the reference-normalised margin that Liu et al.
    give it in arXiv 2309.06657.
    """

    beta: float = field(
        default=0.1,
        validator=POSITIVE,
        metadata={"help": "Scale of the margin: a pair stops counting once its margin reaches 1 / beta."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        return mx.maximum(1 - self.beta * scores.margin, 0.0)


@frozen
class Ipo(_Scaled):
    """IPO: ``(m - 1 / (2 beta))^2``, which draws the margin ``m`` to a target instead of to infinity.

    With `average` ``tokens`` each completion's log-ratio is divided by its number of tokens before the
    two are subtracted, so that length does not set the scale (the form in common use); with ``sums``
    ``m`` is ``d``, as in the paper.

    Source: Azar et al., A General Theoretical Paradigm to Understand Learning from Human Preferences,
    arXiv 2310.12036, equation 17.
    """

    beta: float = field(
        default=0.1,
        validator=POSITIVE,
        metadata={"help": "Sets the target of the margin, 1 / (2 beta)."},
    )
    average: Literal["tokens", "sums"] = field(
        default="tokens",
        validator=in_(("tokens", "sums")),
        metadata={"help": "What the margin is made of: means over a completion's tokens, or sums."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        chosen, rejected = log_ratios(scores)
        if self.average == "tokens":
            chosen, rejected = chosen / scores.chosen_tokens, rejected / scores.rejected_tokens
        return mx.square(chosen - rejected - 1 / (2 * self.beta))


@frozen
class Dpop(_Scaled):
    """DPO-Positive: DPO that also charges for making the chosen completion less likely than it was.

    With ``drop = max(0, log ref(c) - log pi(c))`` the loss is ``-log s(beta (d - delta drop))``. With
    `penalty` ``outside`` it is ``-log s(beta d) + delta drop``, whose pull does not fade as the margin
    grows.

    Source: Pal et al., Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive, arXiv
    2402.13228 (there delta is lambda); the ``outside`` form is mlx-lm-lora's.
    """

    beta: float = field(
        default=0.1,
        validator=POSITIVE,
        metadata={"help": "How strongly the policy is held to the reference; larger holds it closer."},
    )
    delta: float = field(
        default=50.0,
        validator=NOT_NEGATIVE,
        metadata={"help": "Weight of the penalty on a chosen completion that became less likely."},
    )
    penalty: Literal["inside", "outside"] = field(
        default="inside",
        validator=in_(("inside", "outside")),
        metadata={"help": "Where the penalty stands: inside the sigmoid (the paper) or added to the loss."},
    )

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        chosen, rejected = log_ratios(scores)
        penalty = self.delta * mx.maximum(-chosen, 0.0)
        if self.penalty == "outside":
            return _nll(self.beta * (chosen - rejected)) + penalty
        return _nll(self.beta * (chosen - rejected - penalty))


def log_ratios(scores: Scores) -> tuple[mx.array, mx.array]:
    """``log pi - log ref`` of the chosen and of the rejected completions, ``[B]`` each.

    Raises `ValueError` where the scores were made without the reference.
    """
    if scores.reference_chosen is None or scores.reference_rejected is None:
        raise ValueError("log-ratios need the reference: add 'reference' to the component's needs")
    chosen = scores.policy_chosen - scores.reference_chosen
    return chosen, scores.policy_rejected - scores.reference_rejected


def _nll(x: mx.array) -> mx.array:
    """``-log s(x)``, finite for every finite `x`."""
    return mx.logaddexp(-x, 0.0)
