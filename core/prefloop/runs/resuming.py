"""What may change when a run is taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefloop.config import Config, load_config
from prefloop.config.dump import to_plain
from prefloop.errors import UserError
from prefloop.loop import Loop
from prefloop.runs.checkpoint import checkpoints
from prefloop.runs.plan import Division
from prefloop.runs.run import check_config, read_manifest
from prefloop.runs.view import CONFIG
from prefloop.sampling.generator import POOL_BYTES

MAY_CHANGE = frozenset(
    f"training.{name}"
    for name in (
        "iters",
        "epochs",
        "report_every",
        "evaluate_every",
        "save_every",
        "keep_last",
        "keep_best",
        "early_stop",
        "min_delta",
        "load_best",
        "max_skipped",
        "memory_limit_gb",
    )
) | {"output.report"}
LENGTHS = {"training.iters", "training.epochs"}


def saved_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of the run in `path`, with what `overrides` may change.

    Raises `UserError` where `path` holds no run or a changed configuration, and where `overrides` would
    make it another run: its steps so far were taken with the settings that it has.
    """
    read_manifest(path)
    check_config(path)
    before = load_config(path / CONFIG)
    after = load_config(path / CONFIG, overrides) if overrides else before
    changed = changes(before, after)
    if refused := sorted(changed.keys() - MAY_CHANGE):
        told = "; ".join(f"{key} from {changed[key][0]!r} to {changed[key][1]!r}" for key in refused)
        raise UserError(
            f"'{path}' cannot go on with other settings: {told}. Its steps so far were taken as it was; "
            f"start a new run, or change only {', '.join(sorted(MAY_CHANGE))}."
        )
    taken = max((int(folder.name) for folder in checkpoints(path)), default=0)
    if after.training.iters is not None and after.training.iters < taken:
        raise UserError(
            f"'{path}' has taken {taken} steps already: training.iters: {after.training.iters} would end "
            "before."
        )
    schedule = after.training.schedule
    if schedule and changed.keys() & LENGTHS and not schedule.options.keys() & {"decay_steps", "steps"}:
        raise UserError(
            f"'{path}' cannot change its length: its learning-rate schedule '{schedule.use}' was laid out "
            "over it."
        )
    return after


def saved_division(path: Path, loop: Loop) -> Division:
    """How the run in `path` divides its steps; one from before this was written down divided none."""
    saved = read_manifest(path).get("plan", {}).get("division")
    return Division(**saved) if saved else Division(loop.micro_batch, POOL_BYTES)


def changes(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by key path, with their values before and after."""
    old, new = (_flat(to_plain(config, config.origins)) for config in (before, after))
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}.{key}" if path else key)
    return flat
