"""`prefloop plan`: what several machines would bring a run, before they are joined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefloop.cli.common import (
    PathOnDisk,
    configure_process,
    json_option,
    print_json,
    set_option,
    words_aside,
)

if TYPE_CHECKING:
    from prefloop_plugins.scaling.planned import ScalingPlan


@click.command()
@click.argument("config", type=PathOnDisk(), metavar="CONFIG")
@click.option(
    "--machines",
    "given",
    required=True,
    metavar="FILE|SPEC",
    help="The machines and their link: a YAML file, or such as 'machines: 2, link: thunderbolt'.",
)
@click.option(
    "--measured",
    "runs",
    multiple=True,
    type=PathOnDisk(),
    metavar="RUN",
    help="A run of CONFIG whose steps were timed. May be given several times, for several batch sizes.",
)
@click.option(
    "--measure",
    "steps",
    type=click.IntRange(min=2),
    metavar="STEPS",
    help="Time so many steps on this machine, with the whole batch and with a share of it.",
)
@set_option
@json_option
def plan(
    config: Path,
    given: str,
    runs: tuple[Path, ...],
    steps: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Work out what several machines would bring CONFIG: bytes over the wire, seconds a step, memory.

    For each number of machines: ranks, which share each step, and workers, which sample for one that learns.
    Seconds are worked out from phases that were measured (--measured, --measure); without, there are bytes
    and memory alone. Nothing is written, and no other machine is asked.
    """
    from prefloop.config import load_config
    from prefloop.errors import UserError
    from prefloop_plugins.scaling.machines import read_machines

    if runs and steps:
        raise UserError("--measured and --measure exclude each other: give one of them.")
    machines = read_machines(given)
    with words_aside(as_json):
        configure_process()
        settings = load_config(config, overrides)
        from prefloop_plugins.scaling.planned import plan_machines

        found = plan_machines(settings, machines, runs, steps)
    if as_json:
        print_json(found.to_json())
        return
    for line in _lines(found):
        click.echo(line)


def _lines(plan: ScalingPlan) -> list[str]:
    from prefloop_plugins.scaling.words import described, table

    lines = [f"{title:<9} {text}" for title, text in described(plan)]
    lines += ["", *table(plan), ""]
    if plan.advice:
        advice = plan.advice
        what = {"one": "one machine", "ranks": f"{advice.machines} ranks"}
        name = what.get(advice.name, f"a learner and {advice.machines - 1} workers")
        lines.append(f"{'advice':<9} {name}: {advice.why}")
    return lines + [f"{'note':<9} {note}" for note in plan.notes]
