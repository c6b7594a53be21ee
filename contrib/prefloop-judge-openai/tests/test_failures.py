"""Servers that are slow, busy, broken or gone: nothing is mislabelled, and the run goes on or stops."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from attrs import evolve
from fake_server import Request, Response, completion, failure, knows_the_better, likely, pairs

from prefloop import StopRun
from prefloop_judge_openai.server import Patience, retry_after

GOOD = completion("A", likely(A=0.9, B=0.1))
FAULTS = {
    "slow": (Response(GOOD.body, delay=3.0), "no reply within 1 s"),
    "rate limit": (failure(429, "slow down"), "the server answered 429: 'slow down'"),
    "rate limit with a wait": (failure(429, "slow down", Retry_After="0.01"), "the server answered 429"),
    "broken": (failure(500, "CUDA error"), "the server answered 500: 'CUDA error'"),
    "broken proxy": (Response(b"<html>502</html>", 502), "the server answered 502"),
    "dropped": (evolve(GOOD, drop=True), "no connection: RemoteProtocolError"),
    "bad request": (failure(400, "too long for me"), "the server answered 400: 'too long for me'"),
    "no JSON": (Response(b"oops"), "the reply is no chat completion: 'oops'"),
    "half a JSON": (Response(GOOD.body[:50]), "the reply is no chat completion: "),
    "binary": (Response(bytes(range(256))), "the reply is no chat completion: "),
    "no body": (Response(b""), "the reply is no chat completion: ''"),
    "no choices": (Response(b'{"choices": []}'), "the reply is no chat completion: '{\"choices\": []}'"),
    "an error with status 200": (Response(b'{"error": {"message": "A"}}'), "the reply is no chat completion"),
}
NONSENSE = {
    "empty": completion(""),
    "null": completion(None),
    "prose": completion("Well, A has its merits, but B is shorter."),
    "a third label": completion("C"),
    "unlikely labels": completion("The", likely(The=0.9, A=0.05, B=0.01)),
    "both labels": completion("A B"),
    "endless": completion("la " * 50_000),
}


def patience(fault: str) -> float:
    """Seconds to wait for a reply: a busy machine must not look like a slow server."""
    return 1.0 if fault == "slow" else 20.0


def spoil(prompt: str, response: Response) -> Any:
    """A server that knows the answer to every question but those about one prompt."""
    return lambda request: response if request.quoted[0] == prompt else knows_the_better(request)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pair_without_a_reply_is_an_error_and_the_others_are_judged(
    serve: Any, judge_at: Any, fault: str
) -> None:
    response, reason = FAULTS[fault]
    server = serve(spoil("prompt 3", response))
    verdicts = judge_at(server, timeout=patience(fault), retries=1).judge(pairs(6))
    assert [v.status for v in verdicts] == ["ok", "ok", "ok", "error", "ok", "ok"]
    assert [v.prefers_first for v in verdicts] == [True, True, False, None, True, False]
    assert reason in verdicts[3].reason


@pytest.mark.parametrize("fault", FAULTS)
def test_or_stops_the_run_with_what_was_judged_before(serve: Any, judge_at: Any, fault: str) -> None:
    response, reason = FAULTS[fault]
    server = serve(spoil("prompt 3", response))
    judge = judge_at(server, timeout=patience(fault), retries=0, concurrency=2, on_failure="stop")
    with pytest.raises(StopRun) as stop:
        judge.judge(pairs(40))
    assert stop.value.reason.startswith(f"the judge at {server.url} failed: {reason}")
    assert [v.prefers_first for v in stop.value.verdicts] == [True, True, False]
    assert stop.value.failed
    assert len(server.requests) < 20  # what was not under way was not begun


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("on_failure", ["error", "stop"])
def test_nonsense_is_an_error_and_not_asked_again(
    serve: Any, judge_at: Any, nonsense: str, on_failure: str
) -> None:
    server = serve(spoil("prompt 1", NONSENSE[nonsense]))
    verdicts = judge_at(server, on_failure=on_failure).judge(pairs(3))
    assert [v.prefers_first for v in verdicts] == [True, None, False]
    assert verdicts[1].status == "error"
    assert len(verdicts[1].reason) < 200
    assert len(server.requests) == 6


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"bad request"}))
def test_a_fault_that_passes_leaves_no_trace(serve: Any, judge_at: Any, fault: str) -> None:
    response, _ = FAULTS[fault]
    server = serve(lambda r: response if r.number <= 3 else knows_the_better(r))
    verdicts = judge_at(server, timeout=patience(fault), retries=3).judge(pairs(3))
    assert [v.probability for v in verdicts] == pytest.approx([0.75, 0.75, 0.25])
    assert len(server.requests) == 9


def test_a_server_that_dies_halfway(serve: Any, judge_at: Any) -> None:
    def die(request: Request) -> Response:
        alive = request.number <= 8
        return knows_the_better(request) if alive else evolve(GOOD, drop=True)

    judged = judge_at(serve(die), concurrency=1).judge(pairs(10))
    assert [v.prefers_first for v in judged] == [True, True, False, True, *[None] * 6]
    with pytest.raises(StopRun) as stop:
        judge_at(serve(die), concurrency=1, on_failure="stop").judge(pairs(10))
    assert [v.prefers_first for v in stop.value.verdicts] == [True, True, False, True]


def test_a_server_that_is_gone_between_two_batches(serve: Any, judge_at: Any) -> None:
    server = serve(knows_the_better)
    judge = judge_at(server)
    assert judge.judge(pairs(1))[0].prefers_first is True
    server.script = lambda _: Response(b"", drop=True)
    assert [v.status for v in judge.judge(pairs(2))] == ["error", "error"]
    server.script = knows_the_better
    assert judge.judge(pairs(1))[0].prefers_first is True


def test_every_request_waits_as_long_as_the_server_asks(serve: Any, judge_at: Any) -> None:
    arrived: list[float] = []

    def limit(request: Request) -> Response:
        arrived.append(time.monotonic())
        return failure(429, "wait", Retry_After="1") if request.number == 1 else knows_the_better(request)

    judge = judge_at(serve(limit), concurrency=1)
    assert [v.status for v in judge.judge(pairs(2))] == ["ok", "ok"]
    assert arrived[1] - arrived[0] >= 0.99  # the second to arrive is another question


def test_a_wait_that_is_too_long_is_a_failure(serve: Any, judge_at: Any) -> None:
    server = serve(lambda _: failure(429, "come back tomorrow", Retry_After="86400"))
    (verdict,) = judge_at(server, orders="fixed").judge(pairs(1))
    assert verdict.reason == (
        "the server answered 429: 'come back tomorrow'; it asks to wait 86400 s, longer than 'max_wait'"
    )
    assert len(server.requests) == 1


def test_a_halt_ends_the_waiting(serve: Any, judge_at: Any) -> None:
    def script(request: Request) -> Response:
        if request.quoted[0] == "prompt 0":
            return failure(503, "wait", Retry_After="60")
        return Response(failure(400, "no").body, 400, delay=0.2)

    started = time.monotonic()
    with pytest.raises(StopRun, match="the server answered 400"):
        judge_at(serve(script), on_failure="stop", orders="fixed").judge(pairs(2))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("status", [401, 429])
def test_a_refused_key_or_an_empty_account_always_stops_the_run(
    serve: Any, judge_at: Any, status: int
) -> None:
    body = b'{"error": {"message": "pay first", "code": "insufficient_quota"}}'
    server = serve(lambda r: knows_the_better(r) if r.number <= 4 else Response(body, status))
    with pytest.raises(StopRun, match=f"the server answered {status}: 'pay first'") as stop:
        judge_at(server, concurrency=1).judge(pairs(10))
    assert len(stop.value.verdicts) == 2
    assert len(server.requests) == 5


def test_backoff_doubles_with_jitter_up_to_a_limit() -> None:
    patience = Patience(timeout=1.0, retries=9, backoff=0.5, max_wait=10.0)
    for attempt, longest in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]):
        delays = {patience.delay(attempt) for _ in range(50)}
        assert longest / 2 <= min(delays) <= max(delays) <= longest
        assert len(delays) > 1


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "-3"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "inf"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(30, abs=2)
