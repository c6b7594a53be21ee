"""Overrides from the command line: ``--set judge.temperature=0.2``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from prefloop.config.options import element_of, kind_of, options_of, section_of
from prefloop.config.tree import InvalidError, KeyPath, Node, Place, say
from prefloop.config.yaml_core import read_text
from prefloop.errors import UserError

if TYPE_CHECKING:
    from prefloop.config.components import Components


@frozen
class Override:
    """One key path and the value to put there."""

    path: KeyPath
    value: Node

    @property
    def has_index(self) -> bool:
        return any(part.isdigit() for part in self.path)


def parse(text: str) -> Override:
    """``a.b.c=VALUE``, the value in YAML. Raises `UserError` where it is not of that form."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"--set {text}: must have the form KEY.PATH=VALUE, such as loss.beta=0.2.")
    node, problems = read_text(value, Place(f"--set {text}", path=path))
    if problems:
        raise UserError(*map(str, problems))
    return Override(path, node)


def put(root: Node, hint: Any, override: Override, components: Components) -> Node:
    """The tree with the override in it, short forms on the way written out. Raises `InvalidError`."""
    return _put(root, hint, override.path, override, components)


def _put(node: Node, hint: Any, path: KeyPath, override: Override, components: Components) -> Node:
    if not path:
        return override.value
    node = components.expand(node, hint)
    key, rest = path[0], path[1:]
    if node.items is not None:
        index = _index(node.items, key, override)
        items = list(node.items)
        items[index] = _put(items[index], element_of(hint) or Any, rest, override, components)
        return evolve(node, value=tuple(items))
    if node.value is None:
        node = evolve(node, value={})
    if node.mapping is None:
        above = ".".join(node.path)
        raise InvalidError.at(override.value, f"'{above}' is {say(node)}, so nothing can be set below it.")
    below = _below(node, hint, key, components) if rest else Any
    child = node.mapping.get(key) or Node(None, override.value.place, (*node.path, key))
    return node.replaced(key, _put(child, below, rest, override, components))


def _index(items: tuple[Node, ...], key: str, override: Override) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    known = f"a number from 0 to {len(items) - 1}" if items else "an entry, but the list is empty"
    raise InvalidError.at(override.value, f"'{key}' must be {known}.")


def _below(node: Node, hint: Any, key: str, components: Components) -> Any:
    """The type of what is under `key`; Any where that is not known, which checking will report."""
    kind, section = kind_of(hint), section_of(hint)
    if kind is not None and "use" in (node.mapping or {}):
        section = components.class_of(node, kind)
    if section is not None:
        option = options_of(section).get(key)
        return option.type if option else Any
    return element_of(hint) or Any
