"""Checkpoints: everything that the next step depends on.

    checkpoints/0000100/
      adapters.safetensors, adapter_config.json    the trained tensors, as mlx-lm reads them
      optimizer.safetensors                        the optimizer, its step and its schedule
      components.safetensors                       what a component remembers, where one is `Stateful`
      state.json                                   steps taken, evaluations so far, which prompts
      SHA256SUMS                                   of the files above, as `sha256sum --check` reads it

There is no random state: what a step draws depends on the run's seed and the step's number alone, and so
do the prompts it takes. A checkpoint appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from attrs import asdict
from mlx.utils import tree_unflatten

from prefloop.components import Base
from prefloop.errors import UserError
from prefloop.evaluation.record import finite
from prefloop.loop import Loop
from prefloop.model.policy import ADAPTERS
from prefloop.model.weight_sharing import arrays
from prefloop.runs.early_stopping import ranked
from prefloop.runs.files import discard, new_folder, rewrite_json
from prefloop.types import Completion, Evaluation, Pair, Prompt, Rate

FOLDER = "checkpoints"
OPTIMIZER = "optimizer.safetensors"
COMPONENTS = "components.safetensors"
STATE = "state.json"
SUMS = "SHA256SUMS"
EXAMPLES = 3
"""How many pairs of an evaluation are kept to be shown."""


def save_checkpoint(run: Path, loop: Loop, evaluations: Sequence[Evaluation]) -> Path:
    """Write the checkpoint of the steps taken so far and return its folder."""
    folder = folder_of(run, loop.steps_taken)
    folder.parent.mkdir(exist_ok=True)
    with new_folder(folder) as beside:
        loop.policy.save(beside)
        mx.save_safetensors(str(beside / OPTIMIZER), arrays(loop.optimizer.state))
        if remembered := _remembered(loop):
            mx.save_safetensors(str(beside / COMPONENTS), remembered)
        records = [_record(evaluation) for evaluation in evaluations]
        state = {"step": loop.steps_taken, "prompts": fingerprint(loop.prompts), "evaluations": records}
        rewrite_json(beside / STATE, state)
        (beside / SUMS).write_text(_sums(beside), encoding="utf-8")
    return folder


def load_checkpoint(folder: Path, loop: Loop) -> list[Evaluation]:
    """Put a loop that has taken no step where the checkpoint was, and return the evaluations so far.

    Raises `UserError` where the checkpoint is damaged, or belongs to other settings or prompts.
    """
    try:
        if (folder / SUMS).read_bytes() != _sums(folder).encode():
            raise ValueError(f"its files are not those that {SUMS} lists")
        trained = arrays(mx.load(str(folder / ADAPTERS)))
        optimizer = arrays(mx.load(str(folder / OPTIMIZER)))
        there = (folder / COMPONENTS).exists()
        remembered = arrays(mx.load(str(folder / COMPONENTS))) if there else {}
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"checkpoint '{folder}' is damaged: {error}. Remove it to go on from the one before."
        ) from error
    if state["prompts"] != fingerprint(loop.prompts):
        raise UserError(
            f"the prompts are not those that checkpoint '{folder}' was trained on. Put the data back as they "
            "were, or start a new run from it with adapter.resume_from."
        )
    model = loop.policy.model
    if {k: v.shape for k, v in trained.items()} != {k: v.shape for k, v in loop.policy.trainable().items()}:
        raise UserError(f"checkpoint '{folder}' does not fit the model and adapter settings of the run.")
    model.load_weights(list(trained.items()), strict=False)
    loop.optimizer.state = tree_unflatten(list(optimizer.items()))
    loop.optimizer.init(model.trainable_parameters())
    _remind(loop, remembered)
    loop.steps_taken = int(state["step"])
    mx.eval(model.trainable_parameters(), loop.optimizer.state)
    return evaluations_in(state)


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's complete checkpoints, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("[0-9]*") if path.is_dir())


def prune(run: Path, keep_last: int | None, keep_best: int, evaluations: Sequence[Evaluation]) -> None:
    """Remove all but the `keep_last` newest checkpoints and the `keep_best` with the highest win rate."""
    if keep_last is None:
        return
    present = checkpoints(run)
    folders = [folder_of(run, e.step) for e in ranked(evaluations)]
    kept = [folder for folder in folders if folder in present][:keep_best]
    for folder in present[:-keep_last]:
        if folder not in kept:
            discard(folder)


def _components(loop: Loop) -> dict[str, Base]:
    """The components by their place in the configuration."""
    bonuses = {f"bonuses.{i}": bonus for i, bonus in enumerate(loop.bonuses)}
    return {"sampler": loop.sampler, "judge": loop.judge, "loss": loop.loss, **bonuses}


def _remembered(loop: Loop) -> dict[str, mx.array]:
    """Their states together, each name after the component's key and a slash."""
    states = {key: component.state() for key, component in _components(loop).items()}
    return {f"{key}/{name}": value for key, state in states.items() for name, value in state.items()}


def _remind(loop: Loop, remembered: Mapping[str, mx.array]) -> None:
    for key, component in _components(loop).items():
        own = {n.removeprefix(f"{key}/"): v for n, v in remembered.items() if n.startswith(f"{key}/")}
        if own:
            component.restore(own)


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of so many steps is."""
    return run / FOLDER / f"{step:07d}"


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
        raise UserError(f"checkpoint '{folder}' is damaged: {error}.") from error
    return state


def evaluations_in(state: Mapping[str, Any]) -> list[Evaluation]:
    """The evaluations made until a checkpoint, each with its first pairs."""
    return [_evaluation(found) for found in state["evaluations"]]


def fingerprint(prompts: Sequence[Prompt]) -> str:
    """Equal for equal prompts in the same order: which ones a run is trained on."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.text, prompt.tokens]).encode())
    return digest.hexdigest()


def _record(evaluation: Evaluation) -> dict[str, Any]:
    examples = [(p.prompt.text, p.first.text, p.second.text) for p in evaluation.pairs[:EXAMPLES]]
    about = {"step": evaluation.step, "win_rate": asdict(evaluation.win_rate)}
    return {**about, "metrics": finite(evaluation.metrics), "examples": examples}


def _evaluation(record: dict[str, Any]) -> Evaluation:
    examples = [
        Pair(Prompt((), prompt), Completion((), first), Completion((), second))
        for prompt, first, second in record["examples"]
    ]
    metrics = {name: math.nan if value is None else value for name, value in record["metrics"].items()}
    return Evaluation(record["step"], Rate(**record["win_rate"]), metrics, examples)
