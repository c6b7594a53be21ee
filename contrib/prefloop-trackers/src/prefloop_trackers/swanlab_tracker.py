"""SwanLab."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import define, field

from prefloop_trackers.entries import Rows, markdown
from prefloop_trackers.secrets import no_secret
from prefloop_trackers.tracker import Start, Tracker, text

STATES = {"finished": "success", "stopped": "aborted"}


@define(eq=False)
class SwanLab(Tracker):
    """Tells SwanLab of a run. The key is that of `swanlab login`, or ``SWANLAB_API_KEY``."""

    label: ClassVar[str] = "swanlab"
    library: ClassVar[str] = "swanlab"

    project: str = field(default="prefloop", validator=no_secret, metadata={"help": "Project."})
    workspace: str | None = text("User or organisation; null is yours.")
    group: str | None = text("Group of runs.")
    description: str | None = text("A longer description.")
    tags: tuple[str, ...] = field(default=(), validator=no_secret, metadata={"help": "Tags."})
    mode: Literal["online", "local", "offline", "disabled"] | None = field(
        default=None,
        metadata={
            "help": "online, local, offline (`swanlab sync` sends it later) or disabled; null is `SWANLAB_MODE`."
        },
    )
    log_dir: str | None = text("Where its files are written; null is `swanlog` in the run's folder.")
    _run: Any = field(init=False, default=None)

    def open(self, start: Start) -> str:
        import swanlab

        id = start.id or secrets.token_hex(8)
        self._run = swanlab.init(
            project=self.project,
            workspace=self.workspace,
            group=self.group,
            description=self.description,
            tags=list(self.tags) or None,
            mode=self.mode,
            log_dir=self.log_dir or str(start.run / "swanlog"),
            name=start.name,
            id=id,
            resume="allow",
            reinit=True,
            config=dict(start.config),
        )
        return id

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        import swanlab

        self._run.log({name: swanlab.Text(markdown(rows))}, step=step)

    def attach(self, report: Path) -> None:
        import swanlab

        self._run.log({"report": swanlab.Html(str(report))})

    def end(self, status: str) -> None:
        self._run.finish(STATES.get(status, "crashed"), error="the run failed" if status == "failed" else None)
