"""The queue of pairs: who gets which, what counts, and that nothing is lost or asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import evolve
from starlette.testclient import TestClient

from conftest import wait_for
from prefloop import Completion, Pair, Prompt, StopRun, UserError, Verdict, component
from prefloop_studio.judge import WebJudge
from prefloop_studio.labels import LEASE_SECONDS, TAKEN_BACK, Answer, LabelQueue, id_of


def pair(number: int, second: str = "b") -> Pair:
    prompt = Prompt(
        (), f"question {number}", ({"role": "user", "content": f"question {number}"},), id=f"p{number}"
    )
    return Pair(prompt, Completion((1,), f"a{number}"), Completion((2,), f"{second}{number}"))


def said(id: str, status: str = "ok", probability: float = 0.8, **more: object) -> Answer:
    return evolve(Answer(id, status, probability, at=time.time()), **more)


@pytest.fixture
def queue(runs: Path) -> LabelQueue:
    return LabelQueue(runs / "first")


def test_two_people_get_different_pairs_and_each_keeps_theirs(queue: LabelQueue) -> None:
    queue.ask([pair(1), pair(2)])
    ours, theirs = queue.lease("ann"), queue.lease("bob")
    assert ours and theirs and ours.id != theirs.id
    assert queue.lease("ann") == ours and queue.lease("carl") is None
    lease = queue.folder / "leases" / ours.id
    os.utime(lease, (0, time.time() - LEASE_SECONDS - 1))  # ann has gone away
    assert queue.lease("carl") == ours


def test_an_answer_counts_once_and_the_last_one_counts(queue: LabelQueue) -> None:
    (id,) = queue.ask([pair(1)])
    assert queue.answer(said(id)) and not queue.answer(said(id))
    assert queue.open() == {}
    assert queue.answer(said(id, probability=0.2))
    assert [a.probability for a in queue.answered_since(0)[0]] == [0.8, 0.2]


def test_an_answer_can_be_taken_back_until_it_is_learnt_from(queue: LabelQueue) -> None:
    (id,) = queue.ask([pair(1)])
    queue.answer(said(id))
    queue.answer(said(id, TAKEN_BACK))
    assert list(queue.open()) == [id] and not queue.close([id])
    queue.answer(said(id))
    assert queue.close([id])
    with pytest.raises(UserError, match="has learnt from that pair already"):
        queue.answer(said(id, TAKEN_BACK))
    with pytest.raises(UserError, match="did not ask"):
        queue.answer(said("unknown"))


def test_a_later_batch_settles_what_came_before(queue: LabelQueue) -> None:
    (first,) = queue.ask([pair(1)])
    queue.answer(said(first))
    queue.ask([pair(2)])  # the run was killed and goes on: the first answer is in its ledger
    with pytest.raises(UserError, match="has learnt"):
        queue.answer(said(first, TAKEN_BACK))


def test_a_pair_is_in_the_queue_once(queue: LabelQueue) -> None:
    assert queue.ask([pair(1), pair(1)]) == [id_of(pair(1))] * 2
    queue.ask([pair(1)])
    assert len(queue.questions()) == 1
    assert queue.questions()[id_of(pair(1))].pair.first.text == "a1"


def test_what_is_kept_can_still_change_and_what_was_settled_can_be_asked_again(queue: LabelQueue) -> None:
    (first,) = queue.ask([pair(1)])
    (second,) = queue.ask([pair(2)], {first})
    queue.answer(said(first))
    assert queue.answer(said(first, TAKEN_BACK)) and list(queue.open()) == [first, second]
    queue.ask([pair(1)])  # the run was killed, and asks about its steps one by one
    assert list(queue.open()) == [first]
    queue.ask([pair(2)], {first})
    assert list(queue.open()) == [first, second]


# The judge


def answering(queue: LabelQueue, answers: dict[str, Answer]) -> threading.Thread:
    """Somebody who answers each pair as soon as it is asked about."""

    def work() -> None:
        waiting = dict(answers)
        while waiting:
            for id in list(queue.open()):
                if id in waiting:
                    queue.answer(waiting.pop(id))
            time.sleep(0.02)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def web(folder: Path) -> WebJudge:
    return WebJudge(queue=str(folder), undo_seconds=0)


def test_the_judge_gives_what_people_answer(tmp_path: Path) -> None:
    queue = LabelQueue(tmp_path)
    ids = [id_of(pair(n)) for n in range(3)]
    answers = [
        said(ids[0], probability=0.99),
        said(ids[1], "tie", 0.5),
        said(ids[2], "abstained", 0.5, reason="skipped"),
    ]
    answering(queue, dict(zip(ids, answers, strict=True)))
    equal = Pair(pair(9).prompt, Completion((1,), "x"), Completion((1,), "x"))
    verdicts = web(tmp_path).judge([pair(0), equal, pair(1), pair(2)])
    assert [(v.status, v.probability) for v in verdicts] == [
        ("ok", 0.99),
        ("tie", 0.5),
        ("tie", 0.5),
        ("abstained", 0.5),
    ]
    assert id_of(equal) not in queue.questions()


def test_people_may_be_ahead_of_the_run(tmp_path: Path) -> None:
    judge, queue = web(tmp_path), LabelQueue(tmp_path)
    first, second = judge.submit([pair(0), pair(1)]), judge.submit([pair(2), pair(3)])
    ids = [id_of(pair(n)) for n in range(4)]
    assert list(queue.open()) == ids
    for id, probability in zip(ids, (0.9, 0.8, 0.7, 0.6), strict=True):
        queue.answer(said(id, probability=probability))
    assert [v.probability for v in first.result()] == [0.9, 0.8]
    assert queue.answer(said(ids[3], probability=0.1)), "the second batch is not learnt from yet"
    assert [v.probability for v in second.result()] == [0.7, 0.1]
    with pytest.raises(UserError, match="has learnt"):
        queue.answer(said(ids[3], TAKEN_BACK))


def test_the_judge_beside_people_is_asked_once_and_compared(client: TestClient, queue: LabelQueue) -> None:
    asked = []

    class Beside:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            asked.extend(pairs)
            return [Verdict.tie() if p.first.text == "a3" else Verdict(0.9) for p in pairs]

    judge = WebJudge(queue=str(queue.run), undo_seconds=0, beside=Beside())
    ids = [id_of(pair(n)) for n in range(4)]
    given = dict(zip(ids, (0.8, 0.2, 0.8, 0.8), strict=True))
    answering(queue, {id: said(id, probability=p) for id, p in given.items()})
    assert [v.probability for v in judge.judge([pair(n) for n in range(4)])] == list(given.values())
    judge.judge([pair(0)])
    assert asked == [pair(n) for n in range(4)]
    state = client.get("/api/runs/first/labels").json()
    assert (state["beside"], state["beside_agrees"]) == (3, 2)


def test_it_works_in_a_cascade_and_a_committee(tmp_path: Path) -> None:
    rule = component("judge", "rule")(prefer=["never"])  # which is always in doubt
    for name in ("cascade", "committee"):
        folder = tmp_path / name
        folder.mkdir()
        answering(LabelQueue(folder), {id_of(pair(1)): said(id_of(pair(1)), probability=0.2)})
        judge = component("judge", name)(members=[rule, web(folder)])
        assert judge.interactive
        assert judge.judge([pair(1)])[0].prefers_first is False


def test_a_judge_without_a_run_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="set 'queue'"):
        WebJudge().judge([pair(1)])


def test_a_signal_ends_the_wait(tmp_path: Path) -> None:
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StopRun, match="waited for labels"):
        web(tmp_path).judge([pair(1)])
    assert signal.getsignal(signal.SIGTERM) == before


# The page's requests


def test_pairs_are_blind_and_answers_are_turned_back(client: TestClient, queue: LabelQueue) -> None:
    pairs = [pair(n) for n in range(12)]
    ids = queue.ask(pairs)
    shown_swapped, asks = set(), {"who": "ann", "again": False}
    for _ in ids:
        question = client.post("/api/runs/first/labels/next", json=asks).json()["question"]
        own = next(p for p in pairs if id_of(p) == question["id"])
        texts = [own.first.text, own.second.text]
        assert question["answers"] == (texts[::-1] if question["swapped"] else texts)
        shown_swapped.add(question["swapped"])
        body = {"id": question["id"], "swapped": question["swapped"], "choice": "1", "who": "ann"}
        assert client.post("/api/runs/first/labels", json=body).json()["new"]
        assert not client.post("/api/runs/first/labels", json=body).json()["new"]
    assert shown_swapped == {True, False}
    for answer in queue.answers():
        assert answer.verdict.prefers_first != queue.questions()[answer.id].swapped
    state = client.get("/api/runs/first/labels").json()
    assert (state["answered"], state["waiting"], state["alive"]) == (12, 0, False)


def test_one_answer_in_ten_is_looked_at_again_with_sides_exchanged(
    client: TestClient, queue: LabelQueue
) -> None:
    queue.ask([pair(n) for n in range(14)])
    again = []
    for _ in range(12):
        found = client.post("/api/runs/first/labels/next", json={"who": "ann"}).json()
        question = found["question"]
        if found["again"]:
            again.append(question)
            assert question["swapped"] != queue.questions()[question["id"]].swapped
        better = str(1 + question["answers"].index(max(question["answers"])))  # always "b…"
        body = {"id": question["id"], "swapped": question["swapped"], "choice": better, "who": "ann"}
        client.post("/api/runs/first/labels", json={**body, "again": found["again"]})
    assert len(again) == 1
    state = client.get("/api/runs/first/labels").json()
    assert (state["second_looks"], state["agree"], state["answered"]) == (1, 1, 11)


@pytest.mark.parametrize(
    ("choice", "much", "status", "probability", "reason"),
    [
        ("1", False, "ok", 0.8, None),
        ("1", True, "ok", 0.99, None),
        ("t", False, "tie", 0.5, None),
        ("s", False, "abstained", 0.5, "skipped"),
        ("b", False, "abstained", 0.5, "both are bad"),
        ("u", False, TAKEN_BACK, 0.5, None),
    ],
)
def test_keys_mean_what_they_say(
    client: TestClient,
    queue: LabelQueue,
    choice: str,
    much: bool,
    status: str,
    probability: float,
    reason: str | None,
) -> None:
    (id,) = queue.ask([pair(1)])
    client.post("/api/runs/first/labels", json={"id": id, "choice": choice, "much": much, "who": "ann"})
    (answer,) = queue.answers()
    assert (answer.status, answer.probability, answer.reason) == (status, probability, reason)


# A whole run


@pytest.fixture(params=[1, 3])
def waiting_run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, list[str]]]:
    settings = {
        "model": "embedded:policy",
        "prompts": {"path": "embedded:prompts", "limit": 30},
        "judge": {"use": "web", "undo_seconds": 0},
        "sampler": {"max_completion_length": 12, "temperature": 1.2},
        "training": {"batch_size": 4, "iters": 3, "save_every": 1, "rollout": request.param, "seed": 3},
        "evaluation": {"held_out": 0},
        "output": {"path": str(tmp_path / "runs" / "web"), "report": False},
    }
    file = tmp_path / "web.yaml"
    file.write_text(json.dumps(settings))
    yield tmp_path / "runs" / "web", [sys.executable, "-m", "prefloop", "train", str(file)]


@pytest.mark.slow
def test_killed_runs_ask_nothing_twice_and_learn_from_every_answer(
    waiting_run: tuple[Path, list[str]],
) -> None:
    """Somebody answers while the run is killed over and over, also while it is dead."""
    folder, command = waiting_run
    queue = LabelQueue(folder)
    asked_of_people: list[str] = []
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        ends = time.monotonic() + 60
        answered = 0
        while process.poll() is None and time.monotonic() < ends and answered < 3:
            for id in list(queue.open())[: 3 - answered] if queue.folder.is_dir() else []:
                asked_of_people.append(id)
                queue.answer(said(id, probability=0.8 if int(id[0], 16) % 2 else 0.2))
                answered += 1
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()
        if (folder / "run.json").is_file():
            command = [sys.executable, "-m", "prefloop", "train", "--resume", str(folder)]
    assert process.returncode == 0 and kills >= 3
    assert len(asked_of_people) == len(set(asked_of_people)), "a pair was asked twice"
    ledger = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
    labelled = [line for line in ledger if line["status"] == "ok"]
    assert len(labelled) == len(set(asked_of_people))
    for line in labelled:
        given = {a.id: a for a in queue.answers()}
        prompt = Prompt((), line["prompt"][-1]["content"], tuple(line["prompt"]), id=line["prompt_id"])
        id = id_of(
            Pair(prompt, Completion((), line["first"]["text"]), Completion((), line["second"]["text"]))
        )
        assert given[id].probability == line["probability"]


@pytest.mark.slow
def test_one_signal_ends_a_run_that_waits(waiting_run: tuple[Path, list[str]]) -> None:
    folder, command = waiting_run
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (folder / "labels" / "questions.jsonl").exists())
            time.sleep(2)  # a signal while the step is sampled lets it be labelled; this one comes after
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 130
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("waiting_run", [3], indirect=True)
def test_a_run_goes_on_as_answers_come_while_further_pairs_wait(waiting_run: tuple[Path, list[str]]) -> None:
    folder, command = waiting_run
    queue = LabelQueue(folder)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: queue.folder.is_dir() and len(queue.open()) == 12)
            for taken in (1, 2, 3):
                for id in list(queue.open())[:4]:
                    queue.answer(said(id))
                wait_for(lambda: steps_of(folder) == taken)  # noqa: B023
                assert len(queue.open()) == 12 - 4 * taken
            assert process.wait(60) == 0
        finally:
            process.kill()
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["age"] for line in metrics] == [0, 1, 2]


def steps_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def test_a_budget_of_a_cascade_holds_for_people_in_the_browser(queue: LabelQueue) -> None:
    """They see the nearest tie alone, and everything else keeps the first judge's verdict."""
    cheap = component("judge", "function")(call=lambda prompt, *_: 0.5 + int(prompt[-1]) / 20)
    web = WebJudge(queue=str(queue.run), undo_seconds=0.0)
    judge = component("judge", "cascade")(members=[cheap, web], margin=0.2, budget=1)
    pairs = [pair(3), pair(1), pair(9)]
    person = answering(queue, {id_of(pairs[1]): said(id_of(pairs[1]), probability=0.0)})
    verdicts = judge.judge(pairs)
    person.join()
    assert [v.by for v in verdicts] == ["members.0", "person", "members.0"]
    assert (verdicts[1].probability, verdicts[1].earlier.probability) == (0.0, 0.55)
    assert len(queue.questions()) == 1
