"""A step on one machine, on ranks, and with workers: the arithmetic, without chance and without queues.

- **One** machine takes a step's pairs through sampling, judging, scoring and update.
- **Ranks** divide the pairs evenly and meet at the end of a step: the slowest sets the pace. Then come the
  collectives and the update, which each does for itself.
- **Workers** sample while the first machine, the learner, judges, scores and updates. It pushes its adapters
  to each in every step. Where samples may be old enough, the step takes as long as the slowest of learner,
  workers and link; where they may not be (a staleness of 0), all of them one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from attrs import frozen

from prefloop_plugins.scaling.machines import Link
from prefloop_plugins.scaling.phases import Phases
from prefloop_plugins.scaling.wire import (
    Work,
    pushed_bytes,
    ranks_bytes,
    ranks_seconds,
)

Name = Literal["one", "ranks", "workers"]
WORTH = 0.9
"""More machines are worth it where a step takes at most this share of the time of fewer or simpler ones."""


@frozen
class Way:
    """One way to use so many machines."""

    name: Name
    machines: int
    sent_bytes: float
    """In a step, by the machine that sends most."""
    seconds: float | None = None
    """Of a step; None where nothing was measured."""
    communicating: float | None = None
    """Seconds of that in which the wire is waited for."""
    portion: int = 0
    """Pairs that a worker gets at a time."""
    staleness: int = 0
    """Steps that a sample may have to be old so that nobody waits."""
    synchronous: float | None = None
    """Seconds of a step where no sample may be old; None where that makes no difference."""
    simulated: float | None = None
    """Seconds of a step with the measured spread, as `simulation` plays it; what is recommended by."""


def one(work: Work, phases: Phases | None) -> Way:
    seconds = phases.step(work.pairs) if phases else None
    return Way("one", 1, 0.0, seconds, 0.0 if phases else None)


def ranks(work: Work, phases: Sequence[Phases] | None, machines: int, link: Link) -> Way:
    """`phases` are those of each machine, the first one first."""
    sent = ranks_bytes(work, machines)
    if phases is None:
        return Way("ranks", machines, sent)
    wire = ranks_seconds(work, machines, link)
    at_work = max(
        rank_seconds(work, own, share)
        for own, share in zip(phases, shares(work.pairs, machines), strict=False)
    )
    update = max(own.update for own in phases[:machines])
    alone = phases[0].judging(work.pairs) if work.one_judge else 0.0
    return Way("ranks", machines, sent, at_work + alone + wire + update, wire)


def rank_seconds(work: Work, phases: Phases, pairs: int) -> float:
    """What a rank does between two meetings, with its share of the pairs."""
    judging = 0.0 if work.one_judge else phases.judging(pairs)
    return phases.sampling(pairs) + judging + phases.scoring(pairs)


def shares(pairs: int, machines: int) -> list[int]:
    """Pairs of each machine: they differ by one at most."""
    some, more = divmod(pairs, machines)
    return [some + (place < more) for place in range(machines)]


def workers(work: Work, phases: Sequence[Phases] | None, machines: int, link: Link) -> Way:
    """The first machine learns, the others sample."""
    count = machines - 1
    sent = pushed_bytes(work, count)
    if phases is None:
        return Way("workers", machines, sent)
    parts = [pairs for pairs in shares(work.pairs, count) if pairs]
    push = link.seconds(work.adapter_bytes + work.asked_bytes(parts[0]))
    back = link.seconds(work.answer_bytes(parts[0]))
    turns = [fmean(push + own.sampling(part) + back for part in parts) for own in phases[1:machines]]
    sampling = len(parts) / sum(1 / turn for turn in turns)  # a part goes to whoever is free
    learning = learner_seconds(work, phases[0])
    wire = sent / link.rate
    seconds = max(sampling, learning, wire)
    longest = max(own.sampling(parts[0]) for own in phases[1 : 1 + len(parts)])
    pushes = link.seconds(work.adapter_bytes * len(parts) + work.asked_bytes(work.pairs))
    cycle = pushes + longest + back + learning
    needed = max(0, math.ceil(cycle / seconds - 1e-9) - 1)
    return Way("workers", machines, sent, seconds, push + back, parts[0], needed, cycle)


def learner_seconds(work: Work, phases: Phases) -> float:
    """What the learner does in a step, where others sample."""
    return phases.judging(work.pairs) + phases.scoring(work.pairs) + phases.update


def ways(work: Work, phases: Sequence[Phases] | None, machines: int, link: Link) -> list[Way]:
    """Each way for one machine, two, and so on to `machines`. Above eight, counts double."""
    found = [one(work, phases[0] if phases else None)]
    for count in counts(machines)[1:]:
        found.append(ranks(work, phases, count, link))
        if work.adapters:
            found.append(workers(work, phases, count, link))
    return found


def counts(machines: int) -> list[int]:
    """The numbers of machines that are shown: all up to eight, then doubled, and the last."""
    few = list(range(1, min(machines, 8) + 1))
    doubled = [2**power for power in range(4, 11) if 2**power < machines]
    return [*few, *doubled, *([machines] if machines > 8 else [])]


@frozen
class Advice:
    """What is recommended, and why."""

    name: Name
    machines: int
    why: str


def advise(found: Sequence[Way], fits: Sequence[bool]) -> Advice | None:
    """The fastest way that fits the memory, and a simpler one where that is nearly as fast.

    One machine is simpler than ranks, ranks (no sample is old) are simpler than workers. None where nothing
    was measured or nothing fits.
    """
    timed = [(way, way.simulated or way.seconds) for way, fit in zip(found, fits, strict=True) if fit]
    measured = [(way, seconds) for way, seconds in timed if seconds]
    if not measured:
        return None
    best, least = measured[0]
    for way, seconds in measured[1:]:
        if seconds < WORTH * least:
            best, least = way, seconds
    return Advice(best.name, best.machines, _why(best, dict(measured)))


def _why(best: Way, seconds: Mapping[Way, float]) -> str:
    if best.name == "one":
        return f"nothing else that fits takes less than {WORTH:.0%} of its time"
    alone = next((taken for way, taken in seconds.items() if way.name == "one"), None)
    others = [way for way in seconds if way.machines == best.machines and way is not best]
    beside = "".join(f", {other.name} {seconds[other]:.3g} s" for other in others)
    faster = (
        f"{alone / seconds[best]:.2f} times as fast as one machine" if alone else "one alone does not fit"
    )
    old = "no sample is old"
    if best.name == "workers":
        old = f"sampler.max_staleness: {best.staleness}, sampler.portion: {best.portion}"
    return f"{seconds[best]:.3g} s a step{beside}; {faster}; {old}"
