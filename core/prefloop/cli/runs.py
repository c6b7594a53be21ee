"""`prefloop runs`: what runs there are, what one came to, stopping one and going on with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prefloop.cli.common import PathOnDisk, accept_option, retry_option, set_option
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.train import run_on
from prefloop.errors import UserError
from prefloop.runs.holding import ask_to_end, holder_of
from prefloop.runs.queue import Queue, is_queue, open_queue
from prefloop.runs.view import MANIFEST, QUEUE, open_run
from prefloop.text import printable, printable_json

_LOOKS = 0.1
"""Seconds between looks at a run that is to end."""


@click.group(cls=PluggedGroup)
def runs() -> None:
    """List, show, stop and resume runs."""


@runs.command("list")
@click.argument("folder", default="runs", type=PathOnDisk())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (by default: runs), or those of a queue."""
    found = _of_queue(open_queue(folder)) if is_queue(folder) else _of_folder(folder)
    if as_json:
        click.echo(printable_json(found))
        return
    queues = [file.parent for file in sorted(folder.glob(f"*/{QUEUE}"))]
    for line in (*map(_line, found), *map(_line_of_queue, queues)):
        click.echo(printable(line))
    if not found and not queues:
        click.echo(f"There are no runs in '{folder}'.")


@runs.command()
@click.argument("run", type=PathOnDisk())
def show(run: Path) -> None:
    """Show how RUN was made and what it came to."""
    found = open_run(run)
    click.echo(printable_json({**found.manifest, "status": found.status}))
    for damage in found.check():
        click.echo(printable(damage.text), err=True)


@runs.command()
@click.argument("run", type=PathOnDisk())
@click.option("--wait", is_flag=True, help="Return when it has ended.")
def stop(run: Path, wait: bool) -> None:
    """Let RUN, which is going on, end after the step it is in, with a checkpoint; a second time, at once.

    A queue ends with its run that is going on.
    """
    queue = is_queue(run)
    if not queue:
        open_run(run)
    process = ask_to_end(run)
    if not wait:
        click.echo(printable(f"'{run}' ends after the step it is in."))
        return
    while holder_of(run) == process:
        time.sleep(_LOOKS)
    click.echo(printable(f"'{run}' is {_finished(open_queue(run)) if queue else open_run(run).status}."))


@runs.command()
@click.argument("run", type=PathOnDisk())
@set_option
@retry_option
@accept_option
def resume(run: Path, overrides: tuple[str, ...], retry_failed: bool, accept_change: bool) -> None:
    """Go on with RUN from its last checkpoint; the same as `prefloop train --resume RUN`."""
    run_on(run, overrides, accept_change, retry_failed)


def _of_folder(folder: Path) -> list[dict[str, Any]]:
    return [{"run": str(p.parent), **_manifest(p.parent)} for p in sorted(folder.glob("*/run.json"))]


def _of_queue(queue: Queue) -> list[dict[str, Any]]:
    """The runs of a queue in their order, those that have no folder yet as well."""
    found = []
    for entry in queue.entries:
        folder = queue.folder_of(entry)
        about = _manifest(folder) if (folder / MANIFEST).exists() else {"summary": {}, "plan": {"steps": "?"}}
        found.append({"run": str(folder), **about, "status": queue.state(entry)})
    return found


def _finished(queue: Queue) -> str:
    states = list(queue.states().values())
    return f"a queue of which {states.count('finished')} of {len(states)} runs are finished"


def _line_of_queue(path: Path) -> str:
    try:
        return f"{path!s:<40} {_finished(open_queue(path))}"
    except UserError:
        return f"{path!s:<40} damaged"


def _manifest(run: Path) -> dict[str, Any]:
    try:
        found = open_run(run)
        return {**found.manifest, "status": found.status}
    except UserError as error:
        return {"status": "damaged", "summary": {}, "plan": {"steps": "?"}, "reason": str(error)}


def _line(run: Mapping[str, Any]) -> str:
    if run["status"] == "waiting":
        return f"{run['run']:<40} waiting"
    try:
        steps, planned = run["summary"].get("steps", "?"), run["plan"]["steps"]
        return f"{run['run']:<40} {run['status']:<11} {steps}/{planned} steps  {_rate(run['summary'])}"
    except (LookupError, TypeError, ValueError, AttributeError):  # edited, or of another version
        return f"{run['run']:<40} damaged"


def _rate(summary: Mapping[str, Any]) -> str:
    """Nothing of a run that was not evaluated after training, or whose judge gave no verdict then."""
    rates = summary.get("win_rate", {})
    if not rates.get("after", {}).get("pairs"):
        return ""
    return "win rate " + " to ".join(f"{side['rate']:.0%}" for side in rates.values())
