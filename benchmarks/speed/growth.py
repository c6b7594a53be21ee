"""What a step of prefloop costs as batch, length, vocabulary and model grow."""

from __future__ import annotations

from typing import Any

from benchmarks.speed import pairing
from benchmarks.speed.processes import Workshop
from benchmarks.speed.rows import Row
from benchmarks.speed.versus import WARMUP

BASE = Row("S", 4, 64)
ROWS = [
    BASE,
    *(Row("S", batch, 64) for batch in (1, 8, 16, 32)),
    *(Row("S", 4, length) for length in (16, 128, 256, 512)),
    *(Row("S", 4, 64, rubric) for rubric in ("long",)),
    *(Row(model, 4, 64) for model in ("W", "X")),
    *(Row(model, 4, 64) for model in ("XS", "L", "M")),
]


def measure(row: Row, shop: Workshop, *, steps: int) -> dict[str, Any]:
    """Steps in one process, both orders judged as they are by default."""
    job = {**row.job(0, steps, WARMUP), **shop.models(row), "orders": "both"}
    result = shop.run("ours", job)
    return {
        "row": row.as_json(),
        "parameters": row.size.body + row.size.head,
        "sampled": result["sampled"][0],
        **pairing.summary(result),
    }
