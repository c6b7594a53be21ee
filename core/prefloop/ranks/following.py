"""The run as the ranks have it that do not write it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefloop.config import Config
from prefloop.runs.ledger import Ledger
from prefloop.runs.run import Run

if TYPE_CHECKING:
    from prefloop.model.policy import Policy


class FollowedRun(Run):
    """A run that rank 0 writes. What would be written is left out, and no checkpoint is known here."""

    def __init__(self, path: Path, config: Config) -> None:
        super().__init__(path, config, {"status": "running", "summary": {}})

    def begin(self, step: int, evaluated: Collection[int] = ()) -> None:
        """Keep the verdicts to come in memory, so that this rank asks what rank 0 asks."""
        self.ledger = Ledger(None)

    def checkpoints(self) -> dict[int, Path]:
        """None: rank 0 alone puts one back."""
        return {}

    def save_policy(self, policy: Policy) -> None:
        """Leave that to rank 0."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Note how the run ended."""
        self.manifest |= {"status": status, "summary": dict(summary)}

    def fail(self, error: BaseException) -> None:
        """Note what broke the run."""
        self.manifest |= {"status": "failed", "reason": str(error) or type(error).__name__}
