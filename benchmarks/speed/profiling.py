"""Where the processor's time goes in each phase: both sides, and an earlier prefloop, under Linux's ``perf``.

Each side runs as it does for the table and says when its phases began and ended, on the clock of the samples.
The samples see mlx's, the BLAS's and the kernel's functions, which a profile of Python calls does not.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve
from benchmarks.speed import rows, samples
from benchmarks.speed.measuring import Result
from benchmarks.speed.processes import Workshop
from benchmarks.speed.rows import PROMPT_LENGTH, Row
from benchmarks.speed.versus import WARMUP

from prefloop import UserError

FREQUENCY = 499
"""Samples in a second of processor time; no divisor of what runs at a regular beat."""
ROWS = [rows.named(name) for name in ("S-b4-c64-short", "S-b4-c256-short", "X-b4-c64-short")]


def measure(row: Row, shop: Workshop, *, steps: int, source: Path | None = None) -> dict[str, Any]:
    """A row of the profile, one judge order. `source` holds the core and plugins of an earlier version.

    Raises `UserError` where there is no ``perf``.
    """
    check_perf()
    job = {**row.job(0, steps, WARMUP), **shop.models(row), "prompt_length": PROMPT_LENGTH, "orders": "fixed"}
    sides = {"prefloop": _side(shop, "ours", job)}
    job["order"] = sides["prefloop"]["prompts"]
    sides["mlx-lm-lora"] = _side(shop, "theirs", job, python=shop.their_python())
    if source:
        sides["earlier"] = _side(shop, "ours", job, paths=(source / "core", source / "plugins"))
    return {
        "row": row.as_json(),
        "sides": {name: {"phases": found["phases"]} for name, found in sides.items()},
        "steps": steps,
    }


def check_perf() -> None:
    """Raises `UserError` where processes cannot be sampled."""
    if sys.platform != "linux":
        raise UserError(
            "--profile reads samples of perf, which is for Linux only. Run it on a Linux machine."
        )
    if not shutil.which("perf"):
        raise UserError(
            "--profile needs perf, which is not on the PATH. Install it: apt install linux-perf on Debian, "
            "linux-tools-generic on Ubuntu."
        )


def _side(shop: Workshop, module: str, job: dict[str, Any], **options: Any) -> Result:
    """A side's result, with its phases."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "perf.data"
        record = f"perf record --quiet --no-buildid-cache -F {FREQUENCY} -e cpu-clock -g -k CLOCK_MONOTONIC"
        sampled = evolve(shop, wrap=f"{shop.wrap} {record} -o {shlex.quote(str(data))} --")
        found = sampled.run(module, job, **options)
        script = ["perf", "script", "-i", str(data), "-F", "tid,time,ip,sym,dso"]
        text = subprocess.run(script, capture_output=True, text=True, errors="replace", check=True).stdout
    spans = found["spans"]
    processor = samples.sorted_out(samples.read(text.splitlines()), spans, FREQUENCY)
    wall = samples.seconds(spans)
    phases = {phase: {"seconds": wall[phase], "processor": processor[phase]} for phase in spans}
    print(f"{module}: {', '.join(f'{phase} {wall[phase]:.3f} s' for phase in spans)}", file=sys.stderr)
    return {**found, "phases": phases}
