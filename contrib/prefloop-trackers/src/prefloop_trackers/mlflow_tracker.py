"""MLflow: a server, a database or a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from prefloop_trackers.entries import Rows
from prefloop_trackers.tracker import Start, Tracker, text

PARAMS = 100
"""Parameters that MLflow takes at once."""
LONGEST = 6000
"""Characters of a parameter that it takes."""
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@define(eq=False)
class MLflow(Tracker):
    """Tells MLflow of a run. Its user and password are in ``MLFLOW_TRACKING_USERNAME`` and its like."""

    label: ClassVar[str] = "mlflow"
    library: ClassVar[str] = "mlflow"

    tracking_uri: str | None = text(
        "Server, database or folder; null is `MLFLOW_TRACKING_URI`, else MLflow's."
    )
    experiment: str | None = text("Experiment; null is that of `MLFLOW_EXPERIMENT_NAME`, else prefloop.")
    description: str | None = text("A longer description.")
    tags: Mapping[str, str] = field(factory=dict, metadata={"help": "Tags, as names with values."})
    _client: Any = field(init=False, default=None)
    _id: str = field(init=False, default="")

    def open(self, start: Start) -> str:
        # Retries are this package's: with MLflow's own, one call may take many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self.tracking_uri)
        if start.id:
            self._client.update_run(start.id, status="RUNNING")
            self._id = start.id
            return start.id
        tags = dict(self.tags) | ({"mlflow.note.content": self.description} if self.description else {})
        made = self._client.create_run(self._experiment(), run_name=start.name, tags=tags)
        self._id = made.info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in start.config.items()]
        for first in range(0, len(params), PARAMS):
            self._client.log_batch(self._id, params=params[first : first + PARAMS])
        return self._id

    def _experiment(self) -> str:
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "prefloop"
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def known(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self._client.get_run(self._id).data.metrics
        return found

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def log_table(self, step: int, name: str, rows: Rows) -> None:
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        self._client.log_table(self._id, columns, artifact_file=f"{name}.json")

    def attach(self, report: Path) -> None:
        self._client.log_artifact(self._id, str(report))

    def end(self, status: str) -> None:
        self._client.set_terminated(self._id, STATUS.get(status, "FAILED"))
