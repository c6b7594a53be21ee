"""What commands with ``--json`` say of a run or a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefloop.errors import UserError
from prefloop.runs.queue import open_queue
from prefloop.runs.view import MANIFEST, RunView, open_run

_NOTHING = {"summary": {}, "plan": {"steps": "?"}}


def about_run(run: RunView) -> dict[str, Any]:
    """What ``run.json`` says, with what became of the run."""
    return {"run": str(run.path), **run.manifest, "status": run.status}


def about_any(run: Path) -> dict[str, Any]:
    """The same of a run that may be damaged."""
    try:
        return about_run(open_run(run))
    except UserError as error:
        return {"run": str(run), **_NOTHING, "status": "damaged", "reason": str(error)}


def runs_of_queue(path: Path) -> list[dict[str, Any]]:
    """The runs of a queue in their order, those that have no folder yet as well."""
    queue, found = open_queue(path), []
    for entry in queue.entries:
        folder = queue.folder_of(entry)
        about = about_any(folder) if (folder / MANIFEST).exists() else {"run": str(folder), **_NOTHING}
        found.append({**about, "status": queue.state(entry)})
    return found
