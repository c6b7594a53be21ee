"""The policy that a run ended with, loaded to be exported, and where an export may go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve, frozen

from prefloop.beginning import beginning_of, begun
from prefloop.config import Config
from prefloop.errors import UserError
from prefloop.model.policy import Policy
from prefloop.runs.files import new_folder
from prefloop.runs.view import open_run
from prefloop_plugins.commands.evaluating import (
    Snapshot,
    check_model,
    load_snapshot,
    run_settings,
    snapshot_of,
)


@frozen(eq=False)
class Trained:
    """The policy of a run after some step, and what it was trained with."""

    policy: Policy
    snapshot: Snapshot
    config: Config

    @property
    def is_quantized(self) -> bool:
        """Whether the weights that the adapters belong to are quantized."""
        return any("scales" in module for _, module in self.policy.model.named_modules())


def load_trained(run: Path, which: str | None = None) -> Trained:
    """The policy that `run` ended with, or that of a checkpoint (`which`).

    What it started from and what it was kept near are not needed any more. Raises `UserError` where the run,
    its adapters or its model are missing, damaged or not what they were.
    """
    config = run_settings(run)
    config = evolve(config, reference="base", adapter=evolve(config.adapter, resume_from=None))
    snapshot = snapshot_of(run, which)
    with begun(beginning_of(open_run(run).manifest)):
        policy = Policy.load(config.model, config.adapter, seed=config.training.seed)
        check_model(run, config)
    load_snapshot(policy, snapshot.folder)
    return Trained(policy, snapshot, config)


def refuse_taken(place: Path, option: str = "--output") -> None:
    """Raises `UserError` where something is there already."""
    if os.path.lexists(place):
        raise UserError(f"{place}: exists already. Give another {option}, or remove it.")


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name once it is complete."""
    with _disk_errors(folder), new_folder(folder) as beside:
        yield beside


@contextmanager
def written_file(file: Path) -> Iterator[Path]:
    """A file that appears under its name once it is complete."""
    with _disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
            beside = Path(folder) / file.name
            yield beside
            beside.replace(file)


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {error.strerror or error}.") from error
