"""Several runs from one `prefloop train`, and going on with them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from prefloop.config import dump_config
from prefloop.config.grid import Member
from prefloop.config.load import parse_override
from prefloop.errors import UserError
from prefloop.text import printable


def train_several(
    members: Sequence[Member], output: Path | None, asked: Mapping[str, Any]
) -> tuple[Path, int]:
    """Make a queue of the runs and train them; its folder and the exit code."""
    from prefloop.runs.queue import make_queue
    from prefloop.runs.queue_work import work

    refuse_output(asked["set"])
    queue = make_queue(output, members, asked)
    click.echo(f"queue    {queue.path}: {len(members)} runs, one after the other")
    _list(members)
    return queue.path, work(queue, click.echo)


def go_on(path: Path, overrides: Sequence[str], *, accept_change: bool, retry_failed: bool) -> int:
    """Go on with the queue in `path`; the exit code."""
    from prefloop.runs.queue import open_queue
    from prefloop.runs.queue_work import work

    if overrides:
        raise UserError(f"'{path}' is a queue, which goes on as it is: --set is for one of its runs.")
    return work(open_queue(path), click.echo, accept_change=accept_change, retry_failed=retry_failed)


def try_several(members: Sequence[Member], overrides: Sequence[str]) -> int:
    """List the runs and try each setting with its first seed, each in a process of its own; the exit code."""
    refuse_output(overrides)
    click.echo(f"queue    {len(members)} runs, one after the other")
    _list(members)
    first: dict[str, Member] = {}
    for member in members:
        first.setdefault(member.setting, member)
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        for member in first.values():
            click.echo(printable(f"\n── {member.name}"))
            file = Path(folder) / f"{member.name}.yaml"
            file.write_text(dump_config(member.config), encoding="utf-8")
            command = [sys.executable, "-m", "prefloop", "train", str(file), "--dry-run"]
            code = subprocess.run(command, check=False).returncode or code
    return code


def refuse_output(overrides: Sequence[str]) -> None:
    """Raises `UserError` where all of several runs were to go into one folder."""
    for text in overrides:
        path, given = (override := parse_override(text)).path, override.value.mapping
        if path == ("output", "path") or (path == ("output",) and (given is None or "path" in given)):
            raise UserError(
                f"--set {text}: several runs cannot share a folder. Name that of the queue with --output DIR;"
                " each run has its own in it."
            )


def _list(members: Sequence[Member]) -> None:
    for number, member in enumerate(members, 1):
        click.echo(printable(f"{number:>7}  {member.name}"))
    if ignored := sorted({str(m.source) for m in members if m.config.output.path}):
        click.echo(
            f"         output.path of {', '.join(ignored)} is left aside: a run is in the queue's folder"
        )
