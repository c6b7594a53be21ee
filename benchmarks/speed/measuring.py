"""What both workers measure in the same way, with nothing but the standard library and mlx."""

from __future__ import annotations

import sys
import time
from statistics import fmean
from typing import Any

SAME = ("mlx", "mlx-lm", "transformers", "tokenizers", "numpy")
"""Distributions that have the same version on both sides."""
PHASES = ("sampling", "judging", "scoring")
"""Each ends with its results on the host. What is left of a step is the update and what lies between."""
Result = dict[str, Any]


class Stopwatch:
    """Wall and processor seconds between the ends of steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds.append(wall - self._wall)
        self.processor.append(cpu - self._cpu)
        self._wall, self._cpu = wall, cpu


def held() -> float:
    """Megabytes that mlx holds now, before training; the peak is counted from here."""
    import mlx.core as mx

    mx.clear_cache()
    mx.reset_peak_memory()
    return mx.get_active_memory() / 1e6


def memory(held_mb: float) -> dict[str, float | None]:
    """Megabytes: held before training, mlx's peak (what was held included), and that of the process."""
    import mlx.core as mx

    return {"held_mb": held_mb, "peak_mb": mx.get_peak_memory() / 1e6, "rss_mb": _resident()}


def process_memory() -> dict[str, float | None]:
    """The same where nothing tells what is held but the process's size, which has the program in it."""
    return {"held_mb": None, "peak_mb": None, "rss_mb": _resident()}


def _resident() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def shared(values: list[float], warmup: int, rollout: int) -> list[float]:
    """What each step after the warm-up took, where the first of every `rollout` steps samples for all."""
    first, timed = values[:warmup], values[warmup:]
    whole = [timed[i : i + rollout] for i in range(0, len(timed), rollout)]
    return [*first, *(fmean(own) for own in whole for _ in own)]


def kept(job: dict[str, Any], **lists: list[Any]) -> dict[str, list[Any]]:
    """The lists without their warm-up steps."""
    return {name: values[job["warmup"] :] for name, values in lists.items()}
