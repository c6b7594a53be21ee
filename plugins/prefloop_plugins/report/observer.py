"""Writes the report of a run when it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import frozen

from prefloop import Observer

if TYPE_CHECKING:
    from prefloop import RunView


@frozen
class ReportObserver(Observer):
    """Writes ``report.html`` into the run's folder when the run ends."""

    def run_finished(self, run: RunView) -> None:
        """A finished run is finished, whether or not there is a page about it: trouble is a warning."""
        from prefloop_plugins.report import try_report

        if trouble := try_report(run.path):
            logging.getLogger("prefloop").warning(trouble)
