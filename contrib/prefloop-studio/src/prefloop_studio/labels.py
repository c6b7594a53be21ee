"""The queue between a run that waits for labels and whoever gives them, as files in the run's folder.

    labels/questions.jsonl    a line for each pair that was asked about, and for each batch that is done
    labels/answers.jsonl      a line for each answer; of several about one pair, the last counts
    labels/beside.jsonl       what another judge says of the pairs, where one is asked beside people
    labels/leases/<id>        a pair that somebody is looking at, so that two people get different ones

A question is ``{"id", "prompt_id", "prompt", "first", "second", "at"}``, where the prompt is a text or chat
messages. An answer is ``{"id", "status", "probability", "reason", "who", "at"}`` as in the ledger, about the
pair as it was asked, or ``{"id", "status": "taken back", …}``. One with ``"again": true`` is a second look at
a pair, which measures how far a person agrees with themselves and is not learnt from. Any program may append
answers under the lock ``labels/.lock``; the judge reads them as they come, and answers to what a run asked
before it was killed count when it asks again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from prefloop import Completion, Pair, UserError, Verdict
from prefloop.runs.files import append_lines, parse_line
from prefloop.runs.records import prompt_from_json, prompt_to_json
from prefloop.runs.view import read_new

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

FOLDER = "labels"
TAKEN_BACK = "taken back"
LEASE_SECONDS = 90.0
"""How long a pair is kept for whoever got it, without another sign of life."""


@frozen
class Question:
    """A pair that a run asked about."""

    id: str
    pair: Pair

    @property
    def swapped(self) -> bool:
        """Whether its second answer is shown first: a coin that depends on the pair alone."""
        return bool(int(self.id[-1], 16) & 1)


@frozen
class Answer:
    """What somebody said about a pair, as it was asked."""

    id: str
    status: str
    """``ok``, ``tie``, ``abstained`` or ``taken back``."""
    probability: float = 0.5
    reason: str | None = None
    who: str = ""
    at: float = 0.0
    again: bool = False
    """A second look, which is not learnt from."""

    @property
    def verdict(self) -> Verdict:
        """The same as a judge says it; an answer that was taken back is an error, until another comes."""
        if self.status == "ok":
            return Verdict(self.probability)
        if self.status == "tie":
            return Verdict.tie()
        if self.status == "abstained":
            return Verdict.abstain(self.reason)
        return Verdict.error("taken back by the person judging")


@frozen
class LabelQueue:
    """The queue of the run in `run`."""

    run: Path

    @property
    def folder(self) -> Path:
        return self.run / FOLDER

    @property
    def _questions(self) -> Path:
        return self.folder / "questions.jsonl"

    @property
    def _answers(self) -> Path:
        return self.folder / "answers.jsonl"

    @property
    def _beside(self) -> Path:
        return self.folder / "beside.jsonl"

    # The run's side

    def ask(self, pairs: Iterable[Pair], keep: Set[str] = frozenset()) -> list[str]:
        """Put a batch of pairs into the queue, where they are not in it; their ids.

        Answers to what was asked before and is neither among them nor in `keep` cannot change any more.
        """
        batch = [(id_of(pair), pair) for pair in pairs]
        ids = [id for id, _ in batch]
        with self._locked():
            asked, closed = self._read()
            waiting = asked.keys() - closed
            fresh = [_question_to_json(id, pair) for id, pair in dict(batch).items() if id not in waiting]
            passed = sorted(waiting - set(ids) - keep)
            append_lines(self._questions, [*([_closing(passed)] if passed else []), *fresh])
        return ids

    def compare(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write down what the judge beside people says of pairs."""
        rows = [{"id": id, "status": v.status, "probability": v.probability} for id, v in verdicts.items()]
        with self._locked():
            append_lines(self._beside, rows)

    def close(self, ids: Sequence[str]) -> bool:
        """Say that the answers to `ids` are learnt from now. False where one of them was taken back."""
        with self._locked():
            answers = self._latest()
            if any(id not in answers or answers[id].status == TAKEN_BACK for id in ids):
                return False
            append_lines(self._questions, [_closing(ids)])
        return True

    def answered_since(self, cursor: int) -> tuple[list[Answer], int]:
        """The answers after `cursor`, second looks left out, and the next cursor."""
        new = read_new(self._answers, cursor, _answer_from_json, may_be_missing=True)
        return [answer for answer in new.records if not answer.again], new.cursor

    # The side of those who answer

    def questions(self) -> dict[str, Question]:
        """All pairs that were asked about, in their order."""
        return self._read()[0]

    def answers(self) -> list[Answer]:
        """All answers and second looks that were given, in their order."""
        return list(read_new(self._answers, 0, _answer_from_json, may_be_missing=True).records)

    def beside(self) -> dict[str, Verdict]:
        """What the judge beside people says of the pairs that it was asked about."""
        rows = read_new(self._beside, 0, parse_line, may_be_missing=True).records
        return {row["id"]: Verdict(row["probability"], row["status"]) for row in rows}

    def open(self) -> dict[str, Question]:
        """The pairs that wait for an answer, in their order."""
        asked, closed = self._read()
        answers = self._latest()
        return {
            id: question
            for id, question in asked.items()
            if id not in closed and (id not in answers or answers[id].status == TAKEN_BACK)
        }

    def lease(self, who: str, skip: Sequence[str] = ()) -> Question | None:
        """A pair that waits and that nobody else looks at; first the one that `who` has already."""
        with self._locked():
            waiting = {id: question for id, question in self.open().items() if id not in skip}
            holders = {id: self._holder(id) for id in waiting}
            mine = next((id for id, holder in holders.items() if holder == who), None)
            chosen = mine or next((id for id, holder in holders.items() if holder is None), None)
            if chosen is None:
                return None
            leases = self.folder / "leases"
            leases.mkdir(exist_ok=True)
            (leases / chosen).write_text(who, encoding="utf-8")
            return waiting[chosen]

    def answer(self, answer: Answer) -> bool:
        """Write an answer down; False where just that is the last one already.

        Raises `UserError` where the run did not ask about the pair, or has learnt from it already.
        """
        with self._locked():
            asked, closed = self._read()
            if answer.id not in asked:
                raise UserError("the run did not ask about that pair.")
            if answer.again:
                append_lines(self._answers, [asdict(answer)])
                return True
            last = self._latest().get(answer.id)
            if last is not None and _says(last) == _says(answer):
                return False
            if answer.id in closed:
                raise UserError("the run has learnt from that pair already, so its answer stays.")
            append_lines(self._answers, [asdict(answer)])
            with suppress(OSError):
                (self.folder / "leases" / answer.id).unlink()
        return True

    def _holder(self, id: str) -> str | None:
        lease = self.folder / "leases" / id
        try:
            if time.time() - lease.stat().st_mtime > LEASE_SECONDS:
                return None
            return lease.read_text(encoding="utf-8")
        except OSError:
            return None

    def _latest(self) -> dict[str, Answer]:
        """The answer to each pair that counts."""
        return {answer.id: answer for answer in self.answers() if not answer.again}

    def _read(self) -> tuple[dict[str, Question], set[str]]:
        """What was asked, and of what the answers are learnt from."""
        asked: dict[str, Question] = {}
        closed: set[str] = set()
        for row in read_new(self._questions, 0, parse_line, may_be_missing=True).records:
            if "closed" in row:
                closed.update(row["closed"])
            elif "id" in row:
                asked[row["id"]] = _question_from_json(row)
                closed.discard(row["id"])  # a run that goes on asks again
        return asked, closed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def id_of(pair: Pair) -> str:
    """The same for two pairs of one prompt and the same two answers."""
    what = [pair.prompt.id, prompt_to_json(pair.prompt), pair.first.text, pair.second.text]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _says(answer: Answer) -> tuple[Any, ...]:
    return answer.status, answer.probability, answer.reason


def _closing(ids: Iterable[str]) -> dict[str, Any]:
    """The line of a batch that is done. Of lines that are equal only one is read, so it says when."""
    return {"closed": list(ids), "at": time.time()}


def _question_to_json(id: str, pair: Pair) -> dict[str, Any]:
    prompt = {"prompt_id": pair.prompt.id, "prompt": prompt_to_json(pair.prompt)}
    return {"id": id, **prompt, "first": pair.first.text, "second": pair.second.text, "at": time.time()}


def _question_from_json(row: Mapping[str, Any]) -> Question:
    prompt = prompt_from_json(row["prompt"], str(row.get("prompt_id") or ""))
    first, second = (Completion((), str(row[side])) for side in ("first", "second"))
    return Question(str(row["id"]), Pair(prompt, first, second))


def _answer_from_json(line: bytes) -> Answer:
    found = parse_line(line)
    return Answer(**{name: found[name] for name in asdict(Answer("", "")) if name in found})
