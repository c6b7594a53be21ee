"""Who is given which portion, which versions come through, and what becomes of one that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from attrs import define, field

from prefloop import Sampling, StopRun
from prefloop_sampler_remote.dispatch import Dispatcher, Fit, Portion
from prefloop_sampler_remote.engine import Answer, EngineError, Request, Snapshot

Script = Callable[[int, Snapshot], list[Answer]]
FIT = Fit(vocabulary=100, max_tokens=4)


@define(eq=False)
class Scripted:
    """An engine whose answers a test decides: by the number of the request, from 0, and the snapshot."""

    script: Script
    where: str = "scripted"
    loaded: list[str] = field(factory=list)
    asked: int = 0
    greeted: int = 0
    gone: bool | str = False

    def greet(self) -> None:
        self.greeted += 1
        if self.gone:
            raise EngineError(str(self.gone), mistaken=self.gone is not True)

    def load(self, snapshot: Snapshot) -> None:
        self.loaded.append(snapshot.digest)

    def sample(self, request: Request, snapshot: Snapshot) -> list[Answer]:
        self.asked += 1
        return self.script(self.asked - 1, snapshot)

    def close(self) -> None:
        pass


def snapshot(version: int) -> Snapshot:
    return Snapshot(version, b"", {}, f"digest {version}")


def portion(step: int = 1, oldest: int = 0) -> Portion:
    return Portion(step, Request(((1,),), Sampling(), 0, oldest=oldest))


def answered(version: int, *tokens: int) -> list[Answer]:
    return [Answer(tokens or (7,), True, version)]


def nobody(request: Request) -> list[Answer]:
    raise AssertionError("the learner sampled itself")


Begin = Callable[..., Dispatcher]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """``begin(engine, …)``: a dispatcher at work, whose policy is of version 5, and was of 3 before."""
    begun: list[Dispatcher] = []

    def make(*engines: Scripted, fallback: bool = False, pause: float = 0.01) -> Dispatcher:
        made = Dispatcher(engines, FIT, pause=pause, fallback=fallback)
        begun.append(made)
        for version in (3, 5):
            made.publish(snapshot(version))
        made.open()
        return made

    yield make
    for one in begun:
        one.close()


def through(dispatcher: Dispatcher, asked: Portion) -> list[Answer]:
    dispatcher.give([asked])
    dispatcher.wait([asked], nobody)
    assert asked.answers is not None
    return asked.answers


@pytest.mark.parametrize(
    "wrong",
    [
        answered(4),
        answered(99),
        answered(5) * 2,
        [],
        answered(5, 100),
        answered(5, -1),
        answered(5, 1, 2, 3, 4, 5),
        [Answer((), True, 5)],
    ],
)
def test_what_is_no_answer_is_refused_counted_and_asked_again(begin: Begin, wrong: list[Answer]) -> None:
    """A version that was never published is none: 4 lies between two that were."""
    engine = Scripted(lambda number, held: wrong if number == 0 else answered(held.version))
    dispatcher = begin(engine)
    assert through(dispatcher, portion()) == answered(5)
    found = dispatcher.measures()
    assert (found["remote_refused"], found["remote_retried"], found["remote_dropped"]) == (1, 1, 0)
    assert engine.greeted == 1
    assert engine.loaded == ["digest 5"] * 2  # it may have lost what it held


def test_an_older_version_comes_through_within_the_bound_alone(begin: Begin) -> None:
    dispatcher = begin(Scripted(lambda number, held: answered(3 if number < 2 else 5)))
    assert through(dispatcher, portion(oldest=3)) == answered(3)
    assert through(dispatcher, portion(oldest=4)) == answered(5)
    assert dispatcher.measures()["remote_dropped"] == 1


def test_adapters_are_sent_when_they_changed(begin: Begin) -> None:
    engine = Scripted(lambda number, held: answered(held.version))
    dispatcher = begin(engine)
    for _ in range(2):
        through(dispatcher, portion())
    dispatcher.publish(snapshot(6))
    assert through(dispatcher, portion()) == answered(6)
    assert engine.loaded == ["digest 5", "digest 6"]


def test_steps_are_sampled_in_their_order(begin: Begin) -> None:
    order: list[int] = []
    release = threading.Event()

    def wait(number: int, held: Snapshot) -> list[Answer]:
        release.wait(10)
        return answered(held.version)

    engine = Scripted(wait)
    dispatcher = begin(engine)
    portions = [portion(step) for step in (7, 4, 6, 5)]
    dispatcher.give(portions[:1])
    while not engine.asked:
        time.sleep(0.01)  # until the first is under way
    dispatcher.give(portions[1:])
    order = [entry[0] for entry in sorted(dispatcher._waiting)]
    release.set()
    dispatcher.wait(portions, nobody)
    assert order == [4, 5, 6]


def test_a_lost_engines_portion_goes_to_another(begin: Begin) -> None:
    def fail(number: int, held: Snapshot) -> list[Answer]:
        raise EngineError("gone")

    bad, good = Scripted(fail, "bad"), Scripted(lambda number, held: answered(held.version), "good")
    bad.gone = True
    dispatcher = begin(bad, good)
    portions = [portion(step % 7) for step in range(20)]
    dispatcher.give(portions)
    dispatcher.wait(portions, nobody)
    assert all(p.answers == answered(5) for p in portions)
    assert bad.asked <= 1


def test_the_learner_samples_where_nobody_does(begin: Begin) -> None:
    def fail(number: int, held: Snapshot) -> list[Answer]:
        raise ValueError("a fault of the engine")

    engine = Scripted(fail)
    dispatcher = begin(engine, fallback=True)
    asked = portion()
    dispatcher.give([asked])
    dispatcher.wait([asked], lambda request: answered(5, 9))
    assert asked.answers == answered(5, 9)
    assert dispatcher.measures()["remote_here"] == 1


def test_one_that_fails_though_it_can_be_greeted_has_its_pause(begin: Begin) -> None:
    def fail(number: int, held: Snapshot) -> list[Answer]:
        raise EngineError("has a fault")

    engine = Scripted(fail)
    begin(engine, pause=60).give([portion()])
    time.sleep(0.3)
    assert (engine.asked, engine.greeted) == (1, 0)


def test_one_whose_answers_are_refused_later_gets_no_work_before_its_pause(begin: Begin) -> None:
    engine = Scripted(lambda number, held: answered(held.version))
    dispatcher, asked = begin(engine, pause=60), portion()
    through(dispatcher, asked)
    time.sleep(0.1)  # until it waits for the next
    dispatcher.refuse(asked, "reads them otherwise")
    time.sleep(0.3)
    assert (engine.asked, asked.answers) == (1, None)


def test_that_a_lost_one_came_back_as_the_wrong_one_is_said_once(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(number: int, held: Snapshot) -> list[Answer]:
        raise EngineError("is away")

    engine = Scripted(fail, gone="holds another base model")
    begin(engine).give([portion()])
    while engine.greeted < 3:
        time.sleep(0.01)
    said = [record.message for record in caplog.records if "another base model" in record.message]
    assert len(said) == 1


def test_what_ends_the_run_is_raised_where_it_is_waited(begin: Begin) -> None:
    def stop(number: int, held: Snapshot) -> list[Answer]:
        raise StopRun("no finite logits", failed=True)

    dispatcher = begin(Scripted(stop))
    with pytest.raises(StopRun, match="no finite logits"):
        through(dispatcher, portion())


def test_nobody_works_further_ahead_than_it_takes(begin: Begin) -> None:
    """Steps 6 and 7 are sampled from version 5, and step 8 once there is version 6."""
    engine = Scripted(lambda number, held: answered(held.version))
    dispatcher = begin(engine)
    portions = [portion(step) for step in (6, 7, 8, 9)]
    dispatcher.give(portions)
    dispatcher.wait(portions[:2], nobody)
    time.sleep(0.1)
    assert [p.answers for p in portions] == [answered(5), answered(5), None, None]
    dispatcher.publish(snapshot(6))
    dispatcher.wait(portions[:3], nobody)
    time.sleep(0.1)
    assert [p.answers for p in portions[2:]] == [answered(6), None]


def test_two_engines_do_not_draw_each_other_ahead(begin: Begin) -> None:
    """That step 8 is under way is no reason to begin step 9, while 6 and 7 lie ready."""
    sixth, eighth = threading.Event(), threading.Event()

    def held_up(number: int, held: Snapshot, at: int, until: threading.Event) -> list[Answer]:
        if number == at:
            until.wait(10)
        return answered(held.version)

    one = Scripted(lambda number, held: held_up(number, held, 0, sixth))
    two = Scripted(lambda number, held: held_up(number, held, 1, eighth))
    dispatcher = begin(one)
    portions = [portion(step) for step in (6, 7, 8, 9)]
    dispatcher.give(portions[:1])
    while not one.asked:
        time.sleep(0.01)
    dispatcher.engines += (two,)
    threading.Thread(target=dispatcher._serve, args=(two,), daemon=True).start()
    dispatcher.give(portions[1:])
    while two.asked < 2:
        time.sleep(0.01)
    sixth.set()
    dispatcher.wait(portions[:2], nobody)
    time.sleep(0.1)
    assert (one.asked, two.asked) == (1, 2)
    eighth.set()
    dispatcher.publish(snapshot(7))
    dispatcher.wait(portions, nobody)


def test_while_a_step_is_late_the_next_is_begun(begin: Begin) -> None:
    release = threading.Event()

    def first_waits(number: int, held: Snapshot) -> list[Answer]:
        if number == 0:
            release.wait(10)
        return answered(held.version)

    slow = Scripted(first_waits)
    quick = Scripted(lambda number, held: answered(held.version))
    dispatcher = begin(slow)
    late, later = portion(7), portion(8)
    dispatcher.give([late])
    while not slow.asked:
        time.sleep(0.01)
    dispatcher.engines += (quick,)
    threading.Thread(target=dispatcher._serve, args=(quick,), daemon=True).start()
    dispatcher.give([later])
    dispatcher.wait([later], nobody)
    assert late.answers is None
    release.set()
    dispatcher.wait([late], nobody)
