"""The least that a step's arithmetic takes on a machine.

Counted are the products of matrices and the bytes of weights that they read, for work that spares what can
be spared: each prompt passes the policy once, what all of a judge's questions begin with is kept, and only
completions and answers reach the output head. A product of ``[m, k]`` and ``[k, n]`` is ``2 m k n``
operations. Adapters, norms, softmax and the optimizer are left out. A pass takes as long as its operations
at the machine's rate of products or as the reading of its weights, whichever is longer (the roofline model
of Williams, Waterman and Patterson, 2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from attrs import frozen
from benchmarks.speed.measuring import PHASES, Result
from benchmarks.speed.rows import Row, Size

FLOAT = 4.0
"""Bytes of a weight in float32."""
GROUP = 64
"""Weights that share a scale and a bias of 4 bytes each, where mlx quantizes."""


@frozen
class Pass:
    """One passage through weights: so many operations on so many bytes of weights."""

    operations: float
    bytes: float

    def seconds(self, rates: Mapping[str, float]) -> float:
        """At `gigaflops` and `gigabytes` a second."""
        return max(self.operations / rates["gigaflops"], self.bytes / rates["gigabytes"]) / 1e9


@frozen
class Model:
    """A model's shape, and the bytes of one of its weights."""

    size: Size
    weight: float = FLOAT

    def passing(self, tokens: float, looked_at: float, heads: float) -> Pass:
        """`tokens` through all layers, which look at `looked_at` positions in all; `heads` of them through
        the output head.
        """
        size = self.size
        attention = 4.0 * size.layers * size.heads * size.head_dim * looked_at
        read = size.body + (size.head if heads else 0)
        return Pass(2.0 * (tokens * size.body + heads * size.head) + attention, self.weight * read)


def phases(
    row: Row, results: Iterable[Result], rates: Mapping[str, float], pool: int = 1
) -> dict[str, dict[str, float]]:
    """`gigaflop` and `seconds` of each phase of a step, where prompts of `pool` steps are sampled at once.

    Raises `KeyError` where a result does not tell the tokens of its prompts and questions.
    """
    found = list(results)
    prompt = fmean(count for result in found for count in result["prompted"]) / row.batch
    asked = fmean(count for result in found for count in result["questions"]) / row.batch
    kept = fmean(result["kept_of_question"] for result in found)
    policy = Model(row.size, row.bits / 8 + 2 * FLOAT / GROUP if row.bits else FLOAT)
    work = {
        "sampling": (sampling(policy, row, prompt, pool), pool),
        "judging": ([] if row.rubric == "rule" else [judging(Model(row.size), row.batch, asked, kept)], 1),
        "scoring": (scoring(policy, row, prompt), 1),
    }
    return {
        phase: {
            "gigaflop": sum(one.operations for one in passes) / steps / 1e9,
            "seconds": sum(one.seconds(rates) for one in passes) / steps,
        }
        for phase, (passes, steps) in ((name, work[name]) for name in PHASES)
    }


def sampling(policy: Model, row: Row, prompt: float, pool: int) -> list[Pass]:
    """Reading prompts of `prompt` tokens, and one pass for each position of the completions."""
    prompts = pool * row.batch
    rows = 2 * prompts
    reading = policy.passing(prompts * prompt, prompts * prompt**2 / 2, 0)
    return [reading, *(policy.passing(rows, rows * (prompt + i), rows) for i in range(row.completion))]


def judging(judge: Model, pairs: int, question: float, kept: float) -> Pass:
    """One position of one pass for each pair, whose question begins with `kept` tokens that are known."""
    own = question - kept
    return judge.passing(pairs * own, pairs * own * (kept + own / 2), pairs)


def scoring(policy: Model, row: Row, prompt: float) -> list[Pass]:
    """Policy and reference, and backward; where all weights are trained, their gradient as well."""
    rows, length = 2 * row.batch, row.completion
    tokens = row.batch * prompt + rows * length
    looked_at = row.batch * prompt**2 / 2 + rows * length * (prompt + length / 2)
    once = policy.passing(tokens, looked_at, rows * length)
    return [once] * (4 if row.training == "full" else 3)
