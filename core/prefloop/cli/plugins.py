"""`prefloop plugins`: what is installed. Bundled plugins add commands to check, begin and install some."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict, filters

from prefloop.cli.common import json_option, print_json
from prefloop.cli.plugged import PluggedGroup
from prefloop.registry import KINDS, Registry

if TYPE_CHECKING:
    from prefloop.config.options import Option

LISTED = ("kind", "name", "distribution", "version")
"""What is listed of a component or a command."""


@click.group(cls=PluggedGroup)
def plugins() -> None:
    """List, show, check, begin and install plugins."""


_files = click.option(
    "--file", "files", multiple=True, metavar="FILE", help="Also what a Python file offers."
)


def _registry(files: tuple[str, ...]) -> Registry:
    registry = Registry()
    for file in files:
        registry.add_file(file)
    return registry


@plugins.command("list")
@_files
@json_option
def list_plugins(files: tuple[str, ...], as_json: bool) -> None:
    """List every component with the distribution that it comes from."""
    registry = _registry(files)
    components = [asdict(p, filter=filters.include(*LISTED)) for p in registry.providers]
    commands = [asdict(p, filter=filters.include(*LISTED)) for p in registry.commands]
    if as_json:
        set_aside = [asdict(broken) for broken in registry.broken]
        data = {"components": components, "commands": commands, "broken": set_aside}
        print_json({**data, "disabled": sorted(registry.disabled)})
        return
    rows = [[column.upper() for column in LISTED], *(list(p.values()) for p in [*components, *commands])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    for broken in registry.broken:
        click.echo(f"broken: {broken.distribution} {broken.version}: {broken.error}")
    for name in sorted(registry.disabled):
        click.echo(f"disabled: {name}")


@plugins.command("show")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@_files
@json_option
def show_component(kind: str, name: str, files: tuple[str, ...], as_json: bool) -> None:
    """Show what the component NAME of KIND does and which options it has."""
    from prefloop.config.options import options_of

    provider = _registry(files).find(kind, name)
    cls = provider.load()
    if as_json:
        about = asdict(provider, filter=filters.include(*LISTED))
        described = [_about(option) for option in options_of(cls).values()]
        print_json({**about, "doc": inspect.cleandoc(cls.__doc__ or ""), "options": described})
        return
    click.echo(f"{kind} {provider.qualified} ({provider.version})")
    if cls.__doc__:
        click.echo(f"\n{inspect.cleandoc(cls.__doc__)}")
    options = options_of(cls)
    click.echo("\nOptions:" if options else "\nIt has no options.")
    for option in options.values():
        click.echo(f"  {option.name}: {_type_and_default(option)}")
        if option.help:
            click.echo(f"      {option.help}")


def _about(option: Option) -> dict[str, Any]:
    """An option for a program; without ``default`` where it is required, or depends on other options."""
    from attrs import NOTHING

    from prefloop.config.dump import to_plain
    from prefloop.config.options import describe

    about = {"name": option.name, "type": describe(option.type), "required": option.required}
    if not option.required and (default := option.default_value) is not NOTHING:
        about["default"] = to_plain(default, {}, option.type)
    return {**about, "help": option.help}


def _type_and_default(option: Option) -> str:
    from attrs import NOTHING

    from prefloop.config.dump import to_plain
    from prefloop.config.options import describe

    if option.required:
        return f"{describe(option.type)}; required"
    default = option.default_value
    if default is NOTHING:
        return f"{describe(option.type)}; default depends on other options"
    return f"{describe(option.type)}; default {json.dumps(to_plain(default, {}, option.type))}"
