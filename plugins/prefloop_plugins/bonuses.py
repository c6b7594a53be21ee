"""The bonuses of XPO: terms that are subtracted from the loss.

`Kl` rewards distance from the reference, `Optimism` is the term of the XPO paper. Whether they find what
plain online DPO misses is tried in `docs/experiments/exploration.md`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from attrs import Attribute, field, frozen
from attrs.validators import in_

from prefloop import BaseBonus

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Progress, Scores, TokenScores
    from prefloop.types import Need

T = TypeVar("T")
Alpha = float | tuple[float, ...]
Estimator = Literal["exact", "k2", "sampled"]

ALPHA_HELP = "Weight of the bonus: a number, or a list with one per epoch, the last held to the end."
ESTIMATOR_HELP = (
    "How the divergence is measured: exact (whole vocabulary), k2 (cheap, the same gradient on average) "
    "or sampled (no gradient on average while completions come from the policy)."
)
ESTIMATORS: dict[Estimator, frozenset[Need]] = {
    "exact": frozenset({"kl"}),
    "k2": frozenset({"reference", "per_token"}),
    "sampled": frozenset({"reference"}),
}


def as_alpha(value: Alpha | list[float]) -> Alpha:
    """A list (as YAML gives it) as a tuple, so that a frozen component holds nothing that can change."""
    return tuple(value) if isinstance(value, list) else value


def check_alpha(_: Any, attribute: Attribute[Any], value: Alpha) -> None:
    """Raises `ValueError` unless every weight is a finite number, 0 or more, and there is one."""
    weights = value if isinstance(value, tuple) else (value,)
    if not weights:
        raise ValueError(f"'{attribute.name}' must hold at least one number, one per epoch")
    for weight in weights:
        if not 0 <= weight < math.inf:
            raise ValueError(f"'{attribute.name}' must be finite and >= 0: {weight!r}")


def alpha_at(alpha: Alpha, progress: Progress) -> float:
    """The weight in force: that of the epoch under way, or the last where the list is shorter."""
    if not isinstance(alpha, tuple):
        return alpha
    return alpha[min(int(progress.epoch), len(alpha) - 1)]


def epochs_of(alpha: Alpha) -> int:
    """How many epochs have a weight of their own."""
    return len(alpha) if isinstance(alpha, tuple) else 1


@frozen
class Kl(BaseBonus):
    """``alpha (KL_c + KL_r)``: rewards the policy for moving away from the reference.

    ``KL_c`` and ``KL_r`` belong to the chosen and the rejected completion ``y`` and are sums over its
    positions ``t``, estimated as

    - ``exact``: ``KL(pi(. | y_<t), ref(. | y_<t))`` over the whole vocabulary;
    - ``k2``: ``(log pi(y_t | y_<t) - log ref(y_t | y_<t))^2 / 2``, which needs no vocabulary-sized
      reference pass. For completions drawn from the policy its gradient is, in expectation, that of
      ``exact`` (its value is not);
    - ``sampled``: ``log pi(y_t | y_<t) - log ref(y_t | y_<t)``, the form that mlx-lm-lora has. For
      completions drawn from the policy its value is, in expectation, the divergence, but its gradient is
      zero in expectation, because ``E[grad log pi(y)] = 0``. Ties that get no label make the labelled pairs
      a biased sample, for which this no longer holds.

    "Drawn from the policy" means at temperature 1 and untruncated. At a lower temperature ``sampled``
    sharpens the policy instead, whatever the reference; ``exact`` does not depend on how the token at its
    position was drawn. All three take the prefixes as given: how a change of the policy changes which
    prefixes are visited is not part of their gradient.

    Source of the estimators: Schulman, Approximating KL Divergence, http://joschu.net/blog/kl-approx.html.
    """

    zero_at_reference: ClassVar[bool] = True

    alpha: Alpha = field(
        default=1e-5, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )
    estimator: Estimator = field(
        default="exact", validator=in_(tuple(ESTIMATORS)), metadata={"help": ESTIMATOR_HELP}
    )

    @property
    def needs(self) -> frozenset[Need]:
        """What scoring has to provide for this estimator."""
        return ESTIMATORS[self.estimator]

    @property
    def schedule_length(self) -> int:
        """How many epochs have a weight of their own."""
        return epochs_of(self.alpha)

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``."""
        if self.estimator == "exact":
            chosen, rejected = _asked(scores.kl_chosen, "kl"), _asked(scores.kl_rejected, "kl")
        elif self.estimator == "k2":
            chosen = _half_squares(_asked(scores.chosen_per_token, "per_token"))
            rejected = _half_squares(_asked(scores.rejected_per_token, "per_token"))
        else:
            chosen = scores.policy_chosen - _asked(scores.reference_chosen, "reference")
            rejected = scores.policy_rejected - _asked(scores.reference_rejected, "reference")
        return alpha_at(self.alpha, progress) * (chosen + rejected)


@frozen
class Optimism(BaseBonus):
    """``-alpha log pi(y_ref)``, where ``y_ref`` is the completion that was drawn from the reference.

    It makes less likely what the reference would say, which leaves probability for everything else. It needs
    a sampler that draws one completion of each pair from the reference, such as ``policy-reference``.

    Source: Xie et al., Exploratory Preference Optimization, arXiv 2405.21046, algorithm 1.
    """

    needs = frozenset({"reference_samples"})
    sign: ClassVar[int] = 1

    alpha: Alpha = field(
        default=1e-5, converter=as_alpha, validator=check_alpha, metadata={"help": ALPHA_HELP}
    )

    @property
    def schedule_length(self) -> int:
        """How many epochs have a weight of their own."""
        return epochs_of(self.alpha)

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, ``[B]``; zero for a pair without a reference sample."""
        chosen = _asked(scores.chosen_from_reference, "reference_samples") * scores.policy_chosen
        rejected = _asked(scores.rejected_from_reference, "reference_samples") * scores.policy_rejected
        return -alpha_at(self.alpha, progress) * (chosen + rejected)


def _half_squares(tokens: TokenScores) -> mx.array:
    """Half the squared log-ratio of every completion token, summed: ``[B, T]`` to ``[B]``."""
    log_ratio = (tokens.policy - tokens.reference) * tokens.mask
    return log_ratio.square().sum(axis=-1) / 2


def _asked(value: T | None, need: str) -> T:
    """`value`, or `ValueError` where scoring left it out because nobody asked for `need`."""
    if value is None:
        raise ValueError(f"this bonus reads scores that only exist where '{need}' is among the needs")
    return value
