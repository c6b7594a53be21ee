"""A run's ledger as a preference data set, as TRL and mlx-lm-lora read one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from prefloop.errors import UserError, did_you_mean
from prefloop.prompts.loading import RowError, conversation, first_few, transcript
from prefloop.types import Completion, Verdict
from prefloop_plugins.judging.judgements import (
    completion_in,
    is_judgement,
    latest,
    ledger_of,
    read_ledger,
    verdict_in,
)

if TYPE_CHECKING:
    from pathlib import Path

    from prefloop.prompts.rows import Row
    from prefloop.types import Message

Format = Literal["chat", "text"]


@frozen
class Export:
    """The rows of a preference data set, and what of the ledger is not among them."""

    rows: tuple[dict[str, Any], ...]
    left_out: dict[str, int] = field(factory=dict)
    """How many, by what they were, such as ``ties``."""
    flattened: int = 0
    """Prompts of several turns that became one text."""


def export_pairs(run: Path, *, format: Format = "chat", ties: bool = False, details: bool = False) -> Export:
    """The labelled pairs that `run` was trained on, in the order in which they were last judged.

    A row has ``prompt``, ``chosen`` and ``rejected``: chat messages, or text with the system message, where
    there is one, under ``system``. `details` adds ``probability`` (that chosen is better), ``step`` and
    ``judge``. With `ties`, a tie is a row of probability one half; without `details` it would pass for a
    label. Raises `UserError` where there is no ledger, or it is damaged.
    """
    if ties and not details:
        raise UserError("ties pass for labels without their probability, one half: give --details as well.")
    ledger = ledger_of(run)
    if ledger is None:
        raise UserError(_no_run(run))
    try:
        found = read_ledger(ledger)
    except OSError as error:
        raise UserError(f"{ledger}: cannot be read: {error.strerror}.") from error
    last = latest(found)
    exporting = _Exporting(format, ties, details)
    exporting.leave_out("judged again later", len(found) - len(last))
    problems = []
    for row in last:
        try:
            exporting.add(row)
        except RowError as bad:
            problems.append(f"{ledger}{row.place} {bad}")
    if problems:
        raise UserError(*first_few(problems))
    return Export(tuple(exporting.rows), exporting.left_out, exporting.flattened)


def _no_run(run: Path) -> str:
    if run.is_dir():
        return f"{run}: holds no judgements.jsonl, so it is no run, or one that has judged nothing yet."
    siblings = [entry.name for entry in run.parent.iterdir()] if run.parent.is_dir() else []
    hint = did_you_mean(run.name, siblings)
    return f"{run}: there is no such run.{hint if 'Did you mean' in hint else ''}"


class _Exporting:
    def __init__(self, format: Format, ties: bool, details: bool) -> None:
        self.format = format
        self.ties = ties
        self.details = details
        self.rows: list[dict[str, Any]] = []
        self.left_out: dict[str, int] = {}
        self.flattened = 0

    def leave_out(self, what: str, count: int = 1) -> None:
        if count:
            self.left_out[what] = self.left_out.get(what, 0) + count

    def add(self, row: Row) -> None:
        """Add one judgement, or count why not. Raises `RowError`."""
        if row.problem:
            raise RowError(row.problem)
        if not is_judgement(row.values):
            raise RowError(
                "is not a judgement: it lacks a prompt, two completions, a probability or a status"
            )
        values, verdict = row.values, verdict_in(row.values)
        if values.get("evaluation"):
            self.leave_out("of evaluations")
        elif verdict.status == "error":
            self.leave_out("errors")
        elif verdict.status == "abstained":
            self.leave_out("abstentions")
        elif verdict.status == "tie" and not self.ties:
            self.leave_out("ties")
        else:
            self.rows.append(self._row(values, verdict))

    def _row(self, values: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
        messages = conversation(values["prompt"], "prompt")
        winner, loser = ("second", "first") if verdict.prefers_first is False else ("first", "second")
        chosen, rejected = completion_in(values, winner), completion_in(values, loser)
        row = (
            self._texts(messages, chosen, rejected)
            if self.format == "text"
            else _chat(messages, chosen, rejected)
        )
        if self.details:
            p = verdict.probability if verdict.status == "ok" else 0.5
            row |= {"probability": max(p, 1.0 - p), "step": values.get("step"), "judge": values.get("judge")}
        return row

    def _texts(self, messages: Sequence[Message], chosen: Completion, rejected: Completion) -> dict[str, Any]:
        system = [str(m["content"]) for m in messages if m["role"] == "system"]
        self.flattened += len(messages) - len(system) > 1
        row: dict[str, Any] = {"system": "\n\n".join(system)} if system else {}
        return row | {"prompt": transcript(messages), "chosen": chosen.text, "rejected": rejected.text}


def _chat(messages: Sequence[Message], chosen: Completion, rejected: Completion) -> dict[str, Any]:
    answers = {
        name: [{"role": "assistant", "content": completion.text}]
        for name, completion in (("chosen", chosen), ("rejected", rejected))
    }
    return {"prompt": [dict(m) for m in messages], **answers}
