"""Files that are whole or not there: lines appended in one write, folders renamed into place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefloop.errors import UserError


def append_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append JSON lines in one write, and see them onto the disk."""
    if not records:
        return
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with path.open("ab", buffering=0) as stream:
        stream.write(text.encode("utf-8", errors="replace"))
        os.fsync(stream.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, or none where it is not there. A torn last line is cut off the file.

    Raises `UserError` for a damaged line before the last.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        rewrite(path, whole)
    return [_parsed(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}:{number}: this line is damaged ({error}); remove it to go on.") from error
    return record


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file in one piece."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    _sync_folder(path.parent)


def rewrite_json(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a JSON file in one piece."""
    rewrite(path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder written beside its place and renamed into it once all its files are on the disk."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                _sync(file)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    beside.replace(folder)
    _sync_folder(folder.parent)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """See a rename onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
