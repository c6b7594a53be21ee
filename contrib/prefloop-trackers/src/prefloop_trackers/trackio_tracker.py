"""trackio: a local database, or a Space of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from prefloop_trackers.entries import COUNTS, Rows, largest
from prefloop_trackers.tracker import Start, Tracker, text


@define(eq=False)
class Trackio(Tracker):
    """Tells trackio of a run. The token of a Space is that of `hf auth login`, or ``HF_TOKEN``."""

    label: ClassVar[str] = "trackio"
    library: ClassVar[str] = "trackio"

    project: str = field(default="prefloop", metadata={"help": "Project."})
    group: str | None = text("Group of runs.")
    space_id: str | None = text("Space to send it to, as owner/name; null keeps it on this machine.")
    private: bool | None = field(
        default=None, metadata={"help": "Whether a Space that is made is private; null is its owner's rule."}
    )
    _run: Any = field(init=False, default=None)

    def open(self, start: Start) -> str:
        import trackio

        self._run = trackio.init(
            self.project,
            name=start.name,
            group=self.group,
            space_id=self.space_id,
            private=self.private,
            config=dict(start.config),
            resume="must" if start.id else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        if start.id and self._run.id != start.id:
            raise RuntimeError(f"project '{self.project}' has a later run that is called '{start.name}' too")
        return str(self._run.id)

    def known(self) -> Mapping[str, float] | None:
        """A Space cannot be asked: what was noted counts."""
        if self.space_id:
            return None
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_logs(self.project, self._run.name, run_id=self._run.id)
        return largest((name, row[name]) for row in rows for name in COUNTS.values() if name in row)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        import pandas
        import trackio

        self._run.log({name: trackio.Table(dataframe=pandas.DataFrame(rows))}, step=step)

    def attach(self, report: Path) -> None:
        import trackio

        artifact = trackio.Artifact(f"{self._run.name}-report", type="report")
        artifact.add_file(str(report))
        self._run.log_artifact(artifact)

    def end(self, status: str) -> None:
        self._run.finish()
