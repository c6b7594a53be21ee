"""The models that are measured, and what `prefloop plan` measures of them in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import frozen
from benchmarks.harness import records, smollm2
from benchmarks.harness.environments import installed
from benchmarks.harness.workers import PACKAGES, ROOT, BenchmarkError, variables

RESULTS = records.RESULTS / "scaling.json"
SPEC = "machines: 16, link: 1gbe"
"""Any will do for a measurement, but for the number: it decides which share of a step is timed besides."""


@frozen
class Body:
    """A configuration whose steps are timed."""

    name: str
    about: str
    settings: dict[str, Any]
    steps: int
    """That are timed of each size."""


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
        Body("quick start", "the embedded model with its LLM judge, 16 pairs of at most 32 tokens", quick, 20),
        Body("SmolLM2-135M", "a rule as judge, 16 pairs of at most 48 tokens, LoRA 8 on all layers", real, 4),
    )
    return {body.name: body for body in found}


def measure(body: Body, cache: Path, folder: Path, steps: int | None = None) -> dict[str, Any]:
    """What `prefloop plan --measure` says of a body: its work, its phases and its memory."""
    if body.name.startswith("SmolLM2"):
        smollm2.make(cache / "models" / "SmolLM2-135M-Instruct", cache)
    config = folder / "config.yaml"
    config.write_text(json.dumps(body.settings), encoding="utf-8")
    arguments = ["plan", str(config), "--machines", SPEC, "--measure", str(steps or body.steps), "--json"]
    found: dict[str, Any] = json.loads(prefloop(arguments, folder))
    versions = installed(("prefloop", "mlx", "mlx-lm"))
    return {
        "work": found["work"],
        "phases": found["phases"][0],
        "memory": {f"{way['name']} {way['machines']}": way["memory"] for way in found["ways"]},
        "provenance": records.provenance("cpu", versions),
    }


def prefloop(arguments: list[str], folder: Path) -> str:
    """The standard output of a command. Raises `BenchmarkError` where it fails."""
    environment = variables([ROOT / name for name in PACKAGES])
    command = [sys.executable, "-m", "prefloop", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"prefloop {arguments[0]} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
