"""A run's ledger as a preference data set, as TRL and mlx-lm-lora read one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from prefloop.errors import UserError, guess_neighbour
from prefloop.prompts.chat import transcript
from prefloop.runs.records import Judgement, latest
from prefloop.types import Completion
from prefloop_plugins.judging.pair_files import ledger_of, read_ledger

if TYPE_CHECKING:
    from pathlib import Path

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
    found = read_ledger(ledger)
    last = latest((judgement.key, judgement) for judgement in found)
    exporting = _Exporting(format, ties, details)
    exporting.leave_out("judged again later", len(found) - len(last))
    for judgement in last:
        exporting.add(judgement)
    return Export(tuple(exporting.rows), exporting.left_out, exporting.flattened)


def _no_run(run: Path) -> str:
    if run.is_dir():
        return f"{run}: holds no judgements.jsonl, so it is no run, or one that has judged nothing yet."
    return f"{run}: there is no such run.{guess_neighbour(run)}"


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

    def add(self, judgement: Judgement) -> None:
        """Add one judgement, or count why not."""
        status = judgement.verdict.status
        if judgement.evaluation:
            self.leave_out("of evaluations")
        elif status == "error":
            self.leave_out("errors")
        elif status == "abstained":
            self.leave_out("abstentions")
        elif status == "tie" and not self.ties:
            self.leave_out("ties")
        else:
            self.rows.append(self._row(judgement))

    def _row(self, judgement: Judgement) -> dict[str, Any]:
        pair, verdict = judgement.pair, judgement.verdict
        messages = pair.prompt.messages or [{"role": "user", "content": pair.prompt.text}]
        second = verdict.prefers_first is False
        chosen, rejected = (pair.second, pair.first) if second else (pair.first, pair.second)
        row = (
            self._texts(messages, chosen, rejected)
            if self.format == "text"
            else _chat(messages, chosen, rejected)
        )
        if self.details:
            probability = max(verdict.probability, 1.0 - verdict.probability)
            row |= {"probability": probability, "step": judgement.step, "judge": judgement.judge.name}
            row |= {"source": pair.prompt.source} if pair.prompt.source else {}
        return row

    def _texts(self, messages: Sequence[Message], chosen: Completion, rejected: Completion) -> dict[str, Any]:
        system = [str(m["content"]) for m in messages if m["role"] == "system"]
        self.flattened += len(messages) - len(system) > 1
        row: dict[str, Any] = {"system": "\n\n".join(system)} if system else {}
        return row | {"prompt": transcript(messages), "chosen": chosen.whole, "rejected": rejected.whole}


def _chat(messages: Sequence[Message], chosen: Completion, rejected: Completion) -> dict[str, Any]:
    answers = {
        name: [{"role": "assistant", "content": completion.whole}]
        for name, completion in (("chosen", chosen), ("rejected", rejected))
    }
    return {"prompt": [dict(m) for m in messages], **answers}
