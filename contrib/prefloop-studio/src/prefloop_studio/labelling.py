"""The requests of the label page: the next pair, an answer, and how it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route

from prefloop.runs.holding import holder_of
from prefloop_studio.answers import Answer as Reply
from prefloop_studio.answers import body_of, text_in
from prefloop_studio.labels import TAKEN_BACK, Answer, LabelQueue, Question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop_studio.library import Library

BETTER, MUCH_BETTER = 0.8, 0.99
"""The probability that an answer is better which a person calls better, and much better."""
AGAIN_AFTER, AGAIN_EVERY = 5, 10
"""A pair is shown a second time so many answers later, and one in so many answers is such a second look."""
_PACE_GAP = 300.0
"""Seconds without an answer that are a break, and no part of the pace."""


@frozen
class Labelling:
    """Gives pairs to people and takes their answers."""

    library: Library

    def routes(self) -> list[Route]:
        return [
            Route("/api/labels", self.wanted),
            Route("/api/runs/{run}/labels", self.standing),
            Route("/api/runs/{run}/labels/next", self.next, methods=["POST"]),
            Route("/api/runs/{run}/labels", self.answer, methods=["POST"]),
        ]

    async def wanted(self, _: Request) -> Response:
        """The runs that have a queue, with how many pairs wait in each."""
        return Reply(await run_in_threadpool(self._wanted))

    async def standing(self, request: Request) -> Response:
        """How far a run's labels are: how many wait, the pace, and how consistent the answers are."""
        path = self.library.path(request.path_params["run"])
        return Reply(await run_in_threadpool(standing, path))

    async def next(self, request: Request) -> Response:
        """A pair for ``who``, which nobody else gets meanwhile; ``question`` is null where none waits.

        Every tenth or so is one that was answered before, sides exchanged, where ``again`` is allowed.
        """
        path = self.library.path(request.path_params["run"])
        body = await body_of(request)
        who, skip = text_in(body, "who"), body.get("skip") or []
        if not isinstance(skip, list) or not all(isinstance(id, str) for id in skip):
            raise HTTPException(400, "'skip' must be a list of texts")
        again = bool(body.get("again", True))
        return Reply(await run_in_threadpool(next_pair, LabelQueue(path), who[:100], skip, again))

    async def answer(self, request: Request) -> Response:
        """Take what ``who`` says of the pair ``id``: ``choice`` is 1, 2, t, s, b or u, as it was shown.

        ``swapped`` says how it was shown, ``much`` that the better one is much better, and ``again`` that it
        is a second look. The same answer twice is one.
        """
        path = self.library.path(request.path_params["run"])
        body = await body_of(request)
        given = answer_in(body)
        queue = LabelQueue(path)
        fresh = await run_in_threadpool(queue.answer, given)
        return Reply({"id": given.id, "new": fresh})

    def _wanted(self) -> list[dict[str, Any]]:
        found = []
        for name in self.library.names():
            path = self.library.folder / name
            if (path / "labels").is_dir():
                waiting = len(LabelQueue(path).open())
                found.append({"run": name, "waiting": waiting, "alive": holder_of(path) is not None})
        return found


def standing(path: Path) -> dict[str, Any]:
    """How far the labels of the run in `path` are."""
    queue = LabelQueue(path)
    answers = queue.answers()
    counted = {a.id: a for a in answers if not a.again}
    given = [a for a in counted.values() if a.status != TAKEN_BACK]
    looks = [(counted[a.id], a) for a in answers if a.again and a.id in counted]
    agree = [first.verdict.prefers_first == second.verdict.prefers_first for first, second in looks]
    labels = {a.id: a.verdict.prefers_first for a in given if a.status == "ok"}
    beside = {id: v.prefers_first for id, v in queue.beside().items() if id in labels}
    both = [labels[id] == side for id, side in beside.items() if side is not None]
    return {
        "waiting": len(queue.open()),
        "answered": len(given),
        "seconds": _pace([a.at for a in answers]),
        "second_looks": len(agree),
        "agree": sum(agree),
        "beside": len(both),
        "beside_agrees": sum(both),
        "alive": holder_of(path) is not None,
    }


def _pace(times: Sequence[float]) -> float | None:
    """Mean seconds from one answer to the next of the last 50, without breaks."""
    steps = [b - a for a, b in zip(times[-51:], times[-50:], strict=False) if 0 < b - a < _PACE_GAP]
    return sum(steps) / len(steps) if steps else None


def next_pair(queue: LabelQueue, who: str, skip: Sequence[str], again: bool) -> dict[str, Any]:
    """A pair for `who`; where `again` is allowed and due, one that they have answered before."""
    answers = queue.answers()
    looked = {a.id for a in answers if a.again}
    mine = [a for a in answers if a.who == who and not a.again and a.status in ("ok", "tie")]
    due = len(mine) // AGAIN_EVERY > sum(a.again and a.who == who for a in answers)
    older = [a.id for a in mine[:-AGAIN_AFTER] if a.id not in looked]
    if again and due and older:
        question = queue.questions()[older[-1]]
        return {"question": _shown(question, not question.swapped), "again": True}
    found = queue.lease(who, skip)
    return {"question": _shown(found, found.swapped) if found else None, "again": False}


def _shown(question: Question, swapped: bool) -> dict[str, Any]:
    """A pair as it is shown, blind."""
    pair = question.pair
    texts = [pair.first.text, pair.second.text]
    return {
        "id": question.id,
        "prompt": pair.prompt.text,
        "messages": [dict(message) for message in pair.prompt.messages],
        "answers": texts[::-1] if swapped else texts,
        "swapped": swapped,
    }


def answer_in(body: Mapping[str, Any]) -> Answer:
    """The answer in a request. Raises `HTTPException` where it is none."""
    id, choice, who = (body.get(name) for name in ("id", "choice", "who"))
    if not isinstance(id, str) or not isinstance(who, str):
        raise HTTPException(400, "'id' and 'who' must be texts")
    given = Answer(id, "tie", who=who[:100], at=time.time(), again=bool(body.get("again")))
    if choice in ("1", "2"):
        probability = MUCH_BETTER if body.get("much") else BETTER
        first = (choice == "1") != bool(body.get("swapped"))
        return evolve(given, status="ok", probability=probability if first else 1.0 - probability)
    reasons = {"t": None, "s": "skipped", "b": "both are bad", "u": None}
    if choice not in reasons:
        raise HTTPException(400, "'choice' must be 1, 2, t (tie), s (skip), b (both bad) or u (take back)")
    status = {"t": "tie", "u": TAKEN_BACK}.get(choice, "abstained")
    return evolve(given, status=status, reason=reasons[choice])
