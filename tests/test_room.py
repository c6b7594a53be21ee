"""`training.memory_limit_gb` is held by what is measured, before it is exceeded."""

from __future__ import annotations

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from attrs import evolve
from mlx.utils import tree_flatten

from prefloop import Completion, Loop, Policy, PreferenceBatch, StopRun, load_config
from prefloop.config import OutputConfig
from prefloop.loop import TARGET_MICRO_BATCH_TOKENS
from prefloop.runs.preparation import dry_run
from prefloop.runs.training import resume, train
from prefloop.scoring.room import Room
from support.loops import make_loop
from support.small_runs import StopsAfter, outcome, settings_for
from support.tiny_models import ModelFolder

PAIRS = 6


@pytest.fixture(autouse=True)
def _memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the number of tokens from which on more at once cost only memory."""
    monkeypatch.setitem(TARGET_MICRO_BATCH_TOKENS, mx.default_device().type.name, 1 << 30)


def loop_with(folder: Path, limit_gb: float | None, **training: object) -> Loop:
    settings = {"batch_size": PAIRS, "memory_limit_gb": limit_gb, **training}
    return make_loop(Policy.load(str(folder)), training=settings)


def long_batch(loop: Loop, lengths: tuple[int, ...] = (60, 20, 60, 50, 40, 60)) -> PreferenceBatch:
    prompts = tuple(loop.prompts[: len(lengths)])
    made = [tuple(Completion(tuple(range(a, a + n)), "", False) for n in lengths) for a in (3, 4)]
    return PreferenceBatch(prompts, made[0], made[1], (0.9,) * len(lengths), (1.0,) * len(lengths))


def flat(gradient: object) -> np.ndarray:
    return np.concatenate([np.asarray(g).ravel() for _, g in sorted(tree_flatten(gradient))]).astype(float)


def scored(loop: Loop, batch: PreferenceBatch) -> tuple[np.ndarray, list[list[int]], int]:
    """The gradient, the lengths in each micro-batch, and the most that mlx held meanwhile."""
    parts: list[list[int]] = []
    plain = loop.gradient

    def gradient(part: PreferenceBatch, *others: object) -> object:
        parts.append([len(c.tokens) for c in part.chosen])
        return plain(part, *others)

    loop.gradient = gradient  # type: ignore[assignment, method-assign]
    mx.clear_cache()
    mx.reset_peak_memory()
    loop.room = Room(loop.room.limit)
    found, _ = loop.total_gradient(batch, loop.progress(1))
    return flat(found), parts, loop.room.peak


def needs(folder: Path) -> tuple[np.ndarray, int, int]:
    """The gradient of all pairs at once, what that peaks at, and what one pair takes."""
    loop = loop_with(folder, None)
    batch = long_batch(loop)
    scored(loop, batch)  # what is found out once is found out now
    whole, parts, peak = scored(loop, batch)
    assert len(parts) == 1
    held = mx.get_active_memory()
    _, _, alone = scored(loop, batch.select([0]))
    return whole, peak, alone - held


def test_fewer_pairs_are_scored_at_once_before_the_limit_is_exceeded(model_folder: ModelFolder) -> None:
    folder = model_folder("qwen3")
    whole, peak, _ = needs(folder)
    roomy = loop_with(folder, 1.2 * peak / 1e9)
    _, parts, _ = scored(roomy, long_batch(roomy))
    assert [len(part) for part in parts] == [1, 5]
    del roomy
    held = mx.get_active_memory()
    tight = loop_with(folder, (held + 0.6 * (peak - held)) / 1e9)
    gradient, parts, used = scored(tight, long_batch(tight))
    assert used <= tight.room.limit < peak
    sizes = [len(part) for part in parts]
    assert sizes[0] == 1 and 1 < max(sizes) < PAIRS, "it learns from one pair how many fit"
    assert parts[0] == [60], "the longest comes first: what it took bounds what others take"
    assert sorted(length for part in parts for length in part) == [20, 40, 50, 60, 60, 60]
    assert np.linalg.norm(gradient - whole) <= 1e-5 * np.linalg.norm(whole) > 0


def test_a_pair_longer_than_all_that_were_measured_is_scored_alone(model_folder: ModelFolder) -> None:
    loop = loop_with(model_folder("qwen3"), 1e3)
    _, parts, _ = scored(loop, long_batch(loop, (8, 8, 8, 8)))
    assert [len(part) for part in parts] == [1, 3]
    sizes = [len(part) for part in loop.room.micro_batches(long_batch(loop, (8, 40, 8, 8)), 4)]
    assert sizes == [1, 3]
    assert [len(part) for part in loop.room.micro_batches(long_batch(loop, (8, 40, 8, 8)), 4)] == [4]


def test_a_run_stops_where_one_pair_does_not_fit_and_learns_nothing_from_it(
    model_folder: ModelFolder,
) -> None:
    folder = model_folder("qwen3")
    _, _, one = needs(folder)
    loop = loop_with(folder, None)
    scored(loop, long_batch(loop))
    loop.training = evolve(loop.training, memory_limit_gb=1.0)
    loop.room = Room(mx.get_active_memory() + one / 2)
    mx.reset_peak_memory()
    with pytest.raises(StopRun, match=r"training.memory_limit_gb.*max_completion_length.*checkpointing"):
        loop._update(long_batch(loop), loop.progress(1), _clock())
    assert loop.room.pairs == 1


def _clock() -> object:
    from prefloop.metrics import Clock

    return Clock()


def test_an_explicit_micro_batch_size_is_kept_under_a_limit(model_folder: ModelFolder) -> None:
    loop = loop_with(model_folder("qwen3"), 1e3, micro_batch_size=3)
    _, parts, _ = scored(loop, long_batch(loop))
    assert [len(part) for part in parts] == [3, 3]


def test_what_was_sampled_together_takes_no_more_than_is_left() -> None:
    held = mx.get_active_memory()
    assert Room(held + 1000).pool_bytes(800) == 800
    assert Room(held + 1000).pool_bytes(5000) == 1000
    assert Room(held / 2).pool_bytes(5000) == 0
    assert Room(math.inf).pool_bytes(5000) == 5000


def test_a_resumed_run_divides_its_steps_as_the_whole_one(tmp_path: Path) -> None:
    training = {"batch_size": 6, "iters": 4, "save_every": 2, "learning_rate": 1e-3, "memory_limit_gb": 50.0}
    config = load_config(settings_for(tmp_path / "run", training=training))
    whole = train(evolve(config, output=OutputConfig(str(tmp_path / "whole"), report=False)))
    stopped = train(config, observers=[StopsAfter(2, StopRun("enough"))])
    assert outcome(resume(stopped.path).path) == outcome(whole.path)


def test_what_was_measured_goes_into_a_checkpoint_and_back(model_folder: ModelFolder) -> None:
    loop = loop_with(model_folder("qwen3"), 1e3)
    scored(loop, long_batch(loop))
    twin = Room(loop.room.limit)
    twin.restore(loop.room.state())
    assert twin.state() == loop.room.state() and twin.pairs == 5 and twin.taken > 0
    assert [len(part) for part in twin.micro_batches(long_batch(loop), PAIRS)] == [PAIRS]


def test_a_dry_run_says_how_many_pairs_it_takes_at_once_under_a_limit(tmp_path: Path) -> None:
    said: dict[float | None, list[str]] = {}
    for limit in (None, 50.0):
        training = {"batch_size": 4, "iters": 2, "memory_limit_gb": limit, "seed": 1}
        said[limit] = []
        sampler = {"max_completion_length": 8, "temperature": 2.0}  # two equal completions are left out
        settings = settings_for(tmp_path / "run", training=training, sampler=sampler)
        dry_run(load_config(settings), echo=said[limit].append)
    (line,) = [text for text in said[50.0] if "training.memory_limit_gb" in text]
    assert line.startswith("scoring  4 pairs at a time took ") and "memory_limit_gb's 50.0 GB" in line
    assert not any("training.memory_limit_gb" in text for text in said[None])
