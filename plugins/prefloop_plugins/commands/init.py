"""`prefloop config init`: a file to start from, with every option, its default and its help."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import attrs
import click

from prefloop.cli.common import PathOnDisk, json_option, print_json, write_new
from prefloop.config import Config, load_config, yaml_nodes
from prefloop.config.dump import to_plain
from prefloop.config.options import Option, element_of, kind_of, options_of, section_of
from prefloop.errors import UserError
from prefloop.registry import Registry
from prefloop.settings import ModelConfig, PromptsConfig
from prefloop.text import in_a_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = """\
A run of prefloop. Fill in model.path and prompts.path; every other option has its default.
`prefloop config validate FILE` checks this file, `prefloop train FILE` runs it.
"""


@click.command("init")
@click.option("--algorithm", metavar="NAME", help="The algorithm to write it for, such as xpo.")
@click.option("--output", type=PathOnDisk(), help="The file to write, instead of printing.")
@json_option
def init(algorithm: str | None, output: Path | None, as_json: bool) -> None:
    """Write a configuration in which every option is explained."""
    text = template(algorithm)
    if output is not None:
        write_new(output, text)
    if as_json:
        print_json({"file": output and str(output), "text": text})
    elif output is None:
        click.echo(text, nl=False)
    else:
        command = shlex.join(["prefloop", "train", str(output)])
        wrote = f"Wrote {in_a_line(str(output))}."
        click.echo(f"{wrote} Fill in model.path and prompts.path, then run: {command}")


def template(algorithm: str | None = None) -> str:
    """A configuration file with every option, including those of the algorithm's components.

    Raises `UserError` where there is no such algorithm.
    """
    settings: dict[str, Any] = {"model": "MODEL", "prompts": "PROMPTS"}
    if algorithm is not None:
        settings["algorithm"] = algorithm
    registry = Registry()
    config = load_config(settings, registry=registry)
    blocks = [list(_comment(_HEADER))]
    for option in options_of(Config).values():
        blocks.append([*_comment(option.help), *_setting(option, getattr(config, option.name), registry)])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _setting(option: Option, value: Any, registry: Registry) -> list[str]:
    kind, element_kind = kind_of(option.type), kind_of(element_of(option.type))
    if kind == "algorithm":
        return _algorithm(value, registry)
    if kind is not None:
        return [f"{option.name}:", *_indent(_component(value, kind, registry))]
    if element_kind is not None and value:
        items = [_list_item(_component(item, element_kind, registry)) for item in value]
        return [f"{option.name}:", *(line for item in items for line in _indent(item))]
    if section_of(option.type) is not None:
        return [f"{option.name}:", *_indent(_options(value))]
    return _value(option.name, to_plain(value, {}, option.type))


def _algorithm(value: Any, registry: Registry) -> list[str]:
    """By name alone: its options would change nothing, as all that it sets is written out below."""
    name = short_name(value, "algorithm", registry)
    lines = [f"algorithm: {name}"]
    options = _options(value)
    if options:
        lines += _comment(f"As {{use: {name}, ...}} it has these options, for what is left out below:")
        lines += [f"#   {line}" for line in options]
    return lines


def _component(value: Any, kind: str, registry: Registry) -> list[str]:
    return [f"use: {short_name(value, kind, registry)}", *_options(value)]


def _options(value: Any) -> list[str]:
    """The options of a section or component, each under its help."""
    if not attrs.has(type(value)):
        return []
    lines: list[str] = []
    for option in options_of(type(value)).values():
        help = option.help + (" Required." if option.required else "")
        lines += _comment(f"{help}{_choices(option.type)}")
        plain = to_plain(getattr(value, option.name), {}, option.type)
        lines += [f"{option.name}:"] if _is_blank(value, option) else _value(option.name, plain)
    return lines


def _is_blank(value: Any, option: Option) -> bool:
    """Whether it is for the user to fill in."""
    return option.required and isinstance(value, ModelConfig | PromptsConfig)


def _choices(hint: Any) -> str:
    return f" One of: {', '.join(map(str, get_args(hint)))}." if get_origin(hint) is Literal else ""


def _value(name: str, plain: Any) -> list[str]:
    return yaml_nodes.dump({name: plain}).rstrip("\n").split("\n")


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from (f"# {part}" for part in textwrap.wrap(line, 96))


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]


def _list_item(lines: list[str]) -> list[str]:
    return [f"- {lines[0]}", *_indent(lines[1:])]


def short_name(component: object, kind: str, registry: Registry) -> str:
    """The name of a component without its distribution, where that is enough."""
    origin = registry.origin_of(component, kind)
    try:
        return origin.short if registry.find(kind, origin.short).origin == origin else origin.name
    except UserError:
        return origin.name
