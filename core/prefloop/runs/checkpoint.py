"""Checkpoints: everything that the next step depends on.

    checkpoints/0000100/
      adapters.safetensors, adapter_config.json    the trained tensors, as mlx-lm reads them
      optimizer.safetensors                        the optimizer, its step and its schedule
      state.json                                   steps taken, evaluations so far, which prompts
      SHA256SUMS                                   of the files above, as `sha256sum --check` reads it

There is no random state: what a step draws depends on the run's seed and the step's number alone, and so
do the prompts it takes. A checkpoint appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from attrs import asdict
from mlx.utils import tree_unflatten

from prefloop.errors import UserError
from prefloop.runs.files import discard, new_folder, rewrite_json
from prefloop.loop import Loop
from prefloop.modules import arrays
from prefloop.policy import ADAPTERS
from prefloop.types import Completion, Evaluation, Pair, Prompt, Rate

FOLDER = "checkpoints"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
SUMS = "SHA256SUMS"
EXAMPLES = 3
"""How many pairs of an evaluation are kept to be shown."""


def save_checkpoint(run: Path, loop: Loop, evaluations: Sequence[Evaluation]) -> Path:
    """Write the checkpoint of the steps taken so far and return its folder."""
    folder = _folder(run, loop.steps_taken)
    folder.parent.mkdir(exist_ok=True)
    with new_folder(folder) as beside:
        loop.policy.save(beside)
        mx.save_safetensors(str(beside / OPTIMIZER), arrays(loop.optimizer.state))
        records = [_record(evaluation) for evaluation in evaluations]
        state = {"step": loop.steps_taken, "prompts": _fingerprint(loop.prompts), "evaluations": records}
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
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"checkpoint '{folder}' is damaged: {error}. Remove it to go on from the one before."
        ) from error
    if state["prompts"] != _fingerprint(loop.prompts):
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
    loop.steps_taken = int(state["step"])
    mx.eval(model.trainable_parameters(), loop.optimizer.state)
    return [_evaluation(record) for record in state["evaluations"]]


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's complete checkpoints, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("[0-9]*") if path.is_dir())


def prune(run: Path, keep_last: int | None, keep_best: int, evaluations: Sequence[Evaluation]) -> None:
    """Remove all but the `keep_last` newest checkpoints and the `keep_best` with the highest win rate."""
    if keep_last is None:
        return
    present = checkpoints(run)
    best = sorted(evaluations, key=lambda e: e.win_rate.rate, reverse=True)
    best_folders = [_folder(run, e.step) for e in best if _folder(run, e.step) in present][:keep_best]
    for folder in present[:-keep_last]:
        if folder not in best_folders:
            discard(folder)


def _folder(run: Path, step: int) -> Path:
    return run / FOLDER / f"{step:07d}"


def _sums(folder: Path) -> str:
    """A line ``<sha256>  <name>`` for each file."""
    lines = []
    for file in sorted(p for p in folder.iterdir() if p.name != SUMS):
        with file.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file.name}\n")
    return "".join(lines)


def _fingerprint(prompts: Sequence[Prompt]) -> str:
    """Equal for equal prompts in the same order."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.text, prompt.tokens]).encode())
    return digest.hexdigest()


def _record(evaluation: Evaluation) -> dict[str, Any]:
    examples = [(p.prompt.text, p.first.text, p.second.text) for p in evaluation.pairs[:EXAMPLES]]
    about = {"step": evaluation.step, "win_rate": asdict(evaluation.win_rate)}
    return {**about, "metrics": dict(evaluation.metrics), "examples": examples}


def _evaluation(record: dict[str, Any]) -> Evaluation:
    examples = [
        Pair(Prompt((), prompt), Completion((), first), Completion((), second))
        for prompt, first, second in record["examples"]
    ]
    return Evaluation(record["step"], Rate(**record["win_rate"]), record["metrics"], examples)
