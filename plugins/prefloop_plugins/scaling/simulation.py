"""Steps of ranks and of workers played through, event by event, with the spread that was measured.

What is assumed: each stretch of work takes its mean seconds times a factor that was measured in some step,
drawn anew each time and independent of the others; a machine has one port, full duplex, over which messages
go one after the other; nothing fails.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from statistics import fmean

import numpy as np
from attrs import define, evolve, field, frozen

from prefloop_plugins.scaling.machines import Link
from prefloop_plugins.scaling.phases import Phases
from prefloop_plugins.scaling.ways import Way, learner_seconds, rank_seconds, shares
from prefloop_plugins.scaling.wire import Work, ranks_seconds


@frozen
class Played:
    """What came of it."""

    seconds: float
    """Mean of a step, once all are at work."""
    age: float = 0.0
    """Mean steps by which samples were old when they were used."""
    oldest: int = 0
    learner_busy: float = 1.0
    """Share of the time in which the learner, or a rank, was at work."""


def play_ranks(work: Work, phases: Sequence[Phases], link: Link, steps: int = 400, seed: int = 0) -> Played:
    """As many ranks as there are `phases`: all wait for the slowest in every step."""
    draws = np.random.default_rng(seed)
    own = shares(work.pairs, len(phases))
    means = np.array([rank_seconds(work, p, n) for p, n in zip(phases, own, strict=True)])
    factors = np.stack([draws.choice(p.spread, steps) for p in phases], axis=1)  # (steps, ranks)
    taken = means * factors
    alone = phases[0].judging(work.pairs) * draws.choice(phases[0].spread, steps) if work.one_judge else 0.0
    rest = ranks_seconds(work, len(phases), link) + max(p.update for p in phases)
    seconds = float(np.mean(taken.max(axis=1) + alone)) + rest
    return Played(seconds, learner_busy=float(taken.mean()) / seconds)


@define
class _Port:
    """One direction of a machine's port: what is sent waits until what was sent before it has gone."""

    link: Link
    free: float = 0.0

    def send(self, now: float, size: float) -> float:
        """When it has arrived."""
        self.free = max(now, self.free) + size / self.link.rate
        return self.free + self.link.latency_ms / 1e3


@define(slots=False)
class _Workers:
    """The learner and its workers. A portion is part of a step's prompts, for one worker at a time."""

    work: Work
    phases: Sequence[Phases]
    link: Link
    staleness: int
    draws: np.random.Generator
    now: float = 0.0
    ends: list[float] = field(factory=lambda: [0.0])
    """When the learner had taken each step."""
    busy: float = 0.0
    ages: list[int] = field(factory=list)
    _events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _number: Iterator[int] = field(factory=count)
    _free: list[int] = field(init=False)
    _has: dict[int, int] = field(factory=dict)
    """The version of the adapters that each worker has."""
    _arrived: dict[int, list[int]] = field(factory=lambda: defaultdict(list))
    """The versions of the portions of each step that are there."""

    def __attrs_post_init__(self) -> None:
        workers = len(self.phases) - 1
        self._free = list(range(1, workers + 1))
        self.out, self.back = _Port(self.link), _Port(self.link)
        self.parts = [pairs for pairs in shares(self.work.pairs, workers) if pairs]
        self.portions = ((step, pairs) for step in count() for pairs in self.parts)
        self.following = next(self.portions)

    @property
    def taken(self) -> int:
        """Steps that the learner has taken, which is the version of its adapters."""
        return len(self.ends) - 1

    def play(self, steps: int) -> None:
        self._give()
        while self.taken < steps:
            self.now, _, happens = heapq.heappop(self._events)
            happens()

    def _at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), happens))

    def _give(self) -> None:
        """Give portions to whoever is free, as far ahead as samples may be old."""
        while self._free and self._due(self.following[0]):
            worker, (step, pairs) = self._free.pop(0), self.following
            self.following = next(self.portions)
            adapters = 0 if self._has.get(worker) == self.taken else self.work.adapter_bytes
            begins, self._has[worker] = (
                self.out.send(self.now, adapters + self.work.asked_bytes(pairs)),
                self.taken,
            )
            seconds = self._drawn(self.phases[worker].sampling(pairs), worker)
            self._at(begins + seconds, partial(self._sampled, worker, step, pairs))

    def _due(self, step: int) -> bool:
        """Whether a step is begun: one after the next only while the next, or the one taken, is not whole."""
        late = any(len(self._arrived[soon]) < len(self.parts) for soon in (self.taken, self.taken + 1))
        return step - self.taken <= (self.staleness if late else min(1, self.staleness))

    def _sampled(self, worker: int, step: int, pairs: int) -> None:
        arrives = self.back.send(self.now, self.work.answer_bytes(pairs))
        self._at(arrives, partial(self._received, step, self._has[worker]))
        self._free.append(worker)
        self._give()

    def _received(self, step: int, version: int) -> None:
        self._arrived[step].append(version)
        if step == self.taken:
            self._learn()

    def _learn(self) -> None:
        """Take the next step where all of it is there. While it is taken, no portion of it can arrive."""
        if len(self._arrived[self.taken]) < len(self.parts):
            return
        self.ages += [self.taken - version for version in self._arrived[self.taken]]
        seconds = self._drawn(learner_seconds(self.work, self.phases[0]), 0)
        self.busy += seconds
        self._at(self.now + seconds, self._learnt)

    def _learnt(self) -> None:
        del self._arrived[self.taken]
        self.ends.append(self.now)
        self._give()
        self._learn()

    def _drawn(self, seconds: float, machine: int) -> float:
        return seconds * float(self.draws.choice(self.phases[machine].spread))


def play_workers(
    work: Work, phases: Sequence[Phases], link: Link, staleness: int, steps: int = 400, seed: int = 0
) -> Played:
    """The first of `phases` is the learner's, the others are those of its workers.

    `staleness` is ``max_staleness``: how many steps ahead prompts may be given to workers.
    """
    played = _Workers(work, phases, link, staleness, np.random.default_rng(seed))
    played.play(steps)
    warm = steps // 4
    seconds = (played.ends[-1] - played.ends[warm]) / (steps - warm)
    busy = min(1.0, played.busy / played.ends[-1])
    return Played(seconds, fmean(played.ages), max(played.ages), busy)


def simulated(way: Way, work: Work, phases: Sequence[Phases], link: Link) -> Way:
    """`way` with the seconds that it takes as it is played."""
    if way.name == "one":
        return evolve(way, simulated=way.seconds)
    steps, own = max(50, min(400, 20_000 // way.machines)), phases[: way.machines]
    if way.name == "ranks":
        return evolve(way, simulated=play_ranks(work, own, link, steps).seconds)
    return evolve(way, simulated=play_workers(work, own, link, way.staleness, steps).seconds)
