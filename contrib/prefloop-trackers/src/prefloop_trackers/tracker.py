"""What all trackers have in common: a thread that tells the tracker, so that no step ever waits for it.

Steps and evaluations become entries in a queue. The thread opens the tracked run and tells it entry after
entry, in order. Whatever the tracker raises is caught: it is said once, the connection is opened again after
a pause, and the entries wait, the oldest of `WAITING` falling out. ``trackers/NAME.json`` in the run's
folder has the tracked run's id and how far it was told: a run that goes on tells the rest, and nothing twice.
Steps that a kill made prefloop take again come to the same numbers: those told before it stay.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, ClassVar

from attrs import define, evolve, field, frozen
from attrs.validators import and_, ge, instance_of, optional

from prefloop import Evaluation, Observer, RunView, Step, StepMetrics, UserError, open_run
from prefloop_trackers.entries import COUNTS, Entry, Rows, of_evaluation, of_step, table_of_pairs
from prefloop_trackers.secrets import flat, hide, no_secret, without_secrets

WAITING = 2_000
"""Entries that wait for a tracker, at most."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to reach a tracker that fails, at most."""
FOLDER = "trackers"


@frozen
class Start:
    """What a tracker needs to open its run."""

    run: Path
    name: str
    config: Mapping[str, Any]
    """Flat, without secrets."""
    id: str | None
    """The tracked run to go on with."""
    told: int
    """The last step, or evaluation, of which it has the numbers; -1 where there is none."""


def text(help: str) -> Any:
    """A field for an option that is a text."""
    return field(default=None, validator=optional(and_(instance_of(str), no_secret)), metadata={"help": help})


@define(eq=False)
class Tracker(Observer):
    """Tells a tracker of a run. Subclasses open the tracked run, log, and close it, all in its thread."""

    label: ClassVar[str]
    """Its name among prefloop's observers, and that of its extra."""
    library: ClassVar[str]
    """The module it needs."""

    name: str | None = field(
        default=None,
        validator=optional(no_secret),
        metadata={"help": "Name of the run; null is that of its folder."},
    )
    pairs: int = field(
        default=8,
        validator=ge(0),
        metadata={"help": "Pairs in the table of every `training.report_every` steps; 0 is no table."},
    )
    wait: float = field(
        default=60.0,
        validator=ge(0),
        metadata={"help": "Seconds that the end of a run waits for the tracker to take the rest, at most."},
    )
    _queue: Queue[Entry | None] = field(init=False, factory=lambda: Queue(WAITING))
    _waiting: deque[Entry] = field(init=False, factory=lambda: deque(maxlen=WAITING))
    _thread: threading.Thread | None = field(init=False, default=None)
    _start: Start | None = field(init=False, default=None)
    _told: dict[str, int] = field(init=False, factory=dict)
    _is_open: bool = field(init=False, default=False)
    _closing: str = field(init=False, default="failed")
    _count: int = field(init=False, default=0)
    _done: int = field(init=False, default=0)
    _failures: int = field(init=False, default=0)
    _in_a_row: int = field(init=False, default=0)
    _retry_at: float = field(init=False, default=0.0)
    _every: int = field(init=False, default=10)
    _judge: str = field(init=False, default="")

    # What a subclass does

    @abstractmethod
    def open(self, start: Start) -> str:
        """Begin the tracked run, or go on with ``start.id``; returns its id. Also after a failure."""

    def known(self) -> Mapping[str, float] | None:
        """The last step of which the open tracked run has each number; none of those it lacks.

        Only `COUNTS` where it keeps all numbers of a step or none. None where that cannot be asked, or
        nothing told is ever lost: what was noted as told counts then.
        """
        return None

    @abstractmethod
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Tell the numbers of a step."""

    @abstractmethod
    def log_table(self, step: int, name: str, rows: Rows) -> None:
        """Tell the pairs of a step."""

    @abstractmethod
    def attach(self, report: Path) -> None:
        """Keep the report with the tracked run."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Nothing more comes: the run is ``finished``, ``stopped`` or ``failed``."""

    def check(self) -> None:
        """Raise `UserError` where it is known beforehand that nothing can be told."""

    # What prefloop calls

    def prepare(self) -> None:
        if importlib.util.find_spec(self.library) is None:
            raise UserError(
                f"{self.label} is not installed: pip install 'prefloop-trackers[{self.label}]', "
                "or leave it out."
            )
        self.check()

    def run_started(self, run: RunView) -> None:
        settings = run.settings
        self._every = settings.get("training", {}).get("report_every", 10)
        self._judge = str(settings.get("judge", {}).get("use", ""))
        state = _read(self._file(run.path))
        self._told = {kind: int(state.get(kind, -1)) for kind in ("step", "evaluation")}
        config = without_secrets(flat(settings))
        name = self.name or hide(run.name)
        self._start = Start(run.path, name, config, state.get("id"), max(self._told.values()))
        self._thread = threading.Thread(target=self._work, name=f"prefloop-{self.label}", daemon=True)
        self._thread.start()
        atexit.register(self._finish)

    def step_finished(self, step: Step) -> None:
        number = step.progress.step
        self._put(of_step(step))
        if self.pairs and (number % self._every == 0 or number == step.progress.steps):
            shown = step.pairs[: self.pairs], step.verdicts[: self.pairs]
            self._put(table_of_pairs("step", number, *shown, self._judge))

    def evaluated(self, evaluation: Evaluation) -> None:
        self._put(of_evaluation(evaluation))
        if self.pairs and evaluation.pairs:
            shown = evaluation.pairs[: self.pairs], evaluation.verdicts[: self.pairs]
            self._put(table_of_pairs("evaluation", evaluation.step, *shown, evaluation.judge))

    def run_finished(self, run: RunView) -> None:
        self._closing = run.status
        self._finish()

    # In the thread of the run

    def _put(self, entry: Entry) -> None:
        self._count += 1
        with suppress(Full):
            self._queue.put_nowait(entry)

    def _finish(self) -> None:
        """Wait a while for the rest to be told. Called once: at the end of the run, or of the process."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self._finish)
        until = time.monotonic() + self.wait
        with suppress(Full):
            self._queue.put(None, timeout=self.wait)
            thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _warn(f"{self.label} did not come to an end within {self.wait:g} s; it is not waited for.")
        if missing := self._count - self._done:
            _warn(
                f"{self.label} lacks {missing} of {self._count} entries ({self._failures} attempts failed);"
                " the run's own files have them all."
            )

    # In the thread of the tracker

    def _work(self) -> None:
        ended = False
        if self._start and self._start.id:
            self._is_open = self._try(self._open)
        while not ended:
            for entry in self._next():
                if entry is None:
                    ended = True
                elif entry.step > self._told[entry.kind] or entry.table:
                    self._waiting.append(entry)
                else:
                    self._done += 1
            if time.monotonic() >= self._retry_at or ended:
                self._tell()
        if self._is_open:
            self._try(self._attach)
            self._try(partial(self.end, self._closing))

    def _next(self) -> list[Entry | None]:
        """What has come; it may be nothing after a second in which something waits to be told again."""
        found: list[Entry | None] = []
        with suppress(Empty):
            found.append(self._queue.get(timeout=1.0 if self._waiting else None))
            while found[-1] is not None:
                found.append(self._queue.get_nowait())
        return found

    def _tell(self) -> None:
        """Open the run if need be, and tell what waits, until the tracker fails."""
        while self._waiting:
            entry = self._waiting[0]
            told = self._try(partial(self._tell_one, entry))
            if not told and not (self._is_open and entry.table):
                self._is_open = False
                return
            self._waiting.popleft()  # a table that cannot be shown holds up no numbers
            self._done += told

    def _tell_one(self, entry: Entry) -> None:
        assert self._start
        if not self._is_open:
            self._open()
            self._is_open = True
        if entry.step <= self._told[entry.kind] and not entry.table:
            return  # it was told with the rest of the run, when that was opened
        if entry.table:
            self.log_table(entry.step, entry.table, entry.rows)
            return
        self._tell_numbers(entry)

    def _tell_numbers(self, entry: Entry) -> None:
        self.log(entry.step, entry.numbers)
        self._told[entry.kind] = max(entry.step, self._told[entry.kind])
        self._note()

    def _open(self) -> None:
        """Begin the tracked run or go on with it, from where it really is, as libraries send in batches.

        What the run's files have and the tracker has not is told at once.
        """
        assert self._start
        is_new = self._start.id is None
        id = self.open(evolve(self._start, told=max(self._told.values())))
        self._start = evolve(self._start, id=id)
        known = None if is_new else self.known()
        if known is not None:
            self._told = {kind: int(known.get(name, -1)) for kind, name in COUNTS.items()}
        self._note()
        for made in open_run(self._start.run).metrics().records:
            entry = of_step(made) if isinstance(made, StepMetrics) else of_evaluation(made)
            if entry.step > self._told[entry.kind]:
                self._tell_numbers(entry)
            elif lost := _lost(entry, known or {}):
                self.log(entry.step, lost)

    def _note(self) -> None:
        assert self._start
        file = self._file(self._start.run)
        file.parent.mkdir(exist_ok=True)
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps({"id": self._start.id, **self._told}), encoding="utf-8")
        beside.replace(file)  # whole at any moment

    def _attach(self) -> None:
        assert self._start
        report = self._start.run / "report.html"
        if not report.exists():
            return
        page = report.read_text(encoding="utf-8")
        if hide(page) != page:
            _warn(f"{self.label} is not given the report, in which something looks like a token.")
        else:
            self.attach(report)

    def _try(self, act: Callable[[], None]) -> bool:
        """Whether it went well. Only the first failure is said."""
        try:
            act()
        except BaseException as error:  # a library may exit
            self._failures += 1
            self._in_a_row += 1
            self._retry_at = time.monotonic() + min(LONGEST_PAUSE, 2.0 ** (self._in_a_row - 1))
            if self._failures == 1:
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                _warn(f"{self.label} failed, and the run goes on without it: {hide(first)[:300]}")
            return False
        self._in_a_row = 0
        return True

    def _file(self, run: Path) -> Path:
        return run / FOLDER / f"{self.label}.json"


def _lost(entry: Entry, known: Mapping[str, float]) -> dict[str, float]:
    """What a kill cut off of the numbers of a step, where the tracker keeps each of them apart."""
    if known.keys() <= set(COUNTS.values()):
        return {}
    return {name: number for name, number in entry.numbers.items() if known.get(name, -1) < entry.step}


def _read(file: Path) -> dict[str, Any]:
    """What is known of the tracked run; nothing where there is none, or the file is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _warn(message: str) -> None:
    logging.getLogger("prefloop").warning(message)
