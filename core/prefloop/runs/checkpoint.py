"""Checkpoints: everything that the next step depends on.

    checkpoints/0000100/
      adapters.safetensors, adapter_config.json    the trained tensors, as mlx-lm reads them
      optimizer.safetensors                        the optimizer, its step and its schedule
      components.safetensors                       the state of components, where one has any
      state.json                                   steps taken, evaluations so far
      rollouts.jsonl                               pairs that were sampled for steps to come, if any
      SHA256SUMS                                   of the files above, as `sha256sum --check` reads it

There is no random state: what a step draws depends on the run's seed and the step's number alone, and so
do the prompts it takes. A checkpoint appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from prefloop.components import Base
from prefloop.errors import UserError
from prefloop.evaluation.stats import COLLAPSED
from prefloop.loop import Loop, Rollout
from prefloop.model.adapters import ADAPTERS
from prefloop.model.mlx_lm_internals import not_finite
from prefloop.model.weight_sharing import arrays
from prefloop.runs.files import append_lines, discard, new_folder, read_lines, rewrite_json
from prefloop.runs.records import (
    completion_from_json,
    completion_to_json,
    evaluation_from_state,
    evaluation_to_state,
    verdict_from_json,
    verdict_to_json,
)
from prefloop.runs.view import CHECKPOINTS, checkpoints
from prefloop.settings import TrainingConfig
from prefloop.types import Evaluation, Pair, Prompt

OPTIMIZER = "optimizer.safetensors"
COMPONENTS = "components.safetensors"
STATE = "state.json"
ROLLOUTS = "rollouts.jsonl"
SUMS = "SHA256SUMS"


def not_sound(loop: Loop) -> str:
    """A tensor that is trained, or the optimizer's, with NaN or infinite numbers; empty where none is."""
    optimizer = {f"optimizer.{name}": value for name, value in arrays(loop.optimizer.state).items()}
    return next(iter(not_finite(loop.policy.trainable() | optimizer)), "")


def save_checkpoint(
    run: Path, loop: Loop, evaluations: Sequence[Evaluation], guard: Mapping[str, Any] = {}
) -> Path:
    """Write the checkpoint of the steps taken so far and return its folder. `guard` is a guard's state."""
    folder = run / CHECKPOINTS / f"{loop.steps_taken:07d}"
    folder.parent.mkdir(exist_ok=True)
    with new_folder(folder) as beside:
        loop.policy.save(beside)
        mx.save_safetensors(str(beside / OPTIMIZER), arrays(loop.optimizer.state))
        states = {key: component.state() for key, component in _components(loop).items()}
        named = {f"{key}/{name}": value for key, own in states.items() for name, value in own.items()}
        if named:
            mx.save_safetensors(str(beside / COMPONENTS), named)
        state = {
            "step": loop.steps_taken,
            "evaluations": [evaluation_to_state(evaluation) for evaluation in evaluations],
            "skipped": loop.skipped,
            "guard": dict(guard),
            "room": loop.room.state(),
        }
        rewrite_json(beside / STATE, state)
        # What is being sampled elsewhere is asked for again.
        if there := list(takewhile(lambda rollout: not rollout.drawing, loop.rollouts)):
            steps = enumerate(there, loop.steps_taken + 1)
            append_lines(beside / ROLLOUTS, [_rollout_to_json(*step) for step in steps])
        (beside / SUMS).write_text(_sums(beside), encoding="utf-8")
    return folder


def load_checkpoint(folder: Path, loop: Loop) -> list[Evaluation]:
    """Put a loop that has taken no step where the checkpoint was, and return the evaluations so far.

    Raises `UserError` where the checkpoint is damaged, or belongs to other settings.
    """
    try:
        if (folder / SUMS).read_bytes() != _sums(folder).encode():
            raise ValueError(f"its files are not those that {SUMS} lists")
        trained, optimizer, states = (
            arrays(mx.load(str(file))) if file.exists() else {}
            for file in (folder / ADAPTERS, folder / OPTIMIZER, folder / COMPONENTS)
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(folder, error) from error
    state = read_state(folder)
    model = loop.policy.model
    if {k: v.shape for k, v in trained.items()} != {k: v.shape for k, v in loop.policy.trainable().items()}:
        raise UserError(f"checkpoint '{folder}' does not fit the model and adapter settings of the run.")
    model.load_weights(list(trained.items()), strict=False)
    loop.optimizer.state = tree_unflatten(list(optimizer.items()))
    loop.optimizer.init(model.trainable_parameters())
    for key, component in _components(loop).items():
        own = {n.removeprefix(f"{key}/"): v for n, v in states.items() if n.startswith(f"{key}/")}
        if own:
            component.restore(own)
    loop.steps_taken = int(state["step"])
    loop.skipped = int(state.get("skipped", 0))
    loop.room.restore(state.get("room", {}))
    for line in read_lines(folder / ROLLOUTS, dict):
        loop.rollouts.append(_rollout_from_json(line, loop.prompts_of(line["step"])))
    mx.eval(model.trainable_parameters(), loop.optimizer.state)
    return [evaluation_from_state(found) for found in state["evaluations"]]


def _rollout_to_json(step: int, rollout: Rollout) -> dict[str, Any]:
    """A step to come: its prompts are those of its number, so only their completions are written."""
    verdicts = rollout.verdicts
    return {
        "step": step,
        "pairs": [[completion_to_json(c) for c in (pair.first, pair.second)] for pair in rollout.pairs],
        "verdicts": None if verdicts is None else [verdict_to_json(verdict) for verdict in verdicts],
    }


def _rollout_from_json(line: Mapping[str, Any], prompts: Sequence[Prompt]) -> Rollout:
    drawn = ([completion_from_json(c, "completion") for c in pair] for pair in line["pairs"])
    pairs = [Pair(prompt, *two) for prompt, two in zip(prompts, drawn, strict=True)]
    if (version := line.get("sampled_after")) is not None:  # of the first release, for all of them
        pairs = [pair.of_version(int(version)) for pair in pairs]
    verdicts = line["verdicts"]
    known = None if verdicts is None else [verdict_from_json(verdict) for verdict in verdicts]
    return Rollout(pairs, verdicts=known)


def ranked(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations made after a step, the best first: by win rate, the earlier of equal ones.

    Those of a collapsed policy come last: a judge may well like what it repeats.
    """
    before = next((e.metrics.get("distinct_2", math.nan) for e in evaluations if not e.step), math.nan)
    collapsed = {e.step for e in evaluations if e.metrics.get("distinct_2", math.nan) < COLLAPSED * before}
    later = [e for e in evaluations if e.step]
    return sorted(later, key=lambda e: (e.step not in collapsed, e.win_rate.rate), reverse=True)


def prune(run: Path, keep: TrainingConfig, steps: int, evaluations: Sequence[Evaluation]) -> None:
    """Remove the checkpoints of a run of so many `steps` that are not to be kept.

    Kept are the ``keep_last`` newest, the ``keep_best`` best, and the first at or after each of the points
    that divide the run into ``keep_spread + 1`` equal parts.
    """
    if keep.keep_last is None:
        return
    present = checkpoints(run)
    points = [steps * (i + 1) / (keep.keep_spread + 1) for i in range(keep.keep_spread)]
    kept = {next((step for step in present if step >= point), None) for point in points}
    kept.update([e.step for e in ranked(evaluations) if e.step in present][: keep.keep_best])
    for step in list(present)[: -keep.keep_last]:
        if step not in kept:
            discard(present[step])


def _components(loop: Loop) -> dict[str, Base]:
    """The components by their place in the configuration, which their states are named after."""
    bonuses = {f"bonuses.{i}": bonus for i, bonus in enumerate(loop.bonuses)}
    return {"sampler": loop.sampler, "judge": loop.judge, "loss": loop.loss, **bonuses}


def _sums(folder: Path) -> str:
    """A line ``<sha256>  <name>`` for each file."""
    lines = []
    for file in sorted(p for p in folder.iterdir() if p.name != SUMS):
        with file.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file.name}\n")
    return "".join(lines)


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself. Raises `UserError` where that cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    return state


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"checkpoint '{folder}' is damaged: {error}. Remove it to go on from the one before.")
