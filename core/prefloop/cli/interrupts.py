"""Ctrl-C and SIGTERM end a run after the step it is in; a second one ends it at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import click

from prefloop.components import Observer
from prefloop.errors import StopRun
from prefloop.types import Evaluation, Step


class Interrupts(Observer):
    """Asks the run to stop once a signal has come. What is on the disk is whole at any moment."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def run_started(self, run: Any) -> None:
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def step_finished(self, step: Step) -> None:
        self._stop_if_asked()

    def evaluated(self, evaluation: Evaluation) -> None:
        self._stop_if_asked()

    def run_finished(self, run: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop_if_asked(self) -> None:
        if self.received:
            raise StopRun(f"stopped by {self.received}")

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        click.echo("Finishing this step, then stopping. Once more to leave at once.", err=True)
