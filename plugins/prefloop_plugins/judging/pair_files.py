"""Pairs to judge, from a file: a preference data set, pairs with or without a label, or a run's ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from prefloop import embedded
from prefloop.errors import UserError, first_few
from prefloop.prompts.chat import transcript
from prefloop.prompts.loading import (
    RowError,
    check_text,
    conversation,
    each_row,
    messages_of,
)
from prefloop.prompts.rows import Row, RowSet, read_rows, type_in_words
from prefloop.runs.records import Judgement, is_judgement, judgement_from_json, latest
from prefloop.runs.view import LEDGER, MANIFEST, read_judgements
from prefloop.settings import PromptsConfig
from prefloop.types import PERSON, Completion, Pair, Prompt, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefloop.types import Message

Side = Literal["first", "second", "tie"]
"""Which completion of a pair is the better one."""

_LABELS: dict[object, Side] = {"first": "first", "second": "second", "tie": "tie", 0: "first", 1: "second"}
_OURS = frozenset({"prompt", "chosen", "rejected", "first", "second", "label"})
_FORMATS = "'chosen' and 'rejected', or 'first' and 'second'"


@frozen
class LabelledPair:
    """A pair and what its file says about it; None where the file does not say."""

    pair: Pair
    label: Side | None
    probability: float = 1.0
    """That the label is right, where the file says that too; otherwise it is taken as certain."""


def read_pairs(
    path: str, *, split: str = "train", limit: int | None = None, seed: int = 0
) -> list[LabelledPair]:
    """The pairs in `path`: a file, a folder or a Hub data set as for prompts, or a run directory.

    A row holds ``prompt``, ``chosen`` and ``rejected``; or ``prompt``, ``first``, ``second`` and perhaps
    a ``label`` (first, second or tie; 0 is first and 1 is second); or it is a line of a run's ledger,
    whose verdict is the label. Of a run, those are the pairs that it learnt from: in its evaluations several
    judges may have been asked about one pair. Where a person was asked about some of them, theirs alone are
    labels. Prompts and completions are text or chat messages. Which of chosen and rejected comes first is
    drawn from `seed` and the texts. `limit` counts rows.

    Raises `UserError` where nothing is found, and for bad rows, the first few together.
    """
    ledger = ledger_of(embedded.local_path(path))
    if ledger is not None:
        judged = [j for j in read_ledger(ledger) if not j.evaluation][:limit]
        if not judged:
            raise UserError(f"{ledger} is empty: the run has judged nothing yet")
        asked = any(j.verdict.by == PERSON for j in judged)
        return [
            _of_judgement(j, j.pair.prompt, counts=not asked or j.verdict.by == PERSON)
            for j in latest((j.key, j) for j in judged)
        ]
    found = _read_data_set(PromptsConfig(path=path, split=split, limit=limit))
    return latest(_collect(found, seed))


def ledger_of(path: Path) -> Path | None:
    """The ledger that `path` names, as a run directory or as the file itself; None where it is no run's."""
    if path.is_dir() and (path / LEDGER).is_file():
        return path / LEDGER
    return path if path.name == LEDGER and path.is_file() else None


def run_of(path: str) -> Path | None:
    """The folder of the run that `path` names, by itself or by its ledger; None where it is no run's."""
    ledger = ledger_of(embedded.local_path(path))
    return ledger.parent if ledger and (ledger.parent / MANIFEST).is_file() else None


def read_ledger(ledger: Path) -> tuple[Judgement, ...]:
    """The judgements in a ledger. Raises `UserError` where it is damaged."""
    found = read_judgements(ledger)
    if found.problems:
        raise UserError(*first_few([str(ledger.parent / str(problem)) for problem in found.problems]))
    return found.records


def labelled_pairs(prompts: Sequence[Prompt], *, seed: int = 0) -> list[LabelledPair]:
    """The pairs in the rows that `prompts` were read from, whose other columns are their `Prompt.fields`.

    Rows and `seed` are as in `read_pairs`. Raises `UserError` for bad rows, the first few together.
    """
    rows = [Row(p.id, {**p.fields, "prompt": [*p.messages] or p.text}) for p in prompts]
    found = _collect(RowSet("", "", tuple(rows)), seed)
    return [evolve(f, pair=evolve(f.pair, prompt=p)) for (_, f), p in zip(found, prompts, strict=True)]


def _collect(found: RowSet, seed: int) -> list[tuple[str, LabelledPair]]:
    """The pairs in rows. Each follows its key: of a judgement `Judgement.key`, of others their place."""
    return each_row(found, lambda row: _labelled(row, found.name, seed))


def _read_data_set(config: PromptsConfig) -> RowSet:
    try:
        return read_rows(config)
    except UserError as error:  # these are no prompts of a configuration
        raise UserError(*(problem.removeprefix("prompts.split: ") for problem in error.problems)) from error


def side_of(verdict: Verdict) -> Side | None:
    """What a verdict says; None where it says nothing."""
    if verdict.status == "tie":
        return "tie"
    if verdict.prefers_first is None:
        return None
    return "first" if verdict.prefers_first else "second"


def _labelled(row: Row, name: str, seed: int) -> tuple[str, LabelledPair]:
    values, id = row.values, name + row.place
    if is_judgement(values):
        judgement = judgement_from_json(values)
        return judgement.key, _of_judgement(judgement, _prompt(values["prompt"], id, {}))
    if "chosen" in values or "rejected" in values:
        return id, _preference(values, id, seed)
    return id, _plain(values, id)


def _of_judgement(judgement: Judgement, prompt: Prompt, *, counts: bool = True) -> LabelledPair:
    """A judged pair, whose verdict is its label where it counts."""
    verdict = judgement.verdict
    pair = evolve(judgement.pair, prompt=prompt)
    return LabelledPair(
        pair, side_of(verdict) if counts else None, max(verdict.probability, 1 - verdict.probability)
    )


def _plain(values: Mapping[str, Any], id: str) -> LabelledPair:
    for column in ("first", "second"):
        if column not in values:
            raise RowError(f"has no '{column}'; a pair has {_FORMATS}")
    prompt = _prompt(_needed(values, "prompt"), id, values)
    first, second = (_answer(values[column], column, prompt) for column in ("first", "second"))
    return LabelledPair(Pair(prompt, first, second), _label(values.get("label")))


def _label(value: object) -> Side | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in _LABELS:
        shown = f"{value!r}" if isinstance(value, str | int) else type_in_words(value)
        raise RowError(f"has {shown} as its 'label', not first, second or tie (0 is first, 1 is second)")
    return _LABELS[value]


def _preference(values: Mapping[str, Any], id: str, seed: int) -> LabelledPair:
    prompt = _prompt(_shared_prompt(values), id, values)
    chosen = _answer(_needed(values, "chosen"), "chosen", prompt)
    rejected = _answer(_needed(values, "rejected"), "rejected", prompt)
    p = _probability(values.get("probability"))
    if _chosen_first(prompt.text, chosen.text, rejected.text, seed):
        return LabelledPair(Pair(prompt, chosen, rejected), "tie" if p == 0.5 else "first", p)
    return LabelledPair(Pair(prompt, rejected, chosen), "tie" if p == 0.5 else "second", p)


def _probability(value: object) -> float:
    """That chosen is the better one, as `prefloop export pairs --details` writes it; one half is a tie."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0.5 <= value <= 1
    return float(value) if known else 1.0  # type: ignore[arg-type]


def _shared_prompt(values: Mapping[str, Any]) -> object:
    """The prompt, which may stand only at the start of both conversations ("implicit" in TRL)."""
    if "prompt" not in values and isinstance(values.get("chosen"), list):
        return values["chosen"][:-1]
    return _needed(values, "prompt")


def _chosen_first(prompt: str, chosen: str, rejected: str, seed: int) -> bool:
    """A coin for the pair as a set, so that the place of a text says nothing about its label."""
    low, high = sorted((chosen, rejected))
    coin = hashlib.sha256(json.dumps([seed, prompt, low, high]).encode()).digest()[0] & 1
    return (chosen == low) == bool(coin)


def _needed(values: Mapping[str, Any], column: str) -> object:
    if column not in values:
        raise RowError(f"has no '{column}'")
    return values[column]


def _prompt(value: object, id: str, values: Mapping[str, Any]) -> Prompt:
    """A prompt with the other columns of its row, which a judge may check an answer against."""
    messages = conversation(value, "prompt")
    others = {key: part for key, part in values.items() if key not in _OURS}
    chat = not isinstance(value, str)
    return Prompt((), transcript(messages), tuple(messages), id, others, conversational=chat)


def _answer(value: object, column: str, prompt: Prompt) -> Completion:
    """A completion as text, or as messages: the assistant's, which may follow the prompt's own."""
    if isinstance(value, str):
        check_text(value, f"its '{column}'")
        return Completion((), value)
    *before, last = messages_of(value, column)
    if last["role"] != "assistant":
        raise RowError(
            f"has a message from '{last['role']}' at the end of its '{column}', not from 'assistant'"
        )
    if before and _contents(before) != _contents(prompt.messages):
        raise RowError(f"has a '{column}' that does not go on from its prompt")
    return Completion((), last["content"])


def _contents(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in messages if m["role"] != "system"]
