"""The process that works on a run: which it is, and asking it to end.

It holds the lock on the run's folder and has written its number into it, so anybody can tell whether a run is
going on, and stop it, without having started it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import IO

from prefloop.errors import UserError
from prefloop.runs.view import LOCK, is_held


def take(folder: Path, what: str) -> IO[bytes]:
    """Keep other processes out of a folder until this one closes the file, and say in it which one it is.

    Raises `UserError` where another process holds it; `what` names the folder.
    """
    lock = (folder / LOCK).open("ab", buffering=0)
    for attempt in range(5):  # who looks whether a run is going on holds the lock for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if attempt == 4:
                lock.close()
                raise UserError(f"{what} is in use by another process; stop that first.") from error
            time.sleep(0.02)
    lock.truncate(0)
    lock.write(b"%d\n" % os.getpid())
    return lock


def holder_of(run: Path) -> int | None:
    """The process that holds the run in `run`: 0 where its number is not known, None where there is none."""
    if not is_held(run):
        return None
    try:
        return max(0, int((run / LOCK).read_bytes()))
    except (OSError, ValueError):
        return 0


def ask_to_end(run: Path) -> int:
    """Ask the run in `run` to end after the step it is in, with a checkpoint; the number of its process.

    Asked a second time, it ends at once. Raises `UserError` where it is not going on or cannot be asked.
    """
    process, name = holder_of(run), run.resolve().name
    if process is None:
        raise UserError(f"'{name}' is not going on.")
    if not process:
        raise UserError(f"'{name}' is going on, but which process it is cannot be told.")
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError as error:  # it has just ended, or runs on another machine
        raise UserError(f"'{name}' is not going on as a process of this machine.") from error
    except PermissionError as error:
        raise UserError(f"'{name}' is going on as process {process}, which is another user's.") from error
    return process
