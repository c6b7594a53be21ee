"""What the machine can do: ``python -m benchmarks.speed.rates JOB RESULT``.

Rates of float32 products at the shapes and numbers of rows of a benchmark, of reading as many weights as
the model has, and of ``exp`` in mlx and in NumPy, all as the benchmark uses them; the best of several goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.speed import measuring

_SECONDS = 0.4
"""How long each is tried."""


def run(job: dict[str, Any]) -> measuring.Result:
    """Rates for products with ``hidden``, ``intermediate`` and ``vocabulary``, at each of ``rows``."""
    import mlx.core as mx
    import numpy as np

    hidden, intermediate, vocabulary = (job["size"][k] for k in ("hidden", "intermediate", "vocabulary"))
    body = mx.random.normal((intermediate, hidden))
    head = mx.random.normal((vocabulary, hidden))
    many = mx.random.normal((1 << 20,))
    mx.eval(body, head, many)
    copied, room = np.array(many), np.empty(many.size, dtype=np.float32)

    def product(rows: int, weights: mx.array) -> float:
        given = mx.random.normal((rows, hidden))
        mx.eval(given)
        seconds = best(lambda: mx.eval(given @ weights.T))
        return 2 * rows * weights.size / seconds / 1e9

    every = mx.random.normal((job["weights"] // hidden, hidden))  # what fits into a cache is read from there
    reading = max(every.nbytes * product(rows, every) / (2 * rows * every.size) for rows in (1, 2, 8))
    return {
        "gigaflops": {
            str(rows): max(product(rows, body), product(rows, head)) for rows in sorted(set(job["rows"]))
        },
        "gigabytes": reading,
        "exp_nanoseconds": {
            "mlx": best(lambda: mx.eval(mx.exp(many))) / many.size * 1e9,
            "numpy": best(lambda: np.exp(copied, out=room)) / many.size * 1e9,
        },
    }


def best(action: Callable[[], object]) -> float:
    """Seconds of the quickest of several runs."""
    action()
    until = time.perf_counter() + _SECONDS
    quickest = float("inf")
    while (started := time.perf_counter()) < until:
        action()
        quickest = min(quickest, time.perf_counter() - started)
    return quickest


if __name__ == "__main__":
    measuring.serve(run)
