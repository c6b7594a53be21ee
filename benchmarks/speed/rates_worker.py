"""Worker that measures what the machine can do: float32 products of matrices, and reading of memory."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.harness import worker

ROWS, WIDE = 512, 2048
"""A product of ``[512, 2048]`` and ``[2048, 2048]``: many rows at once, as scoring has them."""
READ = (65_536, 1024)
"""A matrix of 268 MB, larger than the caches of most machines, is read to be multiplied with a few rows."""
FEW = (1, 8)
"""A BLAS may read faster for one number of rows than for another."""
SECONDS = 1.5
"""How long each is tried; the quickest counts."""


def run(_: dict[str, Any]) -> dict[str, Any]:
    """`gigaflops` (10^9 operations a second) and `gigabytes` (10^9 bytes a second), with mlx and its BLAS."""
    from benchmarks.harness.internals import blas

    blas.use_fastest()
    import mlx.core as mx

    flops = 2 * ROWS * WIDE * WIDE / _quickest(mx.random.normal((ROWS, WIDE)), mx.random.normal((WIDE, WIDE)))
    matrix = mx.random.normal(READ)
    read = max(matrix.nbytes / _quickest(mx.random.normal((rows, READ[1])), matrix) for rows in FEW)
    return {"rates": {"gigaflops": flops / 1e9, "gigabytes": read / 1e9}}


def _quickest(given: Any, weights: Any) -> float:
    """Seconds of ``given @ weights.T``."""
    import mlx.core as mx

    mx.eval(given, weights, given @ weights.T)
    quickest, until = float("inf"), time.perf_counter() + SECONDS
    while (started := time.perf_counter()) < until:
        mx.eval(given @ weights.T)
        quickest = min(quickest, time.perf_counter() - started)
    return quickest


if __name__ == "__main__":
    worker.serve(run, ("mlx",))
