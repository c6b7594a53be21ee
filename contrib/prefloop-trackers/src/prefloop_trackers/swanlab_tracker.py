"""SwanLab."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import define, field

from prefloop import UserError
from prefloop_trackers.entries import Rows, largest, markdown
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
            "help": "online, local, offline (`swanlab sync` sends it later) or disabled; null is that of "
            "`SWANLAB_MODE`."
        },
    )
    log_dir: str | None = text("Where its files are written; null is `swanlog` in the run's folder.")
    _run: Any = field(init=False, default=None)
    _folder: str = field(init=False, default="")

    def check(self) -> None:
        import swanlab

        settings = swanlab.Settings()
        if (self.mode or settings.mode) == "online" and not settings.api_key:
            raise UserError(
                "swanlab has no key: run `swanlab login`, set SWANLAB_API_KEY, or write 'mode: offline'."
            )

    def open(self, start: Start) -> str:
        import swanlab

        self._folder = self.log_dir or str(start.run / "swanlog")
        id = start.id or secrets.token_hex(8)
        self._run = swanlab.init(
            project=self.project,
            workspace=self.workspace,
            group=self.group,
            description=self.description,
            tags=list(self.tags) or None,
            mode=self.mode,
            log_dir=self._folder,
            name=start.name,
            id=id,
            resume="allow",
            reinit=True,
            config=dict(start.config),
            settings=swanlab.Settings(interactive=False),  # there is nobody to be asked in this thread
        )
        return id

    def known(self) -> Mapping[str, float] | None:
        """What the files of offline mode have; its server cannot be asked, so what was noted counts there."""
        if self._run.mode == "online":
            return None
        from swanlab.exceptions import DataStoreError
        from swanlab.proto.swanlab.record.v1.record_pb2 import Record
        from swanlab.sdk.internal.core_python.store import DataStoreReader

        found = []
        for file in Path(self._folder).glob(f"run-*-{self._run.id}/*.swanlab"):
            reader = DataStoreReader()
            with suppress(DataStoreError, AssertionError):  # a file that is new, or was being written
                reader.open(file)
                for data in reader:
                    record = Record.FromString(data)
                    found.append((record.scalar.key, record.scalar.step))
            reader.close()
        return largest(found)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        import swanlab

        self._run.log({name: swanlab.Text(markdown(rows))}, step=step)

    def attach(self, report: Path) -> None:
        import swanlab

        self._run.log({"report": swanlab.Html(str(report))})

    def end(self, status: str) -> None:
        self._run.finish(
            STATES.get(status, "crashed"), error="the run failed" if status == "failed" else None
        )
