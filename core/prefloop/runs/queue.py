"""A queue: several runs that are trained one after the other, in one folder, as files.

    runs/queue-<name>-<number>/
      queue.json       what was asked for, the runs in their order, and how the latest try of each ended
      <run>.yaml       the whole configuration of a run, which `prefloop train` takes as well
      <run>/           its run folder, once it has begun
      comparison.md, comparison.html     made when all have had their turn
      .lock            held by the process of the queue
      .running         held by the process of the run that has its turn

How a run stands is read from its own folder. `queue_work` trains them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, field, frozen

from prefloop.beginning import Beginning, beginning_of
from prefloop.config import dump_config
from prefloop.config.grid import Member
from prefloop.errors import UserError
from prefloop.runs.files import rewrite_json
from prefloop.runs.view import MANIFEST, QUEUE, open_run
from prefloop.text import in_a_line

RUNNING = ".running"
LEFT = ("waiting", "stopped", "interrupted")
"""The states of runs that a resumed queue goes on with; those that failed, only where it is asked to."""
STOPPED = 130
"""The exit code of a run that was stopped."""


@frozen
class Entry:
    """A run of a queue."""

    name: str
    setting: str
    """Its name without the seed."""
    source: str
    """The configuration that it was made from."""
    varied: Mapping[str, Any] = field(factory=dict)
    """The keys that differ between the runs of one configuration, with its values."""
    exit: int | None = None
    """The exit code of its latest try; below zero, the signal that ended it; None of one that is not over."""
    said: str = ""
    """What it printed last as an error, where there was one."""


@frozen
class Queue:
    """The queue in the folder `path`, as its files have it."""

    path: Path
    record: Mapping[str, Any] = field(repr=False)
    """``queue.json`` but for the runs."""
    entries: tuple[Entry, ...]

    @property
    def began(self) -> Beginning:
        """Where it was made, which relative paths begin from."""
        return beginning_of(self.record)

    def config_of(self, entry: Entry) -> Path:
        return self.path / f"{entry.name}.yaml"

    def folder_of(self, entry: Entry) -> Path:
        return self.path / entry.name

    def state(self, entry: Entry) -> str:
        """``waiting``, or as `RunView.status`; a try that failed before it began is ``failed`` too."""
        folder = self.folder_of(entry)
        if not (folder / MANIFEST).exists():
            return "failed" if _has_failed(entry) else "waiting"
        try:
            status = open_run(folder).status
        except UserError:
            return "failed"
        tried = status in ("stopped", "interrupted") and _has_failed(entry)
        return "failed" if tried or status == "unknown" else status

    def states(self) -> dict[str, str]:
        """The state of every run by its name, in their order."""
        return {entry.name: self.state(entry) for entry in self.entries}

    def reason(self, entry: Entry) -> str:
        """Why it failed, in a sentence; empty where that is not known."""
        try:
            said = str(open_run(self.folder_of(entry)).manifest.get("reason", ""))
        except UserError as error:
            said = str(error) if (self.folder_of(entry) / MANIFEST).exists() else ""
        return in_a_line(entry.said or said)

    def noted(self, name: str, exit: int | None, said: str = "") -> Queue:
        """The queue with how the latest try of a run ended, written down."""
        entries = tuple(evolve(e, exit=exit, said=said) if e.name == name else e for e in self.entries)
        changed = evolve(self, entries=entries)
        changed.write()
        return changed

    def write(self) -> None:
        """Write ``queue.json`` in one piece."""
        rewrite_json(self.path / QUEUE, {**self.record, "runs": [asdict(entry) for entry in self.entries]})


def _has_failed(entry: Entry) -> bool:
    """Whether its latest try ended by itself and not well; one that was killed goes on."""
    return entry.exit is not None and entry.exit > 0 and entry.exit != STOPPED


def is_queue(path: Path) -> bool:
    """Whether a queue is in the folder `path`."""
    return (path / QUEUE).is_file()


def open_queue(path: Path) -> Queue:
    """The queue in the folder `path`. Raises `UserError` where there is none that can be read."""
    file = path / QUEUE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        entries = tuple(Entry(**run) for run in record.pop("runs"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"'{path}' holds no queue: there is no {QUEUE} in it.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"'{file}' cannot be read: {error}.") from error
    return Queue(path, record, entries)


def make_queue(path: Path | None, members: Sequence[Member], asked: Mapping[str, Any]) -> Queue:
    """Write the files of a new queue, all of them or none, into `path` or the first free folder.

    `asked` is what ``queue.json`` says of the command. Raises `UserError` where the folder is taken or cannot
    be written.
    """
    record = {
        "versions": {"prefloop": importlib.metadata.version("prefloop")},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "began": Beginning().to_json(),
        **asked,
    }
    entries = tuple(Entry(m.name, m.setting, str(m.source), dict(m.varied)) for m in members)
    if path is not None:
        _refuse_inside_a_run(path)
        return _write(path, record, entries, members)
    stems = dict.fromkeys(member.source.stem for member in members)
    stem = re.sub(r"[^\w.-]+", "-", "-".join(stems))[:40]
    for number in range(1, 1_000_000):
        free = Path("runs") / f"queue-{stem}-{number}"
        if not free.exists():
            return _write(free, record, entries, members)
    raise UserError("runs: there are a million queues in it. Give another folder with --output.")


def _write(
    path: Path, record: Mapping[str, Any], entries: tuple[Entry, ...], members: Sequence[Member]
) -> Queue:
    """Written beside its place and moved there, which does not work where anything is in it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        for number, member in enumerate(members, 1):
            text = _described(member, number, len(members)) + _complete(member, path)
            (beside / f"{member.name}.yaml").write_text(text, encoding="utf-8")
        evolve(queue := Queue(path, record, entries), path=beside).write()
        beside.replace(path)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if path.is_dir() and any(path.iterdir()):
            told = f" To go on with the queue in it: prefloop train --resume {shlex.quote(str(path))}"
            go_on = told if is_queue(path) else ""
            raise UserError(f"--output: '{path}' is not empty; give a new or empty folder.{go_on}") from error
        raise UserError(f"--output: cannot write to '{path}': {error.strerror}.") from error
    return queue


def _complete(member: Member, path: Path) -> str:
    """Its whole configuration, with the folder that it has in the queue."""
    output = evolve(member.config.output, path=str(path / member.name))
    return dump_config(evolve(member.config, output=output))


def _described(member: Member, number: int, count: int) -> str:
    values = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in member.varied.items()]
    with_values = f" with {', '.join(values)}" if values else ""
    return f"# Run {number} of {count} of a queue: {in_a_line(f'{member.source}{with_values}')}.\n"


def _refuse_inside_a_run(path: Path) -> None:
    for around in path.absolute().parents:
        for file, what in ((MANIFEST, "run"), (QUEUE, "queue")):
            if (around / file).exists():
                raise UserError(f"--output: '{path}' lies in the folder of the {what} '{around}'.")
