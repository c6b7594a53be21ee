"""A run's ledger, read by those who only look: checked, and of several lines about one pair the last.

A run may still be writing it, so nothing here changes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from prefloop.prompts.loading import RowError, check_text
from prefloop.prompts.rows import rows_of_file, type_in_words
from prefloop.runs.ledger import FILE
from prefloop.types import Completion, Status, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from prefloop.prompts.rows import Row

_COLUMNS = ("prompt", "first", "second", "probability", "status")


def ledger_of(path: Path) -> Path | None:
    """The ledger that `path` names, as a run directory or as the file itself; None where it is no run's."""
    if path.is_dir() and (path / FILE).is_file():
        return path / FILE
    return path if path.name == FILE and path.is_file() else None


def is_judgement(values: Mapping[str, Any]) -> bool:
    """Whether a row has the columns of a ledger line, and not those of a plain pair."""
    return all(column in values for column in _COLUMNS) and isinstance(values["first"], Mapping)


def read_ledger(path: Path) -> tuple[Row, ...]:
    """The rows of a ledger, without a last line that is still being written. Raises `OSError`."""
    rows = tuple(rows_of_file(path))
    with path.open("rb") as file:
        torn = bool(rows) and rows[-1].problem is not None and not _ends_in_newline(file)
    return rows[:-1] if torn else rows


def _ends_in_newline(file: Any) -> bool:
    file.seek(-1, 2)
    return bool(file.read(1) == b"\n")


def latest(rows: Sequence[Row]) -> list[Row]:
    """Of the rows in which one judge judged one pair, the last; all that are no judgements."""
    kept: dict[str, Row] = {}
    for row in rows:
        key = _who_and_what(row.values) if is_judgement(row.values) else row.place
        kept.pop(key, None)  # so that the last one also comes last
        kept[key] = row
    return list(kept.values())


def _who_and_what(values: Mapping[str, Any]) -> str:
    names = ("judge", "judge_version", "judge_options", "prompt_id", "prompt")
    texts = [side.get("text") if isinstance(side, Mapping) else side for side in _sides(values)]
    return json.dumps([*(values.get(name) for name in names), *texts], sort_keys=True)


def _sides(values: Mapping[str, Any]) -> tuple[Any, Any]:
    return values["first"], values["second"]


def completion_in(values: Mapping[str, Any], side: str) -> Completion:
    """The completion under ``first`` or ``second`` of a ledger line. Raises `RowError`."""
    found = values[side]
    if not isinstance(found, Mapping) or not isinstance(found.get("text"), str):
        raise RowError(f"has no object with a 'text' as its '{side}'")
    check_text(found["text"], f"its '{side}'")
    tokens = found.get("tokens") or []
    if not isinstance(tokens, list):
        raise RowError(f"has {type_in_words(tokens)} as the 'tokens' of its '{side}', not a list")
    return Completion(
        tokens=tuple(tokens),
        text=found["text"],
        stopped=found.get("stopped", True),
        source=found.get("source", "policy"),
    )


def verdict_in(values: Mapping[str, Any]) -> Verdict:
    """The verdict of a ledger line. Raises `RowError`."""
    status, probability = values["status"], values["probability"]
    if status not in get_args(Status):
        raise RowError(f"has the status {status!r}, which is none of {', '.join(get_args(Status))}")
    if not isinstance(probability, int | float) or isinstance(probability, bool):
        raise RowError(f"has {type_in_words(probability)} as its 'probability', not a number")
    try:
        return Verdict(float(probability), status, values.get("reason"))
    except ValueError as error:
        raise RowError(f"is not a judgement: {error}") from error
