"""Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import define, field

from prefloop import UserError
from prefloop_trackers.entries import COUNTS, Rows, largest
from prefloop_trackers.secrets import no_secret
from prefloop_trackers.tracker import Start, Tracker, text
from prefloop_trackers.wandb_files import counts_in

STEP = "step"
"""The axis of every chart: W&B's own step counts calls."""


@define(eq=False)
class Wandb(Tracker):
    """Tells Weights & Biases of a run. The key is that of `wandb login`, or ``WANDB_API_KEY``."""

    label: ClassVar[str] = "wandb"
    library: ClassVar[str] = "wandb"

    project: str | None = text("Project; null is that of `WANDB_PROJECT`, else prefloop.")
    entity: str | None = text("User or team; null is your default.")
    group: str | None = text("Group of runs.")
    job_type: str | None = text("Kind of run, such as train.")
    notes: str | None = text("A longer description.")
    tags: tuple[str, ...] = field(default=(), validator=no_secret, metadata={"help": "Tags."})
    mode: Literal["online", "offline", "disabled"] | None = field(
        default=None,
        metadata={"help": "online, offline (`wandb sync` sends it later) or disabled; null is `WANDB_MODE`."},
    )
    dir: str | None = text("Where its files are written; null is `WANDB_DIR`, else the run's folder.")
    _run: Any = field(init=False, default=None)
    _folder: str = field(init=False, default="")

    def check(self) -> None:
        import wandb

        if (self.mode or os.environ.get("WANDB_MODE") or "online") != "online":
            return
        if not wandb.login(prompt=False, verify=False):
            raise UserError(
                "wandb has no key: run `wandb login`, set WANDB_API_KEY, or write 'mode: offline'."
            )

    def open(self, start: Start) -> str:
        import wandb

        if self._run is not None:  # its service may be gone
            with suppress(Exception):
                wandb.teardown()
        id = start.id or secrets.token_hex(4)
        self._folder = self.dir or os.environ.get("WANDB_DIR") or str(start.run)
        self._run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "prefloop",
            entity=self.entity,
            group=self.group,
            job_type=self.job_type,
            notes=self.notes,
            tags=self.tags or None,
            mode=self.mode,
            dir=self._folder,
            id=id,
            name=start.name,
            config=dict(start.config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        return id

    def known(self) -> Mapping[str, float]:
        """What the server had as the run was opened, or the files of offline mode have."""
        if not self._run.offline:
            return {name: self._run.summary[name] for name in COUNTS.values() if name in self._run.summary}
        folder = Path(self._folder) / "wandb"
        return largest(
            row for file in folder.glob(f"offline-run-*-{self._run.id}/*.wandb") for row in counts_in(file)
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({STEP: step, **numbers})

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        import wandb

        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self._run.log({STEP: step, name: table})

    def attach(self, report: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"run-{self._run.id}-report", type="report")
        artifact.add_file(str(report))
        self._run.log_artifact(artifact)

    def end(self, status: str) -> None:
        self._run.finish(exit_code=int(status == "failed"))
