"""What the losses of the pack have in common.

Throughout, ``c`` is the chosen completion, ``r`` the rejected one, ``s`` the logistic function, and
log-probabilities are sums over completion tokens in nats. A log-ratio is ``log pi(y) - log ref(y)``, and
the margin is ``d``, the chosen log-ratio minus the rejected one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from attrs import field
from attrs.validators import and_, gt, lt

if TYPE_CHECKING:
    from prefloop import Scores

FINITE = lt(math.inf)


def beta(default: float = 0.1) -> Any:
    """The option that all of these losses have."""
    return field(
        default=default,
        validator=and_(gt(0.0), FINITE),
        metadata={"help": "How strongly the policy is held to the reference; larger holds it closer."},
    )


def log_ratios(scores: Scores) -> tuple[mx.array, mx.array]:
    """The chosen and the rejected log-ratio, ``[B]`` each.

    Raises `ValueError` where the scores were made without the reference.
    """
    if scores.reference_chosen is None or scores.reference_rejected is None:
        raise ValueError("log-ratios need the reference: add 'reference' to the component's needs")
    chosen = scores.policy_chosen - scores.reference_chosen
    return chosen, scores.policy_rejected - scores.reference_rejected


def nll(x: mx.array) -> mx.array:
    """``-log s(x)``, finite for every finite `x`."""
    return mx.logaddexp(-x, 0.0)
