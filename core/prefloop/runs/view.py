"""A run as those see it who only look: read from its files, which may still be written.

`open_run` gives the view. Nothing here locks or changes a file, and nothing of the engine is loaded, so that
a list of runs or a web page stays light. What is not there yet is empty; what is damaged is left out and
said in `RunView.problems`.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import frozen

from prefloop.errors import UserError
from prefloop.prompts.loading import RowError
from prefloop.runs.files import DAMAGE, LinesBefore, is_as_written, is_signed, parse_line
from prefloop.runs.plan import Plan, plan_from_json
from prefloop.runs.records import (
    Judgement,
    StepMetrics,
    evaluation_from_json,
    judgement_from_json,
    metrics_from_json,
)
from prefloop.types import Evaluation

CONFIG, MANIFEST, LOG = "config.yaml", "run.json", "log.txt"
METRICS, LEDGER = "metrics.jsonl", "judgements.jsonl"
CHECKPOINTS, EVALUATIONS = "checkpoints", "evaluations"
LOCK = ".lock"
QUEUE = "queue.json"
"""What a folder of several runs holds in the place of ``run.json``."""
STATUSES = ("running", "finished", "stopped", "failed")
T = TypeVar("T")


@frozen
class Damage:
    """What of a run is missing or could not be read."""

    file: str
    """Its name in the run's folder."""
    line: int | None
    """None where it is about the whole file."""
    text: str
    """One sentence, in which both are named."""

    def __str__(self) -> str:
        return self.text


@frozen
class NewRecords(Generic[T]):
    """What a file holds after a cursor."""

    records: tuple[T, ...]
    cursor: int
    """Where the next reading goes on: a byte offset, for this file alone. It stays valid for as long as the
    file only grows, in another process too."""
    restarted: bool = False
    """The file is no longer the one that the cursor was for, as that of a run which went on from a
    checkpoint: the cursor is past its end or inside a line. `records` are then all that it holds now, and
    what was read of it before is out of date."""
    problems: tuple[Damage, ...] = ()
    """What was left out, or that there is no such file. That a run which is going on has not written it yet
    is none."""


def open_run(path: str | Path) -> RunView:
    """The run in the folder `path`, to be read, whether it is over or still going on.

    Raises `UserError` where it holds no run.
    """
    return RunView(Path(path), read_manifest(Path(path)))


class RunView:
    """A run directory, to be read. `manifest`, ``run.json``, is as it was when the run was opened.

    All else is read when it is asked for. Open a run again to see its new status; cursors stay valid.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._problems: dict[str, Sequence[Damage]] = {}

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.resolve().name

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``stopped`` (by a person or a signal), ``failed``, or ``interrupted``:
        it was killed. ``unknown`` where ``run.json`` has none of them.
        """
        status = self.manifest.get("status")
        if status not in STATUSES:
            return "unknown"
        return "interrupted" if status == "running" and not is_held(self.path) else str(status)

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to; ``win_rate`` holds ``before`` and ``after``."""
        found: dict[str, Any] = self.manifest["summary"]
        return found

    @property
    def plan(self) -> Plan | None:
        """What the run was going to do; None where ``run.json`` does not say."""
        return plan_from_json(self.manifest.get("plan"))

    @property
    def plan_lines(self) -> list[tuple[str, str]]:
        """The plan, as titles and texts."""
        return self.plan.lines() if self.plan else []

    @property
    def asks_a_person(self) -> bool:
        """Whether its judge is a person, who needs the terminal."""
        return bool(self.manifest.get("asks_a_person"))

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Its configuration, with every default, as nested plain values. Empty where it cannot be read."""
        from prefloop.config.yaml_nodes import read_file

        file = self.path / CONFIG
        self._problems[CONFIG] = ()
        try:
            found: Mapping[str, Any] = read_file(file)[0].plain
        except UserError as error:
            why = f"{CONFIG} is damaged: {error.problems[0].removeprefix(f'{file}:')}"
            text = why if file.exists() else f"There is no {CONFIG}."
            self._problems[CONFIG] = (Damage(CONFIG, None, text),)
            return {}
        content = file.read_bytes()
        if is_signed(content) and not is_as_written(content):
            text = f"{CONFIG} was changed: it is not what the run wrote."
            self._problems[CONFIG] = (Damage(CONFIG, None, text),)
        return found

    @property
    def config_text(self) -> str:
        """The text of ``config.yaml``; empty where there is none."""
        try:
            return (self.path / CONFIG).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def metrics(self, cursor: int = 0) -> NewRecords[StepMetrics | Evaluation]:
        """The metrics that are new since `cursor`: of steps, and of evaluations without their pairs."""
        return self._read(METRICS, cursor, _from_json(metrics_from_json))

    def judgements(self, cursor: int = 0) -> NewRecords[Judgement]:
        """The judgements that are new since `cursor`: the lines of the ledger.

        Where several are about one pair, which `Judgement.key` tells, the last counts.
        """
        return self._read(LEDGER, cursor, _from_json(judgement_from_json))

    def log(self, cursor: int = 0) -> NewRecords[str]:
        """The lines that are new in ``log.txt``, which holds what a run in the background prints.

        A run on a terminal has none.
        """
        return self._read(LOG, cursor, lambda line: line.decode(errors="replace"))

    def evaluations(self) -> list[Evaluation]:
        """The evaluations made in training, by step, with the texts of their pairs where there is a file.

        A run of a version that wrote no such files has their metrics.
        """
        lines = [made for made in self.metrics().records if isinstance(made, Evaluation)]
        found = {evaluation.step: evaluation for evaluation in lines}
        found |= {e.step: e for _, e in self._evaluation_files(in_training=True)}
        return [found[step] for step in sorted(found)]

    def other_evaluations(self) -> dict[str, Evaluation]:
        """The evaluations that `prefloop eval` made of this run, by the name of their file."""
        return dict(self._evaluation_files(in_training=False))

    def checkpoints(self) -> dict[int, Path]:
        """The folders of its complete checkpoints, by their step, oldest first."""
        return checkpoints(self.path)

    @property
    def problems(self) -> tuple[Damage, ...]:
        """What was missing or damaged in what has been read of the run so far."""
        return tuple(damage for found in self._problems.values() for damage in found)

    def check(self) -> tuple[Damage, ...]:
        """Read all that there is of the run, and say what is missing, damaged or not the run's own."""
        _ = self.settings, self.metrics(), self.judgements(), self.evaluations(), self.other_evaluations()
        strangers = strangers_among_checkpoints(self.path)
        texts = [f"{CHECKPOINTS}/{name} has no checkpoint's name and is left out." for name in strangers]
        self._problems[CHECKPOINTS] = tuple(Damage(CHECKPOINTS, None, text) for text in texts)
        return self.problems

    def _read(self, name: str, cursor: int, parse: Callable[[bytes], T]) -> NewRecords[T]:
        may_be_missing = name == LOG or (self.manifest.get("status") == "running" and not cursor)
        found = read_new(self.path / name, cursor, parse, may_be_missing=may_be_missing)
        before = () if found.restarted or not cursor else self._problems.get(name, ())
        removed = () if cursor else self._removed(name, len(found.records) + len(found.problems))
        self._problems[name] = (*before, *found.problems, *removed)
        return found

    def _removed(self, name: str, lines: int) -> Iterator[Damage]:
        """That a file has fewer lines than ``run.json`` counts; older versions do not count them."""
        counts = self.manifest.get("lines")
        written = counts.get(name) if isinstance(counts, dict) else None
        if isinstance(written, int) and 0 < lines < written:
            yield Damage(
                name, None, f"{name} lacks {written - lines} of the {written} lines that the run wrote."
            )

    def _evaluation_files(self, *, in_training: bool) -> Iterator[tuple[str, Evaluation]]:
        files = (self.path / EVALUATIONS).glob("*.json")
        for file in sorted(file for file in files if file.stem.isdecimal() == in_training):
            name = f"{EVALUATIONS}/{file.name}"
            self._problems[name] = ()
            try:
                yield file.stem, evaluation_from_json(json.loads(file.read_text(encoding="utf-8")))
            except FileNotFoundError:  # removed just now, by a run that goes on from before it
                continue
            except (OSError, RecursionError, *DAMAGE):
                self._problems[name] = (Damage(name, None, f"{name} is damaged and left out."),)


def read_manifest(path: Path) -> dict[str, Any]:
    """``run.json`` of the run in `path`. Raises `UserError` where there is none that can be read."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        several = " It is a queue: name one of its runs." if (path / QUEUE).is_file() else ""
        raise UserError(f"'{path}' holds no run: there is no {MANIFEST} in it.{several}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path / MANIFEST}' cannot be read: {error}.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("summary"), dict):
        raise UserError(f"'{path / MANIFEST}' is not what a run writes: it has no summary.")
    return manifest


def checkpoints(path: Path) -> dict[int, Path]:
    """The folders of the complete checkpoints of the run in `path`, by their step, oldest first."""
    found = {int(p.name): p for p in (path / CHECKPOINTS).glob("[0-9]*") if _is_checkpoint(p)}
    return dict(sorted(found.items()))


def strangers_among_checkpoints(path: Path) -> list[str]:
    """The names of what lies among the checkpoints of the run in `path` and is none."""
    return sorted(p.name for p in (path / CHECKPOINTS).glob("[!.]*") if not _is_checkpoint(p))


def _is_checkpoint(path: Path) -> bool:
    return path.name.isdecimal() and path.name == f"{int(path.name):07d}" and path.is_dir()


def is_held(path: Path) -> bool:
    """Whether a process works on the run in `path`; also where that cannot be told."""
    try:
        with (path / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Nested settings by key path, such as ``bonuses.0.alpha``."""
    if not isinstance(settings, Mapping | list) or (path and not settings):
        return {path: settings}
    items = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found


def read_judgements(path: Path) -> NewRecords[Judgement]:
    """The judgements in a ledger that need not lie in a run's folder."""
    return read_new(path, 0, _from_json(judgement_from_json))


def read_new(
    path: Path, cursor: int, parse: Callable[[bytes], T], *, may_be_missing: bool = False
) -> NewRecords[T]:
    """What `parse` makes of each whole line after `cursor`; one that is still being written comes later.

    A line for which it raises one of `DAMAGE` is left out, and named among the problems.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, cursor - 1))
            restarted = cursor < 0 or (cursor > 0 and file.read(1) != b"\n")  # no line ends at the cursor
            start = cursor = 0 if restarted else cursor
            file.seek(start)
            records: list[T] = []
            damaged: list[tuple[int, Exception]] = []
            before_it = LinesBefore()
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                cursor += len(line)
                try:
                    record = parse(line.rstrip())
                    if before_it.have(line):
                        raise RowError("is there twice")
                    records.append(record)
                except DAMAGE as error:
                    damaged.append((number, error))
            if damaged:
                file.seek(0)
                before = file.read(start).count(b"\n")
    except FileNotFoundError:
        missing = () if may_be_missing else (Damage(path.name, None, f"There is no {path.name}."),)
        return NewRecords((), 0, restarted=cursor > 0, problems=missing)
    except OSError as error:
        unreadable = Damage(path.name, None, f"{path.name} cannot be read: {error.strerror}.")
        return NewRecords((), cursor, problems=(unreadable,))
    problems = (_damage(path.name, before + number, error) for number, error in damaged)
    return NewRecords(tuple(records), cursor, restarted, tuple(problems))


def _damage(name: str, number: int, error: Exception) -> Damage:
    """A `RowError` is worded to follow the place; anything else is said to be damage."""
    if isinstance(error, json.JSONDecodeError):
        what = f"is broken JSON: {error.msg} (column {error.colno})"
    elif isinstance(error, RowError):
        what = str(error)
    else:
        what = f"is damaged: {error}"
    return Damage(name, number, f"{name}:{number} {what}.")


def _from_json(record: Callable[[Mapping[str, Any]], T]) -> Callable[[bytes], T]:
    return lambda line: record(parse_line(line))
