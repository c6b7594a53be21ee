"""`prefloop runs`: what runs there are, what one came to, stopping one and going on with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prefloop.cli.common import PathOnDisk, accept_option, set_option
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.train import run_on
from prefloop.errors import UserError
from prefloop.runs.holding import ask_to_end, holder_of
from prefloop.runs.view import open_run
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
    """List the runs in FOLDER (by default: runs)."""
    found = [{"run": str(p.parent), **_manifest(p.parent)} for p in sorted(folder.glob("*/run.json"))]
    if as_json:
        click.echo(printable_json(found))
        return
    for run in found:
        click.echo(printable(_line(run)))
    if not found:
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
    """Let RUN, which is going on, end after the step it is in, with a checkpoint; a second time, at once."""
    open_run(run)
    process = ask_to_end(run)
    if not wait:
        click.echo(printable(f"'{run}' ends after the step it is in."))
        return
    while holder_of(run) == process:
        time.sleep(_LOOKS)
    click.echo(printable(f"'{run}' is {open_run(run).status}."))


@runs.command()
@click.argument("run", type=PathOnDisk())
@set_option
@accept_option
def resume(run: Path, overrides: tuple[str, ...], accept_change: bool) -> None:
    """Go on with RUN from its last checkpoint; the same as `prefloop train --resume RUN`."""
    run_on(run, overrides, accept_change)


def _manifest(run: Path) -> dict[str, Any]:
    try:
        found = open_run(run)
        return {**found.manifest, "status": found.status}
    except UserError as error:
        return {"status": "damaged", "summary": {}, "plan": {"steps": "?"}, "reason": str(error)}


def _line(run: Mapping[str, Any]) -> str:
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
