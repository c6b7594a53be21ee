"""What each rank of `tests/test_sharded_judge.py` does: it judges, and prints the probabilities as JSON.

Started as ``python -m support.sharded_judging MODEL HOW``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from prefloop import Pair, UserError, component
from support.judge_models import pair
from support.tiny_models import FAMILIES, build

PAIRS: list[Pair] = [
    pair(f"What is {i}?", f"It is {i}, of course.", "I do not know. " * (i % 3 + 1)) for i in range(7)
]


def judge_model(folder: Path, family: str) -> Path:
    """A tiny model that is sure of what it says, with the index that mlx-lm writes beside weights."""
    with patch.dict(FAMILIES, {family: FAMILIES.get(family, {"model_type": family})}):
        build(folder, family)
    file = folder / "model.safetensors"
    weights: dict[str, mx.array] = {
        name: w * 4 if w.ndim > 1 else w for name, w in dict(mx.load(str(file))).items()
    }
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})
    index = {"weight_map": dict.fromkeys(weights, file.name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def probabilities(model: str, how: str) -> list[float]:
    """Of the judge's verdicts, each of both orders, so that no bias towards a place is averaged away."""
    options: dict[str, Any] = {"min_label_mass": 0, "tie_margin": 0, "batch_size": 4}
    verdicts = component("judge", "llm")(model=model, sharded=how, **options).judge(PAIRS)
    return [one for verdict in verdicts for one in verdict.orders or ()]


if __name__ == "__main__":
    try:
        print(json.dumps(probabilities(*sys.argv[1:])))
    except UserError as error:
        sys.exit(str(error))
