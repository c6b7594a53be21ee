"""Rows of a data set, each with the line it came from: what ``prompts.path`` names, read.

It names a file, a folder or a Hub data set. JSON Lines, JSON and CSV files are read here. The `datasets`
library reads them too, but it forgets line numbers, skips blank lines, guesses types from the whole file (so
that ``"12"`` may become a number) and writes a cache. Folders, Parquet and the Hub go through it. It is
imported only then, and for local data with a cache that is thrown away: the library's own would outlive a
change of the file and fill the user's home.
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from prefloop import embedded
from prefloop.beginning import looked
from prefloop.errors import UserError, guess_neighbour

if TYPE_CHECKING:
    from prefloop.settings import PromptsConfig

BLANK = "is a blank line"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_MEDIA = {"Image", "Audio", "Video", "Pdf", "Nifti"}


@frozen
class Row:
    """One row of a data set, or, where `problem` says why, one that cannot be read."""

    place: str
    """``:12`` for line 12 of a file, ``[11]`` where only the index (from 0) is known."""
    values: Mapping[str, Any] = field(factory=dict)
    problem: str | None = None


@frozen
class RowSet:
    """The rows that were found, and how to speak of them."""

    label: str
    """The path as the user wrote it, for messages."""
    name: str
    """The file's name, or the folder or data set as written, for the ids of prompts."""
    rows: tuple[Row, ...]


def read_rows(config: PromptsConfig) -> RowSet:
    """At most ``config.limit`` rows of ``config.path``.

    Raises `UserError` where there is nothing of that name, it cannot be read, it is empty, or it has
    no such split or configuration.
    """
    path = embedded.local_path(config.path)
    name = config.path
    if path.is_file():
        rows, name = _read_file(path, config), path.name
    elif path.is_dir():
        rows = _read_folder(path, config)
    elif _HUB_ID.fullmatch(config.path) and path.suffix.lower() not in _ENDINGS:
        rows = _read_hub(path, config)
    else:
        raise UserError(_no_such_file(config.path, path))
    if not rows:
        raise UserError(f"{config.path} is empty: it holds no rows")
    return RowSet(config.path, name, rows)


def _no_such_file(given: str, path: Path) -> str:
    message = f"there is no file or folder '{given}'"
    if not path.parent.is_dir():
        where = looked(path)
        return f"{message}: there is not even a folder '{path.parent}'" + (f".{where}" if where else "")
    return f"{message}, and it is no Hub id of the form owner/name.{guess_neighbour(path)}{looked(path)}"


def _read_file(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    if config.split != "train":
        raise UserError(f"prompts.split: {config.path} is one file and has only the split 'train'")
    if config.name is not None:
        raise UserError(f"prompts.name: {config.path} is a file and has no configuration '{config.name}'")
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise UserError(f"{config.path} has none of the endings that are read: {', '.join(_ENDINGS)}")
    if ending == ".parquet":
        return _read_parquet(path, config)
    try:
        return tuple(islice(rows_of_file(path), config.limit))
    except OSError as error:
        raise UserError(f"{config.path} cannot be read: {error.strerror}") from error


def _read_parquet(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    with _library(f"{config.path} cannot be read as Parquet") as (datasets, cache):
        pattern = glob.escape(str(path))
        found = datasets.Dataset.from_parquet(pattern, cache_dir=cache, keep_in_memory=True)
        return _rows(found, config)


def _read_folder(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    """The rows of a folder of data files, or of one written by ``save_to_disk``."""
    if glob.has_magic(str(path)):
        raise UserError(f"{config.path}: rename the folder, since *, ? and [ in its path read as a pattern")
    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    with _library(f"no data set can be read from the folder {config.path}") as (datasets, cache):
        if saved:
            found = datasets.load_from_disk(str(path))
        else:
            found = datasets.load_dataset(str(path), config.name, cache_dir=cache, keep_in_memory=True)
        return _rows(found, config)


def _read_hub(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    what = f"'{config.path}' is no file or folder here, and"
    with _library(f"the data set '{config.path}' cannot be loaded") as (datasets, _):
        try:
            found = datasets.load_dataset(config.path, config.name)
        except ConnectionError as error:
            raise UserError(
                f"{what} the Hugging Face Hub cannot be reached to look for a data set of that name: "
                f"{_reason(error)}. Connect, or give a local file or folder.{guess_neighbour(path)}"
            ) from error
        except FileNotFoundError as error:  # absent, private, gated, or without data files
            raise UserError(
                f"{what} not on the Hub either: {_reason(error)}.{guess_neighbour(path)}"
            ) from error
        return _rows(found, config)


def first_rows(folder: Path, config: PromptsConfig) -> RowSet:
    """At most ``config.limit`` rows of the Hub's data set ``config.path``, cached in `folder`.

    No other rows are read: it may be very large. Raises `UserError` as `read_rows` does.
    """
    with _library(f"the data set '{config.path}' in the Hub's cache cannot be read") as (datasets, cache):
        found = datasets.load_dataset(str(folder), config.name, cache_dir=cache, streaming=True)
        return RowSet(config.path, config.path, _rows(found, config))


def _rows(found: Any, config: PromptsConfig) -> tuple[Row, ...]:
    """The rows of the split, out of one data set or of several by the names of their splits.

    Without the media columns: decoding them costs much, and no judge reads them.
    """
    splits = found if isinstance(found, Mapping) else {str(found.split or "train"): found}
    if config.split not in splits:
        there = ", ".join(f"'{name}'" for name in splits)
        raise UserError(f"prompts.split: {config.path} has no split '{config.split}'; it has {there}")
    dataset = splits[config.split]
    features = dataset.features or {}  # of JSON that is not read whole none are known
    media = [name for name, feature in features.items() if type(feature).__name__ in _MEDIA]
    values = islice(dataset.remove_columns(media), config.limit)
    return tuple(Row(f"[{index}]", row) for index, row in enumerate(values))


def _reason(error: BaseException) -> str:
    """The first line of an error, or its type where it says nothing."""
    from datasets.exceptions import DatasetGenerationError

    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__  # it says only that something went wrong
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def _library(failure: str) -> Iterator[tuple[Any, str]]:
    """The `datasets` library, and a folder for a cache that is thrown away.

    Without the logs and progress bars of the library and the Hub, as what goes wrong is raised: whatever it
    is, since the library lets the errors of its readers through, as a `UserError` that `failure` begins.
    """
    import datasets

    levels = {logger: logger.level for logger in map(logging.getLogger, ("datasets", "huggingface_hub"))}
    bars_were_off = datasets.are_progress_bars_disabled()
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:
            yield datasets, cache
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{failure}: {_reason(error)}") from error
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        if not bars_were_off:
            datasets.enable_progress_bars()


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield _json_row(f":{number}", line.removeprefix(codecs.BOM_UTF8).rstrip())


def _json_row(place: str, line: bytes) -> Row:
    if not line:
        return Row(place, problem=BLANK)
    try:
        return _object_row(place, _parse_json(line))
    except (ValueError, RecursionError) as error:
        return Row(place, problem=_fault(error))


def _parse_json(data: bytes) -> Any:
    """Raises `ValueError`, also for a key that comes twice, and `RecursionError`."""
    return json.loads(data.decode(), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys come once. Raises `ValueError`; of equal keys, Python would take the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is given twice")
        found[key] = value
    return found


def _object_row(place: str, value: object) -> Row:
    if isinstance(value, dict):
        return Row(place, value)
    return Row(place, problem=f'is {type_in_words(value)}, not an object like {{"prompt": "…"}}')


def _json(path: Path) -> Iterator[Row]:
    """A list of rows or a single row; whatever is neither may be JSON Lines under another name."""
    try:
        value = _parse_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith("["):
            yield Row(f":{error.lineno}", problem=_fault(error))
        elif isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            yield from _json_lines(path)
        else:
            yield Row("", problem=_fault(error))
    else:
        for index, row in enumerate(value if isinstance(value, list) else [value]):
            yield _object_row(f"[{index}]", row)


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows under the header in the first line; every value is text."""
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = io.StringIO(data.decode(), newline="")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield Row(f":{line}", problem=_fault(error))
        return
    reader = csv.reader(text, delimiter=delimiter, strict=True)
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
    place = f":{reader.line_num + 1}"
    for cells in reader:
        if not cells:
            yield Row(place, problem=BLANK)
        elif len(cells) != len(header):
            yield Row(place, problem=f"has {len(cells)} values where the header has {len(header)}")
        else:
            yield Row(place, dict(zip(header, cells, strict=True)))
        place = f":{reader.line_num + 1}"


def _fault(error: Exception) -> str:
    """Why a text is no JSON, or is none that Python reads."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}): save the file as UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"is broken JSON: {error.msg} (column {error.colno})"
    return "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": partial(_csv, delimiter=","),
    ".tsv": partial(_csv, delimiter="\t"),
}
_ENDINGS = sorted({*_READERS, ".parquet"})


def rows_of_file(path: Path) -> Iterator[Row]:
    """The rows of a file that is not Parquet; blank lines at its end are not rows.

    Raises `OSError` where it cannot be read.
    """
    blank: list[Row] = []
    for row in _READERS[path.suffix.lower()](path):
        if row.problem == BLANK:
            blank.append(row)
        else:
            yield from (*blank, row)
            blank.clear()


_TYPES = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def type_in_words(value: object) -> str:
    """The type of a value in the words of a data file, such as ``a number``."""
    return "null" if value is None else _TYPES.get(type(value), f"of type {type(value).__name__}")
