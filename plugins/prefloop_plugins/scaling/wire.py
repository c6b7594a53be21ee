"""Bytes over the wire of a step, and the seconds that they take.

All counts are bytes that one machine sends; the one that sends most sets the pace. mlx's ring sums a buffer
in ``2 (n - 1)`` messages of an n-th of it each (reduce-scatter, then all-gather), and gathers in ``n - 1``
messages of what one machine has. Completions, prompts and verdicts travel as JSON: token ids, and text
beside them. What TCP, Ethernet and HTTP add is in the rate of the link.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from attrs import frozen

from prefloop.runs.records import completion_to_json, verdict_to_json
from prefloop.types import Completion, Prompt, Verdict
from prefloop_plugins.scaling.machines import Link

FLOAT = 4
SUMS = 16
"""Metric sums that travel behind the gradient, about."""
HEADER = 8
"""Bytes of a rank's header, which goes round before anything else does."""
EXCHANGES = 3
"""Times that ranks tell each other something in a step: completions, verdicts, and what is known of them."""
EMPTY = len(json.dumps(completion_to_json(Completion((), "", False))))
VERDICT = len(json.dumps(verdict_to_json(Verdict(0.12345678901234567, orders=(0.1234567890123456,) * 2))))


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
    token_bytes: float
    """Of a token in a completion, id and text."""
    prompt_bytes: float
    """Of a prompt as a worker gets it."""
    one_judge: bool = False
    """Whether one machine judges for all: a person, or what answers elsewhere."""
    adapters: bool = True
    """Whether adapters are trained and not all weights, as workers need."""

    @property
    def gradient_bytes(self) -> int:
        """The flat buffer: the gradient and the metric sums in float32."""
        return FLOAT * (self.parameters + SUMS)

    def answer_bytes(self, pairs: float) -> float:
        """Both completions of so many pairs."""
        return pairs * 2 * (EMPTY + self.tokens * self.token_bytes)

    def asked_bytes(self, pairs: float) -> float:
        """What a worker is asked for so many pairs: each prompt stands there twice."""
        return pairs * 2 * self.prompt_bytes

    def verdict_bytes(self, pairs: float) -> float:
        return pairs * VERDICT


def json_bytes(prompts: Sequence[Prompt]) -> tuple[float, float]:
    """Mean bytes of a token with its text, as in a completion, and of a prompt's ids, judged by `prompts`."""
    ids = sum(len(json.dumps(prompt.tokens)) for prompt in prompts)
    texts = sum(len(json.dumps(prompt.text)) for prompt in prompts)
    return (ids + texts) / sum(len(prompt.tokens) for prompt in prompts), ids / len(prompts)


def ring_sum_bytes(machines: int, count: float) -> float:
    """What each machine sends to sum `count` bytes over a ring."""
    return 2 * (machines - 1) * count / machines


def ring_gather_bytes(machines: int, own: float) -> float:
    """What each machine sends so that all have what each has, `own` bytes."""
    return (machines - 1) * own


def ranks_bytes(work: Work, machines: int) -> float:
    """What each rank sends in a step: gradient and sums, completions, verdicts, and a header before each."""
    share = largest_share(work.pairs, machines)
    said = work.answer_bytes(share) + work.verdict_bytes(share) + (EXCHANGES + 1) * HEADER
    return ring_sum_bytes(machines, work.gradient_bytes) + ring_gather_bytes(machines, said)


def ranks_seconds(work: Work, machines: int, link: Link) -> float:
    """How long a step's collectives take, nobody being waited for: all of it, and each message's latency."""
    if machines == 1:
        return 0.0
    gathers = 2 * EXCHANGES + 1  # a header before each, and before the sum
    return link.seconds(ranks_bytes(work, machines), (machines - 1) * (gathers + 2))


def pushed_bytes(work: Work, workers: int) -> float:
    """What the learner sends in a step: its adapters, to each worker once, and the prompts."""
    return work.adapter_bytes * workers + work.asked_bytes(work.pairs)


def largest_share(pairs: int, machines: int) -> int:
    """Pairs of the machine that has most: shares differ by one."""
    return -(-pairs // machines)
