"""`prefloop runs`: what runs there are, what one came to, stopping one and going on with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prefloop.cli.common import PathOnDisk, accept_option, json_option, print_json, set_option
from prefloop.cli.plugged import PluggedGroup
from prefloop.cli.train import about_run, run_on
from prefloop.errors import UserError
from prefloop.runs.holding import ask_to_end, holder_of
from prefloop.runs.view import open_run
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
    """List the runs in FOLDER (by default: runs)."""
    found = [_about(p.parent) for p in sorted(folder.glob("*/run.json"))]
    if as_json:
        print_json(found)
        return
    for run in found:
        click.echo(printable(_line(run)))
    if not found:
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
    """Let RUN, which is going on, end after the step it is in, with a checkpoint; a second time, at once."""
    open_run(run)
    process = ask_to_end(run)
    while wait and holder_of(run) == process:
        time.sleep(_LOOKS)
    if as_json:
        print_json(about_run(open_run(run)))
    elif wait:
        click.echo(printable(f"'{run}' is {open_run(run).status}."))
    else:
        click.echo(printable(f"'{run}' ends after the step it is in."))


@runs.command()
@click.argument("run", type=PathOnDisk())
@set_option
@accept_option
@json_option
def resume(run: Path, overrides: tuple[str, ...], accept_change: bool, as_json: bool) -> None:
    """Go on with RUN from its last checkpoint; the same as `prefloop train --resume RUN`."""
    run_on(run, overrides, accept_change, as_json)


def _about(run: Path) -> dict[str, Any]:
    try:
        return about_run(open_run(run))
    except UserError as error:
        damaged = {"status": "damaged", "summary": {}, "plan": {"steps": "?"}, "reason": str(error)}
        return {"run": str(run), **damaged}


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
