"""What both sides measure in the same way, with nothing but the standard library and mlx."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = ("step", "sampling", "judging", "scoring", "update")
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


def _resident() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def serve(run: Callable[[dict[str, Any]], Result]) -> None:
    """Do the job in the file that is named first, and write its result to the one that is named second."""
    job, result = map(Path, sys.argv[1:3])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = run(json.loads(job.read_text()))
    result.write_text(json.dumps({**found, "load_before": load}))


def phases(job: dict[str, Any], spans: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """When each phase of the steps after the warm-up began and ended, and how long it took."""
    after = kept(job, **spans)
    return {"spans": after, **{name: [end - begin for begin, end in times] for name, times in after.items()}}


def kept(job: dict[str, Any], **lists: list[Any]) -> dict[str, list[Any]]:
    """The lists without their warm-up steps."""
    return {name: values[job["warmup"] :] for name, values in lists.items()}
