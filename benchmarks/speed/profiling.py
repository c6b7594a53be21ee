"""What a step of prefloop is made of: its phases, and the calls in which its time is spent.

mlx computes when a result is asked for, so the time of its arithmetic is in the calls that ask: `eval`,
`item`, `tolist` and their like. Their callers say whose it is.
"""

from __future__ import annotations

import cProfile
import io
import pstats
from typing import Any

from benchmarks.speed import measuring
from benchmarks.speed.processes import Workshop
from benchmarks.speed.rows import Row
from benchmarks.speed.versus import WARMUP

TOP = 25


def measure(row: Row, shop: Workshop) -> str:
    """The profile of a step, as text."""
    job = {**row.job(0, 2, WARMUP), **shop.models(row), "orders": "both"}
    found: str = shop.run("profiling", job)["text"]
    return f"{row.name}\n{found}"


def run(job: dict[str, Any]) -> measuring.Result:
    """Profile the steps after the warm-up."""
    from prefloop import blas

    blas.use_fastest()
    from benchmarks.speed.ours import make_loop

    loop = make_loop(job)
    for _ in range(job["warmup"]):
        loop.step()
    profile = cProfile.Profile()
    profile.enable()
    steps = [loop.step() for _ in range(job["steps"])]
    profile.disable()
    names = [name for name in steps[-1].metrics if name.startswith("seconds")]
    lines = [f"{name:20} " + " ".join(f"{step.metrics[name]:8.3f}" for step in steps) for name in names]
    return {"text": "\n".join([*lines, "", _top(profile, "tottime"), _top(profile, "cumulative")])}


def _top(profile: cProfile.Profile, key: str) -> str:
    text = io.StringIO()
    stats = pstats.Stats(profile, stream=text).strip_dirs().sort_stats(key)
    stats.print_stats(TOP)
    if key == "tottime":
        stats.print_callers(TOP // 3)
    return text.getvalue()


if __name__ == "__main__":
    measuring.serve(run)
