"""Files that are whole or not there: lines appended in one piece, folders renamed into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prefloop.errors import UserError
from prefloop.prompts.loading import RowError

DAMAGE = (RowError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a record raises that is not as it was written."""
T = TypeVar("T")
_SEAL = re.compile(rb', "crc": "([0-9a-f]{8})"}$')
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


def append_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append JSON lines, all of them or none, and see them onto the disk."""
    if not records:
        return
    content = sealed_lines(records)
    with path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            while content:  # a disk that fills up takes a part of it, and refuses the next write
                content = content[stream.write(content) :]
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(end)
            raise


def sealed_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    """JSON lines that end in ``"crc"``, the CRC-32 of the line without that: a changed byte is noticed."""
    lines = [json.dumps(record, ensure_ascii=False).encode("utf-8", errors="replace") for record in records]
    return b"".join(line[:-1] + b', "crc": "%08x"}\n' % zlib.crc32(line) for line in lines)


def read_lines(path: Path, record: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `record` makes of the JSON lines of a file, none where it is not there.

    A torn last line is cut off the file, and a line that is there twice counts once. Raises `UserError` for
    any other line that is no JSON object, whose seal is broken or missing, or for which `record` raises one
    of `DAMAGE`; the file, which may be somebody's of another kind, is then left as it is.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    whole = content if end == len(content) else content[:end] + _unless_torn(content[end:])
    records, before_it = [], LinesBefore()
    for number, line in enumerate(whole.splitlines(keepends=True), 1):
        try:
            if not before_it.have(line):
                records.append(record(parse_line(line.rstrip())))
        except DAMAGE as error:
            reason = f"it {error}" if isinstance(error, RowError) else error
            raise UserError(
                f"{path}:{number}: this line is damaged ({reason}); remove it to go on."
            ) from error
    if whole != content:
        rewrite(path, whole)
    return records


def _unless_torn(last: bytes) -> bytes:
    """A line that lacks nothing but its end, with that; nothing of any other."""
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return b""
    return last + b"\n"


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, unsealed. Raises `ValueError` where it is none, or its seal is broken."""
    if seal := _SEAL.search(line):
        line = line[: seal.start()] + b"}"
        if zlib.crc32(line) != int(seal[1], 16):
            raise ValueError("its checksum does not fit")
    try:
        record: Any = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return record


class LinesBefore:
    """The lines that come before one in a file: they tell of it what it alone does not."""

    def __init__(self) -> None:
        self._sealed: set[int] = set()

    def have(self, line: bytes) -> bool:
        """Whether a line was there before; an error, which is asked again, may come twice.

        Raises `RowError` for a line without a seal after lines with one.
        """
        if not _SEAL.search(line.rstrip()):
            if self._sealed and line.startswith(b"{"):
                raise RowError("has no checksum, unlike the lines before it: the run did not write it")
            return False
        twice = hash(line) in self._sealed and b'"status": "error"' not in line
        self._sealed.add(hash(line))
        return twice


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file in one piece."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)
    _sync(path.parent)


def rewrite_json(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a JSON file in one piece."""
    rewrite(path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder written beside its place and renamed into it once all its files are on the disk.

    Raises `OSError` where it cannot be written; mlx says so in a `RuntimeError` without an error number.
    """
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        for path in (*beside.rglob("*"), beside):
            _sync(path)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, RuntimeError) and str(error).startswith("[write]"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    if folder.exists():
        discard(folder)
    beside.replace(folder)
    _sync(folder.parent)


def discard(folder: Path) -> None:
    """Remove a folder; what an interruption leaves of it does not have its name."""
    doomed = folder.with_name(f".{folder.name}.old")
    _remove(doomed)
    folder.replace(doomed)
    _remove(doomed)


def sweep(folder: Path, own: re.Pattern[str]) -> None:
    """Remove what an interruption left in a folder of what has an `own` name, half written or removed."""
    for left in [p for p in folder.glob(".*") if p.suffix in (".tmp", ".old") and own.fullmatch(p.stem[1:])]:
        _remove(left)


_SIGNATURE = b"# sha256 of what follows: "


def signed(content: bytes) -> bytes:
    """A text under a line with its hash."""
    return _SIGNATURE + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def is_signed(content: bytes) -> bool:
    """Whether a text begins with such a line, as it does not where an old version wrote it."""
    return content.startswith(_SIGNATURE)


def is_as_written(content: bytes) -> bool:
    """Whether a text is one that `signed` gave."""
    return content == signed(content.partition(b"\n")[2])


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link, never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_errors_as_user_errors(run: Path) -> Iterator[None]:
    """Turn a full, read-only or vanished disk into a `UserError`; other errors go through."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            concerns_run = error.errno in _OF_DISKS
        else:
            concerns_run = Path(os.fsdecode(error.filename)).absolute().is_relative_to(run.absolute())
        if not concerns_run:
            raise
        raise UserError(
            f"cannot write to '{run}': {error.strerror}. Nothing that was saved is lost; once that is "
            f"mended: prefloop train --resume {shlex.quote(str(run))}"
        ) from error


def _sync(path: Path) -> None:
    """See a file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
