"""What the recipes say that they need is what prefloop plans for them, and they fit their Macs."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from benchmarks.recipes.__main__ import README, header, recipes, run_of, table, with_header
from benchmarks.recipes.machines import MACS, Mac, Work, model
from benchmarks.recipes.models import MODELS, build
from benchmarks.recipes.planned import Planned, Recipe, work_out
from benchmarks.speed.rows import Size
from mlx.utils import tree_flatten

FILES = {
    "mlx-community/SmolLM2-135M-Instruct": 269e6,
    "mlx-community/Llama-3.2-1B-Instruct-bf16": 2.47e9,
    "mlx-community/Llama-3.2-3B-Instruct-bf16": 5.37e9 + 1.06e9,
    "Qwen/Qwen3-1.7B-MLX-4bit": 914e6,
    "mlx-community/gemma-3-1b-it-bf16": 2.6e9,
}
"""What the pages of the Hub say of the size of the weights."""


@pytest.fixture(scope="module")
def worked_out(tmp_path_factory: pytest.TempPathFactory) -> dict[Recipe, Planned]:
    folder = tmp_path_factory.mktemp("shelf")
    mx.reset_peak_memory()
    return {recipe: work_out(recipe, folder) for recipe in recipes()}


def test_every_recipe_says_what_is_planned(worked_out: dict[Recipe, Planned]) -> None:
    for recipe, planned in worked_out.items():
        text = recipe.file.read_text(encoding="utf-8")
        assert with_header(text, header(recipe, planned)) == text, "run python -m benchmarks.recipes"
        assert run_of(text), f"{recipe.file.name} does not say whether it was run"
    assert table(worked_out) in README.read_text(encoding="utf-8"), "run python -m benchmarks.recipes"


def test_every_recipe_fits_its_mac(worked_out: dict[Recipe, Planned]) -> None:
    for recipe, planned in worked_out.items():
        limit = recipe.config.training.memory_limit_gb
        share = 3 / 4 if recipe.mac.memory > 36 else 2 / 3  # what macOS lets a GPU use
        assert limit is not None and limit <= share * recipe.mac.memory
        assert planned.plan.memory.total <= 1e9 * limit
        assert planned.plan.warnings == ()
        assert planned.plan.longest_prompt == recipe.config.prompts.max_length


def test_nothing_was_computed(worked_out: dict[Recipe, Planned]) -> None:
    assert max(planned.plan.memory.weights for planned in worked_out.values()) > 8e9
    assert mx.get_peak_memory() < 1e9


@pytest.mark.parametrize("name", FILES)
def test_a_stand_in_is_as_large_as_the_files_on_the_hub(name: str) -> None:
    held = sum(value.nbytes for _, value in tree_flatten(build(MODELS[name]).parameters()))
    assert held == pytest.approx(FILES[name], rel=0.005)


def test_a_judge_that_is_the_policy_has_no_weights_of_its_own(worked_out: dict[Recipe, Planned]) -> None:
    same = {recipe.judge == recipe.config.model.path: planned for recipe, planned in worked_out.items()}
    assert same[True].plan.memory.judge == 0
    assert same[True].plan.memory.judging > 0


def test_a_file_is_named_for_a_mac() -> None:
    assert Recipe(Path("any-16gb.yaml")).mac is MACS[16]
    with pytest.raises(ValueError, match="8gb, 16gb, 32gb, 64gb"):
        Recipe(Path("any-12gb.yaml")).mac  # noqa: B018


def test_the_seconds_of_a_step_by_hand() -> None:
    """Two small layers and a vocabulary of 10, on a machine where only the reading of weights takes time."""
    size = Size(hidden=4, layers=2, intermediate=8, heads=1, kv_heads=1, head_dim=4, vocabulary=10)
    one = model(size, None)
    body, head = 2 * (4 * 4 * 4 + 3 * 4 * 8), 4 * 10
    assert (one.size.body, one.size.head, one.weight) == (body, head, 2.0)
    slow_reading = Mac(8, "none", teraflops=1e3, gigabytes=2)
    work = Work(one, one, pairs=1, rollout=2, prompt=3, completion=5, trained=1)
    seconds = work.seconds(slow_reading)
    weights = 2 * (body + head)
    assert seconds["sampling"] == pytest.approx((2 * body + 5 * weights) / 2 / 1e9)
    assert seconds["judging"] == pytest.approx(weights / 1e9)
    assert seconds["scoring"] == pytest.approx((weights + 2 * (body + 2 * head)) / 1e9)


@pytest.mark.parametrize(("bits", "group", "weight"), [(4, 64, 0.5625), (4, 128, 0.53125), (8, 64, 1.0625)])
def test_bytes_of_a_quantized_weight(bits: int, group: int, weight: float) -> None:
    size = Size(256, 2, 512, 4, 2, 64, 512)
    found = model(size, {"bits": bits, "group_size": group})
    assert found.weight == pytest.approx(weight)
    held = mx.quantize(mx.zeros((256, 512), mx.bfloat16), group, bits)
    assert sum(part.nbytes for part in held) / (256 * 512) == pytest.approx(weight)
