"""SimPO: the average log-probability of a completion is its reward, and no reference is needed."""

import mlx.core as mx
from attrs import field, frozen
from attrs.validators import ge, gt

from prefloop import Scores


@frozen
class SimPo:
    """``-log s(beta (mean log pi(c) - mean log pi(r)) - gamma)``, with means over completion tokens.

    Source: Meng et al., SimPO, arXiv 2405.14734, equation 6.
    """

    needs = frozenset[str]()  # not even "reference": the reference pass is skipped

    beta: float = field(default=2.0, validator=gt(0), metadata={"help": "Scale of the reward."})
    gamma: float = field(default=1.0, validator=ge(0), metadata={"help": "Margin to win by."})

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, ``[B]``."""
        chosen = scores.policy_chosen / scores.chosen_tokens
        rejected = scores.policy_rejected / scores.rejected_tokens
        return mx.logaddexp(self.gamma - self.beta * (chosen - rejected), 0.0)
