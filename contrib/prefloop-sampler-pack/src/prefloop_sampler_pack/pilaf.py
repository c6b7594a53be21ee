"""The sampler `pilaf`: pairs from either side of the policy, on the line from the reference through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from attrs.validators import and_, gt, lt

from prefloop import Completion, Pair, Progress, Prompt
from prefloop_plugins.samplers import SamplingOptions

if TYPE_CHECKING:
    from prefloop import Policy

TOSSES = 0, 0, 1, -1
"""What happens to a prompt, each alike: nothing twice, then apart in either order."""
BEYOND = 1 << 32
"""The row numbers of the completions that are drawn apart begin here, beyond those of all others."""


@frozen(eq=False, kw_only=True)
class Pilaf(SamplingOptions):
    """Half of the pairs from the policy; of the other half one completion from ahead of it, one from behind.

    Ahead is in proportion to ``policy^(1 + beta) reference^(-beta)``, behind to
    ``policy^(1 - beta) reference^beta``, token by token, and so as temperature and the filters have it. Such
    a pair is in random order. It costs the reference's passes too: three samples for the policy's two.

    By the reward that DPO ascribes to a policy, ``r = beta log(policy / reference)``, ahead is weighted by
    ``e^r`` and behind by ``e^-r``. Where such pairs have the share that they should have, two completions
    with rewards that differ by ``d`` are drawn ``2 + e^d + e^-d`` times as often as the policy would, but for
    a constant: the inverse of how much the loss's gradient shrinks there. With ``Z`` for what ahead is
    divided by, times the same for behind, that share is ``Z / (1 + Z)``, one half where the policy equals the
    reference. The authors take one half throughout, and draw token by token, as is done here.

    Source: Feng et al., PILAF: Optimal Human Preference Sampling for Reward Modeling, arXiv 2502.04270.
    """

    beta: float = field(
        default=0.1,
        validator=and_(gt(0.0), lt(math.inf)),
        metadata={"help": "The beta of the loss: how far ahead of the policy, and how far behind."},
    )

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""
        before = policy.prompts_before
        tosses = [Random(f"{progress.seed} {place}").choice(TOSSES) for place in range(before + len(prompts))]
        earlier, own = tosses[:before], tosses[before:]
        drawn = {}
        for apart in (False, True):
            asked = [prompt for prompt, toss in zip(prompts, own, strict=True) if bool(toss) is apart]
            first = sum(bool(toss) is apart for toss in earlier) + BEYOND * apart
            drawn[apart] = iter(self._pairs(policy, asked, self.beta * apart, first, progress.seed))
        pairs = [next(drawn[bool(toss)]) for toss in own]
        return [pair.swapped() if toss < 0 else pair for pair, toss in zip(pairs, own, strict=True)]

    def _pairs(
        self, policy: Policy, prompts: Sequence[Prompt], extent: float, first: int, seed: int
    ) -> list[Pair]:
        """One completion from so far ahead, one from as far behind; rows are numbered from `first`."""
        ahead = self._drawn(policy, prompts, extent, first, seed)
        behind = self._drawn(policy, prompts, -extent, first, seed + 1)
        return [Pair(*row) for row in zip(prompts, ahead, behind, strict=True)]

    def _drawn(
        self, policy: Policy, prompts: Sequence[Prompt], extent: float, first: int, seed: int
    ) -> list[Completion]:
        if not prompts:
            return []
        drawn_from = _between(policy, extent) if extent else policy
        with drawn_from.shard(first, len(prompts)):
            return drawn_from.generate(prompts, self.sampling, seed=seed)


def _between(policy: Policy, extent: float) -> Policy:
    """A policy so far ahead of this one, or behind it."""
    from prefloop import Policy
    from prefloop_sampler_pack.interpolated import Interpolated

    model = Interpolated(policy.model, policy.reference, extent)
    other = Policy(evolve(policy.loaded, model=model), policy.adapter)
    other.limit_pools(policy.pool_bytes)
    return other
