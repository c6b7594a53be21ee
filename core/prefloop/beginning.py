"""Where and when a run began: what its relative paths and the date in a chat template mean until it ends.

A run that goes on, or is evaluated, in another folder or on another day reads the same files and renders the
same prompts. Nothing of this applies outside `begun`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen


@frozen
class Beginning:
    """The current folder and the local time as a run began."""

    folder: Path = field(factory=Path.cwd)
    moment: datetime = field(factory=lambda: datetime.now().replace(microsecond=0))

    def to_json(self) -> dict[str, str]:
        """As ``run.json`` has it."""
        return {"folder": str(self.folder), "local_time": self.moment.isoformat()}


_DATE = re.compile(r"""\bstrftime_now\(\s*(['"])(.*?)\1\s*\)""")
_of_run: ContextVar[Beginning | None] = ContextVar("beginning", default=None)


def beginning() -> Beginning:
    """That of the run that is being worked on, or of one that begins now."""
    return _of_run.get() or Beginning()


def beginning_of(manifest: Mapping[str, Any]) -> Beginning:
    """The beginning of the run with this ``run.json``; one of an older version tells only when it started."""
    try:
        found = manifest["began"]
        return Beginning(Path(found["folder"]), datetime.fromisoformat(found["local_time"]))
    except (LookupError, TypeError, ValueError):
        pass
    try:
        started = datetime.fromisoformat(manifest["started"]).astimezone().replace(tzinfo=None)
    except (LookupError, TypeError, ValueError):
        return Beginning()
    return Beginning(moment=started)


@contextmanager
def begun(at: Beginning) -> Iterator[None]:
    """Work on a run that began `at` that place and time."""
    token = _of_run.set(at)
    try:
        yield
    finally:
        _of_run.reset(token)


def folders() -> list[Path]:
    """Where relative paths are looked for: in the folder where the run began, else in the current one."""
    return list(dict.fromkeys([beginning().folder, Path.cwd()]))


def placed(path: Path) -> Path:
    """What a path of the run names; a relative one comes back unchanged where it is that from here."""
    there = beginning().folder / path
    return there if there.exists() and beginning().folder != Path.cwd() else path


def looked(path: Path) -> str:
    """Where a relative path was looked for, as a sentence; empty where that is the current folder alone."""
    if path.is_absolute() or len(folders()) == 1:
        return ""
    return f" It was looked for in {' and in '.join(map(str, folders()))}."


def dated(tokenizer: Any) -> dict[str, Any]:
    """The argument of ``apply_chat_template`` that makes a template which writes the date write that of the
    run's beginning. A copy of the template: the tokenizer may be saved with the model.
    """
    at, template = _of_run.get(), tokenizer.chat_template
    if at is None or not isinstance(template, str) or not _DATE.search(template):
        return {}
    return {"chat_template": _DATE.sub(lambda found: repr(at.moment.strftime(found[2])), template)}
