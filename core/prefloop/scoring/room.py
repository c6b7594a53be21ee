"""Holds a limit on memory by what scoring is measured to take, before the limit is exceeded.

The first micro-batch is a single pair. What it took bounds what several take, as nothing grows faster than
the tokens do. So the next ones are as large as fits, and the update is the same: micro-batches add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import mlx.core as mx
from attrs import define

from prefloop.errors import StopRun
from prefloop.types import PreferenceBatch

MARGIN = 1.05
"""What a micro-batch takes differs from time to time: mlx makes room for operations ahead."""


@define
class Room:
    """The memory that a loop may use, and what its largest micro-batch so far took."""

    limit: float = math.inf
    """Bytes."""
    longest: int = 0
    """Tokens of the longest pair so far, the prompt once and the longer completion twice."""
    pairs: int = 0
    tokens: int = 0
    taken: int = 0
    """Pairs, tokens and bytes of the largest micro-batch so far, padding included."""
    _peak: int = 0

    @property
    def peak(self) -> int:
        """Most bytes that mlx has held since the program started."""
        return max(self._peak, int(mx.get_peak_memory()))

    def check(self) -> None:
        """Raises `StopRun` where more than the limit was used."""
        if self.peak > self.limit:
            raise StopRun(
                f"the run used {self.peak / 1e9:.3g} GB, more than training.memory_limit_gb: "
                f"{self.limit / 1e9:g}. Raise it, or in a new run lower sampler.max_completion_length, set "
                "training.gradient_checkpointing: true or quantize the model.",
                failed=True,
            )

    def pool_bytes(self, most: int) -> int:
        """What rows that are sampled together may take: `most`, or what is left."""
        return int(max(0, min(most, self.limit - mx.get_active_memory())))

    def micro_batches(self, batch: PreferenceBatch, most: int) -> Iterator[PreferenceBatch]:
        """`batch` in parts of at most `most` pairs, longest first, each as large as fits.

        Each has to be scored before the next is asked for. Raises `StopRun` where the limit was exceeded: a
        single pair takes too much.
        """
        rows, start = batch.by_length(), len(batch)
        while start:
            sizes = range(min(most, start), 0, -1)
            parts = (rows.select(range(start - size, start)) for size in sizes)
            part = next(part for part in parts if len(part) == 1 or self._fits(part))
            held, self._peak = mx.get_active_memory(), self.peak
            mx.reset_peak_memory()
            yield part
            self._learn(part, int(mx.get_peak_memory()) - held)
            self.check()
            start -= len(part)

    def state(self) -> dict[str, int]:
        """What `restore` needs to go on from here, as JSON."""
        return {name: getattr(self, name) for name in ("longest", "pairs", "tokens", "taken")}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from `state`, so that a step is divided as it would have been."""
        for name, value in state.items():
            setattr(self, name, value)

    def _fits(self, part: PreferenceBatch) -> bool:
        """Whether these pairs, none of them longer than those that were measured, fit what is left."""
        longest = _longest(part)
        if longest > self.longest:
            return False
        expected = self.taken * max(1.0, len(part) * longest / self.tokens)
        return MARGIN * expected <= self.limit - mx.get_active_memory()

    def _learn(self, part: PreferenceBatch, taken: int) -> None:
        longest = _longest(part)
        self.longest, self.taken = max(self.longest, longest), max(self.taken, taken)
        self.pairs, self.tokens = max(self.pairs, len(part)), max(self.tokens, len(part) * longest)


def _longest(part: PreferenceBatch) -> int:
    """Tokens of a pair once all are padded to one length."""
    completions = (*part.chosen, *part.rejected)
    return max(len(p.tokens) for p in part.prompts) + 2 * max(len(c.tokens) for c in completions)
