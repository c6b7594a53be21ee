"""Steps taken on this machine to learn how long they take, and a run's loop with a rank's share of it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence

from attrs import evolve

from prefloop.components import BaseJudge, adapt
from prefloop.loop import Loop
from prefloop.types import Pair, Verdict
from prefloop_plugins.scaling.phases import WARM_UP, Phases, phases_of


class _InsteadOfAPerson(BaseJudge):
    """Prefers the first: a person is not asked for a measurement."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.9)] * len(pairs)


def with_share(loop: Loop, pairs: int, steps: int | None = None) -> Loop:
    """`loop` with so many pairs a step, as a rank has of it; policy and optimizer are the same ones."""
    share = copy.copy(loop)
    share.training = evolve(loop.training, batch_size=pairs, gradient_accumulation=1)
    share.batch_size, share.micro_batch = pairs, min(loop.micro_batch, pairs)
    share.rollouts = deque()
    if steps is not None:
        share.steps, share.total = steps, steps * pairs
    return share


def measure(loop: Loop, sizes: Sequence[int], steps: int) -> Phases:
    """The phases of `steps` steps with each number of pairs. The policy learns in them: throw it away.

    The first steps of each size do not count.
    """
    rows: list[Mapping[str, float]] = []
    for pairs in sizes:
        own = with_share(loop, pairs, steps + WARM_UP)
        if own.judge.interactive:
            own.judge = adapt(_InsteadOfAPerson(), BaseJudge)
        own.steps_taken = 0
        taken = [own.step().metrics for _ in range(steps + WARM_UP)]
        rows += taken[WARM_UP:]
    return phases_of([row for row in rows if "seconds_scoring" in row], "measured on this machine")
