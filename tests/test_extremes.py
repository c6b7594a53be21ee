# ruff: noqa: E501 (tables of extremes)
"""Runs with extreme settings, two steps long: each ends well with finite weights, or says in a line why not.

The default run takes a few, CI a hundred; ``pytest -m campaign tests/test_extremes.py -s`` takes 500 and counts.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from click.testing import CliRunner

from prefloop.cli import main
from prefloop.config.yaml_nodes import dump
from prefloop.optim import optimizer_classes

LOSSES = ("sigmoid", "hinge", "ipo", "dpop")
JUDGES: list[Any] = [
    *[{"use": "rule", "length": "longer"}] * 3,
    {"use": "rule", "prefer": ["a", "e"], "length": "shorter"},
    {"use": "function", "call": "judges:by_length"},
    {"use": "function", "call": "judges:hopeless"},
    {"use": "function", "call": "judges:constant"},
    {"use": "llm", "model": "embedded:judge", "batch_size": 4},
    {"use": "llm", "model": "embedded:judge", "orders": "fixed", "min_label_mass": 0.0},
]
FUNCTIONS = """
def by_length(prompt, a, b):
    return 0.9 if len(a) > len(b) else 0.1

def hopeless(prompt, a, b):
    raise RuntimeError("no")

def constant(prompt, a, b):
    return 1.0
"""


CAMPAIGN = [pytest.mark.slow, pytest.mark.campaign]


class Extremes:
    """Draws settings: most from what their types allow at all, a few from what makes sense."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def some(self, share: float, **choices: list[Any]) -> dict[str, Any]:
        """Each of the options with this chance."""
        return {key: self.dice.choice(found) for key, found in choices.items() if self.dice.random() < share}

    def settings(self, folder: Path, seed: int) -> dict[str, Any]:
        dice = self.dice
        sizes = [1e-9, 1e-3, 0.1, 1.0, 100.0, 1e6, 1e9, 1e30, 3e38]
        loss = {"use": dice.choice(LOSSES), **self.some(0.5, beta=sizes)}
        if loss["use"] == "sigmoid":
            loss |= self.some(0.3, label_smoothing=[0.0, 0.1, 0.49], soft_labels=[True])
        if loss["use"] == "dpop":
            loss |= self.some(0.4, delta=[0.0, 5.0, 1e6, 1e38], penalty=["inside", "outside"])
        kl = {
            "use": "kl",
            **self.some(0.7, alpha=[0.0, *sizes, [1.0, 1e6]], estimator=["exact", "k2", "sampled"]),
        }
        optimism = {"use": "optimism", **self.some(0.7, alpha=[0.0, *sizes])}
        held_out = dice.choice([0, 0, 2])
        training = {
            "batch_size": dice.choice([1, 1, 2, 3]), "iters": 2, "seed": dice.choice([0, seed, 2**32 - 1]),
            "learning_rate": dice.choice([1e-30, 1e-9, 1e-5, 1e-3, 1.0, 1e3, 1e6, 1e30, 3e38]),
            **self.some(0.4, optimizer=[*sorted(optimizer_classes()), {"use": "adamw", "eps": 1e-30},
                                        {"use": "sgd", "momentum": 0.99}, {"use": "adam", "betas": [0.0, 0.0]}]),
            **self.some(0.3, schedule=["cosine_decay", "constant", {"use": "linear_schedule", "end": 1e30},
                                       {"use": "exponential_decay", "decay_rate": 1e30},
                                       {"use": "cosine_decay", "warmup": 1, "warmup_init": 1e6}]),
            **self.some(0.3, gradient_accumulation=[1, 2], max_grad_norm=[1e-30, 1e6, 3e38, None, 1e39],
                        gradient_checkpointing=[True], micro_batch_size=[1, 10**6], memory_limit_gb=[0, 0, 1e-9, 1e9],
                        save_every=[0, 1], keep_last=[1, None], max_skipped=[1, 10**9], evaluate_every=[0, held_out // 2]),
        }  # fmt: skip
        sampler: dict[str, Any] = {
            "max_completion_length": dice.choice([1, 3, 5, 8]),
            **self.some(0.3, temperature=[0.0, 1e-6, 0.5, 1.0, 100.0, 1e30], top_p=[1e-9, 0.5, 0.9, 1.0],
                        min_p=[0.0, 0.05, 0.1, 1.0], top_k=[0, 1, 3, 9, 10**9]),
        }  # fmt: skip
        bonuses = dice.choice([[], [], [kl], [kl], [optimism], [kl, optimism]])
        if optimism in bonuses or dice.random() < 0.1:
            sampler |= {"use": "policy-reference"}
        adapter = self.some(0.4, type=["lora", "dora", "full"], rank=[1, 2, 8, 64], scale=[1e-30, 1.0, 1e6, 1e38],
                            dropout=[0.0, 0.5, 0.99], layers=[1, -1, 10**6])  # fmt: skip
        return {
            "model": {"path": "embedded:policy", **self.some(0.3, quantize=["none", "4bit", "8bit"],
                                                             dtype=["float32", "float16", "bfloat16"])},
            "prompts": {"path": "embedded:prompts", "limit": dice.choice([6, 20]),
                        **self.some(0.1, max_length=[30, 10**9], system=["", "x" * 200, "\U0001f600\u2028"])},
            "judge": dice.choice(JUDGES),
            "loss": loss,
            "sampler": sampler,
            "bonuses": bonuses,
            "adapter": adapter,
            "training": training,
            "judging": self.some(0.3, ties=["drop", "half", *["keep"] * ("soft_labels" in loss)], window=[0, 1, 10**9], max_errors=[0.0, 1.0]),
            "evaluation": {"held_out": held_out},
            "output": {"path": str(folder), "report": dice.random() < 0.2},
            **self.some(0.2, algorithm=["online_dpo", "xpo"], reference=["base", "start"]),
        }  # fmt: skip


def non_finite(value: Any) -> bool:
    """Whether a number in a record of a run, at any depth, is infinite or undefined."""
    if isinstance(value, dict | list):
        return any(map(non_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def outcome(folder: Path, seed: int) -> str:
    """How a run ended; what is wrong with that is an `AssertionError`."""
    run, file = folder / "run", folder / "c.yaml"
    shutil.rmtree(run, ignore_errors=True)
    file.write_text(dump(Extremes(seed).settings(run, seed)), "utf-8")
    done = CliRunner().invoke(main, ["train", str(file)])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.exit_code == 2:
        assert said, "exit code 2, and nothing said"
        assert not (run / "run.json").exists(), "exit code 2 after the run began"
        return "refused"
    manifest = json.loads((run / "run.json").read_text("utf-8"))
    weights = [mx.load(str(path)) for path in run.rglob("*.safetensors")]
    whole = all(mx.isfinite(array).all().item() for found in weights for array in found.values())
    if done.exit_code == 1:
        assert manifest["status"] == "failed", manifest["status"]
        assert manifest["reason"].strip(), "no reason"
        assert whole, "a failed run keeps weights that are not finite"
        return "failed"
    assert (done.exit_code, manifest["status"]) == (0, "finished"), (done.exit_code, manifest["status"])
    assert whole, "weights are not finite"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert not non_finite([lines, manifest]), "metrics are not finite"
    assert any(line.get("labelled", 1) for line in lines), "finished without having learnt from a pair"
    learnt = [line for line in lines if line.get("labelled") and not line["skipped"]]
    assert all(line["loss"] is not None for line in learnt), "loss is null"
    return "finished"


@pytest.mark.parametrize(
    "runs", [4, pytest.param(100, marks=pytest.mark.slow), pytest.param(500, marks=CAMPAIGN)]
)
def test_extreme_settings_end_well_or_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    (tmp_path / "judges.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    ends: Counter[str] = Counter()
    faults = []
    for seed in range(runs):
        try:
            ends[outcome(tmp_path, seed)] += 1
        except AssertionError as error:
            faults.append(f"seed {seed}: {str(error).splitlines()[0]}")
    print(f"{runs} runs: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items())))
    assert faults == []
