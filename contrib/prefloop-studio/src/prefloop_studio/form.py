"""The form of a configuration, as data: every section, every component that is installed, every option.

It is made from the fields of the classes themselves, so the options of a plugin appear as those of the
bundled components do.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

from attrs import NOTHING

from prefloop import UserError
from prefloop.config import Config
from prefloop.config.dump import to_plain
from prefloop.config.options import (
    Option,
    choices_of,
    describe,
    element_of,
    is_list,
    is_mapping,
    kind_of,
    members,
    options_of,
    section_of,
)
from prefloop.registry import BUNDLED, KINDS, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefloop.registry import Provider

BOUNDS = {">=": "least", "<=": "most", ">": "above", "<": "below"}


def form() -> dict[str, Any]:
    """The sections by key, and the components that are installed, by kind."""
    registry = Registry()
    return {
        "options": [_option(option) for option in options_of(Config).values()],
        "components": {kind: [_component(p, registry) for p in registry.of_kind(kind)] for kind in KINDS},
        "broken": [{"distribution": b.distribution, "error": b.error} for b in registry.broken],
    }


def _component(provider: Provider, registry: Registry) -> dict[str, Any]:
    shared = [p for p in registry.of_kind(provider.kind) if p.name == provider.name]
    short = provider.distribution == BUNDLED or len(shared) == 1
    about = {"name": provider.name if short else provider.qualified, "distribution": provider.distribution}
    try:
        cls = provider.load()
        options = [_option(option) for option in options_of(cls).values()]
    except UserError as error:
        return {**about, "help": "", "options": [], "broken": str(error)}
    return {**about, "help": _first_sentence(cls), "options": options}


def _first_sentence(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")


def _option(option: Option) -> dict[str, Any]:
    default = option.default_value
    found: dict[str, Any] = {
        "name": option.name,
        "help": option.help,
        "type": _type(option.type),
        "words": describe(option.type),
        "required": option.required,
        "nullable": type(None) in members(option.type),
    }
    if default is not NOTHING and section_of(option.type) is None and kind_of(option.type) is None:
        found["default"] = to_plain(default, {}, option.type)
    if choices := list(choices_of(next(iter(_but_none(option.type)), None))):
        found["choices"] = choices
    if kind := kind_of(option.type) or kind_of(element_of(option.type)):
        found["kind"] = kind
    section = section_of(option.type)
    if section is not None:
        found["options"] = [_option(inner) for inner in options_of(section).values()]
    if option.attribute is not None and option.attribute.validator is not None:
        found |= dict(_bounds(option.attribute.validator))
    return found


def _but_none(hint: Any) -> Iterator[Any]:
    return (member for member in members(hint) if member is not type(None))


def _type(hint: Any) -> str:
    """``integer``, ``number``, ``boolean``, ``text``, ``choice``, ``component``, ``components``, ``section``
    or ``list``; ``value`` for whatever has no field of its own, and is written as YAML.
    """
    if kind_of(hint) is not None:
        return "component"
    if section_of(hint) is not None:
        return "section"
    if is_list(hint) or any(is_list(member) for member in _but_none(hint)):
        if kind_of(element_of(hint)) is not None:
            return "components"
        return "value" if len(list(_but_none(hint))) > 1 else "list"
    alternatives = list(_but_none(hint))
    if len(alternatives) != 1 or is_mapping(alternatives[0]):
        return "value"
    if choices_of(alternatives[0]):
        return "choice"
    return {int: "integer", float: "number", bool: "boolean", str: "text"}.get(alternatives[0], "value")


def _bounds(validator: Any) -> Iterator[tuple[str, float]]:
    """The bounds in a validator of attrs, such as ``ge(0)`` or several of them."""
    for inner in getattr(validator, "_validators", ()):
        yield from _bounds(inner)
    if inner := getattr(validator, "validator", None):
        yield from _bounds(inner)
    name = BOUNDS.get(getattr(validator, "compare_op", ""))
    if name is not None and math.isfinite(validator.bound):
        yield name, validator.bound
