"""Random numbers for rows that are sampled together.

Those of a row depend on the seed and on the row's own number: not on the rows beside it, on how many of them
there are, or on the process that samples it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from attrs import define, field
from numpy.typing import NDArray


@define(eq=False)
class RowNumbers:
    """A generator for each row, by its number, that goes on where the row's last token left it."""

    seed: int
    _of: dict[int, np.random.Generator] = field(factory=dict, init=False)

    def uniforms(self, rows: Sequence[int], count: int) -> NDArray[np.float64]:
        """The next `count` numbers of each row, from 0 to below 1, ``[R, count]``."""
        return np.array([self._row(row).random(count) for row in rows])

    def keys(self, rows: Sequence[int]) -> mx.array:
        """The next key of each row for mlx's random functions, ``[R, 2]`` uint32."""
        drawn: list[Any] = [self._row(row).integers(1 << 32, size=2, dtype=np.uint32) for row in rows]
        return mx.array(np.array(drawn))

    def _row(self, row: int) -> np.random.Generator:
        if row not in self._of:
            self._of[row] = np.random.default_rng([self.seed, row])
        return self._of[row]
