"""`prefloop plugins`: what is installed. Bundled plugins add `plugins check` and `plugins new`."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from prefloop.cli.plugged import PluggedGroup
from prefloop.registry import KINDS, Provider, Registry

if TYPE_CHECKING:
    from prefloop.config.options import Option


@click.group(cls=PluggedGroup)
def plugins() -> None:
    """List, show, check and begin plugins."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(as_json: bool) -> None:
    """List every component with the distribution that it comes from."""
    registry = Registry()
    if as_json:
        click.echo(json.dumps(_as_data(registry), indent=2))
        return
    rows = [("KIND", "NAME", "DISTRIBUTION", "VERSION")]
    rows += [(p.kind, p.name, p.distribution, p.version) for p in [*registry.providers, *registry.commands]]
    for line in _table(rows):
        click.echo(line)
    for broken in registry.broken:
        click.echo(f"broken: {broken.distribution} {broken.version}: {broken.error}")
    for name in sorted(registry.disabled):
        click.echo(f"disabled: {name}")


@plugins.command("show")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
def show_component(kind: str, name: str) -> None:
    """Show what the component NAME of KIND does and which options it has."""
    from prefloop.config.options import options_of

    registry = Registry()
    provider = registry.find(kind, name)
    cls = provider.load()
    click.echo(f"{kind} {provider.qualified} ({provider.version})")
    if cls.__doc__:
        click.echo(f"\n{inspect.cleandoc(cls.__doc__)}")
    options = options_of(cls)
    click.echo("\nOptions:" if options else "\nIt has no options.")
    for option in options.values():
        click.echo(f"  {option.name}: {_type_and_default(option)}")
        if option.help:
            click.echo(f"      {option.help}")


def _as_data(registry: Registry) -> dict[str, Any]:
    def rows(offered: list[Provider]) -> list[dict[str, str]]:
        return [
            {"kind": p.kind, "name": p.name, "distribution": p.distribution, "version": p.version}
            for p in offered
        ]

    return {
        "components": rows(registry.providers),
        "commands": rows(registry.commands),
        "broken": [asdict(broken) for broken in registry.broken],
        "disabled": sorted(registry.disabled),
    }


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


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
