"""TensorBoard: event files, written without TensorFlow and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from prefloop_trackers.entries import Rows, markdown
from prefloop_trackers.tracker import Start, Tracker, text


@define(eq=False)
class TensorBoard(Tracker):
    """Writes a run for TensorBoard: `tensorboard --logdir runs` shows all runs under it."""

    label: ClassVar[str] = "tensorboard"
    library: ClassVar[str] = "tensorboardX"

    log_dir: str | None = text(
        "Where the event files are written; null is `tensorboard` in the run's folder."
    )
    _writer: Any = field(init=False, default=None)

    def open(self, start: Start) -> str:
        from tensorboardX import SummaryWriter

        folder = self.log_dir or str(start.run / "tensorboard")
        # What an interrupted process wrote beyond what it noted as told is hidden, and comes again.
        purge = start.told + 1 if start.id else None
        self._writer = SummaryWriter(folder, purge_step=purge)
        if not start.id:
            rows = [{"setting": key, "value": str(value)} for key, value in start.config.items()]
            self._writer.add_text("config", markdown(rows), 0)
        return folder

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        self._writer.add_text(name, markdown(rows), step)

    def attach(self, report: Path) -> None:
        """TensorBoard keeps no files: it is told where the report is."""
        self._writer.add_text("report", str(report.resolve()), 0)

    def end(self, status: str) -> None:
        self._writer.add_text("status", status, 0)
        self._writer.close()
