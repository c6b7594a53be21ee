"""Training as processes of their own, which go on when the server ends.

A run's process holds the lock on its folder and has written its number into it, so anybody can tell whether a
run is going on, and stop it, without having started it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from prefloop import UserError
from prefloop.runs.view import LOCK, is_held


def holder_of(run: Path) -> int | None:
    """The process that holds the run in `run`: 0 where its number is not known, None where there is none."""
    if not is_held(run):
        return None
    try:
        return int((run / LOCK).read_bytes())
    except (OSError, ValueError):
        return 0


def stop(run: Path) -> None:
    """Ask the run to end after the step it is in, with a checkpoint. Raises `UserError`."""
    process = holder_of(run)
    if process is None:
        raise UserError(f"'{run.name}' is not going on.")
    if not process:
        raise UserError(f"'{run.name}' is going on, but which process it is cannot be told.")
    os.kill(process, signal.SIGTERM)
