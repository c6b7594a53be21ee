"""The recipes in `recipes/`: each loads, and trains with tiny models of the family that it names.

What they say of memory and time is compared with the plan in `benchmarks/tests/test_recipes.py`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from prefloop import Config, load_config, train
from prefloop.beginning import Beginning, begun
from support.small_runs import lines

if TYPE_CHECKING:
    from support.tiny_models import ModelFolder

RECIPES = Path(__file__).parent.parent / "recipes"
FILES = sorted(RECIPES.glob("*.yaml"))
FAMILIES = {"qwen": "qwen3", "llama": "llama", "smollm": "llama", "gemma": "gemma3_text"}
SUMS = [(f"Ann has {i} apples and gets {i} more. How many has she?", 2 * i) for i in range(1, 1200)]


def load(file: Path, *settings: str) -> Config:
    """The recipe as somebody loads it who is in the folder of the recipes."""
    with begun(Beginning(RECIPES)):
        return load_config(file, settings)


def family(model: str) -> str:
    """Which family the id of a model names."""
    return next(kind for word, kind in FAMILIES.items() if word in model.lower())


def answer(number: int) -> str:
    """The answer to a sum as openai/gsm8k writes it."""
    return f"{number / 2:g} + {number / 2:g} is it.\n#### {number:,}"


@pytest.fixture
def gsm8k(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The judge of sums."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("gsm8k")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_trains(
    file: Path, tmp_path: Path, model_folder: ModelFolder, gsm8k: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = load(file)
    prompts = tmp_path / "prompts.jsonl"
    column = asked.prompts.column or "prompt"
    chat = column == "prompt"
    rows = (
        {column: [{"role": "user", "content": text}] if chat else text, "answer": answer(number)}
        for text, number in SUMS[:40]
    )
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "model.path": model_folder(family(asked.model.path)),
        "prompts.path": prompts,
        "prompts.name": "null",
        "sampler.max_completion_length": 6,
        "training.iters": 1,
        "training.schedule": "null",
        "training.evaluate_every": 0,
        "evaluation.held_out": 0,
        "output.path": tmp_path / "run",
        "output.report": "false",
    }
    if judge := getattr(asked.judge, "model", None):  # a random model is no judge, but it can be asked
        settings |= {
            "judge.model": model_folder(family(judge)),
            "judge.min_label_mass": 0,
            "judge.tie_margin": 0,
        }
    run = train(load(file, *(f"{key}={value}" for key, value in settings.items())))
    assert run.status == "finished"
    steps = [row for row in lines(run.path / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in steps] == [1]
    judged = lines(run.path / "judgements.jsonl")
    assert len({(row["step"], row["prompt_id"]) for row in judged}) == asked.training.batch_size
    assert not [row for row in judged if row["status"] == "error"]


def test_the_sums_of_gsm8k_are_read_to_their_end(gsm8k: ModuleType) -> None:
    right = answer(2202)
    assert gsm8k.score("It is 5, no: 2,202.", right) == 2
    assert gsm8k.score("So she has 2202.0 apples", right) == 2
    assert gsm8k.score("2202, or rather 7", right) == 0.5
    assert gsm8k.score("-2202", right) == 0.5
    assert gsm8k.score("I cannot say.", right) == 0
