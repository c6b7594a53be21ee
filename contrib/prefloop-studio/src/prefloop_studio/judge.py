"""The `web` judge: people who compare two answers in the browser, or with `prefloop label` in a terminal."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field
from attrs.validators import ge, instance_of, optional

from prefloop import BaseJudge, Judge, Pair, StopRun, UserError, Verdict, adapt
from prefloop.components import PendingVerdicts, check_verdicts
from prefloop.errors import said_of
from prefloop_plugins.judges.human import SAME
from prefloop_studio.labels import LabelQueue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LOOKS = 0.2
"""Seconds between looks for answers."""


@define
class WebJudge(BaseJudge):
    """Puts pairs into a queue in the run's folder and waits for people to answer them.

    How the queue looks is said in `prefloop_studio.labels`. Pairs of equal answers are ties that nobody is
    asked about. Answers count when they are written down, whatever becomes of the page or the server.

    Raises `StopRun` on Ctrl-C or SIGTERM while it waits, and `UserError` where there is neither a run nor
    `queue`.
    """

    interactive: ClassVar[bool] = True

    queue: str | None = field(
        default=None,
        validator=optional(instance_of(str)),
        metadata={"identity": False, "help": "Folder to keep the queue in; null is the run's own."},
    )
    undo_seconds: float = field(
        default=3.0,
        validator=ge(0),
        metadata={
            "identity": False,
            "help": "Seconds in which the last answer of a batch can be taken back before the run goes on.",
        },
    )
    beside: Judge | None = field(
        default=None,
        metadata={
            "identity": False,
            "help": "A judge that is asked about the same pairs, written as under judge: nothing is learnt "
            "from it, and the page says how often people agree with it.",
        },
    )
    _folder: Path | None = field(default=None, init=False, eq=False, repr=False)
    _waiting: set[str] = field(factory=set, init=False, eq=False, repr=False)
    """What was submitted and is not answered."""
    _said: bool = field(default=False, init=False, eq=False, repr=False)

    def prepare(self) -> None:
        """Prepare the judge beside people. Raises `UserError` where it does."""
        if self.beside is not None:
            with said_of("beside"):
                adapt(self.beside, BaseJudge).prepare()

    def close(self) -> None:
        if self.beside is not None:
            adapt(self.beside, BaseJudge).close()

    def depends_on(self) -> Sequence[str]:
        """What the judge beside people depends on."""
        return () if self.beside is None else adapt(self.beside, BaseJudge).depends_on()

    def attach(self, folder: Path) -> None:
        """Keep the queue in the run's folder."""
        self._folder = folder

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        verdicts = dict(self.answers(pairs))
        return [verdicts[place] for place in range(len(pairs))]

    def submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        """Put pairs into the queue now, so that people are ahead of the run; their answers are for later."""
        self._ask([pair for pair in pairs if not _equal(pair)])
        return PendingVerdicts(partial(self.judge, pairs))

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each verdict with its place as soon as it is given; one that was taken back is an error."""
        equal = {i for i, pair in enumerate(pairs) if _equal(pair)}
        yield from ((place, Verdict.tie(SAME)) for place in sorted(equal))
        asked = [place for place in range(len(pairs)) if place not in equal]
        if not asked:
            return
        with _signals() as received:
            queue, ids = self._ask([pairs[place] for place in asked])
            for id, verdict in self._given(queue, ids, received):
                yield from ((asked[i], verdict) for i, of in enumerate(ids) if of == id)
        self._waiting.difference_update(ids)

    def _ask(self, pairs: Sequence[Pair]) -> tuple[LabelQueue, list[str]]:
        queue = LabelQueue(self._place())
        ids = queue.ask(pairs, self._waiting)
        self._waiting.update(ids)
        self._say(queue)
        self._compare(queue, dict(zip(ids, pairs, strict=True)))
        return queue, ids

    def _compare(self, queue: LabelQueue, pairs: Mapping[str, Pair]) -> None:
        """Ask the judge beside people about what it was not asked about yet; they can answer meanwhile."""
        if self.beside is None:
            return
        known = queue.beside()
        new = {id: pair for id, pair in pairs.items() if id not in known}
        if new:
            verdicts = self.beside.judge(list(new.values()))
            check_verdicts(type(self.beside).__name__, verdicts, len(new))
            queue.compare(dict(zip(new, verdicts, strict=True)))

    def _given(
        self, queue: LabelQueue, ids: Sequence[str], received: threading.Event
    ) -> Iterator[tuple[str, Verdict]]:
        """The answers to `ids` as they come, until all are there and none is taken back any more."""
        missing, cursor, last = set(ids), 0, 0.0
        while True:
            new, cursor = queue.answered_since(cursor)
            for answer in new:
                if answer.id in ids:
                    yield answer.id, answer.verdict
                    last = time.time()
                    (missing.add if answer.verdict.status == "error" else missing.discard)(answer.id)
            if not missing and time.time() - last >= self.undo_seconds and queue.close(ids):
                return
            if received.wait(_LOOKS):
                raise StopRun("stopped while it waited for labels")

    def _place(self) -> Path:
        if self.queue is not None:
            Path(self.queue).mkdir(parents=True, exist_ok=True)
            return Path(self.queue)
        if self._folder is None:
            raise UserError("judge 'web' keeps its queue in a run's folder, and here is no run: set 'queue'.")
        return self._folder

    def _say(self, queue: LabelQueue) -> None:
        if not self._said:
            self._said = True
            print(
                f"labels   wanted: prefloop studio {queue.run.parent}, or prefloop label {queue.run}",
                flush=True,
            )


def _equal(pair: Pair) -> bool:
    return pair.first.text == pair.second.text


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C and SIGTERM, which mean nothing else meanwhile."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: received.set()) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
