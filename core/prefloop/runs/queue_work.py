"""Training what is left of a queue, each run in a process of its own, one after the other.

The queue's process holds ``.lock``. It hands the lock on ``.running`` to the process of the run, which holds
it until it ends, whatever becomes of the queue: a queue that is taken up again waits for a run that was left.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any, TextIO

from attrs import define, field

from prefloop.errors import UserError
from prefloop.registry import DEFAULTS, Registry
from prefloop.runs.files import disk_errors_as_user_errors
from prefloop.runs.holding import take
from prefloop.runs.queue import LEFT, RUNNING, STOPPED, Entry, Queue, open_queue
from prefloop.runs.view import open_run
from prefloop.text import printable

_LOOKS = 0.1
"""Seconds between looks at the process of a run."""
_LONGEST = 600
"""Characters that are kept of what a run said last."""


def work(
    queue: Queue,
    echo: Callable[[str], object],
    *,
    retry_failed: bool = False,
    accept_change: bool = False,
) -> int:
    """Train what is left of a queue, and return the exit code: 0 where all runs are finished, 130 where it
    was stopped, else 1.

    Raises `UserError` where another process works on it.
    """
    with disk_errors_as_user_errors(queue.path), take(queue.path, f"queue '{queue.path}'"):
        queue = open_queue(queue.path)
        _wait_for_what_was_left(queue, echo)
        worker = _Worker(queue, echo, accept_change)
        due = (*LEFT, "failed") if retry_failed else LEFT
        with worker.signals():
            for number, entry in enumerate(queue.entries, 1):
                if queue.state(entry) in due and not worker.stopped:
                    echo(printable(f"\n── run {number} of {len(queue.entries)}: {entry.name}"))
                    worker.train(entry)
        finished = "finished" in worker.queue.states().values()
        told = not worker.stopped and finished and compare(queue, echo)
        return _end(worker.queue, worker.stopped, told, echo)


@define
class _Worker:
    """The process of a queue, and that of the run which has its turn."""

    queue: Queue
    echo: Callable[[str], object]
    accept_change: bool
    stopped: bool = field(default=False, init=False)
    """Whether a signal, or the person who judges, asks the whole queue to end."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def train(self, entry: Entry) -> None:
        """Train a run, or go on with it, and note how that ended."""
        if entry.exit is not None:
            self.queue = self.queue.noted(entry.name, None)
        code, said = self._wait(self._command(entry))
        self.queue = self.queue.noted(entry.name, code, said if code else "")
        if code == STOPPED and _asks_a_person(self.queue.folder_of(entry)):
            self.stopped = True  # who leaves does not want to be asked by the next run

    def _command(self, entry: Entry) -> list[str]:
        """What trains a run; relative paths in it are meant from where the queue was made."""
        here = self.queue.began.folder == Path.cwd()
        folder, config = (
            path if here else path.absolute()
            for path in (self.queue.folder_of(entry), self.queue.config_of(entry))
        )
        if (folder / "run.json").exists():
            return ["--resume", str(folder), *(["--accept-change"] if self.accept_change else [])]
        return [str(config), f"--set=output.path={json.dumps(str(folder), ensure_ascii=False)}"]

    def _wait(self, arguments: list[str]) -> tuple[int, str]:
        """Run `prefloop train` to its end; its exit code, and what it said last as an error.

        What it prints goes through files, but on a terminal, which a person may be asked at: a run that is
        left by a queue which was killed has nobody to print to.
        """
        folder, lock = self.queue.began.folder, _lock_of_run(self.queue.path)
        printed = [_Printed(self.queue.path / ".stderr", sys.stderr)]
        printed += [] if sys.stdout.isatty() else [_Printed(self.queue.path / ".stdout", sys.stdout)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefloop", "train", *arguments],
                stdout=printed[1].writing if printed[1:] else _descriptor(),
                stderr=printed[0].writing,
                cwd=folder if folder.is_dir() else None,
                pass_fds=(lock,),
            )
            os.close(lock)  # from here on the run alone holds it
            if self.stopped:  # asked just before there was a process to tell
                self.process.terminate()
            while self.process.poll() is None:
                time.sleep(_LOOKS)
                for each in printed:
                    each.pass_on()
            for each in printed:
                each.pass_on()
        except BaseException:  # such as nobody reading any more what is printed here
            if self.process and self.process.poll() is None:
                self.process.terminate()
                self.process.wait()
            raise
        words = _last_words(printed[0].file.read_text(encoding="utf-8", errors="replace"))
        for each in printed:
            each.close()
        return self.process.returncode, words

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run that has its turn, in its own way, and then the queue."""
        before = {s: signal.signal(s, self._asked) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.stopped = True
        told = number == signal.SIGINT and _in_the_foreground()  # the terminal has told the run as well
        if self.process and not told:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


def _lock_of_run(queue: Path) -> int:
    """A descriptor with the lock that says that a run has its turn, to be handed to it and closed here."""
    lock = os.open(queue / RUNNING, os.O_WRONLY | os.O_CREAT, 0o644)
    with suppress(BlockingIOError):  # by something that an earlier run has left behind
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


class _Printed:
    """A file that a run prints into, and what was printed passed on."""

    def __init__(self, file: Path, to: TextIO) -> None:
        self.file, self.to = file, to
        self.writing = file.open("wb")
        self._reading = file.open("rb")

    def pass_on(self) -> None:
        if printed := self._reading.read():
            self.to.flush()
            self.to.buffer.write(printed)
            self.to.buffer.flush()

    def close(self) -> None:
        self.writing.close()
        self._reading.close()
        self.file.unlink(missing_ok=True)


def _wait_for_what_was_left(queue: Queue, echo: Callable[[str], object]) -> None:
    """Wait until no run has its turn: one goes on where the queue's process alone was killed."""
    with (queue.path / RUNNING).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = [name for name, state in queue.states().items() if state == "running"]
            which = f"'{running[0]}'" if running else "a run that was being started"
            echo(printable(f"The queue was killed, and {which} of it goes on. Waiting for its end."))
            fcntl.flock(lock, fcntl.LOCK_EX)


def _in_the_foreground() -> bool:
    """Whether Ctrl-C on the terminal reaches this process, and so its children."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _descriptor() -> int | None:
    """Where what is printed goes: not to standard output where a document is to stand there alone."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):
        return None


def _last_words(said: str) -> str:
    """The first line with an error, or the last line of all, as a traceback has it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = (line.removeprefix("error: ") for line in lines if line.startswith("error: "))
    return next(errors, lines[-1] if lines else "")[:_LONGEST]


def _asks_a_person(run: Path) -> bool:
    try:
        return open_run(run).asks_a_person
    except UserError:
        return False


def compare(queue: Queue, echo: Callable[[str], object]) -> bool:
    """Have the comparison written and printed, where the plugin that does it takes part; whether it was."""
    command = DEFAULTS["comparison"]
    if not any(provider.name == command for provider in Registry().commands):
        return False
    arguments: list[Any] = [sys.executable, "-m", "prefloop", *command.split(), queue.path]
    echo("")
    if subprocess.run(arguments, stdout=_descriptor(), check=False).returncode == 0:
        return True
    echo(f"The comparison could not be made. To try again: prefloop {command} {quote(str(queue.path))}")
    return False


def _end(queue: Queue, stopped: bool, told: bool, echo: Callable[[str], object]) -> int:
    """Say how all of it ended, with what failed where that has not been told."""
    states = queue.states()
    finished = sum(state == "finished" for state in states.values())
    echo(f"\n{finished} of {len(states)} runs are finished. The queue is in {queue.path}.")
    for entry in queue.entries:
        state = states[entry.name]
        if (state == "failed" and not told) or (state in LEFT and not stopped):
            echo(printable(f"  {entry.name}: {state}{_because(queue, entry)}"))
    again = f"prefloop train --resume {quote(str(queue.path))}"
    if any(state in LEFT for state in states.values()):
        echo(f"To go on:\n  {again}")
    if "failed" in states.values():
        echo(f"To try again what failed:\n  {again} --retry-failed")
    if stopped and finished < len(states):
        return STOPPED
    return 0 if finished == len(states) else 1


def _because(queue: Queue, entry: Entry) -> str:
    if entry.exit is not None and entry.exit < 0:
        return f", ended by {signal.Signals(-entry.exit).name}"
    reason = queue.reason(entry)
    return f": {reason}" if reason else ""
