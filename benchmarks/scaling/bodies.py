"""The models that are measured, and what `prefloop plan` measures of them in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from attrs import asdict, frozen
from benchmarks.harness import records, smollm2
from benchmarks.harness.environments import installed
from benchmarks.harness.internals import phases_of
from benchmarks.harness.workers import prefloop

RESULTS = records.RESULTS / "scaling.json"
SPEC = "machines: 16, link: 1gbe"
"""Any will do for a measurement, but for the number: it decides which share of a step is timed besides."""


REAL_ROWS = ("SmolLM2-b1-c48-rule", "SmolLM2-b4-c48-rule")


@frozen
class Body:
    """A configuration whose steps are timed."""

    name: str
    about: str
    settings: dict[str, Any]
    steps: int = 20
    """That are timed of each size."""
    threads: int | None = None
    """Of the process; None is one for each core."""
    recorded: tuple[str, ...] = ()
    """Rows of the speed table whose phases are taken, instead of steps that are timed now."""


def bodies(cache: Path) -> dict[str, Body]:
    """The quick start as it is, and a pretrained model with a rule as judge."""
    common = {"prompts": "embedded:prompts", "evaluation": {"held_out": 0}, "output": {"report": False}}
    quick = {
        **common,
        "model": "embedded:policy",
        "judge": {"model": "embedded:judge", "system": "Prefer the warmer, friendlier answer."},
        "sampler": {"max_completion_length": 32},
        "training": {"batch_size": 16, "iters": 30, "learning_rate": 2e-4},
    }
    real = {
        **common,
        "model": str(cache / "models" / "SmolLM2-135M-Instruct"),
        "judge": {"use": "rule", "length": "shorter"},
        "sampler": {"max_completion_length": 48},
        "training": {"batch_size": 16, "iters": 30, "learning_rate": 1e-5},
        "adapter": {"layers": -1},
    }
    found = (
        Body(
            "quick start", "the embedded model with its LLM judge, 16 pairs of at most 32 tokens", quick, 20
        ),
        Body(
            "SmolLM2-135M",
            "a rule as judge, 16 pairs of at most 48 tokens, LoRA 8 on all layers",
            real,
            recorded=REAL_ROWS,
        ),
    )
    return {body.name: body for body in found}


def measure(body: Body, cache: Path, folder: Path, steps: int | None = None) -> dict[str, Any]:
    """What `prefloop plan` says of a body: its work, memory and phases, measured now or on record."""
    if body.name.startswith("SmolLM2"):
        smollm2.make(cache / "models" / "SmolLM2-135M-Instruct", cache)
    config = folder / "config.yaml"
    config.write_text(json.dumps(body.settings), encoding="utf-8")
    timed = [] if body.recorded else ["--measure", str(steps or body.steps)]
    arguments = ["plan", str(config), "--machines", SPEC, *timed, "--json"]
    load = os.getloadavg()[0]
    found: dict[str, Any] = json.loads(prefloop(arguments, folder, environment=threads_of(body.threads)))
    phases, provenance = on_record(body.recorded) if body.recorded else (found["phases"][0], _now())
    return {
        "work": {**found["work"], "tokens": phases["tokens"]},
        "phases": phases,
        "threads": body.threads,
        "load": load,
        "memory": {f"{way['name']} {way['machines']}": way["memory"] for way in found["ways"]},
        "provenance": provenance,
    }


def on_record(names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The phases in rows of the speed table, and what those were measured with.

    A row has medians over its rounds. What of a step is in no phase is taken for the update. The spread is
    that of single steps.
    """
    table = records.load(records.RESULTS / "speed.json")
    rows = []
    for name in names:
        side = table[name]["sides"]["prefloop"]
        row = {f"seconds_{phase}": side[f"{phase}_seconds"] for phase in ("sampling", "judging", "scoring")}
        row["seconds_update"] = max(0.0, side["step_seconds"] - sum(row.values()))
        size = table[name]["row"]
        rows.append({**row, "pairs": float(size["batch"]), "completion_length": float(size["completion"])})
    found = asdict(phases_of(rows, "the speed table"))
    steps = [[one for round in table[name]["steps"]["prefloop"] for one in round] for name in names]
    spread = [one / fmean(own) for own in steps for one in own]
    return {**found, "spread": spread, "steps": len(spread)}, table[names[0]]["provenance"]


def _now() -> dict[str, Any]:
    return records.provenance("cpu", installed(("prefloop", "mlx", "mlx-lm")))


def threads_of(count: int | None) -> dict[str, str]:
    """Environment variables that hold a process to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count)) if count else {}
