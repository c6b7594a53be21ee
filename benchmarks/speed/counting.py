"""The least arithmetic that the phases of a step can do: operations, bytes and exponentials.

Counted for a Qwen3-type model with LoRA on frozen weights in float32, and for work that spares what can be
spared: each prompt passes the policy once, the judge's rubric is kept from step to step, only completion
tokens and answers reach the output head, and the backward pass makes no gradient of frozen weights.
A product of ``[m, k]`` and ``[k, n]`` is ``2 m k n`` operations. The adapters and the norms are left out.
"""

from __future__ import annotations

from attrs import frozen
from benchmarks.speed.rows import PROMPT_LENGTH, Row, Size

BYTES = 4


@frozen
class Work:
    """What a phase has to do; `together` is how many tokens pass through the weights at a time."""

    operations: float = 0.0
    weights_read: float = 0.0
    exponentials: float = 0.0
    together: int = 1

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.weights_read + other.weights_read,
            self.exponentials + other.exponentials,
            max(self.together, other.together),
        )

    def seconds(self, gigaflops: float, gigabytes: float, nanoseconds: float) -> tuple[float, float]:
        """At the machine's rates: products or reading of weights, whichever takes longer; exponentials.

        The rates are 10^9 operations and bytes a second and nanoseconds for an exponential.
        """
        products = max(self.operations / gigaflops, self.weights_read / gigabytes) / 1e9
        return products, self.exponentials * nanoseconds / 1e9


def passing(size: Size, rows: int, tokens: int, seen: int) -> Work:
    """`rows` times `tokens` tokens through all blocks, where `seen` tokens precede each row in the cache."""
    count = rows * tokens
    looked_at = rows * sum(seen + i + 1 for i in range(tokens))
    scores = size.layers * size.heads * looked_at
    return Work(
        operations=2.0 * count * size.body + 4.0 * scores * size.head_dim,
        weights_read=float(BYTES * size.body),
        exponentials=float(count * size.layers * size.intermediate + scores),
        together=count,
    )


def heading(size: Size, positions: int) -> Work:
    """`positions` hidden states through the output head and a softmax."""
    return Work(
        operations=2.0 * positions * size.head,
        weights_read=float(BYTES * size.head),
        exponentials=float(positions * size.vocabulary),
        together=positions,
    )


def sampling(row: Row) -> tuple[Work, Work]:
    """Reading the prompts, and the steps of decoding."""
    size, rows = row.size, 2 * row.batch
    decoding = Work()
    for i in range(row.completion):
        decoding += passing(size, rows, 1, PROMPT_LENGTH - 1 + i) + heading(size, rows)
    return passing(size, row.batch, PROMPT_LENGTH - 1, 0), decoding


def judging(row: Row, question: int, prefix: int, orders: int) -> Work:
    """Questions of `question` tokens, of which `prefix` are kept, in so many orders."""
    asked = orders * row.batch
    answers = Work(together=asked, operations=2.0 * asked * row.size.head)
    return passing(row.size, asked, question - prefix, prefix) + answers


def scoring(row: Row) -> Work:
    """Forward under policy and reference, and backward: each is one pass of products.

    The backward pass reuses the exponentials of the forward one.
    """
    size, rows = row.size, 2 * row.batch
    prompts = passing(size, row.batch, PROMPT_LENGTH - 1, 0)
    completions = passing(size, rows, row.completion, PROMPT_LENGTH - 1)
    once = prompts + completions + heading(size, rows * row.completion)
    return Work(3 * once.operations, 3 * once.weights_read, 2 * once.exponentials, once.together)
