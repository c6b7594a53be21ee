"""TensorBoard: event files, written without TensorFlow and without torch."""

from __future__ import annotations

import time
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
    _events: Any = field(init=False, default=None)

    def open(self, start: Start) -> str:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder = Path(self.log_dir or start.run / "tensorboard")
        folder.mkdir(parents=True, exist_ok=True)
        # Not `SummaryWriter`, whose thread may still hold what its `flush` was to write.
        self._events = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        if start.id:  # what was written beyond what was noted as told is hidden, and comes again
            self._write(start.told + 1, session_log=SessionLog(status=SessionLog.START))
        else:
            rows = [{"setting": key, "value": str(value)} for key, value in start.config.items()]
            self._write_text("config", markdown(rows), 0)
        return str(folder)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One record, which a kill does not cut apart: half of it is not read."""
        from tensorboardX.summary import Summary, scalar

        values = [value for name, number in numbers.items() for value in scalar(name, number).value]
        self._write(step, summary=Summary(value=values))

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        self._write_text(name, markdown(rows), step)

    def attach(self, report: Path) -> None:
        """TensorBoard keeps no files: it is told where the report is."""
        self._write_text("report", str(report.resolve()), 0)

    def end(self, status: str) -> None:
        self._write_text("status", status, 0)
        self._events.close()

    def _write_text(self, name: str, text: str, step: int) -> None:
        from tensorboardX.summary import text as summary_of

        self._write(step, summary=summary_of(name, text))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(step=step, wall_time=time.time(), **content))
        self._events.flush()
