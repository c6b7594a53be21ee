"""Worker that takes a few steps and reports the memory plan beside the most that mlx held in each phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import worker
from benchmarks.speed import measuring
from benchmarks.speed.ours import make_loop


class Peaks:
    """Stands before a judge and watches the loop: the most bytes that mlx held in each phase."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self.bytes: dict[str, int] = {}

    def judge(self, pairs: Sequence[Any]) -> Any:
        self._take("sampling")
        verdicts = self._judge.judge(pairs)
        self._take("judging")
        return verdicts

    def step_finished(self, _: Any) -> None:
        self._take("scoring")

    def _take(self, phase: str) -> None:
        import mlx.core as mx

        self.bytes[phase] = max(self.bytes.get(phase, 0), mx.get_peak_memory())
        mx.reset_peak_memory()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Plan, with its terms, and peaks, in bytes."""
    from benchmarks.harness.internals import blas

    blas.use_fastest()
    import mlx.core as mx
    from attrs import asdict
    from benchmarks.harness.internals import POOL_BYTES, Estimator, pairs_drawn

    from prefloop import BaseJudge, Observer, adapt

    loop = make_loop(job)
    lengths, completion = [len(prompt.tokens) for prompt in loop.prompts], job["completion"]
    mx.eval(loop.policy.model.parameters(), loop.optimizer.state)
    plan = Estimator(loop, max(lengths), completion)(job["batch"], POOL_BYTES)
    own = plan.weights + plan.optimizer  # what is left is the judge's, as a run finds it once it is loaded
    judge_bytes = max(0, mx.get_active_memory() - own)
    judging = loop.judge.pass_bytes(pairs_drawn(loop), min(lengths), max(lengths), completion)
    estimate = Estimator(loop, max(lengths), completion, judge_bytes, judging=judging)
    plan = estimate(job["batch"], POOL_BYTES)
    if job.get("plan_only"):
        return {"planned": plan.total, "terms": asdict(plan)}
    peaks = Peaks(loop.judge)
    loop.judge = adapt(peaks, BaseJudge)
    loop.observers = (adapt(peaks, Observer),)
    mx.clear_cache()
    mx.reset_peak_memory()
    list(loop)
    return {"planned": plan.total, "terms": asdict(plan), "peaks": peaks.bytes}


if __name__ == "__main__":
    worker.serve(run, measuring.SAME)
