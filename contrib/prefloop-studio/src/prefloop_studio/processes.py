"""The processes of runs, and commands that the pages wait for.

A run's process holds the lock on its folder and has written its number into it, so anybody can tell whether a
run is going on, and stop it, without having started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prefloop import UserError
from prefloop.runs.view import LOCK, is_held

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def run_command(
    arguments: Sequence[str], seconds: float, what: str, module: str = "prefloop"
) -> subprocess.CompletedProcess[str]:
    """Run `prefloop` with these arguments. Raises `UserError` where `what`, in words, takes too long."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what} was given up after {seconds:g} seconds.") from error
