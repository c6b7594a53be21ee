"""`prefloop runs`: what runs there are, what one came to, stopping one and going on with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prefloop.cli.about import about_any, about_run, runs_of_queue
from prefloop.cli.common import (
    PathOnDisk,
    accept_option,
    json_option,
    print_json,
    retry_option,
    set_option,
)
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.ranks import rank_options
from prefloop.cli.train import train
from prefloop.errors import UserError
from prefloop.runs.holding import ask_to_end, holder_of
from prefloop.runs.queue import Queue, is_queue, open_queue
from prefloop.runs.view import MANIFEST, QUEUE, open_run
from prefloop.text import printable

_LOOKS = 0.1
"""Seconds between looks at a run that is to end."""


@click.group(cls=PluggedGroup)
def runs() -> None:
    """List, show, stop and resume runs."""


@runs.command("list")
@click.argument("folder", default="runs", type=PathOnDisk())
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (by default: runs), or those of a queue."""
    found = runs_of_queue(folder) if is_queue(folder) else _of_folder(folder)
    if as_json:
        print_json(found)
        return
    queues = [file.parent for file in sorted(folder.glob(f"*/{QUEUE}"))]
    for line in (*map(_line, found), *map(_line_of_queue, queues)):
        click.echo(printable(line))
    if not found and not queues:
        click.echo(f"There are no runs in '{folder}'.")


@runs.command()
@click.argument("run", type=PathOnDisk())
@click.option("--json", is_flag=True, expose_value=False, help="The same: a JSON document it is in any case.")
def show(run: Path) -> None:
    """Show how RUN was made and what it came to."""
    found = open_run(run)
    print_json(about_run(found))
    for damage in found.check():
        click.echo(printable(damage.text), err=True)


@runs.command()
@click.argument("run", type=PathOnDisk())
@click.option("--wait", is_flag=True, help="Return when it has ended.")
@json_option
def stop(run: Path, wait: bool, as_json: bool) -> None:
    """Let RUN, which is going on, end after the step it is in, with a checkpoint; a second time, at once.

    A queue ends with its run that is going on.
    """
    queue = is_queue(run)
    if not queue:
        open_run(run)
    process = ask_to_end(run)
    while wait and holder_of(run) == process:
        time.sleep(_LOOKS)
    if as_json:
        print_json(runs_of_queue(run) if queue else about_run(open_run(run)))
    elif wait:
        became = _finished(open_queue(run)) if queue else open_run(run).status
        click.echo(printable(f"'{run}' is {became}."))
    else:
        click.echo(printable(f"'{run}' ends after the step it is in."))


@runs.command()
@click.argument("run", type=PathOnDisk())
@set_option
@retry_option
@accept_option
@rank_options
@json_option
@click.pass_context
def resume(ctx: click.Context, /, run: Path, **options: Any) -> None:
    """Go on with RUN from its last checkpoint; the same as `prefloop train --resume RUN`."""
    ctx.invoke(train, resume=run, **options)


def _of_folder(folder: Path) -> list[dict[str, Any]]:
    return [about_any(file.parent) for file in sorted(folder.glob(f"*/{MANIFEST}"))]


def _finished(queue: Queue) -> str:
    states = list(queue.states().values())
    return f"a queue of which {states.count('finished')} of {len(states)} runs are finished"


def _line_of_queue(path: Path) -> str:
    try:
        return f"{path!s:<40} {_finished(open_queue(path))}"
    except UserError:
        return f"{path!s:<40} damaged"


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
