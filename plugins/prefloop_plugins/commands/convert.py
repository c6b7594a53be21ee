"""`prefloop config convert`: another tool's configuration as prefloop's, with an account of every key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from prefloop.cli.common import PathOnDisk, set_option, write_new
from prefloop.config import load_config, yaml_nodes
from prefloop.config.load import Override, parse_override
from prefloop.config.yaml_nodes import Node, read_file
from prefloop.errors import UserError
from prefloop.text import in_a_line, printable, printable_json
from prefloop_plugins.converting.account import as_json, lines_of
from prefloop_plugins.converting.convert import DIALECTS, Conversion, dialect_of, with_overrides
from prefloop_plugins.converting.convert import convert as converted


class Converter(click.Command):
    """The command, and what `prefloop train` asks it about a file with keys that are none of prefloop's."""

    def foreign(self, root: Node, overrides: Sequence[Override]) -> Node | None:
        """The nodes of a file of another tool as prefloop's, said in short; None where it is of no other."""
        dialect = dialect_of(root)
        if dialect is None:
            return None
        conversion = converted(root, dialect, overrides)
        click.echo(printable("\n".join(_in_short(conversion))), err=True)
        return conversion.root


@click.command("convert", cls=Converter)
@click.argument("file", type=PathOnDisk())
@click.option("--output", type=PathOnDisk(), help="The file to write, instead of printing.")
@click.option("--json", "as_data", is_flag=True, help="Print the settings and the account as JSON.")
@set_option
def convert(file: Path, output: Path | None, as_data: bool, overrides: tuple[str, ...]) -> None:
    """Convert FILE, a configuration of mlx-lm-lora, MLX LoRA Studio or TRL, and say what became of every key.

    Without --output the configuration is printed, and the account goes to standard error.
    """
    root, problems = read_file(file)
    if problems:
        raise UserError(*map(str, problems))
    dialect = dialect_of(root)
    if dialect is None:
        *tools, last = (dialect.tool for dialect in DIALECTS)
        known = f"{', '.join(tools)} or {last}"
        raise UserError(f"{file}: has no key that marks a configuration of {known}.")
    given = [parse_override(text) for text in overrides]
    conversion = converted(root, dialect, given)
    tree = with_overrides(conversion.root, given)
    load_config(tree)
    text = _page(conversion, tree)
    if output is not None:
        write_new(output, text)
    if as_data:
        about = {"tool": dialect.tool, "dialect": dialect.name, "remark": dialect.remark}
        data = {**about, "config": tree.plain, "account": as_json(conversion.account)}
        click.echo(printable_json(data))
        return
    if output is None:
        click.echo(text, nl=False)
    click.echo(printable("\n".join(_at_length(conversion))), err=output is None)
    if output is not None:
        click.echo(f"Wrote {in_a_line(str(output))}.")


def _page(conversion: Conversion, tree: Node) -> str:
    """The configuration as a file, which begins with what is otherwise than the old file says."""
    head = [f"Converted from {conversion.source}, a configuration of {conversion.dialect.tool}."]
    head += [f"{e.key}: not honoured. {e.said}" for e in conversion.account if e.fate == "not honoured"]
    comments = "".join(f"# {in_a_line(line)}\n" for line in head)
    return comments + "\n" + yaml_nodes.dump(tree.plain)


def _at_length(conversion: Conversion) -> Iterator[str]:
    yield f"{conversion.title}."
    if conversion.dialect.remark:
        yield conversion.dialect.remark
    yield from lines_of(conversion.account, conversion.dialect.trainer)


def _in_short(conversion: Conversion) -> Iterator[str]:
    command = f"prefloop config convert {in_a_line(conversion.source)}"
    yield f"{conversion.title}, converted for this run. What became of each key: {command}"
    if conversion.dialect.remark:
        yield f"  {conversion.dialect.remark}"
    for entry in conversion.account:
        if entry.fate == "not honoured":
            yield f"  {entry.key}: not honoured. {entry.said}"
        elif entry.ran_with:
            yield f"  {entry.key}: holds here. {entry.ran_with}"
