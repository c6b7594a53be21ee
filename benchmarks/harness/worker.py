"""A worker's side of a measurement: ``python -m MODULE JOB RESULT``.

Runs in every environment, so it needs nothing but the standard library. JOB is a file that holds a JSON
object, RESULT one that is written. Keep both as they are: a comparison with an earlier commit runs that
commit's worker.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def serve(run: Callable[[Record], Record], distributions: Iterable[str]) -> None:
    """Do the job and write its result, with the device, the versions and the machine's load before."""
    job, result = map(Path, sys.argv[1:3])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = run(json.loads(job.read_text(encoding="utf-8")))
    found |= {
        "load_before": load,
        "device": device(),
        "chip": chip(),
        "versions": {name: version(name) for name in distributions},
    }
    result.write_text(json.dumps(found), encoding="utf-8")


def device() -> str:
    """What this process computed on: mlx's device, or the CPU where mlx was not used."""
    mx = sys.modules.get("mlx.core")
    return mx.default_device().type.name if mx else "cpu"


def chip() -> str | None:
    """The name that mlx has for what it computes on."""
    mx = sys.modules.get("mlx.core")
    found: str | None = mx.device_info().get("device_name") if mx else None
    return found


def stand_in_for_metal() -> None:
    """Answer what mlx-lm-lora asks of Metal, where there is none."""
    import mlx.core as mx

    if "max_recommended_working_set_size" not in mx.device_info():
        mx.set_wired_limit = lambda *_: None
        mx.device_info = lambda *_: {"max_recommended_working_set_size": 1}
