"""The recipes in `recipes/`: each loads, and trains with tiny models of the family that it names.

What they say of memory and time is compared with the plan in `benchmarks/tests/test_recipes.py`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import datasets
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


@pytest.fixture
def gsm8k(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The judge of sums, with sums of our own in the place of the data set."""
    rows = [
        {"question": question, "answer": f"{n / 2:g} + {n / 2:g} is it.\n#### {n:,}"} for question, n in SUMS
    ]
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **_: asked.append(given) or rows)
    spec = importlib.util.spec_from_file_location("gsm8k", RECIPES / "gsm8k.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(__import__("sys").modules, "gsm8k", module)
    return module


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_trains(
    file: Path, tmp_path: Path, model_folder: ModelFolder, gsm8k: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = load(file)
    prompts = tmp_path / "prompts.jsonl"
    column = asked.prompts.column or "prompt"
    texts = ([{"role": "user", "content": text}] if column == "prompt" else text for text, _ in SUMS[:40])
    prompts.write_text("".join(json.dumps({column: text}) + "\n" for text in texts), encoding="utf-8")
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
    question, right = SUMS[1100]  # 2,202
    assert gsm8k.score(question, f"It is 5, no: {right:,}.") == 2
    assert gsm8k.score(question, "So she has 2202.0 apples") == 2
    assert gsm8k.score(question, "2202, or rather 7") == 0.5
    assert gsm8k.score(question, "-2202") == 0.5
    assert gsm8k.score(question, "I cannot say.") == 0
    with pytest.raises(KeyError):
        gsm8k.score("What else?", "7")
