"""Bytes over the wire of a step, and the seconds that they take.

All counts are bytes that one machine sends; the one that sends most sets the pace. mlx's ring sums a buffer
in ``2 (n - 1)`` messages of an n-th of it each (reduce-scatter, then all-gather), and gathers in ``n - 1``
messages of what one machine has.
"""

from __future__ import annotations

from attrs import frozen

from prefloop_plugins.scaling.machines import Link

FLOAT = 4
ID = 4
SUMS = 64
"""Metric sums that travel behind the gradient, at most."""
VERDICT = 8
"""Numbers of a verdict: its probability, status, flags."""


@frozen
class Work:
    """What a step of a configuration has to move, whatever the number of machines."""

    parameters: int
    """Trained ones."""
    adapter_bytes: int
    """The trained tensors as they are saved."""
    pairs: int
    tokens: float
    """Of a completion."""
    one_judge: bool = False
    """Whether one machine judges for all: a person, or what answers elsewhere."""
    adapters: bool = True
    """Whether adapters are trained and not all weights, as workers need."""

    @property
    def gradient_bytes(self) -> int:
        """The flat buffer: the gradient and the metric sums in float32."""
        return FLOAT * (self.parameters + SUMS)

    def ids_bytes(self, pairs: float) -> float:
        """Token ids of so many pairs: two completions and their lengths."""
        return pairs * 2 * ID * (self.tokens + 1)

    def verdict_bytes(self, pairs: float) -> float:
        return pairs * VERDICT * FLOAT


def ring_sum_bytes(machines: int, count: float) -> float:
    """What each machine sends to sum `count` bytes over a ring."""
    return 2 * (machines - 1) * count / machines


def ring_gather_bytes(machines: int, own: float) -> float:
    """What each machine sends so that all have what each has, `own` bytes."""
    return (machines - 1) * own


def ring_sum_seconds(machines: int, count: float, link: Link) -> float:
    return link.seconds(ring_sum_bytes(machines, count), 2 * (machines - 1)) if machines > 1 else 0.0


def ring_gather_seconds(machines: int, own: float, link: Link) -> float:
    return link.seconds(ring_gather_bytes(machines, own), machines - 1) if machines > 1 else 0.0


def ranks_bytes(work: Work, machines: int) -> float:
    """What each rank sends in a step: gradient and sums, token ids, verdicts."""
    share = largest_share(work.pairs, machines)
    gathered = work.ids_bytes(share) + work.verdict_bytes(share)
    return ring_sum_bytes(machines, work.gradient_bytes) + ring_gather_bytes(machines, gathered)


def ranks_seconds(work: Work, machines: int, link: Link) -> float:
    """How long a step's three collectives take, nobody being waited for."""
    share = largest_share(work.pairs, machines)
    gathers = (work.ids_bytes(share), work.verdict_bytes(share))
    return ring_sum_seconds(machines, work.gradient_bytes, link) + sum(
        ring_gather_seconds(machines, count, link) for count in gathers
    )


def pushed_bytes(work: Work, workers: int) -> float:
    """What the learner sends in a step: its adapters, to each worker once."""
    return work.adapter_bytes * workers


def largest_share(pairs: int, machines: int) -> int:
    """Pairs of the machine that has most: shares differ by one."""
    return -(-pairs // machines)
