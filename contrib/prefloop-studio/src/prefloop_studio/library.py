"""The folder of runs: which there are, and what is done with one as a whole.

What the Studio keeps of its own lies in ``.studio`` beside the runs: the token, the queue, and the trash.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from starlette.exceptions import HTTPException

from prefloop import UserError, open_run
from prefloop.runs.holding import holder_of

if TYPE_CHECKING:
    from prefloop import RunView

NAME = re.compile(r"[^\W.][\w. +=@-]{0,99}")
"""What a run may be called by the pages: nothing that means something in a path."""


@frozen
class Library:
    """The runs in `folder`."""

    folder: Path

    @property
    def own(self) -> Path:
        """Where the Studio keeps its own files."""
        return self.folder / ".studio"

    @property
    def trash(self) -> Path:
        return self.own / "trash"

    def names(self) -> list[str]:
        """The names of all runs, the newest first."""
        with suppress(OSError):
            entries = [e for e in os.scandir(self.folder) if e.is_dir(follow_symlinks=False)]
            found = [(t, e.name) for e in entries if e.name[0] != "." and (t := _written(Path(e.path)))]
            return [name for _, name in sorted(found, reverse=True)]
        return []

    def path(self, name: str) -> Path:
        """The folder of a run. Raises `HTTPException` where there is none of this name."""
        path = self.folder / name
        # Compared with what is there, not parsed: no name can lead out of the folder.
        if name.startswith(".") or name not in _entries(self.folder) or not (path / "run.json").is_file():
            raise HTTPException(404, f"there is no run '{name}'")
        if path.resolve().parent != self.folder.resolve():
            raise HTTPException(404, f"there is no run '{name}' in this folder: it is a link to elsewhere")
        return path

    def open(self, name: str) -> RunView:
        """A run to be read. Raises `HTTPException` or `UserError` where it cannot be."""
        return open_run(self.path(name))

    def new(self, name: str) -> Path:
        """The folder of a run that is to be. Raises `UserError` where the name will not do."""
        if not NAME.fullmatch(name) or name != name.strip():
            raise UserError(
                f"'{name[:100]}' cannot be the name of a run: use letters, digits, spaces and - _ + = @ ., "
                "beginning with a letter or digit."
            )
        if name in _entries(self.folder):
            raise UserError(f"there is something called '{name}' in '{self.folder}' already.")
        return self.folder / name

    def rename(self, name: str, new: str) -> None:
        """Raises `UserError` where the run is going on, or the new name will not do."""
        self._idle(name).rename(self.new(new))

    def delete(self, name: str) -> str:
        """Move a run into the trash; what it is called there. Raises `UserError` where it is going on."""
        path = self._idle(name)
        self.trash.mkdir(parents=True, exist_ok=True)
        kept = f"{name}~{time.time_ns()}"
        path.rename(self.trash / kept)
        return kept

    def deleted(self) -> list[dict[str, Any]]:
        """What is in the trash, the newest first."""
        found = [kept.rpartition("~") for kept in _entries(self.trash)]
        rows = [
            {"id": f"{name}~{when}", "run": name, "deleted": int(when) / 1e9}
            for name, _, when in found
            if when.isdecimal()
        ]
        return sorted(rows, key=lambda row: -row["deleted"])

    def restore(self, kept: str) -> str:
        """Take a run out of the trash; its name. Raises `UserError` where there is another of its name."""
        if kept not in _entries(self.trash):
            raise HTTPException(404, "that is not in the trash")
        name = kept.rpartition("~")[0]
        (self.trash / kept).rename(self.new(name))
        return name

    def empty_trash(self) -> int:
        """Remove what is in the trash for good; how many runs that were."""
        kept = list(_entries(self.trash))
        for name in kept:
            shutil.rmtree(self.trash / name)
        return len(kept)

    def _idle(self, name: str) -> Path:
        path = self.path(name)
        if holder_of(path) is not None:
            raise UserError(f"'{name}' is going on; stop it first.")
        return path


def _entries(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return set()


def _written(run: Path) -> float:
    """When ``run.json`` was written last; 0 where there is none."""
    try:
        return (run / "run.json").stat().st_mtime
    except OSError:
        return 0.0
