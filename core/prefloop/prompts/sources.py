"""Finds what ``prompts.path`` names, a file, a folder or a Hub data set, and reads its rows.

Folders, Parquet and the Hub go through the `datasets` library, which is imported only then. Local
data are read with a cache that is thrown away: the library's own would outlive a change of the file
and fill the user's home.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prefloop import embedded
from prefloop.errors import UserError, did_you_mean
from prefloop.prompts.files import ENDINGS, Row, rows_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefloop.settings import PromptsConfig

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_KNOWN_ENDINGS = sorted(ENDINGS | {".parquet"})
_MEDIA = {"Image", "Audio", "Video", "Pdf", "Nifti"}


@frozen
class Rows:
    """The rows that were found, and how to speak of them."""

    label: str
    """The path as the user wrote it, for messages."""
    name: str
    """The file's name, or the folder or data set as written, for the ids of prompts."""
    rows: tuple[Row, ...]


def read_rows(config: PromptsConfig) -> Rows:
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
    elif _HUB_ID.fullmatch(config.path) and path.suffix.lower() not in _KNOWN_ENDINGS:
        rows = _read_hub(path, config)
    else:
        raise UserError(_no_such_file(config.path, path))
    if not rows:
        raise UserError(f"{config.path} is empty: it holds no rows")
    return Rows(config.path, name, rows)


def _no_such_file(given: str, path: Path) -> str:
    message = f"there is no file or folder '{given}'"
    if not path.parent.is_dir():
        return f"{message}: there is not even a folder '{path.parent}'"
    return f"{message}, and it is no Hub id of the form owner/name.{_neighbour(path)}"


def _neighbour(path: Path) -> str:
    folder = path.parent
    return guess(path.name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else [])


def guess(given: str, known: Iterable[str]) -> str:
    """`did_you_mean`, or nothing where no name is close: the whole list stands elsewhere, or helps nobody."""
    hint = did_you_mean(given, known)
    return hint if "Did you mean" in hint else ""


def _read_file(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    if config.split != "train":
        raise UserError(f"prompts.split: {config.path} is one file and has only the split 'train'")
    if config.name is not None:
        raise UserError(f"prompts.name: {config.path} is a file and has no configuration '{config.name}'")
    ending = path.suffix.lower()
    if ending not in _KNOWN_ENDINGS:
        raise UserError(f"{config.path} has none of the endings that are read: {', '.join(_KNOWN_ENDINGS)}")
    if ending == ".parquet":
        return _read_parquet(path, config)
    try:
        return tuple(islice(rows_of_file(path), config.limit))
    except OSError as error:
        raise UserError(f"{config.path} cannot be read: {error.strerror}") from error


def _read_parquet(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    import datasets

    with _quiet(), tempfile.TemporaryDirectory() as cache:
        try:
            found = datasets.Dataset.from_parquet(
                glob.escape(str(path)), cache_dir=cache, keep_in_memory=True
            )
            return _rows(found, config.limit)
        except Exception as error:  # the library lets whatever its reader raises through
            raise UserError(f"{config.path} cannot be read as Parquet: {_reason(error)}") from error


def _read_folder(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    if glob.has_magic(str(path)):
        raise UserError(f"{config.path}: rename the folder, since *, ? and [ in its path read as a pattern")
    with _quiet(), tempfile.TemporaryDirectory() as cache:
        try:
            found = _open_folder(path, config.name, cache)
        except Exception as error:  # as above
            raise UserError(
                f"no data set can be read from the folder {config.path}: {_reason(error)}"
            ) from error
        return _rows(_split(found, config), config.limit)


def _open_folder(path: Path, name: str | None, cache: str) -> Mapping[str, Any]:
    """The splits of a folder of data files, or of one written by ``save_to_disk``."""
    import datasets

    if not (path / "dataset_dict.json").exists() and not (path / "state.json").exists():
        found: Any = datasets.load_dataset(str(path), name, cache_dir=cache, keep_in_memory=True)
    else:
        found = datasets.load_from_disk(str(path))
    return found if isinstance(found, Mapping) else {str(found.split or "train"): found}


def _read_hub(path: Path, config: PromptsConfig) -> tuple[Row, ...]:
    import datasets

    what = f"'{config.path}' is no file or folder here, and"
    with _quiet():
        try:
            found = datasets.load_dataset(config.path, config.name)
        except ConnectionError as error:
            raise UserError(
                f"{what} the Hugging Face Hub cannot be reached to look for a data set of that name: "
                f"{_reason(error)}. Connect, or give a local file or folder.{_neighbour(path)}"
            ) from error
        except FileNotFoundError as error:  # absent, private, gated, or without data files
            raise UserError(f"{what} not on the Hub either: {_reason(error)}.{_neighbour(path)}") from error
        except Exception as error:
            raise UserError(f"the data set '{config.path}' cannot be loaded: {_reason(error)}") from error
        return _rows(_split(found, config), config.limit)


def _split(found: Mapping[str, Any], config: PromptsConfig) -> Any:
    if config.split in found:
        return found[config.split]
    there = ", ".join(f"'{name}'" for name in found)
    raise UserError(f"prompts.split: {config.path} has no split '{config.split}'; it has {there}")


def _rows(dataset: Any, limit: int | None) -> tuple[Row, ...]:
    """Without the media columns: decoding them costs much, and no judge reads them."""
    media = [name for name, feature in dataset.features.items() if type(feature).__name__ in _MEDIA]
    values = islice(dataset.remove_columns(media), limit)
    return tuple(Row(f"[{index}]", row) for index, row in enumerate(values))


def _reason(error: BaseException) -> str:
    """The first line of an error, or its type where it says nothing."""
    from datasets.exceptions import DatasetGenerationError

    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__  # it says only that something went wrong
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the logs and progress bars of `datasets` and the Hub: what goes wrong is raised."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars_were_off = datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars_were_off:
            datasets.enable_progress_bars()
