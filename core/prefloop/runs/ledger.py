"""The ledger of a run, ``judgements.jsonl``: every verdict, written down as soon as it is known.

Nothing is asked twice: a pair that the same judge, with the same options, has judged before is answered
from the ledger. That is what makes a resumed run repeat itself without its person or its paid server.
Where one pair has several lines, the last counts; an error is no answer, so such a pair is asked again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.errors import StopRun, check_count
from prefloop.runs.files import append_lines, damaged_line, read_lines
from prefloop.types import Completion, Pair, Verdict

if TYPE_CHECKING:
    import mlx.core as mx

FILE = "judgements.jsonl"


@frozen
class JudgeIdentity:
    """Who judged: the component's qualified name, its distribution's version, a hash of its options."""

    name: str
    version: str
    options: str

    def fields(self) -> dict[str, str]:
        return {"judge": self.name, "judge_version": self.version, "judge_options": self.options}


class Ledger:
    """The lines of one run's ledger and the verdicts in them. Raises `UserError` for a damaged line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._verdicts: dict[str, Verdict] = {}
        for number, line in enumerate(read_lines(path), 1):
            try:
                self._remember(line)
            except (LookupError, TypeError, ValueError) as error:
                raise damaged_line(path, number, error) from error

    def find(self, judge: JudgeIdentity, pair: Pair) -> Verdict | None:
        """What `judge` said of `pair`, or None where it has to be asked."""
        verdict = self._verdicts.get(same_judgement(judge.fields() | judgement(pair)))
        return None if verdict is None or verdict.status == "error" else verdict

    def append(self, judge: JudgeIdentity, judged: Sequence[tuple[Pair, Verdict]], **about: Any) -> None:
        """Write verdicts down. `about` goes into each line: the step, for one."""
        lines = [{**about, **judge.fields(), **judgement(p), **_verdict(v)} for p, v in judged]
        append_lines(self.path, lines)
        for line in lines:
            self._remember(line)

    def _remember(self, line: Mapping[str, Any]) -> None:
        orders = line["orders"] and (line["orders"][0], line["orders"][1])
        verdict = Verdict(line["probability"], line["status"], line["reason"], orders)
        self._verdicts[same_judgement(line)] = verdict


Judged = list[tuple[Pair, Verdict]]


@frozen
class Later:
    """Verdicts that are on their way. `result` waits for them."""

    result: Callable[[], list[Verdict]]


class RememberingJudge(BaseJudge):
    """A judge in front of which a ledger stands. `where` says what to write beside each verdict."""

    def __init__(
        self, judge: Judge, identity: JudgeIdentity, ledger: Ledger, where: Callable[[], Mapping[str, Any]]
    ) -> None:
        self.inner = adapt(judge, BaseJudge)
        self.identity = identity
        self.ledger = ledger
        self.where = where
        self.submit = None if self.inner.submit is None else self._submit

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric

    @property
    def interactive(self) -> bool:
        return self.inner.interactive

    def state(self) -> Mapping[str, mx.array]:
        return self.inner.state()

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.inner.restore(state)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts from the ledger, and for the other pairs from the judge. Raises what that raises."""
        return self._told(pairs, self._ask(self._missing(pairs)), self.where())

    def _submit(self, pairs: Sequence[Pair]) -> Later:
        """The same, begun now and waited for later."""
        missing, where = self._missing(pairs), self.where()
        if not missing:
            return Later(lambda: self._told(pairs, iter(()), where))
        assert self.inner.submit is not None
        future = self.inner.submit(missing)
        return Later(lambda: self._told(pairs, self._together(missing, future.result), where))

    def _missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        return [pair for pair in dict.fromkeys(pairs) if self.ledger.find(self.identity, pair) is None]

    def _told(
        self, pairs: Sequence[Pair], chunks: Iterator[Judged], where: Mapping[str, Any]
    ) -> list[Verdict]:
        """Write verdicts down as they come; then one for each of `pairs`."""
        fresh: dict[Pair, Verdict] = {}
        started = time.perf_counter()
        for judged in chunks:
            seconds = (time.perf_counter() - started) / len(judged)
            self.ledger.append(self.identity, judged, **where, seconds=round(seconds, 4))
            fresh |= judged
            started = time.perf_counter()
        return [fresh.get(pair) or self.ledger.find(self.identity, pair) or _UNANSWERED for pair in pairs]

    def _ask(self, pairs: Sequence[Pair]) -> Iterator[Judged]:
        """Verdicts one by one where the judge can tell them so, else all together."""
        if not pairs:
            return
        if self.inner.answers is not None:
            for place, verdict in self.inner.answers(pairs):
                yield [(pairs[place], verdict)]
        else:
            yield from self._together(pairs, lambda: self.inner.judge(pairs))

    def _together(self, pairs: Sequence[Pair], ask: Callable[[], list[Verdict]]) -> Iterator[Judged]:
        try:
            verdicts = ask()
        except StopRun as stop:
            if stop.verdicts:
                yield list(zip(pairs, stop.verdicts, strict=False))
            raise
        check_count(self.identity.name, len(verdicts), len(pairs))
        yield list(zip(pairs, verdicts, strict=True))


_UNANSWERED = Verdict.error("the judge gave no verdict")


def judgement(pair: Pair) -> dict[str, Any]:
    """The pair's side of a ledger line."""
    return {
        "prompt_id": pair.prompt.id,
        "prompt": [dict(m) for m in pair.prompt.messages] or pair.prompt.text,
        "first": _completion(pair.first),
        "second": _completion(pair.second),
    }


def options_hash(options: Any) -> str:
    """A short hash of a component's options, equal for equal options."""
    text = json.dumps(options, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "probability": verdict.probability,
        "status": verdict.status,
        "orders": verdict.orders,
        "reason": verdict.reason,
    }


def _completion(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "tokens": list(completion.tokens),
        "stopped": completion.stopped,
        "source": completion.source,
    }


def same_judgement(line: Mapping[str, Any]) -> str:
    """A key that is equal for lines in which one judge, with the same options, judged one pair."""
    who = [line["judge"], line["judge_version"], line["judge_options"]]
    what = [line["prompt_id"], line["prompt"], line["first"]["text"], line["second"]["text"]]
    return hashlib.sha256(json.dumps([who, what], sort_keys=True).encode()).hexdigest()
