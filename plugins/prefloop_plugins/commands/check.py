"""`prefloop plugins check`: whether what is installed keeps the contract."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from attrs import asdict

from prefloop.cli.common import configure_process, json_option, print_json

if TYPE_CHECKING:
    from prefloop_testing.checking import Checked


@click.command("check")
@click.argument("distribution", required=False, metavar="[DIST|FILE]")
@click.option("-v", "--verbose", is_flag=True, help="Name every test.")
@json_option
@click.pass_context
def check_plugins(ctx: click.Context, distribution: str | None, verbose: bool, as_json: bool) -> None:
    """Run the conformance checks on what is installed, or on the distribution DIST or Python FILE alone.

    Components are checked as their defaults make them; what needs an option, a person or a download is
    checked as far as its class goes. Exit code 1 where a check fails.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    configure_process()
    from prefloop_testing.checking import check

    found = []
    for checked in check(distribution):
        found.append(checked)
        for line in () if as_json else _report(checked, verbose):
            click.echo(line)
    failed = any(checked.having("failed") for checked in found)
    if as_json:
        print_json({"passed": not failed, "checked": [asdict(checked) for checked in found]})
    if failed:
        ctx.exit(1)


def _report(checked: Checked, verbose: bool) -> list[str]:
    counts = [f"{len(found)} {s}" for s in ("passed", "failed", "skipped") if (found := checked.having(s))]
    mark = "FAILED" if checked.having("failed") else "ok"
    lines = [f"{mark:<6}  {checked.kind:<9}  {checked.name}: {', '.join(counts)}"]
    skipped = dict.fromkeys(outcome.message for outcome in checked.having("skipped"))
    for outcome in checked.outcomes:
        if outcome.status == "failed":
            lines.append(f"  {outcome.test}: {outcome.message}")
        elif verbose:
            lines.append(f"  {outcome.test}: {outcome.status}")
        lines += [f"  note: {note}" for note in outcome.notes]
    return [*lines, *(f"  skipped: {reason}" for reason in skipped)]
