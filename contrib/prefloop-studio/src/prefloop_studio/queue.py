"""Runs that wait for their turn, and the process that starts one after the other.

    .studio/queue/<id>.json    what waits, oldest first
    .studio/queue/<id>.yaml    its configuration, which `prefloop train` is given
    .studio/queue/<id>.log     what it prints, until its run has a folder: then it is the run's log.txt
    .studio/queue/.lock        held by the process that starts them

`work` is that process. It goes on when the server ends, and ends itself when nothing waits. What did not come
as far as a run stays in the queue with its last words, until somebody has read them.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, evolve, frozen

from prefloop import UserError
from prefloop.runs.files import rewrite
from prefloop.runs.view import LOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKS = 0.2
"""Seconds between looks at a process that was started."""
_LAST_WORDS = 2000
"""Characters that are kept of what a run printed that came to nothing."""


@frozen
class Entry:
    """A run to be started, or one to go on with."""

    id: str
    run: str
    """Its name."""
    resume: bool = False
    overrides: tuple[str, ...] = ()
    began: str | None = None
    """The folder that it was started in, which relative paths begin from."""
    state: str = "waiting"
    """``waiting``, ``starting`` or ``failed``."""
    said: str = ""
    """Why it failed, in its own words."""


@frozen
class Queue:
    """The queue of the runs in `folder`."""

    folder: Path

    @property
    def place(self) -> Path:
        return self.folder / ".studio" / "queue"

    def entries(self) -> list[Entry]:
        """What waits, is being started, or came to nothing, oldest first."""
        found = []
        for file in sorted(self.place.glob("*.json")):
            with suppress(OSError, ValueError, TypeError):
                found.append(Entry(**json.loads(file.read_text(encoding="utf-8"))))
        return found

    def holds(self, run: str) -> bool:
        """Whether the run called `run` waits or is being started."""
        return any(entry.run == run and entry.state != "failed" for entry in self.entries())

    def add(
        self, run: str, config: str = "", *, resume: bool = False, overrides: Sequence[str] = ()
    ) -> Entry:
        """Let a run wait for its turn, and see to it that somebody starts it."""
        self.place.mkdir(parents=True, exist_ok=True)
        entry = Entry(f"{time.time_ns()}", run, resume, tuple(overrides), str(Path.cwd()))
        if not resume:
            rewrite(self.file(entry, ".yaml"), config.encode(errors="replace"))
        self.write(entry)
        self.wake()
        return entry

    def remove(self, id: str) -> None:
        """Take back what waits or failed. Raises `UserError` where it is not there, or is being started."""
        entry = next((entry for entry in self.entries() if entry.id == id), None)
        if entry is None:
            raise UserError("that does not wait any more.")
        if entry.state == "starting":
            raise UserError(f"'{entry.run}' is being started; stop it when it runs.")
        self.forget(entry)

    def forget(self, entry: Entry) -> None:
        """Remove what is kept of an entry."""
        for suffix in (".json", ".yaml", ".log"):
            self.file(entry, suffix).unlink(missing_ok=True)

    def write(self, entry: Entry) -> None:
        rewrite(self.file(entry, ".json"), json.dumps(asdict(entry)).encode())

    def file(self, entry: Entry, suffix: str) -> Path:
        return self.place / f"{entry.id}{suffix}"

    def wake(self) -> None:
        """Start the process that starts runs; where there is one already, the new one ends at once."""
        command = [sys.executable, "-m", "prefloop_studio.queue", str(self.folder)]
        nothing = subprocess.DEVNULL
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def work(queue: Queue) -> None:
    """Start what waits, one after the other, until nothing does; only one process does so at a time."""
    with (queue.place / ".lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            while waiting := [entry for entry in queue.entries() if entry.state in ("waiting", "starting")]:
                try:
                    _run(queue, waiting[0])
                except OSError as error:  # such as a folder that was removed while it waited
                    queue.write(evolve(waiting[0], state="failed", said=f"It could not be started: {error}."))
            fcntl.flock(lock, fcntl.LOCK_UN)
            if not any(entry.state == "waiting" for entry in queue.entries()):  # none came in between
                return


def _run(queue: Queue, entry: Entry) -> None:
    """Start a run and wait for its end."""
    folder = queue.folder / entry.run
    queue.write(evolve(entry, state="starting"))
    log = folder / "log.txt" if entry.resume else queue.file(entry, ".log")
    with log.open("ab") as printed:
        before = printed.tell()
        process = subprocess.Popen(
            [*_command(queue, entry), *(f"--set={override}" for override in entry.overrides)],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=entry.began,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    began = False
    while process.poll() is None:
        began = began or _began(queue, entry, folder, process.pid)
        time.sleep(_LOOKS)
    if began or _began(queue, entry, folder, process.pid):
        return
    said = log.read_bytes()[before:].decode(errors="replace")[-_LAST_WORDS:].strip()
    queue.write(evolve(entry, state="failed", said=said or "It ended without a word."))


def _command(queue: Queue, entry: Entry) -> list[str]:
    given = ["--resume", str(queue.folder / entry.run)] if entry.resume else [str(queue.file(entry, ".yaml"))]
    return [sys.executable, "-m", "prefloop", "train", *given]


def _began(queue: Queue, entry: Entry, folder: Path, process: int) -> bool:
    """Whether the run has its folder; if so its log is put there, and it waits no longer."""
    try:
        began = int((folder / LOCK).read_bytes()) == process and (folder / "run.json").is_file()
    except (OSError, ValueError):
        return False
    if began:
        if not entry.resume:
            queue.file(entry, ".log").replace(folder / "log.txt")
        queue.forget(entry)
    return began


if __name__ == "__main__":
    work(Queue(Path(sys.argv[1])))
