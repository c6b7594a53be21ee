"""What the learner makes of a worker that answers nonsense: one sentence, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from prefloop import Sampling
from prefloop_sampler_remote.client import WorkerEngine
from prefloop_sampler_remote.engine import Answer, EngineError, Request, Snapshot
from prefloop_sampler_remote.limits import Limits

SNAPSHOT = Snapshot(0, b"", {}, "digest")
ABOUT = {"protocol": 1, "name": "m", "model": "model", "limits": {"rows": 4, "prompt": 9, "completion": 9}}
Answering = Callable[..., WorkerEngine]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """``answering(answer)``: an engine whose worker answers everything with that."""
    made: list[WorkerEngine] = []

    def make(answer: Any, **needs: int) -> WorkerEngine:
        least = Limits(**({"rows": 1, "prompt": 1, "completion": 1} | needs))
        engine = WorkerEngine("http://worker", "token", "model", least, 1.0)
        engine.close()
        given = {"content": answer} if isinstance(answer, bytes) else {"json": answer}
        transport = httpx.MockTransport(lambda _: httpx.Response(200, **given))
        engine._client = httpx.Client(base_url="http://worker", transport=transport)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 200_000,
        b"<html>",
        [1],
        ABOUT | {"limits": None},
        ABOUT | {"limits": {}},
        ABOUT | {"limits": {"rows": "4", "prompt": 9, "completion": 9}},
        {"status": "fine"},
        {"error": "x", "status": [1]},
        {"stop": "at once"},
    ],
)
def test_a_greeting_that_is_nonsense_is_an_engines_error(answering: Answering, answer: Any) -> None:
    with pytest.raises(EngineError):
        answering(answer).greet()


@pytest.mark.parametrize(
    ("needs", "key"),
    [
        ({"rows": 6}, "sampler.portion"),
        ({"prompt": 10}, "prompts.max_length"),
        ({"completion": 10}, "sampler.max_completion_length"),
    ],
)
def test_a_run_that_asks_more_than_a_worker_takes_is_told_so(
    answering: Answering, needs: dict[str, int], key: str
) -> None:
    answering(ABOUT).greet()
    with pytest.raises(EngineError, match=key):
        answering(ABOUT, **needs).greet()


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 200_000,
        {"policy": "other"},
        {"policy": "digest"},
        {"policy": "digest", "version": 0, "completions": "abc"},
        {"policy": "digest", "version": "0", "completions": [{"tokens": [1], "text": "", "stopped": True}]},
        {"policy": "digest", "version": 0, "completions": None},
        {"error": "said later", "status": 422},
        {"error": "no number", "status": "422"},
    ],
)
def test_completions_that_are_nonsense_are_an_engines_error(answering: Answering, answer: Any) -> None:
    with pytest.raises(EngineError):
        answering(answer).sample(Request(((1,),), Sampling(), 0), SNAPSHOT)


def test_a_name_that_no_host_can_have_is_an_engines_error() -> None:
    engine = WorkerEngine(f"http://{'a' * 70}.example", "token", "model", Limits(), 1.0)
    with pytest.raises(EngineError, match="cannot be reached"):
        engine.greet()
    engine.close()


def test_a_worker_that_holds_other_adapters_is_sent_them_again() -> None:
    """It was started again, or another run uses it, too."""
    asked: list[str] = []
    completions = [{"tokens": [1], "text": "a", "stopped": True}]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if asked == ["POST"]:
            return httpx.Response(409, json={"error": "holds none"})
        return httpx.Response(200, json={"policy": "digest", "version": 0, "completions": completions})

    engine = WorkerEngine("http://worker", "token", "model", Limits(), 1.0)
    engine.close()
    engine._client = httpx.Client(base_url="http://worker", transport=httpx.MockTransport(answer))
    assert engine.sample(Request(((1,),), Sampling(), 0), SNAPSHOT) == [Answer((1,), True, 0, "a")]
    assert asked == ["POST", "PUT", "POST"]
