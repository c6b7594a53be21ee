"""`prefloop export`: what a run has made, in the formats of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefloop.cli.common import PathOnDisk, json_option, print_json, write_new
from prefloop.errors import UserError
from prefloop_plugins.commands.exports.commands import COMMANDS

if TYPE_CHECKING:
    from prefloop_plugins.commands.exporting import Export, Format


@click.group()
def export() -> None:
    """Write what a run has made for other tools."""


for command in COMMANDS:
    export.add_command(command)


@export.command()
@click.argument("run", type=PathOnDisk())
@click.option("--output", type=PathOnDisk(), help="The file to write, instead of printing.")
@click.option(
    "--format",
    type=click.Choice(["chat", "text"]),
    default="chat",
    show_default=True,
    help="Chat messages, or texts.",
)
@click.option(
    "--details", is_flag=True, help="Add the columns probability, step, judge, and a mixture's source."
)
@click.option("--include-ties", is_flag=True, help="Keep ties, with probability 0.5; needs --details.")
@json_option
def pairs(
    run: Path, output: Path | None, format: Format, details: bool, include_ties: bool, as_json: bool
) -> None:
    """Write the pairs that RUN has judged as a preference data set, in JSON Lines.

    The columns are prompt, chosen and rejected. Pairs without a label and those of evaluations are left out;
    how many is said on standard error; with --json and --output, in a document on standard output.
    """
    if as_json and output is None:
        raise UserError(
            "--json goes with --output: without it, the data set itself is printed, a JSON a line."
        )
    from prefloop_plugins.commands.exporting import export_pairs

    found = export_pairs(run, format=format, ties=include_ties, details=details)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    if output is None:
        click.echo(lines, nl=False)
    else:
        write_new(output, lines)
    if as_json:
        print_json({"file": str(output), "pairs": len(found.rows), "left_out": found.left_out})
    else:
        click.echo(_account(found, output), err=True)


def _account(found: Export, output: Path | None) -> str:
    said = f"Wrote {len(found.rows)} pairs" + (f" to {output}." if output else ".")
    if found.left_out:
        said += f" Left out: {', '.join(f'{count} {what}' for what, count in found.left_out.items())}."
    if found.flattened:
        said += f" {found.flattened} prompts of several turns became one text; --format chat keeps the turns."
    return said
