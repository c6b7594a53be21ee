"""Gives portions of rows to engines, whoever is free, and takes back what they answer.

A thread for each engine. A portion is with one engine at a time; where that fails, or what it answers will
not do, the portion goes back in front of the queue, and the engine is asked again only once it answers a
greeting. Versions are checked here: no answer comes through that is of an unknown policy or too old.

Nobody works further ahead than it takes. While the pairs of the step that is taken and of the one after it
lie ready, no others are begun: they would only get old. So the age of pairs goes by how fast the engines are,
and how many for the portions of a step, up to its bound.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from attrs import define, frozen

from prefloop.errors import StopRun
from prefloop_sampler_remote.engine import Answer, Engine, EngineError, Request, Snapshot

LOG = logging.getLogger("prefloop")
COUNTED = ("refused", "dropped", "retried", "here")


@define(eq=False)
class Portion:
    """Rows of one step."""

    step: int
    request: Request
    answers: list[Answer] | None = None
    by: Engine | None = None
    """Who gave the answers; None where the learner did."""


@frozen
class Fit:
    """What an answer must be: of so many tokens at most, each below `vocabulary`, where that is known."""

    vocabulary: int | None
    max_tokens: int

    def problem(self, answer: Answer) -> str:
        """What is wrong with an answer; empty where nothing is."""
        if not 1 <= len(answer.tokens) <= self.max_tokens:
            return f"a completion has {len(answer.tokens)} tokens, not 1 to {self.max_tokens}"
        for token in answer.tokens:
            if type(token) is not int or token < 0 or (self.vocabulary and token >= self.vocabulary):
                return f"a completion has the token id {token!r}"
        return ""


class Dispatcher:
    """The queue of portions, the engines that work on it, and the policy's newest version.

    An engine that fails is greeted `pause` seconds later, again and again until it answers. `lost` are those
    that failed, with why.
    """

    def __init__(self, engines: Sequence[Engine], fit: Fit, *, pause: float, fallback: bool) -> None:
        self.engines = tuple(engines)
        self.fit = fit
        self.pause = pause
        self.fallback = fallback
        self.lost: dict[Engine, str] = {}
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, Portion]] = []
        self._under_way: list[int] = []
        self._number = count()
        self._versions: set[int] = set()
        self._snapshot: Snapshot | None = None
        self._failure: BaseException | None = None
        self._closed = threading.Event()
        self._said_alone = False

    def open(self) -> None:
        """Begin. Engines that are in `lost` already have to answer a greeting first."""
        for engine in self.engines:
            threading.Thread(target=self._serve, args=(engine,), daemon=True, name=engine.where).start()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        for engine in self.engines:
            engine.close()

    def publish(self, snapshot: Snapshot) -> None:
        """From now on, portions that are begun are sampled from this one."""
        with self._changed:
            self._snapshot = snapshot
            self._versions.add(snapshot.version)
            self._changed.notify_all()

    @property
    def version(self) -> int:
        """The newest one."""
        assert self._snapshot
        return self._snapshot.version

    def give(self, portions: Sequence[Portion]) -> None:
        """Put them into the queue, which is in the order of the steps."""
        with self._changed:
            for portion in portions:
                portion.answers = None
                heapq.heappush(self._waiting, (portion.step, next(self._number), portion))
            self._changed.notify_all()

    def refuse(self, portion: Portion, why: str) -> None:
        """Have a portion sampled again, whose answers turned out to be wrong."""
        with self._changed:
            self.counts["refused"] += len(portion.request.prompts)
        if portion.by:
            self.say_lost(portion.by, why)
        self.give([portion])

    def wait(self, portions: Sequence[Portion], here: Callable[[Request], list[Answer]]) -> None:
        """Return once all have answers. Where no engine is left, they are sampled by `here`, in this thread.

        Raises what ends the run.
        """
        while True:
            with self._changed:
                if self._failure:
                    raise self._failure
                if all(portion.answers is not None for portion in portions):
                    return
                alone = len(self.lost) == len(self.engines)
                mine = self._own(portions) if alone and self._may_help() else None
                if not mine:
                    self._changed.wait(0.5)
                    continue
            answers = here(mine.request)
            with self._changed:
                mine.answers, mine.by = answers, None
                self.counts["here"] += len(answers)

    def measures(self) -> Mapping[str, float]:
        """How many engines answer, and what went wrong since this was last asked, in completions."""
        with self._changed:
            found = {f"remote_{name}": float(self.counts[name]) for name in COUNTED}
            self.counts.clear()
            return {"remote_workers": float(len(self.engines) - len(self.lost)), **found}

    def _may_help(self) -> bool:
        """Whether the learner samples itself, where nobody else does. It is said once."""
        if not self._said_alone:
            self._said_alone = True
            does = (
                "it samples itself until one does" if self.fallback else "it waits for one (sampler.fallback)"
            )
            LOG.warning(f"sampler: no worker answers the learner: {does}.")
        return self.fallback

    def _own(self, portions: Sequence[Portion]) -> Portion | None:
        """One of these that is waiting, taken out of the queue."""
        for entry in self._waiting:
            if entry[2] in portions:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
                return entry[2]
        return None

    def _serve(self, engine: Engine) -> None:
        """Work on the queue with one engine, until all is closed."""
        loaded: Snapshot | None = None
        while not self._closed.is_set():
            if engine in self.lost and not self._found_again(engine):
                continue
            if (work := self._take(engine)) is None:
                continue
            portion, snapshot = work
            try:
                if loaded is not snapshot:  # the version is another even where a step has changed nothing
                    engine.load(snapshot)
                answers = self._checked(portion, engine.sample(portion.request, snapshot))
                loaded = snapshot
            except StopRun as stop:
                self._fail(stop)
                return
            except EngineError as error:
                loaded = None
                self._lose(engine, portion, error.reason)
            except Exception as error:  # of an engine that has a fault: the run goes on without it
                loaded = None
                self._lose(engine, portion, f"{type(error).__name__}: {error}")
            else:
                self._finish(engine, portion, answers)
            finally:
                with self._changed:
                    self._under_way.remove(portion.step)
                    self._changed.notify_all()

    def _take(self, engine: Engine) -> tuple[Portion, Snapshot] | None:
        """The next portion, waited for; None where all is closed or the engine counts as lost."""
        with self._changed:
            while not (self._closed.is_set() or engine in self.lost or self._due()):
                self._changed.wait()
            if self._closed.is_set() or engine in self.lost or not self._snapshot:
                return None
            portion = heapq.heappop(self._waiting)[2]
            self._under_way.append(portion.step)
            return portion, self._snapshot

    def _due(self) -> bool:
        """Whether the next portion is to be begun: it is of the step that is taken or the one after it, or
        of these two some are still under way."""
        if not (self._waiting and self._snapshot):
            return False
        soon = self._snapshot.version + 2
        return self._waiting[0][0] <= soon or any(step <= soon for step in self._under_way)

    def _checked(self, portion: Portion, answers: list[Answer]) -> list[Answer] | None:
        """The answers; None where they are too old. Raises `EngineError` where they do not answer this."""
        rows = len(portion.request.prompts)
        problems = [self.fit.problem(answer) for answer in answers]
        problems += [f"it gave {len(answers)} completions for {rows}"] if len(answers) != rows else []
        with self._changed:
            unknown = [a.version for a in answers if a.version not in self._versions]
            problems += [f"it sampled from version {unknown[0]!r}, which it never got"] if unknown else []
            if problem := next(filter(None, problems), ""):
                self.counts["refused"] += rows
                raise EngineError(problem)
        return answers if min(answer.version for answer in answers) >= portion.request.oldest else None

    def _finish(self, engine: Engine, portion: Portion, answers: list[Answer] | None) -> None:
        if answers is None:
            with self._changed:
                self.counts["dropped"] += len(portion.request.prompts)
            self.give([portion])
            return
        with self._changed:
            portion.answers, portion.by = answers, engine
            self._changed.notify_all()

    def _lose(self, engine: Engine, portion: Portion, why: str) -> None:
        if self._closed.is_set():
            return
        self.say_lost(engine, why)
        with self._changed:
            self.counts["retried"] += len(portion.request.prompts)
        self.give([portion])

    def say_lost(self, engine: Engine, why: str) -> None:
        """Take an engine as one that does not answer."""
        LOG.warning(f"sampler: {engine.where} {why.rstrip('.')}. It is tried again every {self.pause:g} s.")
        with self._changed:
            self.lost[engine] = why
            self._changed.notify_all()

    def _found_again(self, engine: Engine) -> bool:
        """Whether a lost engine answers, after a pause. That it is the wrong one is said."""
        if self._closed.wait(self.pause):
            return False
        try:
            engine.greet()
        except EngineError as error:
            if error.mistaken and error.reason != self.lost[engine]:
                self.say_lost(engine, error.reason)
            return False
        with self._changed:
            del self.lost[engine]
        LOG.warning(f"sampler: {engine.where} answers.")
        return True

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()
