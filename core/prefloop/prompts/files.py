"""Rows of JSON Lines, JSON and CSV files, each with the line it came from.

The `datasets` library reads these formats too, but it forgets line numbers, skips blank lines, guesses
types from the whole file (so that ``"12"`` may become a number) and writes a cache; errors that name
a line need none of that.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

BLANK = "is a blank line"


@frozen
class Row:
    """One row of a data set, or, where `problem` says why, one that cannot be read."""

    place: str
    """``:12`` for line 12 of a file, ``[11]`` where only the index (from 0) is known."""
    values: Mapping[str, Any] = field(factory=dict)
    problem: str | None = None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys come once. Raises `ValueError`; of equal keys, Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield _json_row(f":{number}", line.removeprefix(codecs.BOM_UTF8).rstrip())


def _json_row(place: str, line: bytes) -> Row:
    if not line:
        return Row(place, problem=BLANK)
    try:
        return _object_row(place, json.loads(line.decode(), object_pairs_hook=_object))
    except UnicodeDecodeError as error:
        return Row(place, problem=_not_utf8(error))
    except json.JSONDecodeError as error:
        return Row(place, problem=f"is broken JSON: {error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:
        return Row(place, problem=_beyond(error))


def _beyond(error: Exception) -> str:
    """What Python's reader of JSON does not take although it is JSON."""
    return "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"


def _object_row(place: str, value: object) -> Row:
    if isinstance(value, dict):
        return Row(place, value)
    return Row(place, problem=f'is {describe(value)}, not an object like {{"prompt": "…"}}')


def _json(path: Path) -> Iterator[Row]:
    """A list of rows or a single row; whatever is neither may be JSON Lines under another name."""
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
        value = json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError:
        yield from _json_lines(path)
    except json.JSONDecodeError as error:
        if error.doc.lstrip().startswith("["):
            yield Row(f":{error.lineno}", problem=f"is broken JSON: {error.msg} (column {error.colno})")
        else:
            yield from _json_lines(path)
    except (ValueError, RecursionError) as error:
        yield Row("", problem=_beyond(error))
    else:
        for index, row in enumerate(value if isinstance(value, list) else [value]):
            yield _object_row(f"[{index}]", row)


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows under the header in the first line; every value is text."""
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield Row(f":{line}", problem=_not_utf8(error))
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from _csv_rows(reader)
    except csv.Error as error:
        yield Row(f":{reader.line_num}", problem=f"is broken CSV: {error}")


def _csv_rows(reader: Any) -> Iterator[Row]:
    header: list[str] | None = next(reader, None)
    if header is None:
        return
    if not header or len(set(header)) < len(header) or "" in header:
        yield Row(":1", problem="must name every column of the CSV file, each once")
        return
    line = reader.line_num + 1
    for cells in reader:
        if not cells:
            yield Row(f":{line}", problem=BLANK)
        elif len(cells) != len(header):
            yield Row(f":{line}", problem=f"has {len(cells)} values where the header has {len(header)}")
        else:
            yield Row(f":{line}", dict(zip(header, cells, strict=True)))
        line = reader.line_num + 1


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": partial(_csv, delimiter=","),
    ".tsv": partial(_csv, delimiter="\t"),
}
ENDINGS = frozenset(_READERS)


def rows_of_file(path: Path) -> Iterator[Row]:
    """The rows of a file whose ending is one of `ENDINGS`; blank lines at its end are not rows.

    Raises `OSError` where it cannot be read.
    """
    return _without_trailing_blanks(_READERS[path.suffix.lower()](path))


def _without_trailing_blanks(rows: Iterable[Row]) -> Iterator[Row]:
    held: list[Row] = []
    for row in rows:
        if row.problem == BLANK:
            held.append(row)
        else:
            yield from held
            held.clear()
            yield row


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}): save the file as UTF-8"


_NAMES = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def describe(value: object) -> str:
    """The type of a value in the words of a data file, such as ``a number``."""
    return "null" if value is None else _NAMES.get(type(value), f"of type {type(value).__name__}")
